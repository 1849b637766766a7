"""One executed piece of code, as a session commits it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Unit"]


class Unit(NamedTuple):
    """A cell, or a statement at a prompt.

    Attributes:
        code: what the user typed.
        mentioned: the names in it; None when it may have touched any.
        execution: IPython's execution count.
        error: the exception that ended it, as one line.
        duration_ms: how long it ran.
        is_idle: nothing of the program ran: a line of our own.
    """

    code: str
    mentioned: frozenset[str] | None
    execution: int | None = None
    error: str = ""
    duration_ms: float = 0.0
    is_idle: bool = False

"""One executed piece of code, as a session commits it, and what it made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.model import Omission, StagedName
from dartvc.model.records import NamedTuple

if TYPE_CHECKING:
    from dartvc.state.working import NamespaceDelta

__all__ = ["Unit", "with_freshness"]


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


def with_freshness(delta: NamespaceDelta) -> tuple[StagedName, ...]:
    """Tells for each omitted name whether this unit made it anew or only touched it."""
    if not any(isinstance(name.omission, Omission) for name in delta.changed):
        return delta.changed
    marked = []
    for name in delta.changed:
        if name.omission is None:
            marked.append(name)
        else:
            recipe = name.recipe or {"fresh": name.name in delta.rebound}
            marked.append(StagedName(name.name, name.summary, None, name.omission, recipe))
    return tuple(marked)

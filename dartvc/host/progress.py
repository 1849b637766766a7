"""How far long work has come: those who work count, whoever watches shows it.

Work deep in the engine says `track` or `counting`; without a watcher that costs nothing. The command line watches on a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

__all__ = ["Watcher", "counting", "is_watched", "track", "watched_by"]

T = TypeVar("T")


class Watcher(Protocol):
    """Whoever shows progress. Tasks may lie within each other."""

    def begin(self, what: str, total: int | None) -> Callable[[], None]:
        """Takes note of a task of ``total`` steps (None: nobody knows); returns what is to be called at each step."""

    def end(self) -> None:
        """Takes note that the innermost task is over."""


_WATCHER: ContextVar[Watcher | None] = ContextVar("dartvc_progress", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Shows ``watcher`` the work that this thread does meanwhile."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def is_watched() -> bool:
    """Whether somebody sees how far this thread's work has come: only then another program need tell of its own."""
    return _WATCHER.get() is not None


def track(what: str, items: Iterable[T], total: int | None = None) -> Iterable[T]:
    """Yields ``items``, each a step of a task.

    Args:
        what: the task, as in ``checking objects``.
        items: what is worked on.
        total: how many there are, where ``items`` cannot tell.
    """
    return items if _WATCHER.get() is None else _tracked(what, items, total)


def _tracked(what: str, items: Iterable[T], total: int | None) -> Iterator[T]:
    if total is None and isinstance(items, list | tuple | dict | set | frozenset):
        total = len(items)
    with counting(what, total) as step:
        for item in items:
            yield item
            step()


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Makes a task of what happens meanwhile; gives what is to be called at each step."""
    watcher = _WATCHER.get()
    if watcher is None:
        yield _nothing
        return
    step = watcher.begin(what, total)
    try:
        yield step
    finally:
        watcher.end()


def _nothing() -> None:
    """Nobody watches."""

"""What a variant puts where the program had something that cannot be entered twice: loops, blocks and awaits that began elsewhere.

A frame that is captured again shows the original, not what stands in for it: `original_stack`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Generator, Sequence
from typing import Any

__all__ = ["AsyncEntered", "Entered", "Iterating", "LoopHead", "Once", "Paused", "iterator_behind", "original_stack"]


class Once:
    """Iterates once; holds the iterator of the loop whose present pass it runs, None for a ``while`` loop."""

    __slots__ = ("_is_over", "iterator")

    def __init__(self, iterator: object) -> None:
        self.iterator = iterator
        self._is_over = False

    def __iter__(self) -> Once:
        return self

    def __next__(self) -> None:
        if self._is_over:
            raise StopIteration
        self._is_over = True


class LoopHead:
    """Stands for the iterator of a ``for`` loop: gives what that gives, and tells before it does, with the loop's frame.

    Attributes:
        since_s: when it told last.
        passes: how many more iterations begin before it tells again.
        turns: how many there were to be from when it told last until it tells again.
    """

    __slots__ = ("_at_head", "iterator", "passes", "since_s", "turns")

    def __init__(self, iterator: Any, at_head: Callable[[LoopHead, types.FrameType], None], since_s: float) -> None:
        self.iterator = iterator
        self.since_s = since_s
        self.passes, self.turns = 0, 1
        self._at_head = at_head

    def __iter__(self) -> LoopHead:
        return self

    def __next__(self) -> Any:
        if self.passes:
            self.passes -= 1
        else:
            self._at_head(self, sys._getframe(1))
        return next(self.iterator)


def iterator_behind(held: Any) -> Any:
    """Returns the iterator that a loop's slot on the stack stands for."""
    return held.iterator if type(held) in (Once, LoopHead) else held


class Entered:
    """A context manager that has been entered elsewhere: entering does nothing, leaving is the original's."""

    __slots__ = ("exit",)

    def __init__(self, exit: Callable[..., Any]) -> None:
        self.exit = exit

    def __enter__(self) -> None:
        pass

    def __exit__(self, *details: object) -> Any:
        return self.exit(*details)


class _Done:
    """Awaited, it gives None at once."""

    def __await__(self) -> Generator[None, None, None]:
        return iter(())  # type: ignore[return-value]


class AsyncEntered:
    """An asynchronous context manager that has been entered elsewhere, or (``entering``) is being entered."""

    __slots__ = ("entering", "exit")

    def __init__(self, exit: Callable[..., Any], entering: Any = None) -> None:
        self.exit = exit
        self.entering = _Done() if entering is None else entering

    def __aenter__(self) -> Any:
        entering, self.entering = self.entering, None
        return entering

    def __aexit__(self, *details: object) -> Any:
        return self.exit(*details)


class Iterating:
    """The iterator of an ``async for`` that began elsewhere; ``asked`` is the answer that the loop waits for."""

    __slots__ = ("_asked", "iterator")

    def __init__(self, iterator: Any, asked: Any = None) -> None:
        self.iterator = iterator
        self._asked = asked

    def __aiter__(self) -> Any:
        return self.iterator if self._asked is None else self

    def __anext__(self) -> Any:
        if self._asked is None:
            return self.iterator.__anext__()
        asked, self._asked = self._asked, None
        return asked


class Paused:
    """An await of a future that began elsewhere: it asks for the future once more, whether that is done by now or not."""

    __slots__ = ("_iterator", "future")

    def __init__(self, future: Any) -> None:
        self.future = future
        self._iterator: Any = None

    def __await__(self) -> Any:
        return self

    __iter__ = __await__

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: object) -> Any:
        """Hands out the future at first; afterwards gives its result."""
        if self._iterator is None:
            self._iterator = self.future.__await__()
            self.future._asyncio_future_blocking = True
            return self.future
        return self._iterator.send(value)

    def throw(self, *details: Any) -> Any:
        """Raises what is thrown at the one who awaits."""
        return (self._iterator or self.future.__await__()).throw(*details)

    def close(self) -> None:
        """Has nothing to close."""


def original_stack(stack: Sequence[Any]) -> list[Any]:
    """Undoes what a variant put in place of loop iterators and exits."""
    original = []
    for item in stack:
        kind = type(item)
        if kind is Once:
            if item.iterator is not None:
                original.append(item.iterator)
        elif kind in (Iterating, LoopHead):
            original.append(item.iterator)
        elif kind is types.MethodType and type(item.__self__) in (Entered, AsyncEntered):
            original.append(item.__self__.exit)
        else:
            original.append(item)
    return original

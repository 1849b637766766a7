"""Reuse of parts of functions: a block is answered like a call, from what it reads to what it binds."""

from __future__ import annotations

import time
import types
from typing import Any

from dartvc.lineage.calls import Calls
from dartvc.lineage.sites import Site, Switched

__all__ = ["Block"]

_WORTH_S = 1e-3
_CHEAP_LIMIT = 64
_SCALARS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})


class Block(Switched):
    """What stands behind the switch of one block.

    Args:
        site: its account.
        switch: the builtin that holds this hook while it is on.
        calls: answers what is seen again.
    """

    __slots__ = ("_calls", "_function")

    def __init__(self, site: Site, switch: str, calls: Calls) -> None:
        super().__init__(site, switch)
        self._calls = calls
        self._function: types.FunctionType | None = None

    def __call__(self, function: types.FunctionType, /, *given: Any) -> tuple[Any, ...]:
        """Returns what the statements of the block bind, given what they read."""
        if self._function is None:
            self._function = function
            if function.__closure__:
                self.site.turn_off("it reads variables of the function around it")
        if self.site.is_off or self._function.__globals__ is not function.__globals__:
            return function(*given)  # type: ignore[no-any-return]
        if not self._is_timed:
            return self._time(function, given)
        bound: list[tuple[Any, ...]] = []

        def plain(*values: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
            bound.append(function(*values))
            places = tuple(_place(each, given) for each in bound[0])
            return tuple(each for each, place in zip(bound[0], places, strict=True) if place < 0), places

        made, places = self._calls.invoke(self.site, self._function, plain, given, {})
        if bound:
            return bound[0]
        fresh = iter(made)
        return tuple(next(fresh) if place < 0 else given[place] for place in places)

    def _time(self, function: types.FunctionType, given: tuple[Any, ...]) -> tuple[Any, ...]:
        begin = time.perf_counter()
        bound: tuple[Any, ...] = function(*given)
        if time.perf_counter() - begin >= _WORTH_S:
            self._is_timed = True
        else:
            self._cheap += 1
            if self._cheap >= _CHEAP_LIMIT:
                self.site.rest("it is cheap")
        return bound


def _place(value: object, given: tuple[Any, ...]) -> int:
    """Returns which of the given objects a value is; -1 for one that was made."""
    if type(value) in _SCALARS:
        return -1
    return next((number for number, each in enumerate(given) if each is value), -1)

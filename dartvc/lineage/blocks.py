"""Reuse of parts of functions, and of a script's loops: a block is answered like a call, from what it reads to what it binds."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterable
from typing import Any

from dartvc.lineage.calls import Calls
from dartvc.lineage.sites import Site, Switched
from dartvc.program.sources import MODULE_SCOPE
from dartvc.program.tracebacks import note_passing
from dartvc.program.watched import BLOCK, LOOP, UNBOUND, is_block

__all__ = ["Block", "Loop"]

_WORTH_S = 1e-3
_LONG_S = 2.0
_CHEAP_LIMIT = 64
_SCALARS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})


class Block(Switched):
    """What stands behind the switch of one block.

    Args:
        site: its account.
        switch: the builtin that holds this hook while it is on.
        calls: answers what is seen again.
        in_loop: whether it is a part of a loop's turn.
    """

    __slots__ = ("_calls", "_function", "_in_loop")

    def __init__(self, site: Site, switch: str, calls: Calls, *, in_loop: bool) -> None:
        super().__init__(site, switch)
        self._calls = calls
        self._in_loop = in_loop
        self._function: types.FunctionType | None = None

    def __call__(self, function: types.FunctionType, /, *given: Any) -> tuple[Any, ...]:
        """Returns what the statements of the block bind, given what they read."""
        is_scripts = function.__qualname__ == BLOCK
        if is_scripts:
            del function.__globals__[BLOCK]
        try:
            return self._answer(function, given)
        except BaseException as error:
            note_passing()
            if is_scripts:
                _bind_reached(function.__globals__, error)
            raise

    def _answer(self, function: types.FunctionType, given: tuple[Any, ...]) -> tuple[Any, ...]:
        is_first = self._function is None
        if self._function is None:
            self._function = function
            if function.__closure__:
                self.site.turn_off("it reads variables of the function around it")
        if self.site.is_off or self._function.__globals__ is not function.__globals__:
            return function(*given)  # type: ignore[no-any-return]
        if not self._is_timed and not (is_first and all(map(self._costs_nothing, given))):
            return self._time(function, given)
        bound: list[tuple[Any, ...]] = []

        def plain(*values: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
            bound.append(self._time(function, values))
            places = tuple(_place(each, given) for each in bound[0])
            return tuple(each for each, place in zip(bound[0], places, strict=True) if place < 0), places

        made, places = self._calls.invoke(self.site, self._function, plain, given, {})
        if bound:
            return bound[0]
        fresh = iter(made)
        return tuple(next(fresh) if place < 0 else given[place] for place in places)

    def _costs_nothing(self, value: Any) -> bool:
        """Whether a key of a value costs next to nothing, so that even a block of which nothing is known yet can be asked for."""
        numpy = sys.modules.get("numpy")
        return type(value) in _SCALARS or (numpy is not None and type(value) is numpy.ndarray and self._calls.contents.is_known(value))

    def _time(self, function: types.FunctionType, given: tuple[Any, ...]) -> tuple[Any, ...]:
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        bound: tuple[Any, ...] = function(*given)
        if time.perf_counter() - begin >= _WORTH_S:
            self._is_timed = True
            if self._in_loop and time.thread_time() - begin_cpu >= _LONG_S:  # on a busy machine anything takes long
                self.site.turn_off("it takes long, and the run is not committed inside it")
        elif not self._is_timed:
            self._cheap += 1.0
            if self._cheap >= _CHEAP_LIMIT:
                self.site.rest("it is cheap")
        return bound


class Loop(Switched):
    """What stands behind the switch of one loop of the script's own level, which runs once: a later run is given what it bound.

    Args:
        site: its account.
        switch: the builtin that holds this hook while it is on.
        calls: answers what is seen again.
    """

    __slots__ = ("_calls",)

    def __init__(self, site: Site, switch: str, calls: Calls) -> None:
        super().__init__(site, switch)
        self._calls = calls

    def __call__(self, function: types.FunctionType, names: tuple[str, ...], /, *given: Any) -> None:
        """Binds what the loop binds, given what it reads."""
        namespace = function.__globals__
        del namespace[LOOP]
        try:
            values = self._calls.invoke(self.site, function, function, given, {})
        except BaseException as error:
            note_passing()
            _bind_reached(namespace, error)
            raise
        _bind(namespace, zip(names, values, strict=True))


def _bind(namespace: dict[str, Any], bindings: Iterable[tuple[str, Any]]) -> None:
    namespace.update((name, value) for name, value in bindings if not (type(value) is str and value == UNBOUND))


def _bind_reached(namespace: dict[str, Any], error: BaseException) -> None:
    """Binds what blocks of the script's own level had bound when an exception left them."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals is namespace and frame.f_code.co_name == MODULE_SCOPE and is_block(frame.f_code):
            _bind(namespace, ((name, value) for name, value in frame.f_locals.items() if name != BLOCK))
        trace = trace.tb_next


def _place(value: object, given: tuple[Any, ...]) -> int:
    """Returns which of the given objects a value is; -1 for one that was made."""
    if type(value) in _SCALARS:
        return -1
    return next((number for number, each in enumerate(given) if each is value), -1)

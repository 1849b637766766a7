"""Suspended generators and coroutines as values: a position and what its frame holds, made again as one that goes on from there."""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from dartvc.program.capture import CapturedFrame, Reader
from dartvc.program.coroutines import frame_of
from dartvc.program.flow import CodeFlow
from dartvc.program.frames import cells_of
from dartvc.program.places import NotResumable
from dartvc.program.resuming import begin, install_standins, make_function

__all__ = ["GeneratorCodec"]

_KINDS = {
    types.GeneratorType: "the generator",
    types.CoroutineType: "the coroutine",
    types.AsyncGeneratorType: "the asynchronous generator",
}

_ITERATOR_AND_ITEM = 2
"""The depth of the stack where a generator expression of one ``for`` hands out an item."""


class GeneratorCodec:
    """Takes suspended generators apart and makes them again; given to the pickling of a session."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.located: Callable[[str], str] = str
        self._expressions: dict[types.CodeType, CodeFlow] = {}

    @property
    def base_context(self) -> Context | None:
        """The context of the program outside the event loop whose callback is running; None when none is."""
        return self._reader.base_context

    def take_apart(self, generator: types.GeneratorType[Any, Any, Any]) -> tuple[Any, ...]:
        """Returns (place, locals, cells, stack) of a suspended generator.

        Raises:
            ValueError: it cannot be captured where it stands; the text says why.
        """
        frame = self._captured(generator)
        return frame.described(), frame.values, frame.cells, frame.stack

    def take_apart_expression(self, generator: types.GeneratorType[Any, Any, Any]) -> tuple[object, dict[str, types.CellType]]:
        """Returns (iterator, cells) of a generator expression: between two items it is what it has still to ask, and nothing else.

        Raises:
            ValueError: there is more to it; the text says what.
        """
        frame: Any = generator.gi_frame
        code = generator.gi_code
        flow = self._expressions.get(code)
        if flow is None:
            flow = self._expressions[code] = CodeFlow(code, ast.Module([], []))
        at = flow.instruction_at(frame.f_lasti)
        if at.opname == "RESUME":
            at = flow.instruction_at(at.offset - 2)
        reason = ""
        if generator.gi_running:
            reason = "it is running"
        elif code.co_cellvars:
            reason = "a function that it makes refers to its variable"
        elif not flow.is_fresh(frame.f_lasti) and (at.opname != "YIELD_VALUE" or flow.depths.get(at.offset) != _ITERATOR_AND_ITEM):
            reason = "it has more than one `for` (a generator function may have)"
        if reason:
            raise ValueError(f"the generator expression {generator.__qualname__} in line {code.co_firstlineno} cannot be stored: {reason}")
        return frame.f_locals[".0"], cells_of(frame)

    def take_apart_coroutine(self, coroutine: Any) -> tuple[dict[str, object], dict[str, types.CellType], CapturedFrame]:
        """Returns (place, cells, frame) of a coroutine or asynchronous generator; what a running one holds is stored with the frames.

        Raises:
            ValueError: it cannot be captured where it stands; the text says why.
        """
        frame = self._captured(coroutine)
        code = frame_of(coroutine).f_code  # type: ignore[union-attr]
        given = [name for name in code.co_varnames[:1] if name in frame.cells and code.co_argcount]
        place = {**frame.described(), "names": [*frame.values, *given], "is_running": frame.coroutine is coroutine}
        return place, frame.cells, frame

    def _captured(self, suspended: Any) -> CapturedFrame:
        try:
            return self._reader.capture_suspended(suspended)
        except NotResumable as reason:
            name = getattr(suspended, "__qualname__", type(suspended).__qualname__)
            raise ValueError(f"{_KINDS[type(suspended)]} {name} is not at a place that can be stored: {reason}") from None

    def make(
        self, names: dict[str, object], place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]
    ) -> Any:
        """Makes a generator that goes on from a recorded place.

        Raises:
            ValueError: the source is not there or is no longer what ran.
        """
        generator = self._begun(names, frame_at({**place, "file": self.located(str(place["file"]))}, values, cells, stack))
        if place["kind"] == "yield":
            next(generator)
        return generator

    def make_awaited(self, names: dict[str, object], parts: tuple[Any, ...]) -> Any:
        """Makes a generator that a coroutine awaits; it goes on to its ``yield`` when it is first asked."""
        place, values, cells, stack = parts
        frame = frame_at({**place, "file": self.located(str(place["file"]))}, values, cells, stack)
        return self._begun(names, frame, inspect.CO_ITERABLE_COROUTINE)

    def shell(self, names: dict[str, object], place: Mapping[str, Any], cells: dict[str, Any]) -> Any:
        """Makes a coroutine for a recorded place that holds nothing yet; `fill` gives it what it held.

        Raises:
            ValueError: the source is not there or is no longer what ran.
        """
        return self._begun(names, frame_at({**place, "file": self.located(str(place["file"]))}, dict.fromkeys(place["names"]), cells, []))

    def fill(self, coroutine: Any, place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]) -> None:
        """Gives a coroutine that `shell` made what it held."""
        frame = frame_at(place, values, cells, stack)
        frame.coroutine = coroutine
        begin(frame)

    def _begun(self, names: dict[str, object], frame: CapturedFrame, flags: int = 0) -> Any:
        module = sys.modules.get(frame.module)
        globals_of_frame = names if frame.module in ("__main__", names.get("__name__")) else vars(module) if module else names
        filename = getattr(module, "__file__", None) or frame.filename
        if self._reader.sources.find(frame.filename) is not None:
            filename = frame.filename
        install_standins()
        try:
            return make_function(frame, self._reader, filename, globals_of_frame, flags)()
        except NotResumable as reason:
            raise ValueError(str(reason)) from None


def frame_at(place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]) -> CapturedFrame:
    """Returns a captured frame from its recorded description and its loaded values."""
    call = place.get("call")
    return CapturedFrame(
        module=str(place["module"]),
        filename=str(place["file"]),
        qualname=str(place["function"]),
        first_line=int(place["first_line"]),
        digest=str(place["digest"]),
        path=tuple((str(field), int(index)) for field, index in place["path"]),
        kind=str(place["kind"]),
        line=int(place["line"]),
        call=tuple(call) if call else None,
        values=values,
        cells=cells,
        stack=stack,
        awaits=str(place.get("awaits", "")),
        exits=int(place.get("exits", 0)),
    )

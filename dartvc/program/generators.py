"""Suspended generators as values: a position and what its frame holds, made again as a generator that goes on from there."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from dartvc.program.capture import CapturedFrame, Reader
from dartvc.program.places import NotResumable
from dartvc.program.resuming import hide_builtins, make_function

__all__ = ["GeneratorCodec"]


class GeneratorCodec:
    """Takes suspended generators apart and makes them again; given to the pickling of a session."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.located: Callable[[str], str] = str

    def take_apart(self, generator: types.GeneratorType[Any, Any, Any]) -> tuple[Any, ...]:
        """Returns (place, locals, cells, stack) of a suspended generator.

        Raises:
            ValueError: it cannot be captured where it stands; the text says why.
        """
        try:
            frame = self._reader.capture_generator(generator)
        except NotResumable as reason:
            raise ValueError(f"the generator {generator.__qualname__} is not at a place that can be stored: {reason}") from None
        return frame.described(), frame.values, frame.cells, frame.stack

    def make(
        self, names: dict[str, object], place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]
    ) -> Any:
        """Makes a generator that goes on from a recorded place.

        Raises:
            ValueError: the source is not there or is no longer what ran.
        """
        frame = frame_at({**place, "file": self.located(str(place["file"]))}, values, cells, stack)
        module = sys.modules.get(frame.module)
        globals_of_frame = names if frame.module in ("__main__", names.get("__name__")) else vars(module) if module else names
        filename = getattr(module, "__file__", None) or frame.filename
        if self._reader.sources.find(frame.filename) is not None:
            filename = frame.filename
        hide_builtins()
        try:
            generator = make_function(frame, self._reader, filename, globals_of_frame)()
        except NotResumable as reason:
            raise ValueError(str(reason)) from None
        if frame.kind == "yield":
            next(generator)
        return generator


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
    )

"""Stacking of arrays where the script does it: put off, made in memory that was used before, or left to numpy."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dartvc.lineage.deferring import Deferral, settled
from dartvc.lineage.recycling import Recycler
from dartvc.lineage.rewrites import Rewrites
from dartvc.lineage.sites import Site

__all__ = ["Stacking", "is_large", "pieces_of"]

_AXES = {"vstack": 0, "row_stack": 0, "hstack": 1, "column_stack": 1, "concatenate": 0}
_WITH_AXIS = frozenset({"concatenate", "append"})
_INSERTING = 3
_SMALL_BYTES = 1 << 16


def pieces_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[Any] | None:
    """Returns what a call of this name stacks, in order; None when it stacks nothing along one axis."""
    if name in _AXES and len(args) == 1 and isinstance(args[0], list | tuple) and kwargs.keys() <= {"axis"}:
        return args[0]
    return args if name == "append" and len(args) == 2 and kwargs.keys() == {"axis"} else None


class Stacking:
    """The stacking of arrays at one place of the program.

    Args:
        recycler: memory for stacked arrays.
        rewrites: is told where the parts lie; None for exact results.
        deferral: puts stacks off.
        reads: the names that are read until the last use of the stack, when it may be put off.
    """

    def __init__(self, recycler: Recycler, rewrites: Rewrites | None, deferral: Deferral, reads: frozenset[str] | None) -> None:
        self._recycler = recycler
        self._rewrites = rewrites
        self._deferral = deferral
        self._reads = reads

    def stack(self, site: Site, function: Any, pieces: Sequence[Any], kwargs: dict[str, Any], frame: types.FrameType) -> tuple[Any, bool]:
        """Returns the stack of some pieces, and whether it is large; the site counts stacks put off, and those made after all."""
        numpy = sys.modules["numpy"]
        parts = [settled(part) for part in pieces]
        name = getattr(function, "__name__", "")
        axis = kwargs.get("axis", 0) if name in _WITH_AXIS else _AXES.get(name, -1)
        is_known = axis in (0, 1) and (name in _WITH_AXIS or not kwargs) and getattr(numpy, name, None) is function

        def plain() -> Any:
            return function(*parts, **kwargs) if site.name == "append" else function(parts, **kwargs)

        if is_known and self._reads is not None and (name in _WITH_AXIS or all(getattr(part, "ndim", 0) == 2 for part in parts)):

            def make() -> Any:
                site.executions += 1
                return self._make(plain, parts, axis)

            deferred = self._deferral.defer(parts, axis, self._reads, frame, make)
            if deferred is not None:
                site.calls += 1
                return deferred, True
        result = self._make(plain, parts, axis) if is_known else plain()
        return result, is_large(result)

    def note_insertion(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Notes what a call has made by inserting one row, or one column, into an array."""
        numpy, axis = sys.modules["numpy"], kwargs.get("axis")
        if self._rewrites is None or function is not numpy.insert or len(args) != _INSERTING or axis not in (0, 1):
            return
        array, at, _ = args
        if isinstance(at, int) and type(array) is numpy.ndarray and array.ndim == 2 and result.shape[axis] == array.shape[axis] + 1:
            at += array.shape[axis] if at < 0 else 0
            self._rewrites.note(result, [each for each in numpy.split(result, [at, at + 1], axis) if each.size], axis)

    def gather(self, site: Site, values: Any, rows: Any, frame: types.FrameType) -> tuple[Any, bool]:
        """Returns ``values[rows]``, and whether it is large; the site counts what was put off, and what was picked after all."""
        values, rows = settled(values), settled(rows)
        numpy = sys.modules.get("numpy")
        if numpy is None or type(values) is not numpy.ndarray or self._reads is None:
            return values[rows], False

        def pick() -> Any:
            site.executions += 1
            return values[rows]

        deferred = self._deferral.defer_rows(values, rows, self._reads, frame, pick)
        if deferred is not None:
            site.calls += 1
            return deferred, True
        result = values[rows]
        return result, is_large(result)

    def _make(self, plain: Callable[[], Any], parts: Any, axis: int) -> Any:
        columns = [part[:, None] if axis == 1 and getattr(part, "ndim", 0) == 1 else part for part in parts]
        result = self._recycler.concatenate(columns, axis)
        if result is None:
            result = plain()
            self._recycler.keep(result, columns)
        if self._rewrites is not None:
            self._rewrites.note(result, parts, axis)
        return result


def is_large(result: Any) -> bool:
    """Whether a result is an array that is worth to be taken note of."""
    return type(result) is sys.modules["numpy"].ndarray and result.nbytes >= _SMALL_BYTES

"""Stacking of arrays where the script does it: put off, made in memory that was used before, or left to numpy."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Any

from dartvc.lineage.deferring import Deferral, settled
from dartvc.lineage.recycling import Recycler
from dartvc.lineage.rewrites import Rewrites
from dartvc.lineage.sites import Site

__all__ = ["Stacking", "is_stacking"]

_AXES = {"vstack": 0, "row_stack": 0, "hstack": 1, "column_stack": 1, "concatenate": 0}
_SMALL_BYTES = 1 << 16


def is_stacking(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of this name stacks a list of arrays."""
    return name in _AXES and len(args) == 1 and isinstance(args[0], list | tuple) and kwargs.keys() <= {"axis"}


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

    def stack(self, site: Site, function: Any, parts: Any, kwargs: dict[str, Any], frame: types.FrameType) -> tuple[Any, bool]:
        """Returns what ``function(parts, **kwargs)`` gives, and whether it is large; the site counts stacks put off, and those made after all."""
        numpy = sys.modules["numpy"]
        parts = [settled(part) for part in parts]
        name = getattr(function, "__name__", "")
        axis = kwargs.get("axis", 0) if name == "concatenate" else _AXES.get(name, -1)
        is_known = axis in (0, 1) and (name == "concatenate" or not kwargs) and getattr(numpy, name, None) is function
        if is_known and self._reads is not None and (name == "concatenate" or all(getattr(part, "ndim", 0) == 2 for part in parts)):

            def make() -> Any:
                site.executions += 1
                return self._make(function, parts, kwargs, axis)

            deferred = self._deferral.defer(parts, axis, self._reads, frame, make)
            if deferred is not None:
                site.calls += 1
                return deferred, True
        result = self._make(function, parts, kwargs, axis) if is_known else function(parts, **kwargs)
        return result, type(result) is numpy.ndarray and result.nbytes >= _SMALL_BYTES

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
        return result, type(result) is numpy.ndarray and result.nbytes >= _SMALL_BYTES

    def _make(self, function: Any, parts: Any, kwargs: dict[str, Any], axis: int) -> Any:
        columns = [part[:, None] if axis == 1 and getattr(part, "ndim", 0) == 1 else part for part in parts]
        result = self._recycler.concatenate(columns, axis)
        if result is None:
            result = function(parts, **kwargs)
            self._recycler.keep(result, columns)
        if self._rewrites is not None:
            self._rewrites.note(result, parts, axis)
        return result

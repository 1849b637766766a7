"""How tables and columns of pandas are walked: functions that `dartvc.lineage.fingerprints` hands a walk and a value."""

from __future__ import annotations

import sys
from typing import Any

from dartvc.lineage.codekeys import Refused, version_of_package

__all__ = ["extension", "frame", "frame_attributes", "index"]

_ATTRIBUTES = frozenset({"_mgr", "_attrs", "_flags", "_name", "_item_cache", "_is_copy", "_cacher", "_typ", "_metadata"})
"""pandas' own; the last two stand there in frames that were unpickled."""


def frame(walker: Any, values: Any) -> None:
    """Adds a DataFrame or Series: its blocks as they lie in memory, its axes, its name and attributes."""
    if walker._is_known(values):
        return
    manager = values._mgr
    walker.note(f"F{type(values).__module__}.{type(values).__qualname__} {version_of_package('pandas')}")
    walker.add(values.attrs)
    walker.add(values.flags.allows_duplicate_labels)
    if hasattr(values, "_name"):
        walker.add(values._name)
    attributes = frame_attributes(values)
    if attributes:
        if walker.is_result:
            raise Refused("it sets attributes of a frame")
        walker.add(attributes)
    for axis in manager.axes:
        index(walker, axis)
    for block in manager.blocks:
        walker.elements(block.mgr_locs.as_array)
        extension(walker, block.values)


def index(walker: Any, values: Any) -> None:
    """Adds an index with its names."""
    kind = type(values).__name__
    walker.note(f"I{kind}{getattr(values, 'freq', None)}")
    walker._items(list(values.names))
    if kind == "RangeIndex":
        walker.add((values.start, values.stop, values.step))
    elif kind == "MultiIndex":
        for level, codes in zip(values.levels, values.codes, strict=True):
            index(walker, level)
            walker.elements(codes)
    else:
        extension(walker, values._data)


def extension(walker: Any, values: Any) -> None:
    """Adds one column's worth of data: a numpy array or an array of pandas' own kinds."""
    numpy = sys.modules["numpy"]
    if isinstance(values, numpy.ndarray):
        owner = walker._own(values)
        if walker.is_result:
            walker._block_owners.add(owner)
        elif walker._is_known(values):
            return
        else:
            walker.shares_memory = walker.shares_memory or owner in walker._array_owners
            walker._arrays.append(values)
            walker.owners.add(owner)
        walker.elements(values)
        return
    walker.note(f"E{type(values).__qualname__}{values.dtype!r}")
    arrow = getattr(values, "_pa_array", None)
    if arrow is not None:
        for chunk in arrow.chunks:
            walker.note(f"{chunk.type}{len(chunk)},{chunk.offset}")
            for buffer in chunk.buffers():
                if buffer is not None:
                    walker.size_bytes += buffer.size
                    walker._state.update(memoryview(buffer))
                walker._state.update(b"|")
    elif hasattr(values, "_mask") and hasattr(values, "_data"):
        walker.elements(values._data)
        walker.elements(values._mask)
    elif hasattr(values, "_ndarray"):
        walker.elements(values._ndarray)
        if hasattr(values.dtype, "categories"):
            index(walker, values.dtype.categories)
    else:
        raise Refused(f"a column is of the unknown kind {type(values).__qualname__}")


def frame_attributes(values: Any) -> dict[str, Any]:
    """Returns what the program has set of a DataFrame or Series as an attribute; pandas forgets it in copies, and keeps what `.str` gave there."""
    names = vars(values)
    if _ATTRIBUTES.issuperset(names):
        return {}
    accessors = type(values)._accessors
    return {
        name: value
        for name, value in names.items()
        if name not in _ATTRIBUTES and not (name in accessors and type(value).__module__.startswith("pandas."))
    }

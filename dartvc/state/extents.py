"""How much values hold, in large blocks of memory and in objects, told without reading all of it: what a commit would have to copy and to walk."""

from __future__ import annotations

import itertools
import sys
import types
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

from dartvc.state.covariables import ATOMIC_TYPES, OPAQUE_ROOTS, SHARED_FREELY

__all__ = ["estimate_objects", "large_blocks"]

_LARGE_BYTES = 1 << 20
_OBJECTS_LIMIT = 2000
_ITEMS_LIMIT = 1000
_SAMPLE = 16
_TEXTS = (bytes, bytearray, str)
_CODE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_ITERABLE = (list, tuple, set, frozenset, deque)


def large_blocks(roots: Iterable[object]) -> dict[int, int]:
    """Returns the large blocks of memory that these values lead to, by address or identity: their sizes in bytes.

    Looks at so many objects and runs no code of theirs; what lies deeper is not seen.
    """
    found: dict[int, int] = {}
    seen: set[int] = set()
    waiting: deque[object] = deque(roots)
    while waiting and len(seen) < _OBJECTS_LIMIT:
        value = waiting.popleft()
        kind = type(value)
        if id(value) in seen or (kind in ATOMIC_TYPES and kind not in _TEXTS) or isinstance(value, _CODE):
            continue
        seen.add(id(value))
        block = _block_of(value, kind)
        if block is not None:
            if block[1] >= _LARGE_BYTES:
                found[block[0]] = block[1]
            continue
        if isinstance(value, dict):
            waiting.extend(_some(value.values(), len(value)))
        elif isinstance(value, _ITERABLE):
            waiting.extend(_some(value, len(value)))
        else:
            waiting.extend(_attributes(value, kind))
    return found


def estimate_objects(roots: Iterable[object]) -> int:
    """Returns about how many objects these values lead to. Of a large container some items are looked at, and stand for the others; what two
    containers share may count twice."""
    total = 0.0
    seen: set[int] = set()
    waiting: deque[tuple[object, float]] = deque((root, 1.0) for root in roots)
    while waiting and len(seen) < _OBJECTS_LIMIT:
        value, weight = waiting.popleft()
        total += weight
        kind = type(value)
        if kind in ATOMIC_TYPES or id(value) in seen or isinstance(value, _CODE):
            continue
        seen.add(id(value))
        items, count = _sample(value, kind)
        if isinstance(value, dict):
            total += weight * count  # its keys
        if items:
            share = weight * count / len(items)
            waiting.extend((each, share) for each in items)
    return int(total + sum(weight for _, weight in waiting))


def _sample(value: Any, kind: type) -> tuple[Collection[object], int]:
    """Returns some of what a container holds, and how many there are."""
    if isinstance(value, dict):
        return list(itertools.islice(value.values(), _SAMPLE)), len(value)
    if isinstance(value, list | tuple):
        return value[:: len(value) // _SAMPLE + 1], len(value)
    if isinstance(value, _ITERABLE):
        return list(itertools.islice(value, _SAMPLE)), len(value)
    found = _attributes(value, kind)
    return found, len(found)


def _some(items: Iterable[object], count: int) -> Iterable[object]:
    return items if count <= _ITEMS_LIMIT else ()


def _attributes(value: object, kind: type) -> Collection[object]:
    if kind.__module__ in SHARED_FREELY or kind.__module__.partition(".")[0] in OPAQUE_ROOTS:
        return ()
    try:
        names = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return ()
    return list(names.values()) if type(names) is dict else ()


def _block_of(value: Any, kind: type) -> tuple[int, int] | None:
    """Returns the address and size of the memory of an array, a tensor, a table or a text; None for anything else."""
    if kind in _TEXTS:
        return id(value), len(value)
    package = kind.__module__.partition(".")[0]
    try:
        if package == "numpy" and isinstance(value, sys.modules["numpy"].ndarray):
            return _array_block(value)
        if package == "torch" and isinstance(value, sys.modules["torch"].Tensor):
            storage = value.untyped_storage()
            return storage.data_ptr(), storage.nbytes()
        if package == "pandas" and hasattr(kind, "memory_usage"):
            usage = value.memory_usage(index=False) if hasattr(kind, "columns") else value.memory_usage()
            return id(value), int(getattr(usage, "sum", lambda: usage)())
        if package == "pyarrow" and hasattr(kind, "nbytes"):
            return id(value), value.nbytes
        if package == "polars" and hasattr(kind, "estimated_size"):
            return id(value), value.estimated_size()
    except Exception:  # a tensor without memory, a table in the middle of something
        return id(value), 0
    return None


def _array_block(array: Any) -> tuple[int, int]:
    numpy = sys.modules["numpy"]
    while isinstance(array.base, numpy.ndarray):
        array = array.base
    if isinstance(array, numpy.memmap):
        return id(array), 0  # a file's memory is stored as its name
    return array.__array_interface__["data"][0], array.nbytes

"""Which elements of an array changed, counted from the raw bytes of its chunks.

The two versions may be cut into chunks differently; stretches whose chunks have equal digests at equal places are never read. What is read is
compared a piece at a time, with numpy where it is there, else with `struct`.
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite, prod
from typing import Any

from dartvc.errors import UsageError
from dartvc.model.records import NamedTuple

__all__ = ["ArrayChunk", "ArrayDiff", "compare_plain", "compare_with_numpy", "diff_arrays", "itemsize_of"]

_PIECE_BYTES = 4 * 1024 * 1024
_WORTH_AN_IMPORT_BYTES = 256 * 1024
_FORMATS = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip
_TYPESTRINGS = {
    "b1": "bool", "i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64", "u8": "uint64",
    "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64", "c16": "complex128",
}  # fmt: skip


class ArrayChunk(NamedTuple):
    """A piece of an array's memory: the digest of its bytes, their number, and how to read them."""

    digest: bytes
    size_bytes: int
    read: Callable[[], bytes | memoryview]


@dataclass(frozen=True, slots=True)
class ArrayDiff:
    """How many elements differ.

    ``max_abs`` is the largest absolute difference between two numbers (None: the elements are no numbers, or every change is to or from
    NaN or an infinity); ``first`` is the position in memory order of the first element that differs.
    """

    count: int
    changed: int
    max_abs: float | int | None = None
    first: int | None = None
    read_bytes: int = 0


class _Found(NamedTuple):
    changed: int
    max_abs: float | int | None
    first: int | None


def diff_arrays(dtype: str, shape: Sequence[int], before_chunks: Sequence[ArrayChunk], after_chunks: Sequence[ArrayChunk]) -> ArrayDiff:
    """Counts the elements that differ between two arrays of one dtype and shape.

    Two NaNs are equal, and so are the two zeros. Elements without arithmetic (texts, records, dates as texts) are compared by their bytes.

    Args:
        dtype: as numpy or torch write it: ``float64``, ``>f8``, ``bfloat16``, ``datetime64[ns]``, ``<U3``.
        shape: of both arrays.
        before_chunks: the raw memory of the array before, in order.
        after_chunks: the raw memory after.

    Raises:
        UsageError: the chunks do not hold as many bytes as dtype and shape say.
    """
    count = prod(shape)
    total = sum(chunk.size_bytes for chunk in before_chunks)
    if total != sum(chunk.size_bytes for chunk in after_chunks) or (count and total % count) or (total and not count):
        raise UsageError(f"the chunks are not those of two arrays of {dtype} and shape {tuple(shape)}", kind="array-chunks")
    itemsize = total // count if count else 1
    before, after = _Reader(before_chunks), _Reader(after_chunks)
    changed, max_abs, first = 0, None, None
    spans = list(_differing_spans(before, after))
    differing = sum(end - start for start, end in spans)
    compare = compare_with_numpy if _has_numpy(differing) else compare_plain
    piece_bytes = max(itemsize, _PIECE_BYTES // itemsize * itemsize)
    done = 0
    for start, end in spans:
        low, high = max(start // itemsize * itemsize, done), -(-end // itemsize) * itemsize
        for place in range(low, high, piece_bytes):
            stop = min(place + piece_bytes, high)
            found = compare(before.read(place, stop), after.read(place, stop), dtype, itemsize)
            changed += found.changed
            if found.first is not None and first is None:
                first = place // itemsize + found.first
            if found.max_abs is not None:
                max_abs = found.max_abs if max_abs is None else max(max_abs, found.max_abs)
        done = max(done, high)
    return ArrayDiff(count, changed, max_abs, first, before.read_bytes + after.read_bytes)


class _Reader:
    """Random access to chunked bytes; the chunk read last is kept."""

    def __init__(self, chunks: Sequence[ArrayChunk]) -> None:
        self.chunks = chunks
        self.ends: list[int] = []
        end = 0
        for chunk in chunks:
            end += chunk.size_bytes
            self.ends.append(end)
        self.read_bytes = 0
        self._held = -1
        self._data = memoryview(b"")

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Returns the bytes from ``start`` to ``stop``."""
        index = bisect_right(self.ends, start)
        parts: list[memoryview] = []
        while start < stop:
            base = self.ends[index] - self.chunks[index].size_bytes
            end = min(stop, self.ends[index])
            parts.append(self._chunk(index)[start - base : end - base])
            start, index = end, index + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _chunk(self, index: int) -> memoryview:
        if self._held != index:
            self._data = memoryview(self.chunks[index].read()).cast("B")
            self._held = index
            self.read_bytes += len(self._data)
        return self._data


def _differing_spans(before: _Reader, after: _Reader) -> Iterator[tuple[int, int]]:
    """Yields the stretches of bytes that are not in equal chunks at equal places, in order, joined where they touch."""
    left = right = start = open_from = 0
    while left < len(before.chunks) and right < len(after.chunks):
        start_left = before.ends[left] - before.chunks[left].size_bytes
        start_right = after.ends[right] - after.chunks[right].size_bytes
        start = max(start_left, start_right)
        if start_left == start_right and before.chunks[left][:2] == after.chunks[right][:2]:
            if open_from < start:
                yield open_from, start
            open_from = before.ends[left]
            left, right = left + 1, right + 1
        elif before.ends[left] == after.ends[right]:
            left, right = left + 1, right + 1
        elif before.ends[left] < after.ends[right]:
            left += 1
        else:
            right += 1
    end = before.ends[-1] if before.ends else 0
    if open_from < end:
        yield open_from, end


def _has_numpy(differing_bytes: int) -> bool:
    return "numpy" in sys.modules or (differing_bytes > _WORTH_AN_IMPORT_BYTES and find_spec("numpy") is not None)


def _standard(dtype: str) -> tuple[str, str]:
    """Returns a dtype's name and byte order (``<``, ``>`` or ``=``)."""
    name, order = dtype.removeprefix("torch."), "="
    if name[:1] in "<>=|":
        order, name = (name[0] if name[0] in "<>" else "="), name[1:]
    return _TYPESTRINGS.get(name, name), order


def itemsize_of(dtype: str) -> int:
    """Returns the bytes of an element; 0 where the dtype is not known here."""
    name = _standard(dtype)[0]
    return struct.calcsize(f"={_FORMATS[name]}") if name in _FORMATS else {"bfloat16": 2, "complex64": 8, "complex128": 16}.get(name, 0)


def compare_plain(before: bytes | memoryview, after: bytes | memoryview, dtype: str, itemsize: int) -> _Found:
    """Compares two equally long stretches of elements without numpy."""
    name, order = _standard(dtype)
    code = _FORMATS.get(name)
    count = len(before) // itemsize
    if name == "bfloat16":
        left, right = (_widen(memoryview(data), order) for data in (before, after))
    elif code is None or struct.calcsize(order + code) != itemsize:
        return _compare_bytes(before, after, itemsize, name, order)
    else:
        left, right = (struct.unpack(f"{order}{count}{code}", data) for data in (before, after))
    changed, first, most = 0, None, None
    for place, (old, new) in enumerate(zip(left, right, strict=True)):
        if old == new or (old != old and new != new):
            continue
        changed += 1
        first = place if first is None else first
        distance = abs(new - old)
        if isfinite(distance) if isinstance(distance, float) else True:
            most = distance if most is None else max(most, distance)
    return _Found(changed, most, first)


def _widen(data: memoryview, order: str) -> tuple[float, ...]:
    halves = struct.unpack(f"{order}{len(data) // 2}H", data)
    return struct.unpack(f"={len(halves)}f", struct.pack(f"={len(halves)}I", *(half << 16 for half in halves)))


def _compare_bytes(before: bytes | memoryview, after: bytes | memoryview, itemsize: int, name: str, order: str) -> _Found:
    parts = {"complex64": "f", "complex128": "d"}.get(name)
    if parts is not None:
        left, right = (struct.unpack(f"{order}{len(data) // itemsize * 2}{parts}", data) for data in (before, after))
        return _compare_complex(left, right)
    starts = range(0, len(before), itemsize)
    places = [start // itemsize for start in starts if before[start : start + itemsize] != after[start : start + itemsize]]
    return _Found(len(places), None, places[0] if places else None)


def _compare_complex(left: Sequence[float], right: Sequence[float]) -> _Found:
    changed, first, most = 0, None, None
    for place in range(len(left) // 2):
        old, new = complex(*left[2 * place : 2 * place + 2]), complex(*right[2 * place : 2 * place + 2])
        if old == new or (old != old and new != new):
            continue
        changed += 1
        first = place if first is None else first
        distance = abs(new - old)
        if isfinite(distance):
            most = distance if most is None else max(most, distance)
    return _Found(changed, most, first)


def compare_with_numpy(before: bytes | memoryview, after: bytes | memoryview, dtype: str, itemsize: int) -> _Found:
    """Fast path: `compare_plain` with numpy."""
    import numpy

    name, order = _standard(dtype)
    if name == "bfloat16":
        left, right = ((numpy.frombuffer(data, f"{order}u2").astype("u4") << 16).view("f4") for data in (before, after))
    elif name in _FORMATS or name in ("complex64", "complex128"):
        kind: Any = numpy.dtype(f"{order}{numpy.dtype(name).str[1:]}")
        if kind.itemsize != itemsize:
            return _numpy_bytes(numpy, before, after, itemsize)
        left, right = (numpy.frombuffer(data, kind) for data in (before, after))
    else:
        return _numpy_bytes(numpy, before, after, itemsize)
    differs = left != right
    if left.dtype.kind in "fc":
        differs &= ~(numpy.isnan(left) & numpy.isnan(right))
    places = numpy.flatnonzero(differs)
    if not places.size:
        return _Found(0, None, None)
    return _Found(int(places.size), _numpy_distance(numpy, left[places], right[places]), int(places[0]))


def _numpy_bytes(numpy: Any, before: bytes | memoryview, after: bytes | memoryview, itemsize: int) -> _Found:
    left, right = (numpy.frombuffer(data, "u1").reshape(-1, itemsize) for data in (before, after))
    places = numpy.flatnonzero((left != right).any(axis=1))
    return _Found(int(places.size), None, int(places[0]) if places.size else None)


def _numpy_distance(numpy: Any, old: Any, new: Any) -> float | int | None:
    kind = old.dtype.kind
    if kind == "b":
        return 1
    if kind in "iu":
        wide = numpy.uint64 if kind == "u" else numpy.int64
        old, new = old.astype(wide), new.astype(wide)
        return int(numpy.where(new > old, new.view("u8") - old.view("u8"), old.view("u8") - new.view("u8")).max())
    with numpy.errstate(all="ignore"):
        distance = numpy.abs(new.astype("c16" if kind == "c" else "f8") - old.astype("c16" if kind == "c" else "f8"))
    distance = distance[numpy.isfinite(distance)]
    return float(distance.max()) if distance.size else None

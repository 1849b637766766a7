"""The content of large arrays, hashed once and believed as long as the kernel says that nobody wrote to their memory.

Arrays of middle size are watched when they come for the second time: to begin takes as long as to read them twice.

Fast path: the plain twin hashes the bytes each time; both return the same digest. What cannot be watched (small arrays, memory that numpy
does not own, an older kernel) is hashed. Arrays whose memory is written again and again are left alone, since the first write to a watched page costs.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from xxhash import xxh3_128

from dartvc.host.writes import WriteWatch

__all__ = ["LARGE_BYTES", "MIDDLE_BYTES", "Contents", "Met", "feed_elements", "hash_of", "owner_of"]

LARGE_BYTES = 1 << 20
MIDDLE_BYTES = 1 << 17  # reading less than that takes no longer than asking the kernel
_PIECE_BYTES = 1 << 18
_ALLOCATIONS_LIMIT = 256
_DIGESTS_LIMIT = 64
_MET_LIMIT = 256
_REWRITTEN_LIMIT = 2
_MARKED = b"marked"

_View = tuple[str, int, int, tuple[tuple[int, int], ...]]
"""What tells a view from others of the same memory; the first part says what is known of it: nothing for its digest, or what `mark` was told."""


class _Allocation:
    """The memory of one array: the whole pages in it are watched, the bytes around them compared."""

    def __init__(self, owner: weakref.ref[Any], address: int, size_bytes: int, start: int, stop: int) -> None:
        self.owner = owner
        self.address = address
        self.size_bytes = size_bytes
        self.start = start
        self.stop = stop
        self.digests: dict[_View, tuple[bytes, bytes]] = {}
        self.rewritten = 0
        self.is_left_alone = False


class Contents:
    """Digests of the large arrays of this process.

    Attributes:
        whole_of: what an estimator is known by; None walks it each time.
        learning_s: what it took to walk estimators for the first times, by which later walks cost a tenth.
    """

    def __init__(self) -> None:
        self.learning_s = 0.0
        self.whole_of: Callable[[Any], Any] | None = None
        self._watch = WriteWatch()
        self._allocations: dict[int, _Allocation] = {}
        self._met = Met()
        self._lock = threading.RLock()

    def begin_anew(self) -> None:
        """Watches the memory of a forked child."""
        self._lock = threading.RLock()
        self._allocations.clear()
        self._watch.close()
        self._watch = WriteWatch()

    def digest(self, values: Any, hash_it: Callable[[], bytes]) -> bytes:
        """Returns the digest of an array's elements as they lie in memory; ``hash_it`` makes it."""
        if not self._watch.is_available:
            return hash_it()
        with self._lock:
            if values.nbytes < LARGE_BYTES and id(owner_of(values)) not in self._allocations and not self._met.has(values):
                return hash_it()
            allocation = self._allocation_of(values)
            if allocation is None or allocation.is_left_alone:
                return hash_it()
            extent = _extent(values)
            return self._known(allocation, *extent) or self._learn(allocation, *extent, hash_it)

    def mark(self, values: Any, name: str) -> None:
        """Notes what an array is, which holds until its memory is written to."""
        with self._lock:
            allocation = self._allocation_of(values) if self._watch.is_available else None
            if allocation is not None and not allocation.is_left_alone:
                self._learn(allocation, *_extent(values, name), lambda: _MARKED)

    def bears(self, values: Any, name: str) -> bool:
        """Whether an array still is what `mark` was told of it; False, too, where nobody can tell."""
        with self._lock:
            allocation = self._allocations.get(id(owner_of(values)))
            return allocation is not None and not allocation.is_left_alone and self._known(allocation, *_extent(values, name)) == _MARKED

    def is_known(self, values: Any) -> bool:
        """Whether the digest of an array costs nothing: it is small, or was made and is still true."""
        if values.nbytes < LARGE_BYTES:
            return True
        allocation = self._allocations.get(id(owner_of(values)))
        return allocation is not None and _extent(values)[0] in allocation.digests

    def is_left_alone(self, values: Any) -> bool:
        """Whether an array is read each time, since its memory was written again and again."""
        allocation = self._allocations.get(id(owner_of(values)))
        return allocation is not None and allocation.is_left_alone

    def forget(self, values: Any) -> None:
        """Ends the watch over an array's memory, which is going to be written."""
        with self._lock:
            self._release(id(owner_of(values)))

    def close(self) -> None:
        """Forgets everything: what the interpreter throws away at its end is not asked about any more."""
        with self._lock:
            self._allocations.clear()
            self._watch.close()

    def _known(self, allocation: _Allocation, view: _View, low: int, high: int) -> bytes | None:
        found = allocation.digests.get(view)
        if found is None:
            return None
        edges, digest = found
        start, stop = self._pages(allocation, low, high)
        if self._watch.is_unwritten(start, stop) and self._edges(low, high, start, stop) == edges:
            return digest
        allocation.digests.clear()
        allocation.rewritten += 1
        if allocation.rewritten >= _REWRITTEN_LIMIT:
            allocation.is_left_alone = True
            self._watch.end(allocation.start, allocation.stop)
        return None

    def _learn(self, allocation: _Allocation, view: _View, low: int, high: int, hash_it: Callable[[], bytes]) -> bytes:
        """Hashes a view, and remembers it: the pages are protected first, so that a write by another thread meanwhile shows."""
        start, stop = self._pages(allocation, low, high)
        if allocation.is_left_alone or start >= stop:
            return hash_it()
        try:
            if not self._watch.is_unwritten(start, stop):
                allocation.digests.clear()  # protecting takes off marks that other views would have to see
                self._watch.protect(start, stop)
        except OSError:
            allocation.is_left_alone = True
            return hash_it()
        edges = self._edges(low, high, start, stop)
        digest = hash_it()
        if len(allocation.digests) >= _DIGESTS_LIMIT:
            allocation.digests.pop(next(iter(allocation.digests)))
        allocation.digests[view] = edges, digest
        return digest

    def _pages(self, allocation: _Allocation, low: int, high: int) -> tuple[int, int]:
        page = self._watch.page_bytes
        return max(low // page * page, allocation.start), min(-(-high // page) * page, allocation.stop)

    def _edges(self, low: int, high: int, start: int, stop: int) -> bytes:
        """Returns the bytes of a view that lie outside of the watched pages: less than a page at each end."""
        from ctypes import string_at

        return string_at(low, max(start - low, 0)) + string_at(stop, max(high - stop, 0))

    def _allocation_of(self, values: Any) -> _Allocation | None:
        numpy = sys.modules["numpy"]
        owner: Any = owner_of(values)
        number = id(owner)
        allocation = self._allocations.get(number)
        if allocation is not None:
            place = owner.__array_interface__["data"][0], owner.nbytes
            if allocation.owner() is owner and place == (allocation.address, allocation.size_bytes):
                return allocation
            self._release(number)
        if type(owner) is not numpy.ndarray or not owner.flags.owndata or owner.nbytes < MIDDLE_BYTES or not _is_on_heap(owner):
            return None
        if not (owner.flags.c_contiguous or owner.flags.f_contiguous):
            return None
        page, address = self._watch.page_bytes, owner.__array_interface__["data"][0]
        start, stop = -(-address // page) * page, (address + owner.nbytes) // page * page
        try:
            self._watch.begin(start, stop)
        except OSError:
            return None
        while len(self._allocations) >= _ALLOCATIONS_LIMIT:
            self._release(next(iter(self._allocations)))
        reference = weakref.ref(owner, lambda gone: self._release(number, gone))
        allocation = self._allocations[number] = _Allocation(reference, address, owner.nbytes, start, stop)
        return allocation

    def _release(self, number: int, reference: object = None) -> None:
        """Ends the watch over an allocation; runs as well when its array goes, before the memory does."""
        with self._lock:
            allocation = self._allocations.get(number)
            if allocation is None or (reference is not None and allocation.owner is not reference):
                return
            del self._allocations[number]
            if not allocation.is_left_alone:
                self._watch.end(allocation.start, allocation.stop)


class Met:
    """Views that came before, of arrays that still live: what comes twice comes again, and will be read once."""

    def __init__(self) -> None:
        self._owners: dict[tuple[int, _View], weakref.ref[Any]] = {}

    def has(self, values: Any) -> bool:
        """Whether the same elements of the same array came before; notes that they have."""
        owner = owner_of(values)
        if type(owner) is not sys.modules["numpy"].ndarray:
            return False
        key = id(owner), _extent(values)[0]
        reference = self._owners.pop(key, None)
        while len(self._owners) >= _MET_LIMIT:
            del self._owners[next(iter(self._owners))]
        self._owners[key] = weakref.ref(owner)
        return reference is not None and reference() is owner


def hash_of(values: Any) -> bytes:
    """Returns the digest of an array's elements, in the order in which they lie in memory."""
    state = xxh3_128()
    feed_elements(values, state.update)
    return state.digest()


def feed_elements(values: Any, feed: Callable[[Any], object]) -> None:
    """Feeds the bytes of an array's elements to a hash, in the order in which they lie in memory.

    What lies scattered is packed piece by piece: memory for all of it would cost more than reading it (144 MB: 360 ms where it is fresh, 17 in pieces).
    """
    numpy = sys.modules["numpy"]
    if not values.flags.c_contiguous:
        values = values.transpose(sorted(range(values.ndim), key=lambda axis: -abs(values.strides[axis])))
    if values.flags.c_contiguous:
        feed(values.reshape(-1).view(numpy.uint8))
        return
    pieces = numpy.nditer(
        values, ["external_loop", "buffered", "zerosize_ok"], [["readonly", "contig"]], order="C", buffersize=max(_PIECE_BYTES // values.itemsize, 1)
    )
    for piece in pieces:
        feed(piece.view(numpy.uint8))


def owner_of(values: Any) -> Any:
    """Returns the object that owns the memory of an array."""
    while True:
        below = values.obj if type(values) is memoryview else getattr(values, "base", None)
        if below is None:
            return values
        values = below


def _extent(values: Any, name: str = "") -> tuple[_View, int, int]:
    """Returns a view, and the first and last byte that it spans."""
    low = high = address = values.__array_interface__["data"][0]
    for count, stride in zip(values.shape, values.strides, strict=True):
        if stride < 0:
            low += (count - 1) * stride
        else:
            high += (count - 1) * stride
    steps = sorted(((stride, count) for stride, count in zip(values.strides, values.shape, strict=True) if count > 1), key=_by_width)
    return (name, address, values.itemsize, tuple(steps)), low, high + values.itemsize


def _by_width(step: tuple[int, int]) -> int:
    return -abs(step[0])


def _is_on_heap(owner: Any) -> bool:
    """Whether numpy's own allocator gave the memory: then no other mapping of it exists, through which it could be written unseen."""
    multiarray = getattr(sys.modules["numpy"], "_core", None) or getattr(sys.modules["numpy"], "core", None)
    handler = getattr(getattr(multiarray, "multiarray", None), "get_handler_name", None)
    return handler is not None and handler(owner) == "default_allocator"

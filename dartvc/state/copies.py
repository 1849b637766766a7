"""Memory for the copies of chunks that wait to be written: used again from commit to commit.

Fresh memory costs more than the copy itself, because the kernel hands it out page by page, each filled with zeros. Blocks come back by themselves
when nobody holds a piece of them any more; what lies idle is offered to the kernel, which takes it when memory is short and not before.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import deque
from contextlib import suppress

__all__ = ["BLOCK_BYTES", "CopyPool"]

BLOCK_BYTES = 4 * 1024 * 1024
_COMMITS_KEPT = 8
"""So many commits back the pool looks for how many blocks the next one may need."""


class _Lent(ctypes.Array):  # type: ignore[type-arg]
    """A block in use: views of it keep it alive, and its end gives the block back."""

    _type_ = ctypes.c_char
    _length_ = BLOCK_BYTES
    pool: CopyPool
    block: mmap.mmap

    def __del__(self) -> None:
        self.pool.take_back(self.block)


class CopyPool:
    """Copies buffers into blocks of its own; one thread copies, any thread may drop the copies."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()
        self._room = memoryview(b"")
        self._taken = 0
        self._kept = 0
        self._past: deque[int] = deque(maxlen=_COMMITS_KEPT)

    @property
    def idle_bytes(self) -> int:
        """Bytes of the blocks that wait to be used again."""
        return len(self._free) * BLOCK_BYTES

    def begin(self) -> None:
        """A commit begins: blocks that none of the last ones would have needed are given up."""
        self._past.append(self._taken)
        self._kept, self._taken = max(self._past), 0
        while len(self._free) > self._kept:
            self._free.pop()

    def copy(self, piece: memoryview) -> memoryview:
        """Returns a copy of contiguous bytes, at most `BLOCK_BYTES` of them."""
        size = len(piece)
        if size > len(self._room):
            self._room = self._lend()
        target, self._room = self._room[:size], self._room[size:]
        target[:] = piece
        return target

    def _lend(self) -> memoryview:
        self._taken += 1
        try:
            block = self._free.pop()
        except IndexError:
            private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # a fork must not share it
            block = mmap.mmap(-1, BLOCK_BYTES, **private)
        lent = _Lent.from_buffer(block)
        lent.pool, lent.block = self, block
        return memoryview(lent).cast("B")

    def take_back(self, block: mmap.mmap) -> None:
        """Keeps a block that nobody uses any more, as long as commits need so many."""
        if len(self._free) >= self._kept:
            return
        with suppress(OSError, AttributeError, ValueError):
            block.madvise(mmap.MADV_FREE)
        self._free.append(block)

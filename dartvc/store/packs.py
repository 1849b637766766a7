"""Reading packs (gitformat-pack) through a map of the file.

Large blobs are stored in deflate blocks of type 0, so that reading one is a copy out of the map. Every offset and size that comes from
the file is checked before it is used: a damaged pack is named in a `CorruptError`, it never hangs and never gives wrong data.

A pack may keep a file descriptor for as long as it is open only if it is small: those are joined, so that there are few. Large ones stay
apart for ever, and descriptors are the program's own.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path

from dartvc.errors import CorruptError
from dartvc.model.records import NamedTuple
from dartvc.store.objects import BLOB, COMMIT, KIND_NAMES, TREE
from dartvc.store.packindex import PackIndex

__all__ = ["BLOB", "COMMIT", "LARGE_PACK_BYTES", "OFS_DELTA", "REF_DELTA", "TREE", "Pack", "PackedEntry"]

LARGE_PACK_BYTES = 32 * 1024 * 1024
"""Packs above this are not joined with others."""

OFS_DELTA, REF_DELTA = 6, 7
PACK_HEADER_BYTES = 12
_CHAIN_MAX = 4096
_SMALL_BYTES = 16384
_ZERO_COPY_PREFIX = b"\x78\x01"


class PackedEntry(NamedTuple):
    """An object as it lies in a pack: what it is, its size, where its deflated bytes begin, and what it is a delta of."""

    kind: int
    size: int
    data_at: int
    base_at: int | None
    base_oid: bytes | None


class Pack:
    """A finished pack and its index; the file stays readable through the map after it was unlinked."""

    def __init__(self, index_path: Path, index: PackIndex | None = None) -> None:
        """Opens a pack by its index; ``index`` gives one that was rebuilt.

        Raises:
            CorruptError: the index is damaged, or nothing is left of the pack. A pack that is cut or is not the one that the index was
                made for is opened with ``is_whole`` False: what is left of it can be read, and must be verified.
            OSError: a file is missing.
        """
        self.index_path = index_path
        self.path = index_path.with_suffix(".pack")
        self.index = PackIndex.read(index_path) if index is None else index
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            self.size_bytes = status.st_size
            self.changed_ns = status.st_mtime_ns
            if self.size_bytes < PACK_HEADER_BYTES + 20:
                raise self._damaged("it ends early")
            self.content = _map(descriptor, self.size_bytes)
        finally:
            os.close(descriptor)
        self.is_whole = bytes(self.content[:4]) == b"PACK" and bytes(self.content[-20:]) == self.index.pack_checksum
        self.end = self.size_bytes - 20 if self.is_whole else self.size_bytes
        self.find = self.index.find

    def _damaged(self, what: str) -> CorruptError:
        return CorruptError(f"the pack {self.path.name} is damaged: {what}", kind="pack", hint="dvc-state fsck")

    def entry(self, offset: int) -> PackedEntry:
        """Returns the object at an offset.

        Raises:
            CorruptError: there is none.
        """
        content, at, end = self.content, offset, self.end
        try:
            if not PACK_HEADER_BYTES <= at < end:
                raise IndexError
            byte = content[at]
            kind, size, shift = byte >> 4 & 7, byte & 15, 4
            at += 1
            while byte & 0x80:
                byte = content[at]
                size |= (byte & 0x7F) << shift
                shift += 7
                at += 1
            if kind in KIND_NAMES:
                return PackedEntry(kind, size, at, None, None)
            if kind == REF_DELTA:
                return PackedEntry(kind, size, at + 20, None, bytes(content[at : at + 20]))
            if kind == OFS_DELTA:
                byte = content[at]
                distance = byte & 0x7F
                at += 1
                while byte & 0x80:
                    byte = content[at]
                    distance = ((distance + 1) << 7) | (byte & 0x7F)
                    at += 1
                if 0 < distance <= offset - PACK_HEADER_BYTES:
                    return PackedEntry(kind, size, at, offset - distance, None)
        except IndexError:
            pass
        raise self._damaged(f"there is no object at {offset}")

    def inflate(self, entry: PackedEntry) -> bytes:
        """Returns the deflated bytes of an entry as they were before.

        Raises:
            CorruptError: they are not what was written.
        """
        size, start = entry.size, entry.data_at
        if size < _SMALL_BYTES:  # Fast path: one call; what follows the stream is not looked at
            try:
                data = zlib.decompress(self.content[start : min(self.end, start + size + 128)], 15, size + 1)
            except zlib.error as error:
                raise self._damaged(f"at {start}: {error}") from error
            if len(data) == size:
                return data
            raise self._damaged(f"the object at {start} has another size")
        return self.inflate_measured(entry)[0]

    def inflate_measured(self, entry: PackedEntry) -> tuple[bytes, int]:
        """Returns the bytes of an entry and the offset behind it.

        Raises:
            CorruptError: they are not what was written.
        """
        size, start = entry.size, entry.data_at
        if size > (self.end - start) * 1100 + 64:  # deflate cannot do better than 1032:1
            raise self._damaged(f"the object at {start} claims {size} bytes")
        stop = min(self.end, start + size + (size >> 10) + 128)
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(self.content[start:stop], size + 1)
            while not inflater.eof and len(data) <= size:  # a stream larger than its content, or its trailer still to come
                rest = inflater.unconsumed_tail
                more = inflater.decompress(rest if rest else self.content[stop : stop + 65536], size + 1 - len(data))
                if not rest:
                    if stop >= self.end:
                        break
                    stop = min(self.end, stop + 65536)
                data += more
        except zlib.error as error:
            raise self._damaged(f"at {start}: {error}") from error
        if len(data) != size or not inflater.eof:
            raise self._damaged(f"the object at {start} has another size")
        return data, stop - len(inflater.unused_data)

    def read(self, offset: int, resolve: Callable[[bytes], tuple[int, bytes]] | None = None) -> tuple[int, bytes]:
        """Returns (kind, data) of the object at an offset, deltas applied; the id is not verified.

        Args:
            offset: where it begins.
            resolve: reads the base of a delta by its id, when it is not in this pack.

        Raises:
            CorruptError: its bytes are not what was written.
        """
        entry = self.entry(offset)
        deltas: list[bytes] = []
        while entry.kind in (OFS_DELTA, REF_DELTA):
            deltas.append(self.inflate(entry))
            base_at = entry.base_at if entry.base_oid is None else self.find(entry.base_oid)
            if base_at is None or len(deltas) > _CHAIN_MAX:
                if base_at is None and resolve is not None and entry.base_oid is not None:
                    kind, data = resolve(entry.base_oid)
                    break
                raise self._damaged(f"the object at {offset} is a delta of nothing")
            entry = self.entry(base_at)
        else:
            kind, data = entry.kind, self.inflate(entry)
        if not deltas:
            return kind, data
        from dartvc.store.delta import apply_delta  # commits are none

        try:
            for delta in reversed(deltas):
                data = apply_delta(data, delta)
        except ValueError as error:
            raise self._damaged(f"at {offset}: {error}") from error
        return kind, data

    def read_small(self, offset: int) -> bytes | None:
        """Returns the bytes of a commit of less than 2 KiB that is no delta; None for what must be read by `read`.

        Fast path: `read`, without a look at what such a commit does not have. Its id is not verified.
        """
        content = self.content
        first, second = content[offset : offset + 2] if PACK_HEADER_BYTES <= offset < self.end - 2 else (0, 0)
        if first >> 4 & 7 != COMMIT or second & 0x80 or not first & 0x80:
            return None
        size, start = first & 15 | second << 4, offset + 2
        try:
            return zlib.decompress(content[start : min(self.end, start + size + 128)], 15, size + 1)
        except zlib.error:
            return None

    def size(self, offset: int) -> tuple[int, int] | None:
        """Returns (kind, size in bytes) of an object that is no delta, without reading it; None for a delta."""
        entry = self.entry(offset)
        return (entry.kind, entry.size) if entry.kind in KIND_NAMES else None

    def stored_blocks(self, offset: int) -> list[memoryview] | None:
        """Returns the pieces of a blob that is stored uncompressed, in order; None for any other object. Not verified."""
        return self.stored_blocks_at(self.entry(offset))

    def stored_blocks_at(self, entry: PackedEntry) -> list[memoryview] | None:
        """Returns what `stored_blocks` does, of an entry that was looked up already."""
        content, end = self.content, self.end
        at, left = entry.data_at + 2, entry.size
        if entry.kind != BLOB or at + 5 > end or content[at - 2 : at] != _ZERO_COPY_PREFIX or content[at] & 0b110:
            return None
        pieces = []
        while at + 5 <= end:
            final, length, inverse = struct.unpack_from("<BHH", content, at)
            at += 5
            if length ^ inverse != 0xFFFF or length > left or at + length > end or final > 1:
                return None
            pieces.append(content[at : at + length])
            at += length
            left -= length
            if final:
                return pieces if left == 0 else None
            if not length:
                return None
        return None


def _map(descriptor: int, size_bytes: int) -> memoryview:
    """Returns a map of a file; that of a large one keeps no descriptor."""
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False))
    if size_bytes <= LARGE_PACK_BYTES:
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))  # it duplicates the descriptor
    return _map_alone(descriptor, size_bytes)


def _map_alone(descriptor: int, size_bytes: int) -> memoryview:
    """Maps a file by the system's own call; the map goes when the last view of it does."""
    import ctypes  # milliseconds that a repository without large packs does not pay

    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    system.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t)
    system.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    address = system.mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    memory = (ctypes.c_char * size_bytes).from_address(address)
    weakref.finalize(memory, system.munmap, address, size_bytes).atexit = False  # views may be used until the very end
    return memoryview(memory).cast("B").toreadonly()

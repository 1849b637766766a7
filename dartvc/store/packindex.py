"""The index of a pack, version 2 (gitformat-pack): which object lies where."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from dartvc.errors import CorruptError
from dartvc.store.durable import read_file

__all__ = ["PackIndex", "encode_index"]

_MAGIC = b"\xfftOc\0\0\0\2"
_OIDS_AT = 8 + 1024
_LARGE = 0x80000000
_FEW = 128


def encode_index(entries: Mapping[bytes, tuple[int, int]], checksum: bytes) -> bytes:
    """Encodes an index.

    Args:
        entries: object id to (offset, crc32 of the packed bytes).
        checksum: the last 20 bytes of the pack.
    """
    oids = sorted(entries)
    fanout = [0] * 256
    for oid in oids:
        fanout[oid[0]] += 1
    total = 0
    for byte in range(256):
        total += fanout[byte]
        fanout[byte] = total
    offsets: list[int] = []
    large: list[int] = []
    for oid in oids:
        offset = entries[oid][0]
        if offset >= _LARGE:
            large.append(offset)
            offset = _LARGE | (len(large) - 1)
        offsets.append(offset)
    content = b"".join(
        [
            _MAGIC,
            struct.pack(">256I", *fanout),
            *oids,
            struct.pack(f">{len(oids)}I", *(entries[oid][1] for oid in oids)),
            struct.pack(f">{len(oids)}I", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            checksum,
        ]
    )
    return content + hashlib.sha1(content, usedforsecurity=False).digest()


class PackIndex:
    """An index in memory, checked against its own checksum when it is opened."""

    def __init__(self, content: bytes, name: str) -> None:
        """Opens an index.

        Raises:
            CorruptError: it is not what was written.
        """
        fault = _fault(content)
        if fault:
            raise CorruptError(f"the pack index {name} is damaged: {fault}", kind="pack-index", hint="dvc-state fsck")
        self._content = content
        self._fanout: tuple[int, ...] = struct.unpack_from(">256I", content, 8)
        self.count = self._fanout[255]
        self._offsets_at = _OIDS_AT + 24 * self.count
        self.pack_checksum = content[-40:-20]

    @classmethod
    def read(cls, path: Path) -> PackIndex:
        """Opens the index in a file.

        Raises:
            CorruptError: it is not what was written.
        """
        return cls(read_file(path), path.name)

    def find(self, oid: bytes) -> int | None:
        """Returns the offset of an object, None when the pack does not have it."""
        first = oid[0]
        low, high = self._fanout[first - 1] if first else 0, self._fanout[first]
        if low == high:
            return None
        if high - low > _FEW:
            low, high = self._narrow(oid, low, high, _FEW)
            high = min(high + 1, self.count)
        # Fast path: what is left is searched by one call of C, where an id can only stand at every twentieth byte
        content, end = self._content, _OIDS_AT + 20 * high
        at = content.find(oid, _OIDS_AT + 20 * low, end)
        while at >= 0 and (at - _OIDS_AT) % 20:
            at = content.find(oid, at + 1, end)
        return self._offset((at - _OIDS_AT) // 20) if at >= 0 else None

    def _position(self, oid: bytes) -> int:
        """Returns how many ids of the pack are smaller than ``oid``."""
        first = oid[0]
        return self._narrow(oid, self._fanout[first - 1] if first else 0, self._fanout[first], 0)[0]

    def _narrow(self, oid: bytes, low: int, high: int, few: int) -> tuple[int, int]:
        """Halves the range of positions in which an id stands, or would stand, until no more than ``few`` are left."""
        content = self._content
        while high - low > few:
            middle = (low + high) >> 1
            at = _OIDS_AT + 20 * middle
            if content[at : at + 20] < oid:
                low = middle + 1
            else:
                high = middle
        return low, high

    def _offset(self, position: int) -> int:
        (offset,) = struct.unpack_from(">I", self._content, self._offsets_at + 4 * position)
        if offset & _LARGE:
            (offset,) = struct.unpack_from(">Q", self._content, self._offsets_at + 4 * self.count + 8 * (offset & (_LARGE - 1)))
        return int(offset)

    def iter_entries(self) -> Iterator[tuple[bytes, int]]:
        """Yields (object id, offset) of every object, by id."""
        for position in range(self.count):
            at = _OIDS_AT + 20 * position
            yield self._content[at : at + 20], self._offset(position)

    def iter_range(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, int]]:
        """Yields (object id, offset) of the objects with ids from ``low`` to ``high``, both included."""
        for position in range(self._position(low), self.count):
            at = _OIDS_AT + 20 * position
            oid = self._content[at : at + 20]
            if oid > high:
                return
            yield oid, self._offset(position)


def _fault(content: bytes) -> str:
    if len(content) < _OIDS_AT + 40:
        return "it ends early"
    if content[:8] != _MAGIC:
        return "it is no index of version 2"
    (count,) = struct.unpack_from(">I", content, 8 + 1020)
    if len(content) < _OIDS_AT + 28 * count + 40:
        return "it ends early"
    if hashlib.sha1(memoryview(content)[:-20], usedforsecurity=False).digest() != content[-20:]:
        return "its checksum does not match"
    return ""

"""Git packs, written and read by ourselves (gitformat-pack): stored deflate blocks for large data, deltas for trees.

Large blobs are stored uncompressed inside deflate blocks, so that reading one is a copy out of the mapped file. A tree is stored as a
delta against the tree before it that looks alike (same first entry), found by common prefix and suffix: a flat tree of hundreds of
names in which one changed costs some fifty bytes.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dartvc.errors import CorruptError
from dartvc.model import Oid

__all__ = ["BLOB", "COMMIT", "TREE", "Pack", "PackBuilder", "TreeEntry", "encode_tree", "merge_packs", "object_id"]

COMMIT, TREE, BLOB, OFS_DELTA = 1, 2, 3, 6
_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}
_STORED_BLOCK_BYTES = 65535
_SPILL_BYTES = 8 * 1024 * 1024
_DELTA_DEPTH = 40
_DELTA_MIN_BYTES = 128


class TreeEntry(NamedTuple):
    """An entry of a tree: its git mode (0o100644 blob, 0o40000 tree) and the object."""

    mode: int
    oid: Oid


def object_id(kind: int, data: bytes | memoryview) -> bytes:
    """Returns the 20 bytes of an object's SHA-1."""
    digest = hashlib.sha1(b"%s %d\0" % (_NAMES[kind], len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.digest()


def encode_tree(entries: Mapping[str, TreeEntry]) -> bytes:
    """Encodes a tree in git's order (directories sort as if their name ended in a slash)."""
    rows = []
    for name, entry in entries.items():
        raw = name.encode("utf-8", "surrogateescape")
        rows.append((raw + b"/" if entry.mode == 0o40000 else raw, b"%o %s\0" % (entry.mode, raw) + bytes.fromhex(entry.oid)))
    rows.sort()
    return b"".join([row for _, row in rows])


def _header(kind: int, size: int) -> bytes:
    first = (kind << 4) | (size & 15)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def _stored(data: bytes | memoryview) -> list[bytes | memoryview]:
    """Returns a zlib stream of stored blocks around ``data``, without copying it."""
    view = memoryview(data)
    pieces: list[bytes | memoryview] = [b"\x78\x01"]
    size = len(view)
    for at in range(0, size, _STORED_BLOCK_BYTES) or (0,):
        piece = view[at : at + _STORED_BLOCK_BYTES]
        final = at + _STORED_BLOCK_BYTES >= size
        pieces.append(struct.pack("<BHH", final, len(piece), len(piece) ^ 0xFFFF))
        pieces.append(piece)
    pieces.append(struct.pack(">I", zlib.adler32(view)))
    return pieces


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _copy(offset: int, size: int) -> bytes:
    out = bytearray()
    while size:
        part = min(size, 0xFFFFFF)
        op, operands = 0x80, bytearray()
        for bit in range(4):
            byte = offset >> (8 * bit) & 0xFF
            if byte:
                op |= 1 << bit
                operands.append(byte)
        for bit in range(3):
            byte = part >> (8 * bit) & 0xFF
            if byte:
                op |= 16 << bit
                operands.append(byte)
        out.append(op)
        out += operands
        offset, size = offset + part, size - part
    return bytes(out)


def make_delta(base: bytes, target: bytes) -> bytes:
    """Encodes ``target`` as copy, insert, copy against ``base`` by their common prefix and suffix."""
    prefix = len(os.path.commonprefix([base, target]))
    most = min(len(base), len(target)) - prefix
    suffix = len(os.path.commonprefix([base[len(base) - most :][::-1], target[len(target) - most :][::-1]])) if most else 0
    out = [_varint(len(base)), _varint(len(target))]
    if prefix:
        out.append(_copy(0, prefix))
    middle = target[prefix : len(target) - suffix]
    out.extend(bytes([len(middle[at : at + 127])]) + middle[at : at + 127] for at in range(0, len(middle), 127))
    if suffix:
        out.append(_copy(len(base) - suffix, suffix))
    return b"".join(out)


class PackBuilder:
    """A pack being written to a temporary file; ``finish`` makes it durable and visible.

    Objects are buffered in memory and spilled to the file beyond a few MiB.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._path = folder / f"tmp_dartvc_{name}.pack"
        self._file: io.FileIO | None = None
        self._buffer: list[bytes | memoryview] = [b"PACK" + struct.pack(">II", 2, 0)]
        self._buffered = 12
        self._at = 12
        self._sha = hashlib.sha1(usedforsecurity=False)
        self._entries: dict[bytes, tuple[int, int]] = {}
        self._trees: dict[bytes, tuple[bytes, int, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, oid: bytes) -> bool:
        return oid in self._entries

    def add(self, kind: int, oid: bytes, data: bytes | memoryview, compress: bool) -> None:
        """Adds an object that the pack does not have yet."""
        if kind == TREE and len(data) >= _DELTA_MIN_BYTES:
            pieces = self._tree_pieces(bytes(data))
        elif compress:
            pieces = [_header(kind, len(data)), zlib.compress(data, 1)]
        else:
            pieces = [_header(kind, len(data)), *_stored(data)]
        crc = 0
        size = 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            size += len(piece)
        self._entries[oid] = (self._at, crc)
        self._buffer.extend(pieces)
        self._at += size
        self._buffered += size
        if self._buffered > _SPILL_BYTES:
            self._spill()

    def _tree_pieces(self, data: bytes) -> list[bytes | memoryview]:
        """Stores a tree whole, or as a delta against the last one that begins with the same entry."""
        key = data[: data.index(b"\0")]
        last = self._trees.get(key)
        if last is not None and last[2] < _DELTA_DEPTH:
            delta = make_delta(last[0], data)
            if len(delta) * 2 < len(data):
                self._trees[key] = (data, self._at, last[2] + 1)
                distance = self._at - last[1]
                back = bytearray([distance & 0x7F])
                while distance := distance >> 7:
                    distance -= 1
                    back.insert(0, distance & 0x7F | 0x80)
                return [_header(OFS_DELTA, len(delta)), bytes(back), zlib.compress(delta, 1)]
        self._trees[key] = (data, self._at, 0)
        return [_header(TREE, len(data)), zlib.compress(data, 1)]

    def _spill(self) -> None:
        if self._file is None:
            self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115  (closed by finish or abandon)
        pieces, self._buffer, self._buffered = self._buffer, [], 0
        joined: list[bytes | memoryview] = []
        for at in range(0, len(pieces), 512):
            joined = pieces[at : at + 512]
            wanted = sum(map(len, joined))
            if os.writev(self._file.fileno(), joined) != wanted:
                raise OSError(28, "No space left on device", str(self._path))

    def finish(self) -> bytes:
        """Writes, syncs and names the pack; returns its checksum. The pack's number of objects is patched in before hashing."""
        self._spill()
        assert self._file is not None
        os.pwrite(self._file.fileno(), struct.pack(">I", len(self._entries)), 8)
        checksum = _hash_file(self._path)
        os.write(self._file.fileno(), checksum)
        os.fsync(self._file.fileno())
        self._file.close()
        write_index(self._folder / f"tmp_dartvc_{self._path.stem[4:]}.idx", self._entries, checksum, self._folder, self._path)
        return checksum

    def abandon(self) -> None:
        """Throws the pack away."""
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)


def _hash_file(path: Path) -> bytes:
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                digest.update(content)
    return digest.digest()


def write_index(path: Path, entries: Mapping[bytes, tuple[int, int]], checksum: bytes, folder: Path, pack: Path) -> None:
    """Writes the version 2 index, syncs it, and renames pack and index into place, the pack first."""
    oids = sorted(entries)
    fanout = [0] * 256
    for oid in oids:
        fanout[oid[0]] += 1
    total = 0
    for byte in range(256):
        total += fanout[byte]
        fanout[byte] = total
    large = [entries[oid][0] for oid in oids if entries[oid][0] >= 0x80000000]
    places = {offset: index for index, offset in enumerate(large)}
    offsets = [entries[oid][0] if entries[oid][0] < 0x80000000 else 0x80000000 | places[entries[oid][0]] for oid in oids]
    content = b"".join(
        [
            b"\xfftOc" + struct.pack(">I", 2),
            struct.pack(">256I", *fanout),
            *oids,
            struct.pack(f">{len(oids)}I", *(entries[oid][1] for oid in oids)),
            struct.pack(f">{len(oids)}I", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            checksum,
        ]
    )
    content += hashlib.sha1(content, usedforsecurity=False).digest()
    with open(path, "wb", buffering=0) as file:
        if file.write(content) != len(content):
            raise OSError(28, "No space left on device", str(path))
        os.fsync(file.fileno())
    name = checksum.hex()
    os.rename(pack, folder / f"pack-{name}.pack")
    os.rename(path, folder / f"pack-{name}.idx")
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Pack:
    """A finished pack, mapped."""

    def __init__(self, index_path: Path) -> None:
        self.index_path = index_path
        self.path = index_path.with_suffix(".pack")
        with open(index_path, "rb") as file:
            self._index = file.read()
        if self._index[:8] != b"\xfftOc\0\0\0\2" or hashlib.sha1(self._index[:-20], usedforsecurity=False).digest() != self._index[-20:]:
            raise CorruptError(f"the pack index {index_path.name} is damaged", kind="pack-index", hint="dvc-state fsck")
        self._fanout = struct.unpack_from(">256I", self._index, 8)
        self.count = self._fanout[255]
        self._oids_at = 8 + 1024
        self._offsets_at = self._oids_at + 24 * self.count
        self.size_bytes = os.stat(self.path).st_size
        self._map: mmap.mmap | None = None

    def content(self) -> memoryview:
        """Returns the mapped file."""
        if self._map is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)

    def find(self, oid: bytes) -> int | None:
        """Returns the offset of an object, None when the pack does not have it."""
        low = self._fanout[oid[0] - 1] if oid[0] else 0
        high = self._fanout[oid[0]]
        index, base = self._index, self._oids_at
        while low < high:
            middle = (low + high) // 2
            found = index[base + 20 * middle : base + 20 * middle + 20]
            if found < oid:
                low = middle + 1
            elif found > oid:
                high = middle
            else:
                return self._offset(middle)
        return None

    def _offset(self, position: int) -> int:
        (offset,) = struct.unpack_from(">I", self._index, self._offsets_at + 4 * position)
        if offset & 0x80000000:
            (offset,) = struct.unpack_from(">Q", self._index, self._offsets_at + 4 * self.count + 8 * (offset & 0x7FFFFFFF))
        return int(offset)

    def iter_entries(self) -> Iterator[tuple[bytes, int, int]]:
        """Yields (object id, offset, crc32) of every object."""
        for position in range(self.count):
            oid = self._index[self._oids_at + 20 * position : self._oids_at + 20 * position + 20]
            (crc,) = struct.unpack_from(">I", self._index, self._oids_at + 20 * self.count + 4 * position)
            yield oid, self._offset(position), crc

    def iter_range(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Yields the entries whose ids lie between two ids."""
        yield from (entry for entry in self.iter_entries() if low <= entry[0] <= high)

    def entry(self, offset: int) -> tuple[int, int, int]:
        """Returns (kind, size, start of the deflated data or of a delta's base) of the object at an offset."""
        content = self.content()
        byte = content[offset]
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        offset += 1
        while byte & 0x80:
            byte = content[offset]
            size |= (byte & 0x7F) << shift
            shift += 7
            offset += 1
        return kind, size, offset

    def read(self, offset: int) -> tuple[int, bytes]:
        """Returns (kind, data) of the object at an offset, deltas applied."""
        kind, size, start = self.entry(offset)
        if kind == OFS_DELTA:
            content = self.content()
            byte = content[start]
            distance = byte & 0x7F
            start += 1
            while byte & 0x80:
                byte = content[start]
                distance = ((distance + 1) << 7) | (byte & 0x7F)
                start += 1
            base_kind, base = self.read(offset - distance)
            return base_kind, _apply_delta(base, self._inflate(start, size))
        if kind not in _NAMES:
            raise CorruptError(f"the pack {self.path.name} has an object of kind {kind} at {offset}", kind="pack-entry", hint="dvc-state fsck")
        return kind, self._inflate(start, size)

    def _inflate(self, start: int, size: int) -> bytes:
        try:
            data = zlib.decompressobj().decompress(self.content()[start : start + size + size // 1000 + 1024], size) if size else b""
        except zlib.error as error:
            raise CorruptError(f"the pack {self.path.name} is damaged at {start}: {error}", kind="pack-data", hint="dvc-state fsck") from error
        if len(data) != size:
            raise CorruptError(f"the pack {self.path.name} ends early at {start}", kind="pack-data", hint="dvc-state fsck")
        return data

    def stored_blocks(self, offset: int) -> list[memoryview] | None:
        """Returns the pieces of a blob that is stored uncompressed, None for any other object."""
        kind, size, start = self.entry(offset)
        content = self.content()
        if kind != BLOB or content[start : start + 2] != b"\x78\x01" or content[start + 2] & 0b110:
            return None
        pieces = []
        at, left = start + 2, size
        while True:
            final, length, inverse = struct.unpack_from("<BHH", content, at)
            if length ^ inverse != 0xFFFF or length > left or final > 1:
                return None
            pieces.append(content[at + 5 : at + 5 + length])
            at += 5 + length
            left -= length
            if final:
                return pieces if left == 0 else None


def _apply_delta(base: bytes, delta: bytes) -> bytes:
    at = 0
    for _ in range(2):
        while delta[at] & 0x80:
            at += 1
        at += 1
    out = []
    while at < len(delta):
        op = delta[at]
        at += 1
        if op & 0x80:
            offset = size = 0
            for bit in range(4):
                if op & 1 << bit:
                    offset |= delta[at] << 8 * bit
                    at += 1
            for bit in range(3):
                if op & 16 << bit:
                    size |= delta[at] << 8 * bit
                    at += 1
            out.append(base[offset : offset + (size or 0x10000)])
        else:
            out.append(delta[at : at + op])
            at += op
    return b"".join(out)


def merge_packs(folder: Path, packs: list[Pack], name: str) -> list[Pack]:
    """Joins packs into one by concatenating their bodies: offsets inside a body are relative, so deltas stay valid.

    Returns the packs that were joined: one that repeats an object of another is left out, for a pack must not hold an object twice.
    """
    path = folder / f"tmp_dartvc_{name}.pack"
    entries: dict[bytes, tuple[int, int]] = {}
    at = 12
    digest = hashlib.sha1(usedforsecurity=False)
    bodies = []
    joined = []
    for pack in packs:
        if any(oid in entries for oid, _, _ in pack.iter_entries()):
            continue
        joined.append(pack)
        for oid, offset, crc in pack.iter_entries():
            entries[oid] = (offset - 12 + at, crc)
        body = pack.content()[12:-20]
        bodies.append(body)
        at += len(body)
    head = b"PACK" + struct.pack(">II", 2, len(entries))
    with open(path, "wb", buffering=0) as file:
        for piece in (head, *bodies):
            digest.update(piece)
            if file.write(piece) != len(piece):
                raise OSError(28, "No space left on device", str(path))
        file.write(digest.digest())
        os.fsync(file.fileno())
    write_index(folder / f"tmp_dartvc_{name}.idx", entries, digest.digest(), folder, path)
    return joined

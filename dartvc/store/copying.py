"""Copying objects from one database into new packs of another, each verified against its id on the way.

Bodies are copied as they lie in the source's packs, at the speed of hashing; a delta stays one when its base was copied before it.
What cannot be copied like that (a loose object, a delta of something that stays behind, an object whose first copy is damaged) is read
and written anew.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dartvc.errors import CorruptError
from dartvc.model import Oid
from dartvc.store.delta import apply_delta
from dartvc.store.objects import BLOB, TREE, object_id
from dartvc.store.packs import OFS_DELTA, REF_DELTA, Pack, PackedEntry
from dartvc.store.packwriter import DeltaWindow, PackWriter, entry_header

if TYPE_CHECKING:
    from dartvc.store.database import ObjectDatabase

__all__ = ["copy_objects"]

_DEPTH_MAX = 50
_RECENT = 1024
_RECENT_BYTES = 65536
_UNCOMPRESSED_BYTES = 65536


def copy_objects(source: ObjectDatabase, oids: Iterable[bytes], writer: PackWriter) -> None:
    """Adds objects of ``source`` to a pack that is being written; nothing is visible before the writer publishes.

    Args:
        source: where they are.
        oids: their ids, 20 bytes each, none of which the writer has.
        writer: must not begin a second pack (``roll_bytes`` None), for deltas reach back.

    Raises:
        CorruptError: one is gone or damaged in the source.
        OSError: the disk refused.
    """
    places: dict[Pack, dict[int, bytes]] = {}
    elsewhere: list[bytes] = []
    packs = list(source.iter_packs())
    for oid in oids:
        for pack in packs:
            offset = pack.find(oid) if pack.is_whole else None
            if offset is not None:
                places.setdefault(pack, {})[offset] = oid
                break
        else:
            elsewhere.append(oid)
    copy = _Copy(source, writer)
    for pack in reversed(packs):
        if pack in places:
            copy.add_from(pack, places[pack])
    for oid in elsewhere:
        copy.add_anew(oid)


class _Copy:
    def __init__(self, source: ObjectDatabase, writer: PackWriter) -> None:
        self._source = source
        self._writer = writer
        self._window = DeltaWindow()

    def add_from(self, pack: Pack, oids: dict[int, bytes]) -> None:
        """Adds the objects at some places of a pack, in the order of the places, so that a delta comes behind its base."""
        placed: dict[int, tuple[int, int]] = {}
        recent = _Recent(self._source, pack)
        for offset in sorted(oids):
            oid = oids[offset]
            try:
                entry = pack.entry(offset)
                place = self._copy_stored(pack, entry, oid) or self._copy_whole(pack, entry, oid)
                if place is None:
                    place = self._add_tree_or_delta(pack, offset, entry, oid, placed, recent)
                placed[offset] = place
            except CorruptError:
                self.add_anew(oid)

    def _copy_stored(self, pack: Pack, entry: PackedEntry, oid: bytes) -> tuple[int, int] | None:
        """Copies a blob of stored blocks. Fast path: hashed where it lies, neither inflated nor joined."""
        if entry.kind != BLOB:
            return None
        pieces = pack.stored_blocks_at(entry)
        if pieces is None:
            return None
        digest = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
        checksum = 1
        for piece in pieces:
            digest.update(piece)
            checksum = zlib.adler32(piece, checksum)
        end = entry.data_at + 2 + entry.size + 5 * len(pieces) + 4
        if digest.digest() != oid or bytes(pack.content[end - 4 : end]) != checksum.to_bytes(4, "big"):
            raise CorruptError(f"object {oid.hex()} is damaged", kind="object", hint="dvc-state fsck")
        return self._writer.add_packed(oid, entry_header(BLOB, entry.size), pack.content[entry.data_at : end]), 0

    def _copy_whole(self, pack: Pack, entry: PackedEntry, oid: bytes) -> tuple[int, int] | None:
        """Copies a commit or a deflated blob."""
        if entry.kind in (OFS_DELTA, REF_DELTA, TREE):
            return None
        data, end = pack.inflate_measured(entry)
        _check(entry.kind, data, oid)
        return self._writer.add_packed(oid, entry_header(entry.kind, entry.size), pack.content[entry.data_at : end]), 0

    def _add_tree_or_delta(
        self, pack: Pack, offset: int, entry: PackedEntry, oid: bytes, placed: dict[int, tuple[int, int]], recent: _Recent
    ) -> tuple[int, int]:
        kind, data = recent.read(offset)
        _check(kind, data, oid)
        base = placed.get(entry.base_at) if entry.base_at is not None else None
        if base is not None and base[1] < _DEPTH_MAX:
            end = pack.inflate_measured(entry)[1]
            at = self._writer.next_offset()
            self._writer.add_packed(oid, entry_header(OFS_DELTA, entry.size, at - base[0]), pack.content[entry.data_at : end])
            if kind == TREE:
                self._window.add(data, at, base[1] + 1)
            return at, base[1] + 1
        return self._add(kind, oid, data)

    def add_anew(self, oid: bytes) -> None:
        """Reads an object, wherever a sound copy of it lies, and writes it."""
        kind, data = self._source.read(Oid(oid.hex()))
        self._add(kind, oid, data)

    def _add(self, kind: int, oid: bytes, data: bytes) -> tuple[int, int]:
        at = self._writer.next_offset()
        if kind != TREE:
            return self._writer.add(kind, oid, data, compress=len(data) < _UNCOMPRESSED_BYTES), 0
        found = self._window.find(data)
        depth = 0
        if found is None:
            self._writer.add_packed(oid, entry_header(TREE, len(data)), memoryview(zlib.compress(data, 1)))
        else:
            delta, base = found
            depth = base.depth + 1
            self._writer.add_packed(oid, entry_header(OFS_DELTA, len(delta), at - base.offset), memoryview(zlib.compress(delta, 1)))
        self._window.add(data, at, depth)
        return at, depth


class _Recent:
    """The objects of a pack read lately, so that a chain of deltas is applied once and not once for each of its members."""

    def __init__(self, source: ObjectDatabase, pack: Pack) -> None:
        self._source = source
        self._pack = pack
        self._known: OrderedDict[int, tuple[int, bytes]] = OrderedDict()

    def read(self, offset: int) -> tuple[int, bytes]:
        """Returns (kind, data) of the object at an offset."""
        pack = self._pack
        entry = pack.entry(offset)
        if entry.base_at is not None and entry.base_at in self._known:
            kind, base = self._known[entry.base_at]
            try:
                found = kind, apply_delta(base, pack.inflate(entry))
            except ValueError as error:
                raise CorruptError(f"the pack {pack.path.name} is damaged: {error}", kind="pack", hint="dvc-state fsck") from error
        else:
            found = pack.read(offset, self._source.read_base)
        if len(found[1]) <= _RECENT_BYTES:
            self._known[offset] = found
            if len(self._known) > _RECENT:
                self._known.popitem(last=False)
        return found


def _check(kind: int, data: bytes, oid: bytes) -> None:
    if object_id(kind, data) != oid:
        raise CorruptError(f"object {oid.hex()} is damaged", kind="object", hint="dvc-state fsck")

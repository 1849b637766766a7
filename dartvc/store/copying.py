"""Copying objects from one database into a pack of another, each verified against its id on the way.

Bodies are copied as they lie in the source's packs, at the speed of hashing; a delta stays one when its base was copied before it.
What cannot be copied like that (a loose object, a delta of something that stays behind, an object whose first copy is damaged) is read
and written anew. The walk that finds what to copy and the copy itself share one `RecentReader`, so that each tree is read once.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict

from dartvc.errors import CorruptError
from dartvc.model import Oid
from dartvc.store.database import ObjectDatabase
from dartvc.store.delta import apply_delta
from dartvc.store.objects import BLOB, COMMIT, TAG, TREE, object_id
from dartvc.store.packs import OFS_DELTA, Pack, PackedEntry
from dartvc.store.packwriter import DELTA_DEPTH_MAX, DELTA_MIN_BYTES, PackWriter, entry_header

__all__ = ["ObjectCopy", "RecentReader"]

_RECENT = 4096
_RECENT_BYTES = 65536
_UNCOMPRESSED_BYTES = 65536

Place = tuple[Pack, int]


class RecentReader:
    """Reads objects of a database, verified, and remembers those read lately, so that a chain of deltas is applied once and not for each member."""

    def __init__(self, database: ObjectDatabase) -> None:
        self.database = database
        self._packs = [pack for pack in database.iter_packs() if pack.is_whole]
        self._places: dict[bytes, Place] = {}
        self._known: OrderedDict[Place, tuple[int, bytes]] = OrderedDict()

    def place(self, oid: bytes) -> Place | None:
        """Returns where an object lies in a sound pack."""
        found = self._places.get(oid)
        if found is None:
            found = self._look_up(oid)
            if found is not None:
                self._places[oid] = found
                if len(self._places) > _RECENT:
                    del self._places[next(iter(self._places))]
        return found

    def _look_up(self, oid: bytes) -> Place | None:
        for index, pack in enumerate(self._packs):
            offset = pack.find(oid)
            if offset is not None:
                if index:  # what is needed next lies mostly in the same pack
                    del self._packs[index]
                    self._packs.insert(0, pack)
                return pack, offset
        return None

    def read(self, oid: bytes) -> tuple[int, bytes]:
        """Returns (kind, data) of an object.

        Raises:
            MissingObjectError: it is not here.
            CorruptError: no sound copy of it is.
        """
        place = self.place(oid)
        if place is not None:
            try:
                return self.read_at(place, oid)
            except CorruptError:
                self._known.pop(place, None)
        return self.database.read(Oid(oid.hex()))

    def read_at(self, place: Place, oid: bytes) -> tuple[int, bytes]:
        """Returns (kind, data) of the object at a place, which must be the one of this id.

        Raises:
            CorruptError: it is not.
        """
        found = self._known.get(place)
        if found is None:
            found = self._unpack(place)
            if object_id(*found) != oid:
                raise _damaged(oid)
            if len(found[1]) <= _RECENT_BYTES:
                self._known[place] = found
                if len(self._known) > _RECENT:
                    self._known.popitem(last=False)
        return found

    def _unpack(self, place: Place) -> tuple[int, bytes]:
        pack, offset = place
        entry = pack.entry(offset)
        base = self._known.get((pack, entry.base_at)) if entry.base_at is not None else None
        if base is None:
            return pack.read(offset, self.database.read_base)
        try:
            return base[0], apply_delta(base[1], pack.inflate(entry))
        except ValueError as error:
            raise CorruptError(f"the pack {pack.path.name} is damaged: {error}", kind="pack", hint="dvc-state fsck") from error


class ObjectCopy:
    """Objects of a source on their way into a pack that is being written; nothing is visible before the writer publishes.

    Args:
        source: reads them.
        writer: must not begin a second pack (``roll_bytes`` None), for deltas reach back.
    """

    def __init__(self, source: RecentReader, writer: PackWriter) -> None:
        self._source = source
        self._writer = writer
        self._placed: dict[Place, tuple[int, int]] = {}

    def add(self, oid: bytes) -> None:
        """Adds an object that the writer does not have.

        Raises:
            CorruptError: it is gone or damaged in the source.
            OSError: the disk refused.
        """
        place = self._source.place(oid)
        if place is not None:
            try:
                self._placed[place] = self._copy(place, oid)
                return
            except CorruptError:
                pass  # another copy may be sound
        kind, data = self._source.database.read(Oid(oid.hex()))
        self._add_anew(kind, oid, data)

    def _copy(self, place: Place, oid: bytes) -> tuple[int, int]:
        pack, offset = place
        entry = pack.entry(offset)
        if entry.kind == BLOB:
            stored = self._copy_stored(pack, entry, oid)
            if stored is not None:
                return stored
        if entry.kind in (COMMIT, BLOB, TAG) or (entry.kind == TREE and entry.size < DELTA_MIN_BYTES):
            data, end = pack.inflate_measured(entry)
            if object_id(entry.kind, data) != oid:
                raise _damaged(oid)
            return self._writer.add_packed(oid, entry_header(entry.kind, entry.size), pack.content[entry.data_at : end]), 0
        kind, data = self._source.read_at(place, oid)
        base = self._placed.get((pack, entry.base_at)) if entry.base_at is not None else None
        if base is None or base[1] >= DELTA_DEPTH_MAX:
            return self._add_anew(kind, oid, data)
        end = pack.inflate_measured(entry)[1]
        at = self._writer.next_offset()
        self._writer.add_packed(oid, entry_header(OFS_DELTA, entry.size, at - base[0]), pack.content[entry.data_at : end])
        if kind == TREE:
            self._writer.note_tree(data, at, base[1] + 1)
        return at, base[1] + 1

    def _copy_stored(self, pack: Pack, entry: PackedEntry, oid: bytes) -> tuple[int, int] | None:
        """Copies a blob of stored blocks. Fast path: hashed where it lies, neither inflated nor joined."""
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
            raise _damaged(oid)
        return self._writer.add_packed(oid, entry_header(BLOB, entry.size), pack.content[entry.data_at : end]), 0

    def _add_anew(self, kind: int, oid: bytes, data: bytes) -> tuple[int, int]:
        """Writes an object: a tree as a delta of one written lately, or whole."""
        if kind == TREE:
            return self._writer.add_tree(oid, data)
        return self._writer.add(kind, oid, data, compress=len(data) < _UNCOMPRESSED_BYTES), 0


def _damaged(oid: bytes) -> CorruptError:
    return CorruptError(f"object {oid.hex()} is damaged", kind="object", hint="dvc-state fsck")

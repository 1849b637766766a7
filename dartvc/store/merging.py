"""Joining small packs into larger ones, so that ten thousand small commits end in a few files.

Packs are sorted into classes of size, each `_FACTOR` times the one below; when a class holds `_FACTOR` packs they become one of the next
class. So an object is copied once a class: log(size) times in all. Bodies are copied as they are; a tree that began a pack becomes a
delta of the tree before it, which is where the bytes are saved.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from dartvc.errors import CorruptError
from dartvc.host.progress import track
from dartvc.store.objects import TREE, object_id
from dartvc.store.packs import LARGE_PACK_BYTES, OFS_DELTA, REF_DELTA, Pack
from dartvc.store.packwriter import DELTA_DEPTH_MAX, PackWriter, entry_header

__all__ = ["find_mergeable", "merge_packs"]

_FACTOR = 8
_SMALLEST_CLASS_BYTES = 16 * 1024


def find_mergeable(packs: Iterable[Pack]) -> list[Pack]:
    """Returns packs that should become one, oldest first; none when nothing is due."""
    classes: dict[int, list[Pack]] = {}
    for pack in packs:
        if pack.size_bytes <= LARGE_PACK_BYTES:
            level, size = 0, pack.size_bytes // _SMALLEST_CLASS_BYTES
            while size:
                level, size = level + 1, size // _FACTOR
            classes.setdefault(level, []).append(pack)
    for level in sorted(classes):
        if len(classes[level]) >= _FACTOR:
            return sorted(classes[level], key=lambda pack: (pack.changed_ns, pack.path.name))
    return []


def merge_packs(folder: Path, packs: Sequence[Pack], *, skip: frozenset[bytes] = frozenset()) -> list[Path]:
    """Writes the objects of ``packs`` into one new pack, durably; returns its index. The old ones are left where they are.

    Args:
        folder: where packs lie.
        packs: oldest first.
        skip: objects to leave out, because they are damaged.

    Raises:
        CorruptError: an object of theirs is damaged.
        OSError: the disk refused; nothing was changed.
    """
    merge = _Merge(PackWriter(folder, roll_bytes=None))
    try:
        for pack in packs:
            merge.add_pack(pack, skip)
        return merge.writer.publish() if len(merge.writer) else []
    except BaseException:
        merge.writer.abandon()
        raise


class _Merge:
    def __init__(self, writer: PackWriter) -> None:
        self.writer = writer
        self._placed: dict[bytes, tuple[int, int]] = {}

    def add_pack(self, pack: Pack, skip: frozenset[bytes]) -> None:
        """Adds the objects of a pack in the order of their places, so that a delta comes behind its base."""
        entries = sorted((offset, oid) for oid, offset in pack.index.iter_entries())
        oids = dict(entries)
        ends = [offset for offset, _ in entries[1:]] + [pack.end]
        if not pack.is_whole:  # where its last sound object ends is not known
            entries = [each for each in entries if each[1] not in skip]
            ends = [pack.inflate_measured(pack.entry(offset))[1] for offset, _ in entries]
        for (offset, oid), end in track("joining packs", zip(entries, ends, strict=True), len(entries)):
            if oid not in self._placed and oid not in skip:
                self._add(pack, oid, offset, end, oids)

    def _add(self, pack: Pack, oid: bytes, offset: int, end: int, oids: dict[int, bytes]) -> None:
        entry = pack.entry(offset)
        if entry.kind == OFS_DELTA and entry.base_at is not None:
            base = self._placed.get(oids.get(entry.base_at, b""))
            if base is not None and base[1] < DELTA_DEPTH_MAX:
                at = self.writer.next_offset()
                header = entry_header(OFS_DELTA, entry.size, at - base[0])
                kind, data = self._checked(pack, oid, offset)
                self.writer.add_packed(oid, header, pack.content[entry.data_at : end])
                self._placed[oid] = (at, base[1] + 1)
                if kind == TREE:
                    self.writer.note_tree(data, at, base[1] + 1)
                return
        if entry.kind in (OFS_DELTA, REF_DELTA, TREE):
            self._add_whole(pack, oid, offset)
        else:
            self._checked(pack, oid, offset)
            at = self.writer.add_packed(oid, entry_header(entry.kind, entry.size), pack.content[entry.data_at : end])
            self._placed[oid] = (at, 0)

    def _add_whole(self, pack: Pack, oid: bytes, offset: int) -> None:
        """Adds a tree as a delta of one written lately, or whole."""
        kind, data = self._checked(pack, oid, offset)
        if kind == TREE:
            self._placed[oid] = self.writer.add_tree(oid, data, level=6)
        else:
            self._placed[oid] = self.writer.add_packed(oid, entry_header(kind, len(data)), memoryview(zlib.compress(data, 6))), 0

    def _checked(self, pack: Pack, oid: bytes, offset: int) -> tuple[int, bytes]:
        """Reads an object and checks its id: damage must not be copied under a fresh checksum."""
        kind, data = pack.read(offset)
        if object_id(kind, data) != oid:
            raise CorruptError(f"object {oid.hex()} in {pack.path.name} is damaged", kind="object", hint="dvc-state fsck")
        return kind, data

"""Objects on their way into the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from dartvc.model import Oid
from dartvc.store.durable import storage_errors
from dartvc.store.objects import BLOB, COMMIT, TREE, TreeEntry, encode_commit, encode_tree, object_id
from dartvc.store.packwriter import PackWriter

__all__ = ["ObjectBatch", "PackShelf"]


class PackShelf(Protocol):
    """What a batch needs of the database."""

    @property
    def pack_folder(self) -> Path:
        """Where packs lie."""

    def vouches_for(self, oid: bytes) -> bool:
        """Whether an object is stored soundly, as far as is known."""

    def adopt_packs(self, indexes: Iterable[Path]) -> None:
        """Takes note of packs that were just written."""


class ObjectBatch:
    """Objects of one or more commits: nothing is visible before `publish`. To be used by one thread at a time."""

    def __init__(self, shelf: PackShelf) -> None:
        self._shelf = shelf
        self._writer: PackWriter | None = None

    def add_blob(self, data: bytes | memoryview, *, compress: bool = True, is_stable: bool = False) -> Oid:
        """Adds a blob.

        Args:
            compress: False stores it so that reading is a copy out of the mapped pack.
            is_stable: whether ``data`` stays as it is until `publish`, so that it need not be copied; else it may be reused when this returns.

        Raises:
            StorageError: the disk refused; the batch is thrown away.
        """
        if isinstance(data, memoryview) and (data.ndim != 1 or data.itemsize != 1):
            data = data.cast("B")
        return self._add(BLOB, data, compress, is_stable=is_stable)

    def add_tree(self, entries: Mapping[str, TreeEntry]) -> Oid:
        """Adds a tree."""
        return self._add(TREE, encode_tree(entries), True)

    def add_commit(self, tree: Oid, parents: Iterable[Oid], message: str, time_s: float, utc_offset_min: int, author: str) -> Oid:
        """Adds a commit; author (``Name <email>``) and committer are the same."""
        return self._add(COMMIT, encode_commit(tree, parents, message, time_s, utc_offset_min, author), True)

    def _add(self, kind: int, data: bytes | memoryview, compress: bool, *, is_stable: bool = False) -> Oid:
        raw = object_id(kind, data)
        oid = Oid(raw.hex())
        writer = self._writer
        if (writer is not None and raw in writer) or self._shelf.vouches_for(raw):
            return oid
        if writer is None:
            writer = self._writer = PackWriter(self._shelf.pack_folder)
        try:
            with storage_errors(self._shelf.pack_folder):
                writer.add(kind, raw, data, compress=compress, is_stable=is_stable)
        except BaseException:
            self.abandon()
            raise
        return oid

    def publish(self) -> None:
        """Makes everything added durable and visible.

        Raises:
            StorageError: the disk refused; nothing became visible and the batch is thrown away.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            with storage_errors(self._shelf.pack_folder):
                indexes = writer.publish()
        except BaseException:
            writer.abandon()
            raise
        self._shelf.adopt_packs(indexes)

    def abandon(self) -> None:
        """Throws away what was not published."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()

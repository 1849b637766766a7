"""Reading many commits in a row: each object once, from the pack that had the last one where it has the next one too."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dartvc.errors import NotFoundError
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store.objects import COMMIT, RawCommit, decode_commit, decode_links

if TYPE_CHECKING:
    from dartvc.store.database import ObjectDatabase
    from dartvc.store.packs import Pack

__all__ = ["CommitLinks", "CommitReader"]


class CommitLinks(NamedTuple):
    """A commit as a walk needs it: its parents, and its time in seconds since the epoch."""

    oid: Oid
    parents: tuple[Oid, ...]
    time_s: int


class CommitReader:
    """Reads commits of one database; not for several threads at once."""

    def __init__(self, database: ObjectDatabase) -> None:
        self._database = database
        self._near: Pack | None = None

    def data(self, oid: Oid) -> bytes:
        """Returns the bytes of a commit, verified against its id.

        Fast path: the pack of the last commit is asked first; what is not soundly there is read as any other object is.

        Raises:
            NotFoundError: the object is no commit.
            MissingObjectError: it is not here.
            CorruptError: its bytes are not what was written.
        """
        near = self._near
        if near is not None:
            raw = bytes.fromhex(oid)
            offset = near.find(raw)
            found = near.read_small(offset) if offset is not None else None
            if found is not None and hashlib.sha1(b"commit %d\0%b" % (len(found), found), usedforsecurity=False).digest() == raw:
                return found
        kind, data = self._database.read(oid)
        if kind != COMMIT:
            raise NotFoundError(f"{oid} is not a commit", kind="not-a-commit", hint="dvc-state log")
        self._near = self._database.pack_of(oid)
        return data

    def commit(self, oid: Oid) -> RawCommit:
        """Returns a commit; raises what `data` does."""
        return decode_commit(oid, self.data(oid))

    def links(self, oid: Oid) -> CommitLinks:
        """Returns what a walk asks of a commit; raises what `data` does."""
        return CommitLinks(oid, *decode_links(oid, self.data(oid)))

"""Reading many commits in a row: each object once, from the pack that had the last one where it has the next one too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dartvc.errors import NotFoundError
from dartvc.store.objects import COMMIT, RawCommit, decode_commit, decode_links
from dartvc.store.walking import iter_topological

if TYPE_CHECKING:
    from dartvc.model import Oid
    from dartvc.store.database import ObjectDatabase
    from dartvc.store.packs import Pack

__all__ = ["CommitReader", "iter_raw_commits"]

_KEPT = 50_000


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

    def links(self, oid: Oid) -> tuple[tuple[Oid, ...], float]:
        """Returns (parents, time in seconds) of a commit; raises what `data` does."""
        return decode_links(oid, self.data(oid))


def iter_raw_commits(database: ObjectDatabase, tips: Iterable[Oid], hide: Iterable[Oid]) -> Iterator[RawCommit]:
    """Yields the commits reachable from ``tips`` and not from ``hide``, in the order of `iter_topological`.

    A walk that must see all commits before it knows the first keeps `_KEPT` of them, so that each is read once.

    Raises:
        CorruptError: a commit is damaged or gone.
    """
    data = CommitReader(database).data
    kept: dict[Oid, RawCommit] = {}

    def links(oid: Oid) -> tuple[tuple[Oid, ...], float]:
        commit = kept.get(oid)
        if commit is None:
            commit = decode_commit(oid, data(oid))
            if len(kept) < _KEPT:
                kept[oid] = commit
        return commit.parents, commit.time_s

    for oid in iter_topological(links, tips, hide):
        commit = kept.pop(oid, None)
        yield commit if commit is not None else decode_commit(oid, data(oid))

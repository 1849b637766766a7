"""Putting back refs and a HEAD that are damaged: to where the operation log knows them, the tip of a run to its newest commit that is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError
from dartvc.history.operations import RefMove
from dartvc.history.reachability import logged_commits
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store import Head

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["PutBack", "put_back"]

_BRANCHES = "refs/heads/"
_RUNS = "refs/runs/"


class PutBack(NamedTuple):
    """A ref, or HEAD, that was damaged: what it said, and what it says now; empty: it is gone, for nothing is known of it."""

    name: str
    before: str
    after: str


def put_back(repository: Repository) -> list[PutBack]:
    """Puts damaged refs and HEAD back, durably, and says so in the operation log; what is sound stays as it is.

    Raises:
        LockedError: somebody else is writing.
        StorageError: the disk refused.
    """
    refs = repository.database.refs
    with repository.database.lock():
        newest = next(repository.operations.iter_newest(), None)
        done = []
        moves = []
        for name in sorted(name for name in refs.iter_files() if not _is_sound(repository, name)):
            oid = next(_places(repository, name), None)
            done.append(PutBack(name, _text(repository, name), oid or ""))
            if oid is None:
                refs.link(name, None)
            else:
                refs.note(name, oid, is_synced=True)
            logged = next(repository.operations.iter_positions(name), None)
            if logged is not None and logged != oid:
                moves.append(RefMove(name, logged, oid))
        logged_head = newest.head_after if newest is not None else Head(None, None)
        if not _is_head_sound(repository):
            target = _head_of(repository, logged_head)
            done.append(PutBack("HEAD", _text(repository, "HEAD"), target))
            refs.set_head(target)
        head = refs.head()
        if moves or (done and head != logged_head):
            names = ", ".join(each.name for each in done)
            repository.operations.append(
                moves, operation="repair", description=f"put back {names}", session="", head_before=logged_head, head_after=head
            )
    return done


def _is_sound(repository: Repository, name: str) -> bool:
    try:
        oid = repository.database.refs.read(name)
        if oid is not None:
            repository.database.read_commit(oid)
    except DartvcError:
        return False
    return True


def _is_head_sound(repository: Repository) -> bool:
    """Whether HEAD names a commit that can be read, or a branch without one where no other branch has any."""
    refs = repository.database.refs
    try:
        head = refs.head()
        if head.oid is not None:
            repository.database.read_commit(head.oid)
    except DartvcError:
        return False
    return head.oid is not None or next(refs.iter_refs(_BRANCHES), None) is None


def _head_of(repository: Repository, logged: Head) -> str:
    """Returns where HEAD was by the log, if that is still there, else a branch."""
    refs = repository.database.refs
    branches = [name for name, _ in refs.iter_refs(_BRANCHES)]
    if logged.ref in branches:
        return str(logged.ref)
    if logged.ref is None and logged.oid is not None and (present := _readable(repository, logged.oid)) is not None:
        return present
    main = f"{_BRANCHES}main"
    return branches[0] if branches and main not in branches else main


def _places(repository: Repository, name: str) -> Iterator[Oid]:
    """Yields the commits that a ref was at and that can be read, the newest first."""
    for oid in repository.operations.iter_positions(name):
        present = _readable(repository, oid)
        if present is not None:
            yield present
    if name.startswith(_RUNS):
        tips = [oid for other, oid in repository.database.refs.iter_refs() if other != name and _is_sound(repository, other)]
        for commit in repository.iter_log([*tips, *logged_commits(repository, math.inf)]):
            if commit.run == name.removeprefix(_RUNS):
                yield commit.oid


def _readable(repository: Repository, oid: Oid) -> Oid | None:
    try:
        return repository.database.read_commit(repository.current_id(oid)).oid
    except DartvcError:
        return None


def _text(repository: Repository, name: str) -> str:
    return (repository.path / name).read_bytes()[:80].decode("utf-8", "replace").strip()

"""What a repository needs: the commits that something names, and every object below them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError, MissingObjectError
from dartvc.history.namespace import TREE_MODE
from dartvc.history.operations import COMMITTING
from dartvc.host.progress import counting
from dartvc.model import Oid

if TYPE_CHECKING:
    from dartvc.history.repository import Repository
    from dartvc.store import ObjectDatabase, RawCommit

__all__ = ["live_objects", "logged_commits", "named_commits"]

_SUBMODULE_MODE = 0o160000


def named_commits(repository: Repository) -> dict[str, Oid]:
    """Returns what every ref and HEAD name.

    Raises:
        CorruptError: a ref is damaged: what it named is not known, so nothing may be thrown away.
    """
    refs = repository.database.refs
    for name in refs.iter_files():
        refs.read(name)
    named = dict(refs.iter_refs())
    head = refs.head()
    if head.oid is not None:
        named["HEAD"] = head.oid
    return named


def logged_commits(repository: Repository, window_s: float, *, now: datetime | None = None, with_commits: bool = True) -> Iterator[Oid]:
    """Yields the commits of operations younger than the undo window, those that still exist, under the ids they have today.

    The newest operation counts whatever its age: it says where each HEAD is. Without ``with_commits`` nothing is said of operations that
    only committed: what undoing these would need.
    """
    now = now or datetime.now(UTC)
    for position, entry in enumerate(repository.operations.iter_newest()):
        if position and (now - entry.time).total_seconds() > window_s:
            return
        oids = [entry.head_after.oid] if not position else []
        if with_commits or entry.operation not in COMMITTING:
            oids += [entry.head_before.oid, entry.head_after.oid, *(oid for move in entry.moves for oid in (move.old, move.new))]
        for oid in oids:
            if oid is not None:
                try:
                    present = repository.current_id(oid)
                    if repository.database.contains(present):
                        yield present
                except DartvcError:
                    continue


def live_objects(repository: Repository, roots: Iterable[Oid]) -> set[bytes]:
    """Returns the ids (20 bytes each) of all objects reachable from commits.

    Raises:
        CorruptError: an object on the way is gone or damaged; nothing may be thrown away then.
    """
    database = repository.database
    live: set[bytes] = set()
    commits = list(dict.fromkeys(roots))
    with counting("following commits") as step:
        while commits:
            oid = commits.pop()
            raw = bytes.fromhex(oid)
            if raw in live:
                continue
            commit = database.read_commit(oid)
            live.add(raw)
            commits.extend(commit.parents)
            _add_tree(database, commit, live)
            step()
    return live


def _add_tree(database: ObjectDatabase, commit: RawCommit, live: set[bytes]) -> None:
    """Adds what is below a commit and not in ``live`` yet."""
    trees = [commit.tree]
    while trees:
        tree_oid = trees.pop()
        tree = bytes.fromhex(tree_oid)
        if tree in live:
            continue
        live.add(tree)
        for mode, entry_oid in database.read_tree(tree_oid).values():
            if mode == TREE_MODE:
                trees.append(entry_oid)
            elif mode != _SUBMODULE_MODE:
                blob = bytes.fromhex(entry_oid)
                if blob not in live and not database.contains(entry_oid):
                    raise MissingObjectError(
                        f"object {entry_oid} of commit {commit.oid} is gone", kind="missing-object", hint="dvc-state fsck"
                    )
                live.add(blob)

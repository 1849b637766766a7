"""Throwing away what nothing needs any more.

Roots are the refs, HEAD, the operations of the undo window and every commit in a young pack, so a commit that is written but not yet
named survives with all that it refers to. Packs younger than the grace period stay as they are; of older ones that hold something
dead the live objects go into new packs first. All under the repository's lock. A writer whose batch is open meanwhile may count on
objects that are thrown away: it sees the new epoch when it publishes and writes its batch again (`CommitWriter.publish`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dartvc.history.config import parse_duration_s
from dartvc.history.epoch import advance_epoch
from dartvc.history.reachability import live_objects, logged_commits, named_commits
from dartvc.model import Oid
from dartvc.store.durable import is_abandoned, storage_errors, sync_folder
from dartvc.store.merging import merge_packs
from dartvc.store.objects import COMMIT
from dartvc.store.packs import Pack

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["GcReport", "collect_garbage"]


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection did, or would do."""

    is_dry_run: bool
    live_objects: int
    dropped_objects: int
    dropped_commits: int
    kept_young_packs: int
    rewritten_packs: int
    size_before_bytes: int
    size_after_bytes: int

    @property
    def freed_bytes(self) -> int:
        """Bytes that were, or would be, given back to the disk."""
        return self.size_before_bytes - self.size_after_bytes


def collect_garbage(
    repository: Repository,
    *,
    dry_run: bool = False,
    grace_s: float | None = None,
    now_s: float | None = None,
    held: Sequence[Oid] = (),
) -> GcReport:
    """Throws away objects that neither a ref, nor HEAD, nor an operation of the undo window needs.

    Args:
        repository: where.
        dry_run: only tell.
        grace_s: packs younger than this stay; None: the setting ``dartvc.gracePeriod``.
        now_s: the time in seconds since the epoch; None: now.
        held: commits that living sessions stand at and nothing names.

    Raises:
        CorruptError: something reachable is damaged; nothing was thrown away.
        LockedError: somebody else is writing for long.
    """
    grace_s = parse_duration_s(repository.config.get("dartvc.gracePeriod")) if grace_s is None else grace_s
    window_s = parse_duration_s(repository.config.get("dartvc.undoWindow"))
    now_s = time.time() if now_s is None else now_s
    database = repository.database
    with database.lock():
        packs = list(database.iter_packs())
        young = {pack.path for pack in packs if now_s - pack.path.stat().st_mtime < grace_s}
        roots = [*named_commits(repository).values(), *logged_commits(repository, window_s), *filter(database.contains, held)]
        roots += [
            Oid(oid.hex())
            for pack in packs
            if pack.path in young
            for oid, offset in pack.index.iter_entries()
            if pack.entry(offset).kind == COMMIT
        ]
        live = live_objects(repository, roots)
        before = sum(pack.size_bytes for pack in packs)
        old = [pack for pack in packs if pack.path not in young]
        dead = {oid for pack in old for oid, _ in pack.index.iter_entries() if oid not in live}
        sparse = [pack for pack in old if any(oid in dead for oid, _ in pack.index.iter_entries())]
        commits = sum(_is_commit(packs, oid) for oid in dead)
        freed = _dead_bytes(sparse, dead)
        after = before - freed
        if not dry_run:
            if sparse:
                advance_epoch(repository.path)
                _rewrite(database.pack_folder, sparse, frozenset(dead))
            _sweep(database.pack_folder, now_s - grace_s)
            after = sum(pack.size_bytes for pack in database.iter_packs())
        return GcReport(dry_run, len(live), len(dead), commits, len(young), len(sparse), before, after)


def _is_commit(packs: Sequence[Pack], oid: bytes) -> bool:
    return any((offset := pack.find(oid)) is not None and pack.entry(offset).kind == COMMIT for pack in packs)


def _dead_bytes(packs: Sequence[Pack], dead: set[bytes]) -> int:
    total = 0
    for pack in packs:
        places = sorted((offset, oid) for oid, offset in pack.index.iter_entries())
        ends = [offset for offset, _ in places[1:]] + [pack.end]
        total += sum(end - offset for (offset, oid), end in zip(places, ends, strict=True) if oid in dead)
    return total


def _rewrite(folder: Path, packs: Sequence[Pack], dead: frozenset[bytes]) -> None:
    """Writes what lives in packs into new packs, durably, then deletes the old ones."""
    with storage_errors(folder):
        made: set[Path] = set()
        for pack in packs:
            made.update(merge_packs(folder, [pack], skip=dead))
        for pack in packs:
            if pack.index_path not in made:
                pack.index_path.unlink(missing_ok=True)  # first: a pack without an index is garbage, an index without its pack is damage
                pack.path.unlink(missing_ok=True)
        sync_folder(folder)


def _sweep(folder: Path, before_s: float) -> None:
    """Deletes what writers that died left behind."""
    for path in folder.glob("tmp_*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before_s and is_abandoned(path):
                path.unlink()

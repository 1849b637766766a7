"""gc: automatic commits thinned, what nothing needs thrown away, beside whoever lives in the repository."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dartvc.errors import RefusedError
from dartvc.history.gc import GcReport, collect_garbage
from dartvc.history.retention import Retention, plan_thinning, thin
from dartvc.model import Oid
from dartvc.sessions.journals import sweep_journals
from dartvc.sessions.registry import living_sessions

if TYPE_CHECKING:
    from dartvc.history import Repository

__all__ = ["Cleaning", "clean"]


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What a cleaning did, or would do: commits thinned, objects dropped, journals of runs and cells that nothing can go on from."""

    thinned: tuple[Oid, ...]
    report: GcReport
    journals: tuple[str, ...]


def clean(
    repository: Repository,
    retention: Retention,
    *,
    dry_run: bool = False,
    grace_s: float | None = None,
    prune_s: float | None = None,
    now_s: float | None = None,
) -> Cleaning:
    """Thins automatic commits and gives space back to the disk; sessions that live meanwhile go on from what is kept.

    Args:
        repository: which.
        retention: what of the automatic commits is kept.
        dry_run: only tell.
        grace_s: what is younger stays, even when nothing names it; None: the setting ``dartvc.gracePeriod``.
        prune_s: ``grace_s`` for a repository in which nobody works: a session counts on what it stored a moment ago.
        now_s: the time in seconds since the epoch; None: now.

    Raises:
        CorruptError: something reachable is damaged; nothing was thrown away.
        LockedError: somebody else is writing for long.
        RefusedError: a session is alive, and ``prune_s`` was given.
    """
    now_s = time.time() if now_s is None else now_s  # before the sessions are looked at: what is younger stays
    sessions = living_sessions(repository.path)
    if prune_s is not None and sessions:
        raise RefusedError(
            f"session {sessions[0].session_id} (process {sessions[0].pid}) is alive and counts on what it stored",
            kind="session-alive",
            hint="end it, or dvc-state gc without --prune",
        )
    grace_s = grace_s if prune_s is None else prune_s
    held = [each.detached_at for each in sessions if each.detached_at is not None]
    plan = (plan_thinning if dry_run else thin)(repository, retention, now_s=now_s, held=held)
    report = collect_garbage(repository, dry_run=dry_run, grace_s=grace_s, now_s=now_s, held=held)
    journals = sweep_journals(repository, dry_run=dry_run, grace_s=grace_s, now_s=now_s)
    return Cleaning(plan.dropped, report, journals)

"""gc: automatic commits thinned, what nothing needs thrown away, beside whoever lives in the repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    repository: Repository, retention: Retention, *, dry_run: bool = False, grace_s: float | None = None, now_s: float | None = None
) -> Cleaning:
    """Thins automatic commits and gives space back to the disk; sessions that live meanwhile go on from what is kept.

    Args:
        repository: which.
        retention: what of the automatic commits is kept.
        dry_run: only tell.
        grace_s: what is younger stays, even when nothing names it; None: the setting ``dartvc.gracePeriod``.
        now_s: the time in seconds since the epoch; None: now.

    Raises:
        CorruptError: something reachable is damaged; nothing was thrown away.
        LockedError: somebody else is writing for long.
    """
    held = [each.detached_at for each in living_sessions(repository.path) if each.detached_at is not None]
    plan = (plan_thinning if dry_run else thin)(repository, retention, now_s=now_s, held=held)
    report = collect_garbage(repository, dry_run=dry_run, grace_s=grace_s, now_s=now_s, held=held)
    journals = sweep_journals(repository, dry_run=dry_run, grace_s=grace_s, now_s=now_s)
    return Cleaning(plan.dropped, report, journals)

"""Thinning automatic commits. Named ones, forks, merges and whatever the undo window needs are never dropped.

Commits are immutable, so dropping one means writing its descendants anew: the same trees, messages and times with shorter parents.
What a dropped commit changed is added to the trailers of the next kept one, so that blame stays true. Refs follow, old ids still
resolve (`Replaced`), and `gc` gives the space back later. Histories that a remote has, and commits that this machine did not seal, are
left alone, with everything below them. Living sessions go on from the new ids of their commits (`BackgroundWriter`); one that stands at
a commit which nothing names would be left behind, so the caller names these.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError
from dartvc.history.config import parse_best, parse_count, parse_duration_s
from dartvc.history.operations import RefMove
from dartvc.history.reachability import logged_commits, named_commits
from dartvc.history.replaced import DROPPED
from dartvc.history.trailers import seal_payload, split_seal, with_changes
from dartvc.host.progress import track
from dartvc.model import Commit, CommitKind, Oid
from dartvc.store import Head

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["Retention", "ThinningPlan", "plan_thinning", "retention_of", "thin"]

_AUTOMATIC = frozenset({CommitKind.CELL, CommitKind.AUTO, CommitKind.CHECKPOINT, CommitKind.EXCEPTION})


@dataclass(frozen=True, slots=True)
class Retention:
    """What of the automatic commits is kept: a commit stays when any rule keeps it.

    ``best`` is (``max`` or ``min``, a name, how many): the commits with the best value of a number. ``with_undo`` keeps what undoing one commit
    after the other would need, as long as the undo window says; what other operations need is always kept.
    """

    keep_last: int = 1000
    keep_within_s: float = 7 * 86400.0
    best: tuple[str, str, int] | None = None
    with_undo: bool = True


@dataclass(frozen=True, slots=True)
class ThinningPlan:
    """Which commits would be dropped, and which would be written anew because of that (oldest first)."""

    dropped: tuple[Oid, ...]
    rewritten: tuple[Oid, ...]


def retention_of(repository: Repository) -> Retention:
    """Returns the rules of a repository's settings.

    Raises:
        UsageError: a setting is malformed.
    """
    config = repository.config
    return Retention(
        parse_count(config.get("dartvc.keepLast")),
        parse_duration_s(config.get("dartvc.keepWithin")),
        parse_best(config.get("dartvc.keepBest")),
    )


def plan_thinning(repository: Repository, retention: Retention, *, now_s: float | None = None, held: Sequence[Oid] = ()) -> ThinningPlan:
    """Returns what `thin` would do; changes nothing."""
    now_s = time.time() if now_s is None else now_s
    named = named_commits(repository)
    commits = {commit.oid: commit for commit in repository.iter_log(named.values())}  # children before parents
    children = Counter(parent for commit in commits.values() for parent in commit.parents)
    frozen = _frozen(repository, named, commits, held)
    kept = set(named.values()) | frozen
    window_s = parse_duration_s(repository.config.get("dartvc.undoWindow"))
    kept.update(logged_commits(repository, window_s, with_commits=retention.with_undo))
    for ref, tip in named.items():
        if ref.startswith("refs/heads/") or ref == "HEAD":
            kept.update(_last_automatic(commits, tip, retention.keep_last))
    if retention.best is not None:
        kept.update(_best(repository, commits.values(), *retention.best))
    dropped = {
        oid
        for oid, commit in commits.items()
        if oid not in kept
        and commit.kind in _AUTOMATIC
        and len(commit.parents) == 1
        and children[oid] == 1
        and commit.time.timestamp() < now_s - retention.keep_within_s
    }
    touched = set(dropped)
    rewritten = []
    for oid in reversed(list(commits)):
        if oid not in dropped and any(parent in touched for parent in commits[oid].parents):
            touched.add(oid)
            rewritten.append(oid)
    return ThinningPlan(tuple(oid for oid in reversed(list(commits)) if oid in dropped), tuple(rewritten))


def thin(repository: Repository, retention: Retention, *, now_s: float | None = None, held: Sequence[Oid] = ()) -> ThinningPlan:
    """Drops automatic commits by the rules; refs and a detached HEAD follow, durably and all at once.

    Args:
        repository: where.
        retention: the rules.
        now_s: the time in seconds since the epoch; None: now.
        held: commits that living sessions stand at and nothing names.

    Raises:
        RefConflictError: somebody moved a ref meanwhile; nothing was dropped.
    """
    plan = plan_thinning(repository, retention, now_s=now_s, held=held)
    if not plan.dropped:
        return plan
    with repository.database.lock():
        if plan_thinning(repository, retention, now_s=now_s, held=held) != plan:
            return thin(repository, retention, now_s=now_s, held=held)
        replaced = _write_anew(repository, plan)
        repository.replace_ids({**dict.fromkeys(plan.dropped, DROPPED), **replaced})
        moves = [RefMove(name, oid, replaced[oid]) for name, oid in repository.database.refs.iter_refs() if oid in replaced]
        head = repository.database.refs.head()
        target = Head(None, replaced[head.oid]) if head.ref is None and head.oid in replaced and head.oid is not None else None
        repository.move_refs(moves, operation="thin", description=f"dropped {len(plan.dropped)} automatic commits", head=target)
    return plan


def _frozen(repository: Repository, named: Mapping[str, Oid], commits: Mapping[Oid, Commit], held: Sequence[Oid]) -> set[Oid]:
    """Returns the commits whose ids must stay: what remotes have, what is not ours and what is held, with all ancestors."""
    roots = [*held]
    roots += [oid for name, oid in named.items() if name.startswith("refs/remotes/")]
    roots += [oid for oid in commits if not repository.is_sealed(oid)]
    frozen: set[Oid] = set()
    while roots:
        oid = roots.pop()
        if oid not in frozen and oid in commits:
            frozen.add(oid)
            roots.extend(commits[oid].parents)
    return frozen


def _last_automatic(commits: Mapping[Oid, Commit], tip: Oid, count: int) -> list[Oid]:
    found: list[Oid] = []
    oid: Oid | None = tip
    while oid is not None and oid in commits and len(found) < count:
        if commits[oid].kind in _AUTOMATIC:
            found.append(oid)
        oid = commits[oid].parents[0] if commits[oid].parents else None
    return found


def _best(repository: Repository, commits: Iterable[Commit], way: str, name: str, count: int) -> list[Oid]:
    scored = []
    for commit in commits:
        entry = repository.names(commit.oid).get(name)
        value = _number(repository.summary(entry)) if entry is not None else None
        if value is not None and value == value:
            scored.append((value, commit.oid))
    scored.sort(key=lambda pair: pair[0], reverse=way == "max")
    return [oid for _, oid in scored[:count]]


def _number(summary: Mapping[str, object]) -> float | None:
    for key in ("value", "repr"):
        value = summary.get(key)
        if isinstance(value, int | float | str):
            try:
                return float(value)
            except (ValueError, OverflowError):
                continue
    return None


def _write_anew(repository: Repository, plan: ThinningPlan) -> dict[Oid, Oid]:
    """Writes the descendants of what is dropped; returns their new ids by the old ones."""
    database = repository.database
    dropped = set(plan.dropped)
    replaced: dict[Oid, Oid] = {}
    batch = database.batch()
    try:
        for oid in track("thinning commits", plan.rewritten):
            raw = database.read_commit(oid)
            message, seal = split_seal(raw.message)
            parents = []
            for number, parent in enumerate(raw.parents):
                passed: list[Commit] = []
                while parent in dropped:
                    commit = repository.commit(parent)
                    passed.append(commit)
                    parent = commit.parents[0]
                parents.append(replaced.get(parent, parent))
                if number == 0 and passed:
                    message = with_changes(message, _merged_changes(repository.commit(oid), passed))
            ancestors = tuple(parents)
            payload = seal_payload(raw.tree, ancestors, raw.time_s, raw.utc_offset_min, message)
            text = f"{message}\nSeal: {repository.seals.seal(payload)}\n" if seal else message
            replaced[oid] = batch.add_commit(raw.tree, ancestors, text, raw.time_s, raw.utc_offset_min, repository.author())
        batch.publish()
    except (DartvcError, OSError):
        batch.abandon()
        raise
    return replaced


def _merged_changes(commit: Commit, passed: Iterable[Commit]) -> Commit:
    """Returns a commit with the changes of the dropped ones before it (newest first) folded into its own."""
    added, modified, removed = set(commit.added), set(commit.modified), set(commit.removed)
    for earlier in passed:
        for name in earlier.added:
            if name in removed:
                removed.discard(name)  # came and went
            elif name not in added:
                modified.discard(name)
                added.add(name)
        for name in earlier.modified:
            if name not in added and name not in removed:
                modified.add(name)
        for name in earlier.removed:
            if name in added:
                added.discard(name)  # went and came again
                modified.add(name)
            else:
                removed.add(name)
    return commit._replace(added=tuple(sorted(added)), modified=tuple(sorted(modified)), removed=tuple(sorted(removed)))

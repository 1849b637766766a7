"""The runs of programs, and how each stands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from dartvc.history import Repository
from dartvc.model import CommitKind, Oid
from dartvc.program.acts import Act
from dartvc.sessions.registry import living_sessions
from dartvc.sessions.runs import read_effects, run_facts

__all__ = ["RunStanding", "list_runs"]


@dataclass(frozen=True, slots=True)
class RunStanding:
    """One run: ``state`` is running, done, failed (an exception or an exit code) or crashed (killed, and not resumed to its end).

    ``error`` is the exception that ended it, ``effects`` what it had done by its newest commit that cannot be undone.
    """

    run_id: str
    state: str
    tip: Oid
    time: datetime
    command: tuple[str, ...]
    commits: int
    position: str
    exit_code: int | None
    error: str
    effects: list[Act]


def list_runs(repository: Repository) -> list[RunStanding]:
    """Returns the runs of a repository, newest first."""
    living = {each.branch for each in living_sessions(repository.path)}
    tips = {oid: name.removeprefix("refs/heads/") for name, oid in repository.database.refs.iter_refs("refs/heads/")}
    found = []
    for name, tip in repository.database.refs.iter_refs("refs/runs/"):
        commit = repository.commit(tip)
        run = run_facts(repository.summary(repository.process(tip)["run"]))
        if commit.kind is CommitKind.END:
            state = "failed" if run.exit_code else "done"
        elif commit.kind is CommitKind.EXCEPTION:
            state = "failed"
        else:
            state = "running" if tips.get(tip) in living else "crashed"
        place = commit.position
        at = f"{os.path.basename(place.file)}:{place.line}" if place is not None else ""
        count = _count(repository, tip, run.run_id)
        found.append(RunStanding(name.rpartition("/")[2], state, tip, commit.time, run.argv, count, at, run.exit_code, commit.error, read_effects(repository, tip)))
    return sorted(found, key=lambda each: each.time, reverse=True)


def _count(repository: Repository, tip: Oid, run_id: str) -> int:
    count = 0
    oid: Oid | None = tip
    while oid is not None:
        commit = repository.commit(oid)
        if commit.run != run_id:
            break
        count += 1
        oid = commit.parents[0] if commit.parents else None
    return count

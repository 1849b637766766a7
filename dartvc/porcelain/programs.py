"""The runs of programs, and how each stands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dartvc.history import Repository
from dartvc.model import CommitKind, Oid
from dartvc.sessions.registry import living_sessions
from dartvc.sessions.runs import run_facts

__all__ = ["RunStanding", "list_runs"]


@dataclass(frozen=True, slots=True)
class RunStanding:
    """One run: ``state`` is running, done, failed (an exception or an exit code) or crashed (killed, and not resumed to its end); an imported one has an ``origin``."""

    run_id: str
    state: str
    tip: Oid
    time: datetime
    command: tuple[str, ...]
    commits: int
    position: str
    exit_code: int | None
    origin: str = ""


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
        found.append(RunStanding(name.rpartition("/")[2], state, tip, commit.time, run.argv, count, at, run.exit_code))
    found += _imported_runs(repository)
    return sorted(found, key=lambda each: each.time, reverse=True)


def _imported_runs(repository: Repository) -> Iterator[RunStanding]:
    for name, tip in repository.database.refs.iter_refs("refs/logs/"):
        entry = repository.process(tip).get("run")
        facts: Any = repository.summary(entry) if entry is not None else {}
        imported = facts.get("imported")
        if imported:
            run, origin = name.rpartition("/")[2], f"{imported['tool']}:{imported['origin']}"
            shown = (str(facts.get("name") or imported["origin"]),)
            state = str(facts.get("state", "done"))
            yield RunStanding(run, state, tip, repository.commit(tip).time, shown, _count(repository, tip, run), "", None, origin)


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

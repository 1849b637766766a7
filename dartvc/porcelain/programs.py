"""The runs of programs, and how each stands."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dartvc.errors import NotFoundError
from dartvc.history import Repository
from dartvc.model import Commit, CommitKind, Oid
from dartvc.program.acts import Act
from dartvc.sessions.atomic import AtomicRun, Settled, find_atomic, is_alive, leave, open_runs, settle
from dartvc.sessions.recorded import read_effects, read_position
from dartvc.sessions.registry import living_sessions
from dartvc.sessions.runs import Run, run_facts

__all__ = ["RunStanding", "abort", "list_runs", "state_of_run"]

_INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True)
class RunStanding:
    """One run.

    Attributes:
        state: running, done, failed (an exception or an exit code), interrupted (by Ctrl-C), crashed (killed, and not resumed to its end) or
            preempted (by SIGTERM, with a commit), rolled back (atomic, and its files are as they were before it; elsewhere nothing of it ever was).
        error: the exception that ended it.
        effects: what it had done by its newest commit that cannot be undone.
        origin: where an imported run comes from.
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
    origin: str = ""


def list_runs(repository: Repository) -> list[RunStanding]:
    """Returns the runs of a repository, newest first."""
    living = _living_runs(repository)
    found = []
    for name, tip in repository.database.refs.iter_refs("refs/runs/"):
        commit = repository.commit(tip)
        run = run_facts(repository.summary(repository.process(tip)["run"]))
        state = _state(repository, commit, run, living)
        place = commit.position
        at = f"{os.path.basename(place.file)}:{place.line}" if place is not None else ""
        count = _count(repository, tip, run.run_id)
        found.append(RunStanding(name.rpartition("/")[2], state, tip, commit.time, run.argv, count, at, run.exit_code, commit.error, read_effects(repository, tip)))
    found += _imported_runs(repository)
    return sorted(found, key=lambda each: each.time, reverse=True)


def state_of_run(repository: Repository, tip: Oid) -> str:
    """Returns how the run of a commit stands, as `RunStanding` has it, if it has come no further."""
    run = run_facts(repository.summary(repository.process(tip)["run"]))
    return _state(repository, repository.commit(tip), run, _living_runs(repository))


def _living_runs(repository: Repository) -> set[str]:
    return {each.run_id for each in living_sessions(repository.path)}


def _state(repository: Repository, commit: Commit, run: Run, living: Set[str]) -> str:
    atomic = find_atomic(repository, run.run_id)
    if atomic is not None and atomic.state == "rolled back":
        return atomic.state
    if commit.kind is CommitKind.END and not run.exit_code:
        return "done"
    if atomic is None and run.is_atomic:
        return "rolled back"
    if commit.kind is CommitKind.EXCEPTION and run.exit_code == _INTERRUPTED:
        return "interrupted"
    if commit.kind in (CommitKind.END, CommitKind.EXCEPTION):
        return "failed"
    is_open = atomic is not None and atomic.state == "open" and is_alive(repository, atomic)
    if is_open or run.run_id in living:
        return "running"
    return "preempted" if commit.position is not None and read_position(repository, commit.oid).get("so_far", {}).get("preempted") else "crashed"


def _imported_runs(repository: Repository) -> Iterator[RunStanding]:
    for name, tip in repository.database.refs.iter_refs("refs/logs/"):
        entry = repository.process(tip).get("run")
        facts: Any = repository.summary(entry) if entry is not None else {}
        imported = facts.get("imported")
        if imported:
            run, origin = name.rpartition("/")[2], f"{imported['tool']}:{imported['origin']}"
            shown = (str(facts.get("name") or imported["origin"]),)
            state = str(facts.get("state", "done"))
            yield RunStanding(run, state, tip, repository.commit(tip).time, shown, _count(repository, tip, run), "", None, "", [], origin)


def abort(repository: Repository, run_id: str = "", *, is_left: bool = False) -> Settled:
    """Settles an atomic run that was killed: takes its files back, or moves its branch if it had reached its end.

    Args:
        repository: where it ran.
        run_id: the run, or how its id begins; empty: the last one that is open.
        is_left: leave its files as they are.

    Raises:
        NotFoundError: there is no such run.
        LockedError: it is still running.
    """
    run = _find_open(repository, run_id)
    return leave(repository, run) if is_left else settle(repository, run)


def _find_open(repository: Repository, run_id: str) -> AtomicRun:
    found = open_runs(repository)
    if run_id:
        ids = [name.removeprefix("refs/runs/") for name, _ in repository.database.refs.iter_refs("refs/runs/")]
        ids += [each.run_id for each in found]
        found = [run for each in dict.fromkeys(ids) if each.startswith(run_id) and (run := find_atomic(repository, each)) is not None]
        if not found:
            raise NotFoundError(f"there is no atomic run {run_id!r}", kind="no-run", hint="dvc-state runs")
    if not found:
        raise NotFoundError("no atomic run is open", kind="no-run", hint="dvc-state runs; dvc-state run --atomic SCRIPT")
    return found[-1]


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

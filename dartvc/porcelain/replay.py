"""Replays past runs with the log statements of the present files, for values that nobody logged then."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from dartvc.errors import DartvcError, NotFoundError, UsageError
from dartvc.hindsight.records import LogRecord
from dartvc.hindsight.replay.execution import Ending, Execution, Stopped, Turns
from dartvc.hindsight.replay.launching import Launcher, launcher
from dartvc.hindsight.replay.patching import PatchedProgram, PresentFiles, is_wanted, names_logged_in
from dartvc.hindsight.replay.results import (
    Earlier,
    compare,
    earlier_replay,
    found_earlier,
    keep,
    names_recorded,
    of_names,
    place_of,
    recorded_by,
)
from dartvc.hindsight.replay.skipping import Skip, find_skip
from dartvc.history import Repository
from dartvc.host.progress import track
from dartvc.model import Commit, CommitKind
from dartvc.porcelain.selecting import Selection, known_of
from dartvc.sessions.recorded import read_sources
from dartvc.sessions.runs import Run, run_here
from dartvc.sessions.surroundings import judge

__all__ = ["Replayed", "replay"]

_POLL_S = 0.05
_WORTH_CUTTING_S = 2.0
_LOOKED_AT = 8
"""Commits near a wished cut that are looked at for one where the patched program can be entered."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one run.

    Attributes:
        run: its id.
        script: the recorded path of its script, from the project's folder.
        state: ``replayed``; ``known``: an earlier replay did the same, or the run recorded the names itself; ``planned`` of a dry run;
            ``deviates``: values that were logged again are not the recorded ones; ``refused``: not replayed, or not all of it.
        names: the names that were replayed.
        records: how many values were added.
        compared: how many recorded values were logged again.
        reasons: what was refused, or how the replay deviates.
        places: where the log statements went, as ``train.py:31``.
        held: how many of these commits held already.
        processes: how many executed it.
        seconds: how long it took; of a dry run: how long its longest stretch took when it was recorded, of what commits do not hold.
    """

    run: str
    script: str
    state: str
    names: tuple[str, ...] = ()
    records: int = 0
    held: int = 0
    compared: int = 0
    reasons: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    processes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Past:
    """A recorded run: its tip, its first commit, and when that was."""

    run: Run
    tip: Commit
    first: Commit

    @property
    def took_s(self) -> float:
        return (self.tip.time - self.first.time).total_seconds()

    def commits(self, repository: Repository) -> Iterator[Commit]:
        """Yields its commits, newest first."""
        commit = self.tip
        while True:
            yield commit
            if commit.oid == self.first.oid:
                return
            commit = repository.commit(commit.parents[0])


def replay(
    repository: Repository,
    names: Sequence[str],
    revisions: Sequence[str] = (),
    *,
    read: Callable[[str], str],
    is_everything: bool = False,
    processes: int = 0,
    is_dry: bool = False,
    is_trusted: bool = False,
    where: str = "",
    sample: str = "",
    executor: str = "local",
) -> Iterator[Replayed]:
    """Replays runs, several at once, and yields what became of each, in the order in which they began.

    Args:
        repository: where.
        names: of the values that are asked for, patterns; none: all that the present files log.
        revisions: runs, by id, or by a commit of theirs.
        read: returns the present text of a script or notebook.
        is_everything: all runs whose present program logs one of the names.
        processes: how many may work at once; 0: one for each core, and a short run is left in one piece.
        is_dry: says what would be done.
        is_trusted: runs of elsewhere may be executed.
        where: a condition over parameters, recorded values and loop variables: only such runs and iterations.
        sample: so many iterations of a run, or such a share of them: ``10``, ``10%``.
        executor: where the processes are started: ``local`` or ``dask``.

    Raises:
        UsageError: neither runs nor all of them were asked for.
        NotFoundError: there is no such run, or no present program logs such a name.
    """
    if not revisions and not is_everything:
        raise UsageError("no run was named", kind="no-runs", hint="dvc-state replay NAMES --all, or dvc-state replay NAMES REV")
    pasts = _pasts(repository)
    present = PresentFiles(read, str(repository.root))
    chosen = pasts if is_everything else _chosen(repository, pasts, revisions)
    concerned = [each for each in chosen if not is_everything or _concerns(present, each.run, names)]
    if not concerned:
        what = " or ".join(names) or "anything"
        raise NotFoundError(
            f"no present program of a run logs {what}", kind="no-statement", hint=f'write dartvc.log("{what}", ...) into the script first'
        )
    selection = Selection(where, sample)
    concerned = _selected(repository, concerned, selection)
    turns, order = Turns(), _Order(tuple(names), bool(processes), is_dry, is_trusted, selection)
    count = processes or _cores()
    with launcher("local" if is_dry else executor, count) as starter, ThreadPoolExecutor(min(count, len(concerned))) as pool:
        futures = []
        rest = len(concerned) % count  # they are the last ones to be executed: each has more than one process
        for number, past in enumerate(concerned):
            share = count // rest if number >= len(concerned) - rest else 1
            one = _Replay(repository, past, pasts, present, order, turns, share, starter)
            futures.append(pool.submit(one.outcome))
        try:
            for future in track("replaying runs", futures):
                yield future.result()
        finally:
            turns.stop()


def _pasts(repository: Repository) -> list[_Past]:
    """Returns all runs, in the order in which they began."""
    found = []
    for ref, oid in repository.database.refs.iter_refs("refs/runs/"):
        run_id = ref.removeprefix("refs/runs/")
        first = tip = repository.commit(oid)
        while first.parents:
            before = repository.commit(first.parents[0])
            if before.run != run_id:
                break
            first = before
        run = run_here(repository.summary(repository.process(oid)["run"]), str(repository.root))
        found.append(_Past(run, tip, first))
    return sorted(found, key=lambda past: past.first.time)


def _chosen(repository: Repository, pasts: Sequence[_Past], revisions: Sequence[str]) -> list[_Past]:
    chosen: list[_Past] = []
    for text in revisions:
        alike = [past for past in pasts if past.run.run_id.startswith(text)]
        if not alike:
            run_id = repository.commit(repository.resolve(text)).run
            alike = [past for past in pasts if past.run.run_id == run_id]
        if not alike:
            raise NotFoundError(f"{text} is not a run, nor a commit of one", kind="unknown-run", hint="dvc-state runs")
        chosen += [past for past in alike if past not in chosen]
    return chosen


def _concerns(present: PresentFiles, run: Run, names: Sequence[str]) -> bool:
    """Whether the present program of a run logs one of the names; a script that is gone may have another name now."""
    try:
        if present.text(run.script) is None:
            return True
    except UsageError:
        return True  # what is wrong with it is told of each run
    return any(each is None or is_wanted(each, names) for each in present.names_logged(run.script, run.folder))


def _selected(repository: Repository, pasts: Sequence[_Past], selection: Selection) -> list[_Past]:
    """Returns the runs that may have something that is wanted.

    Raises:
        NotFoundError: none has.
    """

    def is_wanted_of(past: _Past) -> bool:
        recorded = list(recorded_by(repository, past.run.run_id))
        return selection.is_run_wanted(known_of(recorded), recorded)

    found = [past for past in pasts if not selection.text or is_wanted_of(past)]
    if not found:
        raise NotFoundError(f"there is no run {selection.text}", kind="no-run", hint="dvc-state runs")
    return found


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for; ``is_short_cut``: runs are cut at their commits however short they are."""

    names: tuple[str, ...]
    is_short_cut: bool
    is_dry: bool
    is_trusted: bool
    selection: Selection


class _Refused(Exception):
    """This run is not replayed; the text says why."""


class _Replay:
    """The replay of one run."""

    def __init__(
        self,
        repository: Repository,
        past: _Past,
        pasts: Sequence[_Past],
        present: PresentFiles,
        order: _Order,
        turns: Turns,
        processes: int,
        starter: Launcher,
    ) -> None:
        self.starter = starter
        self.repository = repository
        self.past = past
        self.run = past.run
        self.later = [each.run for each in pasts[pasts.index(past) :]]
        self.present = present
        self.order = order
        self.asked = order.names
        self.turns = turns
        self.processes = processes
        script = os.path.relpath(self.run.script, repository.root)
        self.outset = Replayed(self.run.run_id, script, "refused", order.names)

    def outcome(self) -> Replayed:
        """Replays it, unless that was done or cannot be done."""
        try:
            with self.turns.taken():
                self._check()
            with _one_at_a_time(self.repository.path / "runs" / self.run.run_id, self.turns), self.turns.taken():
                return self._replay()
        except _Refused as reason:
            return replace(self.outset, reasons=(str(reason),))
        except DartvcError as error:
            return replace(self.outset, reasons=(error.message,))
        except Stopped:
            return replace(self.outset, reasons=("it was stopped",))

    def _check(self) -> None:
        """Refuses what may not or cannot run here."""
        tip = self.past.tip.oid
        if not self.order.is_trusted and not self.repository.is_trusted(tip):
            raise _Refused("it was made on another machine; repeat with --trust if you know its author")
        if not self.run.script.startswith(os.path.join(str(self.repository.root), "")):
            raise _Refused(f"its script {self.run.script} lies outside of the project")
        obstacles = self._obstacles(has_position=False)
        if obstacles:
            raise _Refused("; ".join(obstacles))

    def _obstacles(self, *, has_position: bool) -> tuple[str, ...]:
        """Returns what of the run's environment forbids to execute it here, from its beginning or in the middle."""
        tip = self.past.tip.oid
        environment, sources = self.repository.environment(tip), read_sources(self.repository, tip)
        key = json.dumps([environment, sorted(sources.items()), has_position], sort_keys=True, default=str)
        return self.turns.once(key, lambda: judge(environment, sources.values(), has_position=has_position).obstacles)

    def _replay(self) -> Replayed:
        own = names_recorded(self.repository, self.run.run_id)
        program, names, reasons = self._patched(own)
        if not names:
            state = "refused" if reasons else "known"
            return replace(self.outset, state=state, reasons=tuple(reasons), names=())
        digest = _digest_of(program, names)
        outset = replace(self.outset, names=names, places=tuple(program.lines), reasons=tuple(reasons))
        earlier = earlier_replay(self.repository, self.run.run_id, digest)
        selection = self.order.selection
        if earlier is not None and (not earlier.parts or selection.text in earlier.parts):
            return replace(outset, state="refused" if reasons else "known")
        if self.order.is_dry:
            return self._planned(outset, program)
        began = time.perf_counter()
        recorded = list(recorded_by(self.repository, self.run.run_id))
        known = known_of(recorded)
        execution = self._execution(program)
        ending = self._execute(execution, names, selection.of(known))
        logged = ending.records
        found = selection.filtered(of_names(logged, names), known, is_sampled=ending.answer is None)
        comparison = compare(recorded, logged)
        self._keep(found, names, digest, ending.attachments, earlier)
        execution.forget()
        state = "refused" if reasons else "replayed"
        if comparison.different:
            state = "deviates"
            reasons.append(f"{comparison.different} of {comparison.compared} recorded values came out otherwise: {comparison.example}")
        return replace(
            outset,
            state=state,
            records=len(found),
            held=len({id(each) for each in found} & {id(each) for each in ending.held}),
            compared=comparison.compared,
            reasons=tuple(reasons),
            processes=ending.stretches,
            seconds=time.perf_counter() - began,
        )

    def _patched(self, own: frozenset[str]) -> tuple[PatchedProgram, tuple[str, ...], list[str]]:
        """Returns the recorded program with the statements that have a place in it, the names that it then logs, and what was refused."""
        sources = read_sources(self.repository, self.past.tip.oid)
        program = self.present.patch(sources, self.run.script, self.run.folder, self.asked)
        if program.problem:
            raise _Refused(program.problem)
        if any(not names for names, _ in program.refusals):
            raise _Refused("; ".join(reason for _, reason in program.refusals))
        without = {name for names, _ in program.refusals for name in names}
        reasons = [reason for names, reason in program.refusals if not names <= own]
        logged = names_logged_in(program.sources.values())
        wanted = {each for each in logged if each is not None and is_wanted(each, self.asked)}
        wanted |= {each for each in self.asked if None in logged}
        names = tuple(sorted(wanted - own - without))
        if without and names:
            program = self.present.patch(sources, self.run.script, self.run.folder, names)
        return program, names if program.edits else (), reasons

    def _keep(
        self, found: Sequence[LogRecord], names: Sequence[str], digest: str, attachments: Mapping[str, bytes], earlier: Earlier | None
    ) -> None:
        """Adds what was found to the run; what an earlier replay of the same program told of other iterations stays."""
        text = self.order.selection.text
        parts = [text] if text else []
        if text and earlier is not None:
            before, further = found_earlier(self.repository, earlier)
            new = {(each.name, place_of(each.context)) for each in found}
            found = [*(each for each in before if (each.name, place_of(each.context)) not in new), *found]
            attachments, parts = {**further, **attachments}, [*earlier.parts, text]
        keep(self.repository, self.run.run_id, found, names, digest, attachments, parts)

    def _execute(self, execution: Execution, names: Sequence[str], wanted: Selection) -> Ending:
        """Runs the patched program: in stretches, from commits, where that is faster and certain.

        Raises:
            _Refused: it does not run here, or not as it did.
        """
        skip = self._find_skip(execution, names)
        times = self.past.first.time.timestamp(), self.past.tip.time.timestamp()
        ending = skip.execute(self.repository, execution, max(self.processes, 1), *times, wanted) if skip is not None else None
        if ending is not None and ending.answer is None:
            return ending  # the program's end was not executed
        commits = self._commits_to_begin_at(execution) if ending is None else []
        ending = ending or (execution.in_stretches([each.oid for each in commits]) if commits else None)
        return self._checked(ending or execution.whole())

    def _find_skip(self, execution: Execution, names: Sequence[str]) -> Skip | None:
        """Returns how to have values from commits; None when that is not possible, or the packages here are others."""
        if self._obstacles(has_position=True):
            return None
        commits = [each for each in self.past.commits(self.repository) if each.position is not None]
        return find_skip(self.repository, self.run, execution, commits[::-1], names)

    def _planned(self, outset: Replayed, program: PatchedProgram) -> Replayed:
        """Returns what would be done: how many processes, and how long the longest stretch took when it was recorded."""
        execution = self._execution(program)
        skip = self._find_skip(execution, outset.names)
        if skip is not None:
            known = known_of(recorded_by(self.repository, self.run.run_id))
            ends = self.past.first.time.timestamp(), self.past.tip.time.timestamp()
            held = skip.planned(self.repository, *ends, self.order.selection.of(known))
            if held is not None:
                return replace(outset, state="refused" if outset.reasons else "planned", held=held[0], processes=1, seconds=held[1])
        commits = self._commits_to_begin_at(execution)
        times = [each.time for each in (self.past.first, *commits, self.past.tip)]
        longest = max((after - before).total_seconds() for before, after in pairwise(times))
        state = "refused" if outset.reasons else "planned"
        return replace(outset, state=state, processes=len(commits) + 1, seconds=longest)

    def _execution(self, program: PatchedProgram) -> Execution:
        started_s = self.past.first.time.timestamp()
        return Execution(self.repository, self.later, self.past.first.oid, started_s, program, self.turns, self.starter)

    def _commits_to_begin_at(self, execution: Execution) -> list[Commit]:
        """Returns commits that cut the run into parts that take about as long, one for each process."""
        count = self.processes
        is_short = self.past.took_s < _WORTH_CUTTING_S and not self.order.is_short_cut
        if count < 2 or is_short or self.past.tip.kind is not CommitKind.END:
            return []
        if self._obstacles(has_position=True):
            return []
        commits = [each for each in self.past.commits(self.repository) if each.position is not None]
        if not commits:
            return []
        start = commits[-1].time - self.past.first.time  # until then the program imported: each process does that, and loads a state
        start = min(start, timedelta(seconds=self.past.took_s / 2 / count))
        share = (self.past.tip.time - self.past.first.time + start * (count - 1)) / count
        chosen: list[Commit] = []
        for number in range(1, count):
            wanted = self.past.first.time + share * number - start * (number - 1)
            near = sorted(commits, key=lambda each: abs(each.time - wanted))[:_LOOKED_AT]
            found = next((each for each in near if each not in chosen and execution.can_begin(each.oid)), None)
            if found is not None:
                chosen.append(found)
        return sorted(chosen, key=lambda each: each.time)

    def _checked(self, ending: Ending) -> Ending:
        """Returns an ending that is that of the run.

        Raises:
            _Refused: it is another.
        """
        answer, code, said = ending.answer, ending.code, ending.said
        if answer is None:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise _Refused(f"the replay {how}{': ' + said if said else ''}")
        if answer.refused:
            raise _Refused(f"it would change {answer.refused[0]}, by its absolute path")
        expected = self.run.exit_code if self.past.tip.kind in (CommitKind.END, CommitKind.EXCEPTION) else 0
        if answer.exit_code != (expected or 0):
            told = f"the replay ended with exit code {answer.exit_code}, the run with {expected or 0}"
            raise _Refused(f"{told}: {answer.error or said}".rstrip(": "))
        return ending


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest_of(program: PatchedProgram, names: Sequence[str]) -> str:
    parts = json.dumps([sorted(program.sources.items()), sorted(names)])
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _one_at_a_time(folder: Path, turns: Turns) -> Iterator[None]:
    """Waits until no other process replays the same run: it then finds what that one added."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "replay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                turns.pause(_POLL_S)
        yield
    finally:
        os.close(lock)

"""The processes that execute a patched program: one from its beginning, or several, each from a commit of the run to where the next one began.

A seam between two stretches checks itself: the first record behind it is made by both, and must be the same in name, iteration and value. Where it is
not, or a place cannot be told, the answer is None, and the program is executed from its beginning.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

from dartvc.hindsight.contexts import Context
from dartvc.hindsight.loops import Loop
from dartvc.hindsight.records import LogRecord, open_state
from dartvc.hindsight.replay.finished import Finished
from dartvc.hindsight.replay.jobs import Answer, Begun, Heads, Job
from dartvc.hindsight.replay.launching import Launcher, Started
from dartvc.hindsight.replay.patching import PatchedProgram, libraries_of
from dartvc.hindsight.replay.places import Boundary, PatchedFile
from dartvc.hindsight.replay.results import are_equal, records_in
from dartvc.hindsight.replay.scratch import open_scratch
from dartvc.history import Repository
from dartvc.model import Oid
from dartvc.program.places import NotResumable
from dartvc.sessions.recorded import read_position, read_sources
from dartvc.sessions.relocation import Relocation
from dartvc.sessions.runs import Run

__all__ = ["Ending", "Execution", "Stopped", "Turns"]

_POLL_S, _LONGEST_POLL_S = 0.01, 0.1
_T = TypeVar("_T")
_ENDED = "it ended"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended.

    Attributes:
        answer: of the process that came to the end of the program; None: it ended without.
        code: the exit code of that process.
        said: the last line that it wrote to standard error.
        records: what all processes logged, in the order of execution.
        attachments: values too large for a line.
        stretches: how many processes there were.
        held: those records that commits held already.
    """

    answer: Answer | None
    code: int
    said: str
    records: tuple[LogRecord, ...]
    attachments: Mapping[str, bytes]
    stretches: int = 1
    held: Sequence[LogRecord] = ()


@dataclass
class _Stretch:
    """A process and its folder; none when it was finished before."""

    base: Path
    process: Started | None
    kept: Path
    code: int | None = None

    @property
    def said(self) -> str:
        lines = (self.base / "stderr").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def is_over(self, finished: Finished) -> bool:
        """Whether it has ended; what it found is kept then."""
        if self.code is None and self.process is not None:
            self.code = self.process.poll()
            if self.code is not None:
                answer = Answer.find(self.base)
                if answer is not None and not answer.problem and not answer.refused and answer.exit_code == 0:
                    finished.keep(self.base, self.kept)
        return self.code is not None

    def end(self) -> None:
        """Ends the process and what it started."""
        if self.process is not None:
            self.process.end()


class Turns:
    """Lets replays of several runs work by turns in one process, while the processes that they wait for work at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._made: dict[object, object] = {}

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Holds the turn."""
        with self._lock:
            yield

    @contextlib.contextmanager
    def given(self) -> Iterator[None]:
        """Gives the turn away for a while."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def once(self, key: object, make: Callable[[], _T]) -> _T:
        """Returns what was made for a key before, by the replay of another run; the caller holds the turn."""
        if key not in self._made:
            self._made[key] = make()
        return cast(_T, self._made[key])

    def stop(self) -> None:
        """Ends all that wait for processes; these are ended, too."""
        self._is_over.set()

    def pause(self, seconds: float) -> None:
        """Waits a moment.

        Raises:
            Stopped: it is over.
        """
        if self._is_over.wait(seconds):
            raise Stopped


class Stopped(Exception):
    """Somebody does not want to wait any longer."""


class Execution:
    """Executes one patched program.

    Args:
        repository: where.
        runs: the run, then those that began after it, in their order.
        first: the run's first commit.
        started_s: when it began.
        program: what to execute.
        turns: the turn, which the caller holds, is given away while processes work.
        starter: starts processes.
    """

    def __init__(
        self,
        repository: Repository,
        runs: Sequence[Run],
        first: Oid,
        started_s: float,
        program: PatchedProgram,
        turns: Turns,
        starter: Launcher,
    ) -> None:
        self._launcher = starter
        self._finished = Finished(repository.path / "runs" / runs[0].run_id, program.digest)
        self._repository = repository
        self._runs = runs
        self._first = first
        self._started_s = started_s
        self._program = program
        self._turns = turns
        self._known_files: dict[str, PatchedFile] = {}

    def whole(self) -> Ending:
        """Executes the program from its beginning."""
        with contextlib.ExitStack() as stack:
            stretch = self._start(stack, self._first)
            self._wait([stretch])
            code = stretch.code or 0
            answer = Answer.find(stretch.base)
            records = tuple(records_in(answer.lines)) if answer is not None else ()
            return Ending(answer, code, stretch.said, records, answer.attachments if answer is not None else {})

    def in_stretches(self, commits: Sequence[Oid]) -> Ending | None:
        """Executes the program from its beginning and from commits of the run at once; None when that gave no certain answer."""
        with contextlib.ExitStack() as stack:
            stretches: list[_Stretch] = []
            for oid in reversed((self._first, *commits)):
                following = tuple(str(each.base) for each in stretches)
                stretches.insert(0, self._start(stack, oid, following, behind=tuple(commits)))
            self._wait(stretches)
            answers = [(each, Answer.find(each.base)) for each in stretches]
            if any(answer is None for _, answer in answers):
                return None
            ran = [(each, answer) for each, answer in answers if answer is not None and not _has_not_begun(each)]
            if any(answer.problem for _, answer in ran):
                return None
            records = _joined([answer for _, answer in ran])
            if records is None:
                return None
            last, answer = ran[-1]
            refused = tuple(dict.fromkeys(path for _, each in ran for path in each.refused))
            seconds = max(each.seconds for _, each in ran)
            attachments = {name: content for _, each in ran for name, content in each.attachments.items()}
            whole = replace(answer, refused=refused, seconds=seconds)
            return Ending(whole, last.code or 0, last.said, tuple(records), attachments, len(ran))

    def evaluated(self, commits: Sequence[Oid], names: Sequence[str]) -> tuple[Heads, Answer] | None:
        """Executes the log statements of some names in the states of commits at the head of their loop; None when that did not come to an end."""
        with contextlib.ExitStack() as stack:
            stretch = self._start(stack, commits[0], heads=tuple(commits), names=tuple(names))
            self._wait([stretch])
            told, answer = Heads.find(stretch.base), Answer.find(stretch.base)
            return (told, answer) if told is not None and answer is not None else None

    def pieces(self, places: Sequence[tuple[Oid | None, Boundary]], processes: int) -> list[tuple[Answer, int, str]] | None:
        """Executes the program between places: from a commit (None: the beginning) to the first record behind a place (empty: the end).

        Returns of each piece its answer, the exit code of its process and the last line that it wrote to standard error; None when one failed.
        """
        done: list[tuple[Answer, int, str]] = []
        for at in range(0, len(places), max(processes, 1)):
            with contextlib.ExitStack() as stack:
                several = places[at : at + max(processes, 1)]
                stretches = [self._start(stack, oid or self._first, until=until) for oid, until in several]
                self._wait(stretches)
                for (_, until), each in zip(several, stretches, strict=True):
                    answer = Answer.find(each.base)
                    if answer is None or answer.problem or answer.refused or (until and not answer.is_stopped):
                        return None
                    done.append((answer, each.code or 0, each.said))
        return done

    def forget(self) -> None:
        """Forgets finished stretches: what they found is in the repository."""
        self._finished.clear()

    def can_begin(self, oid: Oid) -> bool:
        """Whether the patched program can be entered at a commit, as far as its position tells."""
        try:
            files = self.files()
            for file in files.values():
                file.setup()
            for frame in read_position(self._repository, oid)["frames"]:
                path = Relocation(self._runs[0].moved_from, str(self._repository.root)).path(str(frame["file"]))
                if not files[path].is_counted(files[path].place(frame)):
                    return False
        except (NotResumable, KeyError, SyntaxError, ValueError):
            return False
        return True

    def _wait(self, stretches: Sequence[_Stretch]) -> None:
        """Waits for all; one that ended without having begun is said to have a problem, for those who wait for it."""
        pause_s = _POLL_S
        with self._turns.given():
            while working := [each for each in stretches if not each.is_over(self._finished)]:
                for each in stretches:
                    if each not in working and Begun.find(each.base) is None:
                        Begun(problem=_ENDED).write(each.base)
                self._turns.pause(pause_s)
                pause_s = min(pause_s * 1.1, _LONGEST_POLL_S)

    def files(self) -> dict[str, PatchedFile]:
        """Returns the files of the program, recorded and patched, by path."""
        if not self._known_files:
            recorded = read_sources(
                self._repository, self._repository.database.refs.read(f"refs/runs/{self._runs[0].run_id}") or self._first
            )
            self._known_files = {path: self._file(path, recorded[path], text) for path, text in self._program.sources.items()}
        return self._known_files

    def _file(self, path: str, old: str, new: str) -> PatchedFile:
        passes = tuple(self._program.edits.get(path, ()))
        return self._turns.once((path, old, new, passes), lambda: PatchedFile(path, old, new, passes))

    def _start(
        self,
        stack: contextlib.ExitStack,
        oid: Oid,
        following: tuple[str, ...] = (),
        *,
        behind: tuple[Oid, ...] = (),
        until: Boundary = (),
        heads: tuple[Oid, ...] = (),
        names: tuple[str, ...] = (),
    ) -> _Stretch:
        """Lays out a scratch folder and starts a process in it, unless that was done before."""
        kept = self._finished.folder((oid, behind, [asdict(each) for each in until], heads, names))
        if (kept / "answer.json").exists():
            return _Stretch(kept, None, kept, 0)
        root, run = self._repository.root, self._runs[0]
        is_beginning = oid == self._first
        scratch = stack.enter_context(open_scratch(root.name))
        if heads:
            scratch.project.mkdir(parents=True)
        else:
            scratch.lay_out(root, self._started_s, lambda: shutil.disk_usage(scratch.base).free)
            scratch.set_back(self._repository, self._runs, None if is_beginning else oid)
        scratch.write(self._program.sources, str(root))
        Repository.init(scratch.project)  # for a program that asks for one
        moved = Relocation(str(root), str(scratch.project))
        sources = {moved.path(path): text for path, text in self._program.sources.items()}
        edits = {
            moved.path(path): [[(each.offset, each.rank, each.text) for each in insertions] for insertions in passes]
            for path, passes in self._program.edits.items()
        }
        environment = _environment(run)
        seed = environment["PYTHONHASHSEED"]
        job = Job(str(root), oid, is_beginning, str(scratch.project), sources, edits, following, until, heads, names, seed)
        libraries = libraries_of(self._program.sources.values()) if heads else None
        stretch = _Stretch(scratch.base, self._launcher.start(job.write(scratch.base), environment, libraries), kept)
        stack.callback(stretch.end)
        return stretch


def _environment(run: Run) -> dict[str, str]:
    return {"PYTHONHASHSEED": run.hash_seed or os.environ.get("PYTHONHASHSEED", "0"), "PYTHONDONTWRITEBYTECODE": "1"}


def _has_not_begun(stretch: _Stretch) -> bool:
    begun = Begun.find(stretch.base)
    return begun is not None and bool(begun.problem) and begun.problem != _ENDED


def _joined(answers: Sequence[Answer]) -> list[LogRecord] | None:
    """Returns the records of stretches, in order, each once; None when a seam does not fit."""
    joined = list(records_in(answers[-1].lines))
    for answer in reversed(answers[:-1]):
        own = list(records_in(answer.lines))
        if not answer.is_stopped:
            if joined:
                return None
            joined = own
            continue
        seam = own.pop()
        _, chain, entered = open_state(answer.lines)
        if not joined or not _is_same(seam, joined[0]):
            return None
        joined = [*own, *_renumbered(joined, chain, entered)]
    return joined


def _is_same(one: LogRecord, other: LogRecord) -> bool:
    """Whether a stretch ended with the record that the next one began with; ``while`` loops are counted anew by each."""
    chains = [
        [(each.loop, each.loop.is_for and each.iteration) for each in record.context.chain()] if record.context else []
        for record in (one, other)
    ]
    return one.name == other.name and chains[0] == chains[1] and are_equal(one.value, other.value)


def _renumbered(records: Sequence[LogRecord], chain: Sequence[Context], entered: Mapping[Loop, int]) -> list[LogRecord]:
    """Counts on from where the stretch before was how often loops were entered, and the iterations of ``while`` loops that went on.

    Args:
        records: of the stretches behind the seam, the one at the seam first.
        chain: the iterations that the stretch before left open, which are those of that record.
        entered: how often it had entered loops that stand in no other.
    """
    counts = [entered, *(each.entries or {} for each in chain)]
    first = records[0].context.chain() if records[0].context is not None else []
    ahead = [before.iteration - here.iteration for before, here in zip(chain, first, strict=False)]
    known: dict[int, tuple[Context, Context, int]] = {}  # of each context itself, its image, and its depth in the chain or -1

    def image(context: Context | None) -> tuple[Context | None, int]:
        if context is None:
            return None, 0
        found = known.get(id(context))
        if found is None:
            parent, depth = image(context.parent)
            entry, iteration, inside = context.entry, context.iteration, -1
            if depth >= 0:
                is_open = depth < len(chain) and chain[depth].loop == context.loop
                entry += max(0, counts[depth].get(context.loop, 0) - is_open)
                if is_open and context.entry == 0:
                    iteration += ahead[depth] if depth < len(ahead) else 0
                    inside = depth + 1 if iteration == chain[depth].iteration else -1
            made = Context(parent, context.loop, entry, iteration, context.values)
            found = known[id(context)] = context, made, inside
        return found[1], found[2]

    return [record._replace(context=image(record.context)[0]) for record in records]

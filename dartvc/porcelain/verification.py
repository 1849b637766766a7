"""Proof that a program can be resumed: children of it are killed, resumed, and compared with runs that nobody disturbed.

Two undisturbed runs tell what the program itself leaves to chance (clocks, ids of processes); that is named and not compared.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import RefusedError, StorageError
from dartvc.history import Repository
from dartvc.history.repository import FOLDER
from dartvc.model import Oid
from dartvc.porcelain.likeness import are_alike

__all__ = ["ENTRY", "Outcome", "Proof", "verify"]

_SIZE_LIMIT = 1 << 30
_NOT_COMPARED = frozenset({FOLDER, ".git", "__pycache__"})
ENTRY = "import sys; from dartvc.cli.entry import main; sys.exit(main())"
"""What ``python -c`` runs to be a command line of this very package."""
_POLL_S = 0.005
_MOST_WORK_AFTER_COMMIT_S = 0.5
_REPORTED = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """One killed and resumed run.

    Attributes:
        killed_s: when it was killed, seconds from its start; None: it ended before.
        place: where its last commit stood, empty when it began again from the start.
        lost_s: the work done twice, with start-up and restore, in seconds.
        differences: what was not as in an undisturbed run, the first ones; empty: exact.
    """

    killed_s: float | None
    place: str
    lost_s: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Ending:
    """What a program left behind."""

    code: int
    seconds: float
    output: bytes
    files: dict[str, bytes]
    folder: Path

    def names(self) -> dict[str, Oid | None]:
        """Returns the names of its last commit with what is stored for each."""
        repository = Repository.open(self.folder, walk_up=False)
        tip = repository.database.refs.head().oid
        return {} if tip is None else {name: entry.payload_oid for name, entry in repository.names(tip).items()}


class Proof:
    """The undisturbed runs of one program, and the killed ones beside them, in folders of their own.

    Args:
        words: the script and its arguments, relative to ``folder``.
        folder: the program's working directory; it is copied and not touched.

    Raises:
        RefusedError: the folder is too large to be copied for each run.
        StorageError: there is no room for the copies.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        size = sum(os.lstat(os.path.join(base, name)).st_size for base, _, names in _walk(folder) for name in names)
        if size > _SIZE_LIMIT:
            reason = f"{folder} holds {size >> 20} MiB, which every run would need a copy of"
            raise RefusedError(reason, kind="too-large", hint="run it from a folder that holds only the program and its data")
        self._words = tuple(words)
        self._source = folder
        self._scratch = Path(tempfile.mkdtemp(prefix="dartvc-verify-"))
        self._work = self._scratch / "work" / (folder.name or "root")
        self._environment = {**os.environ, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "random").replace("random", "0")}
        self.plain = self._undisturbed("plain")
        other = self._undisturbed("other")
        self._lines_by_chance = _changing_lines(self.plain.output, other.output)
        self.by_chance = tuple(sorted(_different_files(self.plain.files, other.files)))
        self.names_by_chance = tuple(sorted(_different_names(self.plain, other)))

    def close(self) -> None:
        """Removes the copies."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _renew(self) -> None:
        """Copies the program's folder to a place that is the same for all runs, since a program may show where it runs."""
        shutil.rmtree(self._work, ignore_errors=True)
        try:
            shutil.copytree(self._source, self._work, symlinks=True, ignore=lambda base, names: _NOT_COMPARED.intersection(names))
        except (OSError, shutil.Error) as error:
            raise StorageError(f"cannot copy {self._source}: {error}", kind="write-failed", hint="free some space in TMPDIR") from error

    def _ending(self, code: int, seconds: float, output: Path) -> _Ending:
        """Returns what the program left behind, and keeps its repository."""
        kept = self._scratch / output.stem
        kept.mkdir()
        (self._work / FOLDER).rename(kept / FOLDER)
        return _Ending(code, seconds, output.read_bytes(), _files_of(self._work), kept)

    def _start(self, verb: str, output: Path) -> subprocess.Popen[bytes]:
        words = self._words if verb == "run" else ()
        with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
            line = [sys.executable, "-c", ENTRY, verb, *words]
            return subprocess.Popen(line, cwd=self._work, env=self._environment, stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    def _undisturbed(self, name: str) -> _Ending:
        self._renew()
        output = self._scratch / f"{name}.out"
        begin = time.perf_counter()
        code = self._start("run", output).wait()
        if not (self._work / FOLDER).is_dir():
            said = output.with_suffix(".err").read_text(errors="replace").strip().splitlines()
            raise RefusedError(f"the program did not begin: {' '.join(said[-2:])}", kind="did-not-begin", hint="dvc-state run it once")
        return self._ending(code, time.perf_counter() - begin, output)

    def kill_once(self, number: int, at_s: float, after_s: float) -> Outcome:
        """Runs the program, kills it and resumes it.

        Args:
            number: of this attempt.
            at_s: when to ask for a commit, seconds from the start.
            after_s: how long it may go on after that commit before it is killed.
        """
        self._renew()
        first, second = self._scratch / f"killed-{number}.out", self._scratch / f"resumed-{number}.out"
        begin = time.perf_counter()
        process = self._start("run", first)
        place = _kill(process, self._work, begin, at_s, after_s)
        killed_s = time.perf_counter() - begin
        if process.returncode != -signal.SIGKILL:
            return Outcome(None, "", 0.0, ())
        begin = time.perf_counter()
        code = self._start("resume", second).wait()
        ending = self._ending(code, time.perf_counter() - begin, second)
        differences = list(self._differences(first.read_bytes(), ending))
        if code != self.plain.code:
            said = second.with_suffix(".err").read_text(errors="replace").strip().splitlines()
            differences[1:1] = [line for line in said if line.startswith("error:")][-1:] or said[-1:]
        return Outcome(killed_s, place, killed_s + ending.seconds - self.plain.seconds, tuple(differences[:_REPORTED]))

    def _differences(self, before: bytes, ending: _Ending) -> Iterator[str]:
        if ending.code != self.plain.code:
            yield f"the exit code is {ending.code}, not {self.plain.code}"
        wanted = self.plain.output.splitlines()
        begun = before.splitlines() if before.endswith(b"\n") else before.splitlines()[:-1]
        ended = reversed(ending.output.splitlines())
        yield from self._first_difference("before the kill", zip(itertools.count(), begun, strict=False), wanted)
        yield from self._first_difference("after the resume", zip(itertools.count(len(wanted) - 1, -1), ended, strict=False), wanted)
        if len(before) + len(ending.output) < len(self.plain.output) and not self._lines_by_chance:
            yield f"{len(self.plain.output) - len(before) - len(ending.output)} bytes of stdout are missing"
        for path in sorted(_different_files(self.plain.files, ending.files) - set(self.by_chance)):
            yield f"the file {path} is {'missing' if path not in ending.files else 'not the same'}"
        for name in sorted(_different_names(self.plain, ending) - set(self.names_by_chance)):
            yield f"the final value of {name} is not the same"

    def _first_difference(self, part: str, numbered: Iterable[tuple[int, bytes]], wanted: Sequence[bytes]) -> Iterator[str]:
        """Yields what is wrong with the first line, in the order given, that is not the one at its place."""
        for place, line in numbered:
            if not 0 <= place < len(wanted):
                yield f"stdout {part} has more lines than it should"
                return
            if line != wanted[place] and place not in self._lines_by_chance:
                yield f"stdout {part}, line {place + 1}: {_shown(line)} instead of {_shown(wanted[place])}"
                return


def verify(words: Sequence[str], folder: Path, kills: int, seed: str = "0") -> Iterator[Proof | Outcome]:
    """Yields the proof when the undisturbed runs are done, then one outcome for each kill, at random moments of the run.

    Raises:
        RefusedError: the folder is too large to be copied.
    """
    proof = Proof(words, folder)
    try:
        yield proof
        chance = random.Random(seed)
        for number in range(kills):
            at_s = chance.uniform(0.02, 0.95) * proof.plain.seconds
            yield proof.kill_once(number, at_s, chance.uniform(0, min(_MOST_WORK_AFTER_COMMIT_S, (proof.plain.seconds - at_s) / 2)))
    finally:
        proof.close()


def _kill(process: subprocess.Popen[bytes], folder: Path, begin: float, at_s: float, after_s: float) -> str:
    """Asks a run for a commit, waits for it and for a little more work, and kills it; returns where its last commit stands."""

    def wait(deadline: float, is_over: object = None) -> None:
        while process.poll() is None and time.perf_counter() < deadline:
            if callable(is_over) and is_over():
                return
            time.sleep(_POLL_S)

    refs = folder / FOLDER / "refs" / "runs"

    def stamp() -> float:
        try:
            return max((entry.stat().st_mtime_ns for entry in refs.iterdir() if not entry.name.endswith(".lock")), default=0)
        except OSError:
            return 0

    wait(begin + at_s)
    wait(begin + at_s + 30, stamp)  # its first commit: until then a signal would end it
    before = stamp()
    if process.poll() is None:
        process.send_signal(signal.SIGUSR1)
    wait(time.perf_counter() + 2.0, lambda: stamp() != before)
    wait(time.perf_counter() + after_s)
    if process.poll() is None:
        process.kill()
        process.wait()
    repository = Repository.open(folder, walk_up=False)
    tip = repository.database.refs.head().oid
    position = repository.commit(tip).position if tip is not None else None
    return f"{os.path.basename(position.file)}:{position.line} in {position.function}" if position is not None else ""


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_COMPARED]
        yield base, folders, names


def _files_of(folder: Path) -> dict[str, bytes]:
    """Returns what the files of a folder hold; a gzip file as its content, since its header holds the time."""
    import gzip

    found = {}
    for base, _, names in _walk(folder):
        for name in names:
            path = Path(base, name)
            content = path.read_bytes() if path.is_file() else b""
            if content[:2] == b"\x1f\x8b":
                try:
                    content = gzip.decompress(content)
                except (OSError, EOFError):
                    pass
            found[str(path.relative_to(folder))] = content
    return found


def _different_files(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def _changing_lines(one: bytes, other: bytes) -> frozenset[int]:
    lines = zip(one.splitlines(), other.splitlines(), strict=False)
    return frozenset(index for index, (a, b) in enumerate(lines) if a != b)


def _different_names(one: _Ending, other: _Ending) -> set[str]:
    first, second = one.names(), other.names()
    unequal = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    return {name for name in unequal if name not in first or name not in second or not _are_equal(name, one, other)}


def _are_equal(name: str, one: _Ending, other: _Ending) -> bool:
    payloads = []
    for ending in (one, other):
        repository = Repository.open(ending.folder, walk_up=False)
        tip = repository.database.refs.head().oid
        entry = repository.names(tip)[name] if tip is not None else None
        if entry is None or entry.payload_oid is None:
            return False
        payloads.append(repository.payload(entry.payload_oid))
    return are_alike(*payloads)


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return repr(text if len(text) <= 60 else text[:57] + "...")

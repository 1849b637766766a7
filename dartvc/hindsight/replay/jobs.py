"""What a replaying process is told, that it has begun, and what it answers: files in its scratch folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dartvc.hindsight.replay.places import Boundary, BoundaryFrame, BoundaryLoop

__all__ = ["UNFIT", "Answer", "Begun", "Exited", "Head", "Heads", "Job"]

_JOB, _BEGUN, _ANSWER, _RECORDS, _ATTACHED, _HEADS = "job.json", "begun.json", "answer.json", "records.jsonl", "attached", "heads.json"
_EXITED = "exited"
UNFIT = 97
"""The exit code of a process that was forked and finds that the job needs one of its own."""


@dataclass(frozen=True, slots=True)
class Job:
    """One stretch of a run to execute.

    Attributes:
        repository: the folder of the project that the repository belongs to.
        commit: where the stretch begins.
        is_beginning: that commit is the run's first: the program starts anew.
        project: the scratch copy of the project.
        sources: the patched program, by path in the scratch copy.
        edits: by path in the scratch copy, the passes of insertions (offset, rank, text) that led there from the recorded text.
        following: folders of the stretches behind this one, in their order: it ends where the first of them that could begin has begun.
        until: where it ends, its files as paths inside the project; empty: ``following`` tells.
        heads: commits at the head of a loop that hold the values of ``names`` already; nothing is executed but their log statements.
        names: see ``heads``.
        hash_seed: for the hashes of str, of the run.
    """

    repository: str
    commit: str
    is_beginning: bool
    project: str
    sources: Mapping[str, str] = field(repr=False)
    edits: Mapping[str, Sequence[Sequence[tuple[int, int, str]]]] = field(default_factory=dict, repr=False)
    following: tuple[str, ...] = ()
    until: Boundary = ()
    heads: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    hash_seed: str = ""

    def write(self, folder: Path) -> Path:
        """Writes it; returns the file."""
        path = folder / _JOB
        path.write_text(json.dumps(asdict(self)), encoding="utf-8", errors="surrogatepass")
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        """Reads one."""
        body = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
        listed = {each: tuple(body[each]) for each in ("following", "heads", "names")}
        return cls(**{**body, **listed, "until": _boundary(body["until"])})


def _boundary(frames: Sequence[Mapping[str, Any]]) -> Boundary:
    return tuple(BoundaryFrame(**{**each, "loops": tuple(BoundaryLoop(*loop) for loop in each["loops"])}) for each in frames)


@dataclass(frozen=True, slots=True)
class Begun:
    """That a stretch has begun in the middle of the program: where, its files as paths inside the project; or why it could not."""

    boundary: Boundary = ()
    problem: str = ""

    def write(self, folder: Path) -> None:
        """Writes it, once: what stands there already stays."""
        made = folder / f"{_BEGUN}.{os.getpid()}"
        made.write_text(json.dumps(asdict(self)))
        with contextlib.suppress(FileExistsError):
            os.link(made, folder / _BEGUN)

    @classmethod
    def find(cls, folder: Path) -> Begun | None:
        """Reads one; None when it is not known yet."""
        try:
            body = json.loads((folder / _BEGUN).read_text())
        except (OSError, ValueError):
            return None
        return cls(_boundary(body["boundary"]), str(body["problem"]))


@dataclass(frozen=True, slots=True)
class Head:
    """What a commit at the head of a loop told.

    Attributes:
        commit: its id.
        boundary: where it stands, its files as paths inside the project.
        left: of each loop how many iterations follow; -1: its iterator does not tell.
        records: how many of the answer's records are its own.
        problem: why it holds no values; empty when it does.
    """

    commit: str
    boundary: Boundary = ()
    left: tuple[int, ...] = ()
    records: int = 0
    problem: str = ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The iterations that its loops are in, outermost first."""
        return tuple(loop.number for frame in self.boundary for loop in frame.loops)


@dataclass(frozen=True, slots=True)
class Heads:
    """What the commits at the head of a loop told."""

    heads: tuple[Head, ...]

    def write(self, folder: Path) -> None:
        """Writes it."""
        (folder / _HEADS).write_text(json.dumps(asdict(self)))

    @classmethod
    def find(cls, folder: Path) -> Heads | None:
        """Reads it; None when it is not there."""
        try:
            body = json.loads((folder / _HEADS).read_text())
        except (OSError, ValueError):
            return None
        return cls(tuple(Head(**{**each, "boundary": _boundary(each["boundary"]), "left": tuple(each["left"])}) for each in body["heads"]))


@dataclass(frozen=True, slots=True)
class Answer:
    """How a stretch ended.

    Attributes:
        exit_code: of the program.
        error: the exception that ended it, as one line.
        refused: paths of the user's that it would have changed.
        seconds: how long the program ran.
        is_stopped: it ended at the first record behind the place where the next stretch began; that record is the last one.
        problem: why it did not begin, or cannot tell where to end.
        lines: its log records, as `dartvc.hindsight.records` writes them; empty when it logged nothing.
        attachments: values too large for a line, by name.
    """

    exit_code: int
    error: str
    refused: tuple[str, ...] = ()
    seconds: float = 0.0
    is_stopped: bool = False
    problem: str = ""
    lines: bytes = field(default=b"", repr=False)
    attachments: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def write(self, folder: Path) -> None:
        """Writes it; whoever finds the answer finds all of it."""
        (folder / _RECORDS).write_bytes(self.lines)
        attached = folder / _ATTACHED
        attached.mkdir(exist_ok=True)
        for name, content in self.attachments.items():
            (attached / name).write_bytes(content)
        body = {each: getattr(self, each) for each in ("exit_code", "error", "refused", "seconds", "is_stopped", "problem")}
        (folder / (_ANSWER + ".new")).write_text(json.dumps(body))
        (folder / (_ANSWER + ".new")).rename(folder / _ANSWER)

    @classmethod
    def find(cls, folder: Path) -> Answer | None:
        """Reads one; None when the process ended without."""
        try:
            body = json.loads((folder / _ANSWER).read_text())
        except (OSError, ValueError):
            return None
        attachments = {path.name: path.read_bytes() for path in (folder / _ATTACHED).iterdir()}
        return cls(**{**body, "refused": tuple(body["refused"])}, lines=(folder / _RECORDS).read_bytes(), attachments=attachments)


@dataclass(frozen=True, slots=True)
class Exited:
    """The exit code of a job's process, where another one than whoever asked is its parent."""

    code: int

    def write(self, folder: Path) -> None:
        """Writes it."""
        (folder / (_EXITED + ".new")).write_text(str(self.code))
        (folder / (_EXITED + ".new")).rename(folder / _EXITED)

    @classmethod
    def find(cls, folder: Path) -> Exited | None:
        """Reads it; None when it is not there yet."""
        try:
            return cls(int((folder / _EXITED).read_text()))
        except OSError:
            return None

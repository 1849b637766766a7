"""Commits inside a cell of a living shell, and what is needed to go on from one.

They hold what a run's do (`runs`): the namespace, the user's modules and the frames as one snapshot, with a position. Instead of a run they
name a cell, and hold the texts of the cells that code on the stack was defined in, for no file has them. The commit after the cell follows
them as their child; the names of frames are not in it any more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dartvc.history import Repository
from dartvc.host.entropy import new_id
from dartvc.model import Commit, CommitKind, Oid, StagedName
from dartvc.program.capture import CapturedFrame
from dartvc.program.effects import Effects, FileState
from dartvc.program.generators import GeneratorCodec
from dartvc.program.sources import UserFiles
from dartvc.sessions.recorded import LoadedRun, load_run, read_position, read_value
from dartvc.sessions.restoring import version_of
from dartvc.sessions.runs import Run, RunRecorder
from dartvc.sessions.session import Session
from dartvc.sessions.traces import Trace
from dartvc.sessions.writer import Ticket

__all__ = ["Cell", "CellRecorder", "CellText", "find_cell", "find_interrupted", "journal_of", "load_cell", "missing_locals", "read_cell", "read_cell_texts"]

_TEXTS_KEPT = 500
_ENTRY = "cells"


@dataclass(frozen=True, slots=True)
class Cell:
    """One execution of a cell.

    Attributes:
        cell_id: of its own, kept when the cell goes on in another kernel.
        number: in brackets: the shell's execution count.
        filename: under which the shell compiled it.
        code: what the user typed.
        base: the commit before it began; empty when there was none.
        project: the repository's folder.
    """

    cell_id: str
    number: int
    filename: str
    code: str
    base: str
    project: str

    @classmethod
    def begun(cls, number: int, filename: str, code: str, base: Oid | None, project: str) -> Cell:
        """Returns a cell that has just begun."""
        return cls(new_id(), number, filename, code, base or "", project)

    def described(self) -> dict[str, object]:
        """Returns it as JSON."""
        return {
            "id": self.cell_id,
            "number": self.number,
            "file": self.filename,
            "code": self.code,
            "base": self.base,
            "project": self.project,
        }


@dataclass(frozen=True, slots=True)
class CellText:
    """A cell as it was compiled: its text (magics written out), the compiler's flags, its number."""

    text: str
    flags: int
    number: int


class CellRecorder(RunRecorder):
    """Commits the cells of one session.

    Args:
        session: whose namespace is the shell's.
        folder: where the user's modules lie.
        generators: takes suspended generators apart.
    """

    def __init__(self, session: Session, folder: str, generators: GeneratorCodec) -> None:
        root = str(session.repository.root)
        run = Run("", "", (), folder, project=root)
        super().__init__(session, run, {}, Effects(session.repository.path, (str(session.repository.path),)))
        self.files = UserFiles(folder, root)
        self.texts: dict[str, CellText] = {}
        self.cell: Cell | None = None
        self._generators = generators

    def begin(self, cell: Cell) -> None:
        """Takes note of the cell that the next commits stand in."""
        self.cell = cell
        self.effects.journal = journal_of(self.session.repository, cell.cell_id)
        self.effects.journal.mkdir(parents=True, exist_ok=True)

    def learn(self, filename: str, text: CellText) -> None:
        """Takes note of a cell whose functions may be called; the oldest are forgotten."""
        self.texts[filename] = text
        while len(self.texts) > _TEXTS_KEPT:
            del self.texts[next(iter(self.texts))]

    def shown_file(self, filename: str) -> str:
        """Returns ``In[3]`` for a cell."""
        text = self.texts.get(filename)
        return f"In[{text.number}]" if text is not None else filename

    def commit(
        self,
        frames: Sequence[CapturedFrame],
        message: str,
        kind: CommitKind,
        *,
        error: str = "",
        exit_code: int | None = None,
        trace: Trace | None = None,
    ) -> Ticket | None:
        """Commits the middle of the present cell; it can be resumed from."""
        working = self.session.working
        working.generators = self._generators
        try:
            return super().commit(frames, message, kind, error=error, exit_code=exit_code, trace=trace)
        finally:
            working.generators = None
            self.session.is_dirty = True  # what only a position can bring back (a generator) is looked at again when the cell ends

    def _code(self) -> str:
        return self.cell.code if self.cell is not None else ""

    def _hooks(self) -> dict[str, object]:
        return {}  # they are the shell's

    def _files(self) -> list[FileState]:
        self.effects.advance()
        return []  # files belong to the user; writes after the commit are taken back by the journal

    def _entries(self, place: dict[str, object]) -> list[StagedName]:
        assert self.cell is not None
        frame_files = [str(each["file"]) for each in place["frames"]]  # type: ignore[attr-defined]
        texts = {name: self.texts[name] for name in (*self.texts, *frame_files) if name in self.texts}
        value = tuple((name, each.text, each.flags, each.number) for name, each in texts.items())
        wanted: dict[str, tuple[object, dict[str, object]]] = {
            "position": (None, {**place, "cell": self.cell.described()}),
            _ENTRY: (value, {"type": "cells", "numbers": [each.number for each in texts.values()]}),
        }
        return self._changed_entries({**wanted, **self._source_entries()})


def journal_of(repository: Repository, cell_id: str) -> Path:
    """Returns the folder where what a cell overwrote is kept."""
    return repository.path / "cells" / cell_id


def read_cell(repository: Repository, commit: Commit) -> Cell | None:
    """Returns the cell that a commit stands in; None when it stands in none."""
    if commit.position is None or commit.run:
        return None
    facts = read_position(repository, commit.oid).get("cell")
    if not isinstance(facts, Mapping):
        return None
    return Cell(str(facts["id"]), int(facts["number"]), str(facts["file"]), str(facts["code"]), str(facts["base"]), str(facts["project"]))


def find_cell(repository: Repository, start: Oid) -> tuple[Commit, Cell] | None:
    """Returns the newest commit at or before ``start``, in the same cell, that can be gone on from; None when there is none."""
    commit = repository.commit(start)
    first = read_cell(repository, commit)
    cell = first
    while cell is not None and first is not None and cell.cell_id == first.cell_id:
        if not missing_locals(repository, commit.oid):
            return commit, cell
        if not commit.parents:
            return None
        commit = repository.commit(commit.parents[0])
        cell = read_cell(repository, commit)
    return None


def find_interrupted(repository: Repository, start: Oid, limit: int) -> Commit | None:
    """Returns the newest commit inside a cell among ``limit`` ones from ``start`` backwards; None when there is none or that cell has ended."""
    after: Commit | None = None
    commit = repository.commit(start)
    for _ in range(limit):
        cell = read_cell(repository, commit)
        if cell is not None:
            return commit if after is None or repository.code(after.oid) != cell.code else None
        if not commit.parents:
            return None
        after, commit = commit, repository.commit(commit.parents[0])
    return None


def missing_locals(repository: Repository, oid: Oid) -> list[str]:
    """Returns what the frames of a commit held that could not be stored; names outside of them are brought back as a checkout does."""
    entries = repository.names(oid).items()
    return [name for name, entry in entries if entry.payload_oid is None and ("()" in name or name.startswith("__main__."))]


def read_cell_texts(repository: Repository, oid: Oid) -> dict[str, CellText]:
    """Returns the recorded cells by file name; the caller has checked that the commit is trusted."""
    entry = repository.process(oid).get(_ENTRY)
    rows: Any = read_value(repository, _ENTRY, entry) if entry is not None else ()
    return {str(name): CellText(str(text), int(flags), int(number)) for name, text, flags, number in rows}


def load_cell(session: Session, commit: Commit, cell: Cell, generators: GeneratorCodec) -> LoadedRun:
    """Loads everything that a commit inside a cell holds; the caller has checked that it is trusted.

    Raises:
        Unloadable: a value cannot be made here.
    """
    root = str(session.repository.root)
    run = Run("", "", (), os.getcwd(), project=root, moved_from=cell.project)
    return load_run(session.repository, commit.oid, run, session.namespace, generators, version_of)

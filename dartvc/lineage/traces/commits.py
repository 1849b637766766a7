"""The trace of a commit: its program, or the cells before it, executed over items with what the commit knows of files, settings and ways."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import NotFoundError
from dartvc.history import Repository
from dartvc.lineage.traces.expressions import Surroundings
from dartvc.lineage.traces.items import LineageItem
from dartvc.lineage.traces.paths import Paths
from dartvc.lineage.traces.slices import slice_of, slice_of_cells
from dartvc.lineage.traces.statements import Source, Ways
from dartvc.lineage.traces.tracer import Tracer
from dartvc.model import Commit, CommitKind, Oid, short
from dartvc.sessions.files import OWN, READ, WRITTEN, files_of
from dartvc.sessions.recorded import read_position, read_sources
from dartvc.sessions.relocation import relative_path
from dartvc.sessions.runs import Run, run_here
from dartvc.state.candidates import names_in_source

__all__ = ["Trace", "shown_paths", "trace_commit", "unbound"]

_WAYS_TOLD = 4
_CELLS_LIMIT = 400
_CELLS_LOOKED_AT = 20_000
_CODE_KINDS = (CommitKind.CELL, CommitKind.EXCEPTION)
_SEEDS = ("seed", "RandomState", "setstate")


@dataclass(frozen=True, slots=True)
class Trace:
    """How the names of one commit came to be.

    Attributes:
        commit: which.
        tracer: has executed the program.
        sources: the pieces of code, in the order in which they ran.
        run: the run that the commit belongs to; None for cells.
        is_cut: there were more cells than were looked at.
    """

    commit: Commit
    tracer: Tracer
    sources: tuple[Source, ...]
    run: Run | None
    is_cut: bool = False

    def item(self, name: str) -> LineageItem | None:
        """Returns the lineage of a name; None when no statement is seen to bind it."""
        return self.tracer.value(name)

    def known_item(self, name: str) -> LineageItem:
        """Returns the lineage of a name.

        Raises:
            NotFoundError: no statement is seen to bind it.
        """
        item = self.item(name)
        if item is None:
            raise unbound(name, self.commit.oid)
        return item

    def slices(self, name: str) -> dict[str, str]:
        """Returns the parts of the program that the value of a name needs, by file; a notebook's cells one after the other under ``cells.py``."""
        if self.run is None:
            return {"cells.py": slice_of_cells(self.tracer, name, self.sources)}
        return {each.file: slice_of(self.tracer, name, each) for each in self.tracer.sources.values()}


def unbound(name: str, oid: Oid) -> NotFoundError:
    """Returns the error that nothing is known of how a name came to be."""
    reason = f"no statement of the code at {short(oid)} is seen to bind {name}"
    return NotFoundError(reason, kind="no-origin", hint=f"dvc-state why {name} tells which commit wrote it")


class _Recorded:
    """The ways that a run recorded; see `dartvc.lineage.traces.paths`."""

    def __init__(self, paths: Paths) -> None:
        self.outcomes = paths.outcomes
        self._paths = paths

    def note(self, file: str, node: ast.For | ast.While | ast.AsyncFor) -> str:
        turns = self._paths.turns(file, node)
        if turns is None or not turns.executions:
            return ""  # where its function was answered it ran elsewhere
        text = f"{turns.turns:,} turns" + (f" in {turns.executions:,} executions" if turns.executions > 1 else "")
        if len(turns.paths) > 1:
            shown = [f"{each.count:,} through {_lines_text(each.lines)}" for each in turns.paths[:_WAYS_TOLD]]
            others = turns.turns - sum(each.count for each in turns.paths[:_WAYS_TOLD])
            text += f": {', '.join(shown)}" + (f", {others:,} otherwise" if others > 0 else "")
        return text


def _lines_text(lines: Sequence[int]) -> str:
    """Returns line numbers, those that follow each other together: ``4-6, 8``."""
    groups: list[list[int]] = []
    for line in lines:
        if groups and line == groups[-1][-1] + 1:
            groups[-1].append(line)
        else:
            groups.append([line])
    return ("lines " if len(lines) > 1 else "line ") + ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in groups)


class _AnyWay:
    """Knows of no way that was taken."""

    def outcomes(self, file: str, node: ast.stmt) -> frozenset[int] | None:
        return None

    def note(self, file: str, node: ast.stmt) -> str:
        return ""


def trace_commit(repository: Repository, oid: Oid, name: str) -> Trace:
    """Traces what a commit holds.

    Args:
        repository: where.
        oid: the commit.
        name: what is asked for; of a notebook's cells, those that it does not need are left out.
    """
    commit = repository.commit(oid)
    entry = repository.process(oid).get("run") if commit.run else None
    if entry is not None:
        return _trace_run(repository, commit, run_here(repository.summary(entry), str(repository.root)))
    return _trace_cells(repository, commit, name)


# -- runs ---------------------------------------------------------------------------------------------------------------------


def _trace_run(repository: Repository, commit: Commit, run: Run) -> Trace:
    texts = _texts_of(repository, commit, run)
    root = str(repository.root)
    frames = read_position(repository, commit.oid)["frames"]
    last_line = int(frames[0]["line"]) if frames else 1 << 30
    names = {relative_path(path, root): path for path in texts}
    sources = {shown: source for shown, path in names.items() if (source := _parsed(shown, texts[path])) is not None}
    script = relative_path(run.script, root)
    by_module = {module: sources[shown] for shown in sources for module in _module_names(names[shown], run.folder)}
    tracer = Tracer(_surroundings(repository, commit, run), _ways_of(repository, commit, root), by_module.get)
    main = sources.get(script, Source(script, ast.Module([], []), ()))
    main = Source(script, main.tree, main.lines, last_line)
    tracer.run(main)
    return Trace(commit, tracer, (main,), run)


def _ways_of(repository: Repository, commit: Commit, root: str) -> Ways:
    paths = Paths.read(repository, commit.oid, root)
    return _Recorded(paths) if paths else _AnyWay()


def _texts_of(repository: Repository, commit: Commit, run: Run) -> Mapping[str, str]:
    """Returns the source files of a run; those of its modules only where the commit may be loaded."""
    texts = dict(read_sources(repository, commit.oid)) if repository.is_trusted(commit.oid) else {}
    texts[run.script] = repository.code(commit.oid)
    return texts


def _parsed(shown: str, text: str) -> Source | None:
    try:
        return Source(shown, ast.parse(text), text.splitlines())
    except (SyntaxError, ValueError, RecursionError):
        return None


def _module_names(path: str, folder: str) -> tuple[str, ...]:
    """Returns the names that a file may be imported under."""
    plain = os.path.relpath(path, folder).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return (plain,) if not plain.startswith(".") else (Path(path).stem,)


def _surroundings(repository: Repository, commit: Commit, run: Run) -> Surroundings:
    """Returns what a run was given; files under every path by which its code may call them."""
    read: dict[str, str] = {}
    made: dict[str, str] = {}
    for each in files_of(repository, repository.process(commit.oid)):
        for shown in shown_paths(repository.root, each.path, run):
            if each.access in (READ, OWN):
                read.setdefault(shown, each.digest or f"{each.size} bytes of {each.modified_ns}")
            elif each.access == WRITTEN:
                made[shown] = each.path
    return Surroundings(read, made, run.arguments, run.argv)


def shown_paths(root: Path, path: str, run: Run | None) -> tuple[str, ...]:
    """Returns the paths by which code may call a file; ``path`` starts from the project's folder."""
    whole = os.path.join(root, path)
    return os.path.normpath(os.path.relpath(whole, run.cwd if run is not None else root)), os.path.normpath(whole)


# -- cells --------------------------------------------------------------------------------------------------------------------


def _trace_cells(repository: Repository, commit: Commit, name: str) -> Trace:
    cells, is_cut = _cells_behind(repository, commit, name)
    tracer = Tracer(Surroundings(), _AnyWay(), lambda _: None)
    sources = []
    for each in cells:
        source = _parsed(f"In [{each.execution}]" if each.execution is not None else each.oid[:8], _plain(repository.code(each.oid)))
        if source is not None:
            sources.append(source)
            tracer.run(source)
    return Trace(commit, tracer, tuple(sources), None, is_cut)


def _cells_behind(repository: Repository, commit: Commit, name: str) -> tuple[list[Commit], bool]:
    """Returns the cells that may have to do with a name, oldest first: those that wrote it, or what such cells mention, and those that set seeds."""
    wanted = {name.partition(".")[0]}
    found: list[Commit] = []
    present: Commit | None = commit
    for _ in range(_CELLS_LOOKED_AT):
        if present is None or len(found) >= _CELLS_LIMIT:
            break
        code = repository.code(present.oid) if present.kind in _CODE_KINDS else ""
        if code and (wanted.intersection((*present.added, *present.modified)) or any(word in code for word in _SEEDS)):
            found.append(present)
            wanted |= names_in_source(_plain(code)) or frozenset()
        present = repository.commit(present.parents[0]) if present.parents else None
    return found[::-1], present is not None


def _plain(code: str) -> str:
    """Returns a cell's code without lines of IPython's own."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())

"""Looking into a commit: its frames with what is known of their variables, what the program had done by then, and all of it loaded for a shell.

`examine` loads nothing. `load_state` runs the code of the commit's modules and classes, so the commit must be trusted; it opens no file for
writing, starts nothing and moves no ref.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.util
import io
import linecache
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from typing import Any

from dartvc.errors import UntrustedError
from dartvc.history import NameEntry, Repository
from dartvc.model import Commit, CommitKind, Oid, Omission, Summary, short
from dartvc.program.acts import Act, acts_between
from dartvc.program.capture import Reader
from dartvc.program.cells import add_cell
from dartvc.program.generators import GeneratorCodec
from dartvc.program.sources import Sources
from dartvc.sessions.cells import read_cell, read_cell_texts
from dartvc.sessions.frames import Frame, read_frames, read_trace
from dartvc.sessions.recorded import read_effects, read_sources
from dartvc.sessions.relocation import Relocation, path_of_entry
from dartvc.sessions.restoring import split_frames
from dartvc.sessions.runs import run_here
from dartvc.state.loading import Loading, Unloadable, load

__all__ = ["Examination", "LoadedFrame", "LoadedState", "acts_of", "examine", "load_state"]


@dataclass(frozen=True, slots=True)
class Examination:
    """What is known of the moment of a commit without loading it.

    Attributes:
        traceback: the text of the exception that ended the program; empty when none did.
        frames: outermost first, each with the summaries of its variables.
        acts: what the program did between the commit before and this one that cannot be undone.
        left_out: how many frames of the traceback were not kept.
    """

    traceback: str
    frames: Sequence[tuple[Frame, Mapping[str, Summary]]]
    acts: Sequence[Act]
    left_out: int = 0


def examine(repository: Repository, commit: Commit) -> Examination:
    """Returns what a commit tells of its moment."""
    trace = read_trace(repository, commit)
    entries = repository.names(commit.oid)
    frames = []
    for frame in read_frames(repository, commit):
        summaries = {local: repository.summary(entries[name]) for local, name in frame.locals.items()}
        frames.append((_with_source(repository, commit, frame), summaries))
    return Examination(trace.text if trace else "", frames, acts_of(repository, commit), trace.left_out if trace else 0)


def _with_source(repository: Repository, commit: Commit, frame: Frame) -> Frame:
    """Returns a frame of the script with its line, from the text that the commit holds in the open."""
    if frame.source or frame.module != "__main__" or not commit.run:
        return frame
    lines = repository.code(commit.oid).splitlines()
    return replace(frame, source=lines[frame.line - 1].strip()[:200] if 0 < frame.line <= len(lines) else "")


def acts_of(repository: Repository, commit: Commit) -> list[Act]:
    """Returns what a program did since the commit before."""
    if not commit.run:
        return []
    parent = commit.parents[0] if commit.parents and commit.kind is not CommitKind.START else None
    is_same_run = parent is not None and repository.commit(parent).run == commit.run
    return acts_between(read_effects(repository, parent) if parent is not None and is_same_run else (), read_effects(repository, commit.oid))


@dataclass(frozen=True, slots=True)
class LoadedFrame:
    """A frame with its variables: ``locals`` are its own, ``module`` the globals that its code sees."""

    frame: Frame
    locals: dict[str, object]
    module: dict[str, object]


@dataclass(frozen=True, slots=True)
class LoadedState:
    """A commit loaded.

    Attributes:
        title: short id and subject.
        namespace: the globals of the script or notebook; its functions are bound to it.
        frames: outermost first; empty for the end of a cell.
        omissions: what is not there, each with its reason.
        notes: what is there but not as it was.
    """

    title: str
    namespace: dict[str, object]
    frames: Sequence[LoadedFrame] = ()
    omissions: Sequence[Omission] = ()
    notes: Sequence[str] = field(default=())


def load_state(repository: Repository, oid: Oid, *, trust: bool = False, map_device: str = "") -> LoadedState:
    """Loads a commit to look into it: its namespace, the user's modules, the variables of its frames.

    The user's modules are made from the sources that the commit holds, whatever the files say now. Each value that cannot be made here is left
    out and named.

    Raises:
        UntrustedError: the commit was made elsewhere and ``trust`` is False.
    """
    if not trust and not repository.is_trusted(oid):
        raise UntrustedError(
            f"commit {short(oid)} was made on another machine; loading it would run its code",
            kind="untrusted",
            hint="repeat with --trust if you know its author",
        )
    commit = repository.commit(oid)
    moved = _relocation(repository, commit)
    namespace: dict[str, object] = {"__name__": "__main__", "__builtins__": builtins}
    sources = read_sources(repository, oid)
    notes = list(_import_modules(repository, commit, sources))
    generators = _generators(repository, commit, sources, moved)
    values: dict[str, object] = {}
    omissions: list[Omission] = []
    for payload_oid, names in _payloads(repository.names(oid)).items():
        payload = repository.payload(payload_oid)
        loading = Loading(namespace, payload, map_device)
        loading.generators, loading.located, loading.is_rehearsal = generators, moved.path, True
        try:
            loaded = load(payload.read_stream(), loading)
        except Unloadable as verdict:
            omissions.extend(Omission(name, name, verdict.reason) for name in names)
            continue
        values.update((name, loaded[name]) for name in names)
        notes.extend(note for note in loading.notes if note not in notes)
    omissions.extend(_not_stored(repository, oid))
    own, further = split_frames(commit, repository.names(oid))
    namespace.update((name, values[name]) for name in own if name in values)
    frames = [_loaded(frame, values, namespace, moved) for frame in read_frames(repository, commit)]
    of_frames = {name for each in frames for name in each.frame.locals.values()}
    for name in further:
        module, _, key = name.rpartition(".")
        if name in values and name not in of_frames and module in sys.modules and "()" not in name:
            vars(sys.modules[module])[key] = values[name]
    return LoadedState(f"{short(oid)} {commit.subject}", namespace, frames, [each for each in omissions if "._." not in each.name], notes)


def _relocation(repository: Repository, commit: Commit) -> Relocation:
    if commit.run:
        return run_here(repository.summary(repository.process(commit.oid)["run"]), str(repository.root)).relocation
    cell = read_cell(repository, commit)
    return Relocation(cell.project if cell is not None else str(repository.root), str(repository.root))


def _payloads(entries: Mapping[str, NameEntry]) -> dict[Oid, list[str]]:
    groups: dict[Oid, list[str]] = {}
    for name, entry in entries.items():
        if entry.payload_oid is not None and not name.startswith("process._."):  # handlers and hooks belong to the program's own process
            groups.setdefault(entry.payload_oid, []).append(name)
    return groups


def _not_stored(repository: Repository, oid: Oid) -> Iterator[Omission]:
    for name, entry in repository.names(oid).items():
        if entry.payload_oid is None:
            recipe = repository.recipe(entry)
            yield Omission(name, str(recipe.get("path", name)), str(recipe.get("reason", "it was not stored")))


def _loaded(frame: Frame, values: Mapping[str, object], namespace: dict[str, object], moved: Relocation) -> LoadedFrame:
    module = sys.modules.get(frame.module) if frame.module != "__main__" else None
    own = {local: values[name] for local, name in frame.locals.items() if name in values}
    shown = replace(frame, file=moved.path(frame.file), source=frame.source or linecache.getline(moved.path(frame.file), frame.line).strip())
    return LoadedFrame(shown, own, vars(module) if module is not None else namespace)


def _generators(repository: Repository, commit: Commit, sources: Mapping[str, str], moved: Relocation) -> GeneratorCodec:
    """Returns what makes the suspended generators of a commit again."""
    reader = Reader(Sources())
    for path, text in sources.items():
        try:
            reader.sources.add(path, text)
        except (SyntaxError, ValueError, RecursionError):
            continue
    for filename, cell in read_cell_texts(repository, commit.oid).items() if commit.position is not None else ():
        add_cell(reader.sources, filename, cell.text, cell.flags)
        linecache.cache[filename] = len(cell.text), None, cell.text.splitlines(keepends=True), filename
    codec = GeneratorCodec(reader)
    codec.located = moved.path
    return codec


class _Recorded(importlib.abc.SourceLoader):
    """Finds modules in the sources of a commit."""

    def __init__(self, paths: Mapping[str, str], sources: Mapping[str, str]) -> None:
        self._paths = paths
        self._sources = sources

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        """Returns the module if the commit holds its source."""
        file = self._paths.get(fullname)
        if file is None:
            return None
        folders = [os.path.dirname(file)] if os.path.basename(file) == "__init__.py" else None
        return importlib.util.spec_from_file_location(fullname, file, loader=self, submodule_search_locations=folders)

    def get_filename(self, fullname: str) -> str:
        """Returns where the file of a module would be."""
        return self._paths[fullname]

    def get_data(self, path: Any) -> bytes:
        """Returns a recorded text; there is no compiled file."""
        if path not in self._sources:
            raise OSError(path)
        return self._sources[path].encode("utf-8")


def _import_modules(repository: Repository, commit: Commit, sources: Mapping[str, str]) -> Iterator[str]:
    """Makes the user's modules from their recorded sources, in silence; yields what went wrong."""
    paths = {}
    for name, entry in repository.process(commit.oid).items():
        if name.startswith("source:"):
            path = path_of_entry(name, str(repository.root))
            paths[str(repository.summary(entry).get("module", "__main__"))] = path
            linecache.cache[path] = len(sources[path]), None, sources[path].splitlines(keepends=True), path
    folder = os.path.dirname(paths.pop("__main__", ""))
    if folder and folder not in sys.path:
        sys.path.append(folder)  # for what the program would have imported later
    with _found_first(_Recorded(paths, sources)), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for module in paths:
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:
                yield f"the module {module} cannot be imported here: {type(error).__name__}: {error}"


@contextmanager
def _found_first(finder: _Recorded) -> Iterator[None]:
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)

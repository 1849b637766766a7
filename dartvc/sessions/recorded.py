"""What a commit of a run holds, read back: where the program stood, what its frames and modules held, its sources and files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dartvc.errors import NotFoundError
from dartvc.history import Repository
from dartvc.model import Commit, CommitKind, Oid
from dartvc.model.records import NamedTuple
from dartvc.program.acts import Act, acts_between, acts_since, read_acts
from dartvc.program.capture import CapturedFrame
from dartvc.program.effects import FileState
from dartvc.program.generators import frame_at
from dartvc.sessions.relocation import path_of_entry
from dartvc.sessions.runs import EFFECTS, Run, run_here
from dartvc.sessions.traces import frame_prefixes
from dartvc.state.loading import Loading, load
from dartvc.state.strings import with_interned_keys
from dartvc.state.working import StoredVersion

__all__ = [
    "LoadedRun",
    "acts_after",
    "find_resumable",
    "load_run",
    "read_effects",
    "read_files",
    "read_modules",
    "read_position",
    "read_sequence",
    "read_sources",
    "read_value",
]


class LoadedRun(NamedTuple):
    """A commit of a run, loaded: enough to go on."""

    frames: list[CapturedFrame]
    namespace: dict[str, object]
    module_data: dict[str, dict[str, object]]
    sources: dict[str, str]
    versions: list[StoredVersion]
    values: dict[str, object]
    notes: Sequence[str] = ()

    def give_globals(self, namespace: dict[str, object]) -> None:
        """Gives the script and the user's modules the global variables that they had, in the order in which they were bound."""
        for name, data in self.module_data.items():
            if name in sys.modules:
                vars(sys.modules[name]).update(with_interned_keys(data))
        namespace.update(with_interned_keys(self.namespace))

    def set_values(self, sets: Mapping[str, str]) -> None:
        """Gives variables of the script and of the frames other values: literals, or the texts themselves."""
        import ast

        for name, text in sets.items():
            try:
                value: object = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                value = text
            if name in self.namespace:
                self.namespace[name] = value
            for frame in self.frames:
                if name in frame.values:
                    frame.values[name] = value
                if name in frame.cells:
                    frame.cells[name].cell_contents = value


def find_resumable(repository: Repository, start: Oid) -> tuple[Commit, Run]:
    """Returns the newest commit at or before ``start`` that a run can go on from, and the run.

    Raises:
        NotFoundError: no run stands before it.
    """
    oid: Oid | None = start
    run_id = ""
    while oid is not None:
        commit = repository.commit(oid, with_refs=False)
        if run_id and commit.run != run_id:
            break
        if commit.run:
            run_id = commit.run
            is_whole = commit.position is not None and not _has_omissions(repository, commit)
            if is_whole or commit.kind is CommitKind.START:
                return commit, run_here(repository.summary(repository.process(oid)["run"]), str(repository.root))
        oid = commit.parents[0] if commit.parents else None
    raise NotFoundError(f"there is no run to resume at {start[:8]}", kind="no-run", hint="dvc-state runs")


def _has_omissions(repository: Repository, commit: Commit) -> bool:
    return any(entry.payload_oid is None for entry in repository.names(commit.oid).values())


def read_position(repository: Repository, oid: Oid) -> dict[str, Any]:
    """Returns the recorded frames of a commit."""
    entry = repository.process(oid).get("position")
    return dict(repository.summary(entry)) if entry is not None else {"frames": [], "sequence": 0}


def read_sequence(repository: Repository, oid: Oid) -> int:
    """Returns the number that the run's journal of files gives to a commit."""
    return int(read_position(repository, oid)["sequence"])


def read_effects(repository: Repository, oid: Oid) -> list[Act]:
    """Returns what a run had done outside of its memory when a commit was made."""
    entry = repository.process(oid).get(EFFECTS)
    return read_acts(repository.summary(entry)) if entry is not None else []


def acts_after(repository: Repository, commit: Commit) -> list[Act]:
    """Returns what a run did after a commit of it, as far as the run's later commits, or its journal on this machine, know."""
    found = {(act.kind, act.what): act for act in acts_since(repository.path / "runs" / commit.run, read_sequence(repository, commit.oid))}
    tip = repository.database.refs.read(f"refs/runs/{commit.run}")
    if tip is not None and tip != commit.oid:
        for act in acts_between(read_effects(repository, commit.oid), read_effects(repository, tip)):
            known = found.get((act.kind, act.what))
            found[act.kind, act.what] = act if known is None or known.times < act.times else known
    return list(found.values())


def read_sources(repository: Repository, oid: Oid) -> dict[str, str]:
    """Returns the source files of a run, by path."""
    sources = {}
    for name, entry in repository.process(oid).items():
        if name.startswith("source:"):
            sources[path_of_entry(name, str(repository.root))] = read_value(repository, name, entry)
    return sources


def read_files(repository: Repository, oid: Oid) -> list[FileState]:
    """Returns what the files that a run wrote were at a commit."""
    files = []
    for name, entry in repository.process(oid).items():
        if name.startswith("file:"):
            size, content = read_value(repository, name, entry)
            files.append(FileState(path_of_entry(name, str(repository.root)), size, content))
    return files


def read_modules(repository: Repository, oid: Oid) -> list[str]:
    """Returns the names of the user's modules that a run had imported."""
    entries = [entry for name, entry in repository.process(oid).items() if name.startswith("source:")]
    names = [str(repository.summary(entry).get("module", "__main__")) for entry in entries]
    return [name for name in names if name != "__main__"]


def read_value(repository: Repository, name: str, entry: Any) -> Any:
    """Returns the value of an entry of a commit's process; the caller has checked that it is trusted."""
    payload = repository.payload(entry.payload_oid)
    return load(payload.read_stream(), Loading({}, payload))[name]


def load_run(
    repository: Repository,
    oid: Oid,
    run: Run,
    namespace: dict[str, object],
    generators: Any,
    version_of: Any,
    map_device: str = "",
    *,
    known: dict[Oid, dict[str, object]] | None = None,
    is_needed: Callable[[Sequence[str], int], bool] = lambda names, size_bytes: True,
) -> LoadedRun:
    """Loads everything that a commit of a run holds; the caller has checked that it is trusted.

    Args:
        known: payloads that are loaded already, by their ids; what is loaded is added.
        is_needed: whether to load what some names have in common, of a size.

    Raises:
        Unloadable: a value cannot be made here.
    """
    place = read_position(repository, oid)
    generators.located = run.relocation.path
    values: dict[str, object] = {}
    versions = []
    notes: dict[str, None] = {}
    entries = repository.names(oid)
    by_payload: dict[Oid, list[str]] = {}
    for name, entry in entries.items():
        if entry.payload_oid is not None:
            by_payload.setdefault(entry.payload_oid, []).append(name)
    for payload_oid, names in by_payload.items():
        loaded = known.get(payload_oid) if known is not None else None
        if loaded is not None and loaded.keys() >= set(names):
            values.update((name, loaded[name]) for name in names)
            continue
        payload = repository.payload(payload_oid)
        if not is_needed(names, payload.size_bytes):
            continue
        stream = payload.read_stream()
        loading = Loading(namespace, payload, map_device)
        loading.generators = generators
        loading.located = run.relocation.path
        loaded = load(stream, loading)
        values.update((name, loaded[name]) for name in names)
        versions.append(version_of(tuple(names), payload, stream))
        notes.update(dict.fromkeys(loading.notes))
        if known is not None:
            known[payload_oid] = loaded
    frames = _frames_of([{**each, "file": run.relocation.path(each["file"])} for each in place["frames"]], values)
    own, modules = _split_names(_in_order(repository, oid, entries), values)
    return LoadedRun(frames, own, modules, read_sources(repository, oid), versions, values, tuple(notes))


def _in_order(repository: Repository, oid: Oid, entries: Mapping[str, object]) -> list[str]:
    """Returns the names of a snapshot, the script's globals in the order in which they were bound."""
    recorded = repository.process(oid).get("order")
    order = list(repository.summary(recorded)["names"]) if recorded is not None else []  # type: ignore[call-overload]
    return list(dict.fromkeys([*(name for name in order if name in entries), *entries]))


def _frames_of(places: Sequence[Mapping[str, Any]], values: Mapping[str, object]) -> list[CapturedFrame]:
    bare = [frame_at(place, {}, {}, []) for place in places]
    for frame, prefix in zip(bare, frame_prefixes([frame.qualname for frame in bare]), strict=True):
        start = f"{prefix}."
        for name, value in values.items():
            if not name.startswith(start):
                continue
            part = name.removeprefix(start)
            if part.startswith("_.cell."):
                frame.cells[part.removeprefix("_.cell.")] = value  # type: ignore[assignment]
            elif part == "_.coroutine":
                frame.coroutine = value
            elif not part.startswith("_.") and "." not in part:
                frame.values[part] = value
        for name in frame.cells:
            frame.values.pop(name, None)
        index = 0
        while f"{start}_.{index}" in values:
            frame.stack.append(values[f"{start}_.{index}"])
            index += 1
    return bare


def _split_names(entries: Sequence[str], values: Mapping[str, object]) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    """Splits the names of a snapshot into the script's own globals and those of the user's modules."""
    own: dict[str, object] = {}
    modules: dict[str, dict[str, object]] = {}
    for name in entries:
        if name not in values:
            continue
        if "." not in name:
            own[name] = values[name]
        elif "()" not in name and "._." not in name:
            module, _, key = name.rpartition(".")
            modules.setdefault(module, {})[key] = values[name]
    return own, modules

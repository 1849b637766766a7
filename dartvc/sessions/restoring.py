"""Bringing a namespace to the state of a commit: only what differs, all of it or nothing.

`plan` compares two commits by payload ids; `Restore.prepare` loads and checks everything that differs while the namespace is still
untouched; `Restore.apply` switches. Of arrays whose structure did not change only the chunks that differ are written, in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dartvc.model import Commit, Digest, Oid, Omission, RestoreReport
from dartvc.model.records import NamedTuple
from dartvc.state.chunking import ANCHOR_BYTES, StreamChunk
from dartvc.state.loading import Loading, Unloadable, load
from dartvc.state.process import apply_process
from dartvc.state.working import StoredVersion, WorkingNamespace

if TYPE_CHECKING:
    from dartvc.history import NameEntry, Repository
    from dartvc.history.payloads import StoredPayload

__all__ = ["Plan", "Restore", "load_names", "plan_restore", "split_frames", "version_of"]


class Plan(NamedTuple):
    """What a restore has to do: payloads to load with their names, names to make again, names to delete, names that stay."""

    payloads: Mapping[Oid, tuple[str, ...]]
    recipes: Mapping[str, NameEntry]
    removed: tuple[str, ...]
    kept: tuple[str, ...]


def plan_restore(
    live: Mapping[str, NameEntry], target: Mapping[str, NameEntry], names: Sequence[str] | None, removed: Sequence[str] = ()
) -> Plan:
    """Compares what the namespace holds with what it should hold, by the ids of the stored payloads; of ``names`` alone only ``removed`` go."""
    wanted = target if names is None else {name: target[name] for name in names if name in target}
    payloads: dict[Oid, list[str]] = {}
    recipes: dict[str, NameEntry] = {}
    kept = []
    for name, entry in wanted.items():
        present = live.get(name)
        if present is not None and present.payload_oid == entry.payload_oid and present.recipe_oid == entry.recipe_oid:
            kept.append(name)
        elif entry.payload_oid is None:
            recipes[name] = entry
        else:
            payloads.setdefault(entry.payload_oid, []).append(name)
    by_payload = {oid: tuple(name for name, entry in target.items() if entry.payload_oid == oid) for oid in payloads}
    gone = tuple(name for name in live if (name not in target if names is None else name in removed))
    return Plan(by_payload, recipes, gone, tuple(name for name in kept if not any(name in group for group in by_payload.values())))


def split_frames(commit: Commit, target: Mapping[str, NameEntry]) -> tuple[dict[str, NameEntry], tuple[str, ...]]:
    """Splits what a commit of a program holds into the names of its namespace and those of frames and other modules.

    Only a resume, or a shell, brings the latter back. Of other commits every name is one of the namespace.
    """
    if not commit.run and commit.position is None:
        return dict(target), ()
    return {name: entry for name, entry in target.items() if "." not in name}, tuple(name for name in target if "." in name)


def load_names(
    repository: Repository, entries: Mapping[str, NameEntry], namespace: dict[str, object], map_device: str = ""
) -> dict[str, object]:
    """Loads names into a new dict; functions are bound to ``namespace``. Names without a payload, or a plan that makes it, are left out.

    Raises:
        Unloadable: a value cannot be made here.
    """
    from dartvc.sessions.rebuilding import plan_of, rebuild

    loaded: dict[str, object] = {}
    for oid in dict.fromkeys(entry.payload_oid for entry in entries.values()):
        if oid is not None:
            payload = repository.payload(oid)
            loaded.update(load(payload.read_stream(), Loading(namespace, payload, map_device)))
    recipes = {name: repository.recipe(entry) for name, entry in entries.items() if entry.payload_oid is None}
    for plan in {plan for recipe in recipes.values() if (plan := plan_of(recipe)) is not None}:
        done = rebuild(repository, plan, [name for name, recipe in recipes.items() if plan_of(recipe) == plan], namespace)
        wrong = {omission.name for omission in done.omissions}
        loaded.update((name, value) for name, value in done.values.items() if name not in wrong)
    return {name: value for name, value in loaded.items() if name in entries}


class _Patch:
    """Chunks to copy into living memory: (where, bytes)."""

    def __init__(self) -> None:
        self.writes: list[tuple[memoryview, bytes]] = []


class Restore:
    """One restore of one namespace.

    Args:
        repository: where the commit is.
        working: the namespace.
        plan: what to do.
        is_whole: whether HEAD goes to that commit, too; else what comes back is for the next commit to record.
        map_device: where tensors go that were on a graphics processor.
    """

    def __init__(
        self, repository: Repository, working: WorkingNamespace, plan: Plan, *, is_whole: bool = True, map_device: str = ""
    ) -> None:
        self._repository = repository
        self._working = working
        self._plan = plan
        self._is_whole = is_whole
        self._map_device = map_device
        self._values: dict[str, object] = {}
        self._versions: list[StoredVersion] = []
        self._twins: dict[tuple[str, ...], Callable[[], Mapping[str, object]]] = {}
        self._patches: list[_Patch] = []
        self._patched: list[str] = []
        self._omissions: list[Omission] = []
        self._recomputed: list[str] = []
        self._unstorable: dict[Omission, Mapping[str, object]] = {}
        self.read_bytes = 0

    def prepare(self) -> None:
        """Loads everything that differs; the namespace is not touched."""
        from dartvc.sessions.rebuilding import plan_of, rebuild

        for oid, names in self._plan.payloads.items():
            payload = self._repository.payload(oid)
            stream = payload.read_stream()
            version = version_of(names, payload, stream)
            patch = self._patch_for(version, payload, stream)
            if patch is not None:
                self._patches.append(patch)
                self._patched.extend(names)
                self._versions.append(version)
                continue
            try:
                loading, loaded = self._load(payload, stream)
            except Unloadable as verdict:
                self._omissions.extend(Omission(name, name, verdict.reason) for name in names)
                continue
            self.read_bytes += len(stream) + sum(payload.buffer_size(index) for index in range(payload.buffer_count))
            self._omissions.extend(Omission(names[0], names[0], note, "restored, but not as it was") for note in loading.notes)
            self._values.update((name, value) for name, value in loaded.items() if name in names)
            self._versions.append(version)
            self._twins[version.names] = partial(self._twin, payload, names)
        planned: dict[Oid, set[str]] = {}
        for name, entry in self._plan.recipes.items():
            plan = plan_of(self._repository.recipe(entry))
            if plan is not None:
                planned.setdefault(plan, set()).add(name)
            else:
                self._recompute(name, entry)
        for plan, wanted in planned.items():
            done = rebuild(self._repository, plan, wanted, self._working.namespace)
            self._values.update(done.values)
            self._recomputed.extend(done.values)
            self._omissions.extend(done.omissions)

    def _load(self, payload: StoredPayload, stream: bytes) -> tuple[Loading, dict[str, object]]:
        loading = Loading(self._working.namespace, payload, self._map_device)
        loading.generators = self._working.generators
        return loading, load(stream, loading)

    def _twin(self, payload: StoredPayload, names: Sequence[str]) -> dict[str, object]:
        """Loads a co-variable once more, beside the one that the namespace has."""
        loaded = self._load(payload, payload.read_stream())[1]
        return {name: loaded[name] for name in names}

    def _recompute(self, name: str, entry: NameEntry) -> None:
        from dartvc.sessions.recompute import recompute

        recipe = self._repository.recipe(entry)
        outcome = recompute(self._repository, name, recipe, self._working.namespace)
        if isinstance(outcome, Omission):
            self._omissions.append(outcome)
            return
        self._values[name] = outcome[0]
        self._recomputed.append(name)
        path, reason, remedy = (str(recipe.get(key, "")) for key in ("path", "reason", "remedy"))
        self._unstorable[Omission(name, path, reason, remedy, recomputable=True)] = recipe
        before, after = self._repository.summary(entry), self._working.summarize(outcome[0])
        if dict(before) != dict(after):
            self._omissions.append(
                Omission(name, name, "recomputed, but it differs from what was committed", "check it before you rely on it")
            )

    def _patch_for(self, version: StoredVersion, payload: StoredPayload, stream: bytes) -> _Patch | None:
        """Fast path: the same objects with other contents. Returns the chunks to write, None when the values must be loaded.

        The living values are pickled again (arrays cost nothing there, their memory stays where it is); only when that gives the
        very stream of the target are buffers paired by position, and only plain arrays are written in place.
        """
        namespace = self._working.namespace
        live = self._working.stored(version.names[0])
        if live is None or live.names != version.names or not version.buffers or live.stream != version.stream:
            return None
        if not all(_is_plain(namespace.get(name)) for name in version.names):
            return None
        saved = self._working.pickled(version.names)
        if saved is None or saved.stream != stream or not saved.is_in_place or any(buffer.readonly for buffer in saved.buffers):
            return None
        patch = _Patch()
        step = payload.chunk_bytes
        for index, (target, present) in enumerate(zip(version.buffers, live.buffers, strict=True)):
            at = 0
            for chunk, wanted, had in zip(payload.buffers[index], target, present, strict=True):
                size = min(len(saved.buffers[index]) - at, step)
                if wanted != had:
                    content = bytearray(size)
                    payload.read_chunk_into(chunk, memoryview(content))
                    patch.writes.append((saved.buffers[index][at : at + size], bytes(content)))
                    self.read_bytes += size
                at += size
        return patch

    def apply(self, process: Mapping[str, Any] | None) -> RestoreReport:
        """Switches the namespace to what was prepared; nothing here can fail half-way."""
        namespace = self._working.namespace
        for patch in self._patches:
            for memory, content in patch.writes:
                memory[:] = content
        namespace.update(self._values)
        for name in self._plan.removed:
            namespace.pop(name, None)
        lost = [omission.name for omission in self._omissions if omission.name not in self._values and omission.name in namespace]
        for name in lost:
            if name in self._plan.recipes or any(name in names for names in self._plan.payloads.values()):
                namespace.pop(name, None)
        self._note(lost)
        if process is not None:
            self._omissions.extend(apply_process(process))
        written = (*self._patched, *(name for name in self._values if name not in self._recomputed))
        return RestoreReport(written, tuple(self._recomputed), self._plan.removed, self._plan.kept, tuple(self._omissions), self.read_bytes)

    def _note(self, lost: Sequence[str]) -> None:
        """Tells the namespace what of it is stored now: all that came back where HEAD has it, too."""
        if not self._is_whole:
            self._working.touch([*self._patched, *self._values], {omission.name: recipe for omission, recipe in self._unstorable.items()})
            return
        self._working.forget([*self._plan.removed, *lost, *self._recomputed])
        for omission in self._unstorable:
            self._working.adopt_omitted(omission)
        for version in self._versions:
            self._working.adopt(version, self._twins.get(version.names))


def _is_plain(value: object) -> bool:
    """Whether a value is an array, a tensor, or a plain container of such: nothing that keeps derived state beside its memory."""
    kind = type(value)
    if kind.__module__ in ("numpy", "torch"):
        return kind.__name__ in ("ndarray", "Tensor")
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return len(value) <= 1000 and all(_is_plain_leaf(item) for item in value)
    if kind is dict and isinstance(value, dict):
        return len(value) <= 1000 and all(_is_plain_leaf(item) for item in value.values())
    return _is_plain_leaf(value)


def _is_plain_leaf(value: object) -> bool:
    kind = type(value)
    return kind in (int, float, bool, str, bytes, type(None)) or (
        kind.__module__ in ("numpy", "torch") and kind.__name__ in ("ndarray", "Tensor")
    )


def version_of(names: tuple[str, ...], payload: StoredPayload, stream: bytes) -> StoredVersion:
    """Returns what is stored of a co-variable, from its payload and the stream that was read of it."""
    chunks, at = [], 0
    for chunk in payload.stream_chunks:
        size = payload.chunk_size(chunk)
        chunks.append(StreamChunk(Digest(chunk.digest), size, stream[at : at + min(size, ANCHOR_BYTES)]))
        at += size
    return StoredVersion(names, tuple(chunks), tuple(tuple(Digest(chunk.digest) for chunk in chunks) for chunks in payload.buffers))

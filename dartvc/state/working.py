"""The namespace of a living program, and what of it the repository has already.

`WorkingNamespace.stage` looks at the names that could have been touched, compares them by content with what was staged last, and
returns copies of what differs. Content is compared by digest: the whole pickled stream, and every chunk of every buffer.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType

from xxhash import xxh3_128_digest

from dartvc.errors import DartvcError
from dartvc.host.threads import Helper
from dartvc.model import Digest, Omission, Payload, StagedName, Summary
from dartvc.model.records import NamedTuple
from dartvc.state.adapters.guarded import is_proven, try_in_child
from dartvc.state.candidates import is_hidden, touched_names
from dartvc.state.chunking import StreamChunk, chunk_buffer, digest_buffers, match_stream
from dartvc.state.copies import CopyPool
from dartvc.state.covariables import ATOMIC_TYPES, group_by_sharing
from dartvc.state.loading import LiveBuffers, Loading, Unloadable, load
from dartvc.state.members import SMALL_STREAM_BYTES, digest_members, digest_summaries, unchanged_members
from dartvc.state.saving import GeneratorCodec, Refusal, Saved, Saving, UserCodeMet, note_identities, save

__all__ = ["NamespaceDelta", "StoredVersion", "WorkingNamespace", "describe"]

_NO_FOREIGN = b"\0\0\0\0"
_SMALL_ATOM_BYTES = 4096


class StoredVersion(NamedTuple):
    """What of a co-variable is in the repository: enough to tell whether it changed, and to find the chunks that did not."""

    names: tuple[str, ...]
    stream: tuple[StreamChunk, ...]
    buffers: tuple[tuple[Digest, ...], ...]
    global_names: frozenset[str] = frozenset()
    omission: Omission | None = None
    live: bytes | None = None
    """Digest of what the living values pickle to, where that is not the stored stream: loaded strings are other objects than those that
    were saved, so the same state has another pickle."""
    small: bytes = b""
    """The living values' stream, where it is short: read for `members` when they are asked for."""
    members: Mapping[str, bytes] = {}
    """Digests of what each name leads to."""

    def digest_of(self, name: str) -> bytes | None:
        """Returns the digest of what a name leads to, None where it is not known."""
        members = digest_members(self.small, self.buffers) if self.small and not self.members else self.members
        return members.get(name)


class NamespaceDelta(NamedTuple):
    """The difference between the living namespace and what was staged last."""

    changed: tuple[StagedName, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rebound: frozenset[str] = frozenset()

    @property
    def omissions(self) -> tuple[Omission, ...]:
        """The names that could not be stored."""
        return tuple(staged.omission for staged in self.changed if staged.omission is not None)

    def without_touched_omissions(self) -> NamespaceDelta:
        """Leaves out names that could not be stored before either: nothing ran that could have touched them."""
        made = self.rebound
        return self._replace(changed=tuple(each for each in self.changed if each.omission is None or each.name in made))

    def __bool__(self) -> bool:
        return bool(self.changed) or any("." not in name for name in self.removed)  # locals of frames are over whenever code is


class WorkingNamespace:
    """The names of a program and their stored versions.

    Args:
        namespace: the living namespace, an exact dict for functions to be bound to it.
        summarize: describes a value to people; must be cheap and must not run the user's code.
        helper: a thread that shares the hashing of large buffers.
    """

    def __init__(self, namespace: dict[str, object], summarize: Callable[[object], Summary], helper: Helper | None = None) -> None:
        self.namespace = namespace
        self.summarize = summarize
        self.helper = helper
        self._copies = CopyPool()
        self._keep: Callable[[memoryview], bytes | memoryview] = self._copies.copy
        self.main_name = str(namespace.get("__name__", "__main__"))
        self._stored: dict[str, StoredVersion] = {}
        self._ids: dict[str, int] = {}
        self._touched: dict[str, Mapping[str, object]] = {}
        self._hidden: set[str] = set()
        self.generators: GeneratorCodec | None = None
        self.plain_code: Callable[[CodeType], CodeType] | None = None
        """Gives for code that is watched what the user wrote."""
        self.keeps_strings = False
        """Whether to record which strings are interned (a run, whose files must come out the same to the byte)."""
        self._view: Mapping[str, object] = namespace

    def names(self) -> list[str]:
        """Returns the names of the program itself, in the namespace's order."""
        return [
            name
            for name, value in self.namespace.items()
            if isinstance(name, str) and not is_hidden(name) and not type(value).__module__.startswith("dartvc.")
        ]

    def stored(self, name: str) -> StoredVersion | None:
        """Returns what is known to be stored of a name; None while it has a value that is for the next stage to look at."""
        return None if name in self._touched else self._stored.get(name)

    def known(self) -> tuple[str, ...]:
        """Returns the names that were staged or adopted."""
        return tuple(self._stored)

    def omissions(self) -> tuple[Omission, ...]:
        """Returns what could not be stored of the names as they were staged last."""
        return tuple(version.omission for version in self._stored.values() if version.omission is not None)

    def adopt(self, version: StoredVersion, load_again: Callable[[], Mapping[str, object]] | None = None) -> None:
        """Takes note that the living values of these names are the stored ones (after a restore).

        They are pickled once, to know them again: an equal value need not have the very bytes that were stored. Where that would run the
        user's code on them (a ``__getstate__`` that counts), a twin is pickled in their place.

        Args:
            version: what is stored.
            load_again: loads the twin; None: the values themselves are pickled, as a commit does it.
        """
        saved = self._pickled_unchanged(version.names, load_again) if all(name in self._view for name in version.names) else None
        if saved is not None:
            short = saved.stream if len(saved.stream) <= SMALL_STREAM_BYTES else b""
            version = version._replace(live=xxh3_128_digest(saved.stream), global_names=saved.global_names, small=short)
        for name in version.names:
            self._touched.pop(name, None)
            self._stored[name] = version
            self._ids[name] = id(self._view.get(name))

    def adopt_omitted(self, omission: Omission) -> None:
        """Takes note that a living value was made again by its recipe: the commit says so already, and a look at it adds nothing."""
        self._touched.pop(omission.name, None)
        self._stored[omission.name] = StoredVersion((omission.name,), (), (), frozenset(), omission)
        self._ids[omission.name] = id(self._view.get(omission.name))

    def touch(self, names: Iterable[str], recipes: Mapping[str, Mapping[str, object]]) -> None:
        """Takes note that names have other values than HEAD (a restore of these alone): the next stage looks at them.

        Args:
            names: which.
            recipes: how those that cannot be stored were made.
        """
        self._touched.update((name, recipes.get(name, {})) for name in names)

    def touch_mentioned(self, mentioned: Iterable[str] | None) -> None:
        """Takes note of names that code in the middle of its way can have changed, but for those that only its end tells how to make again.

        Args:
            mentioned: the names in the code; None when any name may have been touched.
        """
        self.touch([name for name in self._within_reach(mentioned) if self._stored[name].omission is None], {})

    def forget(self, names: Iterable[str]) -> None:
        """Forgets what is stored of these names, so that the next stage looks at them anew."""
        for name in names:
            self._stored.pop(name, None)
            self._ids.pop(name, None)
            self._touched.pop(name, None)

    def replace_absent(self, names: Iterable[str]) -> None:
        """Makes ``names`` the only ones that HEAD has and the namespace lacks: the next stage removes them."""
        self.forget([name for name in self._stored if name not in self.namespace])
        self._stored.update((name, StoredVersion((name,), (), ())) for name in names)

    @contextmanager
    def with_names(self, further: Mapping[str, object]) -> Iterator[None]:
        """Takes names outside the namespace (locals of frames, globals of other modules) for names of it."""
        before = self._view
        self._view = {**before, **further}
        try:
            yield
        finally:
            self._view = before

    @contextmanager
    def lending(self, lends: bool) -> Iterator[None]:
        """Gives out the memory of values itself, without copies, if nobody will change it before what is staged is durable."""
        self._keep = _lent if lends else self._copies.copy
        try:
            yield
        finally:
            self._keep = self._copies.copy

    def stage(self, mentioned: Iterable[str] | None) -> NamespaceDelta:
        """Stages what changed.

        Args:
            mentioned: the names in the code that ran; None when any name may have been touched.
        """
        namespace = self._view
        self._copies.begin()
        new = self._new_names()
        removed = tuple(name for name in self._stored if name not in namespace)
        rebound = {name for name, identity in self._ids.items() if name in namespace and id(namespace[name]) != identity}
        candidates = self._within_reach(mentioned) | new | rebound | self._touched.keys()
        candidates |= {mate for name in (*candidates, *removed) if name in self._stored for mate in self._stored[name].names}
        candidates = {name for name in candidates if name in namespace}
        changed, notes = self._stage_candidates(candidates)
        self._touched.clear()
        self.forget(removed)
        return NamespaceDelta(
            tuple(changed), tuple(name for name in namespace if name in new), removed, tuple(notes), frozenset(rebound | new)
        )

    def _within_reach(self, mentioned: Iterable[str] | None) -> set[str]:
        """Returns the stored names that code can have changed."""
        known = {name: version.global_names for name, version in self._stored.items() if version.global_names}
        touched = touched_names(mentioned, self._view, known) if mentioned is not None else None
        return set(self._stored) if touched is None else touched & self._stored.keys()

    def _new_names(self) -> set[str]:
        new = set()
        for name in self._view.keys() - self._stored.keys() - self._hidden:
            if not isinstance(name, str) or is_hidden(name):
                self._hidden.add(name)
            elif type(self._view[name]).__module__.startswith("dartvc."):
                continue  # a handle of ours (a repository, a session) belongs to the process, not to the state
            else:
                new.add(name)
        return new

    def _stage_candidates(self, candidates: set[str]) -> tuple[list[StagedName], list[str]]:
        changed: list[StagedName] = []
        notes: list[str] = []
        pending = self._in_order(candidates)
        composite: list[str] = []
        for name in pending:
            value = self._view[name]
            if type(value) in ATOMIC_TYPES and len(self._names_with(name)) == 1 and not (self.keeps_strings and type(value) is str):
                self._stage_atom(name, value, changed)
            else:
                composite.append(name)
        if composite:
            self._stage_composites(composite, candidates, changed, notes)
        return changed, notes

    def _names_with(self, name: str) -> tuple[str, ...]:
        version = self._stored.get(name)
        return version.names if version is not None else (name,)

    def _in_order(self, names: set[str]) -> list[str]:
        if len(names) * 4 < len(self._view):
            return sorted(names)
        return [name for name in self._view if name in names]

    def _stage_atom(self, name: str, value: object, changed: list[StagedName]) -> None:
        """Fast path: a scalar shares no mutable memory and needs no reducer; the general path stores the same stream."""
        if type(value).__reduce_ex__ is not object.__reduce_ex__ or type(value).__name__ in ("module", "code"):
            self._stage_group((name,), changed, [])
            return
        try:
            stream = pickle.dumps({name: value}, 5) + _NO_FOREIGN
        except Exception:
            self._stage_group((name,), changed, [])
            return
        if len(stream) > _SMALL_ATOM_BYTES:
            self._stage_group((name,), changed, [])
            return
        before = self._stored.get(name)
        refs, chunks = match_stream(stream, ())
        self._ids[name] = id(value)
        if before is not None and before.omission is None and before.stream == chunks and not before.buffers:
            return
        self._stored[name] = StoredVersion((name,), chunks, ())
        changed.append(StagedName(name, self.summarize(value), Payload((name,), refs)))

    def _stage_composites(self, composite: list[str], candidates: set[str], changed: list[StagedName], notes: list[str]) -> None:
        """Groups the candidates by sharing, following the functions inside them to further candidates, and stores each group once."""
        done: set[str] = set()
        while composite:
            groups, mentioned = self._groups(composite)
            for group in groups:
                mentioned |= self._stage_group(group, changed, notes)
            done.update(composite)
            done.update(candidates)
            further = touched_names(mentioned, self._view, {}) if mentioned else set()
            wanted = set(self._stored) if further is None else further & self._stored.keys()
            wanted |= {mate for name in wanted for mate in self._stored[name].names}
            composite = self._in_order({name for name in wanted if name in self._view} - done)

    def _groups(self, composite: list[str]) -> tuple[list[tuple[str, ...]], set[str]]:
        if len(composite) == 1:
            return [(composite[0],)], set()
        return group_by_sharing({name: self._view[name] for name in composite}, self.namespace, self.main_name)

    def _saving(self, *, spares_user_code: bool = False) -> Saving:
        saving = Saving(self.namespace, self.main_name)
        saving.spares_user_code = spares_user_code
        saving.generators = self.generators
        saving.plain_code = self.plain_code
        saving.keeps_strings = self.keeps_strings
        return saving

    def _try_save(self, names: Sequence[str], *, spares_user_code: bool = False) -> Saved | Refusal:
        try:
            values: dict[str, object] = {name: self._view[name] for name in names}
            if self.keeps_strings:
                note_identities(values, (self.namespace, self._view), with_sets=not spares_user_code)
            saved = save(values, self._saving(spares_user_code=spares_user_code))
        except Refusal as refusal:
            return refusal
        for kind in saved.user_types:
            problem = is_proven(kind, lambda: try_in_child(lambda: self._load_back(saved), "loading it back"))
            if problem:
                return Refusal(problem)
        return saved

    def pickled(self, names: Sequence[str]) -> Saved | None:
        """Pickles living values as a stage would, without staging them; None when they cannot be stored."""
        saved = self._try_save(names)
        return None if isinstance(saved, Refusal) else saved

    def _pickled_unchanged(self, names: Sequence[str], load_again: Callable[[], Mapping[str, object]] | None) -> Saved | None:
        try:
            saved = self._try_save(names, spares_user_code=load_again is not None)
        except UserCodeMet:
            try:
                twin = load_again() if load_again is not None else {}
            except (DartvcError, Unloadable):
                return None
            with self.with_names(twin):
                saved = self._try_save(names)
        return None if isinstance(saved, Refusal) else saved

    def _load_back(self, saved: Saved) -> str:
        """Loads what was saved, as a restore would."""
        loading = Loading(dict(self.namespace), LiveBuffers(saved.buffers))
        loading.generators = self.generators
        loading.is_rehearsal = True
        load(saved.stream, loading)
        return ""

    def _stage_group(self, group: tuple[str, ...], changed: list[StagedName], notes: list[str]) -> set[str]:
        """Stores one co-variable if its content differs; returns the names that its functions mention."""
        saved = self._try_save(group)
        if isinstance(saved, Refusal):
            return self._stage_refused(group, saved, changed, notes)
        notes.extend(saved.notes)
        before = self._version_before(group)
        if self._is_as_restored(group, saved, before):
            return set()
        refs, chunks = match_stream(saved.stream, before.stream if before else ())
        digests = digest_buffers(saved.buffers, self.helper)
        for name in group:
            self._ids[name] = id(self._view[name])
        if (
            before is not None
            and before.omission is None
            and before.names == group
            and before.stream == chunks
            and before.buffers == digests
        ):
            return set(saved.global_names) if saved.global_names != before.global_names else set()
        known = {digest for each in before.buffers for digest in each} if before is not None else set()
        buffers = tuple(chunk_buffer(buffer, each, known, self._keep) for buffer, each in zip(saved.buffers, digests, strict=True))
        summaries = {name: self.summarize(self._view[name]) for name in group}
        version = StoredVersion(group, chunks, digests, saved.global_names)
        version, same = self._told_apart(version, saved.stream, summaries)
        payload = Payload(group, refs, buffers)
        for name in group:
            self._stored[name] = version
            changed.append(StagedName(name, summaries[name], payload, is_same=name in same))
        return set(saved.global_names)

    def _told_apart(self, version: StoredVersion, stream: bytes, summaries: Mapping[str, Summary]) -> tuple[StoredVersion, frozenset[str]]:
        """Returns a co-variable's new version with what tells its names apart, and those of them that did not change."""
        is_short = len(stream) <= SMALL_STREAM_BYTES
        group = version.names
        if is_short and len(group) == 1 and (group[0] not in self._stored or self._stored[group[0]].names == group):
            return version._replace(small=stream), frozenset()  # Fast path: alone before and now, it is what changed
        now = digest_members(stream, version.buffers) if is_short else digest_summaries(summaries)
        known = {name: self._stored[name].digest_of(name) for name in group if name in self._stored}
        before = {name: digest for name, digest in known.items() if digest is not None}
        return version._replace(members=now), unchanged_members(before, now, group)

    def _is_as_restored(self, group: tuple[str, ...], saved: Saved, before: StoredVersion | None) -> bool:
        """Whether values that were loaded from the repository are still as they were loaded."""
        if before is None or before.live is None or before.names != group or before.live != xxh3_128_digest(saved.stream):
            return False
        for name in group:
            self._ids[name] = id(self._view[name])
        return before.buffers == digest_buffers(saved.buffers, self.helper)

    def _version_before(self, group: tuple[str, ...]) -> StoredVersion | None:
        """Returns the stored version that a group most likely grew out of: that of its largest member."""
        versions = [self._stored[name] for name in group if name in self._stored]
        return max(versions, key=lambda version: len(version.stream) + sum(map(len, version.buffers)), default=None)

    def _stage_refused(self, group: tuple[str, ...], refusal: Refusal, changed: list[StagedName], notes: list[str]) -> set[str]:
        """Sets aside the names that cannot be stored and stores the rest of their group."""
        mentioned: set[str] = set()
        if len(group) == 1:
            self._omit(group[0], refusal, changed)
            return mentioned
        outcomes = {name: self._try_save((name,)) for name in group}
        bad = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Refusal)}
        good = [name for name in group if name not in bad]
        if not bad:
            for name in group:
                mentioned |= self._stage_group((name,), changed, notes)
            return mentioned
        for name, each in bad.items():
            self._omit(name, each, changed)
        if good:
            for part in self._groups(good)[0]:
                mentioned |= self._stage_group(part, changed, notes)
        return mentioned

    def _omit(self, name: str, refusal: Refusal, changed: list[StagedName]) -> None:
        value = self._view[name]

        def is_storable(part: object) -> bool:
            try:
                save(part, self._saving())
            except Refusal:
                return False
            return True

        from dartvc.state.culprits import find_culprit

        path = find_culprit(name, value, is_storable)
        omission = Omission(name, path, refusal.reason, refusal.remedy, recomputable=True)
        self._stored[name] = StoredVersion((name,), (), (), frozenset(), omission)
        self._ids[name] = id(value)
        changed.append(StagedName(name, self.summarize(value), None, omission, self._touched.get(name)))


def _lent(piece: memoryview) -> memoryview:
    return piece


def describe(value: object) -> Summary:
    """Describes a value to people; the describers (3 ms of imports) come with the first one, which may be after the program began."""
    from dartvc.state.summaries import summarize

    return summarize(value)

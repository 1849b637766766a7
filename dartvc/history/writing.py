"""Staged commits to git objects. What a commit costs follows what it changes, not how much there is.

The trees of the last commits stay in memory, so that a commit reads nothing; an environment equal to the one before is not encoded
again; a chunk that the repository has is found by its digest among the chunks of the same co-variable.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from dartvc.errors import MissingObjectError
from dartvc.history.epoch import read_epoch
from dartvc.history.logs import LogTree
from dartvc.history.namespace import BLOB_MODE, TREE_MODE, NamespaceTree, read_name_entry
from dartvc.history.payloads import (
    INLINE_PAYLOAD_BYTES,
    PLAIN_PAYLOAD_BYTES,
    buffer_entry,
    chunk_entry,
    group_entry,
    iter_groups,
    read_payload,
    with_payload,
)
from dartvc.history.trailers import commit_of_raw, is_code_in_message, message_of, seal_payload
from dartvc.model import ChunkRef, CommitKind, Digest, Oid, Payload, StagedCommit, StagedName
from dartvc.store import TreeEntry

if TYPE_CHECKING:
    from dartvc.store import ObjectBatch, ObjectDatabase, Seals

__all__ = ["CommitWriter", "add_json", "encode_json"]

_TRIAL_BYTES = 4096
_WORTHWHILE_RATIO = 0.8
_plain_json = json.JSONEncoder(ensure_ascii=False, default=str).encode
_ascii_json = json.JSONEncoder(ensure_ascii=True, default=str).encode


class _Trees:
    """The parts of one commit's tree."""

    def __init__(
        self,
        names: NamespaceTree,
        process: NamespaceTree,
        code: TreeEntry | None = None,
        environment: TreeEntry | None = None,
        logs: LogTree | None = None,
    ) -> None:
        self.names, self.process, self.code, self.environment, self.logs = names, process, code, environment, logs


class CommitWriter:
    """Writes commits: any number with `write`, then one barrier with `publish`. Of one thread at a time.

    Args:
        database: where to.
        seals: this machine's seals.
        author: ``Name <address>`` of the commits.
    """

    def __init__(self, database: ObjectDatabase, seals: Seals, author: str) -> None:
        self._database = database
        self._seals = seals
        self._author = author
        self._batch: ObjectBatch | None = None
        self._epoch = ""
        self._pending: list[tuple[StagedCommit, tuple[Oid, ...]]] = []
        self._trees: dict[Oid, _Trees] = {}
        self._parents: dict[Oid, tuple[Oid, ...]] = {}
        self._chunks: dict[str, dict[Digest, Oid | bytes]] = {}  # by name; bytes: of a payload that stands in its name's summary
        self._environment: tuple[Mapping[str, object], TreeEntry] | None = None

    def write(self, staged: StagedCommit, parents: Sequence[Oid]) -> Oid:
        """Adds a commit; its id is known at once, nothing is durable before `publish`.

        Args:
            staged: what differs from the first parent, or (not ``keep_names``) all that there is.
            parents: commits that are stored, or that this writer has written.

        Raises:
            MissingObjectError: a chunk that should be in the repository is not.
            StorageError: the disk refused.
        """
        batch = self._batch
        if batch is None:
            epoch = read_epoch(self._database.path)
            if epoch != self._epoch:
                self._forget()  # what is remembered of earlier commits may have been thrown away
                self._epoch = epoch
            batch = self._batch = self._database.batch()
        self._pending.append((staged, tuple(parents)))
        trees = self._begin(parents[0] if parents else None, staged)
        stored: dict[int, TreeEntry] = {}
        size_bytes = 0
        names = (trees.names, staged.changed, staged.removed)
        process = (trees.process, staged.process, staged.process_removed)
        for space, changed, removed in (names, process):
            for name in removed:
                space.drop(name)
                self._chunks.pop(name, None)
            for item in changed:
                payload = item.payload
                if payload is not None and id(payload) not in stored:
                    size_bytes += payload.new_bytes
                    if not _is_inline(item.name, payload):
                        stored[id(payload)] = self._add_payload(batch, payload, parents)
                space.put(item.name, self._add_name(batch, item, stored.get(id(payload)), parents))
        if (staged.code or staged.kind is CommitKind.CELL) and not is_code_in_message(staged):
            trees.code = TreeEntry(BLOB_MODE, batch.add_blob(staged.code.encode("utf-8", "surrogatepass")))
        else:
            trees.code = None
        if staged.environment:
            trees.environment = self._add_environment(batch, staged.environment)
        if staged.logs is not None:
            if trees.logs is None or trees.logs.run != staged.logs.run:
                trees.logs = LogTree(staged.logs.run)
            trees.logs.append(batch, staged.logs)
        tree = batch.add_tree(_root_entries(trees, batch))
        known = self._trees.get(parents[0]) if parents else None
        told = staged
        if staged.state_of is not None:
            omitted = commit_of_raw(self._database.read_commit(staged.state_of)).omitted
            told = _as_differences(staged, known.names if known is not None else NamespaceTree(), trees.names, omitted)
        elif known is not None and not staged.keep_names:
            told = _as_changes(staged, known.names, trees.names)
        message = message_of(told, size_bytes)
        ancestors = tuple(parents)
        seal = self._seals.seal(seal_payload(tree, ancestors, staged.time_s, staged.utc_offset_min, message))
        oid = batch.add_commit(tree, ancestors, f"{message}\nSeal: {seal}\n", staged.time_s, staged.utc_offset_min, self._author)
        self._trees[oid] = trees
        self._parents[oid] = ancestors
        return oid

    def publish(self) -> None:
        """Makes everything written so far durable and visible.

        Raises:
            StorageError: the disk refused; nothing became visible and everything written since the last publish is forgotten.
        """
        if self._batch is None:
            return
        try:
            with self._database.lock():
                if read_epoch(self._database.path) != self._epoch:
                    self._write_again()
                batch, self._batch = self._batch, None
                batch.publish()
        except BaseException:
            self.abandon()
            raise
        while len(self._trees) > 1:  # the last commit is the parent of the next one
            del self._trees[next(iter(self._trees))]
        self._parents.clear()
        self._pending.clear()

    def _write_again(self) -> None:
        """Writes the batch anew: objects that it counted on may have been thrown away since it began. The ids stay the same."""
        pending = list(self._pending)
        self.abandon()
        for staged, parents in pending:
            self.write(staged, parents)

    def abandon(self) -> None:
        """Throws away what was written since the last publish."""
        if self._batch is not None:
            self._batch.abandon()
            self._batch = None
        self._forget()

    def _forget(self) -> None:
        self._pending.clear()
        self._trees.clear()
        self._parents.clear()
        self._chunks.clear()
        self._environment = None

    def _begin(self, parent: Oid | None, staged: StagedCommit) -> _Trees:
        """Returns the trees that a commit starts from: copies of its parent's or of another commit's, or its parent's log alone."""
        known = self._trees.get(parent) if parent is not None else None
        if parent is not None and known is None:
            known = self._trees[parent] = self._read(parent)
        logs = known.logs.copy() if known is not None and known.logs is not None else None
        if staged.state_of is not None:
            other = self._read(staged.state_of)
            return _Trees(other.names, other.process, None, other.environment, logs)
        if known is None:
            return _Trees(NamespaceTree(), NamespaceTree())
        if not staged.keep_names:
            return _Trees(NamespaceTree(), NamespaceTree(), logs=logs)
        return _Trees(known.names.copy(), known.process.copy(), None, known.environment, logs)

    def _read(self, oid: Oid) -> _Trees:
        root = self._database.read_tree(self._database.read_commit(oid).tree)
        spaces = [NamespaceTree.read(self._database, root[part].oid) if part in root else NamespaceTree() for part in ("names", "process")]
        logs = LogTree.read(self._database, root["logs"].oid) if "logs" in root else None
        return _Trees(spaces[0], spaces[1], root.get("code"), root.get("environment"), logs)

    def _add_environment(self, batch: ObjectBatch, environment: Mapping[str, object]) -> TreeEntry:
        """Fast path: an environment equal to the one before has the same blob."""
        last = self._environment
        if last is not None and (last[0] is environment or last[0] == environment):
            return last[1]
        entry = add_json(batch, environment)
        self._environment = (environment, entry)
        return entry

    def _add_name(self, batch: ObjectBatch, item: StagedName, payload: TreeEntry | None, parents: Sequence[Oid]) -> TreeEntry:
        if payload is None and item.payload is not None:
            stream = self._read_small(item.payload, parents)
            return add_json(batch, with_payload(item.summary, stream))
        entries = {"summary": add_json(batch, item.summary)}
        if payload is not None:
            entries["payload"] = payload
        else:
            recipe = dict(item.recipe or {})
            if item.omission is not None:
                why = item.omission
                recipe = {"reason": why.reason, "path": why.path, "remedy": why.remedy, "recomputable": why.recomputable, **recipe}
            entries["recipe"] = add_json(batch, recipe)
        return TreeEntry(TREE_MODE, batch.add_tree(entries))

    def _read_small(self, payload: Payload, parents: Sequence[Oid]) -> bytes:
        """Returns the stream of a payload that is one chunk."""
        only = payload.stream[0]
        found = bytes(only.data) if only.data is not None else self._find_chunk(only, payload.names, parents)
        stream = found if isinstance(found, bytes) else self._database.read_blob(found)
        self._chunks[payload.names[0]] = {only.digest: stream}
        return stream

    def _add_payload(self, batch: ObjectBatch, payload: Payload, parents: Sequence[Oid]) -> TreeEntry:
        stream = payload.stream
        if len(stream) == 1 and not payload.buffers and stream[0].size_bytes <= PLAIN_PAYLOAD_BYTES:
            only = stream[0]
            oid = batch.add_blob(only.data) if only.data is not None else self._stored_chunk(batch, only, payload.names, parents)
            for name in payload.names:
                self._chunks[name] = {only.digest: oid}
            return TreeEntry(BLOB_MODE, oid)
        chunks: dict[Digest, Oid | bytes] = {}

        def added(ref: ChunkRef, *, is_stream: bool = False) -> tuple[Digest, Oid]:
            oid = chunks.get(ref.digest)
            if not isinstance(oid, str):
                if ref.data is None:
                    oid = self._stored_chunk(batch, ref, payload.names, parents)
                else:
                    oid = batch.add_blob(ref.data, compress=is_stream and _is_compressible(ref.data), is_stable=True)
                chunks[ref.digest] = oid
            return ref.digest, oid

        entries = {"stream": _add_rows(batch, [added(ref, is_stream=True) for ref in stream])}
        if payload.buffers:
            buffers: dict[str, TreeEntry] = {}
            for index, buffer in enumerate(payload.buffers):
                rows = [added(ref) for ref in buffer]
                if len(rows) == 1:
                    ((digest, oid),) = rows
                    buffers[buffer_entry(index, digest)] = TreeEntry(BLOB_MODE, oid)
                else:
                    buffers[buffer_entry(index, None)] = _add_rows(batch, rows)
            entries["buffers"] = TreeEntry(TREE_MODE, batch.add_tree(buffers))
        for name in payload.names:
            self._chunks[name] = chunks
        return TreeEntry(TREE_MODE, batch.add_tree(entries))

    def _stored_chunk(self, batch: ObjectBatch, ref: ChunkRef, names: Sequence[str], parents: Sequence[Oid]) -> Oid:
        """Returns the blob of a chunk that the repository has."""
        found = self._find_chunk(ref, names, parents)
        return batch.add_blob(found) if isinstance(found, bytes) else found

    def _find_chunk(self, ref: ChunkRef, names: Sequence[str], parents: Sequence[Oid]) -> Oid | bytes:
        """Finds a chunk that the repository has: in this writer's memory, else in the nearest ancestor that has it."""
        for name in names:
            oid = self._chunks.get(name, {}).get(ref.digest)
            if oid is not None:
                return oid
        ancestor = parents[0] if parents else None
        while ancestor is not None:
            for name, chunks in self._chunks_of(ancestor, names).items():
                if ref.digest in chunks:
                    self._chunks[name] = {**chunks, **self._chunks.get(name, {})}
                    return chunks[ref.digest]
            above = self._parents.get(ancestor)
            if above is None:
                above = self._database.read_commit(ancestor).parents
            ancestor = above[0] if above else None
        raise MissingObjectError(f"a chunk of {', '.join(names)} is not in the repository", kind="missing-chunk", hint="commit again")

    def _chunks_of(self, commit: Oid, names: Sequence[str]) -> dict[str, dict[Digest, Oid | bytes]]:
        trees = self._trees.get(commit) or self._read(commit)
        found: dict[str, dict[Digest, Oid | bytes]] = {}
        for name in names:
            for space in (trees.names, trees.process):
                stored = space.find(name)
                if stored is None or not self._database.contains(stored.oid):  # an unpublished one is in `_chunks` anyway
                    continue
                entry = read_name_entry(self._database, name, stored)
                if entry.payload_oid is None:
                    continue
                payload = read_payload(self._database, entry.payload_oid, where=f"{name} of commit {commit}")
                chunks = [chunk for part in (payload.stream_chunks, *payload.buffers) for chunk in part]
                found[name] = {chunk.digest: payload.read_stream() if entry.is_inline else chunk.oid for chunk in chunks}
        return found


def _is_inline(name: str, payload: Payload) -> bool:
    """Whether a payload is so small, and of one name only, that it stands in the summary."""
    stream = payload.stream
    return payload.names == (name,) and len(stream) == 1 and not payload.buffers and stream[0].size_bytes <= INLINE_PAYLOAD_BYTES


def _add_rows(batch: ObjectBatch, rows: Sequence[tuple[Digest, Oid]]) -> TreeEntry:
    """Adds the tree of some chunks, of many as groups."""

    def tree(part: Sequence[tuple[Digest, Oid]]) -> TreeEntry:
        entries = {chunk_entry(index, digest): TreeEntry(BLOB_MODE, oid) for index, (digest, oid) in enumerate(part)}
        return TreeEntry(TREE_MODE, batch.add_tree(entries))

    groups = [tree(rows[start:end]) for start, end in iter_groups([digest for digest, _ in rows])]
    if not groups:
        return tree(rows)
    return TreeEntry(TREE_MODE, batch.add_tree({group_entry(index): entry for index, entry in enumerate(groups)}))


def add_json(batch: ObjectBatch, value: Mapping[str, object]) -> TreeEntry:
    """Adds a blob of JSON to a batch, as `encode_json` writes it."""
    return TreeEntry(BLOB_MODE, batch.add_blob(encode_json(value)))


def encode_json(value: Mapping[str, object]) -> bytes:
    """Encodes an object as JSON, one key a line, so that plain ``git diff`` reads well.

    Fast path: the result of ``json.dumps(value, indent=1)`` for flat objects, from the C encoder.
    """
    if not value:
        return b"{}\n"
    try:
        return _lines(value, _plain_json).encode()
    except UnicodeEncodeError:  # lone surrogates
        return _lines(value, _ascii_json).encode()


def _lines(value: Mapping[str, object], encode: Callable[[object], str]) -> str:
    return "{\n" + ",\n".join([f" {encode(str(key))}: {encode(item)}" for key, item in value.items()]) + "\n}\n"


def _root_entries(trees: _Trees, batch: ObjectBatch) -> dict[str, TreeEntry]:
    entries = {}
    for part, space in (("names", trees.names), ("process", trees.process)):
        oid = space.write(batch)
        if oid is not None:
            entries[part] = TreeEntry(TREE_MODE, oid)
    logs = trees.logs.write(batch) if trees.logs is not None else None
    if logs is not None:
        entries["logs"] = TreeEntry(TREE_MODE, logs)
    if trees.code is not None:
        entries["code"] = trees.code
    if trees.environment is not None:
        entries["environment"] = trees.environment
    return entries


def _is_compressible(data: bytes | memoryview) -> bool:
    """Whether to compress a chunk: small ones always, larger ones when a piece from the middle shrinks."""
    if len(data) < PLAIN_PAYLOAD_BYTES:
        return True
    middle = len(data) // 2
    trial = bytes(memoryview(data)[middle : middle + _TRIAL_BYTES])
    return len(zlib.compress(trial, 1)) < _WORTHWHILE_RATIO * len(trial)


def _as_differences(staged: StagedCommit, before: NamespaceTree, after: NamespaceTree, omitted: Collection[str]) -> StagedCommit:
    """Returns a commit that took its state from another one as one of what differs from its parent; ``omitted``: what that one could not store."""
    names = [name for name in after.names() if before.find(name) != after.find(name)]
    changed = tuple(StagedName(name, {}, None if name in omitted else Payload((name,), ())) for name in names)
    return _as_changes(staged._replace(added=tuple(names), changed=changed), before, after)


def _as_changes(staged: StagedCommit, before: NamespaceTree, after: NamespaceTree) -> StagedCommit:
    """Returns a commit of everything as one of what differs from its parent: `log` tells changes, whatever a session had to store anew."""
    return staged._replace(
        added=tuple(name for name in staged.added if before.find(name) is None),
        changed=tuple(item for item in staged.changed if before.find(item.name) != after.find(item.name)),
        removed=tuple(name for name in before.names() if after.find(name) is None),
    )

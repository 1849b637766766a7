"""Results that outlive the process: a commit under ``refs/cache/results`` whose tree holds one folder a result.

::

    index                     JSON: for each key the call, its cost, its size, the day of its last use
    <2 hex>/<key>/facts       JSON: what the result depends on and what is printed again; sealed with this machine's key
    <2 hex>/<key>/stream      the pickled result
    <2 hex>/<key>/<nnnn>      its large buffers, stored so that reading one is a copy out of the mapped pack

Each flush makes a commit without a parent, so that gc gives back what was thrown out. A result whose seal is not this machine's is never
unpickled. Writing happens in a thread of its own.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xxhash import xxh3_128_hexdigest

from dartvc.errors import DartvcError, RefConflictError
from dartvc.history import Repository
from dartvc.history.epoch import read_epoch
from dartvc.lineage.holdings import Frozen
from dartvc.model import Oid
from dartvc.store.objects import TreeEntry

__all__ = ["CACHE_REF", "Shelf", "Stored", "clear", "iter_components", "read_index"]

CACHE_REF = "refs/cache/results"
_BLOB, _TREE = 0o100644, 0o40000
_FLUSH_AFTER_S = 1.0
_QUEUE_LIMIT_BYTES = 1 << 30
_TRIES = 5
_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Stored:
    """A result on its way to the repository, or back."""

    key: str
    facts: dict[str, Any]
    frozen: Frozen


def read_index(repository: Repository) -> dict[str, list[Any]]:
    """Returns what is stored: key to [name of the call, cost in seconds, size in bytes, day of last use]."""
    oid = repository.database.refs.read(CACHE_REF)
    if oid is None:
        return {}
    tree = repository.database.read_tree(repository.database.read_commit(oid).tree)
    found = json.loads(repository.database.read_blob(tree["index"].oid))
    return dict(found) if isinstance(found, dict) else {}


def clear(repository: Repository) -> int:
    """Forgets every stored result; gc gives the space back. Returns how many there were."""
    count = len(read_index(repository))
    oid = repository.database.refs.read(CACHE_REF)
    if oid is not None:
        repository.database.refs.move(CACHE_REF, None, expected=oid)
    return count


def iter_components(repository: Repository, name: str) -> Iterator[list[tuple[str, str]]]:
    """Yields what the stored results of one function depended on: label and digest, in order. Nothing is unpickled."""
    database = repository.database
    oid = database.refs.read(CACHE_REF)
    if oid is None:
        return
    root = database.read_tree(database.read_commit(oid).tree)
    for key, row in read_index(repository).items():
        if row[0] == name and key[:2] in root:
            facts = json.loads(database.read_blob(database.read_tree(database.read_tree(root[key[:2]].oid)[key].oid)["facts"].oid))
            yield [(label, digest) for label, digest in facts["components"]]


class Shelf:
    """The stored results of a repository.

    Args:
        repository: where.
        limit_bytes: how much they may take together; what saves least for its size goes first.
    """

    def __init__(self, repository: Repository, limit_bytes: int) -> None:
        self._repository = repository
        self._limit = limit_bytes
        self._queue: queue.Queue[Stored | None] = queue.Queue()
        self._queued_bytes = 0
        self._used: set[str] = set()
        self._thread: threading.Thread | None = None
        self._trees: dict[str, Mapping[str, TreeEntry]] = {}
        try:
            self.index = read_index(repository)
        except (DartvcError, ValueError, KeyError):
            self.index = {}
        self.problem = ""

    # -- reading --------------------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Stored | None:
        """Returns a stored result that was made on this machine; None when there is none that can be read."""
        name = key.hex()
        if name not in self.index:
            return None
        try:
            stored = self._read(name)
        except (DartvcError, ValueError, KeyError):
            stored = None
        if stored is None:
            self.index.pop(name, None)
        else:
            self._used.add(name)
        return stored

    def _read(self, name: str) -> Stored | None:
        database = self._repository.database
        shard = self._trees.get(name[:2])
        if shard is None:
            oid = database.refs.read(CACHE_REF)
            if oid is None:
                return None
            root = database.read_tree(database.read_commit(oid).tree)
            shard = self._trees[name[:2]] = database.read_tree(root[name[:2]].oid)
        tree = database.read_tree(shard[name].oid)
        facts = json.loads(database.read_blob(tree["facts"].oid))
        stream = database.read_blob(tree["stream"].oid)
        if not self._repository.seals.is_ours(_sealed(name, facts, stream), str(facts.get("seal", ""))):
            return None
        buffers = []
        for number, (size, digest) in enumerate(facts["buffers"]):
            content = bytearray(size)
            database.read_blob_into(tree[f"{number:04d}"].oid, memoryview(content))
            if xxh3_128_hexdigest(content) != digest:
                return None
            buffers.append(memoryview(content))
        return Stored(name, facts, Frozen(stream, tuple(buffers)))

    # -- writing --------------------------------------------------------------------------------------------------------------

    def add(self, stored: Stored) -> bool:
        """Takes a result to be written; false when the writer is too far behind."""
        if self._queued_bytes > _QUEUE_LIMIT_BYTES or self.problem:
            return False
        self._queued_bytes += stored.frozen.size_bytes
        self._queue.put(stored)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dartvc-shelf", daemon=True)
            self._thread.start()
        return True

    def close(self) -> None:
        """Writes what waits."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        is_open = True
        while is_open:
            first = self._queue.get()
            if first is None:
                return
            waiting = [first]
            deadline = time.monotonic() + _FLUSH_AFTER_S
            while True:
                try:
                    each = self._queue.get(timeout=max(deadline - time.monotonic(), 0))
                except queue.Empty:
                    break
                if each is None:
                    is_open = False
                    break
                waiting.append(each)
            try:
                self._flush(waiting)
            except (DartvcError, OSError) as error:
                self.problem = str(error)
            self._queued_bytes -= sum(each.frozen.size_bytes for each in waiting)

    def _flush(self, waiting: list[Stored]) -> None:
        for attempt in range(_TRIES):
            epoch = read_epoch(self._repository.path)
            trees = self._write(waiting)
            try:
                self._name(trees, waiting, epoch)
                return
            except RefConflictError:
                if attempt == _TRIES - 1:
                    raise

    def _write(self, waiting: list[Stored]) -> dict[str, Oid]:
        """Writes results, durably, and returns their trees by key; nothing names them yet."""
        batch = self._repository.database.batch()
        trees: dict[str, Oid] = {}
        for each in waiting:
            facts = {**each.facts, "buffers": [[len(part), xxh3_128_hexdigest(part)] for part in each.frozen.buffers]}
            facts["seal"] = self._repository.seals.seal(_sealed(each.key, facts, each.frozen.stream))
            entries = {
                "facts": TreeEntry(_BLOB, batch.add_blob(json.dumps(facts, indent=1).encode())),
                "stream": TreeEntry(_BLOB, batch.add_blob(each.frozen.stream, compress=False)),
            }
            for number, part in enumerate(each.frozen.buffers):
                entries[f"{number:04d}"] = TreeEntry(_BLOB, batch.add_blob(part, compress=False))
            trees[each.key] = batch.add_tree(entries)
        batch.publish()
        return trees

    def _name(self, trees: Mapping[str, Oid], waiting: list[Stored], epoch: str) -> None:
        """Makes the commit that holds the stored results and these.

        Raises:
            RefConflictError: somebody else did meanwhile, or threw things away: these may be among them.
        """
        today = int(time.time() // _DAY_S)
        fresh = {each.key: [each.facts["name"], each.facts["cost_s"], each.frozen.size_bytes, today] for each in waiting}
        database = self._repository.database
        before = database.refs.read(CACHE_REF)
        root = dict(database.read_tree(database.read_commit(before).tree)) if before is not None else {}
        index = {**read_index(self._repository), **fresh}
        for name in self._used & index.keys():
            index[name][3] = today
        dropped = _surplus(index, self._limit, today)
        index = {name: row for name, row in index.items() if name not in dropped}
        batch = database.batch()
        shards: dict[str, dict[str, TreeEntry]] = {}
        for name in {*trees, *dropped}:
            if name[:2] not in shards:
                shards[name[:2]] = dict(database.read_tree(root[name[:2]].oid)) if name[:2] in root else {}
            if name in trees and name not in dropped:
                shards[name[:2]][name] = TreeEntry(_TREE, trees[name])
            else:
                shards[name[:2]].pop(name, None)
        for shard, entries in shards.items():
            root[shard] = TreeEntry(_TREE, batch.add_tree(entries))
        root["index"] = TreeEntry(_BLOB, batch.add_blob(json.dumps(index).encode()))
        commit = batch.add_commit(
            batch.add_tree(root), (), f"{len(index)} results for reuse\n", time.time(), 0, "dartvc <dartvc@localhost>"
        )
        with database.lock():
            if read_epoch(self._repository.path) != epoch:
                batch.abandon()
                raise RefConflictError("the repository was cleaned up", kind="ref-moved", hint="try again")
            batch.publish()
            database.refs.move(CACHE_REF, commit, expected=before)
        self._trees = {}
        self.index = index


def _sealed(name: str, facts: Mapping[str, Any], stream: bytes) -> bytes:
    plain = {key: value for key, value in facts.items() if key != "seal"}
    return f"{name} {json.dumps(plain, sort_keys=True)} {xxh3_128_hexdigest(stream)}".encode()


def _surplus(index: Mapping[str, list[Any]], limit_bytes: int, today: int) -> set[str]:
    """Returns what has to go: what saves least for its size, halved for every week that nobody used it."""
    total = sum(row[2] for row in index.values())
    if total <= limit_bytes:
        return set()
    ranked = sorted(index, key=lambda name: index[name][1] / max(index[name][2], 64) * 0.5 ** ((today - index[name][3]) / 7))
    dropped = set()
    for name in ranked:
        if total <= limit_bytes * 7 // 8:
            break
        dropped.add(name)
        total -= index[name][2]
    return dropped

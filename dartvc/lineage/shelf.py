"""Results that outlive the process, in the repository's `catalogue`: read when they are asked for, written by a thread of their own.

A result whose seal is not this machine's is never unpickled.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from xxhash import xxh3_128_hexdigest

from dartvc.errors import DartvcError, RefConflictError
from dartvc.history import Repository
from dartvc.history.epoch import read_epoch
from dartvc.lineage.catalogue import CACHE_REF, DAY_S, read_index, read_pins, renew
from dartvc.lineage.eviction import Policy, cost_and_size
from dartvc.lineage.holdings import Frozen
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store.objects import TreeEntry

__all__ = ["Shelf", "Stored", "sealed"]

_BLOB, _TREE = 0o100644, 0o40000
_FLUSH_AFTER_S = 1.0
_FLUSH_BYTES = 4 << 20
_QUEUE_LIMIT_BYTES = 1 << 30
_TRIES = 5


class Stored(NamedTuple):
    """A result on its way to the repository, or back."""

    key: str
    facts: dict[str, Any]
    frozen: Frozen


class _Hurry:
    """Among results that wait: those before it are written at once."""


class Shelf:
    """The stored results of a repository.

    Args:
        repository: where.
        limit_bytes: how much they may take together.
        policy: says what goes first.
    """

    def __init__(self, repository: Repository, limit_bytes: int, policy: Policy = cost_and_size) -> None:
        self._repository = repository
        self._limit = limit_bytes
        self._policy = policy
        self._waiting: dict[str, Stored] = {}
        self._queue: queue.Queue[Stored | _Hurry | None] = queue.Queue()
        self._queued_bytes = 0
        self._used: set[str] = set()
        self._thread: threading.Thread | None = None
        self._trees: dict[str, Mapping[str, TreeEntry]] = {}
        self.index: dict[str, list[Any]] = {}
        self.pins: frozenset[str] = frozenset()
        with suppress(DartvcError, ValueError, KeyError):
            self.index, self.pins = read_index(repository), read_pins(repository)
        self.problem = ""
        self.is_reading_only = False

    def begin_reading_only(self) -> None:
        """Leaves the writing to the parent of this process."""
        self.is_reading_only = True
        self._thread = None
        self._queue = queue.Queue()

    def has(self, key: bytes) -> bool:
        """Whether a result is stored, or going to be."""
        return key.hex() in self.index or key.hex() in self._waiting

    # -- reading --------------------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Stored | None:
        """Returns a stored result that was made on this machine; None when there is none that can be read."""
        name = key.hex()
        if name not in self.index:
            return self._waiting.get(name)
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
        if not self._repository.seals.is_ours(sealed(name, facts, stream), str(facts.get("seal", ""))):
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
        if self._queued_bytes > _QUEUE_LIMIT_BYTES or self.problem or self.is_reading_only:
            return False
        self._waiting[stored.key] = stored
        self._queued_bytes += stored.frozen.size_bytes
        self._queue.put(stored)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dartvc-shelf", daemon=True)
            self._thread.start()
        return True

    def hurry(self) -> None:
        """Lets what waits be written now, not with what else may come; does not wait for it."""
        if self._thread is not None:
            self._queue.put(_Hurry())

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
            if isinstance(first, _Hurry):
                continue
            waiting = [first]
            deadline = time.monotonic() + _FLUSH_AFTER_S
            while sum(each.frozen.size_bytes for each in waiting) < _FLUSH_BYTES:
                try:
                    each = self._queue.get(timeout=max(deadline - time.monotonic(), 0))
                except queue.Empty:
                    break
                if each is None or isinstance(each, _Hurry):
                    is_open = each is not None
                    break
                waiting.append(each)
            try:
                self._flush(waiting)
            except (DartvcError, OSError) as error:
                self.problem = str(error)
            self._queued_bytes -= sum(each.frozen.size_bytes for each in waiting)
            for each in waiting:
                self._waiting.pop(each.key, None)

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
            facts["seal"] = self._repository.seals.seal(sealed(each.key, facts, each.frozen.stream))
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
        """Enters results into the catalogue.

        Raises:
            RefConflictError: somebody else did meanwhile, or threw things away: these may be among them.
        """
        today = int(time.time() // DAY_S)
        fresh = {
            each.key: [each.facts["name"], each.facts["cost_s"], each.frozen.size_bytes, today, int(each.facts.get("height", 1))]
            for each in waiting
        }

        def change(present: dict[str, list[Any]]) -> dict[str, list[Any]]:
            index = {**present, **fresh}
            for name in self._used & index.keys():
                index[name][3] = today
            dropped = _surplus(index, self._limit, self._policy, self.pins)
            return {name: row for name, row in index.items() if name not in dropped}

        self.index = renew(self._repository, change, trees, epoch)
        self._trees = {}


def sealed(name: str, facts: Mapping[str, Any], stream: bytes) -> bytes:
    """Returns what a result's seal is made over: its key, its facts (digests of its buffers among them), its stream."""
    plain = {key: value for key, value in facts.items() if key != "seal"}
    return f"{name} {json.dumps(plain, sort_keys=True)} {xxh3_128_hexdigest(stream)}".encode()


class _Row(NamedTuple):
    """A stored result as eviction sees it; it ages by days."""

    cost_s: float
    size_bytes: int
    uses: int
    last_use: float
    height: int


def _surplus(index: Mapping[str, list[Any]], limit_bytes: int, policy: Policy, pins: Collection[str]) -> set[str]:
    """Returns what has to go."""
    total = sum(row[2] for row in index.values())
    if total <= limit_bytes:
        return set()
    names = list(index)
    rows = [index[name] for name in names]
    scores = policy([_Row(row[1], row[2], 0, row[3], row[4] if len(row) > 4 else 1) for row in rows])
    dropped: set[str] = set()
    for number in sorted(range(len(names)), key=scores.__getitem__):
        if total <= limit_bytes * 7 // 8:
            break
        if rows[number][0] not in pins:
            dropped.add(names[number])
            total -= rows[number][2]
    return dropped

"""The stored results of a repository as a whole: a commit under ``refs/cache/results`` whose tree holds one folder a result.

::

    index                     JSON: for each key the call, its cost, its size, the day of its last use, its height
    pins                      JSON: the calls whose results are never thrown out
    <2 hex>/<key>/facts       JSON: what the result depends on and what is printed again; sealed with this machine's key
    <2 hex>/<key>/stream      the pickled result
    <2 hex>/<key>/<nnnn>      its large buffers, stored so that reading one is a copy out of the mapped pack

Each change makes a commit without a parent, so that gc gives back what was thrown out. Nothing here unpickles.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dartvc.errors import RefConflictError
from dartvc.history import Repository
from dartvc.history.epoch import read_epoch
from dartvc.model import Oid
from dartvc.store.objects import TreeEntry

__all__ = ["CACHE_REF", "DAY_S", "clear", "iter_components", "pin", "read_index", "read_pins", "renew"]

CACHE_REF = "refs/cache/results"
DAY_S = 86400
_BLOB, _TREE = 0o100644, 0o40000
_TRIES = 5

_Index = dict[str, list[Any]]


def read_index(repository: Repository) -> _Index:
    """Returns what is stored: key to [name of the call, cost in seconds, size in bytes, day of last use, height]."""
    found = _read_json(repository, "index")
    return dict(found) if isinstance(found, dict) else {}


def read_pins(repository: Repository) -> frozenset[str]:
    """Returns the names of the calls whose results are never thrown out."""
    found = _read_json(repository, "pins")
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def _read_json(repository: Repository, name: str) -> object:
    oid = repository.database.refs.read(CACHE_REF)
    if oid is None:
        return None
    tree = repository.database.read_tree(repository.database.read_commit(oid).tree)
    found: object = json.loads(repository.database.read_blob(tree[name].oid)) if name in tree else None
    return found


def iter_components(repository: Repository, name: str) -> Iterator[list[tuple[str, str]]]:
    """Yields what the stored results of one function depended on: label and digest, in order."""
    database = repository.database
    oid = database.refs.read(CACHE_REF)
    if oid is None:
        return
    root = database.read_tree(database.read_commit(oid).tree)
    for key, row in read_index(repository).items():
        if row[0] == name and key[:2] in root:
            facts = json.loads(database.read_blob(database.read_tree(database.read_tree(root[key[:2]].oid)[key].oid)["facts"].oid))
            yield [(label, digest) for label, digest in facts["components"]]


def clear(repository: Repository, *, with_pinned: bool = False) -> int:
    """Forgets the stored results, those of pinned calls only when asked to; gc gives the space back. Returns how many went."""
    index, pins = read_index(repository), read_pins(repository)
    if with_pinned or not pins:
        oid = repository.database.refs.read(CACHE_REF)
        if oid is not None:
            repository.database.refs.move(CACHE_REF, None, expected=oid)
        return len(index)
    left = _retried(lambda: renew(repository, lambda present: {key: row for key, row in present.items() if row[0] in pins}))
    return len(index) - len(left)


def pin(repository: Repository, pins: frozenset[str]) -> None:
    """Says of which calls the results are never thrown out."""
    _retried(lambda: renew(repository, lambda present: present, pins=pins))


def _retried(act: Callable[[], _Index]) -> _Index:
    for _ in range(_TRIES - 1):
        try:
            return act()
        except RefConflictError:
            continue  # somebody else changed the catalogue meanwhile
    return act()


def renew(
    repository: Repository,
    change: Callable[[_Index], _Index],
    trees: Mapping[str, Oid] | None = None,
    epoch: str | None = None,
    *,
    pins: frozenset[str] | None = None,
) -> _Index:
    """Makes the next catalogue, and returns its index.

    Args:
        change: what the index becomes.
        trees: results that were written, by key.
        epoch: the mark of the last collection, from before they were written.
        pins: what they become; None leaves them.

    Raises:
        RefConflictError: somebody else did meanwhile, or threw things away: these may be among them.
    """
    trees = trees or {}
    epoch = read_epoch(repository.path) if epoch is None else epoch
    database = repository.database
    before = database.refs.read(CACHE_REF)
    root = dict(database.read_tree(database.read_commit(before).tree)) if before is not None else {}
    present = read_index(repository)
    index = change(dict(present))
    batch = database.batch()
    shards: dict[str, dict[str, TreeEntry]] = {}
    for name in {*trees, *(present.keys() - index.keys())}:
        if name[:2] not in shards:
            shards[name[:2]] = dict(database.read_tree(root[name[:2]].oid)) if name[:2] in root else {}
        if name in trees and name in index:
            shards[name[:2]][name] = TreeEntry(_TREE, trees[name])
        else:
            shards[name[:2]].pop(name, None)
    for shard, entries in shards.items():
        root[shard] = TreeEntry(_TREE, batch.add_tree(entries))
    root["index"] = TreeEntry(_BLOB, batch.add_blob(json.dumps(index).encode()))
    if pins is not None:
        root["pins"] = TreeEntry(_BLOB, batch.add_blob(json.dumps(sorted(pins)).encode()))
    commit = batch.add_commit(batch.add_tree(root), (), f"{len(index)} results for reuse\n", time.time(), 0, "dartvc <dartvc@localhost>")
    with database.lock():
        if read_epoch(repository.path) != epoch:
            batch.abandon()
            raise RefConflictError("the repository was cleaned up", kind="ref-moved", hint="try again")
        batch.publish()
        database.refs.move(CACHE_REF, commit, expected=before)
    return index

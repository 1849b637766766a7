"""The ``names`` and ``process`` trees of a commit: a blob or a small tree for each name, in folders by hash where there are many.

Up to 256 names lie in one tree; beyond that each lies in ``~xx``, xx being two hexadecimal digits of xxh3_64 of the name, so that
one changed name of ten thousand costs a tree of some forty entries and one of 256. The form depends on the number of names alone:
equal namespaces have equal trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dartvc.errors import CorruptError
from dartvc.history.quoting import entry_name, name_of_entry, shard_of
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store import TreeEntry

if TYPE_CHECKING:
    from dartvc.store import ObjectBatch, ObjectDatabase

__all__ = ["BLOB_MODE", "SHARDING_COUNT", "TREE_MODE", "NameEntry", "NamespaceTree", "iter_names", "read_name_entry"]

BLOB_MODE = 0o100644
TREE_MODE = 0o40000
SHARDING_COUNT = 256


class NameEntry(NamedTuple):
    """One name of a commit: the ids of its tree, its summary, and its payload or the recipe that stands for it.

    Of a small value they are one: its summary is a blob that has the payload in it.
    """

    name: str
    oid: Oid
    summary_oid: Oid
    payload_oid: Oid | None
    recipe_oid: Oid | None

    @property
    def is_inline(self) -> bool:
        """Whether the payload stands in the summary's blob."""
        return self.payload_oid == self.summary_oid


def iter_names(database: ObjectDatabase, tree_oid: Oid) -> Iterator[tuple[str, TreeEntry]]:
    """Yields (name, its tree or blob) of a ``names`` or ``process`` tree."""
    for entry, found in database.read_tree(tree_oid).items():
        if entry.startswith("~"):
            for inner, inner_found in database.read_tree(found.oid).items():
                yield name_of_entry(inner), inner_found
        else:
            yield name_of_entry(entry), found


def read_name_entry(database: ObjectDatabase, name: str, entry: TreeEntry) -> NameEntry:
    """Reads the tree of one name; of a name that is a blob nothing is read.

    Raises:
        CorruptError: it has no summary.
    """
    oid = entry.oid
    if entry.mode != TREE_MODE:
        return NameEntry(name, oid, oid, oid, None)
    tree = database.read_tree(oid)
    summary, payload, recipe = tree.get("summary"), tree.get("payload"), tree.get("recipe")
    if summary is None:
        raise CorruptError(f"the tree {oid} of {name!r} has no summary", kind="name-shape", hint="dvc-state fsck")
    return NameEntry(name, oid, summary.oid, payload.oid if payload else None, recipe.oid if recipe else None)


class NamespaceTree:
    """A ``names`` or ``process`` tree that is being changed: only what changed is encoded again.

    Copies share what neither has changed since.
    """

    __slots__ = ("_dirty", "_oid", "_shards", "_top")

    def __init__(self) -> None:
        self._top: dict[str, TreeEntry] = {}  # names, or the shards' trees
        self._shards: dict[str, dict[str, TreeEntry]] | None = None
        self._dirty: set[str] = set()
        self._oid: Oid | None = None

    @classmethod
    def read(cls, database: ObjectDatabase, tree_oid: Oid) -> NamespaceTree:
        """Reads a tree that is stored."""
        namespace = cls()
        namespace._oid = tree_oid
        namespace._top = database.read_tree(tree_oid)
        if any(entry.startswith("~") for entry in namespace._top):
            namespace._shards = {shard: database.read_tree(entry.oid) for shard, entry in namespace._top.items()}
        return namespace

    def copy(self) -> NamespaceTree:
        """Returns a copy that can be changed without changing this one; this one is not changed afterwards."""
        twin = NamespaceTree()
        twin._top = self._top.copy()
        twin._shards = None if self._shards is None else self._shards.copy()
        twin._oid = self._oid
        return twin

    def __len__(self) -> int:
        return len(self._top) if self._shards is None else sum(map(len, self._shards.values()))

    def find(self, name: str) -> TreeEntry | None:
        """Returns the tree or blob of a name, None when there is no such name."""
        entries = self._top if self._shards is None else self._shards.get(shard_of(name), {})
        return entries.get(entry_name(name))

    def names(self) -> Iterator[str]:
        """Yields all names."""
        for entries in [self._top] if self._shards is None else self._shards.values():
            yield from map(name_of_entry, entries)

    def put(self, name: str, entry: TreeEntry) -> None:
        """Sets the tree or blob of a name."""
        self._change(name)[entry_name(name)] = entry

    def drop(self, name: str) -> None:
        """Takes a name out; one that is not there is no error."""
        self._change(name).pop(entry_name(name), None)

    def write(self, batch: ObjectBatch) -> Oid | None:
        """Adds what changed to a batch; returns the id of the tree, None when there are no names."""
        if self._oid is not None:
            return self._oid
        self._reshape()
        if self._shards is not None:
            for shard in self._dirty:
                if self._shards[shard]:
                    self._top[shard] = TreeEntry(TREE_MODE, batch.add_tree(self._shards[shard]))
                else:
                    self._top.pop(shard, None)
                    del self._shards[shard]
            self._dirty.clear()
        if self._top:
            self._oid = batch.add_tree(self._top)
        return self._oid

    def _change(self, name: str) -> dict[str, TreeEntry]:
        self._oid = None
        if self._shards is None:
            return self._top
        shard = shard_of(name)
        if shard not in self._dirty:
            self._dirty.add(shard)
            self._shards[shard] = self._shards.get(shard, {}).copy()
        return self._shards[shard]

    def _reshape(self) -> None:
        """Goes from one form to the other when the number of names asks for it."""
        if self._shards is None and len(self._top) > SHARDING_COUNT:
            shards: dict[str, dict[str, TreeEntry]] = {}
            for entry, found in self._top.items():
                shards.setdefault(shard_of(name_of_entry(entry)), {})[entry] = found
            self._top, self._shards, self._dirty = {}, shards, set(shards)
        elif self._shards is not None and len(self) <= SHARDING_COUNT:
            self._top = {entry: found for shard in self._shards.values() for entry, found in shard.items()}
            self._shards, self._dirty = None, set()

"""Bytes and git objects: a genuine bare git repository, written at disk speed.

`ObjectDatabase` reads and writes objects, `ObjectBatch` collects those of one barrier into a pack, `Refs` moves refs by durable
compare-and-swap, `Seals` tells our own commits from a stranger's. Knows nothing of Python objects or of what a commit means.
The format is in docs/format.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.exports import lazily

if TYPE_CHECKING:
    from dartvc.store.batch import ObjectBatch
    from dartvc.store.checking import Problem
    from dartvc.store.database import ObjectDatabase
    from dartvc.store.objects import RawCommit, TreeEntry
    from dartvc.store.refs import Head, Refs
    from dartvc.store.trust import Seals

__all__ = ["Head", "ObjectBatch", "ObjectDatabase", "Problem", "RawCommit", "Refs", "Seals", "TreeEntry"]

__getattr__ = lazily(
    __name__,
    {
        "batch": ("ObjectBatch",),
        "checking": ("Problem",),
        "database": ("ObjectDatabase",),
        "objects": ("RawCommit", "TreeEntry"),
        "refs": ("Head", "Refs"),
        "trust": ("Seals",),
    },
)

"""Bytes and git objects: a genuine bare git repository, written at disk speed.

`ObjectDatabase` reads and writes objects, `ObjectBatch` collects those of one barrier into one pack, `Refs` moves refs by durable
compare-and-swap, `Seals` tells our own commits from a stranger's. Knows nothing of Python objects or of what a commit means.
"""

from __future__ import annotations

from dartvc.store.database import ObjectBatch, ObjectDatabase, RawCommit
from dartvc.store.packs import TreeEntry
from dartvc.store.refs import Head, Refs
from dartvc.store.trust import Seals

__all__ = ["Head", "ObjectBatch", "ObjectDatabase", "RawCommit", "Refs", "Seals", "TreeEntry"]

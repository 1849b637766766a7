"""What takes the space: bytes by name and by branch. Sizes are of the data, before compression; shared pieces count once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dartvc.history.namespace import iter_names, read_name_entry
from dartvc.history.payloads import read_payload
from dartvc.model import Oid

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["Usage", "usage_by_branch", "usage_by_name"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of one name or branch: all that its history holds, and how many stored versions that is."""

    name: str
    size_bytes: int
    versions: int


def usage_by_name(repository: Repository, tips: Iterable[Oid] | None = None) -> list[Usage]:
    """Returns what each name's history takes, largest first; a chunk counts for the first name that has it.

    Args:
        repository: where.
        tips: only the history below these; None: below every ref and HEAD.
    """
    chunks: set[Oid] = set()
    sizes: dict[str, int] = {}
    versions: dict[str, int] = {}
    seen: set[Oid] = set()
    for tree_oid in _name_trees(repository, _tips(repository) if tips is None else tips, set()):
        for name, found in iter_names(repository.database, tree_oid):
            if found.oid in seen:
                continue
            seen.add(found.oid)
            payload_oid = read_name_entry(repository.database, name, found).payload_oid
            sizes.setdefault(name, 0)
            versions[name] = versions.get(name, 0) + 1
            if payload_oid is not None:
                sizes[name] += _new_bytes(repository, payload_oid, chunks)
    return sorted((Usage(name, size, versions[name]) for name, size in sizes.items()), key=lambda usage: (-usage.size_bytes, usage.name))


def usage_by_branch(repository: Repository) -> list[Usage]:
    """Returns what each branch takes that the branches before it (in order of name) do not have already."""
    chunks: set[Oid] = set()
    seen: set[Oid] = set()
    usages = []
    for ref, oid in repository.database.refs.iter_refs("refs/heads/"):
        size = versions = 0
        for tree_oid in _name_trees(repository, [oid], seen):
            versions += 1
            for name, found in iter_names(repository.database, tree_oid):
                if found.oid not in seen:
                    seen.add(found.oid)
                    payload_oid = read_name_entry(repository.database, name, found).payload_oid
                    size += _new_bytes(repository, payload_oid, chunks) if payload_oid is not None else 0
        usages.append(Usage(ref.removeprefix("refs/heads/"), size, versions))
    return usages


def _tips(repository: Repository) -> list[Oid]:
    head = repository.database.refs.head().oid
    return [*(oid for _, oid in repository.database.refs.iter_refs()), *([head] if head is not None else [])]


def _name_trees(repository: Repository, tips: Iterable[Oid], seen: set[Oid]) -> Iterable[Oid]:
    for oid in repository.database.iter_commits(tips):
        root = repository.database.read_tree(repository.database.read_commit(oid).tree)
        entry = root.get("names")
        if entry is not None and entry.oid not in seen:
            seen.add(entry.oid)
            yield entry.oid


def _new_bytes(repository: Repository, payload_oid: Oid, chunks: set[Oid]) -> int:
    if payload_oid in chunks:
        return 0
    chunks.add(payload_oid)
    payload = read_payload(repository.database, payload_oid)
    size = 0
    for part in (payload.stream_chunks, *payload.buffers):
        for chunk in part:
            if chunk.oid not in chunks or chunk.oid == payload_oid:
                chunks.add(chunk.oid)
                size += payload.chunk_size(chunk)
    return size

"""Staged commits of plain values, for tests."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping

from xxhash import xxh3_128_digest

from dartvc.model import ChunkRef, CommitKind, Digest, Oid, Payload, StagedCommit, StagedName

Commit = Callable[..., Oid]


def chunk(data: bytes, *, is_known: bool = False) -> ChunkRef:
    """Returns a chunk; a known one leaves its bytes out."""
    return ChunkRef(Digest(xxh3_128_digest(data)), len(data), None if is_known else data)


def stage(
    changed: Mapping[str, object],
    *,
    message: str = "",
    code: str = "",
    kind: CommitKind = CommitKind.CELL,
    added: tuple[str, ...] = (),
    removed: tuple[str, ...] = (),
    time_s: float = 1_700_000_000.25,
    environment: Mapping[str, object] | None = None,
) -> StagedCommit:
    """Stages names, each a co-variable of its own."""
    names = []
    for name, value in changed.items():
        stream = pickle.dumps({name: value}, 5)
        names.append(StagedName(name, {"type": type(value).__name__, "repr": repr(value)}, Payload((name,), (chunk(stream),))))
    return StagedCommit(
        message, kind, time_s, 60, code=code, changed=tuple(names), added=added, removed=removed, environment=environment or {}
    )

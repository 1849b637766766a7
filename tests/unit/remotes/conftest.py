"""Repositories with a few commits, made the short way."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from xxhash import xxh3_128_digest

from dartvc.history import RefMove, Repository
from dartvc.model import ChunkRef, CommitKind, Digest, Oid, Payload, StagedCommit, StagedName
from dartvc.store import Head

Grow = Callable[..., list[Oid]]


def commit(repository: Repository, value: object, parents: Sequence[Oid], *, time_s: float = 1.7e9, name: str = "x") -> Oid:
    """Writes one commit that gives a name a value."""
    stream = pickle.dumps({name: value}, 5) + bytes(4)
    chunk = ChunkRef(Digest(xxh3_128_digest(stream)), len(stream), stream)
    staged = StagedName(name, {"type": type(value).__name__, "repr": repr(value)[:40]}, Payload((name,), (chunk,)))
    writer = repository.writer()
    oid = writer.write(StagedCommit(f"{name} = {value!r}"[:60], CommitKind.MANUAL, time_s, 0, changed=(staged,)), parents)
    writer.publish()
    repository.database.tidy()  # as a session does
    return oid


@pytest.fixture
def grow() -> Grow:
    """Returns what adds commits to a branch and moves it."""

    def add(repository: Repository, values: Sequence[object], branch: str = "main", *, name: str = "x") -> list[Oid]:
        ref = f"refs/heads/{branch}"
        made: list[Oid] = []
        start = tip = repository.database.refs.read(ref)
        for value in values:
            tip = commit(repository, value, [tip] if tip is not None else [], name=name)
            made.append(tip)
        repository.move_refs(
            [RefMove(ref, start, tip)], operation="commit", description="test", head=Head(ref, tip) if branch == "main" else None
        )
        return made

    return add


@pytest.fixture
def ours(tmp_path: Path) -> Repository:
    """Returns a repository of this machine."""
    return Repository.init(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Repository:
    """Returns a repository that was made with another machine's key."""
    return Repository.init(tmp_path / "theirs", key_path=tmp_path / "their-key", trust_path=tmp_path / "their-trust")

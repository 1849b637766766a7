"""Copies that wait to be written: bounded in number, used again, given back when nobody holds them."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

import dartvc
from dartvc.history import Repository
from dartvc.model import CommitKind, Oid, StagedCommit
from dartvc.sessions import Session, writer
from dartvc.state.copies import BLOCK_BYTES, CopyPool
from dartvc.state.working import NamespaceDelta

CHUNK = 512 * 1024


def test_a_copy_is_what_the_buffer_was_whatever_happens_to_it_afterwards() -> None:
    pool, chance = CopyPool(), random.Random(3)
    held: list[tuple[memoryview, bytes]] = []
    for _ in range(120):
        if held and chance.random() < 0.4:
            del held[chance.randrange(len(held))]
        if chance.random() < 0.1:
            pool.begin()
        source = bytearray(chance.randbytes(chance.choice([1, 700, CHUNK, BLOCK_BYTES])))
        held.append((pool.copy(memoryview(source)), bytes(source)))
        source[:] = bytes(len(source))
        assert all(bytes(copy) == content for copy, content in held)


def test_blocks_are_used_again_and_never_while_a_piece_of_them_is_held() -> None:
    pool = CopyPool()
    pool.begin()
    pool.copy(memoryview(b"x" * CHUNK))
    gone = [pool.copy(memoryview(bytes(CHUNK))) for _ in range(64)]
    pool.begin()
    del gone
    first = [pool.copy(memoryview(bytes([index]) * CHUNK)) for index in range(64)]
    pool.begin()
    kept = first[0]
    del first
    idle = pool.idle_bytes
    assert idle >= 6 * BLOCK_BYTES  # of eight, one is held and one is the last, from which pieces are still cut
    again = [pool.copy(memoryview(b"\xff" * CHUNK)) for _ in range(48)]
    assert pool.idle_bytes <= idle - 5 * BLOCK_BYTES
    assert bytes(kept) == bytes(CHUNK) and all(bytes(piece) == b"\xff" * CHUNK for piece in again)


def test_blocks_that_no_late_commit_needed_are_given_up() -> None:
    pool = CopyPool()
    held: list[memoryview] = []
    for _ in range(2):
        pool.begin()
        held = [pool.copy(memoryview(bytes(CHUNK))) for _ in range(64)]
    pool.begin()
    del held
    assert pool.idle_bytes
    for _ in range(9):
        pool.begin()
    assert pool.idle_bytes == 0


class Gate:
    """Holds a session's writer before it makes a commit visible, and tells how many bytes the copies take that wait meanwhile."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open, self.has_come = threading.Event(), threading.Event()
        publish = session._publish

        def held_back(before: Oid | None, after: Oid, staged: list[StagedCommit]) -> None:
            self.has_come.set()
            self.is_open.wait()
            publish(before, after, staged)

        monkeypatch.setattr(session._writer, "_publish", held_back)


def test_a_commit_is_copied_only_when_the_ones_before_it_have_been_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    monkeypatch.setattr(writer, "PENDING_BYTES_LIMIT", 4 * BLOCK_BYTES)
    namespace: dict[str, object] = {"array": np.zeros(8 * BLOCK_BYTES, dtype="u1")}
    session = Session(Repository.init(tmp_path), namespace)
    staged: list[int] = []
    stage = session.working.stage

    def counted(names: object) -> NamespaceDelta:
        staged.append(1)
        return stage(names)  # type: ignore[arg-type]

    monkeypatch.setattr(session.working, "stage", counted)
    gate = Gate(session, monkeypatch)
    chance = np.random.default_rng(1)

    def step() -> None:
        namespace["array"][:] = chance.integers(0, 255, 8 * BLOCK_BYTES, dtype="u1")  # type: ignore[index]
        session.commit_async("step", CommitKind.AUTO)

    step()
    assert gate.has_come.wait(60)
    second = threading.Thread(target=step)
    second.start()
    second.join(0.2)  # it cannot get on: the copies of the first commit are still held
    assert len(staged) == 1
    gate.is_open.set()
    second.join(60)
    session.flush()
    assert len(staged) == 2
    gc.collect()
    assert session.working._copies.idle_bytes >= 7 * BLOCK_BYTES  # what was written is held no longer, and used again
    assert (session.load(session.head or Oid(""))["array"] == namespace["array"]).all()  # type: ignore[attr-defined]
    session.close()


MEMORY = """
import resource, sys
import numpy as np, dartvc

arrays = [np.random.rand(4_000_000) for _ in range(2)]
repository = dartvc.init()
namespace = {"arrays": arrays}
repository.commit(namespace, "first")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(8):
    for each in arrays:
        each *= 1.0001
    repository.commit(namespace, f"step {number}", wait=False)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_dict_made_for_one_commit_does_not_live_for_ever(tmp_path: Path) -> None:
    class Value:
        pass

    repository = dartvc.init(tmp_path)
    seen: list[weakref.ref[Value]] = []
    for number in range(12):
        value = Value()
        seen.append(weakref.ref(value))
        repository.commit({"number": number, "value": value})
        del value
    gc.collect()
    assert sum(each() is not None for each in seen) <= 4
    assert [repository.load(each.oid)["number"] for each in repository.log()] == list(reversed(range(12)))


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit")
def test_commits_that_come_faster_than_they_are_written_hold_no_more_than_one_copy_of_what_changed(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert int(done.stdout) <= 64 + 256  # 64 MB change in each commit
    assert [each.message for each in dartvc.open(tmp_path).log()][:1] == ["step 7"]

"""What is stored within the share of a run, what waits, and what leaves memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dartvc.history import Repository
from dartvc.lineage import storing
from dartvc.lineage.handover import Handover
from dartvc.lineage.memory import Entry
from dartvc.lineage.shelf import Shelf
from dartvc.lineage.storing import Storing
from dartvc.lineage.streams import Streams

KEYS = [bytes([number]) * 16 for number in range(4)]


class Held:
    """A holding of a constant."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def take(self, *, is_borrowed: bool = False) -> Any:
        return self.value


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(Repository.init(tmp_path), 1 << 30)


def entry(cost_s: float, size_bytes: int = 1000) -> Entry:
    return Entry("f", Held(b"x" * size_bytes), size_bytes, cost_s)


def offered(kept: Storing, key: bytes, each: Entry) -> None:
    kept.offer(key, each, [("code", "00")], each.holding.value, each.size_bytes, is_inside=False)


def test_what_the_share_has_no_room_for_waits_and_leaves_with_what_memory_throws_out(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 1500)
    monkeypatch.setattr(storing, "_SHARE", 0.0)
    kept = Storing(shelf, {}, Streams())
    first, second = entry(1.0), entry(2.0)
    offered(kept, KEYS[0], first)
    offered(kept, KEYS[1], second)
    assert (shelf.has(KEYS[0]), shelf.has(KEYS[1])) == (True, False)
    kept.spill(KEYS[1], second)
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 1 << 20)
    kept.close()
    shelf.close()
    assert (shelf.has(KEYS[1]), kept.spilled) == (False, 0)


def test_what_waits_is_stored_with_what_it_depended_on_when_it_leaves_memory(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(storing, "_SHARE", 0.0)
    kept = Storing(shelf, {}, Streams())
    each = entry(1.0)
    offered(kept, KEYS[0], each)
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 1 << 20)
    kept.spill(KEYS[0], each)
    shelf.close()
    stored = shelf.find(KEYS[0])
    assert kept.spilled == 1
    assert stored is not None and stored.facts["components"] == [["code", "00"]]


def test_what_the_processes_of_a_run_hand_over_keeps_to_the_share_of_all_of_them(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(storing, "_SHARE", 1e-9)
    folder = tmp_path / "handed"
    folder.mkdir()
    handover = Handover(folder, Repository.open(tmp_path).seals)
    worker = Storing(None, {}, Streams())
    worker.handover = handover
    offered(worker, KEYS[0], entry(1.0, 100_000))
    kept = Storing(shelf, {}, Streams())
    kept.take_over(handover, 0.0)
    assert not shelf.has(KEYS[0])
    kept.take_over(handover, 1e7)
    assert shelf.has(KEYS[0])
    shelf.close()


def test_a_forked_child_leaves_what_waits_to_its_parent(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(storing, "_SHARE", 0.0)
    kept = Storing(shelf, {}, Streams())
    offered(kept, KEYS[0], entry(1.0))
    kept.begin_anew()
    monkeypatch.setattr(storing, "_AT_ONCE_BYTES", 1 << 20)
    kept.close()
    assert not shelf.has(KEYS[0])

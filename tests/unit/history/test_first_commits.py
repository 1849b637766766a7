"""A commit of everything tells what differs from its parent, as any other commit does."""

from __future__ import annotations

from pathlib import Path

import pytest

import dartvc
from dartvc.errors import StorageError
from dartvc.model import Commit


def changes(commit: Commit) -> tuple[set[str], set[str], set[str]]:
    return set(commit.added), set(commit.modified), set(commit.removed)


def test_another_process_s_namespace_is_compared_with_the_parent(tmp_path: Path) -> None:
    dartvc.init(tmp_path).commit({"same": [1], "other": 1, "gone": 2}, "first")
    again = dartvc.open(tmp_path)
    again.commit({"same": [1], "other": 2, "new": 3}, "second")
    newest, oldest = again.log()
    assert changes(oldest) == ({"same", "other", "gone"}, set(), set())
    assert changes(newest) == ({"new"}, {"other"}, {"gone"})


def test_after_a_refused_commit_the_next_one_adds_only_what_is_new(tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {f"name_{number}": [number] for number in range(400)}  # more than one tree holds
    repository.commit(namespace, "first")
    packs = tmp_path / ".dvc-state" / "objects" / "pack"
    aside = packs.rename(packs.with_name("aside"))
    packs.write_text("no folder")
    namespace["name_1"] = ["changed"]
    with pytest.raises(StorageError):
        repository.commit(namespace, "refused")
    packs.unlink()
    aside.rename(packs)
    namespace["new"] = 1
    del namespace["name_2"]
    repository.commit(namespace, "second")
    assert changes(next(iter(repository.log()))) == ({"new"}, {"name_1"}, {"name_2"})
    assert repository.load("HEAD")["name_1"] == ["changed"]


def test_nothing_changed_is_told_as_nothing(tmp_path: Path) -> None:
    dartvc.init(tmp_path).commit({"x": [1]}, "first")
    again = dartvc.open(tmp_path)
    again.commit({"x": [1]}, "second")
    assert changes(next(iter(again.log()))) == (set(), set(), set())

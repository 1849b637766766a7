"""Commits that the disk refuses: the program goes on, and the next commit holds everything that the refused ones would have."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from dartvc.errors import StorageError
from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.porcelain.face import Repository as Face


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository.init(tmp_path, key_path=tmp_path / "key", trust_path=tmp_path / "trusted")


def refuse_packs(repository: Repository) -> Callable[[], None]:
    """Makes the disk refuse packs; returns what makes it take them again."""
    folder = repository.database.pack_folder
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("no folder")

    def recover() -> None:
        folder.unlink()
        aside.rename(folder)

    return recover


@pytest.mark.parametrize("refused", [1, 3])
def test_the_next_commit_holds_what_refused_ones_would_have(repository: Repository, refused: int) -> None:
    face = Face(repository)
    namespace: dict[str, object] = {"__name__": "__main__", "kept": [1], "changed": bytearray(200_000), "removed": "x"}
    first = face.commit(namespace, "first").oid
    recover = refuse_packs(repository)
    namespace["changed"] = bytearray(b"1" * 200_000)
    namespace["new"] = ["made while the disk was full"]
    del namespace["removed"]
    pending = []
    for number in range(refused):
        namespace["number"] = number
        pending.append(face.commit(namespace, "refused", wait=False))
    for each in pending:
        with pytest.raises(StorageError):
            each.wait()
    assert repository.database.refs.read("refs/heads/main") == first
    recover()
    after = face.commit(namespace, "after")
    assert face.load(after.oid) == {name: value for name, value in namespace.items() if name != "__name__"}
    assert repository.commit(after.oid).parents == (first,)
    assert list(check_repository(repository)) == []


def test_a_disk_too_full_to_join_packs_costs_no_commit(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dartvc.store.merging.merge_packs", refuse)
    face = Face(repository)
    oids = [face.commit({"__name__": "__main__", "x": number}, f"step {number}").oid for number in range(30)]
    assert [commit.oid for commit in face.log()] == oids[::-1]
    assert list(check_repository(repository)) == []


def test_a_branch_that_moved_for_a_refused_commit_is_moved_back(repository: Repository) -> None:
    face = Face(repository)
    namespace: dict[str, object] = {"__name__": "__main__", "x": 1}
    first = face.commit(namespace, "first").oid
    path, aside = repository.operations.path, repository.path / "aside"
    path.rename(aside)
    path.mkdir()
    namespace["x"] = 2
    with pytest.raises(StorageError):
        face.commit(namespace, "refused")
    path.rmdir()
    aside.rename(path)
    assert repository.database.refs.read("refs/heads/main") == first
    namespace["x"] = 3
    after = face.commit(namespace, "after").oid
    assert repository.commit(after).parents == (first,) and repository.resolve("HEAD") == after
    assert [name for name, _ in repository.database.refs.iter_refs()] == ["refs/heads/main"]

"""A first clone on one machine takes packs whole, unless something speaks against it; what it has is the same either way."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from dartvc.errors import RemoteError
from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.history.gc import collect_garbage
from dartvc.remotes import clone, parse_address
from dartvc.remotes.sharing import can_share
from tests.unit.remotes.conftest import Grow


def cloned(theirs: Repository, tmp_path: Path) -> Repository:
    """Clones a repository and checks that the clone has what it has."""
    clone(parse_address(str(theirs.root), tmp_path), tmp_path / "copy")
    copy = Repository.open(tmp_path / "copy", walk_up=False)
    assert copy.resolve("HEAD") == theirs.resolve("main") and list(check_repository(copy)) == []
    assert not [path for path in copy.database.pack_folder.iterdir() if path.name.startswith("tmp_")]
    return copy


def inodes(repository: Repository) -> set[int]:
    """Returns the files that the packs of a repository are."""
    return {pack.path.stat().st_ino for pack in repository.database.iter_packs()}


def test_packs_are_linked_and_either_side_can_be_cleaned_up(theirs: Repository, grow: Grow, tmp_path: Path) -> None:
    made = grow(theirs, list(range(20)))
    copy = cloned(theirs, tmp_path)
    assert inodes(copy) == inodes(theirs)
    grow(theirs, ["more"], "side")
    theirs.database.refs.move("refs/heads/side", None, expected=theirs.resolve("side"))
    theirs.operations.path.unlink()
    assert collect_garbage(theirs, grace_s=-1).dropped_commits == 1
    collect_garbage(copy, grace_s=-1)
    shutil.rmtree(theirs.path)
    fresh = Repository.open(copy.root, walk_up=False)
    assert list(check_repository(fresh)) == [] and list(fresh.database.iter_commits([fresh.resolve("HEAD")])) == made[::-1]


def test_where_links_are_refused_packs_are_copied(theirs: Repository, grow: Grow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(theirs, list(range(5)))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    copy = cloned(theirs, tmp_path)
    assert not inodes(copy) & inodes(theirs)


def test_damage_is_not_inherited(theirs: Repository, grow: Grow, tmp_path: Path) -> None:
    grow(theirs, [bytes(range(256)) * 40])
    pack = next(theirs.database.iter_packs()).path
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(content)
    assert not can_share(Repository.open(theirs.root).database, Repository.init(tmp_path / "empty").database)
    with pytest.raises(RemoteError):
        clone(parse_address(str(theirs.root), tmp_path), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_pack_that_is_gone_is_noticed(theirs: Repository, grow: Grow, tmp_path: Path) -> None:
    grow(theirs, [1, 2, 3])
    pack = next(theirs.database.iter_packs())
    pack.index_path.unlink()
    pack.path.unlink()
    with pytest.raises(RemoteError):
        clone(parse_address(str(theirs.root), tmp_path), tmp_path / "copy")


def test_packs_of_another_user_or_behind_links_and_loose_objects_are_not_taken_whole(
    theirs: Repository, grow: Grow, tmp_path: Path
) -> None:
    grow(theirs, [1])
    empty = Repository.init(tmp_path / "empty").database
    assert can_share(theirs.database, empty)
    (theirs.path / "objects/ab").mkdir()
    assert not can_share(theirs.database, empty)
    (theirs.path / "objects/ab").rmdir()
    pack = next(theirs.database.iter_packs()).path
    if os.geteuid() == 0:
        os.chown(pack, 12345, -1)
        assert not can_share(theirs.database, empty)
        os.chown(pack, 0, -1)
    pack.rename(tmp_path / "elsewhere")
    pack.symlink_to(tmp_path / "elsewhere")
    assert not can_share(Repository.open(theirs.root).database, empty)

"""Refs, locks and seals."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dartvc.errors import CorruptError, LockedError, RefConflictError, UsageError
from dartvc.model import Oid
from dartvc.store import Head, ObjectDatabase, Seals
from dartvc.store.locks import RepositoryLock

ONE, TWO = Oid("1" * 40), Oid("2" * 40)


def test_a_ref_moves_only_from_where_it_is(database: ObjectDatabase) -> None:
    refs = database.refs
    assert refs.read("refs/heads/main") is None and refs.head() == Head("refs/heads/main", None)
    refs.move("refs/heads/main", ONE, expected=None)
    for wrong in (None, TWO):
        with pytest.raises(RefConflictError):
            refs.move("refs/heads/main", TWO, expected=wrong)
    refs.move("refs/heads/main", TWO, expected=ONE)
    assert refs.head() == Head("refs/heads/main", TWO)
    refs.move("refs/heads/main", None, expected=TWO)
    assert refs.read("refs/heads/main") is None
    refs.move("refs/heads/main", None, expected=None)


def test_packed_refs_are_read_overridden_and_deleted(database: ObjectDatabase) -> None:
    packed = database.path / "packed-refs"
    packed.write_text(f"# pack-refs with: peeled fully-peeled sorted \n{ONE} refs/heads/old\n{ONE} refs/tags/v1\n^{TWO}\n")
    refs = database.refs
    refs.move("refs/heads/old", TWO, expected=ONE)
    assert list(refs.iter_refs()) == [("refs/heads/old", TWO), ("refs/tags/v1", ONE)]
    refs.move("refs/heads/old", None, expected=TWO)
    assert list(ObjectDatabase.open(database.path).refs.iter_refs()) == [("refs/tags/v1", ONE)]


@pytest.mark.parametrize("moment", ["iter_files", "_packed"])
def test_a_ref_that_git_packs_meanwhile_is_listed(database: ObjectDatabase, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    refs = database.refs
    refs.move("refs/heads/kept", ONE, expected=None)
    look = getattr(refs, moment)

    def look_and_pack(*arguments: str) -> object:
        seen = look(*arguments)
        seen = seen if isinstance(seen, dict) else list(seen)
        (database.path / "packed-refs").write_text(f"{ONE} refs/heads/kept\n")
        (database.path / "refs/heads/kept").unlink(missing_ok=True)
        return seen

    monkeypatch.setattr(refs, moment, look_and_pack)
    assert list(refs.iter_refs()) == [("refs/heads/kept", ONE)]


def test_names_that_git_forbids_and_names_in_the_way(database: ObjectDatabase) -> None:
    for bad in ("refs/heads/a b", "refs/heads/..", "refs/heads/x.lock", "refs/heads/", "/x", "refs/heads/a~1"):
        with pytest.raises(UsageError):
            database.refs.move(bad, ONE, expected=None)
    database.refs.move("refs/heads/a/b", ONE, expected=None)
    with pytest.raises(UsageError):
        database.refs.move("refs/heads/a", ONE, expected=None)
    with pytest.raises(UsageError):
        database.refs.move("refs/heads/a/b/c", ONE, expected=None)
    database.refs.move("refs/heads/a/b", None, expected=ONE)
    database.refs.move("refs/heads/a", ONE, expected=None)


def test_damaged_refs_are_named(database: ObjectDatabase) -> None:
    database.refs.move("refs/heads/main", ONE, expected=None)
    (database.path / "refs/heads/main").write_bytes(b"\xff" * 41)
    with pytest.raises(CorruptError, match="refs/heads/main"):
        database.refs.read("refs/heads/main")
    (database.path / "HEAD").write_text("")
    with pytest.raises(CorruptError):
        database.refs.head()
    assert {problem.where for problem in database.verify()} == {"HEAD", "refs/heads/main"}
    database.refs.set_head(TWO)
    assert database.refs.head() == Head(None, TWO)


def test_a_killed_holders_git_lock_is_swept_and_a_living_git_respected(database: ObjectDatabase) -> None:
    lock = database.path / "refs/heads/main.lock"
    lock.write_text("")
    (database.path / "dartvc.announced").symlink_to("refs/heads/main.lock")
    database.refs.move("refs/heads/main", ONE, expected=None)
    assert not lock.exists()
    lock.write_text("")
    repository_lock = RepositoryLock(database.path / "dartvc.lock")
    with repository_lock.hold(1), pytest.raises(LockedError), repository_lock.git_lock(database.path / "refs/heads/main", 0):
        pass
    os.utime(lock, (1, 1))
    database.refs.move("refs/heads/main", TWO, expected=ONE)


@pytest.mark.parametrize("form", ["{}/precious.lock", "../precious.lock", "../../{}/precious.lock"])
def test_a_strangers_announcement_takes_nothing_away_outside(database: ObjectDatabase, form: str) -> None:
    precious = database.path.parent / "precious.lock"
    precious.write_text("")
    (database.path / "dartvc.announced").symlink_to(form.format(database.path.parent))
    with database.lock():
        assert precious.exists()
    assert not (database.path / "dartvc.announced").is_symlink()


def test_the_lock_excludes_others_and_admits_its_holder(database: ObjectDatabase) -> None:
    with database.lock(), database.lock():
        with pytest.raises(LockedError), ObjectDatabase.open(database.path).lock(timeout_s=0):
            pass
        seen = []

        def attempt() -> None:
            try:
                with database.lock(timeout_s=0):
                    seen.append("held")
            except LockedError:
                seen.append("locked")

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert seen == ["locked"]
    with ObjectDatabase.open(database.path).lock(timeout_s=0):
        pass


def test_a_forked_child_does_not_hold_its_parents_lock(database: ObjectDatabase) -> None:
    with database.lock():
        child = os.fork()
        if child == 0:
            try:
                with database.lock(timeout_s=0):
                    os._exit(1)
            except LockedError:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_seals_are_this_keys_alone(tmp_path: Path) -> None:
    ours, theirs = Seals(tmp_path / "a" / "key"), Seals(tmp_path / "b" / "key")
    assert not theirs.is_ours(b"x", "AAAA") and not (tmp_path / "b").exists()
    seal = ours.seal(b"payload")
    assert len(seal) == 22 and Seals(tmp_path / "a" / "key").is_ours(b"payload", seal)
    theirs.seal(b"payload")
    assert not theirs.is_ours(b"payload", seal) and not ours.is_ours(b"other", seal) and not ours.is_ours(b"payload", "\udc80")
    assert (tmp_path / "a" / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(CorruptError):
        Seals(tmp_path / "c").seal(b"x")

"""A session that lives while another process thins and collects: it goes on where it was, and nothing that it counts on is gone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartvc.history import RefMove, Repository
from dartvc.history.fsck import check_repository
from dartvc.history.gc import collect_garbage
from dartvc.history.retention import Retention, thin
from dartvc.model import Oid, StagedCommit
from dartvc.porcelain.upkeep import clean
from dartvc.sessions import Session

NOTHING = Retention(keep_last=1, keep_within_s=0.0)
LATER_S = 4e9


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository whose operations protect nothing."""
    made = Repository.init(tmp_path, key_path=tmp_path / "key", trust_path=tmp_path / "trusted")
    made.config.set("dartvc.undoWindow", "0s")
    return made


@pytest.fixture
def session(repository: Repository) -> Iterator[Session]:
    """A living session with ten automatic commits of a value that changes and one that does not."""
    made = Session(repository, {"__name__": "__main__", "kept": list(range(100)), "data": bytearray(100_000)})
    for step in range(10):
        step_to(made, step)
    yield made
    made.close()


def step_to(session: Session, step: int) -> Oid:
    """Commits a step, as a cell would."""
    session.begin_unit()
    session.namespace["step"] = step
    session.namespace["data"][step] = 1  # type: ignore[index]
    ticket = session.end_unit("a cell", source=None, execution=None, error="", duration_s=0.0)
    session.flush()
    assert ticket is not None and ticket.oid is not None
    return ticket.oid


def another(repository: Repository) -> Repository:
    """Opens the repository as another process would."""
    return Repository.open(repository.root, key_path=repository.root / "key", trust_path=repository.root / "trusted")


def is_sound(repository: Repository) -> bool:
    """Whether both we and C git find everything in order."""
    git = subprocess.run(["git", "--git-dir", str(repository.path), "fsck", "--strict"], capture_output=True, text=True, check=False)
    assert git.returncode == 0, git.stderr
    return list(check_repository(another(repository))) == []


@pytest.mark.parametrize("is_collected", [False, True])
def test_a_session_goes_on_on_its_branch_after_a_thinning(repository: Repository, session: Session, is_collected: bool) -> None:
    other = another(repository)
    assert thin(other, NOTHING, now_s=LATER_S).dropped
    if is_collected:
        assert collect_garbage(other, grace_s=-1).dropped_commits
    assert session.head == other.resolve("HEAD")
    after = step_to(session, 50)
    assert session.branch == "main" and after == another(repository).resolve("main")
    state = session.load(after)
    assert (state["step"], state["kept"], state["data"]) == (50, list(range(100)), session.namespace["data"])
    assert is_sound(repository)


def test_a_thinning_between_the_writing_and_the_naming_of_a_commit_takes_it_along(
    repository: Repository, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = session._writer._commit_writer
    assert writer is not None
    write, is_first = writer.write, True

    def thin_once(staged: StagedCommit, parents: list[Oid]) -> Oid:
        nonlocal is_first
        oid = write(staged, parents)
        if is_first:
            is_first = False
            clean(another(repository), NOTHING, grace_s=-1, now_s=LATER_S)
        return oid

    monkeypatch.setattr(writer, "write", thin_once)
    after = step_to(session, 60)
    assert session.branch == "main" and after == another(repository).resolve("main")
    assert len(list(another(repository).database.iter_commits([after]))) < 5
    assert is_sound(repository)


def test_a_value_whose_old_bytes_were_thrown_away_is_written_again(repository: Repository, session: Session) -> None:
    lost = ["only here", *range(1000)]
    session.namespace["value"] = lost
    step_to(session, 20)
    session.namespace["value"] = None
    step_to(session, 21)
    clean(another(repository), NOTHING, grace_s=-1, now_s=LATER_S)
    session.namespace["value"] = list(lost)
    after = step_to(session, 22)
    assert another(repository).database.contains(after) and is_sound(repository)
    assert session.load(after)["value"] == lost


def test_a_thinning_that_was_killed_before_it_moved_the_branch_is_not_followed(
    repository: Repository, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another(repository)
    monkeypatch.setattr(other, "move_refs", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        thin(other, NOTHING, now_s=LATER_S)
    before = session.head
    assert before == another(repository).database.refs.read("refs/heads/main")
    step_to(session, 30)
    assert session.branch == "main"
    clean(another(repository), NOTHING, grace_s=-1, now_s=LATER_S)
    step_to(session, 31)
    assert session.branch == "main" and is_sound(repository)


def test_what_a_detached_session_stands_at_is_kept(repository: Repository, session: Session) -> None:
    middle = list(repository.database.iter_commits([session.head or Oid("")]))[5]
    session.restore(middle)
    session.set_head(middle, None, operation="checkout", description="checkout")
    repository.database.refs.set_head("refs/heads/main")  # as another session would have it
    clean(another(repository), NOTHING, grace_s=-1, now_s=LATER_S)
    assert another(repository).database.contains(middle)
    after = step_to(session, 40)
    assert another(repository).commit(after).parents == (middle,) and is_sound(repository)


def test_fsck_names_a_parent_that_is_gone_even_if_a_thinning_replaced_it(repository: Repository, session: Session) -> None:
    head = session.head
    assert head is not None
    repository.replace_ids({Oid("a" * 40): head})
    batch = repository.database.batch()
    orphan = batch.add_commit(repository.commit(head).tree, [Oid("a" * 40)], "orphan\n", 1e9, 0, "A <a@b>")
    batch.publish()
    repository.move_refs([RefMove("orphan", None, orphan)], operation="branch", description="")
    assert any("a" * 40 in problem.where + problem.detail for problem in check_repository(another(repository)))


def test_journals_of_which_no_commit_is_left_are_removed(repository: Repository, session: Session) -> None:
    for name in ("runs/gone", "runs/waiting/logs", "cells/gone"):
        (repository.path / name).mkdir(parents=True)
        (repository.path / name / "journal").write_text("")
    assert clean(another(repository), Retention(), grace_s=3600).journals == ()
    assert clean(another(repository), Retention(), grace_s=-1, dry_run=True).journals == ("runs/gone", "cells/gone")
    assert clean(another(repository), Retention(), grace_s=-1).journals == ("runs/gone", "cells/gone")
    assert sorted(path.name for path in (repository.path / "runs").iterdir()) == ["waiting"]

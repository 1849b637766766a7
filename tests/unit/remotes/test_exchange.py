"""Fetch, push and clone between two repositories on this machine: what travels, what is protected, what is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from dartvc.errors import NotFoundError, RefusedError, RemoteError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.model import Oid
from dartvc.remotes import Exchange, Remotes, UpdateKind, clone, fetch, parse_address, push
from dartvc.remotes.pushing import parse_refspec
from dartvc.sessions.registry import Registration
from dartvc.store import ObjectDatabase
from tests.unit.remotes.conftest import Grow


def fetched(into: Repository, source: Repository, *branches: str, **options: bool) -> Exchange:
    """Fetches from a repository as ``origin``."""
    remotes = Remotes(into)
    remote = remotes.get("origin") if remotes.known() else remotes.add("origin", str(source.root))
    return fetch(into, remote, remotes.address(remote), branches, **options)


def pushed(source: Repository, target: Path, *refs: str, force: bool = False) -> Exchange:
    """Pushes refs to a repository as ``origin``."""
    remotes = Remotes(source)
    remote = remotes.get("origin") if remotes.known() else remotes.add("origin", str(target))
    return push(source, remote, remotes.address(remote), [parse_refspec(source, ref) for ref in refs], force=force)


def kinds(done: Exchange) -> dict[str, UpdateKind]:
    return {update.target: update.kind for update in done.updates}


def point(repository: Repository, name: str, oid: Oid | None) -> None:
    repository.move_refs([RefMove(name, repository.database.refs.read(name), oid)], operation="test", description="test")


def test_branches_become_tracking_refs_and_tags_and_runs_keep_their_names(ours: Repository, theirs: Repository, grow: Grow) -> None:
    first, tip = grow(theirs, [1, 2])
    point(theirs, "refs/tags/best", first)
    point(theirs, "refs/runs/0badcafe", tip)
    point(theirs, "refs/dartvc/stash", tip)
    point(theirs, "refs/remotes/upstream/main", tip)
    fetched(ours, theirs)
    assert dict(ours.database.refs.iter_refs()) == {
        "refs/remotes/origin/main": tip,
        "refs/tags/best": first,
        "refs/runs/0badcafe": tip,
    }
    assert not list(ours.database.verify())
    assert ours.resolve("origin/main~1") == first


def test_a_second_fetch_brings_only_what_is_new(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(theirs, [bytes(300_000), 1])
    assert fetched(ours, theirs).size_bytes > 1000
    grow(theirs, [2], name="y")
    again = fetched(ours, theirs)
    assert again.objects <= 8 and again.size_bytes < 2000
    assert fetched(ours, theirs).objects == 0


def test_only_the_named_branch_is_fetched(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(theirs, [1])
    grow(theirs, [2], "other")
    assert kinds(fetched(ours, theirs, "other")) == {"refs/remotes/origin/other": UpdateKind.NEW}
    with pytest.raises(NotFoundError):
        fetched(ours, theirs, "none")


def test_a_tag_of_ours_is_not_replaced_without_force(ours: Repository, theirs: Repository, grow: Grow) -> None:
    (mine,), (foreign,) = grow(ours, [1]), grow(theirs, [2])
    point(ours, "refs/tags/best", mine)
    point(theirs, "refs/tags/best", foreign)
    assert kinds(fetched(ours, theirs))["refs/tags/best"] is UpdateKind.REJECTED
    assert ours.database.refs.read("refs/tags/best") == mine
    assert kinds(fetched(ours, theirs, force=True))["refs/tags/best"] is UpdateKind.FORCED


def test_a_run_that_went_on_on_both_sides_is_not_replaced(ours: Repository, theirs: Repository, grow: Grow) -> None:
    start = grow(theirs, [1])[-1]
    point(theirs, "refs/runs/0badcafe", start)
    fetched(ours, theirs)
    point(ours, "refs/heads/main", start)
    mine = grow(ours, ["ours"])[-1]
    point(ours, "refs/runs/0badcafe", mine)
    assert kinds(fetched(ours, theirs))["refs/runs/0badcafe"] is UpdateKind.UP_TO_DATE
    point(theirs, "refs/runs/0badcafe", grow(theirs, ["theirs"])[-1])
    assert kinds(fetched(ours, theirs))["refs/runs/0badcafe"] is UpdateKind.KEPT
    assert ours.database.refs.read("refs/runs/0badcafe") == mine
    assert kinds(pushed(ours, theirs.root, "main:line"))["refs/runs/0badcafe"] is UpdateKind.KEPT
    assert kinds(pushed(ours, theirs.root, "runs/0badcafe")) == {"refs/runs/0badcafe": UpdateKind.REJECTED}
    assert kinds(pushed(ours, theirs.root, "runs/0badcafe", force=True)) == {"refs/runs/0badcafe": UpdateKind.FORCED}


def test_a_branch_that_went_away_is_forgotten_only_when_asked_and_may_make_room(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(theirs, [1])
    grow(theirs, [2], "a")
    fetched(ours, theirs)
    point(theirs, "refs/heads/a", None)
    fetched(ours, theirs)
    assert ours.database.refs.read("refs/remotes/origin/a") is not None
    grow(theirs, [3], "a/b")
    assert kinds(fetched(ours, theirs, prune=True)) == {
        "refs/remotes/origin/a": UpdateKind.DELETED,
        "refs/remotes/origin/a/b": UpdateKind.NEW,
        "refs/remotes/origin/main": UpdateKind.UP_TO_DATE,
    }


def test_foreign_commits_are_not_trusted_unless_said(ours: Repository, theirs: Repository, grow: Grow) -> None:
    made = grow(theirs, [1, 2])
    fetched(ours, theirs)
    assert not any(map(ours.is_trusted, made))
    fetched(ours, theirs, trust=True)
    assert all(map(ours.is_trusted, made))


def test_an_undo_passes_over_what_only_remembers_where_a_remote_is(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(ours, [0])
    first = ours.resolve("main")
    grow(ours, [1])
    grow(ours, [2])
    tip = grow(theirs, [1])[-1]
    fetched(ours, theirs)
    for _ in range(2):
        ours.carry_out(ours.operations.plan_undo())
        fetched(ours, theirs)
    assert ours.database.refs.read("refs/heads/main") == first and ours.resolve("origin/main") == tip
    assert ours.operations.plan_undo().description.endswith("test")


def test_a_push_takes_the_tags_and_runs_of_what_is_pushed_along(ours: Repository, theirs: Repository, grow: Grow) -> None:
    first, tip = grow(ours, [1, 2])
    other = grow(ours, [3], "other")[-1]
    point(ours, "refs/tags/best", first)
    point(ours, "refs/tags/elsewhere", other)
    point(ours, "refs/runs/0badcafe", tip)
    pushed(ours, theirs.root, "main")
    assert dict(theirs.database.refs.iter_refs()) == {"refs/heads/main": tip, "refs/tags/best": first, "refs/runs/0badcafe": tip}
    assert ours.database.refs.read("refs/remotes/origin/main") == tip
    assert not list(ObjectDatabase.open(theirs.path).verify())
    assert next(theirs.operations.iter_newest()).operation == "receive"


def test_a_push_loses_nothing_there_unless_forced(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(theirs, ["only there"])
    mine = grow(ours, ["only here"])[-1]
    refused = pushed(ours, theirs.root, "main")
    assert kinds(refused) == {"refs/heads/main": UpdateKind.REJECTED} and "not here" in refused.updates[0].reason
    fetched(ours, theirs)
    assert "fast-forward" in pushed(ours, theirs.root, "main").updates[0].reason
    assert kinds(pushed(ours, theirs.root, "main", force=True)) == {"refs/heads/main": UpdateKind.FORCED}
    assert theirs.database.refs.read("refs/heads/main") == mine


def test_a_branch_is_pushed_under_another_name_and_deleted_there(ours: Repository, theirs: Repository, grow: Grow) -> None:
    tip = grow(ours, [1])[-1]
    pushed(ours, theirs.root, "main:shared/work")
    assert theirs.database.refs.read("refs/heads/shared/work") == tip
    assert kinds(pushed(ours, theirs.root, ":shared/work")) == {"refs/heads/shared/work": UpdateKind.DELETED}
    assert kinds(pushed(ours, theirs.root, ":shared/work")) == {"refs/heads/shared/work": UpdateKind.REJECTED}
    assert not list(theirs.database.refs.iter_refs()) and not list(ours.database.refs.iter_refs("refs/remotes/"))


def test_a_branch_with_a_living_session_is_not_moved_under_it(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(ours, [1])
    living = Registration(theirs.path, "feedbeef")
    living.write("main")
    with pytest.raises(RefusedError, match="session"):
        pushed(ours, theirs.root, "main")
    pushed(ours, theirs.root, "main:inbox")
    living.end()
    pushed(ours, theirs.root, "main")


@pytest.mark.parametrize("ref", ["nope", "main:", "", "main:refs/dartvc/stash", "main:a..b", "refs/remotes/origin/main"])
def test_what_cannot_be_pushed_is_named(ours: Repository, grow: Grow, ref: str) -> None:
    grow(ours, [1])
    with pytest.raises((NotFoundError, UsageError)):
        parse_refspec(ours, ref)


def test_equal_objects_that_are_damaged_here_are_brought_again(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(theirs, [b"\7" * 100_000])
    fetched(ours, theirs)
    (pack,) = ours.path.glob("objects/pack/*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.unlink()  # it is a link: theirs stays whole
    pack.write_bytes(content)
    assert list(ours.database.verify())
    point(ours, "refs/remotes/origin/main", None)
    fetched(ours, theirs)
    fresh = Repository(ours.root)
    tip = fresh.resolve("origin/main")
    assert fresh.payload(fresh.names(tip)["x"].payload_oid or Oid("")).read_stream()


def test_what_is_damaged_there_is_said_and_changes_nothing_here(ours: Repository, theirs: Repository, grow: Grow) -> None:
    grow(theirs, [b"\7" * 100_000])
    (pack,) = theirs.path.glob("objects/pack/*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(content)
    with pytest.raises(RemoteError, match="damaged"):
        fetched(ours, Repository(theirs.root))
    assert not list(ours.database.refs.iter_refs()) and not list(ours.path.glob("objects/pack/*"))


def test_a_clone_has_everything_and_stands_where_the_other_stands(theirs: Repository, tmp_path: Path, grow: Grow) -> None:
    first, tip = grow(theirs, [1, 2])
    grow(theirs, [3], "other")
    point(theirs, "refs/tags/best", first)
    made = clone(parse_address(str(theirs.root), tmp_path), tmp_path / "copy")
    copy = Repository(made.root)
    assert (made.branch, made.head) == ("main", tip) and copy.resolve("HEAD") == tip
    assert copy.resolve("origin") == tip and copy.resolve("best") == first and copy.resolve("origin/other")
    assert Remotes(copy).upstream("main") is not None
    assert [path.name for path in made.root.iterdir()] == [".dvc-state"]
    assert clone(parse_address(str(theirs.root), tmp_path), tmp_path / "second", branch="other").branch == "other"


def test_a_clone_into_a_folder_with_files_leaves_them_alone(theirs: Repository, tmp_path: Path, grow: Grow) -> None:
    grow(theirs, [1])
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("pass\n")
    clone(parse_address(str(theirs.root), tmp_path), tmp_path / "code")
    assert (tmp_path / "code" / "train.py").read_text() == "pass\n"
    with pytest.raises(UsageError, match="already"):
        clone(parse_address(str(theirs.root), tmp_path), tmp_path / "code")


def test_a_clone_that_fails_leaves_nothing(theirs: Repository, tmp_path: Path, grow: Grow) -> None:
    grow(theirs, [1])
    with pytest.raises(NotFoundError):
        clone(parse_address(str(theirs.root), tmp_path), tmp_path / "copy", branch="none")
    with pytest.raises(RemoteError):
        clone(parse_address(str(tmp_path / "nothing"), tmp_path), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_empty_repository_is_cloned_and_pushed_back_to(theirs: Repository, tmp_path: Path, grow: Grow) -> None:
    made = clone(parse_address(str(theirs.root), tmp_path), tmp_path / "copy")
    assert (made.branch, made.head) == ("main", None)
    copy = Repository(made.root)
    tip = grow(copy, [1])[-1]
    pushed(copy, theirs.root, "main")
    assert theirs.database.refs.read("refs/heads/main") == tip


def test_a_repository_of_files_is_not_taken_for_one_of_states(ours: Repository, tmp_path: Path) -> None:
    (tmp_path / "code" / ".git").mkdir(parents=True)
    with pytest.raises(RemoteError, match="files"):
        clone(parse_address(str(tmp_path / "code"), tmp_path), tmp_path / "copy")

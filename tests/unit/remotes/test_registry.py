"""Remotes by name: git's own configuration, refs that follow a rename, clear refusals."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from dartvc.errors import NotFoundError, UsageError
from dartvc.history import Repository
from dartvc.remotes import Remotes, fetch
from dartvc.remotes.registry import Upstream
from tests.unit.remotes.conftest import Grow


def test_a_remote_is_added_listed_changed_and_removed(ours: Repository) -> None:
    remotes = Remotes(ours)
    remotes.add("origin", "host:work")
    remotes.add("My.Box", "/srv/x")
    assert [(each.name, each.url) for each in remotes.known()] == [("My.Box", "/srv/x"), ("origin", "host:work")]
    remotes.set_url("My.Box", "/srv/y")
    assert remotes.get("My.Box").url == "/srv/y"
    remotes.remove("My.Box")
    assert [each.name for each in remotes.known()] == ["origin"]
    with pytest.raises(NotFoundError, match="origin"):
        remotes.get("My.Box")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_sees_the_same_remotes(ours: Repository) -> None:
    Remotes(ours).add("origin", "host:work")
    git = ["git", "--git-dir", str(ours.path)]
    assert subprocess.run([*git, "remote", "-v"], capture_output=True, text=True, check=True).stdout.split()[:2] == ["origin", "host:work"]
    subprocess.run([*git, "remote", "add", "other", "/srv/other"], check=True)
    assert Remotes(ours).get("other").url == "/srv/other"


@pytest.mark.parametrize("name", ["", "-x", "a b", "a..b", "x.lock", "a~b", "a\nb"])
def test_a_name_that_git_forbids_is_refused(ours: Repository, name: str) -> None:
    with pytest.raises(UsageError):
        Remotes(ours).add(name, "/srv/x")


def test_a_name_is_given_once(ours: Repository) -> None:
    Remotes(ours).add("origin", "/srv/x")
    with pytest.raises(UsageError, match="already"):
        Remotes(ours).add("origin", "/srv/y")


def test_tracking_refs_follow_a_rename_and_go_with_the_remote(ours: Repository, theirs: Repository, grow: Grow) -> None:
    tip = grow(theirs, [1, 2])[-1]
    remotes = Remotes(ours)
    remote = remotes.add("origin", str(theirs.root))
    remotes.follow("main", Upstream("origin", "main"))
    fetch(ours, remote, remotes.address(remote))
    refs = ours.database.refs
    refs.link("refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    remotes.rename("origin", "far")
    assert dict(refs.iter_refs("refs/remotes/")) == {"refs/remotes/far/main": tip}
    assert remotes.upstream("main") == Upstream("far", "main")
    remotes.remove("far")
    assert not list(refs.iter_refs("refs/remotes/")) and remotes.upstream("main") is None

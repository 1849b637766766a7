"""Exchange with repositories that C git made, packed and changed; and C git's exchange with ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dartvc.errors import RemoteError
from dartvc.history import Repository
from dartvc.remotes import Exchange, Remotes, UpdateKind, clone, fetch, parse_address, push
from dartvc.remotes.pushing import RefSpec
from tests.compat.test_c_git import fill, git

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
FAKE_SSH = Path(__file__).parent.parent / "integration" / "fake_ssh.sh"


@pytest.fixture(params=["path", "ssh"])
def address_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the start of the addresses by which a test reaches repositories."""
    monkeypatch.setenv("GIT_SSH_COMMAND", str(FAKE_SSH))
    return "" if request.param == "path" else "host:"


def fetched(into: Repository, url: str) -> Exchange:
    remotes = Remotes(into)
    remote = remotes.get("origin") if remotes.known() else remotes.add("origin", url)
    return fetch(into, remote, remotes.address(remote))


def test_what_git_repacked_packed_and_tagged_is_cloned(tmp_path: Path, address_of: str) -> None:
    theirs = Repository.init(tmp_path / "theirs")
    made = fill(theirs.database, 80, each_published=True)
    git(theirs.path, "tag", "-a", "-m", "annotated", "v1", made[10])
    git(theirs.path, "tag", "v2", made[20])
    git(theirs.path, "update-ref", "refs/tags/v1-again", git(theirs.path, "rev-parse", "v1").strip())
    git(theirs.path, "repack", "-a", "-d", "-f", "-q", "--depth=50", "--window=20")
    git(theirs.path, "pack-refs", "--all")
    copy = Repository(clone(parse_address(f"{address_of}{theirs.root}", tmp_path), tmp_path / "copy").root)
    assert list(copy.database.iter_commits([copy.resolve("main")])) == list(theirs.database.iter_commits([made[-1]]))
    assert (copy.resolve("v1"), copy.resolve("v1-again"), copy.resolve("v2")) == (made[10], made[10], made[20])
    assert not list(copy.database.verify())
    assert git(copy.path, "fsck", "--strict", "--full", "--no-dangling") == ""


def test_loose_objects_and_a_bare_repository_of_git_s_are_read_and_written(tmp_path: Path, address_of: str) -> None:
    bare = tmp_path / "shared.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    ours = Repository.init(tmp_path / "ours")
    made = fill(ours.database, 20, each_published=False)
    remotes = Remotes(ours)
    remote = remotes.add("origin", f"{address_of}{bare}")
    assert push(ours, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/main")]).updates[0].kind is UpdateKind.NEW
    assert git(bare, "rev-parse", "main").strip() == made[-1]
    assert git(bare, "fsck", "--strict", "--full", "--no-dangling") == ""
    tree = git(bare, "rev-parse", "main^{tree}").strip()
    loose = git(bare, "commit-tree", "-p", "main", "-m", "by git", tree).strip()
    git(bare, "update-ref", "refs/heads/main", loose)
    assert (bare / "objects" / loose[:2] / loose[2:]).exists()
    done = fetched(ours, f"{address_of}{bare}")
    assert [update.kind for update in done.updates] == [UpdateKind.FAST_FORWARD]
    assert ours.resolve("origin/main") == loose and not list(ours.database.verify())


def test_a_thin_pack_and_a_gc_beside_an_exchange_leave_both_sound(tmp_path: Path, address_of: str) -> None:
    theirs, ours = Repository.init(tmp_path / "theirs"), Repository.init(tmp_path / "ours")
    made = fill(theirs.database, 30, each_published=True)
    theirs.database.refs.move("refs/kept/all", made[-1], expected=None)
    theirs.database.refs.move("refs/heads/main", made[14], expected=made[-1])
    fetched(ours, f"{address_of}{theirs.root}")
    git(ours.path, "repack", "-a", "-d", "-q")
    git(theirs.path, "repack", "-a", "-d", "-q", "-f", "--window=50")
    theirs.database.refs.move("refs/heads/main", made[-1], expected=made[14])
    fetched(Repository(ours.root), f"{address_of}{theirs.root}")
    fresh = Repository(ours.root)
    assert fresh.resolve("origin/main") == made[-1] and not list(fresh.database.verify())
    assert git(fresh.path, "fsck", "--full", "--no-dangling") == ""


def test_git_fetches_and_pushes_runs_and_branches(tmp_path: Path) -> None:
    ours = Repository.init(tmp_path / "ours")
    made = fill(ours.database, 10, each_published=False)
    ours.database.refs.move("refs/runs/0badcafe", made[-1], expected=None)
    git(tmp_path, "clone", "-q", "--mirror", str(ours.path), "mirror.git")
    assert git(tmp_path / "mirror.git", "rev-parse", "refs/runs/0badcafe").strip() == made[-1]
    git(tmp_path / "mirror.git", "push", "-q", str(ours.path), "main:copied")
    assert ours.database.refs.read("refs/heads/copied") == made[-1]


@pytest.mark.parametrize("options", [["--object-format=sha256"]])
def test_formats_of_git_s_that_cannot_be_read_are_named(tmp_path: Path, options: list[str]) -> None:
    bare = tmp_path / "other.git"
    done = subprocess.run(["git", "init", "-q", "--bare", *options, str(bare)], env={**os.environ}, check=False)
    if done.returncode != 0:
        pytest.skip("this git cannot make one")
    with pytest.raises(RemoteError, match="format"):
        clone(parse_address(str(bare), tmp_path), tmp_path / "copy")


def test_a_hook_of_the_server_that_refuses_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", str(FAKE_SSH))
    bare = tmp_path / "shared.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no states here >&2\nexit 1\n")
    hook.chmod(0o755)
    ours = Repository.init(tmp_path / "ours")
    fill(ours.database, 3, each_published=False)
    remotes = Remotes(ours)
    remote = remotes.add("origin", f"host:{bare}")
    with pytest.raises(RemoteError, match="no states here"):
        push(ours, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/main")])
    assert ours.database.refs.read("refs/remotes/origin/main") is None

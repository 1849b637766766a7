"""C git reads what we write, and we read what C git writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dartvc.model import Oid
from dartvc.store import ObjectDatabase, TreeEntry

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b",
}  # fmt: skip


def git(path: Path, *arguments: str) -> str:
    """Runs git on a repository and returns what it printed."""
    return subprocess.run(["git", "-C", str(path), *arguments], check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def fill(database: ObjectDatabase, count: int, *, each_published: bool) -> list[Oid]:
    """Makes commits of a tree of folders, with stored and compressed blobs and a merge at the end."""
    rows: dict[str, TreeEntry] = {}
    made: list[Oid] = []
    batch = database.batch()
    for number in range(count):
        summary = TreeEntry(0o100644, batch.add_blob(b'{\n "type": "int",\n "repr": "%d"\n}\n' % number))
        payload = TreeEntry(0o100644, batch.add_blob(b"%d" % number * 70_000, compress=number % 2 == 0))
        rows[f"name{number * 7 % 60:02d}"] = TreeEntry(0o40000, batch.add_tree({"summary": summary, "payload": payload}))
        parents = made[-1:] + made[:1] if number == count - 1 else made[-1:]
        tree = batch.add_tree({"names": TreeEntry(0o40000, batch.add_tree(rows)), "code": summary})
        made.append(batch.add_commit(tree, parents, f"cell {number}\n\nKind: automatic\n", 1e9 + number, 120, "A <a@b>"))
        if each_published:
            batch.publish()
            database.consolidate()
    batch.publish()
    database.refs.move("refs/heads/main", made[-1], expected=None)
    return made


@pytest.mark.parametrize("each_published", [False, True])
def test_git_checks_lists_clones_and_reads(database: ObjectDatabase, tmp_path: Path, each_published: bool) -> None:
    made = fill(database, 80, each_published=each_published)
    path = database.path
    assert git(path, "fsck", "--strict", "--full", "--no-dangling") == ""
    for pack in path.glob("objects/pack/*.idx"):
        git(path, "verify-pack", str(pack))
    assert git(path, "log", "--format=%H", "--topo-order").split() == list(database.iter_commits([made[-1]]))
    assert "cell 79" in git(path, "log", "--graph", "--oneline", "--all")
    assert git(path, "cat-file", "-p", f"{made[3]}:names/name21/payload") == "3" * 70_000
    git(tmp_path, "clone", "--quiet", "--no-local", str(path), "copy")
    assert git(tmp_path / "copy", "rev-list", "--count", "HEAD").strip() == "80"
    git(path, "pack-refs", "--all")
    assert database.refs.read("refs/heads/main") == made[-1]
    assert not list(database.verify())


def test_a_repacked_and_pushed_repository_is_read(database: ObjectDatabase, tmp_path: Path) -> None:
    made = fill(database, 80, each_published=True)
    trees = {oid: database.read_tree(database.read_commit(oid).tree) for oid in made}
    git(database.path, "repack", "-a", "-d", "-f", "-q", "--depth=50", "--window=20")
    fresh = ObjectDatabase.open(database.path)
    for reader in (database, fresh):
        assert {oid: reader.read_tree(reader.read_commit(oid).tree) for oid in made} == trees
        assert not list(reader.verify())
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(database.path), "copy")
    (copy / "file").write_text("from git\n")
    git(copy, "add", "file")
    git(copy, "commit", "-q", "-m", "by git")
    git(copy, "push", "-q", "origin", "HEAD:main")
    tip = database.refs.read("refs/heads/main")
    assert tip is not None and database.read_commit(tip).message == "by git\n"
    assert database.read_blob(database.read_tree(database.read_commit(tip).tree)["file"].oid) == b"from git\n"
    assert database.find_commits(tip[:10]) == [tip] and not list(database.verify())


def test_a_lost_index_of_a_pack_of_gits_is_made_again(database: ObjectDatabase) -> None:
    made = fill(database, 40, each_published=False)
    git(database.path, "repack", "-a", "-d", "-f", "-q")
    (index,) = database.path.glob("objects/pack/*.idx")
    before = index.read_bytes()
    index.chmod(0o644)
    index.write_bytes(before[:-1])
    fresh = ObjectDatabase.open(database.path)
    assert [problem.is_mended for problem in fresh.verify()] [:1] == [True]
    assert index.read_bytes() == before and fresh.contains(made[0])

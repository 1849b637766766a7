"""Making, finding and moving: the repository as its callers see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.errors import NotFoundError, RefConflictError
from dartvc.history import RefMove, Repository
from dartvc.history.config import Config, parse_duration_s
from dartvc.history.environment import compare_environments, describe_environment
from dartvc.history.trust import TrustList
from dartvc.model import Oid
from dartvc.store import Head
from tests.unit.history.staging import Commit, stage


def test_init_is_idempotent(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1})
    again = Repository.init(repository.root)
    assert again.resolve("main") == oid


def test_open_walks_up(repository: Repository) -> None:
    below = repository.root / "a" / "b"
    below.mkdir(parents=True)
    assert Repository.open(below).root == repository.root
    assert Repository.open(repository.path).root == repository.root
    with pytest.raises(NotFoundError) as caught:
        Repository.open(below, walk_up=False)
    assert caught.value.hint == "dvc-state init"


@pytest.mark.parametrize("folder", [".", "sub"])
def test_init_adds_one_line_to_the_users_exclude_file_and_nothing_else(tmp_path: Path, folder: str) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    exclude = tmp_path / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("mine")
    before = {path: path.read_bytes() for path in (tmp_path / ".git").rglob("*") if path.is_file() and path != exclude}
    for _ in range(2):
        Repository.init(tmp_path / folder)
    assert exclude.read_text() == "mine\n.dvc-state/\n"
    assert {path: path.read_bytes() for path in (tmp_path / ".git").rglob("*") if path.is_file() and path != exclude} == before


def test_a_commit_from_another_machine_is_not_trusted_until_the_user_says_so(
    repository: Repository, commit: Commit, tmp_path: Path
) -> None:
    oid = commit({"x": 1})
    elsewhere = Repository.open(repository.root, key_path=tmp_path / "other-key", trust_path=tmp_path / "other-trust")
    assert not elsewhere.is_trusted(oid)
    elsewhere.trust(oid)
    assert elsewhere.is_trusted(oid)
    assert not elsewhere.is_sealed(oid)
    assert not any("trust" in path.name for path in repository.path.rglob("*"))


def test_a_seal_is_worth_nothing_on_another_commit(repository: Repository, commit: Commit) -> None:
    raw = repository.database.read_commit(commit({"x": 1}))
    batch = repository.database.batch()
    forged = batch.add_commit(batch.add_tree({}), raw.parents, raw.message, raw.time_s, raw.utc_offset_min, "a <a@b>")
    backdated = batch.add_commit(raw.tree, raw.parents, raw.message, raw.time_s - 1, raw.utc_offset_min, "a <a@b>")
    batch.publish()
    assert not repository.is_trusted(forged)
    assert not repository.is_trusted(backdated)


def test_refs_move_all_or_none(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1})
    moves = [RefMove("refs/tags/new", None, oid), RefMove("refs/heads/main", None, oid)]
    with pytest.raises(RefConflictError):
        repository.move_refs(moves, operation="tag", description="")
    assert repository.database.refs.read("refs/tags/new") is None
    assert len(list(repository.operations.iter_newest())) == 1


def test_a_move_that_cannot_be_logged_is_taken_back(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1})
    log = repository.operations.path.read_bytes()
    repository.operations.path.unlink()
    repository.operations.path.mkdir()
    with pytest.raises(Exception, match="operations"):
        repository.move_refs([RefMove("dev", None, oid)], operation="branch", description="", head=Head("refs/heads/dev", oid))
    assert repository.database.refs.read("refs/heads/dev") is None
    assert repository.database.refs.head().ref == "refs/heads/main"
    repository.operations.path.rmdir()
    repository.operations.path.write_bytes(log)


def test_head_moves_only_when_it_is_the_repositorys(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1})
    own = Head("refs/heads/other", oid)
    entry = repository.move_refs(
        [RefMove("refs/heads/other", None, oid)], operation="branch", description="", head=own, head_before=Head(None, oid), session="s1"
    )
    assert repository.database.refs.head().ref == "refs/heads/main"
    assert (entry.head_before, entry.head_after, entry.session) == (Head(None, oid), own, "s1")
    repository.move_refs([], operation="checkout", description="", head=own)
    assert repository.database.refs.head() == own


def test_the_log_of_one_name_has_the_commits_that_touched_it(repository: Repository, commit: Commit) -> None:
    first = commit({"x": 1}, added=("x",))
    commit({"y": 1}, added=("y",))
    third = commit({"x": 2})
    last = commit({}, removed=("x",))
    assert [each.oid for each in repository.iter_log([last], name="x")] == [last, third, first]


def test_several_writers_do_not_lose_commits(repository: Repository, commit: Commit) -> None:
    base = commit({"x": 0})
    other = Repository.open(repository.root)
    mine, theirs = repository.writer(), other.writer()
    first = mine.write(stage({"a": 1}), [base])
    second = theirs.write(stage({"b": 1}), [base])
    mine.publish()
    theirs.publish()
    repository.move_refs([RefMove("refs/heads/main", base, first)], operation="commit", description="")
    with pytest.raises(RefConflictError):
        other.move_refs([RefMove("refs/heads/main", base, second)], operation="commit", description="")
    other.move_refs([RefMove("refs/heads/side", None, second)], operation="commit", description="")
    assert set(repository.names(repository.resolve("side"))) == {"x", "b"}


def test_settings_have_defaults_and_are_plain_git_config(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("[core]\n\tbare = true\n")
    config = Config(path)
    assert config.get("dartvc.keepLast") == "1000"
    config.set("dartvc.keepLast", "5")
    assert config.get("dartvc.KEEPLAST") == "5"
    assert config.list()["dartvc.keepLast"] == "5"
    done = subprocess.run(["git", "config", "--file", str(path), "dartvc.keeplast"], capture_output=True, text=True)
    assert done.stdout == "5\n"
    with pytest.raises(NotFoundError):
        config.get("dartvc.nonsense")


def test_durations() -> None:
    assert [parse_duration_s(text) for text in ("90", "90s", "30m", "12h", "7d", "2w")] == [90, 90, 1800, 43200, 604800, 1209600]


def test_trust_survives_the_process(tmp_path: Path) -> None:
    oid = Oid("a" * 40)
    TrustList(tmp_path / "new" / "trusted").add(oid)
    assert oid in TrustList(tmp_path / "new" / "trusted")


def test_the_environment_is_described_once_while_nothing_changes(tmp_path: Path) -> None:
    first = describe_environment(tmp_path, {})
    assert describe_environment(tmp_path, first) is first
    assert isinstance(first["packages"], dict) and "pytest" in first["packages"]
    assert first["git"] is None


def test_the_environment_names_the_users_commit(tmp_path: Path) -> None:
    run = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*run, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*run, "add", "file"], check=True)
    subprocess.run([*run, "commit", "-qm", "m"], check=True)
    head = subprocess.run([*run, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    clean = describe_environment(tmp_path, {})
    assert (clean["git"], clean["git_dirty"]) == (head, False)
    (tmp_path / "file").write_text("22")
    assert describe_environment(tmp_path, {})["git_dirty"] is True
    subprocess.run([*run, "pack-refs", "--all"], check=True)
    assert describe_environment(tmp_path, {})["git"] == head


def test_a_worktree_and_a_submodule_have_a_commit_of_their_own(tmp_path: Path) -> None:
    def git(folder: Path, *words: str) -> str:
        line = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    inner, outer, tree = tmp_path / "inner", tmp_path / "outer", tmp_path / "tree"
    for folder, text in ((inner, "1"), (outer, "2")):
        folder.mkdir()
        git(folder, "init", "-q")
        (folder / "file").write_text(text)
        git(folder, "add", "file")
        git(folder, "commit", "-qm", text)
    git(outer, "submodule", "--quiet", "add", str(inner), "part")
    git(outer, "commit", "-qm", "with a part")
    git(outer, "worktree", "add", "-q", str(tree))
    git(tree, "commit", "-q", "--allow-empty", "-m", "only here")
    git(outer, "pack-refs", "--all")
    heads = {folder: git(folder, "rev-parse", "HEAD") for folder in (outer, outer / "part", tree)}
    assert len(set(heads.values())) == 3
    assert {folder: describe_environment(folder / "deeper", {})["git"] for folder in heads} == heads


def test_environments_are_compared_by_what_both_have() -> None:
    before = {"python": "3.11.0", "packages": {"a": "1", "b": "1"}}
    after = {"python": "3.12.0", "packages": {"a": "2", "c": "1"}}
    assert compare_environments(before, after) == [("python", "3.11.0", "3.12.0"), ("a", "1", "2")]


def test_settings_of_several_programs_at_once_all_stand(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path)
    program = (
        "import sys; from dartvc.history import Repository; config = Repository.open().config\n"
        "for number in range(15): config.set(f'branch.{sys.argv[1]}{number}.remote', 'x')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, name], cwd=tmp_path) for name in ("a", "b", "c")]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0]
    assert len(repository.config.subsections("branch")) == 45
    assert subprocess.run(["git", "config", "-f", repository.path / "config", "--list"], capture_output=True, check=False).returncode == 0

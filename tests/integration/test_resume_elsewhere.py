"""A run recorded in one folder, on one machine, goes on from a clone in another: its code, its files, its environment."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dartvc.history import RefMove, Repository
from dartvc.program.frames import is_supported
from dartvc.sessions.relocation import Relocation, write_missing_sources
from dartvc.sessions.surroundings import judge
from tests.integration.test_runs import COMMIT, HELPER, SCRIPT, command, contents, project

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

DEEP = """
import os, sqlite3
class Counter:
    def __init__(self):
        self.total = 0
    def numbers(self):
        for i in range(6):
            yield i
    def add(self, n):
        self.total += n
def walk(counter, log):
    for n in counter.numbers():
        counter.add(n)
        log.write(f"{n}\\n")
        if n == 2:
            commit_and_die()
    return counter.total
os.makedirs("out", exist_ok=True)
os.chdir("out")
counter = Counter()
with open("log.txt", "w") as log:
    print(walk(counter, log), os.path.basename(os.getcwd()), flush=True)
    print(os.path.relpath(walk.__code__.co_filename, os.path.dirname(os.getcwd())))
"""


def elsewhere(tmp_path: Path, script: str = SCRIPT) -> tuple[Path, str]:
    """Runs a script on another machine until it is killed, and clones its repository; returns the clone and what was printed."""
    recorded = project(tmp_path / "recorded", script)
    os.environ["XDG_CONFIG_HOME"], own = str(tmp_path / "their-config"), os.environ["XDG_CONFIG_HOME"]
    try:
        killed = command("run", "train.py", cwd=recorded, die=True)
    finally:
        os.environ["XDG_CONFIG_HOME"] = own
    assert killed.returncode == -9, killed.stderr
    command("clone", str(recorded), "clone", cwd=tmp_path, check=True)
    return tmp_path / "clone", killed.stdout.replace("lost\n", "")


def plain(folder: Path, script: str = SCRIPT) -> tuple[str, dict[str, str]]:
    """Returns what the script prints and writes when nothing happens to it."""
    project(folder, script)
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": "7", "TEST_PLAIN": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, contents(folder)


@pytest.mark.parametrize("is_gone", [True, False], ids=["the first folder is gone", "the first folder is still there"])
def test_a_clone_goes_on_to_the_same_end_and_leaves_the_first_folder_alone(tmp_path: Path, is_gone: bool) -> None:
    clone, printed = elsewhere(tmp_path)
    recorded = tmp_path / "recorded"
    before = contents(recorded)
    if is_gone:
        recorded.rename(tmp_path / "gone")
    assert "--trust" in command("resume", cwd=clone).stderr
    resumed = command("resume", "--trust", cwd=clone)
    assert resumed.returncode == 0 and "helper.py is not here; it was written from the commit" in resumed.stderr, resumed.stderr
    assert (printed + resumed.stdout, contents(clone)) == plain(tmp_path / "plain")
    assert (clone / "helper.py").read_text() == HELPER and (clone / "train.py").read_text() == COMMIT + SCRIPT
    assert not recorded.exists() if is_gone else contents(recorded) == before


def test_classes_generators_and_a_changed_directory_come_along(tmp_path: Path) -> None:
    clone, printed = elsewhere(tmp_path, DEEP)
    (tmp_path / "recorded").rename(tmp_path / "gone")
    resumed = command("resume", "--trust", cwd=clone)
    expected, _ = plain(tmp_path / "plain", DEEP)
    assert (resumed.returncode, printed + resumed.stdout) == (0, expected), resumed.stderr
    assert (clone / "out" / "log.txt").read_text() == (tmp_path / "plain" / "out" / "log.txt").read_text()


def test_a_run_is_killed_again_in_the_clone_and_goes_on_in_a_clone_of_that(tmp_path: Path) -> None:
    script = SCRIPT.replace("stage == 2", "stage in (1, 2)")
    clone, printed = elsewhere(tmp_path, script)
    os.environ["TEST_DIE"] = "1"
    try:
        line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", "resume", "--trust"]
        again = subprocess.run(line, cwd=clone, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, timeout=120)
    finally:
        del os.environ["TEST_DIE"]
    assert again.returncode == -9, again.stderr
    command("clone", str(clone), "third", cwd=tmp_path, check=True)
    shutil.rmtree(clone)
    shutil.rmtree(tmp_path / "recorded")
    resumed = command("resume", "--trust", cwd=tmp_path / "third")
    out, files = plain(tmp_path / "plain", script)
    assert printed + again.stdout.replace("lost\n", "") + resumed.stdout == out, resumed.stderr
    assert contents(tmp_path / "third") == files
    process = subprocess.run(
        ["git", "--git-dir", str(tmp_path / "third" / ".dvc-state"), "ls-tree", "--name-only", "HEAD:process"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "file%3Aout.txt" in process and "%2F" not in process  # paths of the project only, and never the key that the run made


def test_what_went_on_in_a_clone_comes_back_by_push(tmp_path: Path) -> None:
    clone, _ = elsewhere(tmp_path)
    command("resume", "--trust", cwd=clone, check=True)
    command("push", cwd=clone, check=True)
    (run,) = json.loads(command("runs", "--json", cwd=tmp_path / "recorded", check=True).stdout)["items"]
    assert run["state"] == "done"


def changed_environment(clone: Path, change: Mapping[str, object]) -> None:
    """Writes the last commit of a repository anew, as if it had been made in another environment."""
    repository = Repository.open(clone)
    tip = repository.resolve("HEAD")
    commit = repository.commit(tip)
    raw = repository.database.read_commit(tip)
    facts: dict[str, Any] = {**repository.environment(tip), **change}
    batch = repository.database.batch()
    tree = repository.database.read_tree(raw.tree)
    tree["environment"] = tree["environment"]._replace(oid=batch.add_blob(json.dumps(facts).encode()))
    made = batch.add_commit(batch.add_tree(tree), commit.parents, raw.message, raw.time_s, 0, "A <a@b>")
    batch.publish()
    moves = [RefMove(name, tip, made) for name, oid in repository.database.refs.iter_refs() if oid == tip and "remotes" not in name]
    repository.move_refs(moves, operation="test", description="test")


def test_another_minor_version_of_python_is_refused_and_cannot_be_forced(tmp_path: Path) -> None:
    clone, _ = elsewhere(tmp_path)
    changed_environment(clone, {"python": "3.9.1"})
    for words in (["resume", "--trust"], ["resume", "--trust", "--force"]):
        refused = command(*words, cwd=clone)
        assert refused.returncode == 4 and "3.9" in refused.stderr and "Traceback" not in refused.stderr
    assert not contents(clone)


def test_a_missing_package_that_the_program_imports_is_refused_unless_forced(tmp_path: Path) -> None:
    script = SCRIPT.replace("import random", "import random\ntry:\n    import nosuchpackage\nexcept ImportError:\n    pass")
    clone, _ = elsewhere(tmp_path, script)
    packages = {"nosuchpackage": "1.0", "unusedpackage": "2.0"}
    changed_environment(clone, {"packages": packages, "cpu": "another one", "gpus": ["NVIDIA H200"]})
    refused = command("resume", "--trust", cwd=clone)
    assert refused.returncode == 4 and "nosuchpackage 1.0 is not installed here" in refused.stderr and "--force" in refused.stderr
    assert (
        "unusedpackage 2.0" in refused.stderr
        and "the processor was another one" in refused.stderr
        and "NVIDIA H200 there" in refused.stderr
    )
    forced = command("resume", "--trust", "--force", cwd=clone)
    assert forced.returncode == 0 and forced.stdout, forced.stderr


def test_a_package_of_another_version_is_named() -> None:
    assert any(
        "dill 0.0.1 there" in line or "pytest 0.0.1 there" in line
        for line in judge({"packages": {"pytest": "0.0.1"}}, (), has_position=True).differences
    )
    assert judge({}, (), has_position=True) == judge({}, (), has_position=True)._replace(differences=(), obstacles=())


@pytest.mark.parametrize(("built", "is_named"), [("+cpu", False), (".post9+cpu", True)])
def test_how_a_package_was_built_is_no_other_version_of_it(built: str, is_named: bool) -> None:
    version = importlib.metadata.version("nbclient") + built
    named = [line for line in judge({"packages": {"nbclient": version}}, (), has_position=True).differences if "nbclient" in line]
    assert bool(named) == is_named


def test_the_beginning_of_a_run_may_be_taken_to_another_python() -> None:
    verdict = judge({"python": "3.9.1"}, (), has_position=False)
    assert not verdict.obstacles and "Python 3.9.1 there" in verdict.differences[0]


def test_sources_are_written_only_inside_the_project_and_over_nothing(tmp_path: Path) -> None:
    inside = tmp_path / "project"
    (inside / "way").mkdir(parents=True)
    (inside / "kept.py").write_text("mine\n")
    (inside / "link").symlink_to(tmp_path)
    sources = {
        str(inside / "new" / "made.py"): "# -*- coding: latin-1 -*-\nname = 'é'\n",
        str(inside / "kept.py"): "theirs\n",
        str(inside / ".." / "outside.py"): "x\n",
        str(inside / "link" / "through.py"): "x\n",
        str(tmp_path / "beside.py"): "x\n",
    }
    assert write_missing_sources(sources, str(inside)) == [str(inside / "new" / "made.py")]
    assert (inside / "new" / "made.py").read_bytes().endswith(b"'\xe9'\n") and (inside / "kept.py").read_text() == "mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


@pytest.mark.parametrize(
    ("path", "present"), [("/a/b", "/x"), ("/a/b/c.py", "/x/c.py"), ("/a/bc", "/a/bc"), ("relative", "relative"), ("/a", "/a"), ("", "")]
)
def test_only_paths_of_the_project_move(path: str, present: str) -> None:
    assert Relocation("/a/b", "/x").path(path) == present
    assert Relocation().path(path) == path

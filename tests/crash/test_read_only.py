"""A repository that may only be read: looking and loading work, a commit says where it was refused. Mounting needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartvc.errors import StorageError
from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.porcelain.face import Repository as Face
from tests.unit.history.staging import stage

LOOKING = (
    ["log"],
    ["log", "--graph", "--all"],
    ["show"],
    ["diff", "HEAD~1", "HEAD"],
    ["ls"],
    ["status"],
    ["branch"],
    ["op", "log"],
    ["fsck"],
    ["du"],
)


WRITING = (
    ["branch", "new"],
    ["tag", "new"],
    ["gc"],
    ["config", "dartvc.keepLast", "3"],
    ["undo"],
    ["checkout", "HEAD~1"],
    ["op", "restore", "1"],
    ["run", "train.py"],
)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs dvc-state."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words],
        cwd=folder, env={**os.environ, "XDG_CONFIG_HOME": str(folder / "config")}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with two commits on a file system that is mounted read-only."""
    folder = tmp_path_factory.mktemp("project")
    history = Repository.init(folder, key_path=folder / "config/dartvc/seal.key")
    face = Face(history)
    for step in (1, 2):
        face.commit({"__name__": "__main__", "step": step, "data": bytearray(100_000)})
    (folder / "train.py").write_text("print('ran')\n")
    try:
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no folder can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True, capture_output=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_looking_works(project: Path, words: list[str]) -> None:
    done = run(project, *words)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_loading_works(project: Path) -> None:
    face = Face(Repository.open(project, key_path=project / "config/dartvc/seal.key"))
    assert [face.load(revision)["step"] for revision in ("HEAD~1", "HEAD")] == [1, 2]
    assert list(check_repository(face.history)) == []


def test_a_commit_names_the_path_and_the_way_out(project: Path) -> None:
    face = Face(Repository.open(project, key_path=project / "config/dartvc/seal.key"))
    namespace: dict[str, object] = {"__name__": "__main__", "step": 3}
    with pytest.raises(StorageError, match=str(project)) as caught:
        face.commit(namespace)
    assert "read-only" in caught.value.hint and namespace["step"] == 3
    assert face.load("HEAD")["step"] == 2


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_a_command_that_writes_names_the_path(project: Path, words: list[str]) -> None:
    done = run(project, *words)
    assert done.returncode == 1 and str(project) in done.stderr and "read-only" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout, done.stderr


def test_the_doctor_says_that_nothing_can_be_recorded(project: Path) -> None:
    assert f"{project}/.dvc-state is not writable" in run(project, "doctor").stdout


def test_a_batch_of_a_read_only_repository_leaves_nothing(project: Path) -> None:
    writer = Repository.open(project, key_path=project / "config/dartvc/seal.key").writer()
    writer.write(stage({"x": 1}), [])
    with pytest.raises(StorageError, match=str(project)):
        writer.publish()

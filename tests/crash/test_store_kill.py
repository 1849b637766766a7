"""A writer killed, or refused by the disk, at every call that changes the disk: what was acknowledged stays, the next writer works."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dartvc.model import Oid
from dartvc.store import ObjectDatabase

CALLS = ["write", "pwrite64", "fsync", "rename", "unlink", "ftruncate", "openat"]
PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join([str(PROJECT), *(path for path in sys.path if path.endswith("site-packages"))])}
WRITER = """
import os
import sys
from pathlib import Path
from dartvc.errors import StorageError
from dartvc.store import ObjectDatabase, TreeEntry
import dartvc.store.merging as merging
merging._FACTOR = 2
database = ObjectDatabase.open(Path(sys.argv[1]))
for number in range(3):
    old = database.refs.read("refs/heads/main")
    try:
        batch = database.batch()
        blob = batch.add_blob(b"%d" % number * 40)
        tree = batch.add_tree({f"n{number}": TreeEntry(0o100644, blob)})
        commit = batch.add_commit(tree, [old] if old else [], f"{number}", 1e9 + number, 0, "A <a@b>")
        batch.publish()
        database.refs.move("refs/heads/main", commit, expected=old)
    except StorageError as error:
        assert error.hint and "/" in error.message, error.message
        continue
    os.writev(1, [f"{commit}\\n".encode()])  # not one of the calls that are made to fail
    try:
        database.consolidate()
    except StorageError:
        pass
"""
REASON = "strace is not installed, or may not trace here"


def is_traceable() -> bool:
    """Whether strace works here."""
    return shutil.which("strace") is not None and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not is_traceable(), reason=REASON)


def run(folder: Path, script: Path, inject: str) -> list[str]:
    """Runs the writer on a new repository with a fault injected; returns the commits that it acknowledged."""
    ObjectDatabase.create(folder)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", *inject.split(), sys.executable, "-S", "-B", str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def check(folder: Path, acknowledged: list[str]) -> None:
    """Everything acknowledged is there, the repository is sound, and the next writer works."""
    database = ObjectDatabase.open(folder)
    assert not list(database.verify())
    tip = database.refs.read("refs/heads/main")
    history = list(database.iter_commits([tip])) if tip else []
    assert set(acknowledged) <= set(history)
    for oid in history:
        for entry in database.read_tree(database.read_commit(oid).tree).values():
            database.read_blob(entry.oid)
    batch = database.batch()
    commit = batch.add_commit(batch.add_tree({}), [tip] if tip else [], "next", 2e9, 0, "A <a@b>")
    batch.publish()
    database.refs.move("refs/heads/main", commit, expected=tip)
    database.consolidate()
    assert not [path for path in folder.rglob("*") if path.name.startswith("tmp_") or (path.name.endswith(".lock") and path.name != "dartvc.lock")]
    git = subprocess.run(["git", "--git-dir", str(folder), "fsck", "--strict", "--no-dangling"], capture_output=True, text=True)
    assert git.returncode == 0 and not git.stderr, git.stderr
    assert list(database.iter_commits([commit]))[1:] == history and Oid(commit) == database.refs.read("refs/heads/main")


def count_calls(tmp_path: Path, script: Path) -> dict[str, tuple[int, int]]:
    """Returns, for each system call, its number before the repository is opened and in all."""
    folder = tmp_path / "count.git"
    ObjectDatabase.create(folder)
    trace = tmp_path / "trace"
    names = ",".join(CALLS)
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={names}", sys.executable, "-S", "-B", str(script), str(folder)]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    lines = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    begin = next(index for index, line in enumerate(lines) if str(folder) in line)
    return {name: (sum(line.startswith(name + "(") for line in lines[:begin]), sum(line.startswith(name + "(") for line in lines)) for name in CALLS}


@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_every_fault_at_every_call(tmp_path: Path, fault: str) -> None:
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    calls = count_calls(tmp_path, script)
    jobs = []
    for name, (before, total) in calls.items():
        if fault != "signal=SIGKILL" and name in ("openat", "unlink", "ftruncate"):
            continue
        jobs += [(name, number) for number in range(before + 1, total + 1) if name != "openat" or number % 5 == 0]

    def attempt(job: tuple[str, int]) -> None:
        name, number = job
        folder = tmp_path / f"{name}{number}.git"
        acknowledged = run(folder, script, f"-e trace={name} -e inject={name}:{fault}:when={number}")
        check(folder, acknowledged)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, jobs))
    assert len(jobs) > 20


def test_two_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state.git"
    database = ObjectDatabase.create(folder)
    script = tmp_path / "racer.py"
    script.write_text(
        """
import sys
from pathlib import Path
from dartvc.errors import LockedError
from dartvc.store import ObjectDatabase
database = ObjectDatabase.open(Path(sys.argv[1]))
for number in range(40):
    while True:
        old = database.refs.read("refs/heads/main")
        batch = database.batch()
        commit = batch.add_commit(batch.add_tree({}), [old] if old else [], f"{sys.argv[2]} {number}", 1e9, 0, "A <a@b>")
        batch.publish()
        try:
            database.refs.move("refs/heads/main", commit, expected=old)
            break
        except LockedError:
            continue
    print(commit)
    database.consolidate()
"""
    )
    racers = [
        subprocess.Popen([sys.executable, str(script), str(folder), name], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for name in "abc"
    ]
    made = [oid for racer in racers for oid in racer.communicate(timeout=120)[0].split()]
    tip = database.refs.read("refs/heads/main")
    assert tip is not None and len(made) == 120 and set(made) == set(database.iter_commits([tip])) and not list(database.verify())

"""A session and a collection at once, either one paused at a call that changes the disk while the other goes on: nothing is lost.

``DARTVC_TEST_FAULTS`` says at how many places; a large number means every one of them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dartvc.errors import LockedError
from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.history.retention import Retention
from dartvc.model import Oid
from dartvc.porcelain.face import Repository as Face
from dartvc.porcelain.upkeep import clean
from tests.crash.faults import NO_STRACE, Fault, is_traceable, list_faults, run_program

pytestmark = pytest.mark.skipif(not is_traceable(), reason=NO_STRACE)
PLACES = int(os.environ.get("DARTVC_TEST_FAULTS", "6"))
PAUSE_US = 150_000
LATER_S = 4e9
ROUNDS = 400
SESSION = """
import os, sys
from pathlib import Path
from dartvc.history import Repository
from dartvc.sessions import Session
import dartvc.store.merging as merging
merging._FACTOR = 3
namespace = {"__name__": "__main__", "rows": [], "data": bytearray(100_000), "constant": ["made once"] * 50}
session = Session(Repository.open(Path(sys.argv[1])), namespace)
for step in range(1, 9):
    session.begin_unit()
    namespace["step"] = step
    namespace["rows"].append(step)
    namespace["data"][step] = 1
    session.end_unit("a cell", source=None, execution=None, error="", duration_s=0.0)
    if step % 2:
        session.checkpoint(f"step {step}", force=True)
    session.flush()
    oid = session.head
    os.writev(1, [f"{step} {oid} {session.branch}\\n".encode()])
session.close()
"""
CLEANING = """
import sys
from pathlib import Path
from dartvc.history import Repository
from dartvc.history.retention import Retention
from dartvc.porcelain.upkeep import clean
clean(Repository.open(Path(sys.argv[1])), Retention(keep_last=1, keep_within_s=0.0), grace_s=-1, now_s=4e9)
"""


def make_repository(home: Path, commits: int) -> Path:
    """Makes a repository with automatic commits, and operations that protect nothing."""
    root = home / "project"
    history = Repository.init(root, key_path=home / ".config/dartvc/seal.key")
    history.config.set("dartvc.undoWindow", "0s")
    script = home / "before.py"
    script.write_text(SESSION)
    for _ in range(commits):
        assert run_program(script, [str(root)], home=home).returncode == 0
    return root


def open_again(home: Path) -> Repository:
    """Opens the repository as another process would."""
    return Repository.open(home / "project", key_path=home / ".config/dartvc/seal.key")


def find_losses(home: Path, said: list[str]) -> Iterator[str]:
    """Yields what is wrong with the repository, or with what a session was told."""
    history = open_again(home)
    yield from map(str, check_repository(history))
    git = subprocess.run(["git", "--git-dir", str(history.path), "fsck", "--strict"], capture_output=True, text=True, check=False)
    if git.returncode:
        yield git.stderr
    reachable = set(history.database.iter_commits([oid for _, oid in history.database.refs.iter_refs("refs/heads/")]))
    for line in said:
        step, oid, branch = line.split()
        if branch != "main":
            yield f"the session was driven from its branch to {branch}"
        if int(step) % 2 or line == said[-1]:  # the others are automatic, and may be thinned
            present = history.current_id(Oid(oid))
            state = Face(history).load(present) if present in reachable else {}
            if not state or (state["step"], state["rows"]) != (int(step), list(range(1, int(step) + 1))):
                yield f"step {step} is lost: {oid}, now {present}"


def spread(faults: list[Fault]) -> list[Fault]:
    """Returns at most ``PLACES`` of the faults, evenly spread."""
    return faults if len(faults) <= PLACES else [faults[index * len(faults) // PLACES] for index in range(PLACES)]


def run_beside(home: Path, script: Path, fault: Fault, act: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Runs a program that pauses at a call, and another thing beside it, again and again, until it ends; returns what both said."""
    script.with_name("beside.py").write_text(SESSION)
    said = ""
    with ThreadPoolExecutor(1) as pool:
        inject = f"{fault.call}:delay_enter={PAUSE_US}:when={fault.number}"
        running = pool.submit(run_program, script, [str(home / "project")], home=home, inject=inject)
        if act == "session":
            said = run_program(script.with_name("beside.py"), [str(home / "project")], home=home).stdout
        for _ in range(ROUNDS):
            if running.done() or act == "session":
                break
            with contextlib.suppress(LockedError):
                clean(open_again(home), Retention(keep_last=1, keep_within_s=0.0), grace_s=-1, now_s=LATER_S)
        return running.result(), said


@pytest.mark.parametrize("paused", ["session", "cleaning"])
def test_neither_takes_from_the_other(tmp_path: Path, paused: str) -> None:
    script = tmp_path / "paused.py"
    script.write_text(SESSION if paused == "session" else CLEANING)
    rehearsal = tmp_path / "rehearsal"
    make_repository(rehearsal, 1)
    done = run_program(script, [str(rehearsal / "project")], home=rehearsal, trace=tmp_path / "trace")
    assert done.returncode == 0, done.stderr
    faults = list_faults(tmp_path / "trace", rehearsal)
    assert len(faults) > 10
    lost = []
    for fault in spread(faults):
        home = tmp_path / f"{fault.call}{fault.number}"
        make_repository(home, 1)
        done, said = run_beside(home, script, fault, "cleaning" if paused == "session" else "session")
        wrong = [f"exit code {done.returncode}: {done.stderr[-4000:]}"] if done.returncode or "Traceback" in done.stderr else []
        wrong += list(find_losses(home, (done.stdout if paused == "session" else said).splitlines()))
        lost += [f"{fault.call} {fault.number}: {each}" for each in wrong]
    assert not lost, "\n".join(lost)

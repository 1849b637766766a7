"""A program that commits all the time, killed at any moment: every acknowledged commit restores exactly, and the next writer works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.history.fsck import check_repository
from dartvc.porcelain.face import open as open_repository

PROGRAM = """
import os, sys
import dartvc
repo = dartvc.init(".")
namespace = {"__name__": "__main__", "step": 0, "rows": [], "data": bytearray(300_000)}
while True:
    namespace["step"] += 1
    namespace["rows"].append({"n": namespace["step"]})
    namespace["data"][namespace["step"] * 37 % 300_000] = 1
    oid = repo.commit(namespace, f"step {namespace['step']}").oid
    os.write(1, f"{namespace['step']} {oid}\\n".encode())
"""
KILLS = int(os.environ.get("DARTVC_TEST_KILLS", "12"))


@pytest.mark.parametrize("number", range(KILLS))
def test_acknowledged_commits_survive_sigkill(tmp_path: Path, number: int) -> None:
    """The kill comes after a number of acknowledged commits and at a place of the next one that differs from kill to kill."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(1 + number % 7)]
    for _ in range(number * 1009 % 20_000):  # a different moment of the commit in flight, without a clock
        pass
    process.send_signal(signal.SIGKILL)
    acknowledged.extend(process.stdout.read().splitlines())
    process.wait()
    process.stdout.close()
    repo = open_repository(tmp_path)
    for line in acknowledged:
        step, oid = line.split()
        state = repo.load(oid)
        assert state["step"] == int(step)
        assert state["rows"] == [{"n": n} for n in range(1, int(step) + 1)]
        assert state["data"].count(1) == int(step)  # type: ignore[attr-defined]
    assert list(check_repository(repo.history)) == []
    done = subprocess.run(["git", "--git-dir", str(repo.path), "fsck", "--strict"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = repo.commit({"__name__": "__main__", "x": 1}, "the next writer")
    assert repo.load(after.oid) == {"x": 1}

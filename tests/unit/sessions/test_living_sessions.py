"""Who lives: told by a lock that the kernel takes back, across containers, users and forks."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dartvc.sessions.registry import Registration, is_alive, is_own, living_sessions

SESSION = """
import os, sys
from pathlib import Path
from dartvc.sessions.registry import Registration
session = Registration(Path(sys.argv[1]), "0badcafe")
session.write("main")
if len(sys.argv) > 2 and not os.fork():
    session.write("of the child")
    print(os.getpid(), flush=True)  # nothing of its parent's is held any more
    sys.stdin.readline()
    os._exit(0)
if len(sys.argv) <= 2:
    print(os.getpid(), flush=True)
sys.stdin.readline()
session.end()
"""
IN_A_CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@contextmanager
def _session(path: Path, *words: str, before: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen[str], int]]:
    code = [*before, sys.executable, "-c", SESSION, str(path), *words]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def _ids(path: Path) -> list[str]:
    return [each.session_id for each in living_sessions(path)]


def _needs_container() -> None:
    if not shutil.which("unshare") or subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace can be made here")


def test_a_session_lives_until_it_ends(tmp_path: Path) -> None:
    with _session(tmp_path) as (process, _):
        assert _ids(tmp_path) == ["0badcafe"]
        assert not is_own("0badcafe")
        process.communicate("\n", timeout=60)
    assert _ids(tmp_path) == []
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_session_in_another_container_lives_until_it_is_killed(tmp_path: Path) -> None:
    _needs_container()
    with _session(tmp_path, before=IN_A_CONTAINER) as (process, pid):
        assert pid < 10
        beside = Registration(tmp_path, "feedbeef")
        assert not beside.should_restore()
        beside.write("main-2")
        assert _ids(tmp_path) == ["0badcafe", "feedbeef"]
        assert (is_own("0badcafe"), is_own("feedbeef"), beside.is_oldest()) == (False, True, False)
        process.kill()
        process.wait(60)
        lock = os.open(tmp_path / "sessions" / "0badcafe.lock", os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)  # until all of the container is gone
        os.close(lock)
        assert _ids(tmp_path) == ["feedbeef"]
        assert Registration(tmp_path, "0ddba11").should_restore()
        beside.end()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_forked_child_does_not_keep_its_killed_parent_alive(tmp_path: Path) -> None:
    with _session(tmp_path, "forks") as (process, child):
        assert [each.branch for each in living_sessions(tmp_path)] == ["main"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        os.kill(child, 0)
        assert _ids(tmp_path) == []
        assert Registration(tmp_path, "feedbeef").should_restore()
        os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("has_lock", [True, False])
@pytest.mark.parametrize("is_hidden", [True, False])
def test_a_session_of_another_user_lives(tmp_path: Path, has_lock: bool, is_hidden: bool) -> None:
    own = Registration(tmp_path, "feedbeef")
    own.write("main")
    folder = tmp_path / "sessions"
    if not has_lock:
        (folder / "feedbeef.lock").unlink()
    for each in (tmp_path, *tmp_path.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)
    for each in folder.iterdir():
        each.chmod(0o600 if is_hidden else 0o644)
    if not (child := os.fork()):
        try:
            os.setuid(65534)
            os._exit(int(is_alive(tmp_path, "feedbeef")) + 2 * len(living_sessions(tmp_path)))
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (1 if is_hidden else 3)
    own.end()


def test_what_was_left_behind_is_swept_away_and_what_lives_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    own = Registration(tmp_path, "feedbeef")
    own.write("main")
    row = json.loads((folder / "feedbeef.json").read_text())
    for name, process_start in (("without-lock", row["process_start"]), ("another-process", "1")):
        (folder / f"{name}.json").write_text(json.dumps({**row, "process_start": process_start}))
    for name, text in (("crashed", json.dumps(row)), ("damaged", "{"), ("no-row", "[]")):
        (folder / f"{name}.json").write_text(text)
    (folder / "crashed.lock").touch()
    (folder / "alone.lock").touch()
    assert _ids(tmp_path) == ["feedbeef", "without-lock"]
    assert Registration(tmp_path, "0badcafe").should_restore()
    assert sorted(each.name for each in folder.iterdir()) == ["feedbeef.json", "feedbeef.lock", "without-lock.json"]
    own.end()

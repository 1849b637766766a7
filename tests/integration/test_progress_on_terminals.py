"""How far long work has come, seen from a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import dartvc

COMMAND = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())"]


@pytest.fixture
def slow_remote(tmp_path: Path) -> tuple[Path, Path]:
    """A project whose remote answers, with a refusal, once somebody has written into a pipe; returns both."""
    project, pipe, program = tmp_path / "project", tmp_path / "pipe", tmp_path / "ssh"
    repository = dartvc.init(project)
    repository.commit({"x": 1}, "first")
    os.mkfifo(pipe)
    program.write_text(f"#!/bin/sh\nread line < {pipe}\nexit 1\n")
    program.chmod(0o755)
    subprocess.run([*COMMAND, "remote", "add", "far", "ssh://far.invalid/project"], cwd=project, check=True, capture_output=True)
    return project, pipe


def fetch_on_terminal(project: Path, pipe: Path, before: list[str], environment: dict[str, str], until: bytes = b"") -> tuple[int, str]:
    """Fetches on a pseudo terminal; the remote answers when ``until`` was shown."""
    ours, theirs = pty.openpty()
    changed = {"GIT_SSH_COMMAND": str(pipe.parent / "ssh"), "TERM": "xterm", "DVC_STATE_PROGRESS_DELAY": "0", **environment}
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen([*COMMAND, *before, "fetch", "far"], cwd=project, stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, **changed})
    os.close(theirs)
    shown = b""
    if not until:
        pipe.write_text("go\n")
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux: the last writer has closed its end
            break
        shown += piece
        if until and until in shown:
            pipe.write_text("go\n")
            until = b""
    os.close(ours)
    return process.wait(), shown.decode()


def test_work_that_waits_for_others_is_shown_and_its_line_taken_away_before_the_result(slow_remote: tuple[Path, Path]) -> None:
    code, shown = fetch_on_terminal(*slow_remote, [], {}, until=b"talking to the remote ...")
    assert code == 7
    assert "\r\x1b[Kerror: " in shown


@pytest.mark.parametrize(
    ("before", "environment"), [(["-q"], {}), (["--quiet"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})], ids=str
)
def test_it_is_quiet_when_asked_to_be(slow_remote: tuple[Path, Path], before: list[str], environment: dict[str, str]) -> None:
    code, shown = fetch_on_terminal(*slow_remote, before, environment)
    assert code == 7
    assert "\r\x1b[K" not in shown
    assert "talking to the remote" not in shown

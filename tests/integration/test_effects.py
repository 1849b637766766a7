"""What a program did to the world beside its files: recorded without secrets, shown, and named where it may happen twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

ACTING = """
import os, socket, subprocess, sys
server = None
def act():
    subprocess.run(["git", "--version", "--token=hunter2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-c", "'hunter2'"])
    subprocess.run("PGPASSWORD=hunter2 true --password hunter2", shell=True)
    os.system("echo hunter2 > /dev/null")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(("localhost", server.getsockname()[1])):
        print("port", server.getsockname()[1], flush=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.sendto(b"hunter2", ("127.0.0.1", 9))
"""
SAID = "started 2 subprocesses (git ..., python"


def acting(folder: Path, body: str) -> Path:
    (folder / "train.py").write_text(COMMIT + ACTING + body)
    return folder


def test_acts_are_recorded_in_the_commit_and_shown_without_what_may_be_secret(tmp_path: Path) -> None:
    folder = acting(tmp_path, "act()\n")
    done = command("run", "train.py", cwd=folder, check=True)
    port = done.stdout.split()[1]
    effects = json.loads(command("show", "--json", cwd=folder, check=True).stdout)["effects"]
    assert [(each["kind"], each["what"], each["times"]) for each in effects] == [
        ("subprocess", "git ...", 1), ("subprocess", f"{Path(sys.executable).name} ...", 1), ("shell", "true ...", 1), ("shell", "echo ...", 1),
        ("connection", f"localhost:{port}", 1), ("message", "127.0.0.1:9", 1),
    ]  # fmt: skip
    for verb in ("show", "status", "runs"):
        text = command(verb, cwd=folder, check=True).stdout
        assert SAID in text and f"opened 1 connection (localhost:{port})" in text and "sent 1 message (127.0.0.1:9)" in text, text
    assert json.loads(command("runs", "--json", cwd=folder, check=True).stdout)["items"][0]["effects"] == effects
    stored = subprocess.run(
        ["git", "--git-dir", ".dvc-state", "grep", "-c", "hunter2", "HEAD", "--", "process/effects"], cwd=folder, capture_output=True, text=True
    )
    assert stored.stdout == "" and "hunter2" not in "".join(path.read_text() for path in folder.glob(".dvc-state/runs/*/journal"))


def test_a_resume_says_what_may_happen_twice_although_no_commit_has_it(tmp_path: Path) -> None:
    folder = acting(
        tmp_path,
        "import dartvc\nfor step in range(2):\n    if step == 0:\n        os.kill(os.getpid(), 10)\n        dartvc.session().flush()\n    act()\n"
        "if os.environ.get('TEST_DIE'): os.kill(os.getpid(), 9)\n",
    )
    killed = command("run", "train.py", cwd=folder, die=True)
    assert killed.returncode == -signal.SIGKILL
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "since this commit the program had started 4 subprocesses (git ... 2 times" in resumed.stderr
    assert "run 4 shell commands" in resumed.stderr and "may happen twice" in resumed.stderr
    again = command("resume", "HEAD~1", cwd=folder)
    assert "since this commit the program had started" in again.stderr


def test_what_a_commit_has_is_not_said_to_happen_twice(tmp_path: Path) -> None:
    folder = acting(tmp_path, "act()\ncommit_and_die()\nprint('end')\n")
    killed = command("run", "train.py", cwd=folder, die=True)
    assert killed.returncode == -signal.SIGKILL
    assert SAID in command("status", cwd=folder).stdout
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0 and "since this commit" not in resumed.stderr
    assert SAID in command("runs", cwd=folder).stdout  # what was done before the commit is still the run's


def test_a_commit_shows_only_what_was_done_since_the_one_before(tmp_path: Path) -> None:
    folder = acting(tmp_path, "os.system('true')\nos.kill(os.getpid(), 10)\nx = 1\nos.system('false')\n")
    command("run", "train.py", cwd=folder, check=True)
    assert "run 1 shell command (false)" in command("show", cwd=folder).stdout
    assert "run 1 shell command (true)" in command("show", "HEAD~1", cwd=folder).stdout
    assert "run 2 shell commands (true, false)" in command("status", cwd=folder).stdout


def test_a_program_without_acts_says_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import multiprocessing\nprint(1)\n")
    command("run", "train.py", cwd=tmp_path, check=True)
    for verb in ("status", "runs", "show"):
        assert " has " not in command(verb, cwd=tmp_path).stdout


def test_what_a_library_starts_when_it_is_imported_is_no_act_of_the_program(tmp_path: Path) -> None:
    library, helper = tmp_path / "site-packages", tmp_path / "helper.py"
    library.mkdir()
    (library / "lib.py").write_text("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''], check=True)\n")
    helper.write_text("import os\nos.system('true')\n")
    (tmp_path / "train.py").write_text("import sys\nsys.path.append('site-packages')\nimport lib, helper\n")
    command("run", "train.py", cwd=tmp_path, check=True)
    effects = json.loads(command("show", "--json", cwd=tmp_path, check=True).stdout)["effects"]
    assert [(each["kind"], each["what"]) for each in effects] == [("shell", "true")]

"""Signals of machines that are taken away: the grace time, what is said when it passes in vain, and the guide's own batch script."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "guides" / "scripts.md"
LONG_CALL = """
import os, signal, time
for step in range(2):
    if step == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
    x = step
sorted([1], key=lambda _: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)))
"""


@pytest.mark.parametrize("earlier", [True, False])
def test_a_terminated_program_without_a_safe_point_names_the_last_commit(tmp_path: Path, earlier: bool) -> None:
    (tmp_path / "s.py").write_text(LONG_CALL if earlier else LONG_CALL.replace("SIGUSR1", "SIGCHLD"))
    done = command("run", "--grace", "0.2", "s.py", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGTERM
    assert "no safe point came within 0.2 s of SIGTERM; " in done.stderr
    if earlier:
        assert re.search(r"the last commit is [0-9a-f]{8}, s.py:\d, \d+ s ago", done.stderr), done.stderr
    else:
        assert "there is no commit to go on from, only the beginning" in done.stderr


def test_who_asks_for_a_commit_in_vain_is_told_why(tmp_path: Path) -> None:
    program = (
        "import os, signal, threading\nover = threading.Event()\ndef wait():\n    over.wait()\nother = threading.Thread(target=wait, name='other')\n"
        "other.start()\nreading, writing = os.pipe()\nkept = os.dup(2)\nos.dup2(writing, 2)\nos.kill(os.getpid(), signal.SIGUSR1)\nx = 1\n"
        "text = os.read(reading, 1000).decode()\nos.dup2(kept, 2)\nover.set()\nother.join()\nprint(text)\n"
    )
    (tmp_path / "s.py").write_text(program)
    done = command("run", "--grace", "0.2", "s.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SIGUSR1 has led to no commit in 0.2 s; there is no commit to go on from" in done.stdout and "the thread other is running" in done.stdout


def test_the_batch_script_of_the_guide_forwards_the_signal_requeues_and_goes_on(tmp_path: Path) -> None:
    script = next(block for block in re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE) if "#SBATCH" in block)
    (tmp_path / "job.sh").write_text(script)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text('#!/bin/sh\necho "$@" >> requeued\n')
    (tools / "dvc-state").write_text(f'#!/bin/sh\nexec {sys.executable} -m dartvc "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (tmp_path / "train.py").write_text(
        "import os\ntotal = 0\nfor i in range(4):\n    print(i, flush=True)\n    if i == 2 and not os.path.exists('once'):\n        open('once', 'w').close()\n"
        "        print('ready', flush=True)\n        while True:\n            if os.path.exists('never'): break\n            if os.path.exists('requeued'): break\n"
        "    total += i\nprint('total', total)\n"
    )
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "77"}
    job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    first = [job.stdout.readline() for _ in range(4)]
    assert first == ["0\n", "1\n", "2\n", "ready\n"]
    job.send_signal(signal.SIGTERM)
    rest, _ = job.communicate(timeout=120)
    assert (rest, (tmp_path / "requeued").read_text()) == ("", "requeue 77\n")
    again = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stdout) == (0, "3\ntotal 6\n"), again.stderr


def test_a_forked_child_has_the_handlers_of_plain_python(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import os, signal\nkinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)\nchild = os.fork()\n"
        "if not child:\n    os._exit([signal.getsignal(each) for each in kinds] == [signal.SIG_DFL, signal.default_int_handler, signal.SIG_DFL])\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-m", "dartvc", "run", "s.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n", done.stderr


def test_the_grace_time_does_not_wait_for_a_call_into_c(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import hashlib, os, signal, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', f'import os, time; time.sleep(0.5); os.kill({os.getpid()}, 15)'])\n"
        "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 1_000_000_000)\n"
    )
    done = command("run", "--grace", "0.2", "s.py", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGTERM and "no safe point came within 0.2 s of SIGTERM; " in done.stderr


def test_a_child_s_signals_are_not_taken_for_the_program_s(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import os, signal, time\nchild = os.fork()\n"
        "if not child:\n    signal.signal(signal.SIGTERM, lambda *_: None)\n    os.kill(os.getpid(), signal.SIGTERM)\n    os._exit(0)\n"
        "os.waitpid(child, 0)\ntime.sleep(0.5)\nprint('end')\n"
    )
    done = command("run", "--grace", "0.1", "s.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr

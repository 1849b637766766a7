"""Runs with reuse are committed as they go, and go on from their middle like any other run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.frames import is_supported
from tests.integration.reused_scripts import EXECUTED
from tests.integration.test_runs import SCRIPT, command, contents, log, project

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

LOOP = """
import random
from helper import scale
random.seed(3)
def train(step, rate):
    total = 0.0
    for i in range(4):
        total += scale(random.random()) * rate
        if (step, i) == (2, 1):
            commit_and_die()
    return total
class Trainer:
    def __init__(self):
        self.losses = []
    def fit(self, steps):
        for step in range(steps):
            self.losses.append(train(step, 0.5))
            print("step", step, round(self.losses[-1], 6), flush=True)
        return self
"""
PLACES = {
    "in a loop of the script's own": "best = []\nfor step in range(4):\n    best.append(train(step, 0.1))\n    print(step, best[-1], flush=True)\n"
    "print(sum(best), step)\n",
    "in a loop inside a block": "import io\nwith io.StringIO() as text:\n    for step in range(4):\n        loss = train(step, 0.1)\n        text.write(str(loss))\n"
    "    print(text.getvalue())\nprint(loss)\n",
    "in a method": "print(round(sum(Trainer().fit(4).losses), 6))\n",
    "in a while loop": "step, total = 0, 0.0\nwhile step < 4:\n    total += train(step, 0.2)\n    step += 1\n    print(step, total, flush=True)\n",
    "in main": "def main(steps=4):\n    done = {}\n    for step in range(steps):\n        done[step] = train(step, 0.3)\n    print(done)\n"
    "if __name__ == '__main__':\n    main()\n",
}


def plain_output(folder: Path) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TEST_PLAIN": "1"}
    return subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("mode", ["--reuse", "--partial-reuse"])
@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_goes_on_from_its_middle(tmp_path: Path, place: str, mode: str) -> None:
    expected = plain_output(project(tmp_path / "plain", LOOP + PLACES[place]))
    folder = project(tmp_path / "run", LOOP + PLACES[place])
    killed = command("run", mode, "train.py", cwd=folder, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert log(folder)[0]["position"]["function"] == "commit_and_die"
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert killed.stdout.replace("lost\n", "") + resumed.stdout == expected


def test_files_and_output_are_those_of_a_run_that_nothing_interrupted(tmp_path: Path) -> None:
    folder = project(tmp_path / "plain", SCRIPT)
    expected, files = plain_output(folder), contents(folder)
    folder = project(tmp_path / "run", SCRIPT)
    killed = command("run", "--reuse", "train.py", cwd=folder, die=True)
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert killed.stdout.replace("lost\n", "") + resumed.stdout == expected
    assert contents(folder) == files


ALARM = """
import signal
signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGUSR1))
def part(n):
    total = 0
    for i in range(n):
        total += i % 7
    print("computed", n, flush=True)
    return total
signal.setitimer(signal.ITIMER_REAL, 0.05)
print(part(3_000_000))
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_commit_in_the_middle_of_a_call_takes_nothing_from_its_proof(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(ALARM)
    first = command("run", "--reuse", "s.py", cwd=tmp_path, check=True)
    assert [each["position"]["function"] for each in log(tmp_path) if each["kind"] == "auto"] == ["part"]
    again = command("run", "--reuse", "s.py", cwd=tmp_path, check=True)
    assert first.stdout == again.stdout
    reused = {each["name"]: each["reused"] for each in json.loads((tmp_path / ".dvc-state/reuse.json").read_text())["sites"]}
    assert reused["part"] == 1


def test_a_thread_of_the_program_s_puts_a_commit_off(tmp_path: Path) -> None:
    program = (
        "import os, signal, threading\nover = threading.Event()\ndef wait():\n    over.wait()\nother = threading.Thread(target=wait, name='other')\n"
        "other.start()\nos.kill(os.getpid(), signal.SIGUSR1)\nx = 1\ny = 2\nover.set()\nother.join()\n"
    )
    (tmp_path / "s.py").write_text(program)
    command("run", "--reuse", "--grace", "0.1", "s.py", cwd=tmp_path, check=True)
    assert [each["kind"] for each in log(tmp_path)] == ["end", "start"]


FITTED = """
import pickle
import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
x = np.random.default_rng(0).random((3000, 60))
y = (x[:, 0] + x[:, 1] > 1).astype(int)
for c in (0.1, 1.0, 1.0):
    model = Pipeline([("scale", StandardScaler()), ("pca", PCA(20, random_state=0)), ("svc", SVC(C=c))])
    model.fit(x, y)
    with open("out.txt", "ab") as out:
        pickle.dump([model, {"C": c, "copy": "auto"}], out)
"""


def test_what_is_fitted_again_from_the_store_pickles_to_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    written: list[Any] = []
    (tmp_path / "s.py").write_text(FITTED + EXECUTED)
    reused_run = ["-m", "dartvc", "run", "--reuse", "s.py"]
    for words in (["s.py"], reused_run, reused_run):
        (tmp_path / "out.txt").unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True, capture_output=True)
        written.append((tmp_path / "out.txt").read_bytes())
    reused = {each["name"]: each["reused"] for each in json.loads((tmp_path / ".dvc-state/reuse.json").read_text())["sites"]}
    assert written[0] == written[1] == written[2]
    assert reused["sklearn.pipeline._fit_transform_one"] >= 4


ASSEMBLED = """
import numpy as np
x = np.random.default_rng(0).random((4000, 60))
done = []
for k in range(3):
    wide = np.hstack([x, np.full((4000, 1), k + 1.0)])
    done.append(float((wide.T @ wide).sum()))
    if k == 2:
        commit_and_die()
    print(round(done[-1], 3), flush=True)
"""


def test_what_is_approximate_stays_so_when_the_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    folder = project(tmp_path / "run", ASSEMBLED)
    killed = command("run", "--partial-reuse", "train.py", cwd=folder, die=True)
    assembled = log(folder)[0]["approximate"]
    assert assembled > 0, killed.stderr
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    end = log(folder)[0]
    assert end["kind"] == "end" and end["approximate"] >= assembled

"""Log statements whose values commits at the head of a loop hold already. A script asks for its commits itself: nothing depends on timing."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_replay import LINE, by_hand, command, environment, query, record, values

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

TRAIN = """
import os
import random
import signal
import dartvc

rate = dartvc.arg("rate", 0.1)

def train(epochs):
    weights = [0.0, 1.0]
    history = []
    lr = rate
    for epoch in range(epochs):
        for step in range(5):
            weights = [each * 0.9 + random.random() * lr for each in weights]
        loss = 1 / (1 + sum(weights))
        history.append(loss)
        lr *= 0.95
        if os.environ.get("TEST_SAVE"):
            os.kill(os.getpid(), signal.SIGUSR1)

random.seed(6)
train(8)
"""
STATEMENT = '        dartvc.log("norm", sum(each * each for each in weights))\n'
BEFORE = "        history.append(loss)\n"


def recorded(folder: Path, text: str = TRAIN, *options: str) -> None:
    record(folder, text, "train.py", *options, TEST_SAVE="1")


def replayed(folder: Path, *words: str, name: str = "norm", code: int = 0, **more: str) -> dict[str, Any]:
    done = command("replay", name, "--all", *words, "--json", cwd=folder, **more)
    assert done.returncode == code, done.stdout + done.stderr
    (item,) = json.loads(done.stdout)["items"]
    return dict(item)


def replayed_with(folder: Path, text: str, present: str) -> dict[str, Any]:
    recorded(folder, text)
    (folder / "train.py").write_text(present)
    return replayed(folder)


@pytest.fixture
def truth(tmp_path: Path) -> list[Any]:
    return by_hand(tmp_path, TRAIN, BEFORE, BEFORE + "        print(sum(each * each for each in weights))\n")


def test_values_at_the_end_of_an_iteration_come_out_of_commits_to_the_last_bit(folder: Path, truth: list[Any]) -> None:
    item = replayed_with(folder, TRAIN, TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    assert (item["records"], item["held"], item["state"]) == (8, 8, "replayed")
    assert values(folder, "norm") == [truth]
    assert [row["epoch"] for row in query(folder, "norm")] == list(range(8))


def test_no_step_of_the_program_is_executed_for_them(folder: Path, truth: list[Any]) -> None:
    text = TRAIN.replace("        for step in range(5):", '        assert not os.environ.get("TEST_REPLAY")\n        for step in range(5):')
    recorded(folder, text)
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + STATEMENT))
    assert replayed(folder, TEST_REPLAY="1")["held"] == 8
    assert values(folder, "norm") == [truth]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        lr *= 0.95\n", "        weights[0] *= 0.95\n"),
        ("        lr *= 0.95\n", "        alias = weights\n        alias.append(0.5)\n        alias.pop(0)\n"),
        ("        lr *= 0.95\n", "        change(weights)\n"),
        ("        lr *= 0.95\n", "        weights = list(reversed(weights))\n"),
        ("        lr *= 0.95\n", "        exec('weights[0] = 2')\n"),
        ("        loss = 1 /", "        if epoch % 2:\n            continue\n        loss = 1 /"),
    ],
    ids=["item", "alias", "function", "rebound", "exec", "continue"],
)
def test_what_is_changed_between_the_statement_and_the_head_is_executed_instead(folder: Path, tmp_path: Path, old: str, new: str) -> None:
    text = TRAIN.replace(old, new).replace("def train", "def change(values):\n    values[0] += 0.25\n\ndef train")
    item = replayed_with(folder, text, text.replace(BEFORE, STATEMENT + BEFORE))
    expected = by_hand(tmp_path, text, BEFORE, "        print(sum(each * each for each in weights))\n" + BEFORE)
    assert item["held"] == 0
    assert values(folder, "norm") == [expected]


@pytest.mark.parametrize(
    "statement",
    [
        '        dartvc.log("norm", random.random())\n',
        '        dartvc.log("norm", weights.append(1.0) or len(weights))\n',
        '        dartvc.log("norm", len(open("notes.txt").read()))\n',
    ],
    ids=["random", "changes", "file"],
)
def test_a_statement_with_side_effects_is_executed_where_it_stands(folder: Path, statement: str) -> None:
    (folder / "notes.txt").write_text("abc")
    recorded(folder)
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + statement))
    assert replayed(folder)["held"] == 0


def test_iterations_without_a_commit_are_executed_and_the_others_are_not(folder: Path, truth: list[Any]) -> None:
    text = TRAIN.replace('os.environ.get("TEST_SAVE")', 'os.environ.get("TEST_SAVE") and epoch != 3')
    text = text.replace("        for step", '        assert not os.environ.get("TEST_REPLAY") or epoch in (3, 4)\n        for step')
    recorded(folder, text)
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + STATEMENT))
    item = replayed(folder, TEST_REPLAY="1")
    assert (item["records"], item["held"]) == (8, 7)
    assert values(folder, "norm") == [truth]


def test_an_inserted_branch_is_evaluated(folder: Path, truth: list[Any]) -> None:
    inserted = '        if epoch % 3 == 1:\n            dartvc.log("norm", sum(each * each for each in weights))\n'
    item = replayed_with(folder, TRAIN, TRAIN.replace(BEFORE, BEFORE + inserted))
    assert item["held"] == 3
    assert values(folder, "norm") == [[truth[1], truth[4], truth[7]]]


def test_where_selects_runs_and_iterations_and_further_ones_are_added(folder: Path, truth: list[Any]) -> None:
    recorded(folder)
    record(folder, TRAIN, "train.py", "--set", "rate=0.5", TEST_SAVE="1")
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    assert replayed(folder, "--where", "epoch > 5 and rate < 0.3")["records"] == 2
    assert values(folder, "norm") == [truth[6:]]
    assert replayed(folder, "--where", "epoch < 2 and rate < 0.3")["records"] == 2
    assert values(folder, "norm") == [[*truth[:2], *truth[6:]]]
    assert replayed(folder, "--where", "epoch < 2 and rate < 0.3")["state"] == "known"
    assert command("replay", "norm", "--all", "--where", "rate > 7", cwd=folder).returncode == 3
    assert command("replay", "norm", "--all", "--where", "f(1)", cwd=folder).returncode == 2
    assert command("replay", "norm", "--all", cwd=folder).returncode == 0
    assert [len(each) for each in values(folder, "norm")] == [8, 8]


def test_where_filters_a_run_that_is_executed_as_a_whole(folder: Path, truth: list[Any]) -> None:
    record(folder, TRAIN)
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    assert replayed(folder, "--where", "epoch > 5 and norm > 0")["records"] == 2
    assert values(folder, "norm") == [truth[6:]]


def test_a_sample_is_spread_evenly(folder: Path, truth: list[Any]) -> None:
    recorded(folder)
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    assert replayed(folder, "--sample", "2")["records"] == 2
    assert [row["epoch"] for row in query(folder, "norm")] == [2, 6]
    assert command("replay", "norm", "--all", "--sample", "none", cwd=folder).returncode == 2


def test_a_dry_run_tells_what_commits_hold(folder: Path) -> None:
    recorded(folder)
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    item = replayed(folder, "--dry-run")
    assert (item["state"], item["held"], item["seconds"]) == ("planned", 8, 0.0)


def test_a_replay_that_is_killed_goes_on_with_what_was_finished(folder: Path, tmp_path: Path, truth: list[Any]) -> None:
    count = tmp_path / "count"
    dies = f"""
random.seed(6)
with open({str(count)!r}, "a") as file:
    file.write("x")
train(8)
if os.environ.get("TEST_KILL"):
    os.kill(int(os.environ["TEST_KILL"]), signal.SIGSTOP)
"""
    text = TRAIN.replace("\nrandom.seed(6)\ntrain(8)\n", dies)
    record(folder, text)
    count.write_text("")
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + STATEMENT))
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "from dartvc.hindsight.replay.finished import Finished\n"
        "keep = Finished.keep\n"
        "def die(self, *given):\n    keep(self, *given)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Finished.keep = die\n"
        "from dartvc.cli.entry import main\nsys.argv = ['dvc-state', 'replay', 'norm', '--all']\nmain()\n"
    )
    killed = subprocess.run([LINE[0], str(script)], cwd=folder, env=environment(), check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert count.read_text() == "x"
    assert replayed(folder)["records"] == 8
    assert count.read_text() == "x"  # it was not executed again
    assert values(folder, "norm") == [truth]
    assert not list((folder / ".dvc-state" / "runs").glob("*/replay"))


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed")
def test_a_dask_cluster_executes_stretches(folder: Path, truth: list[Any]) -> None:
    record(folder, TRAIN)
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    item = replayed(folder, "--executor", "dask", "-j", "1")
    assert (item["records"], item["state"]) == (8, "replayed")
    assert values(folder, "norm") == [truth]


def test_an_unknown_executor_is_refused(folder: Path) -> None:
    record(folder, TRAIN)
    (folder / "train.py").write_text(TRAIN.replace(BEFORE, BEFORE + STATEMENT))
    done = command("replay", "norm", "--all", "--executor", "slurm", cwd=folder)
    assert done.returncode == 2 and "local or dask" in done.stderr


def notebook(path: Path, *cells: str) -> None:
    plain: dict[str, object] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    body = [{**plain, "source": each} for each in cells]
    path.write_text(json.dumps({"cells": body, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def test_a_notebook_that_was_run_as_a_program_is_replayed(folder: Path) -> None:
    cells = ["import dartvc\nx = 1.0", "for epoch in range(4):\n    x = x * 1.5 + epoch"]
    notebook(folder / "train.ipynb", *cells)
    assert command("run", "train.ipynb", cwd=folder).returncode == 0
    notebook(folder / "train.ipynb", cells[0], cells[1] + "\n    dartvc.log('x', x)")
    assert replayed(folder, name="x")["records"] == 4
    expected, x = [], 1.0
    for epoch in range(4):
        x = x * 1.5 + epoch
        expected.append(x)
    assert values(folder, "x") == [expected]



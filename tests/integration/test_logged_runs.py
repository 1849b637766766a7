"""Programs that log: run, killed, resumed, cloned. The scripts kill themselves at chosen places, so that nothing depends on timing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.frames import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

SCRIPT = """
import os, signal
import dartvc
lr = dartvc.arg("lr", 0.1)

def flush_and_die():
    if os.environ.get("TEST_DIE"):
        from dartvc.hindsight import recording
        recording.flush()
        os.kill(os.getpid(), signal.SIGKILL)

def commit():
    if os.environ.get("TEST_DIE"):
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(3):
            pass
        dartvc.session().flush()

def steps(epoch):
    left = 3
    while left:
        dartvc.log("step", (epoch, left))
        if epoch == 2 and left == 2:
            commit()
        left -= 1

def main():
    for epoch in range(4):
        for batch in range(3):
            dartvc.log("loss", lr * epoch + batch)
            if epoch == 3 and batch == 1:
                flush_and_die()
        steps(epoch)
        dartvc.log("acc", epoch)

main()
dartvc.log("total", 1.5)
"""


def environment(**more: str) -> dict[str, str]:
    project = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH", "")])),
        "PYTHONHASHSEED": "7",
        **more,
    }


def command(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    return subprocess.run(line, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False, timeout=120)


def query(folder: Path, *words: str) -> list[dict[str, Any]]:
    done = command("query", *words, "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert isinstance(items, list)
    return items


def without_run(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in item.items() if key != "run"} for item in items]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def test_a_killed_run_keeps_its_tail_and_its_resumption_records_everything_once(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    shutil.copy(folder / "train.py", whole)
    assert command("run", "train.py", cwd=whole).returncode == 0
    killed = command("run", "--max-overhead", "0", "train.py", cwd=folder, TEST_DIE="1")
    assert killed.returncode == -9, killed.stderr
    assert [item["loss"] for item in query(folder, "--df", "loss")][-2:] == [pytest.approx(0.3), pytest.approx(1.3)]
    assert len(query(folder, "--df", "step")) == 9
    assert command("resume", cwd=folder).returncode == 0
    for names in ("loss,acc,lr", "step", "total", "loss,step,acc,total,lr"):
        assert without_run(query(folder, "--df", names)) == without_run(query(whole, "--df", names))
    assert len(query(folder, "SELECT * FROM logs")) == 12 + 12 + 4 + 1
    assert not list(folder.glob(".dvc-state/runs/*/logs/*.jsonl"))
    assert command("fsck", cwd=folder).returncode == 0


def test_a_log_travels_with_clone_and_push(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert command("run", "--set", "lr=0.5", "train.py", cwd=folder).returncode == 0
    (folder / "plain.py").write_text("import dartvc\ndartvc.log('alone', 7)\n")
    subprocess.run([sys.executable, "plain.py"], cwd=folder, env=environment(), check=True)
    bare = tmp_path_factory.mktemp("bare") / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    for words in (("remote", "add", "origin", str(bare)), ("push", "origin")):
        assert command(*words, cwd=folder).returncode == 0
    others = tmp_path_factory.mktemp("others")
    assert command("clone", str(bare), "cloned", cwd=others).returncode == 0
    subprocess.run(["git", "clone", "-q", "--mirror", str(folder / ".dvc-state"), str(others / "mirror" / ".dvc-state")], check=True)
    for other in (others / "cloned", others / "mirror"):
        assert query(other, "--df", "loss,lr") == query(folder, "--df", "loss,lr")
        assert query(other, "--df", "lr")[0]["lr"] == 0.5
        assert query(other, "--df", "alone")[0]["alone"] == 7


def test_a_plain_script_logs_too_and_what_a_killed_one_left_is_taken_in(folder: Path) -> None:
    (folder / "plain.py").write_text(
        "import dartvc, os, sys\n"
        "for k in range(3):\n    dartvc.log('x', k * 1.5)\n"
        "from dartvc.hindsight import recording\nrecording.flush()\n"
        "if len(sys.argv) > 1: os._exit(0)\n"
    )
    nowhere = subprocess.run([sys.executable, "plain.py"], cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert nowhere.returncode == 0 and "dvc-state init" in nowhere.stderr
    command("init", cwd=folder)
    for words in ([], ["die"]):
        done = subprocess.run(
            [sys.executable, "plain.py", *words], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    items = query(folder, "--df", "x")
    assert [(item["k"], item["x"]) for item in items] == [(0, 0.0), (1, 1.5), (2, 3.0)] * 2
    assert len({item["run"] for item in items}) == 2
    assert not list(folder.glob(".dvc-state/runs/*/logs"))


def test_a_forked_child_logs_into_a_run_of_its_own(folder: Path) -> None:
    (folder / "fork.py").write_text(
        "import dartvc, os\n"
        "dartvc.log('x', 1)\n"
        "child = os.fork()\n"
        "dartvc.log('x', 2 if child else 3)\n"
        "from dartvc.hindsight import recording\nrecording.flush()\n"
        "os.waitpid(child, 0) if child else os._exit(0)\n"
    )
    assert command("run", "fork.py", cwd=folder).returncode == 0
    runs: dict[str, list[int]] = {}
    for item in query(folder, "--df", "x"):
        runs.setdefault(item["run"], []).append(item["x"])
    assert sorted(runs.values()) == [[1, 2], [3]]


def test_variables_are_asked_for_like_what_was_logged(folder: Path) -> None:
    (folder / "plain.py").write_text("import numpy\nlr = 0.25\nloss = 2.0\nw = numpy.zeros(3)\n")
    assert command("run", "plain.py", cwd=folder).returncode == 0
    last = query(folder, "--df", "loss,lr")[-1]
    assert (last["loss"], last["lr"]) == (2.0, 0.25)
    assert query(folder, "--df", "loss", "--where", "lr > 1") == []


COMMITS_INSIDE = """
import os, signal
import dartvc
k = 0

def main():
    global k
    loss = 8.0
    for epoch in range(8):
        dartvc.log("e", epoch)
        loss, k = loss / 2, epoch * 10
        if epoch in (2, 5):
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(3):
                pass
            dartvc.session().flush()

def other():
    loss = 100
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(3):
        pass
    dartvc.session().flush()

main()
"""


def test_variables_beside_what_was_logged_are_those_of_the_commit_before(folder: Path) -> None:
    (folder / "inside.py").write_text(COMMITS_INSIDE)
    assert command("run", "inside.py", cwd=folder).returncode == 0
    found = query(folder, "--df", "e,k,loss,main().loss")
    assert [(each["e"], each["k"]) for each in found] == [(0, None), (1, None), (2, None), (3, 20), (4, 20), (5, 20), (6, 50), (7, 50)]
    assert [each["loss"] for each in found] == [each["main().loss"] for each in found] == [None] * 3 + [1.0] * 3 + [0.125] * 2
    assert [each["e"] for each in query(folder, "--df", "e", "--where", "main().loss < 1")] == [6, 7]
    assert [each["main().loss"] for each in query(folder, "--df", "main().loss")] == [1.0, 0.125]


def test_locals_of_functions_are_named_in_conditions_over_commits(folder: Path) -> None:
    (folder / "inside.py").write_text(COMMITS_INSIDE + "other()\n")
    assert command("run", "inside.py", cwd=folder).returncode == 0

    def found(condition: str) -> list[str]:
        done = command("log", "--where", condition, "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        return [each["oid"] for each in json.loads(done.stdout)["items"]]

    assert len(found("main().loss < 2")) == len(found("`main().loss` < 2")) == 2
    assert found("loss < 0.5") == found("main().loss < 0.5") != found("other().loss > 1") == found("loss > 1")
    done = command("log", "--where", "loss > 1000", cwd=folder)
    assert done.returncode != 0 and "main().loss, other().loss" in done.stderr
    done = command("bisect", "run", "--expr", "main().loss < 0.5", "--json", cwd=folder)
    assert done.returncode == 0 and found("main().loss < 0.5")[0] in done.stdout, done.stderr
    assert command("bisect", "run", "--expr", "main().loss < 0", cwd=folder).returncode == 1


def test_tables_for_people_show_short_values_and_whole_times(folder: Path) -> None:
    (folder / "plain.py").write_text("m = [1, 2, 3]\n")
    assert command("run", "plain.py", cwd=folder).returncode == 0
    table = command("query", "--df", "m", cwd=folder).stdout
    assert "[1, 2, 3]" in table and "item_types" not in table
    shown = command("query", "SELECT started FROM runs", cwd=folder).stdout.split()[1]
    (exact,) = query(folder, "SELECT started FROM runs")
    assert abs(float(shown) - exact["started"]) < 0.01


def test_every_format_holds_the_same_table(folder: Path) -> None:
    assert command("run", "train.py", cwd=folder).returncode == 0
    lines = command("query", "--df", "acc", "--format", "csv", cwd=folder).stdout.splitlines()
    assert [line.split(",")[1:] for line in lines] == [["epoch", "acc"], *([str(at), str(at)] for at in range(4))]
    table = command("query", "--df", "acc", cwd=folder).stdout.splitlines()
    assert table[0].split() == ["run", "epoch", "acc"] and len(table) == 5
    parquet = pytest.importorskip("pyarrow.parquet")
    assert command("query", "--df", "acc", "--format", "parquet", "-o", "acc.parquet", cwd=folder).returncode == 0
    assert parquet.read_table(folder / "acc.parquet").column("acc").to_pylist() == [0, 1, 2, 3]


def test_a_notebook_logs_with_its_commits(folder: Path) -> None:
    pytest.importorskip("IPython")
    (folder / "cells.py").write_text(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "for cell in ['%load_ext dartvc', 'import dartvc', 'for epoch in range(2):\\n    dartvc.log(\"acc\", epoch / 2)', 'dartvc.log(\"end\", 1)']:\n"
        "    shell.run_cell(cell, store_history=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [(item["epoch"], item["acc"], item["end"]) for item in query(folder, "--df", "acc,end")] == [(0, 0.0, 1), (1, 0.5, 1)]
    assert not list(folder.glob(".dvc-state/runs/*/logs/*.jsonl"))


def test_flors_functions_are_there(folder: Path) -> None:
    (folder / "flor_script.py").write_text(
        "import dartvc.flor as flor\n"
        "lr = flor.arg('lr', 0.1)\n"
        "with flor.checkpointing(model=1):\n"
        "    for e in flor.loop('epoch', range(2)):\n"
        "        for b in flor.loop('step', 'ab'):\n"
        "            flor.log('loss', e)\n"
        "        flor.log('acc', e / 2)\n"
        "flor.commit()\n"
    )
    assert command("run", "flor_script.py", cwd=folder).returncode == 0
    items = without_run(query(folder, "--df", "loss,acc,lr"))
    assert items == [{"epoch": e, "step": s, "loss": e, "acc": e / 2, "lr": 0.1} for e in range(2) for s in "ab"]

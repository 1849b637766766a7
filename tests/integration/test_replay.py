"""Past versions of programs, replayed with log statements of the present files. Scripts kill what they kill at chosen places: nothing depends on timing."""

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

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

FLAT = """
import random
import dartvc
random.seed(5)
w = 0.0
for epoch in range(4):
    for step in range(3):
        w = w + random.random() * 0.1
    loss = 1 / (1 + w)
    dartvc.log("loss", loss)
"""
FUNCTIONS = """
import random
import dartvc

def train(epochs):
    weight = 0.0  # was called w
    for epoch in range(epochs):
        for step in range(5):
            weight = weight + random.random() * 0.2
        loss = 1 / (1 + weight)
        dartvc.log("loss", loss)

if __name__ == "__main__":
    random.seed(6)
    train(3)
"""
PRESENT = FUNCTIONS.replace("        loss = 1", '        dartvc.log("square", weight ** 2)\n        loss = 1')


def environment(**more: str) -> dict[str, str]:
    project = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7", **more}


LINE = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())"]


def command(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LINE, *words], cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False, timeout=120)


def record(folder: Path, text: str, name: str = "train.py", *options: str, code: int = 0, **more: str) -> None:
    (folder / name).write_text(text)
    done = command("run", *options, name, cwd=folder, **more)
    assert done.returncode == code, done.stderr


def query(folder: Path, names: str) -> list[dict[str, Any]]:
    done = command("query", "--df", names, "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert isinstance(items, list)
    return items


def values(folder: Path, name: str) -> list[list[Any]]:
    """Returns the values of a name, a list for each run."""
    by_run: dict[str, list[Any]] = {}
    for row in query(folder, name):
        if row[name] is not None:
            by_run.setdefault(row["run"], []).append(row[name])
    return list(by_run.values())


def by_hand(tmp_path: Path, text: str, old: str, new: str) -> list[Any]:
    """Returns what a version prints when a statement is put into it by hand."""
    assert old in text
    script = tmp_path / "by_hand.py"
    script.write_text(text.replace(old, new))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def two_versions(folder: Path) -> Path:
    record(folder, FLAT)
    record(folder, FUNCTIONS)
    (folder / "train.py").write_text(PRESENT)
    return folder


def test_versions_with_other_names_and_functions_give_the_values_of_hand_written_statements_in_the_rows_of_the_recorded_ones(
    two_versions: Path, tmp_path: Path
) -> None:
    done = command("replay", "square", "--all", cwd=two_versions)
    assert done.returncode == 0, done.stdout + done.stderr
    first = by_hand(tmp_path, FLAT, "    loss = 1", "    print(w ** 2)\n    loss = 1")
    second = by_hand(tmp_path, FUNCTIONS, "        loss = 1", "        print(weight ** 2)\n        loss = 1")
    assert values(two_versions, "square") == [first, second]
    rows = query(two_versions, "square,loss")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 0, 1, 2]
    assert all(row["square"] is not None and row["loss"] is not None for row in rows)


def test_nothing_of_the_user_changes(two_versions: Path) -> None:
    def seen() -> tuple[object, ...]:
        files = {path.name: path.read_bytes() for path in two_versions.iterdir() if path.is_file()}
        refs = command("log", "--all", "--json", cwd=two_versions).stdout
        return files, [item for item in json.loads(refs)["items"] if item["run"]], (two_versions / ".dvc-state" / "HEAD").read_text()

    before = seen()
    assert command("replay", "square", "--all", cwd=two_versions).returncode == 0
    after = seen()
    assert (after[0], after[2]) == (before[0], before[2])
    assert command("fsck", cwd=two_versions).returncode == 0


def test_a_second_replay_adds_nothing_and_another_statement_replaces_the_values(two_versions: Path) -> None:
    assert command("replay", "square", "--all", cwd=two_versions).returncode == 0
    first = values(two_versions, "square")
    again = command("replay", "square", "--all", "--json", cwd=two_versions)
    assert [item["state"] for item in json.loads(again.stdout)["items"]] == ["known", "known"]
    assert values(two_versions, "square") == first
    (two_versions / "train.py").write_text(PRESENT.replace("weight ** 2)", "-weight) if epoch else None"))
    assert command("replay", "square", "--all", cwd=two_versions).returncode == 0
    assert [len(each) for each in values(two_versions, "square")] == [3, 2]


def test_two_replays_at_once_do_not_double(two_versions: Path) -> None:
    started = [
        subprocess.Popen([*LINE, "replay", "square", "--all"], cwd=two_versions, env=environment(), stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [each.wait(timeout=120) for each in started] == [0, 0]
    rows = command("query", "SELECT count(*) AS n FROM logs WHERE name = 'square'", "--format", "json", cwd=two_versions)
    assert json.loads(rows.stdout)["items"] == [{"n": 7}]
    tips = subprocess.run(
        ["git", "--git-dir", str(two_versions / ".dvc-state"), "for-each-ref", "refs/logs"], capture_output=True, text=True, check=True
    )
    for line in tips.stdout.splitlines():
        count = ["git", "--git-dir", str(two_versions / ".dvc-state"), "rev-list", "--count", line.split()[0]]
        assert subprocess.run(count, capture_output=True, text=True, check=True).stdout.strip() == "1"


def test_a_killed_replay_leaves_nothing_half(folder: Path) -> None:
    deadly = FLAT.replace(
        "    loss = 1", "    import os, signal\n    os.environ.get('TEST_KILL') and os.kill(os.getppid(), signal.SIGKILL)\n    loss = 1"
    )
    record(folder, deadly)
    (folder / "train.py").write_text(deadly.replace("    import os", '    dartvc.log("square", w ** 2)\n    import os'))
    killed = command("replay", "square", "--all", cwd=folder, TEST_KILL="1")
    assert killed.returncode == -signal.SIGKILL
    refused = command("query", "--df", "square", cwd=folder)
    assert refused.returncode != 0
    assert command("replay", "square", "--all", cwd=folder).returncode == 0
    assert [len(each) for each in values(folder, "square")] == [4]


def test_helper_modules_as_they_were_get_their_statements(folder: Path, tmp_path: Path) -> None:
    script = "import dartvc, model\nfor epoch in range(3):\n    dartvc.log('loss', model.step(epoch))\n"
    old = "def step(n):\n    a = n * 3\n    return a + 1\n"
    (folder / "model.py").write_text(old)
    record(folder, script)
    (folder / "model.py").write_text(
        "import dartvc\nRATE = 5\n\ndef step(n):\n    a = n * RATE\n    dartvc.log('a', a)\n    return a + 1\n"
    )
    record(folder, script)
    done = command("replay", "a", "--all", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert values(folder, "a") == [[0, 3, 6], [0, 5, 10]]
    assert [row["epoch"] for row in query(folder, "a,loss")] == [0, 1, 2, 0, 1, 2]


def test_while_loops_count(folder: Path) -> None:
    text = "import dartvc\nx, epoch = 100.0, 0\nwhile epoch < 5:\n    x = x * 0.5\n    dartvc.log('x', x)\n    epoch += 1\n"
    record(folder, text)
    (folder / "train.py").write_text(text.replace("    epoch", "    dartvc.log('half', x / 2)\n    epoch"))
    assert command("replay", "half", "--all", cwd=folder).returncode == 0
    assert [(row["epoch"], row["x"], row["half"]) for row in query(folder, "x,half")] == [
        (epoch, 100.0 * 0.5 ** (epoch + 1), 100.0 * 0.5 ** (epoch + 2)) for epoch in range(5)
    ]


def test_a_script_that_has_another_name_now_is_found(folder: Path) -> None:
    record(folder, FLAT, "first_try.py")
    (folder / "first_try.py").unlink()
    (folder / "train.py").write_text(FLAT.replace("    loss = 1", '    dartvc.log("square", w ** 2)\n    loss = 1'))
    (folder / "other.py").write_text("print('nothing to see')\n")
    done = command("replay", "square", "--all", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [len(each) for each in values(folder, "square")] == [4]


def test_a_killed_and_resumed_run_is_replayed_as_one(folder: Path) -> None:
    text = FLAT.replace(
        "    loss = 1",
        "    if epoch == 2 and __import__('os').environ.get('TEST_DIE'):\n"
        "        dartvc.session().flush()\n"
        "        __import__('os').kill(__import__('os').getpid(), 9)\n"
        "    loss = 1",
    )
    record(folder, text, "train.py", "--every", "0.001", code=-signal.SIGKILL, TEST_DIE="1")
    assert command("resume", cwd=folder).returncode == 0
    (folder / "train.py").write_text(text.replace("    if epoch == 2", '    dartvc.log("square", w ** 2)\n    if epoch == 2'))
    done = command("replay", "square", "--all", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = query(folder, "square,loss")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert all(row["square"] is not None and row["loss"] is not None for row in rows)


def test_a_run_whose_place_is_not_certain_is_refused_and_the_others_go_on(folder: Path) -> None:
    record(folder, "import dartvc\nfor i in range(3):\n    print(i)\n")
    record(folder, FUNCTIONS)
    (folder / "train.py").write_text(PRESENT)
    done = command("replay", "square", "--all", "--json", cwd=folder)
    assert done.returncode == 1
    items = json.loads(done.stdout)["items"]
    assert [item["state"] for item in items] == ["refused", "replayed"]
    assert items[0]["reasons"]
    assert [len(each) for each in values(folder, "square")] == [3]


def test_a_version_whose_package_is_gone_is_named_and_the_others_finish(folder: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "goneaway.py").write_text("__version__ = '1.0'\n")
    paths = os.pathsep.join([environment()["PYTHONPATH"], str(packages)])
    record(folder, "import goneaway\n" + FLAT, PYTHONPATH=paths)
    record(folder, FUNCTIONS)
    (folder / "train.py").write_text(PRESENT)
    done = command("replay", "square", "--all", cwd=folder)
    assert done.returncode == 1
    assert "the package goneaway 1.0 is not installed here" in done.stderr
    assert [len(each) for each in values(folder, "square")] == [3]


def test_files_are_what_they_were_and_stay_what_they_are(folder: Path) -> None:
    text = "import dartvc\nwith open('count.txt') as file:\n    count = int(file.read())\nopen('count.txt', 'w').write(str(count + 1))\n"
    (folder / "count.txt").write_text("10")
    record(folder, text)
    record(folder, text)
    (folder / "train.py").write_text(text + "dartvc.log('count', count)\n")
    assert command("replay", "count", "--all", cwd=folder).returncode == 0
    assert values(folder, "count") == [[10], [11]]
    assert (folder / "count.txt").read_text() == "12"


def test_a_write_to_the_users_folder_by_its_absolute_path_is_refused(folder: Path) -> None:
    text = f"import dartvc\nopen({str(folder / 'out.txt')!r}, 'a').write('x')\nx = 1\n"
    record(folder, text)
    (folder / "train.py").write_text(text + "dartvc.log('x', x)\n")
    done = command("replay", "x", "--all", cwd=folder)
    assert done.returncode == 1
    assert "out.txt, by its absolute path" in done.stderr
    assert (folder / "out.txt").read_text() == "x"


def test_parameters_are_those_of_the_run(folder: Path) -> None:
    text = "import dartvc, sys\nlr = dartvc.arg('lr', 0.5)\nx = lr * 2\n"
    record(folder, text, "train.py", "--set", "lr=0.25")
    (folder / "train.py").write_text(text + "dartvc.log('x', x)\n")
    assert command("replay", "x", "--all", cwd=folder).returncode == 0
    assert values(folder, "x") == [[0.5]]


def test_a_run_that_does_not_repeat_its_values_is_reported(folder: Path) -> None:
    text = "import dartvc, os\nloss = int(os.environ['TEST_VALUE'])\ndartvc.log('loss', loss)\n"
    record(folder, text, TEST_VALUE="1")
    (folder / "train.py").write_text(text + "dartvc.log('twice', 2 * loss)\n")
    done = command("replay", "twice", "--all", cwd=folder, TEST_VALUE="3")
    assert done.returncode == 1
    assert "1 of 1 recorded values came out otherwise: loss was 1 and is 3" in done.stderr


def test_a_run_that_failed_is_replayed_to_its_failure(folder: Path) -> None:
    text = "import dartvc\nfor i in range(5):\n    x = i * i\n    if i == 3:\n        raise ValueError('three')\n"
    record(folder, text, code=1)
    (folder / "train.py").write_text(text.replace("    if i", "    dartvc.log('x', x)\n    if i"))
    done = command("replay", "x", "--all", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert values(folder, "x") == [[0, 1, 4, 9]]


def test_only_the_names_that_are_asked_for_travel(two_versions: Path) -> None:
    (two_versions / "train.py").write_text(
        PRESENT.replace("        loss = 1", '        dartvc.log("other", unknown(weight))\n        loss = 1')
    )
    done = command("replay", "square", "--all", cwd=two_versions)
    assert done.returncode == 0, done.stdout + done.stderr
    assert command("query", "--df", "other", cwd=two_versions).returncode != 0


def test_a_dry_run_runs_nothing(two_versions: Path) -> None:
    done = command("replay", "square", "--all", "--dry-run", "--json", cwd=two_versions)
    assert done.returncode == 0
    assert [item["state"] for item in json.loads(done.stdout)["items"]] == ["planned", "planned"]
    assert command("query", "--df", "square", cwd=two_versions).returncode != 0


def test_one_run_can_be_named_and_a_wrong_name_is_told(two_versions: Path) -> None:
    runs = json.loads(command("runs", "--json", cwd=two_versions).stdout)["items"]
    assert command("replay", "square", runs[0]["run_id"], cwd=two_versions).returncode == 0
    assert [len(each) for each in values(two_versions, "square")] == [3]
    assert command("replay", "square", "nosuchrun", cwd=two_versions).returncode == 3
    assert command("replay", "nosuchname", "--all", cwd=two_versions).returncode == 3
    assert command("replay", "square", cwd=two_versions).returncode == 2


CUT = """
import random
import dartvc

class Model:
    def __init__(self):
        self.rate = 0.5
        self.weights = [0.0] * 3

    def step(self, noise):
        self.weights = [each * self.rate + noise for each in self.weights]
        return sum(self.weights)

def middle(model, epoch):
    pass

def evaluate(model):
    for part in range(2):
        value = model.weights[part] + part
        dartvc.log("part", value)

def main():
    model = Model()
    history = []
    for epoch in range(6):
        evaluate(model)
        for number, noise in enumerate([random.random() for _ in range(4)]):
            loss = model.step(noise)
            history.append(loss)
            if (epoch, number) == (3, 1):
                save()
        evaluate(model)
        dartvc.log("loss", history[-1])

def save():
    import os, signal, sys
    if os.environ.get("TEST_SAVE"):
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(3):
            pass
        for session in sys.modules["dartvc.sessions.session"]._OPEN:
            session.flush()

random.seed(3)
main()
"""
CUT_PRESENT = CUT.replace(
    "            history.append(loss)", '            history.append(loss)\n            dartvc.log("norm", math.hypot(*model.weights))'
).replace("import random", "import random\nimport math")


def replayed_in(folder: Path, processes: int, name: str = "norm") -> dict[str, Any]:
    done = command("replay", name, "--all", "-j", str(processes), "--json", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (item,) = json.loads(done.stdout)["items"]
    return dict(item)


def test_a_run_cut_at_its_commits_gives_the_same_records_as_one_from_its_beginning(folder: Path, tmp_path: Path) -> None:
    record(folder, CUT, TEST_SAVE="1")
    (folder / "train.py").write_text(CUT_PRESENT)
    item = replayed_in(folder, 2)
    assert (item["processes"], item["state"], item["records"], item["compared"]) == (2, "replayed", 24, 30)
    cut = query(folder, "norm,part,loss")
    whole = CUT_PRESENT.replace("math.hypot(*model.weights)", "0.0 + math.hypot(*model.weights)")
    (folder / "train.py").write_text(whole)
    assert replayed_in(folder, 1)["processes"] == 1
    assert query(folder, "norm,part,loss") == cut
    printing = CUT_PRESENT.replace('dartvc.log("norm", math.hypot(*model.weights))', "print(math.hypot(*model.weights))")
    assert values(folder, "norm") == [by_hand(tmp_path, printing, "def middle", "def middle")]


def test_what_inserted_code_carries_from_iteration_to_iteration_is_replayed_in_one_piece(folder: Path) -> None:
    record(folder, CUT, TEST_SAVE="1")
    text = CUT.replace("    history = []\n", "    history = []\n    total = 0\n")
    (folder / "train.py").write_text(
        text.replace(
            "            history.append(loss)",
            '            history.append(loss)\n            total += loss\n            dartvc.log("norm", total)',
        )
    )
    item = replayed_in(folder, 2)
    assert item["processes"] == 1
    (found,) = values(folder, "norm")
    assert found == sorted(found) and len(found) == 24


WHILES = {
    "counted at first": ("    epoch = -1\n    while epoch < 5:\n        epoch += 1", ""),
    "counted at last": ("    epoch = 0\n    while epoch < 6:", "\n        epoch = epoch + 1"),
    "counted down, between": ("    left = 6\n    while left > 0:\n        epoch = 6 - left\n        left -= 1", ""),
    "endless": ("    epoch = -2\n    while True:\n        epoch += 2\n        if epoch > 11: break", ""),
}


def with_while(text: str, head: str, end: str) -> str:
    """Returns the program with a ``while`` loop in place of the loop over epochs."""
    text = text.replace("    for epoch in range(6):", head)
    return text.replace('        dartvc.log("loss", history[-1])', f'        dartvc.log("loss", history[-1]){end}')


@pytest.mark.parametrize("kind", WHILES)
def test_a_while_loop_that_a_variable_counts_is_cut(folder: Path, kind: str) -> None:
    saved = CUT.replace("(epoch, number) == (3, 1)", "len(history) == 14")
    record(folder, with_while(saved, *WHILES[kind]), TEST_SAVE="1")
    present = with_while(CUT_PRESENT.replace("(epoch, number) == (3, 1)", "len(history) == 14"), *WHILES[kind])
    (folder / "train.py").write_text(present)
    item = replayed_in(folder, 2)
    assert (item["processes"], item["state"], item["records"], item["compared"]) == (2, "replayed", 24, 30)
    cut = query(folder, "norm,part,loss")
    (folder / "train.py").write_text(present.replace("math.hypot(*model.weights)", "0.0 + math.hypot(*model.weights)"))
    assert replayed_in(folder, 1)["processes"] == 1
    assert query(folder, "norm,part,loss") == cut


@pytest.mark.parametrize(
    ("start", "body"),
    [
        (-1, "        if epoch % 2 == 0:\n            epoch += 1\n        else:\n            epoch = epoch + 1"),
        (0, "        if epoch < 0:\n            continue\n        epoch += 1"),
        (-1, "        epoch += len('a')"),
    ],
)
def test_a_while_loop_that_nothing_certainly_counts_is_replayed_in_one_piece(folder: Path, start: int, body: str) -> None:
    looped = CUT.replace("    for epoch in range(6):", f"    epoch = {start}\n    while epoch < 5:\n{body}")
    looped = looped.replace("(epoch, number) == (3, 1)", "len(history) == 14")
    record(folder, looped, TEST_SAVE="1")
    (folder / "train.py").write_text(
        looped.replace("            history.append(loss)", '            history.append(loss)\n            dartvc.log("norm", loss)')
    )
    assert replayed_in(folder, 2)["processes"] == 1
    assert len(values(folder, "norm")[0]) % 4 == 0


def test_a_statement_that_draws_random_numbers_gives_what_it_gives_in_one_piece(folder: Path, tmp_path: Path) -> None:
    record(folder, CUT, TEST_SAVE="1")
    drawing = CUT.replace(
        "            history.append(loss)", '            history.append(loss)\n            dartvc.log("norm", random.random())'
    )
    (folder / "train.py").write_text(drawing)
    done = command("replay", "norm", "--all", "-j", "2", "--json", cwd=folder)
    (item,) = json.loads(done.stdout)["items"]
    assert (item["processes"], item["state"]) == (1, "deviates")


STATES = """
import os
import signal
import dartvc
weight = 0.5
for epoch in range(4):
    weight = weight * 1.25
    pace = 10 * epoch
    if "COMMITS" in os.environ:
        os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(3):
        pass
    dartvc.log("loss", 1 / (1 + weight))
"""


def test_beside_a_replayed_value_stands_the_variable_of_the_commit_before_its_iteration(tmp_path: Path) -> None:
    record(tmp_path, STATES, COMMITS="1")
    (tmp_path / "train.py").write_text(STATES + '    dartvc.log("square", weight ** 2)\n')
    assert command("replay", "square", "--all", cwd=tmp_path).returncode == 0
    rows = [(row["epoch"], row["square"], row["pace"]) for row in query(tmp_path, "square,pace") if row["square"] is not None]
    assert rows == [(epoch, (0.5 * 1.25 ** (epoch + 1)) ** 2, 10 * epoch) for epoch in range(4)]

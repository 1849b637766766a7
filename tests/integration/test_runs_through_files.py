"""Runs that are chained through files: which run made a file, from what, and what was made from it; the same for names of a namespace."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.cli import entry
from dartvc.program.frames import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

PREPARE = """
import json
with open("raw.csv") as file:
    rows = [int(line) for line in file]

def save():
    with open("clean.json", "w") as out:
        json.dump([row for row in rows if row > 0], out)

save()
"""
TRAIN = """
import json, os, pickle
import dartvc
lr = dartvc.arg("lr", 0.1)
data = json.load(open("clean.json"))
start = pickle.load(open("model.pkl", "rb")) if os.path.exists("model.pkl") else 0.0
with open("model.tmp", "wb") as out:
    pickle.dump(start + lr * sum(data) + 1 / 3, out)
os.replace("model.tmp", "model.pkl")
"""


def process(project: Path, *words: str, code: int = 0) -> str:
    """Runs a command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "NO_COLOR": "1"}
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    done = subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout if code == 0 else done.stderr


def command(project: Path, *words: str, code: int = 0) -> str:
    """Runs a command line: one that looks in this process, one that executes a program in its own."""
    if words[0] in ("run", "resume"):
        return process(project, *words, code=code)
    words = (*words, str(project)) if words == ("init",) else words
    out, err = io.StringIO(), io.StringIO()
    assert entry.run(words, stdout=out, stderr=err, directory=str(project)) == code, err.getvalue() + out.getvalue()
    return out.getvalue() if code == 0 else err.getvalue()


def answer(project: Path, *words: str) -> Any:
    return json.loads(command(project, *words, "--json"))


def run_of(project: Path, script: str) -> str:
    return str(next(item["run_id"] for item in answer(project, "runs")["items"] if item["command"][0].endswith(script)))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which raw.csv became clean.json, and that a model, which was then trained on."""
    project = tmp_path_factory.mktemp("chain")
    command(project, "init")
    (project / "raw.csv").write_text("".join(f"{number}\n" for number in range(-5, 50)))
    (project / "prepare.py").write_text(PREPARE)
    (project / "train.py").write_text(TRAIN)
    command(project, "run", "prepare.py")
    command(project, "run", "train.py")
    command(project, "run", "--set", "lr=0.5", "train.py")
    return project


def test_why_tells_the_run_the_commit_the_line_the_arguments_and_what_was_read(chain: Path) -> None:
    made = answer(chain, "why", "clean.json")["file"]
    assert made["run"] == run_of(chain, "prepare.py")
    assert made["place"] == ["prepare.py", 7, "save"] and made["text"] == 'with open("clean.json", "w") as out:'
    assert [(each["label"], each["run"]) for each in made["inputs"]] == [("raw.csv", "")]
    assert command(chain, "show", made["oid"])
    model = answer(chain, "why", "model.pkl")["file"]
    assert (model["arguments"], model["is_changed"], model["is_certain"]) == ("lr=0.5", False, True)
    assert {each["label"] for each in model["inputs"]} == {"clean.json", "model.pkl"}


def test_lineage_goes_back_to_what_no_run_wrote_and_tells_versions_of_one_file_apart(chain: Path) -> None:
    found = answer(chain, "lineage", "model.pkl")
    labels = [node["label"].split(" ", 1)[-1] for node in found["nodes"]]
    assert sorted(labels) == ["clean.json", "model.pkl", "model.pkl", "prepare.py", "raw.csv", "train.py", "train.py"]
    sources = {edge["source"] for edge in found["edges"]}
    roots = [node for node in found["nodes"] if node["key"] in sources and node["key"] not in {edge["target"] for edge in found["edges"]}]
    assert [(node["label"], node["detail"]) for node in roots] == [("raw.csv", "no run wrote it")]
    text = command(chain, "lineage", "model.pkl")
    assert text.startswith("file model.pkl\n└─ run ") and "(lr=0.5)" in text and text.count("raw.csv") == 1
    assert "is more" not in command(chain, "lineage", "--depth", "1", "raw.csv")


def test_lineage_down_tells_what_was_made_from_a_file(chain: Path) -> None:
    text = command(chain, "lineage", "--down", "raw.csv")
    assert text.index("prepare.py") < text.index("clean.json") < text.index("train.py") < text.index("model.pkl")


def test_dot_is_a_graph_with_every_node_and_arrow(chain: Path) -> None:
    found = answer(chain, "lineage", "model.pkl")
    text = command(chain, "lineage", "--format", "dot", "model.pkl")
    assert text.startswith("digraph") and text.count(" -> ") == len(found["edges"]) and text.count("shape=") == len(found["nodes"])


def test_a_copy_is_told_by_its_content_and_a_changed_file_is_said_to_be_changed(chain: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(chain, project, symlinks=True)
    shutil.copyfile(project / "clean.json", project / "other.json")
    assert answer(project, "why", "other.json")["file"]["run"] == run_of(project, "prepare.py")
    (project / "clean.json").write_text("[1, 2]")
    assert answer(project, "why", "clean.json")["file"]["is_changed"]
    (project / "clean.json").unlink()
    assert "prepare.py" in command(project, "why", "clean.json")


def test_a_clone_knows_where_its_files_come_from(chain: Path, tmp_path: Path) -> None:
    command(chain, "clone", str(chain), str(tmp_path / "clone"))
    shutil.copyfile(chain / "model.pkl", tmp_path / "clone/model.pkl")
    assert "raw.csv" in command(tmp_path / "clone", "lineage", "model.pkl")


def test_a_file_that_is_overwritten_after_it_was_read_keeps_its_origin(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "first.py").write_text("open('labels.csv', 'w').write('a label\\n')\n")
    (tmp_path / "feedback.py").write_text("n = len(open('labels.csv').read())\nopen('labels.csv', 'a').write(f'{n}\\n')\n")
    command(tmp_path, "run", "first.py")
    command(tmp_path, "run", "feedback.py")
    command(tmp_path, "run", "feedback.py")
    text = command(tmp_path, "lineage", "labels.csv")
    assert [line.count("─ run") for line in text.splitlines()].count(1) == 3 and "first.py" in text.splitlines()[-1]


def test_a_file_that_python_did_not_open_is_found_and_not_called_certain(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "shell.py").write_text(
        "import subprocess\nsubprocess.run(['sh', '-c', 'echo some content of a model > model.bin'], check=True)\n"
    )
    command(tmp_path, "run", "shell.py")
    assert "changed during run" in command(tmp_path, "why", "model.bin")
    assert answer(tmp_path, "why", "model.bin")["file"]["is_certain"] is False


KILLED = """
import os, signal
import dartvc
open("out.txt", "w").write(open("in.txt").read() * 2)
if not os.environ.get("TEST_GO_ON"):
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(3):
        pass
    dartvc.session().flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_had_read_is_known_and_its_resumption_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "init")
    (tmp_path / "in.txt").write_text("something to read\n")
    (tmp_path / "killed.py").write_text(KILLED)
    command(tmp_path, "run", "killed.py", code=-9)
    assert "read in.txt" in command(tmp_path, "why", "out.txt")
    monkeypatch.setenv("TEST_GO_ON", "1")
    command(tmp_path, "resume", code=-9)  # it goes on behind the question, to its end
    assert "read in.txt" in command(tmp_path, "why", "out.txt")


WRITES_AND_READS = """
import json, os
import dartvc
seed = 7
os.makedirs("out", exist_ok=True)
with open("out/raw.json", "w") as out:
    json.dump([seed * number for number in range(20)], out)
rows = json.load(open("out/raw.json"))
loss = sum(rows) / len(rows)
unused = rows[0]
with open("res.txt", "w") as out:
    out.write(f"the loss of it all is {loss}, as it was before\\n")
"""


def test_a_file_that_a_run_wrote_and_then_read_is_between_them(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "main.py").write_text(WRITES_AND_READS)
    command(tmp_path, "run", "main.py")
    found = answer(tmp_path, "query", "SELECT path, access FROM files ORDER BY path, access")["items"]
    assert [tuple(each.values()) for each in found] == [("out/raw.json", "own"), ("out/raw.json", "write"), ("res.txt", "write")]
    assert command(tmp_path, "lineage", "res.txt").splitlines()[1:] == [
        f"└─ run {run_of(tmp_path, 'main.py')[:8]} main.py",
        "   └─ file out/raw.json  (which that run wrote itself)",
    ]
    assert "raw.json" not in command(tmp_path, "lineage", "out/raw.json").partition("\n")[2]
    assert [line.split()[-1] for line in command(tmp_path, "lineage", "--down", "out/raw.json").splitlines()] == ["out/raw.json", "main.py", "res.txt"]
    assert "  read out/raw.json  (run " in command(tmp_path, "why", "res.txt")
    text = command(tmp_path, "why", "loss")
    assert "seed = 7" in text and "json.dump(" in text and "unused" not in text
    (tmp_path / "out/raw.json").unlink()
    assert "loss: the same value" in command(tmp_path, "lineage", "loss", "--recompute")


HIDDEN_WRITER = """
import os, sys, tempfile
exec("with open('made.txt', 'w') as out: out.write('a line')")
with open("made.txt") as file:
    n = len(file.read())
folder = tempfile.mkdtemp()
exec("with open(os.path.join(folder, 'far.txt'), 'w') as out: out.write('a line')")
with open(os.path.join(folder, "far.txt")) as file:
    k = len(file.read())
"""


def test_where_a_value_cannot_be_made_again_through_a_file_one_line_says_why(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "main.py").write_text(HIDDEN_WRITER)
    command(tmp_path, "run", "main.py")
    assert "n: the same value" in command(tmp_path, "lineage", "n", "--recompute")
    (tmp_path / "made.txt").unlink()
    assert "made.txt is not what it was when it was read" in command(tmp_path, "lineage", "n", "--recompute", code=4)
    (tmp_path / "made.txt").write_text("a line")
    out = io.StringIO()
    assert entry.run(("lineage", "k", "--recompute"), stdout=out, stderr=io.StringIO(), directory=str(tmp_path)) == 1
    assert [line.strip()[:9] for line in out.getvalue().splitlines()] == ["k: the pr", "it reads "] and "far.txt" in out.getvalue()


def test_odd_names_and_folders_are_files_like_others(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "odd.py").write_text(
        "import os\nos.makedirs('a b/ü', exist_ok=True)\nopen('a b/ü/x\\ny \\x1b[31m.txt', 'w').write('content')\n"
    )
    command(tmp_path, "run", "odd.py")
    text = command(tmp_path, "why", "a b/ü/x\ny \x1b[31m.txt")
    assert "odd.py" in text and "\x1b" not in text


def test_what_was_replaced_or_removed_was_not_read_and_what_was_moved_was(tmp_path: Path) -> None:
    command(tmp_path, "init")
    for name in ("model.txt", "old.txt", "moved.txt"):
        (tmp_path / name).write_text("something that was there before\n")
    (tmp_path / "main.py").write_text(
        "import os\nos.makedirs('folder/inner')\nopen('new.txt', 'w').write('x' * 40)\nos.replace('new.txt', 'model.txt')\n"
        "os.remove('old.txt')\nos.rename('moved.txt', 'folder/moved.txt')\n"
    )
    command(tmp_path, "run", "main.py")
    found = answer(tmp_path, "query", "SELECT path, access FROM files ORDER BY path")["items"]
    assert [tuple(each.values()) for each in found] == [("folder/moved.txt", "write"), ("model.txt", "write"), ("moved.txt", "read")]


def test_libraries_caches_and_sources_are_no_data(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "helper_of_mine.py").write_text("X = 1\n")
    (tmp_path / "main.py").write_text("import helper_of_mine, json\nopen('/dev/null').read()\nprint(open('main.py').read()[:0])\n")
    command(tmp_path, "run", "main.py")
    assert answer(tmp_path, "query", "SELECT path FROM files")["items"] == []


# -- names --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A repository of commits that stand for cells, each with its code."""
    program = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("%load_ext dartvc")
for cell in ["a = 1", "b = a + 1\\nc = [b]", "c.append(a)\\nd = 5", "a = 100", "e = sum(c)"]:
    shell.run_cell(cell, store_history=True)
import dartvc
dartvc.session().flush()
"""
    command(tmp_path, "init")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    return tmp_path


def test_why_a_name_tells_the_cells_and_statements_behind_it(cells: Path) -> None:
    text = command(cells, "why", "c")
    assert [line.strip() for line in text.splitlines()[1:]] == ["In [3]:1  c.append(a)", "In [2]:2  c = [b]", "In [1]:1  a = 1", "In [2]:1  b = a + 1"]
    assert answer(cells, "why", "e")["name"]["statements"][0]["text"] == "e = sum(c)"


def test_lineage_of_a_name_goes_through_the_values_that_were_there_then(cells: Path) -> None:
    found = answer(cells, "lineage", "e")
    statements = [node["label"].partition("  ")[2] for node in found["nodes"] if node["kind"] == "statement"]
    assert statements == ["e = sum(c)", "c.append(a)", "c = [b]", "a = 1", "b = a + 1"]


def test_a_name_goes_before_a_file_of_the_same_name_and_a_path_means_the_file(cells: Path) -> None:
    (cells / "a").write_text("a file of that name\n")
    assert "a = 100" in command(cells, "why", "a")
    assert "no run wrote a" in command(cells, "why", "./a", code=3)
    assert "is no name" in command(cells, "why", "nothing", code=3)


def test_lineage_of_runs_needs_no_trust_and_runs_nothing(chain: Path, tmp_path: Path) -> None:
    project = tmp_path / "strange"
    shutil.copytree(chain, project, symlinks=True)
    environment = {"HOME": str(tmp_path / "other"), "XDG_CONFIG_HOME": str(tmp_path / "other/.config")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert "prepare.py" in process(project, "lineage", "model.pkl")
        assert 'with open("clean.json"' in process(project, "why", "clean.json")

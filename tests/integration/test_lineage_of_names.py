"""Where names come from: runs and their commits through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())")
PROGRAM = """
import json
import os
import random
import helper

def total(rows, factor):
    found = 0
    for row in rows:
        if row["kind"] == "a":
            found += row["value"] * factor
        else:
            found += 1
    return found

random.seed({seed})
rows = json.load(open("rows.json"))
noise = random.random()
unused = [each["value"] for each in rows]
scaled = helper.scale(rows, {factor})
score = total(scaled, 2) + noise
chance = os.urandom(2)
print(score)
"""
HELPER = "def scale(rows, factor):\n    return [{**row, 'value': row['value'] * factor} for row in rows]\n\ndef other(x):\n    return x\n"


def command(folder: Path, *words: str, code: int = 0) -> str:
    """Runs a command of dvc-state and returns what it printed."""
    done = subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


def answer(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Returns the JSON of a command."""
    found: dict[str, Any] = json.loads(command(folder, *words, "--json", code=code))
    return found


@pytest.fixture(params=["plain", "reuse"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project whose program ran twice, with other seeds and factors."""
    command(tmp_path, "init")
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "rows.json").write_text(json.dumps([{"kind": kind, "value": number} for number, kind in enumerate("abcab")]))
    for seed, factor in ((1, 3), (2, 3)):
        (tmp_path / "program.py").write_text(PROGRAM.format(seed=seed, factor=factor))
        command(tmp_path, "run", *(["--reuse"] if request.param == "reuse" else []), "program.py")
        command(tmp_path, "tag", f"seed{seed}")
    return tmp_path


def test_why_names_statements_in_functions_and_modules_files_and_seeds(project: Path) -> None:
    text = command(project, "why", "score", "--all")
    assert "program.py:11 in total  found += row[" in text
    assert "helper.py:2 in scale  return [" in text
    assert "file rows.json  xxh3 " in text and "seed random.seed(2)" in text
    assert "unused" not in text
    sources = answer(project, "why", "score")["name"]["sources"]
    assert [each["kind"] for each in sources] == ["file", "seed"]


def test_what_cannot_be_repeated_is_said(project: Path) -> None:
    assert "entropy  (program.py:22): another run may see another" in command(project, "why", "chance")


def test_two_runs_part_at_their_seeds(project: Path) -> None:
    found = answer(project, "lineage", "score", "--against", "seed1", code=1)["divergences"]
    assert [(each["before"], each["after"]) for each in found] == [("random.seed 1", "random.seed 2")]
    assert command(project, "lineage", "scaled", "--against", "seed1") == "scaled: made in the same way\n"


def test_runs_do_not_part_where_one_was_given_what_the_other_computed(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "rows.json").write_text(json.dumps([{"kind": kind, "value": number} for number, kind in enumerate("abcab")]))
    heavy = "    found = 0\n    worked = sum(each % 7 for each in range(600_000))\n"
    for seed in (1, 2):
        (tmp_path / "program.py").write_text(PROGRAM.replace("    found = 0\n", heavy).format(seed=seed, factor=3))
        command(tmp_path, "run", "--reuse", "program.py")
        command(tmp_path, "tag", f"seed{seed}")
    assert " turns" in command(tmp_path, "lineage", "score", "--rev", "seed1") and " turns" not in command(tmp_path, "lineage", "score")
    for one, other in ((1, 2), (2, 1)):
        found = answer(tmp_path, "lineage", "score", "--rev", f"seed{other}", "--against", f"seed{one}", code=1)["divergences"]
        assert [(each["before"], each["after"]) for each in found] == [(f"random.seed {one}", f"random.seed {other}")]


def test_a_slice_runs_and_makes_the_stored_value(project: Path) -> None:
    text = command(project, "lineage", "score", "--slice")
    assert "unused" not in text and "def other" not in text and "def scale" in text
    assert "score: the same value" in command(project, "lineage", "score", "--recompute")
    assert answer(project, "lineage", "noise", "--recompute", "--rev", "seed1")["recomputed"]["is_equal"] is True


def test_a_value_of_a_changed_file_is_not_made_again(project: Path) -> None:
    (project / "rows.json").write_text("[]")
    text = command(project, "lineage", "score", "--recompute", code=4)
    assert "rows.json is not what it was" in text


def test_a_value_that_depends_on_chance_is_found_to_differ(tmp_path: Path) -> None:
    command(tmp_path, "init")
    (tmp_path / "chance.py").write_text("import random\nx = random.random()\n")
    command(tmp_path, "run", "chance.py")
    assert "another value" in command(tmp_path, "lineage", "x", "--recompute", code=1)
    assert "not seeded" in command(tmp_path, "why", "x")


def test_levels_go_from_statements_to_operations(project: Path) -> None:
    counts = [len(answer(project, "lineage", "score", "--level", level)["nodes"]) for level in ("statement", "call", "operation")]
    assert counts[0] < counts[1] < counts[2]
    operations = answer(project, "lineage", "score", "--level", "operation")["nodes"]
    assert "json.load" in {each["opcode"] for each in operations} and all(each["digest"] for each in operations)


def test_pictures_are_well_formed(project: Path) -> None:
    root = ElementTree.fromstring(command(project, "lineage", "score", "--format", "svg"))
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "score" in texts and any(text.startswith("rows.json") for text in texts)
    dot = command(project, "lineage", "score", "--format", "dot")
    assert dot.startswith("digraph lineage {") and dot.count("->") >= 8


def test_a_local_of_a_function_that_returned_has_a_lineage(project: Path) -> None:
    assert "program.py:11 in total" in command(project, "why", "total().found")


def test_a_stranger_s_program_is_not_run(project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("other")))
    assert "made elsewhere" in command(project, "lineage", "score", "--recompute", code=4)
    assert "program.py" in command(project, "why", "score")


def test_the_way_that_a_run_with_reuse_took_is_told(tmp_path: Path) -> None:
    command(tmp_path, "init")
    loop = "n = 0\nfor i in range(1000):\n    if i % 4 == 0:\n        n += 2\n    else:\n        n += 1\n"
    (tmp_path / "loop.py").write_text(loop + "if n > 5:\n    kind = 'many'\nelse:\n    kind = 'few'\n")
    command(tmp_path, "run", "--reuse", "loop.py")
    assert "(1,000 turns: 750 through lines 3, 6, 250 through lines 3-4)" in command(tmp_path, "why", "n")
    assert "few" not in command(tmp_path, "why", "kind")
    assert "else" not in command(tmp_path, "lineage", "kind", "--slice").splitlines()[-1]


def test_a_loop_in_a_function_that_was_answered_is_not_said_to_have_turned_never(tmp_path: Path) -> None:
    command(tmp_path, "init")
    work = "def work(n):\n    found = 0\n    for i in range(n):\n        if i % 7:\n            found += i * i % 7\n    return found\n"
    for last in ("w + 1", "w + 2"):
        (tmp_path / "main.py").write_text(f"{work}w = work(3_000_000)\nx = {last}\nprint(x)\n")
        command(tmp_path, "run", "--reuse", "main.py")
    assert "1 of 1" in command(tmp_path, "cache", "stats")
    text = command(tmp_path, "why", "x")
    assert "for i in range(n):" in text and "turns" not in text

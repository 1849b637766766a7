"""Many runs whose values commits hold: one process imports what they share, and forks another for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_replay import command, environment, values
from tests.integration.test_replay_skipping import BEFORE, STATEMENT, TRAIN, recorded

pytestmark = [
    pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone"),
]
TAGGED = TRAIN.replace("    history = []\n", "    history = []\n    tags = {'red', 'blue'}\n")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """An installed package that takes note of each import; returns the folder to find it in."""
    found = tmp_path / "site-packages"
    found.mkdir()
    (found / "heavy.py").write_text(f"with open({str(tmp_path / 'imports')!r}, 'a') as file:\n    file.write('imported\\n')\n")
    return found


def replayed(folder: Path, count: int, **more: str) -> None:
    done = command("replay", "norm", "--all", cwd=folder, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("(8 held by commits)") == count, done.stdout


def printed(tmp_path: Path, text: str, statement: str, seed: str) -> list[Any]:
    script = tmp_path / "printing.py"
    script.write_text(text.replace(BEFORE, BEFORE + statement.replace('dartvc.log("norm", ', "print(")))
    done = subprocess.run([sys.executable, str(script)], env=environment(PYTHONHASHSEED=seed), capture_output=True, text=True, check=True)
    return done.stdout.split()


def paths(library: Path) -> str:
    return os.pathsep.join([str(library), environment()["PYTHONPATH"]])


def test_the_libraries_of_many_runs_are_imported_once(folder: Path, library: Path, tmp_path: Path) -> None:
    text = TRAIN.replace("import random\n", "import random\nimport heavy\n")
    for seed in ("1", "2", "3"):
        (folder / "train.py").write_text(text)
        done = command("run", "train.py", cwd=folder, TEST_SAVE="1", PYTHONHASHSEED=seed, PYTHONPATH=paths(library))
        assert done.returncode == 0, done.stderr
    (tmp_path / "imports").unlink()
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + STATEMENT))
    replayed(folder, 3, PYTHONPATH=paths(library))
    assert (tmp_path / "imports").read_text() == "imported\n"
    first, *others = values(folder, "norm")
    assert len(first) == 8 and others == [first, first]


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        (TAGGED, '        dartvc.log("norm", "-".join(tags))\n'),
        (TRAIN, '        dartvc.log("norm", "-".join({"red", "blue"}))\n'),
        (TRAIN, '        dartvc.log("norm", hash("red"))\n'),
    ],
    ids=["in the state", "in the statement", "a hash"],
)
def test_an_order_that_follows_from_a_runs_own_hash_seed_is_that_of_the_run(
    folder: Path, tmp_path: Path, text: str, statement: str
) -> None:
    seeds = ("1", "2", "4")  # the two hashes do not fall together, so that the order does not follow from which was added first
    for seed in seeds:
        recorded_with(folder, text, seed)
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + statement))
    replayed(folder, 3)
    expected = [printed(tmp_path, text, statement, seed) for seed in seeds]
    assert [[str(each) for each in run] for run in values(folder, "norm")] == expected
    assert len({tuple(each) for each in expected}) > 1


def recorded_with(folder: Path, text: str, seed: str) -> None:
    (folder / "train.py").write_text(text)
    done = command("run", "train.py", cwd=folder, TEST_SAVE="1", PYTHONHASHSEED=seed)
    assert done.returncode == 0, done.stderr


def test_a_library_that_starts_a_thread_is_not_forked(folder: Path, library: Path) -> None:
    (library / "heavy.py").write_text("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    text = TRAIN.replace("import random\n", "import random\nif not os.environ.get('TEST_SAVE'):\n    import heavy\n")
    recorded(folder, text)
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + STATEMENT))
    replayed(folder, 1, PYTHONPATH=paths(library))
    assert len(values(folder, "norm")[0]) == 8


def test_a_library_that_ends_the_process_that_imports_it_costs_only_the_sharing(folder: Path, library: Path) -> None:
    (library / "heavy.py").write_text("import os\nos._exit(3)\n")
    text = TRAIN.replace("import random\n", "import random\nif not os.environ.get('TEST_SAVE'):\n    import heavy\n")
    recorded(folder, text)
    (folder / "train.py").write_text(text.replace(BEFORE, BEFORE + STATEMENT))
    replayed(folder, 1, PYTHONPATH=paths(library))
    assert len(values(folder, "norm")[0]) == 8

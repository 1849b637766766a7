"""Files that libraries open in compiled code belong to a commit as those do that Python opens."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

PROGRAM = """
import os
LIBRARY
seen = []
for epoch in range(3):
    seen.append(int(load("kept")) if os.path.exists("kept") else None)
    save(epoch, "kept")
    if epoch == 1:
        commit_and_die()
print(seen, int(load("kept")), os.path.exists("lost"), flush=True)
"""
LIBRARIES = {
    "torch": "import torch\ndef save(value, path):\n    torch.save(value, path)\ndef load(path):\n    return torch.load(path)",
    "pandas": (
        "import pandas\ndef save(value, path):\n    pandas.DataFrame({'a': [value]}).to_parquet(path)\n"
        "def load(path):\n    return pandas.read_parquet(path)['a'][0]"
    ),
    "polars": (
        "import polars\ndef save(value, path):\n    polars.DataFrame({'a': [value]}).write_csv(file=path)\n"
        "def load(path):\n    return polars.read_csv(path)['a'][0]"
    ),
    "pyarrow": (
        "import pyarrow, pyarrow.parquet\ndef save(value, path):\n    pyarrow.parquet.write_table(pyarrow.table({'a': [value]}), path)\n"
        "def load(path):\n    return pyarrow.parquet.read_table(path)['a'][0].as_py()"
    ),
    "h5py": (
        "import h5py\ndef save(value, path):\n    with h5py.File(path, 'a') as file:\n        file.attrs['a'] = value\n"
        "def load(path):\n    with h5py.File(path, 'r') as file:\n        return file.attrs['a']"
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_was_written_after_the_commit_is_taken_back_and_what_the_commit_has_is_there_again(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    pytest.importorskip("pyarrow" if library == "pandas" else library)
    lose = COMMIT.replace('print("lost", flush=True)', 'save(99, "kept")\n        save(99, "lost")')
    (tmp_path / "train.py").write_text(lose + PROGRAM.replace("LIBRARY", LIBRARIES[library]))
    killed = command("run", "train.py", cwd=tmp_path, die=True)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "lost").exists(), killed.stderr
    resumed = command("resume", cwd=tmp_path)
    assert (resumed.returncode, resumed.stdout) == (0, "[None, 0, 1] 2 False\n"), resumed.stderr
    (tmp_path / "kept").unlink()
    middle = command("log", "--json", cwd=tmp_path).stdout.split('"kind": "auto"')[0].rsplit('"oid": "', 1)[1][:40]
    again = command("resume", middle, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "[None, 0, 1] 2 False\n"), again.stderr


MAPPED = """
import numpy as np
mapped = np.memmap("rows.dat", dtype="f8", mode="w+", shape=(6,))
for step in range(6):
    mapped[step] = step + 1
    if step in (1, 3):
        if step == 1:
            os.utime("rows.dat", (1000, 1000))
        commit_and_die()
        mapped[5] = 99.0
mapped.flush()
print(mapped.tolist(), flush=True)
"""


def test_what_was_written_through_memory_is_what_it_was_at_the_commit(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    late = COMMIT.replace('print("lost", flush=True)', "mapped[:] = 77.0").replace('get("TEST_DIE")', 'get("TEST_DIE") == str(step)')
    (tmp_path / "train.py").write_text("import os\n" + late + MAPPED)
    assert command("run", "train.py", cwd=tmp_path, die="3").returncode == -signal.SIGKILL
    assert (tmp_path / "rows.dat").stat().st_mtime == 1000, "the second commit sees no other time"
    resumed = command("resume", cwd=tmp_path)
    assert (resumed.returncode, resumed.stdout) == (0, "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]\n"), resumed.stderr
    assert "other contents" not in resumed.stderr


def test_a_module_is_watched_as_soon_as_it_was_executed_and_finders_are_left_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("def imwrite(filename, image):\n    open(filename + '.png', 'wb').close()\n    return image\n")
    script = """
import sys
from dartvc.program.foreign import expect_foreign_writer, watch_foreign_writers
heard = []
def hook(event, arguments):
    if event == "import":
        expect_foreign_writer(arguments[0])
    if event == "open" and str(arguments[0]).startswith("shown"):
        heard.append(arguments[0])
finders = list(sys.meta_path)
sys.addaudithook(hook)
from cv2 import imwrite
assert imwrite("shown", 5) == 5 and imwrite.__name__ == "imwrite"
watch_foreign_writers()
assert heard == ["shown", "shown.png"], heard
assert sys.meta_path == finders
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr

"""What a program commits as it ends arrives, in Pythons too that begin no more threads then (3.12 and newer)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LATE = "import atexit, dartvc\nrepo = dartvc.init('.')\nnamespace = {'x': 0, 'big': bytearray(range(256)) * SIZE}\n"
ASK = "import dartvc; repo = dartvc.open('.'); print(len(list(repo.log())), repo.load(names=['x'])['x'], len(repo.load(names=['big'])['big']))"


@pytest.mark.parametrize("size", [4, 200_000])
@pytest.mark.parametrize("before", [0, 2])
def test_commits_made_in_atexit_arrive(tmp_path: Path, size: int, before: int) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    late = LATE.replace("SIZE", str(size)) + f"for _ in range({before}):\n    namespace['x'] += 1\n    repo.commit(namespace)\n"
    late += "def end():\n    for _ in range(2):\n        namespace['x'] += 10\n        repo.commit(namespace)\natexit.register(end)\n"
    told = subprocess.run([sys.executable, "-c", late], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    told = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert told.stdout.split() == [str(before + 2), str(before + 20), str(256 * size)], told.stderr

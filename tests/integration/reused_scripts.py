"""Scripts run as plain Python and under ``run --reuse``: what the tests of reuse share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = ("-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())")
HEAVY = """
def burn(n=120_000):
    total = 0
    for i in range(n):
        total += abs(i) % 7
    return total
"""


EXECUTED = "\nimport time  # what could look at the clock is answered call by call, never as a whole\n"


def plain_and_reused(folder: Path, text: str, *, mode: str = "--reuse", times: int = 2) -> tuple[str, list[str]]:
    """Runs a script as plain Python and some times with reuse, call by call; returns the outputs."""
    script = folder / "script.py"
    script.write_text(text + EXECUTED)
    outputs = []
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    for arguments in [[], *[[*COMMAND, "run", mode]] * times]:
        for name in ("data.txt", "out.txt"):
            (folder / name).unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, *arguments, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return outputs[0], outputs[1:]


def sites(folder: Path) -> dict[str, Any]:
    """Returns what became of each function in the last run."""
    return {each["name"]: each for each in json.loads((folder / ".dvc-state/reuse.json").read_text())["sites"]}


def dvc_state(folder: Path, *words: str) -> str:
    """Runs a command."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *COMMAND, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

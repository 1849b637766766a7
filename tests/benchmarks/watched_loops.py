"""What ``run --reuse`` costs a loop of a million statements in which nothing repeats: time and memory beside plain Python.

``python tests/benchmarks/watched_loops.py``; prints, for each loop, seconds of CPU in the loop plain and watched, their ratio, and the memory that
the loop added. Not collected by pytest: the figures depend on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dartvc.history import Repository
from dartvc.lineage.decisions import PATHS

COMMAND = ("-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())")
LOOPS = {
    "one statement a turn": ("", "x = 0.5\nfor i in range(1_000_000):\n    x = x * 0.999 + 0.001\n"),
    "arithmetic at top level": (
        "",
        "x = 0.5\nfor i in range(250_000):\n    a = x * 1.5\n    b = a - i % 7\n    if b > 3: x = b / 5\n    else: x = 0.7\n",
    ),
    "calls of a small function": (
        "def step(x, i):\n    return (x * 1.5 - i % 7) / 5\n",
        "x = 0.5\nfor i in range(1_000_000):\n    x = step(x, i)\n",
    ),
    "small arrays": (
        "import numpy as np\nA = np.eye(3) * 0.9\n",
        "x = np.ones(3)\nfor i in range(250_000):\n    y = A @ x\n    y = y + 1.0\n    y = y * 0.5\n    x = y - i % 3\n",
    ),
}
PROGRAM = """
import json, resource, time
{setup}
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.process_time()
{loop}
spent = time.process_time() - begin
print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory]))
"""
ROUNDS = 5


def measured(text: str, *words: str) -> tuple[float, int, int]:
    """Returns the seconds and the kilobytes of a loop and the bytes of its decisions, in a project of its own: no earlier run answers it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "script.py").write_text(text)
        done = subprocess.run(
            [sys.executable, *words, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        seconds, kilobytes = json.loads(done.stdout)
        return seconds, kilobytes, recorded_bytes(Path(folder)) if words else 0


def recorded_bytes(folder: Path) -> int:
    """Returns the bytes of the streams of decisions that the run in a project recorded."""
    repository = Repository.open(folder)
    entry = repository.process(repository.resolve("HEAD")).get(PATHS)
    if entry is None:
        return 0  # nothing decides in it
    rows: Any = repository.summary(entry)["streams"]
    return sum(width * count for *_, width, _, count in rows)


def main() -> None:
    """Measures each loop, plain and watched in turn; the best of five counts."""
    for name, (setup, loop) in LOOPS.items():
        text = PROGRAM.format(setup=setup, loop=loop)
        pairs = [(measured(text), measured(text, *COMMAND, "run", "--reuse")) for _ in range(ROUNDS)]
        plain, watched = (min(each[side][0] for each in pairs) for side in (0, 1))
        added = min(each[1][1] - each[0][1] for each in pairs)
        print(
            f"{name}: {plain:.3f} s plain, {watched:.3f} s watched, {watched / plain:.2f}x; {max(added, 0)} kB more memory, {pairs[0][1][2]:,} bytes of decisions"
        )


if __name__ == "__main__":
    main()

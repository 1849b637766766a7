"""Loops of pure Python that call nothing, under ``dvc-state run`` and plain: CPU time of the whole process, children included.

    python tests/benchmarks/tight_loops.py [--rounds N] [--millions M] [--json FILE]

Each round runs every program both ways, in turn. *start* is what a run of an empty script costs more than plain Python; *steady* is the share that remains when
that is taken off. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = {
    "empty": "",
    "for, top level": "total, x = 0, 0.5\nfor i in range(COUNT):\n    for j in range(1000000):\n        total += j & 7\n        x = x * 0.999 + 0.001\n",
    "while, in a function": "def work(n):\n    total, x, i = 0, 0.5, 0\n    while i < n:\n        j = 0\n        while j < 1000:\n            total += j & 7\n"
    "            x = x * 0.999 + 0.001\n            j += 1\n        i += 1\n    return total, x\nwork(COUNT * 700)\n",
    "for, in a function": "def work(n):\n    total, x = 0, 0.5\n    for i in range(n):\n        for j in range(1000000):\n            total += j & 7\n"
    "            x = x * 0.999 + 0.001\n    return total, x\nwork(COUNT)\n",
}


def cpu_of(words: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Returns the CPU seconds that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millions", type=int, default=150, help="passes of the inner loop, in millions")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    plain: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    under: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        for round_number in range(options.rounds + 1):
            for index, (label, text) in enumerate(PROGRAMS.items()):
                if not round_number and text:
                    continue  # the first empty one compiles the modules
                script = f"program{index}.py"
                (folder / script).write_text(text.replace("COUNT", str(options.millions)))
                plain[label].append(cpu_of([sys.executable, script], folder, environment))
                under[label].append(cpu_of([sys.executable, "-m", "dartvc", "run", script], folder, environment))
    start_s = statistics.median(under["empty"][1:]) - statistics.median(plain["empty"][1:])
    figures: dict[str, object] = {"start_s": round(start_s, 3)}
    for label in list(PROGRAMS)[1:]:
        first, second = statistics.median(plain[label]), statistics.median(under[label])
        figures[label] = {
            "plain_s": round(first, 3),
            "run_s": round(second, 3),
            "overhead": f"{second / first - 1:+.2%}",
            "steady": f"{(second - start_s) / first - 1:+.2%}",
        }
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""Programs that do work twice: plain Python, a twin that avoids it by hand, ``run --reuse`` and ``--partial-reuse``, and a second run.

    python tests/benchmarks/redundant_pipelines.py [--rounds N] [PROGRAM.py ...]

Default: the programs in ``pipelines`` beside this file; ``NAME_oracle.py`` beside ``NAME.py`` is the twin. Each round runs every variant in turn
in a folder of its own; *second* is ``--reuse`` once more where it ran before. Printed are speed-ups over plain Python by wall time, the least of
all rounds, and the share of the twin's speed-up that a first run reaches. Output must equal plain Python's to the last bit (``--partial-reuse``:
to the digits that the programs print).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINES = Path(__file__).parent / "pipelines"
VARIANTS = {
    "plain": [],
    "by hand": [],
    "exact": ["-m", "dartvc", "run", "--reuse"],
    "partial": ["-m", "dartvc", "run", "--partial-reuse"],
    "second": ["-m", "dartvc", "run", "--reuse"],
}


def measure(program: Path, rounds: int) -> tuple[dict[str, float], bool]:
    """Returns the least seconds of each variant, and whether all outputs were equal."""
    least: dict[str, float] = {}
    outputs: set[str] = set()
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            for variant, words in VARIANTS.items():
                script = program if variant != "by hand" else program.with_name(f"{program.stem}_oracle.py")
                if not script.exists():
                    continue
                folder = Path(name) / ("exact" if variant == "second" else variant)
                folder.mkdir(exist_ok=True)
                for each in (program, script):
                    shutil.copy(each, folder)
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, *words, script.name], cwd=folder, env=environment, capture_output=True, text=True, check=True
                )
                seconds = time.perf_counter() - start
                least[variant] = min(seconds, least.get(variant, seconds))
                outputs |= {done.stdout} if variant != "by hand" else set()
    return least, len(outputs) == 1


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs = options.programs or sorted(each for each in PIPELINES.glob("*.py") if not each.stem.endswith("_oracle"))
    print("| program | plain s | by hand | exact | partial | share of by hand | second run | output |\n|---|--:|--:|--:|--:|--:|--:|---|", flush=True)
    for program in programs:
        least, is_equal = measure(program, options.rounds)
        gains = {variant: least["plain"] / seconds for variant, seconds in least.items()}
        shown = [f"{gains[variant]:.2f}x" if variant in gains else "" for variant in ("by hand", "exact", "partial")]
        share = f"{gains['partial'] / gains['by hand']:.0%}" if "by hand" in gains else ""
        row = (program.stem, f"{least['plain']:.2f}", *shown, share, f"{gains['second']:.1f}x", "equal" if is_equal else "DIFFERENT")
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

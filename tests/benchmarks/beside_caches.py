"""``run --reuse`` beside what keeps results when it is told to: joblib's Memory, scikit-learn's ``Pipeline(memory=)``, and SystemDS with its lineage cache.

    python tests/benchmarks/beside_caches.py [--rounds N] [--scale X] [--systemds FOLDER]

The programs are those in ``pipelines``. The annotated twins differ in the annotation alone: ``@memory.cache`` on the functions of the grid over linear
regression, ``memory="cache"`` in the pipeline of the grid search. SystemDS runs the same grid over data of the same size, written in its own language, when
the folder of its package is given (it holds ``SystemDS.jar``; Java is needed): plainly, and with ``-lineage reuse_multilevel``. Printed are seconds of wall time,
the least of all rounds, each round every variant in turn, and the ratio to plain Python. Then an edit: a helper of a function that was kept is changed, and it is
said who notices.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINES = Path(__file__).parent / "pipelines"
REUSE = ("-m", "dartvc", "run", "--reuse")
PARTIAL = ("-m", "dartvc", "run", "--partial-reuse")
MEMORY = "from joblib import Memory\nmemory = Memory('cache', verbose=0)\n"
GRID = """
X = rand(rows=$rows, cols=100, pdf="normal", seed=7)
y = X %*% rand(rows=100, cols=1, pdf="normal", seed=8) + rand(rows=$rows, cols=1, pdf="normal", seed=9)
best = 1.0 / 0.0
regs = matrix("0 0.0001 0.01 1 10 100", rows=1, cols=6)
for (trial in 1:10) {
  chosen = X[, (9 * trial - 8):(9 * trial + 6)]
  for (icpt in 0:2) {
    for (r in 1:6) {
      reg = as.scalar(regs[1, r])
      for (t in 1:5) {
        tol = 10 ^ (-2 * t - 2)
        beta = lm(X=chosen, y=y, icpt=icpt, reg=reg, tol=tol, maxi=0, verbose=FALSE)
        loss = distance(chosen, y, beta, icpt)
        if (loss < best) { best = loss }
      }
    }
  }
}
print(best)
"""
NORM = """
distance = function(matrix[double] X, matrix[double] y, matrix[double] beta, integer icpt) return (double loss) {
  Z = X
  if (icpt == 2) { Z = (Z - colMeans(Z)) / sqrt(colVars(Z)) }
  if (icpt > 0) { Z = cbind(Z, matrix(1, nrow(Z), 1)) }
  loss = sum((y - Z %*% beta[1:ncol(Z), 1]) ^ 2)
}
"""
EDITED = """
{head}
def helper(x):
    return x + {step}
{mark}
def slow(x):
    total = 0
    for i in range(1_000_000):
        total += i % 7
    return helper(x) + total * 0
print(slow(1))
"""


def annotated(text: str, names: tuple[str, ...]) -> str:
    """Returns a program whose functions are kept by joblib."""
    for name in names:
        text = text.replace(f"def {name}(", f"@memory.cache\ndef {name}(")
    return text.replace("SCALE = ", MEMORY + "SCALE = ", 1)


def seconds_of(words: list[str], folder: Path) -> tuple[float, str]:
    """Returns the wall time of a command, and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    start = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def compare(name: str, scale: float, rounds: int, twin: tuple[str, str], others: dict[str, list[str]]) -> None:
    """Runs a program plainly, with reuse, and its annotated twin, and prints a line for each."""
    program = (PIPELINES / f"{name}.py").read_text()
    python = [sys.executable]
    variants = {
        "plain": [*python, f"{name}.py", str(scale)],
        "--reuse": [*python, *REUSE, f"{name}.py", str(scale)],
        "--partial-reuse": [*python, *PARTIAL, f"{name}.py", str(scale)],
        twin[0]: [*python, "twin.py", str(scale)],
        **others,
    }
    least: dict[str, float] = {}
    for _ in range(rounds):
        for variant, words in variants.items():
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                (folder / f"{name}.py").write_text(program)
                (folder / "twin.py").write_text(twin[1])
                (folder / "grid.dml").write_text(NORM + GRID)
                least[variant] = min(least.get(variant, 1e9), seconds_of(words, folder)[0])
    for variant, seconds in least.items():
        print(f"{name}: {variant:32s} {seconds:7.2f} s  {least['plain'] / seconds:5.2f}x", flush=True)


def edit() -> None:
    """Edits a helper between two runs, and prints who notices."""
    kept = {
        "joblib.Memory": ([sys.executable], MEMORY, "@memory.cache"),
        "--reuse": ([sys.executable, *REUSE], "", ""),
    }
    for variant, (words, head, mark) in kept.items():
        with tempfile.TemporaryDirectory() as place:
            folder, found = Path(place), []
            for step in (1, 100):
                (folder / "program.py").write_text(EDITED.format(head=head, mark=mark, step=step))
                found.append(seconds_of([*words, "program.py"], folder)[1].strip())
            print(f"after the edit of a helper: {variant} prints {found[1]}, plain Python 101")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=4.0, help="of the grid over linear regression: 30,000 rows times this")
    parser.add_argument("--systemds", type=Path, help="the folder of the package systemds")
    options = parser.parse_args()
    others: dict[str, list[str]] = {}
    if options.systemds:
        jars = f"{options.systemds}/SystemDS.jar:{options.systemds}/lib/*"
        words = ["java", "--add-modules=jdk.incubator.vector", "-Xmx8g", "-Xms8g", "-cp", jars, "org.apache.sysds.api.DMLScript"]
        words += ["-exec", "singlenode", "-f", "grid.dml", "-nvargs", f"rows={int(30_000 * options.scale)}"]
        others = {"SystemDS": words, "SystemDS, reuse_multilevel": [*words[:7], "-lineage", "reuse_multilevel", *words[7:]]}
    grid = (PIPELINES / "hlm.py").read_text()
    compare("hlm", options.scale, options.rounds, ("joblib.Memory on lm, lm_ds, l2norm", annotated(grid, ("lm", "lm_ds", "l2norm"))), others)
    last = '("model", RidgeClassifier()),\n        ]'
    search = (PIPELINES / "skgrid.py").read_text().replace(last, f'{last}, memory="cache"')
    compare("skgrid", 1.0, options.rounds, ("Pipeline(memory=)", search), {})
    edit()


if __name__ == "__main__":
    main()

"""dartvc beside Kishu: what each adds to a cell, in milliseconds and in bytes.

    python tests/benchmarks/beside_kishu.py --kishu-python PATH --dartvc-python PATH [--rounds N] [--json FILE] [WORKLOAD ...]

The same cells run in an IPython shell without a recorder, with Kishu and with dartvc, each in a process and a folder of its own,
interleaved, so that all see the same minutes of the machine. Every recorder is compared with plain IPython of its own interpreter.
Leave out an interpreter to leave out its column (the plain column then comes from the other one).

What is measured, as medians: *added* is the time of a cell with the recorder less the time of a cell without it, the median over all
cells of all rounds. *durable* is the same for the whole run of cells, until everything is on disk (dartvc writes in the background,
Kishu in the cell). *bytes* is what the recorder's folder or database grew by, in allocated blocks, divided by the cells.
Kishu runs in its own test mode, which spares it saving the notebook in a browser that is not there; its notebook file holds the
cells from the start, as when a notebook is run again from the top.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, Any]

PLAIN, KISHU, DARTVC = "plain", "kishu", "dartvc"
RESULT = "RESULT "
CHILD_TIMEOUT_S = 900


class Workload(NamedTuple):
    """Cells that are timed (``steps``) after cells that are not (``setup``)."""

    setup: Sequence[str]
    steps: Sequence[str]


def repeat(count: int, cell: str) -> list[str]:
    """Returns ``count`` cells in which ``{i}`` is the number of the cell."""
    return [cell.replace("{i}", str(number)) for number in range(count)]


NUMPY = "import numpy as np\nmake = np.random.default_rng(0).random"
WORKLOADS: dict[str, Workload] = {
    "200 tiny cells": Workload(["x = 0"], repeat(200, "x = x + {i}")),
    "one element of 20 arrays of 20 MB in a dict": Workload(
        [NUMPY, "arrays = {number: make(2_500_000) for number in range(20)}"], repeat(6, "arrays[{i}][{i}] = -1.0")
    ),
    "one element of 20 arrays of 20 MB, 20 variables": Workload(
        [NUMPY, "\n".join(f"a{number} = make(2_500_000)" for number in range(20))], repeat(10, "a{i}[{i}] = -1.0")
    ),
    "column added to a frame of 1M x 10": Workload(
        [NUMPY, "import pandas as pd", "frame = pd.DataFrame(make((1_000_000, 10)), columns=list('abcdefghij'))"],
        repeat(6, "frame['new{i}'] = frame['a'] * ({i} + 1.5)"),
    ),
    "append to a list of 200k dicts": Workload(
        ["rows = [{'id': n, 'name': f'row {n}', 'value': n / 7} for n in range(200_000)]"],
        repeat(6, "rows.append({'id': {i}, 'name': 'new', 'value': 0.5})"),
    ),
    "tiny cells beside a fitted forest": Workload(
        [
            NUMPY,
            "from sklearn.ensemble import RandomForestClassifier",
            "X = make((2_000, 10)); y = (X[:, 0] > 0.5).astype(int)",
            "forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(X, y)",
        ],
        repeat(40, "score{i} = {i} / 40"),
    ),
    "predict with a fitted forest": Workload(
        [
            NUMPY,
            "from sklearn.ensemble import RandomForestClassifier",
            "X = make((2_000, 10)); y = (X[:, 0] > 0.5).astype(int)",
            "forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(X, y)",
        ],
        repeat(10, "score{i} = forest.predict(X[{i} : {i} + 5]).sum()"),
    ),
    "tiny cells beside 400 MB untouched": Workload([NUMPY, "big = make(50_000_000)"], repeat(40, "y{i} = {i} * 2")),
    "read one element of a 400 MB dict": Workload(
        [NUMPY, "arrays = {number: make(2_500_000) for number in range(20)}"], repeat(6, "z{i} = float(arrays[{i}][0])")
    ),
}


class Recorder(NamedTuple):
    """How a recorder is attached to a shell, flushed, and where it stores."""

    attach: Callable[[Any, Sequence[str]], Callable[[], object]]
    stored_bytes: Callable[[], int]


def allocated_bytes(paths: Sequence[Path]) -> int:
    """Returns the blocks that files take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in paths if path.is_file())


def attach_nothing(shell: Any, cells: Sequence[str]) -> Callable[[], object]:
    """Leaves the shell as it is."""
    return lambda: None


def attach_kishu(shell: Any, cells: Sequence[str]) -> Callable[[], object]:
    """Attaches Kishu to the shell, beside a notebook file that holds the cells, as it demands one."""
    notebook = Path("work.ipynb").resolve()
    code: list[Figures] = [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": cell} for cell in cells]
    notebook.write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    os.environ.update(ENV_KISHU_TEST_MODE="1", TEST_NOTEBOOK_PATH=str(notebook))
    shell.run_cell(f"from kishu import init_kishu\ninit_kishu({str(notebook)!r})\ndel init_kishu", silent=True).raise_error()
    if "_kishu" not in shell.user_ns:
        raise RuntimeError("Kishu did not attach")
    return lambda: None


def attach_dartvc(shell: Any, cells: Sequence[str]) -> Callable[[], object]:
    """Attaches dartvc to the shell through its extension."""
    shell.run_cell("%load_ext dartvc", silent=True).raise_error()
    import dartvc

    session: Any = dartvc.session()
    return lambda: session.flush()


RECORDERS = {
    PLAIN: Recorder(attach_nothing, lambda: 0),
    KISHU: Recorder(attach_kishu, lambda: allocated_bytes(list(Path().glob("*.kishudb*")))),
    DARTVC: Recorder(attach_dartvc, lambda: allocated_bytes(list(Path(".dvc-state").rglob("*")))),
}


def measure(mode: str, workload: Workload) -> Figures:
    """Runs a workload in this process, in the working directory, and returns its figures."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    recorder = RECORDERS[mode]
    flush = recorder.attach(shell, [*workload.setup, *workload.steps])

    def run(cell: str) -> float:
        start = time.perf_counter()
        result = shell.run_cell(cell, store_history=True)
        elapsed = time.perf_counter() - start
        result.raise_error()
        return elapsed

    setup = [run(cell) for cell in workload.setup]
    flush()
    before = recorder.stored_bytes()
    start = time.perf_counter()
    steps = [run(cell) for cell in workload.steps]
    flush()
    total = time.perf_counter() - start
    count = len(steps)
    return {
        "setup_s": sum(setup),
        "step_ms": [1e3 * each for each in steps],
        "durable_ms": 1e3 * total / count,
        "bytes": (recorder.stored_bytes() - before) / count,
        "setup_bytes": before,
    }


def run_child(python: str, mode: str, name: str) -> Figures:
    """Measures a workload in a process and a folder of its own; a failure comes back under ``error``."""
    folder = tempfile.mkdtemp(prefix="beside-")
    environment = {**os.environ, "HOME": folder, "IPYTHONDIR": str(Path(folder, ".ipython")), "KISHU_PATH_ROOT": folder}
    command = [python, str(Path(__file__).resolve()), "--child", mode, name]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)[:300]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not lines:
        return {"error": f"exit {done.returncode}: {(done.stderr or done.stdout)[-300:]}"}
    figures: Figures = json.loads(lines[-1][len(RESULT) :])
    return figures


def compare(pythons: dict[str, str], name: str, rounds: int) -> Figures:
    """Runs a workload in turn with every recorder and with none, and returns one row of figures a recorder."""
    runs: dict[str, list[Figures]] = {}
    for _ in range(rounds):
        for mode, python in pythons.items():
            runs.setdefault(f"{PLAIN}:{mode}", []).append(run_child(python, PLAIN, name))
            runs.setdefault(mode, []).append(run_child(python, mode, name))
    row: Figures = {}
    for mode in pythons:
        bad = [each["error"] for each in runs[mode] + runs[f"{PLAIN}:{mode}"] if "error" in each]
        if bad:
            row[mode] = {"error": bad[0]}
            continue
        plain_ms = _median_step(runs[f"{PLAIN}:{mode}"])
        plain_durable_ms = statistics.median(each["durable_ms"] for each in runs[f"{PLAIN}:{mode}"])
        row[mode] = {
            "plain_ms": plain_ms,
            "added_ms": _median_step(runs[mode]) - plain_ms,
            "worst_ms": max(step for each in runs[mode] for step in each["step_ms"]),
            "durable_ms": statistics.median(each["durable_ms"] for each in runs[mode]) - plain_durable_ms,
            "bytes": statistics.median(each["bytes"] for each in runs[mode]),
            "setup_s": statistics.median(each["setup_s"] for each in runs[mode]),
            "setup_bytes": statistics.median(each["setup_bytes"] for each in runs[mode]),
        }
    return row


def _median_step(runs: Sequence[Figures]) -> float:
    """Returns the median time of a cell over all cells of all rounds."""
    steps: list[float] = [step for each in runs for step in each["step_ms"]]
    return statistics.median(steps)


def table(rows: dict[str, Figures]) -> str:
    """Renders the rows as a markdown table."""
    lines = [
        "| workload | plain ms/cell | Kishu added ms/cell | dartvc added ms/cell | ratio | Kishu durable ms/cell | dartvc durable ms/cell "
        "| Kishu bytes/cell | dartvc bytes/cell | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        kishu, ours = row.get(KISHU, {}), row.get(DARTVC, {})
        plain = next((each["plain_ms"] for each in (ours, kishu) if "plain_ms" in each), None)
        cells = [
            name,
            _figure(plain, "{:.2f}"),
            _cell(kishu, "added_ms", "{:.1f}"),
            _cell(ours, "added_ms", "{:.2f}"),
            _ratio(kishu, ours, "added_ms"),
            _cell(kishu, "durable_ms", "{:.1f}"),
            _cell(ours, "durable_ms", "{:.2f}"),
            _cell(kishu, "bytes", "{:,.0f}"),
            _cell(ours, "bytes", "{:,.0f}"),
            _ratio(kishu, ours, "bytes"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    errors = [f"- {name}, {mode}: {row[mode]['error']}" for name, row in rows.items() for mode in row if "error" in row[mode]]
    return "\n".join([*lines, "", *errors]).rstrip()


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _cell(figures: Figures, key: str, form: str) -> str:
    return "failed" if "error" in figures else _figure(figures.get(key), form)


def _ratio(kishu: Figures, ours: Figures, key: str) -> str:
    """Returns how many times Kishu's figure ours is smaller; nothing where a figure is missing or within the noise of zero."""
    if key not in kishu or key not in ours or kishu[key] <= 0 or ours[key] <= 0:
        return ""
    return f"{kishu[key] / ours[key]:.1f}x"


def main(arguments: Sequence[str]) -> int:
    """Runs the comparison; exit status 1 when a recorder failed at a workload."""
    if arguments[:1] == ["--child"]:
        print(RESULT + json.dumps(measure(arguments[1], WORKLOADS[arguments[2]])), flush=True)
        return 0
    parser = argparse.ArgumentParser(description="dartvc beside Kishu, in milliseconds and bytes a cell")
    parser.add_argument("--kishu-python", help="interpreter with kishu, ipykernel, numpy, pandas and scikit-learn")
    parser.add_argument("--dartvc-python", help="interpreter with dartvc[notebook], numpy, pandas and scikit-learn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"some of: {'; '.join(WORKLOADS)}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.workloads if name not in WORKLOADS]
    pythons = {mode: python for mode, python in ((KISHU, options.kishu_python), (DARTVC, options.dartvc_python)) if python}
    if unknown or not pythons:
        parser.error(f"unknown workloads: {unknown}" if unknown else "give --kishu-python, --dartvc-python or both")
    rows: dict[str, Figures] = {}
    for name in options.workloads or WORKLOADS:
        rows[name] = compare(pythons, name, options.rounds)
        print(f"{name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))
    return 1 if any("error" in figures for row in rows.values() for figures in row.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

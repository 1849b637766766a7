"""Threads and processes of one run share what they compute, and the run's account knows of all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.integration.reused_scripts import HEAVY, plain_and_reused

COMMAND = ("-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())")
SCRIPT = r"""
import contextlib, sys
with contextlib.suppress(ImportError):
    import numpy  # which joblib would load in the middle: a random stream that appears is one that moved
def burn(n):
    total = 0
    for i in range(n):
        total += i % 7
    return total
def clean(seed):
    print(f"clean {seed}\n", end="", flush=True)
    return [burn(2_000_000 + seed)] * 3
def model(setting):
    return sum(clean(setting[0])) * setting[1]
if __name__ == "__main__":
    kind, way = sys.argv[1:]
    settings = [(1, k) for k in range(8)]
    if kind == "pool":
        import multiprocessing
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(pool.map(model, settings, chunksize=1))
    elif kind == "executor":
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(way)) as pool:
            print(list(pool.map(model, settings)))
    elif kind == "threads":
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            print(list(pool.map(model, settings)))
    else:
        from joblib import Parallel, delayed
        print(Parallel(n_jobs=2, backend=way)(delayed(model)(each) for each in settings))
"""
REUSED = ("run", "--reuse", "--max-overhead", "0.000001")  # without commits, however long the workers take
KINDS = (
    "pool fork", "pool spawn", "pool forkserver", "executor fork", "executor spawn", "threads -", "joblib loky", "joblib threading",
    "joblib multiprocessing",
)  # fmt: skip


def run(folder: Path, *words: str) -> str:
    """Runs Python in a folder; returns what it printed, in no order (workers print when they like)."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return "\n".join(sorted(done.stdout.splitlines()))


def sites(folder: Path) -> dict[str, Any]:
    """Returns what became of each function in the last run."""
    return {each["name"]: each for each in json.loads((folder / ".dvc-state/reuse.json").read_text())["sites"]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_worker_computes_the_others_await(kind: str, tmp_path: Path) -> None:
    if "joblib" in kind:
        pytest.importorskip("joblib")
    (tmp_path / "script.py").write_text(SCRIPT)
    plain = run(tmp_path, "script.py", *kind.split())
    assert run(tmp_path, *COMMAND, *REUSED, "script.py", *kind.split()) == plain
    found = sites(tmp_path)["clean"]
    assert (found["calls"], found["executions"], found["reused"]) == (8, 1, 7)
    if "loky" not in kind:  # whose workers outlive the run
        assert not list((tmp_path / ".dvc-state").glob("sharing/*"))
    assert run(tmp_path, *COMMAND, *REUSED, "script.py", *kind.split()) == plain
    assert sites(tmp_path)["clean"]["executions"] == 0


def test_what_the_workers_of_a_killed_run_computed_the_next_run_has(tmp_path: Path) -> None:
    text = SCRIPT.replace('    kind, way = sys.argv[1:]\n', '    kind, way, dies = sys.argv[1:]\n').replace(
        "print(pool.map(model, settings, chunksize=1))",
        "print(pool.map(model, settings, chunksize=1))\n            if dies == 'yes': import os, signal; os.killpg(0, signal.SIGKILL)",
    )
    (tmp_path / "script.py").write_text(text)
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, *COMMAND, *REUSED, "script.py", "pool", "fork", "yes"]
    killed = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=200, check=False, start_new_session=True)
    assert killed.returncode == -9
    run(tmp_path, *COMMAND, *REUSED, "script.py", "pool", "fork", "no")
    assert sites(tmp_path)["clean"]["executions"] == 0
    assert not list((tmp_path / ".dvc-state").glob("sharing/*"))


@pytest.mark.parametrize("scheduler", ["threads", "sync", "processes"])
def test_tasks_of_dask_are_answered_by_what_they_compute_not_by_their_names(scheduler: str, tmp_path: Path) -> None:
    pytest.importorskip("dask")
    text = HEAVY + textwrap.dedent(f"""
        from dask import delayed
        def load(i): return burn(2_000_000) + i
        def join(parts): return sum(parts)
        if __name__ == "__main__":
            for turn in range(2):
                print(delayed(join)([delayed(load)(i % 2) for i in range(4)]).compute(scheduler="{scheduler}", num_workers=2))
    """)
    plain, reused = plain_and_reused(tmp_path, text)
    assert reused == [plain, plain]
    found = sites(tmp_path)
    assert found["load"]["reused"] + found["burn"]["reused"] > 0

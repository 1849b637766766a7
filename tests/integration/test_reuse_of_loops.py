"""Loops of a script's own level under ``run --reuse``: a later run is given what they bound, and no program can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration.reused_scripts import COMMAND, HEAVY, dvc_state, plain_and_reused, sites

ANSWERED = {
    "names, lists and printed lines": """
        best, losses = None, []
        for i in range(3):
            loss = burn() % (11 + i)
            losses.append(loss)
            print(i, loss)
            if best is None or loss < best:
                best = loss
        print(best, losses, i, loss)
    """,
    "the same objects": """
        models = [{"k": 1}, {"k": 2}]
        chosen, kept = None, models
        for each in models:
            each["loss"] = burn() % each["k"]
            chosen = each
        chosen["k"] = 7
        print(models, chosen is models[1], kept is models)
    """,
    "names that were never bound, or keep what they had": """
        early = 1
        for i in range(burn() * 0):
            never, early = i, 2
        print("never" in globals(), early, "i" in globals())
        for i in range(2):
            if i > burn():
                never = i
        print("never" in globals(), i)
    """,
    "break, continue, else and loops in loops": """
        found = []
        for i in range(5):
            if i == 1:
                continue
            for j in range(3):
                if burn() and j == 1:
                    break
                found.append((i, j))
            else:
                found.append("never")
            if i == 3:
                break
        else:
            found.append("never")
        n = 3
        while n:
            n -= bool(burn())
        else:
            found.append("over")
        print(found, n)
    """,
    "below a guard": """
        if __name__ == "__main__":
            total = 0
            for i in range(3):
                total += burn()
            print(total)
    """,
    "arrays and a fitted model": """
        import numpy as np
        from sklearn.linear_model import Ridge
        X = np.arange(60.0).reshape(20, 3) % 7
        weights, model, best = np.zeros(3), None, None
        for alpha in (0.1, 1.0):
            burn(1_000_000)
            model = Ridge(alpha=alpha).fit(X, X[:, 0] * alpha)
            weights += model.coef_
            if best is None:
                best = model
        print(weights.tolist(), best is model, best.alpha, model.predict(X[:2]).tolist())
    """,
    "handlers and contexts": """
        import contextlib, warnings
        found, failed = [], []
        with warnings.catch_warnings():
            for i in range(4):
                try:
                    with contextlib.suppress(KeyError):
                        value = burn() + i
                        if i == 1:
                            raise KeyError(i)
                        if i == 2:
                            raise ValueError(i)
                        found.append(value)
                except ValueError as error:
                    failed.append(str(error))
                else:
                    last = i
                finally:
                    seen = i
        print(found, failed, value, last, seen)
    """,
    "a seeded stream": """
        import random
        random.seed(3)
        drawn = []
        for i in range(3):
            drawn.append((burn(), random.random()))
        print(drawn, random.random())
    """,
    "a function that binds what the loop reads": """
        count = 0
        def step():
            global count
            count += 1
            return burn()
        for i in range(3):
            step()
            print(i, count)
        print(count)
    """,
    "what is bound inside a with or a try": """
        import contextlib
        for i in range(2):
            with contextlib.suppress(ZeroDivisionError):
                quotient = burn() / i
        print(quotient)
    """,
}

RUN_ANEW = {
    "a name that a handler takes away": """
        error = 1
        for i in range(3):
            try:
                burn()
                raise ValueError(i)
            except ValueError as error:
                print(error)
        print("error" in globals())
    """,
    "a name that a handler takes away and the loop reads": """
        for i in range(3):
            try:
                burn()
                if i == 1: raise ValueError(i)
                error = i
            except ValueError as error:
                print(error)
            print("error" in globals())
    """,
    "a function that reads what the loop binds": """
        def shown(): return i * 10 + burn()
        for i in range(3):
            print(shown())
    """,
    "a function that looks it up": """
        def shown(name): return globals()[name] * 10 + burn()
        for i in range(3):
            print(shown("i"))
    """,
    "a lambda and a generator": """
        rows = []
        for i in range(3):
            rows.append((lambda: i + burn())())
            print(sum(i * each for each in range(3)))
        print(rows)
    """,
    "what it keeps is a view": """
        import numpy as np
        a = np.zeros(6)
        for i in range(2):
            last = a[i:]
            a[i] += burn() % 5
        a[2] = 9.0
        print(last.tolist(), a.tolist())
    """,
    "an iterator that goes on": """
        lines = iter(range(10))
        for line in lines:
            burn()
            if line == 3:
                break
        print(line, next(lines))
    """,
    "a list of its own names": """
        for i in range(2):
            burn()
            seen = sorted(name for name in dir() if not name.startswith("_"))
        print(seen)
    """,
    "names that go away": """
        for i in range(2):
            gone = burn()
            del gone
        print("gone" in globals())
    """,
}


@pytest.mark.parametrize("name", ANSWERED)
def test_a_later_run_is_given_what_a_loop_bound(name: str, tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(ANSWERED[name]))
    assert reused == [plain, plain]
    loop = sites(tmp_path)["a loop"]
    assert loop["reused"] == 1, loop
    assert "__dvc" not in dvc_state(tmp_path, "ls")


@pytest.mark.parametrize("name", RUN_ANEW)
def test_a_loop_that_is_more_than_what_it_reads_runs(name: str, tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(RUN_ANEW[name]))
    assert reused == [plain, plain]
    assert sites(tmp_path).get("a loop", {}).get("reused", 0) == 0


def test_a_loop_over_more_objects_than_can_be_looked_at_runs(tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, "rows = [[n] for n in range(30_000)]\ntotal = 0\nfor row in rows:\n    total += sum(row)\nprint(total)\n")
    assert reused == [plain, plain]
    loop = sites(tmp_path)["a loop"]
    assert (loop["reused"], loop["reason"]) == (0, "it reads too many objects")


def test_a_loop_depends_on_its_functions_data_and_files(tmp_path: Path) -> None:
    text = HEAVY + textwrap.dedent("""
        def scaled(x): return burn() * FACTOR
        values = [1, 2]
        for i in range(2):
            values.append(scaled(i) + int(open("numbers.txt").read()))
        print(values)
    """)
    (tmp_path / "numbers.txt").write_text("1")
    first, (_, second) = plain_and_reused(tmp_path, text.replace("FACTOR", "2"))
    assert second == first
    for changed, number in ((text.replace("FACTOR", "3"), "1"), (text.replace("FACTOR", "3"), "5"), (text.replace("FACTOR", "3").replace("[1, 2]", "[4]"), "5")):
        (tmp_path / "numbers.txt").write_text(number)
        plain, reused = plain_and_reused(tmp_path, changed, times=1)
        assert reused == [plain]
        assert sites(tmp_path)["a loop"]["reused"] == 0
    plain, reused = plain_and_reused(tmp_path, changed + "\nprint('more')", times=1)
    assert reused == [plain]
    assert sites(tmp_path)["a loop"]["reused"] == 1


def test_an_exception_in_a_loop_leaves_what_was_reached(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("def f(x): return 1 / (3 - x)\ntotal = 0\nfor i in range(9):\n    total += f(i)\n    later = i\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    errors = [
        subprocess.run([sys.executable, *arguments, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False).stderr
        for arguments in ([], [*COMMAND, "run", "--reuse"])
    ]
    assert errors[1].startswith(errors[0])
    listed = dvc_state(tmp_path, "ls").split("\n")
    assert [line.split() for line in listed if line[:1] in "il"][:2] == [["i", "int", "3"], ["later", "int", "2"]]
    assert any(line.startswith("total") for line in listed)


def test_a_program_that_logs_keeps_its_loops(tmp_path: Path) -> None:
    plain_and_reused(tmp_path, HEAVY + "import dartvc\nfor i in range(3):\n    dartvc.log('x', burn())\n", times=1)
    assert "a loop" not in sites(tmp_path)
    assert len(dvc_state(tmp_path, "query", "--df", "i,x").splitlines()) >= 3


def test_calls_that_differ_in_the_place_of_a_stream_alone_are_all_answered(tmp_path: Path) -> None:
    text = HEAVY + textwrap.dedent("""
        import random
        def work(n):
            burn(1_000_000)
            return [random.random() for _ in range(n)]
        random.seed(4)
        for i in map(lambda each: each, range(4)):
            print(work(2))
        random.seed(4); print(work(2), random.random())
    """)
    plain, reused = plain_and_reused(tmp_path, text)
    assert reused == [plain, plain]
    assert (sites(tmp_path)["work"]["calls"], sites(tmp_path)["work"]["reused"]) == (5, 5)
    other, reused = plain_and_reused(tmp_path, text.replace("seed(4)", "seed(5)"))
    assert reused == [other, other] and other != plain


def test_a_run_that_is_given_approximate_results_says_so_too(tmp_path: Path) -> None:
    text = textwrap.dedent("""
        import numpy as np
        parts = [np.random.default_rng(i).random((40000, 60)) for i in range(4)]
        def gram(i):
            X = np.vstack([parts[j] for j in range(4) if j != i])
            return X.T @ X
        total = 0.0
        for i in range(4):
            total += float(np.trace(gram(i)))
        print(round(total))
    """)
    plain, partial = plain_and_reused(tmp_path, text, mode="--partial-reuse")
    assert partial == [plain, plain]
    assert sites(tmp_path)["a loop"]["reused"] == 1
    second, _, first, _ = json.loads(dvc_state(tmp_path, "log", "--json"))["items"]
    assert first["approximate"] >= 3
    assert second["approximate"] == first["approximate"]

"""Calls that change what they are given, under ``run --reuse``: the changes are done again, to the same objects, or the call runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.integration.reused_scripts import HEAVY, plain_and_reused, sites

START = """
import warnings; warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
def table(n=60_000):
    values = np.arange(float(3 * n)).reshape(n, 3)
    return pd.DataFrame(values % 97, columns=list("abc"))
"""

ANSWERED = {
    "columns added to a frame": """
        def work(frame):
            burn(1_000_000)
            frame["d"] = frame["a"] * 2
            frame.loc[frame["b"] > 50, "c"] = -1.0
        for i in range(4):
            mine = table()
            seen = mine["a"]
            work(mine)
            mine["e"] = i
            print(mine.sum().tolist(), list(mine.columns), float(seen.sum()))
    """,
    "a frame that is changed and returned": """
        def work(frame, name):
            burn(1_000_000)
            frame[name] = frame["a"].cumsum()
            return frame
        for i in range(4):
            mine = table(2000)
            print(work(mine, "d") is mine, float(mine["d"].sum()))
            mine.loc[0, "d"] = 7.0 + i
    """,
    "an array written in place, seen through a view": """
        def work(x):
            burn(1_000_000)
            x -= x.mean(axis=0)
            return float(x[0, 0])
        for i in range(4):
            a = np.arange(300_000.0).reshape(-1, 3)
            view = a[:5]
            print(work(a), view.tolist(), float(a.std()))
            a[0, 0] = i
    """,
    "a model that learns": """
        class Base:
            pass
        class Model(Base):
            def __init__(self, rate):
                self.rate, self.history = rate, []
            def work(self, X, y):
                burn(1_000_000)
                w = np.zeros(X.shape[1])
                for _ in range(300):
                    w -= self.rate * X.T @ (X @ w - y) / len(y)
                    self.history.append(float(np.abs(w).max()))
                self.w_, self.n_ = w, len(y)
                return self
        X = np.random.default_rng(0).random((2000, 8)); y = X @ np.arange(8.0)
        for i in range(4):
            model = Model(0.1)
            before = model.history
            print(model.work(X, y) is model, model.history is before, len(before), model.w_.tolist(), model.n_)
            model.w_[0] = i; before.append(i)
    """,
    "what was there stays the same object": """
        def work(where, rows):
            burn(1_000_000)
            where["rows"] = rows
            where["more"] = {"first": rows, "new": [1, 2]}
            rows.reverse()
            del where["old"]
            return [where, rows]
        for i in range(4):
            rows, where = [[1], [2], [3]], {"old": 0}
            inner = rows[0]
            found = work(where, rows)
            inner.append(9)
            where["more"]["new"].append(i)
            print(where, found[0] is where, found[1] is rows, where["rows"] is rows, where["more"]["first"] is rows)
    """,
    "random numbers and text besides": """
        import random
        def work(values):
            burn(1_000_000)
            random.shuffle(values)
            print("shuffled", values)
        for i in range(4):
            random.seed(5)
            mine = list(range(6))
            work(mine)
            print(mine, random.random())
    """,
}

TRAPS = {
    "arguments that share memory": """
        def work(x, y):
            burn(1_000_000)
            x += 1.0
            return float(y.sum())
        for _ in range(3):
            a = np.zeros(20); print(work(a, a[:]), a.sum())
            a = np.zeros(20); print(work(a, a.copy()), a.sum())
            a = np.zeros(20); print(work(a, a[5:9]), a.sum())
    """,
    "a view of an argument is kept": """
        class Box: pass
        def work(box, x):
            burn(1_000_000)
            box.head = x[:3]
        for i in range(4):
            a, box = np.zeros(10), Box()
            work(box, a)
            a[0] = i
            print(box.head)
    """,
    "a global changes too": """
        count = [0]
        def work(values):
            burn(1_000_000)
            values.append(1)
            count[0] += 1
        for _ in range(5):
            work([])
        print(count)
    """,
    "a class changes too": """
        class Thing:
            made = 0
        def work(thing):
            burn(1_000_000)
            thing.size = 3
            type(thing).made += 1
        for _ in range(5):
            work(Thing())
        print(Thing.made)
    """,
    "an object changes its class": """
        class One: pass
        class Two: pass
        def work(thing):
            burn(1_000_000)
            thing.__class__ = Two
            thing.x = 1
        for _ in range(4):
            mine = One(); work(mine); print(type(mine).__name__, vars(mine))
    """,
    "a shape changes": """
        def work(x):
            burn(1_000_000)
            x.shape = (2, 5)
            x[0] = 3
        for _ in range(4):
            a = np.zeros(10); work(a); print(a.tolist())
    """,
    "what is hidden in C": """
        import collections
        class Queue(collections.deque): pass
        def work(queue, table):
            burn(1_000_000)
            queue.append(len(queue)); table["n"] += 1
        for _ in range(4):
            queue, table = Queue(), collections.defaultdict(int)
            work(queue, table); print(list(queue), dict(table))
    """,
    "a generator in the arguments moves": """
        def work(rng, out):
            burn(1_000_000)
            out.append(float(rng.random()))
        rng, out = np.random.default_rng(0), []
        for _ in range(4):
            work(rng, out)
        print(out)
        for _ in range(4):
            rng, out = np.random.default_rng(0), []
            work(rng, out); work(rng, out); print(out)
    """,
    "an exception in the middle": """
        def work(values, limit):
            burn(1_000_000)
            values.append(limit)
            if limit > 1: raise ValueError(limit)
        for limit in (1, 2, 1, 2, 1):
            mine = []
            try: work(mine, limit)
            except ValueError as error: print("failed", error)
            print(mine)
    """,
    "a column of objects": """
        def work(frame):
            burn(1_000_000)
            frame["o"] = pd.Series([[1], "x", None], dtype=object)
            frame["a"] = 2
        for _ in range(4):
            mine = pd.DataFrame({"a": [1, 2, 3]}); work(mine); mine.loc[0, "o"].append(5)
            print(mine.values.tolist())
            mine = pd.DataFrame({"a": [1, 2, 3], "p": pd.Series([[1], [2], "z"], dtype=object)}); work(mine); mine.loc[0, "p"].append(5)
            print(mine.values.tolist())
    """,
    "a name and attributes of a series": """
        def work(series):
            burn(1_000_000)
            series.name = "new"; series.attrs["unit"] = "m"; series.iloc[0] = 9
        for _ in range(4):
            mine = pd.Series([1, 2, 3], name="old"); work(mine); print(mine.name, mine.attrs, mine.tolist())
    """,
    "frames cut from one frame": """
        def work(train, test):
            burn(1_000_000)
            train["m"] = 1.0; test.loc[test.index[0], "a"] = train["a"].mean()
        for i in range(4):
            whole = table(1000)
            train, test = whole[:800], whole[800:]
            work(train, test)
            test.loc[test.index[1], "a"] = i
            print(whole["a"].sum(), train.sum().tolist(), test.sum().tolist())
    """,
    "two frames in one argument": """
        def work(pair):
            burn(1_000_000)
            pair[0]["z"] = pair[1]["a"]
            pair[1] = pair[0]
        for _ in range(4):
            one, other = table(500), table(500)
            pair = [one, other]
            work(pair)
            pair[1]["y"] = 1
            print(list(one.columns), list(other.columns), pair[0] is pair[1])
    """,
}


@pytest.mark.parametrize("name", ANSWERED)
def test_what_a_call_did_to_its_arguments_is_done_again(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pandas", minversion="3")
    text = textwrap.dedent(ANSWERED[name]).replace("in range(4)", "in map(lambda each: each, range(4))")  # else the loop is answered as a whole
    plain, reused = plain_and_reused(tmp_path, START + HEAVY + text)
    assert reused == [plain, plain]
    found = next(each for name, each in sites(tmp_path).items() if name.rpartition(".")[2] == "work")
    assert found["reused"] == found["calls"] == 4, found


@pytest.mark.parametrize("name", TRAPS)
def test_output_is_plain_pythons_whatever_a_call_changes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pandas", minversion="3")
    plain, reused = plain_and_reused(tmp_path, START + HEAVY + textwrap.dedent(TRAPS[name]))
    assert reused == [plain, plain]

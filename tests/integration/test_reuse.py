"""Scripts under ``run --reuse``: their output is plain Python's, whatever they do; what was computed is not computed again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dartvc.history import Repository
from dartvc.lineage.catalogue import read_index
from tests.integration.reused_scripts import COMMAND, HEAVY, dvc_state, plain_and_reused, sites

TRAPS = {
    "clock": """
        import time
        def stamp(x):
            burn()
            return time.perf_counter_ns()
        print(len({stamp(1) for _ in range(4)}))
    """,
    "clock behind an import": """
        from datetime import datetime
        def stamp(x):
            burn()
            return datetime.now().isoformat()
        print(len({stamp(1) for _ in range(4)}))
    """,
    "unseeded generator": """
        import random
        def draw(x):
            burn()
            return random.Random().random()
        print(len({draw(1) for _ in range(4)}))
    """,
    "kernel's entropy": """
        import os
        def draw(x):
            burn()
            return os.urandom(8)
        print(len({draw(1) for _ in range(4)}))
    """,
    "global random stream": """
        import random
        random.seed(3)
        def draw(n):
            burn()
            return [random.random() for _ in range(n)]
        print([draw(2) for _ in range(4)], random.random())
        random.seed(3)
        print([draw(2) for _ in range(4)], random.random())
    """,
    "a file that changes": """
        def read(path):
            burn()
            with open(path) as file:
                return file.read()
        for i in range(6):
            with open("data.txt", "w") as file:
                file.write(str(i // 2))
            print(read("data.txt"))
    """,
    "a file that is written": """
        def write(i):
            burn()
            with open("out.txt", "a") as file:
                file.write(f"{i} ")
            return i
        for i in range(4):
            write(1)
        print(open("out.txt").read())
    """,
    "an argument that is changed": """
        def push(values):
            burn()
            values.append(len(values))
            return sum(values)
        kept = [1]
        for _ in range(5):
            print(push(kept), push([1]), kept)
    """,
    "a method that changes its object": """
        class Counter:
            def __init__(self):
                self.n = 0
            def step(self):
                burn()
                self.n += 1
                return self.n
        counter = Counter()
        print([counter.step() for _ in range(5)])
    """,
    "hidden state of a class": """
        class Meter:
            seen = 0
            @classmethod
            def step(cls):
                burn()
                cls.seen += 1
                return cls.seen
        print([Meter.step() for _ in range(5)])
    """,
    "an attribute of a function": """
        def count(x):
            burn()
            count.n = getattr(count, "n", 0) + 1
            return count.n
        print([count(1) for _ in range(5)])
    """,
    "a default that grows": """
        def grow(x, held=[]):
            burn()
            held.append(x)
            return len(held)
        print([grow(1) for _ in range(5)])
    """,
    "a global that changes": """
        scale = 2
        def scaled(x):
            return burn() * scale + x
        for scale in (2, 2, 3, 3, 2):
            print(scaled(1))
    """,
    "a global inside a container": """
        settings = {"scale": [2]}
        def scaled(x):
            return burn() * settings["scale"][0] + x
        for i in range(5):
            settings["scale"][0] = i // 2
            print(scaled(1))
    """,
    "a global that the callee's callee assigns": """
        total = 0
        def bump():
            global total
            total += 1
        def work(x):
            burn()
            bump()
            return x
        for _ in range(4):
            work(1)
        print(total)
    """,
    "a closure over a variable that changes": """
        def make():
            factor = 1
            def scaled(x):
                return burn() * factor + x
            def change(value):
                nonlocal factor
                factor = value
            return scaled, change
        scaled, change = make()
        for value in (1, 1, 2, 2, 1):
            change(value)
            print(scaled(1))
    """,
    "a helper that is exchanged": """
        def helper(x):
            return x + 1
        def work(x):
            return burn() + helper(x)
        print(work(1), work(1), work(1))
        def helper(x):
            return x + 2
        print(work(1), work(1))
    """,
    "a result that is changed by its receiver": """
        def table(n):
            burn()
            return [[0] * n for _ in range(n)]
        for i in range(4):
            found = table(3)
            found[0][0] += i + 1
            print(found)
    """,
    "a result that is its argument": """
        def same(values):
            burn()
            return values
        kept = [1, 2]
        for i in range(4):
            same(kept).append(i)
        print(kept)
    """,
    "a result inside its argument": """
        def inner(values):
            burn()
            return values["inner"]
        kept = {"inner": []}
        for i in range(4):
            inner(kept).append(i)
        print(kept)
    """,
    "two names for one argument": """
        def alike(a, b):
            burn()
            return a is b
        x, y = [1], [1]
        print([alike(x, x), alike(x, y), alike(x, x), alike(x, y), alike(y, y)])
    """,
    "generators": """
        def total(values):
            burn()
            return sum(values)
        def numbers(n):
            burn()
            yield from range(n)
        print([total(i for i in range(4)) for _ in range(4)], [list(numbers(3)) for _ in range(4)])
        stream = iter(range(20))
        print([total(next(stream) for _ in range(3)) for _ in range(4)])
    """,
    "an iterator that is used up": """
        def take(values):
            burn()
            return [next(values), next(values)]
        stream = iter([1, 2, 3, 4, 5, 6])
        print(take(stream), take(stream), take(stream))
    """,
    "seventy branches": """
        def branch(i):
            burn()
            {}
            return -1
        print([branch(i % 72) for i in range(150)])
    """.format("\n            ".join(f"if i == {i}: return {i * i}" for i in range(70))),
    "threads on one key": """
        import threading
        def work(x):
            return burn(400_000) + x
        found = []
        threads = [threading.Thread(target=lambda: found.append(work(3))) for _ in range(6)]
        for each in threads: each.start()
        for each in threads: each.join()
        print(sorted(found))
    """,
    "recursion": """
        import sys
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)
        print(depth(900))
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        print(fib(18))
    """,
    "an exception": """
        def fail(x):
            burn()
            raise ValueError(x)
        for _ in range(4):
            try:
                fail("no")
            except ValueError as error:
                print(error)
    """,
    "printing": """
        def show(x):
            burn()
            print("showing", x, end=" ")
            print("again")
            return x
        for i in (1, 1, 2, 1):
            show(i)
    """,
    "equal numbers of other types": """
        def kind(x):
            burn()
            return type(x).__name__, x
        print([kind(x) for x in (1, 1.0, True, 0.0, -0.0, 1, 1.0, True, 0.0, -0.0)])
    """,
    "identities": """
        def who(x):
            burn()
            return id(x)
        a, b = [1], [1]
        print(who(a) == id(a), who(b) == id(b), who(a) == id(a))
    """,
    "environment": """
        import os
        def home(x):
            burn()
            return os.environ.get("SETTING", "none")
        for i in range(4):
            os.environ["SETTING"] = str(i)
            print(home(1))
    """,
    "a class of the program's own as result": """
        class Point:
            def __init__(self, x): self.x = x
        def make(x):
            burn()
            return Point(x)
        print([isinstance(make(1), Point) for _ in range(4)], type(make(1)) is Point, make(1) is make(1))
    """,
    "functions as results": """
        def make(k):
            burn()
            def inner(x): return x * k
            return inner
        print([make(k)(2) for k in (1, 2, 1, 2)])
    """,
    "keyword-only and variable arguments": """
        def every(a, /, b, *rest, c=3, **more):
            return burn(), a, b, rest, c, more
        for _ in range(3):
            print(every(1, 2), every(1, b=2), every(1, 2, 3, c=4, d=5), every(1, 2, 3, c=5, d=5))
    """,
    "a lambda's environment": """
        def apply(function, x):
            return burn() + function(x)
        for k in (1, 1, 2, 2, 1):
            print(apply(lambda x: x * k, 3))
    """,
    "a property and a static method": """
        class Shape:
            def __init__(self, side): self.side = side
            @property
            def area(self): return burn() * self.side
            @staticmethod
            def double(x): return burn() * x
        shape = Shape(2)
        print(shape.area, shape.area, Shape.double(2), shape.double(2))
        shape.side = 3
        print(shape.area, shape.area)
    """,
    "a traceback that is printed by the program": """
        import traceback
        def fail():
            raise ValueError("inside")
        try:
            fail()
        except ValueError:
            print(traceback.format_exc().splitlines()[-1])
    """,
}

ARRAYS = {
    "results that share memory with each other": """
        def work(x):
            burn()
            z = x - x.mean(0)
            return z, z[:5], z.T
        for i in range(6):
            z, head, turned = work(np.arange(3000.0).reshape(-1, 3))
            print(head.base is z, np.shares_memory(turned, head), turned.strides)
            if i > 3:
                z[0, 1] = i
                print(head[0], turned[1, 0])
    """,
    "a result that is a part of a larger array": """
        def work(n):
            burn()
            return np.random.default_rng(n).random((700, 90))[:, :-7]
        for i in range(5):
            part = work(3)
            print(part.strides, repr(part.sum()), repr(part.mean(0)[2]), part.flags.c_contiguous)
    """,
    "in-place change of a result": """
        def table(n):
            burn()
            return np.arange(n * 1000.0)
        kept = []
        for i in range(5):
            found = table(3)
            found += i
            kept.append(found)
            print(found[:3], [each[0] for each in kept])
    """,
    "in-place change of an argument": """
        def centre(x):
            burn()
            x -= x.mean()
            return x.sum()
        for _ in range(4):
            a = np.arange(5.0)
            print(centre(a), a)
    """,
    "a view as result": """
        def head(x):
            burn()
            return x[:3]
        a = np.zeros(10)
        for i in range(4):
            head(a)[0] += 1
        print(a)
    """,
    "a view as argument": """
        def total(x):
            burn()
            return float(x.sum())
        a = np.ones(10)
        view = a[2:5]
        for i in range(4):
            print(total(view))
            a[2] = i // 2
    """,
    "layout in memory": """
        def flags(x):
            burn()
            return x.flags.c_contiguous, x.T @ x
        a = np.random.default_rng(0).random((50, 40))
        for x in (a, np.asfortranarray(a), a, np.asfortranarray(a)):
            print(flags(x)[0], repr(flags(x)[1].sum()))
    """,
    "numpy's global stream": """
        np.random.seed(1)
        def draw(n):
            burn()
            return np.random.rand(n)
        print([draw(2).tolist() for _ in range(4)], np.random.rand())
        np.random.seed(1)
        print([draw(2).tolist() for _ in range(4)], np.random.rand())
    """,
    "a generator as argument": """
        rng = np.random.default_rng(0)
        def draw(rng):
            burn()
            return rng.random()
        print([draw(rng) for _ in range(5)])
    """,
    "unseeded generators": """
        def draw(n):
            burn()
            return np.random.default_rng().random()
        print(len({draw(1) for _ in range(4)}))
        def old(n):
            burn()
            return np.random.RandomState().rand()
        print(len({old(1) for _ in range(4)}))
        def unseeded(n):
            burn()
            np.random.seed(None)
            return np.random.rand()
        print(len({unseeded(1) for _ in range(4)}))
    """,
    "object arrays": """
        def first(x):
            burn()
            return x[0][0]
        a = np.array([[1], None], dtype=object)
        a[0] = [1]
        for i in range(4):
            a[0][0] = i // 2
            print(first(a))
    """,
    "a product that is stacked of parts": """
        parts = [np.random.default_rng(i).random((400, 30)) for i in range(4)]
        def gram(i):
            X = np.vstack([parts[j] for j in range(4) if j != i])
            return X.T @ X
        for _ in range(3):
            for i in range(4):
                print(repr(gram(i).sum()), repr((parts[i].T @ np.ones(400)).sum()))
    """,
    "operands changed in place between products": """
        a = np.random.default_rng(0).random((300, 300))
        for i in range(8):
            b = a @ a
            print(repr(b.sum()))
            if i % 2:
                a[0, 0] += 1
            b[:] = 0
    """,
}

STACKS = {
    "folds of a cross-validation": """
        def solve(X, y, reg):
            A = X.T @ X + np.diag(np.full(X.shape[1], reg))
            return np.linalg.solve(A, X.T @ y)
        for reg in (0.1, 1.0, 10.0):
            for i in range(4):
                X = np.vstack([parts[j] for j in range(4) if j != i])
                y = np.concatenate([parts[j] for j in range(4) if j != i])[:, 0]
                print(repr(solve(np.vstack([parts[j] for j in range(4) if j != i]), y, reg).sum()), X.shape)
        def validate(reg):
            for i in range(4):
                X = np.vstack([parts[j] for j in range(4) if j != i])
                y = np.vstack([parts[j][:, :1] for j in range(4) if j != i])
                beta = solve(X, y, reg)
                print(repr(np.mean((parts[i] @ beta) ** 2)), len(beta))
        for reg in (0.1, 1.0):
            validate(reg)
    """,
    "a part that is changed before the stack is read": """
        def spoil(values):
            values[0][:] = 7
            return 1.0
        class Spoiler:
            def __rmul__(self, other):
                parts[1][:] = 9
                return 1.0
            __add__ = __radd__ = __mul__ = __rmul__
        def first():
            X = np.vstack(parts)
            n = spoil(parts)
            return X.T @ X
        def second(by):
            X = np.vstack(parts)
            n = 2 * by
            return X.T @ X
        def third(X, by):
            n = 2 * by
            return X.T @ X
        for _ in range(3):
            for i in range(4): parts[i][:] = i
            print(first()[0, :3], second(Spoiler())[0, :3])
            for i in range(4): parts[i][:] = i
            print(third(np.vstack(parts), Spoiler())[0, :3])
    """,
    "a stack that is used in every way": """
        def inspect(X):
            return type(X).__name__, isinstance(X, np.ndarray), X.flags.owndata, X.sum() == X[:, 0].sum() + X[:, 1:].sum()
        def change(X):
            X[0] = 5
            return X.T @ X
        def keep(X):
            kept.append(X)
            return X.T @ X
        def give(X):
            return X
        def defaults(X, *rest, y=None, **more):
            return X.T @ X
        def deferred(f):
            X = np.vstack(parts)
            return f(X)
        kept = []
        for _ in range(2):
            print(inspect(np.vstack(parts)), change(np.vstack(parts))[0, 0], keep(np.hstack(parts))[0, 0], defaults(np.vstack(parts))[0, 0])
            print(give(np.vstack(parts)).shape, give(np.vstack(parts)) is give(np.vstack(parts)), [type(each).__name__ for each in kept])
            for f in (inspect, change, keep, give, np.linalg.norm, len, lambda X: X[1, 1], np.shape, type):
                print(deferred(f) if f is not give else f(parts).__class__)
            print(locals().keys() == globals().keys())
    """,
    "stacks that do not fit": """
        def gram(X):
            return X.T @ X
        for wrong in ([parts[0], parts[1][:, :3]], [parts[0], 3.0], [parts[0]], [parts[0].astype("f4"), parts[1]], [parts[0], parts[1].tolist()]):
            try:
                X = gram(np.vstack(wrong))
                print(X.shape, X.dtype, repr(X.sum()))
            except ValueError as error:
                print(error)
        def names():
            X = np.vstack(parts)
            return sorted(locals()), X.T @ X
        print(names()[0])
    """,
}

FITS = {
    "estimators inside a pipeline stay the objects that they were": """
        scaler, steps = StandardScaler(), None
        model = Pipeline([("scale", scaler), ("reduce", PCA(5, random_state=0)), ("fit", LogisticRegression())])
        steps = model.steps
        for i in range(6):
            result = model.fit(X, y if i % 2 else ~y)
            print(result is model, model["scale"] is scaler, model.steps is steps, scaler.mean_[:2], repr(model.score(X, y)))
    """,
    "a grid of pipelines that share their first steps": """
        pipe = Pipeline([("scale", QuantileTransformer(random_state=0)), ("reduce", PCA(random_state=0)), ("fit", LogisticRegression())])
        grid = GridSearchCV(pipe, {"reduce__n_components": [3, 6], "fit__C": [0.1, 1.0, 10.0]}, cv=3).fit(X, y)
        print(grid.best_params_, grid.cv_results_["mean_test_score"].tolist())
        print(repr(cross_val_score(pipe, X, y, cv=3).sum()))
    """,
    "a model that keeps what it was fitted with": """
        for i in range(4):
            A = X.copy()
            model = KNeighborsRegressor(3, algorithm="brute").fit(A, y)
            A[:] = i
            print(repr(model.predict(X[:50]).sum()), np.shares_memory(model._fit_X, A))
    """,
    "a model that overwrites what it was fitted with": """
        for i in range(4):
            A = X.copy()
            model = LinearRegression(copy_X=False).fit(A, y)
            print(repr(model.coef_.sum()), repr(A.sum()))
    """,
    "models that draw": """
        np.random.seed(0)
        shared = np.random.RandomState(1)
        for i in range(4):
            print(RandomForestClassifier(5).fit(X, y).score(X, y), RandomForestClassifier(5, random_state=shared).fit(X, y).score(X, y), np.random.rand())
    """,
    "a model that goes on from where it was": """
        model = SGDClassifier(random_state=0, warm_start=True, max_iter=20, tol=None)
        for _ in range(5):
            print(repr(model.fit(X, y).coef_.sum()))
    """,
}

LEARNERS = {
    "a model that is fitted again": """
        X = np.random.default_rng(0).random((3000, 12)); y = X[:, 0] > 0.5
        model = RandomForestClassifier(20, random_state=0)
        for i in range(6):
            if i % 3 == 0:
                model.fit(X, y if i else ~y)
            print(model.predict_proba(X)[:2].tolist(), model.score(X, y))
    """,
    "a model whose attributes change": """
        X = np.random.default_rng(0).random((40000, 60)); y = X.sum(axis=1)
        model = Ridge().fit(X, y)
        for i in range(6):
            print(repr(model.predict(X).sum()))
            if i % 2: model.coef_[0] += 1
    """,
    "models that draw from the global stream": """
        np.random.seed(0)
        X = np.random.rand(2000, 8); y = X[:, 0] > 0.5
        for _ in range(4):
            a, b = train_test_split(X)
            print(a.sum(), cross_val_score(RandomForestClassifier(10), X, y, cv=3).tolist())
    """,
    "frames that are changed by their receiver": """
        left = pd.DataFrame({"k": np.arange(60000) % 5000, "v": np.arange(60000.0)}); right = pd.DataFrame({"k": np.arange(5000), "w": 1.0})
        for i in range(6):
            both = left.merge(right, on="k")
            print(both.w.sum(), both.shape)
            both["w"] += i
            both.loc[0, "v"] = -1
            if i == 3: right.loc[0, "w"] = 7
    """,
    "functions of frames": """
        def clean(df):
            burn()
            out = df.copy(); out["v"] = out["v"].fillna(0); return out
        def same(df):
            burn()
            return df
        df = pd.DataFrame({"k": list("abc") * 100, "v": [1.0, np.nan, 3.0] * 100})
        for i in range(5):
            found = clean(df); found.loc[0, "v"] += i; other = same(df); other.loc[1, "v"] = i // 2
            print(found.v.sum(), df.v.sum())
    """,
    "workers": """
        from joblib import Parallel, delayed
        def work(x):
            burn()
            return np.linalg.norm(np.ones((50, 50)) @ np.ones((50, 50))) * x
        print(Parallel(n_jobs=2)(delayed(work)(x) for x in (1, 1, 2)))
        print(Parallel(n_jobs=2)(delayed(lambda x: (np.ones((9, 9)) @ np.ones((9, 9))).sum() * x)(x) for x in (1, 2)))
        print(Parallel(n_jobs=2, backend="threading")(delayed(work)(x) for x in (1, 1, 2, 2)))
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(work, [1, 1, 3]))
    """,
}


@pytest.mark.parametrize("name", TRAPS)
def test_output_is_plain_pythons_whatever_the_program_does(name: str, tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(TRAPS[name]))
    assert reused == [plain, plain]


@pytest.mark.parametrize("name", ARRAYS)
def test_output_is_plain_pythons_whatever_is_done_to_arrays(name: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    plain, reused = plain_and_reused(tmp_path, "import numpy as np\n" + HEAVY + textwrap.dedent(ARRAYS[name]))
    assert reused == [plain, plain]


@pytest.mark.parametrize("name", STACKS)
def test_output_is_plain_pythons_whatever_is_done_to_stacks_that_could_be_put_off(name: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    start = "import numpy as np\nparts = [np.random.default_rng(i).random((6000, 20)) for i in range(4)]\n"
    plain, reused = plain_and_reused(tmp_path, start + HEAVY + textwrap.dedent(STACKS[name]))
    assert reused == [plain, plain]


@pytest.mark.parametrize("name", FITS)
def test_fitting_an_estimator_leaves_behind_what_plain_python_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    start = textwrap.dedent("""
        import warnings
        import numpy as np
        from sklearn.decomposition import PCA
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
        from sklearn.model_selection import GridSearchCV, cross_val_score
        from sklearn.neighbors import KNeighborsRegressor
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import QuantileTransformer, StandardScaler
        X = np.random.default_rng(0).random((2000, 12)); y = X[:, 0] + X[:, 1] ** 2 > 0.8
    """)
    plain, reused = plain_and_reused(tmp_path, start + textwrap.dedent(FITS[name]))
    assert reused == [plain, plain]


def test_the_stack_of_folds_is_never_made_when_only_its_products_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = """
        import numpy as np
        parts = [np.random.default_rng(i).random((30000, 40)) for i in range(4)]
        def solve(X, reg):
            return X.T @ X + np.diag(np.full(X.shape[1], reg))
        def every():
            for reg in (1.0, 2.0, 3.0):
                for i in range(4):
                    X = np.vstack([parts[j] for j in range(4) if j != i])
                    A = solve(X, reg)
                    print(round(float(A.sum()), 3))
        every()
    """
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(text), mode="--partial-reuse", times=1)
    assert reused == [plain]
    found = sites(tmp_path)
    assert found["@"]["partial"] == 11  # the first one computes three parts of four, the second the last, with three that are known
    assert (found["vstack"]["calls"], found["vstack"]["executions"]) == (12, 0)
    assert "approximate" in dvc_state(tmp_path, "log")


@pytest.mark.parametrize("name", LEARNERS)
def test_output_is_plain_pythons_whatever_is_done_to_models_and_frames(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    imports = (
        "import numpy as np, pandas as pd\nfrom sklearn.ensemble import RandomForestClassifier\nfrom sklearn.linear_model import Ridge\n"
    )
    imports += "from sklearn.model_selection import cross_val_score, train_test_split\n"
    plain, reused = plain_and_reused(tmp_path, imports + HEAVY + textwrap.dedent(LEARNERS[name]))
    assert reused == [plain, plain]


def test_what_is_committed_at_the_end_is_the_code_that_the_user_wrote(worked: Path) -> None:
    shown = dvc_state(worked, "show", "HEAD:make")
    assert "burn() for _ in range(n)" in shown
    check = "import dartvc; print(dartvc.open().load('HEAD', names=['make'])['make'](1))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", check], cwd=worked, env=environment, capture_output=True, text=True, check=False)
    assert "__dvc" not in done.stderr
    assert "not stored" not in dvc_state(worked, "show", "HEAD")


WORK = HEAVY + textwrap.dedent("""
    from helper import helper
    FACTOR = 3
    def make(n):
        return [burn() for _ in range(n)]
    def change(values):
        # a comment
        return [burn() + helper(each) * FACTOR for each in values]
    print(sum(make(3)), sum(change(make(3))))
    print(sum(change(make(3))))
""")


@pytest.fixture()
def worked(tmp_path: Path) -> Path:
    """A folder in which the script ran once with reuse."""
    (tmp_path / "helper.py").write_text("def helper(x):\n    return x + 1\n")
    plain, reused = plain_and_reused(tmp_path, WORK, times=1)
    assert reused == [plain]
    return tmp_path


def test_a_call_seen_before_is_not_run_again_in_the_same_run(worked: Path) -> None:
    assert (sites(worked)["make"]["calls"], sites(worked)["make"]["executions"]) == (3, 1)


def test_a_second_run_executes_nothing_that_was_stored(worked: Path) -> None:
    plain, reused = plain_and_reused(worked, WORK, times=1)
    assert reused == [plain]
    assert {name: each["executions"] for name, each in sites(worked).items() if name in ("make", "change")} == {"make": 0, "change": 0}


def test_comments_and_layout_do_not_count(worked: Path) -> None:
    plain_and_reused(worked, WORK.replace("# a comment", "# another\n\n").replace("[burn() for", "[  burn()   for"), times=1)
    assert sites(worked)["change"]["executions"] == sites(worked)["make"]["executions"] == 0


def test_an_edited_helper_in_another_module_runs_what_depends_on_it_alone(worked: Path) -> None:
    (worked / "helper.py").write_text("def helper(x):\n    return x + 20\n")  # of another length: plain Python's .pyc tells by seconds and bytes
    plain, reused = plain_and_reused(worked, WORK, times=1)
    assert reused == [plain]
    assert (sites(worked)["make"]["executions"], sites(worked)["change"]["executions"]) == (0, 1)


def test_an_edited_global_runs_what_depends_on_it_alone_and_explain_names_it(worked: Path) -> None:
    plain, reused = plain_and_reused(worked, WORK.replace("FACTOR = 3", "FACTOR = 4"), times=1)
    assert reused == [plain]
    assert (sites(worked)["make"]["executions"], sites(worked)["change"]["executions"]) == (0, 1)


def test_a_file_that_a_library_reads_past_python_is_seen(tmp_path: Path) -> None:
    """In C, without an audit event: the kernel counts what the thread has read."""
    pytest.importorskip("readline")
    text = f"""{HEAVY}
import readline
def load(path):
    readline.clear_history()
    readline.read_history_file(path)
    return readline.get_history_item(1), burn()
def look(path):
    with open(path) as file:
        return file.readline(), burn()
print(load("history"), look("history"))
"""
    for first in ("one", "two"):
        (tmp_path / "history").write_text(f"{first}\n" + "a line of text\n" * 2000)
        plain, (reused,) = plain_and_reused(tmp_path, text, times=1)
        assert reused == plain and first in reused
    seen = sites(tmp_path)
    assert "past Python" in seen["load"]["reason"] and not seen["look"]["reason"]


def test_a_clock_behind_a_text_is_read_again(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    text = f"""{HEAVY}
import pandas as pd
def stamp(times):
    burn(times)
    return pd.Timestamp("now")
stamps = [stamp(300_000) for _ in range(3)]
print(len(set(stamps)))
"""
    plain, reused = plain_and_reused(tmp_path, text, times=1)
    assert reused == [plain] == ["3\n"]
    assert "clock" in sites(tmp_path)["stamp"]["reason"]


def test_what_is_written_past_python_is_written_again(tmp_path: Path) -> None:
    text = f"{HEAVY}\nimport os\ndef show(times):\n    os.write(1, b'shown')\n    return burn(times)\nprint([show(130_000) for _ in range(3)])\n"
    plain, reused = plain_and_reused(tmp_path, text)
    assert reused == [plain] * 2 and plain.count("shown") == 3


def test_clear_forgets_everything(worked: Path) -> None:
    assert json.loads(dvc_state(worked, "cache", "stats", "--json"))["bytes"] > 0
    dvc_state(worked, "cache", "clear")
    assert json.loads(dvc_state(worked, "cache", "stats", "--json"))["bytes"] == 0
    plain, reused = plain_and_reused(worked, WORK, times=1)
    assert reused == [plain]
    assert sites(worked)["make"]["executions"] == 1


def test_what_is_pinned_outlives_clearing_and_want_of_room(worked: Path) -> None:
    assert dvc_state(worked, "cache", "pin", "make").split() == ["make"]
    dvc_state(worked, "cache", "clear")
    found = json.loads(dvc_state(worked, "cache", "stats", "--json"))
    assert (found["results"], found["pinned"]) == (1, ["make"])
    dvc_state(worked, "config", "dartvc.cacheSize", "1")
    plain, reused = plain_and_reused(worked, WORK, times=2)
    assert reused == [plain, plain]
    assert (sites(worked)["make"]["executions"], sites(worked)["change"]["executions"]) == (0, 1)
    dvc_state(worked, "fsck")
    assert dvc_state(worked, "cache", "pin", "--off", "make") == ""
    dvc_state(worked, "cache", "clear")
    assert json.loads(dvc_state(worked, "cache", "stats", "--json"))["results"] == 0


@pytest.mark.parametrize("policy", ["cost-and-size", "lru"])
def test_output_is_plain_pythons_when_there_is_hardly_any_memory(policy: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = """
        import numpy as np
        def make(seed):
            burn(2_000_000)
            return np.full(100_000, seed) + 0.5
        print([float(make(i % 4).mean()) for i in range(12)])
    """
    (tmp_path / "script.py").write_text("")
    dvc_state(tmp_path, "init")
    dvc_state(tmp_path, "config", "dartvc.cachePolicy", policy)
    dvc_state(tmp_path, "config", "dartvc.cacheMemory", "2M")
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(text), times=1)
    assert reused == [plain]
    dvc_state(tmp_path, "fsck")


def test_an_unknown_policy_stops_the_run_before_it_begins(worked: Path) -> None:
    subprocess.run(["git", "config", "--file", worked / ".dvc-state" / "config", "dartvc.cachePolicy", "fifo"], check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, *COMMAND, "run", "--reuse", "script.py"]
    done = subprocess.run(words, cwd=worked, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "fifo" in done.stderr and "dag-height" in done.stderr


def test_a_repository_with_stored_results_is_sound_and_survives_gc(worked: Path) -> None:
    dvc_state(worked, "fsck")
    dvc_state(worked, "config", "dartvc.gracePeriod", "0s")
    dvc_state(worked, "gc")
    plain, reused = plain_and_reused(worked, WORK, times=1)
    assert reused == [plain]
    assert sites(worked)["make"]["executions"] == 0


def test_explain_says_hit_or_miss_and_what_differs(worked: Path) -> None:
    assert "hit" in dvc_state(worked, "cache", "explain", "make")
    plain_and_reused(worked, WORK.replace("FACTOR = 3", "FACTOR = 4").replace("print(sum(change(make(3))))", ""), times=1)
    assert "1 miss: had to run; first difference: FACTOR" in dvc_state(worked, "cache", "explain", "change")


def test_explain_tells_of_every_call_and_not_of_the_last(tmp_path: Path) -> None:
    program = HEAVY + "SCALE = 2\ndef simulate(seed, n=8):\n    return sum(burn() for _ in range(n)) * seed * SCALE\n"
    program += "{edit}print([simulate(seed) for seed in {seeds}], simulate(9))\n"
    plain_and_reused(tmp_path, program.format(edit="", seeds="(1, 2, 3)"), times=1)
    assert "  4 misses: had to run; first difference: nothing like it was stored\n" in dvc_state(tmp_path, "cache", "explain", "simulate")
    plain_and_reused(tmp_path, program.format(edit="", seeds="(1, 5, 3, 3)"), times=1)
    lines = dvc_state(tmp_path, "cache", "explain", "simulate").splitlines()
    assert lines[1:] == ["  4 hits: answered", "  1 miss: had to run; first difference: argument seed"]
    plain_and_reused(tmp_path, program.format(edit="if 1:\n    simulate(1)\n    SCALE = 3\n", seeds="(1, 2)"), times=1)
    lines = dvc_state(tmp_path, "cache", "explain", "simulate").splitlines()
    assert lines[1:] == ["  1 hit: answered", "  3 misses: had to run; first difference: SCALE"]


def test_damaged_results_are_computed_again(worked: Path) -> None:
    for pack in (worked / ".dvc-state/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        content = bytearray(pack.read_bytes())
        for position in range(100, len(content) - 20, 97):
            content[position] ^= 0xFF
        pack.write_bytes(content)
    plain = subprocess.run([sys.executable, "script.py"], cwd=worked, capture_output=True, text=True, check=True).stdout
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *COMMAND, "run", "--reuse", "script.py"], cwd=worked, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout in (plain, "")  # a repository that cannot even be opened says so and runs nothing


def test_results_sealed_by_another_machine_are_never_unpickled(worked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(worked / "elsewhere"))
    plain, reused = plain_and_reused(worked, WORK, times=1)
    assert reused == [plain]
    assert sites(worked)["make"]["executions"] == 1


def test_a_resumed_run_has_what_the_killed_one_computed(tmp_path: Path) -> None:
    text = HEAVY + textwrap.dedent("""
        import os
        def work(n):
            burn(400_000)
            return n * n
        found = [work(n) for n in range(3)]
        while not os.path.exists("go"):
            pass
        print(found, work(1))
    """)
    (tmp_path / "script.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ("run", "--reuse", "--every", "1000", "script.py")  # from the beginning: no commit comes in between, however fast this is
    process = subprocess.Popen([sys.executable, *COMMAND, *words], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    while not (tmp_path / ".dvc-state/refs/cache/results").exists() or len(read_index(Repository.open(tmp_path))) < 3:
        assert process.poll() is None
    process.kill()
    process.communicate()
    (tmp_path / "go").touch()
    assert dvc_state(tmp_path, "resume") == "[0, 1, 4] 1\n"
    assert (sites(tmp_path)["work"]["executions"], sites(tmp_path)["work"]["reused"]) == (0, 4)


def test_a_replay_of_a_run_with_reuse_gives_what_the_run_would_have_logged(tmp_path: Path) -> None:
    text = HEAVY + textwrap.dedent("""
        import dartvc
        def prepare(k):
            return [burn(400_000 + k + j) for j in range(3)]
        def train(k):
            data = prepare(k)
            loss = 0.0
            for epoch in range(3):
                loss += sum(data) * epoch
                dartvc.log("loss", loss)
            return loss
        for k in range(3):
            train(k)
    """)
    (tmp_path / "script.py").write_text(text)
    dvc_state(tmp_path, "run", "--reuse", "script.py")
    stored = json.loads(dvc_state(tmp_path, "cache", "stats", "--json"))["results"]
    (tmp_path / "script.py").write_text(text.replace('log("loss", loss)', 'log("loss", loss); dartvc.log("half", loss / 2)'))
    dvc_state(tmp_path, "replay", "half", "--all")
    rows = json.loads(dvc_state(tmp_path, "query", "--df", "loss,half", "--format", "json"))["items"]
    assert [each["half"] * 2 for each in rows] == [each["loss"] for each in rows] and len(rows) == 9
    assert json.loads(dvc_state(tmp_path, "cache", "stats", "--json"))["results"] == stored


def test_a_plain_run_goes_on_with_reuse_from_the_middle(tmp_path: Path) -> None:
    text = HEAVY + textwrap.dedent("""
        import os
        def work(n):
            burn(400_000)
            return n * n
        total = 0
        for n in [1, 2, 1, 2, 1, 2]:
            total += work(n)
            while n == 2 and not os.path.exists("go"):
                total += 0
        print(total)
    """)
    (tmp_path / "script.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, *COMMAND, "run", "--every", "0.1", "script.py"]
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    looking = [sys.executable, *COMMAND, "log", "--all", "--json"]
    found: list[dict[str, Any]] = []
    while not any('"n": 2' in json.dumps(each) or (each["position"] and "line" in each["position"]) for each in found):
        assert process.poll() is None
        looked = subprocess.run(looking, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False)
        found = json.loads(looked.stdout)["items"] if looked.returncode == 0 else []  # the repository is being made
    process.kill()
    process.communicate()
    (tmp_path / "go").touch()
    assert dvc_state(tmp_path, "resume", "--reuse") == "15\n"
    work = sites(tmp_path)["work"]
    assert work["calls"] > work["executions"] and work["executions"] <= 2


def test_a_traceback_shows_the_users_lines_alone(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "def inner(x):\n    return 1 / x\ndef outer(x):\n    return inner(x) + 1\nprint(outer(1))\nouter(0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    plain, reused = (
        subprocess.run([sys.executable, *words, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for words in ([], [*COMMAND, "run", "--reuse"])
    )
    assert (plain.returncode, plain.stdout) == (reused.returncode, reused.stdout)
    assert [line.strip() for line in plain.stderr.splitlines()] == [
        line.strip().replace(f"{tmp_path}/", "") for line in reused.stderr.splitlines()
    ] or [line.strip().rpartition("/")[2] for line in plain.stderr.splitlines()] == [
        line.strip().rpartition("/")[2] for line in reused.stderr.splitlines()
    ]


PARTS = {
    "a part that depends on some parameters": """
        def prepare(X, scaled, reg, tol):
            if scaled:
                X = (X - X.mean(axis=0)) / np.sort(X, axis=0)[-1]
            Z = np.column_stack([np.sort(X, axis=0), np.ones(len(X))])
            return float((Z * reg).sum())
        X = np.random.default_rng(0).random((60000, 12))
        for scaled in (0, 1):
            for reg in (1.0, 2.0, 3.0):
                for tol in (1e-3, 1e-4):
                    print(prepare(X, scaled, reg, tol).hex())
                    X[0, 0] += 0.25 if (reg, tol) == (2.0, 1e-4) else 0.0
    """,
    "a part whose result is changed afterwards": """
        def work(X, step):
            Z = np.sort(np.sort(X, axis=0), axis=1)
            Z[0] += step
            return float(Z.sum())
        X = np.random.default_rng(0).random((60000, 12))
        print([work(X, step).hex() for step in range(6)], X.sum().hex())
    """,
    "a part that changes what it is given": """
        def work(X, step):
            X.sort(axis=0)
            total = X[0].sum()
            X += 1.0
            return total * step
        X = np.random.default_rng(0).random((60000, 12))
        print([float(work(X, step)).hex() for step in range(6)], X.sum().hex())
    """,
    "a part that hands on what it was given": """
        def work(X, sort, step):
            if sort:
                X = np.sort(X, axis=0)
            Y = np.sort(X, axis=1)
            X[0] += step
            return float(Y.sum() + X.sum())
        X = np.random.default_rng(0).random((60000, 12))
        print([work(X, sort, step).hex() for sort in (0, 1) for step in range(5)], X.sum().hex())
    """,
    "a part that draws from a stream": """
        def work(X, rng, step):
            noise = rng.standard_normal(X.shape)
            Z = np.sort(X + noise, axis=0)
            return float(Z.sum()) * step
        X, rng = np.random.default_rng(0).random((60000, 12)), np.random.default_rng(1)
        print([work(X, rng, step).hex() for step in range(5)])
        np.random.seed(0)
        def again(X, step):
            Z = np.sort(X + np.random.random(X.shape), axis=0)
            return float(Z.sum()) * step
        print([again(X, step).hex() for step in range(5)], np.random.random())
    """,
    "a part that prints, and one that raises": """
        def work(X, step):
            Z = np.sort(X, axis=0)
            print("sorted", len(Z))
            return Z.sum() + step
        def broken(X, step):
            Z = np.sort(X, axis=0)
            first = Z[len(X)]
            return first + step
        X = np.random.default_rng(0).random((60000, 12))
        print([float(work(X, step)).hex() for step in range(5)])
        for step in range(5):
            try:
                broken(X, step)
            except IndexError as error:
                print(error)
    """,
    "a part that reads a global that changes": """
        power = 1.0
        def work(X, step):
            Z = np.sort(X * power, axis=0)
            return float(Z.sum()) + step
        X = np.random.default_rng(0).random((60000, 12))
        for power in (1.0, 2.0, 1.0):
            print([work(X, step).hex() for step in range(4)])
    """,
    "operations and parts in methods, with private names": """
        class Model:
            def __init__(self, scale):
                self.__scale = scale
            def fit(self, X, step):
                Z = np.tanh(np.exp(X)) * self.__scale
                G = Z.T @ Z
                return float(np.linalg.svd(G + step)[1].sum())
            def __weigh(self, X, step):
                w = np.sort(X, axis=0)
                return float(w.sum()) + step
            def both(self, X, step):
                return self.fit(X, step), self.__weigh(X, step)
        X, model = np.random.default_rng(0).random((60000, 12)), Model(2.0)
        print([[each.hex() for each in model.both(X, step)] for step in range(5)])
    """,
    "parts of turns: kept, changed, handed on, drawn, printed, left, raised": """
        import random
        power = 1.0
        def work(rows, others, rng, step):
            kept, total, seen, last = [], 0.0, None, 0
            for number, row in enumerate(rows):
                Z = np.sort(np.sort(X * power + row, axis=0), axis=1)
                first = Z[:1000]
                if number == 3:
                    continue
                kept.append(Z)
                others[number].sort(axis=0)
                top = np.sort(others[number], axis=1)
                print(number, seen is Z, any(each is Z for each in kept[:-1]), first.base is Z)
                total += step * float(top.sum() + first.sum()) + random.random()
                noise = rng.standard_normal(1000)
                Z[0] += step
                seen = Z
                others[number][0] += noise[0]
                if total > 4e5 * step > 0:
                    break
                try:
                    last = Z[len(Z) - 1 + (number == 2 and step == 3)]
                except IndexError as error:
                    print(error)
                    last = None
            else:
                print("all")
            return total.hex(), [each.sum().hex() for each in kept], last is None
        X, rng = np.random.default_rng(0).random((60000, 12)), np.random.default_rng(1)
        others = [np.random.default_rng(i).random((30000, 12)) for i in range(6)]
        random.seed(5)
        for step in range(5):
            power = 1.0 + step // 2
            print(work([0.0, 1.0, 0.0, 2.0, 1.0, 0.0], others, rng, step))
        print(random.random(), rng.random(), [each.sum().hex() for each in others])
        def grow(rows, scale):
            held = []
            for row in rows:
                held = np.tanh(np.exp(np.append(held, np.sort(row))))
                low = np.sort(held * held)
                yielded = [low, held]
                row += scale
            return [float(each.sum()).hex() for each in yielded]
        rows = [np.random.default_rng(i).random(200000) for i in range(3)]
        print([grow(rows, scale) for scale in (0.0, 0.0, 1.0)])
    """,
    "parts of turns of the script's own loops: kept, changed, handed on, drawn, left, raised, looked at": """
        import random
        X, rng = np.random.default_rng(0).random((60000, 12)), np.random.default_rng(1)
        others = [np.random.default_rng(i).random((30000, 12)) for i in range(6)]
        power, seen, kept, total, made = 1.0, None, [], 0.0, 0
        random.seed(5)
        def scaled(values):
            return values * power
        def show():
            print(sorted(name for name in globals() if "dvc" in name))
        for step in range(5):
            try:
                for number, row in enumerate([0.0, 1.0, 0.0, 2.0, 1.0, 0.0]):
                    Z = np.sort(np.sort(scaled(X) + row, axis=0), axis=1)
                    first = Z[:1000]
                    if number == 3:
                        continue
                    kept.append(Z)
                    others[number].sort(axis=0)
                    top = np.sort(others[number], axis=1)
                    show()
                    print(number, seen is Z, any(each is Z for each in kept[:-1]), first.base is Z)
                    total += step * float(top.sum() + first.sum()) + random.random()
                    noise = rng.standard_normal(1000)
                    Z[0] += step
                    seen = Z
                    others[number][0] += noise[0]
                    if total > 4e5 * step > 0:
                        break
                else:
                    print("all", total.hex())
                for part in (0, 1, 2):
                    for weight in (1.0, 2.0, 3.0):
                        made = np.sort(np.tanh(np.exp(X * part)), axis=0)
                        low = np.sort(made, axis=1)[step * 100 * part * 10**5 * (step == 3) :]
                        total += weight * float(low[0].sum() + low.sum())
            except IndexError as error:
                print(error, made.sum().hex(), low.shape, part, weight)
            print(total.hex(), [each.sum().hex() for each in kept[-6:]])
        print(random.random(), rng.random(), [each.sum().hex() for each in others], made.sum().hex(), low.sum().hex(), seen.sum().hex())
        show()
    """,
    "a look at the functions of the standard library": """
        import os, random
        print(os.urandom.__doc__, os.urandom.__module__, random.Random.seed.__doc__, random.Random.seed.__qualname__)
    """,
    "a library's function that changes what it is given": """
        import pandas as pd
        def order(d):
            d.sort_values("a", inplace=True)
            return len(d)
        for _ in range(3):
            d = pd.DataFrame({"a": np.arange(300000) % 5})
            d.drop_duplicates(inplace=True)
            e = pd.DataFrame({"a": np.arange(300000) * 7919 % 100003})
            order(e)
            f = pd.DataFrame({"a": np.arange(300000) * 7919 % 100003})
            f.sort_values("a", inplace=True)
            x, y = np.arange(2000000) * 7919 % 100003, np.arange(2000000) * 7919 % 100003
            m = np.median(x, overwrite_input=True), np.percentile(y, 30, None, None, True)
            print(len(d), e.a.iloc[:3].tolist(), f.a.iloc[:3].tolist(), m, x[:3], y[:3])
    """,
    "a stream of the program's own": """
        import sys
        class Tee:
            def __init__(self, stream):
                self.stream, self.count = stream, 0
            def write(self, text):
                self.count += 1
                return self.stream.write(text)
            def flush(self):
                self.stream.flush()
        def work(x):
            s = sum(i % 7 for i in range(60000))
            print("out", s, x)
            return s
        sys.stdout = tee = Tee(sys.stdout)
        for _ in range(3):
            work(1)
        sys.stdout = tee.stream
        print(tee.count)
    """,
    "classes whose bases and names are exchanged, exceptions that are handled, one NaN and another": """
        import sys
        from sys import exc_info
        N = 60000
        class A: k = 1
        class A2(A): k = 9
        class B(A): pass
        def g(o):
            return sum(i % 7 for i in range(N)), o.k, type(o).__name__, type(o).__doc__
        def caught(x):
            return sum(i % 7 for i in range(N)), sys.exc_info()[0], exc_info()[0], sys.exception() is None
        def same(x, y):
            return sum(i % 7 for i in range(N)), [x] == [y]
        def main():
            c = B()
            print([g(c) for _ in range(3)])
            B.__bases__ = (A2,)
            print([g(c) for _ in range(3)])
            B.__name__ = "New"
            print([g(c) for _ in range(3)])
            B.__doc__ = "text"
            print([g(c) for _ in range(3)])
            for error in (ValueError, KeyError):
                try:
                    raise error
                except Exception:
                    print([caught(1) for _ in range(3)])
            print(caught(1))
            a, b = float("nan"), float("nan")
            print([same(a, a) for _ in range(3)], [same(a, b) for _ in range(3)])
        main()
    """,
    "settings of libraries": """
        import calendar, csv, locale, os, sys
        def work(x):
            s = sum(i % 7 for i in range(60000))
            calendar.setfirstweekday(6)
            np.setbufsize(16384)
            sys.set_int_max_str_digits(5000)
            csv.register_dialect("mine", delimiter=";")
            sys.path.append("elsewhere")
            os.umask(0o77)
            return s
        for _ in range(4):
            calendar.setfirstweekday(0)
            np.setbufsize(8192)
            sys.set_int_max_str_digits(4300)
            work(1)
            print(calendar.firstweekday(), np.getbufsize(), sys.get_int_max_str_digits(), csv.list_dialects(), sys.path.count("elsewhere"), os.umask(0o22))
            csv.unregister_dialect("mine")
    """,
    "a library's function that moves a stream": """
        from sklearn.model_selection import train_test_split
        X, stream = np.random.default_rng(0).random((200000, 4)), np.random.RandomState(3)
        for _ in range(4):
            a, b = train_test_split(X, random_state=stream)
            print(a.sum().hex())
        print(stream.random_sample())
    """,
}


@pytest.mark.parametrize("name", PARTS)
def test_output_is_plain_pythons_whatever_parts_of_functions_do(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    plain, reused = plain_and_reused(tmp_path, "import numpy as np\n" + textwrap.dedent(PARTS[name]))
    assert reused == [plain, plain]


def test_what_depends_on_some_parameters_is_computed_once_for_all_values_of_the_others(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = """
        import numpy as np
        def prepare(X, scaled, reg, unused):
            if scaled:
                X = (X - X.mean(axis=0)) / X.std(axis=0)
            Z = np.column_stack([np.tanh(np.exp(X)), np.ones(len(X))])
            return float((Z * reg).sum())
        X = np.random.default_rng(0).random((200000, 20))
        for scaled in (0, 1):
            for reg in range(6):
                print([prepare(X, scaled, reg, unused).hex() for unused in range(4)])
    """
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(text), times=1)
    assert reused == [plain]
    found = sites(tmp_path)
    assert (found["prepare"]["executions"], found["prepare"]["reused"]) == (12, 36)
    assert found["a part of prepare"]["reused"] >= 7


def test_what_a_turn_of_a_loop_does_whatever_the_other_turns_did_is_computed_once(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = """
        import numpy as np
        def vote(X, models, weights):
            votes = 0
            for model, weight in zip(models, weights):
                E = np.exp(np.tanh(np.sin(X * model)))
                P = np.cos(E / E.sum(axis=1, keepdims=True))
                votes = votes + weight * P
            return float(votes.sum())
        X = np.random.default_rng(0).random((60000, 20))
        models = [np.random.default_rng(i).random(20) for i in range(4)]
        for turn in range(8):
            print(vote(X, models, [turn, 1, 2, 3]).hex())
    """
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(text), times=1)
    assert reused == [plain]
    assert sites(tmp_path)["a part of vote"]["reused"] >= 4


def test_what_a_turn_of_the_scripts_own_loop_does_whatever_the_others_did_is_computed_once(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = """
        import numpy as np
        X = np.random.default_rng(0).random((60000, 20))
        models = [np.random.default_rng(i).random(20) for i in range(4)]
        if __name__ == "__main__":
            for turn in range(8):
                votes = 0
                for model, weight in zip(models, [turn, 1, 2, 3]):
                    E = np.exp(np.tanh(np.sin(X * model)))
                    P = np.cos(E / E.sum(axis=1, keepdims=True))
                    votes = votes + weight * P
                print(float(votes.sum()).hex())
    """
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(text), times=1)
    assert reused == [plain]
    assert sites(tmp_path)["a part of a loop"]["reused"] >= 4


def test_warnings_are_shown_where_plain_python_shows_them(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    text = """
        import warnings
        import numpy as np, pandas as pd
        A = np.full((400, 400), 1e200)
        def overflowing(x):
            return A @ (A * x)
        def old(x):
            warnings.warn("old is old", DeprecationWarning, stacklevel=2)
            return sum(i % 7 for i in range(60000))
        class Model:
            def fit(self, x):
                warnings.warn("fit warns", stacklevel=2)
                return overflowing(x)
        print(overflowing(1.0)[0, 0], (A @ (A * 2))[0, 0])
        for _ in range(3):
            old(1)
            Model().fit(3.0)
            np.cov(A[:1], ddof=1)
            d = pd.DataFrame({"a": np.arange(300000) % 5})
            d.drop_duplicates(inplace=True)
            np.percentile(np.array([np.nan, 1, 2] * 100000), 50)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"}
    shown = []
    for words in ([], [*COMMAND, "run", "--reuse"]):
        done = subprocess.run([sys.executable, *words, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        shown.append(done.stderr.replace(f"{tmp_path}/", ""))
    assert shown[0].count("Warning: ") >= 5
    assert shown[1] == shown[0]


IN_A_FUNCTION = """
    import time

    def work(values, k):
        ordered = sorted(values)
        for _ in range(20000):
            ordered.sort()
        head = ordered[len(values) - fail]
        return head + k

    fail = 1
    for k in range(4):
        work([3, 1, 2], k)
    fail = 0
    work([3, 1, 2], 9)
"""
IN_A_LOOP = """
    def work(values, fail):
        ordered = sorted(values)
        for _ in range(20000):
            ordered.sort()
        return ordered[len(values) - fail]

    for fail in (3, 2, 1, 0):
        for k in range(4):
            head = work([3, 1, 2], fail)
            other = work([4], 1)
            last = head + other + k
"""


@pytest.mark.parametrize("text", [IN_A_FUNCTION, IN_A_LOOP], ids=["in a function", "in a loop"])
def test_a_traceback_through_a_part_is_plain_pythons(text: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = []
    for words in ([], [*COMMAND, "run", "--reuse"]):
        done = subprocess.run(
            [sys.executable, *words, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        shown.append([line.replace(f"{tmp_path}/", "").strip() for line in done.stderr.splitlines() if "^" not in line and not line.startswith("dartvc:")])
    assert shown[0] == shown[1]


def test_an_exact_run_never_gets_what_an_approximate_one_stored_and_the_commit_says_which_it_was(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np
        parts = [np.random.default_rng(i).random((40000, 40)) for i in range(4)]
        def gram(i):
            X = np.vstack([parts[j] for j in range(4) if j != i])
            return X.T @ X
        print([gram(i).tobytes().hex()[:4000] for i in range(4)])
    """)
    )
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    outputs = []
    for words in ([], [*COMMAND, "run", "--partial-reuse"], [*COMMAND, "run", "--reuse"]):
        done = subprocess.run(
            [sys.executable, *words, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout)
    assert outputs[2] == outputs[0]
    exact, _, approximate, _ = json.loads(dvc_state(tmp_path, "log", "--json"))["items"]
    assert exact["approximate"] == 0
    assert approximate["approximate"] >= 3
    assert "\nApproximate: " in subprocess.run(
        ["git", "--git-dir", str(tmp_path / ".dvc-state"), "log", "--format=%B", "HEAD"], capture_output=True, text=True, check=True
    ).stdout


PIPELINES = Path(__file__).parents[1] / "benchmarks" / "pipelines"


@pytest.mark.parametrize("path", sorted(path for path in PIPELINES.glob("*.py") if not path.stem.endswith("_oracle")), ids=lambda path: path.stem)
def test_pipelines_that_repeat_work_print_the_same_with_reuse_and_done_by_hand(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    oracle = path.with_name(f"{path.stem}_oracle.py")
    outputs = []
    (tmp_path / path.name).write_text(path.read_text())  # the twin by hand begins with the same data
    for words in ([], [*COMMAND, "run", "--reuse"], [*COMMAND, "run", "--partial-reuse"], *([None] if oracle.exists() else [])):
        script = tmp_path / "script.py"
        script.write_text((path if words is not None else oracle).read_text())
        done = subprocess.run(
            [sys.executable, *(words or []), "script.py", "0.3"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[1:] == [outputs[0]] * (len(outputs) - 1)


FOLDS = {
    "folds by number and by mask": """
        for train, test in folds(X):
            print(total(X[train], y[train]).hex(), total(X[test], y[test]).hex())
        for fold in range(3):
            held = np.arange(len(X)) % 3 == fold
            rest = ~held
            print(total(X[rest], y[rest]).hex())
    """,
    "rows that are there twice, from behind, or not there": """
        from itertools import product
        for train in (np.array([0, 0, 1] * 9000), np.arange(-20000, 0), np.arange(30000)):
            print(total(X[train], y[train]).hex())
        def broken():
            inside = np.flatnonzero(y > 0.5)
            outside = np.concatenate([inside, [len(X)]])
            return total(X[outside], y[outside])
        for _ in range(3):
            try:
                print(broken())
            except IndexError as error:
                print(error)
    """,
    "rows that are changed between and after": """
        for turn in range(3):
            for train, test in folds(X):
                got = total(X[train], y[train])
                X[0, turn] += got
                train[0] = 5
                print(got.hex())
    """,
    "a function that writes to what it is given": """
        def spoil(Z, w):
            Z[0] = 7.0
            return float((Z.T @ w).sum())
        for turn in range(2):
            for train, test in folds(X):
                print(spoil(X[train], y[train]).hex(), X.sum().hex())
    """,
    "a name for the rows": """
        def every(reg):
            out = []
            for train, test in folds(X):
                Z = X[train]
                G = Z.T @ Z + reg * np.eye(Z.shape[1])
                b = Z.T @ y[train]
                out.append(float(np.linalg.solve(G, b).sum()).hex())
            return out
        print([every(reg) for reg in (1.0, 2.0, 3.0)])
    """,
    "columns in another order, lists, frames, few rows": """
        import pandas as pd
        F, frame, short = np.asfortranarray(X), pd.Series(y), list(range(100000))
        for train, test in folds(X):
            print(total(F[train], y[train]).hex(), float(frame[train].sum()).hex())
            few = np.flatnonzero(y[:100] > 0.5)
            print(total(X[few], y[few]).hex())
    """,
}


@pytest.mark.parametrize("name", FOLDS)
def test_output_is_plain_pythons_whatever_is_done_to_rows_that_could_be_put_off(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    start = """
        import numpy as np
        from sklearn.model_selection import KFold
        X = np.random.default_rng(0).random((30000, 20))
        y = np.random.default_rng(1).random((30000, 2))[:, 0]
        def folds(X):
            return KFold(3, shuffle=True, random_state=0).split(X)
        def total(Z, w):
            return float((Z.T @ Z).sum() + (Z.T @ w).sum() + len(Z))
    """
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(start) + textwrap.dedent(FOLDS[name]))
    assert reused == [plain, plain]


def test_the_rows_of_a_fold_are_not_picked_when_only_their_products_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    text = """
        import numpy as np
        from sklearn.model_selection import KFold
        X = np.random.default_rng(0).random((40000, 40))
        def gram(Z, reg):
            return Z.T @ Z + np.diag(np.full(Z.shape[1], reg))
        for reg in (1.0, 2.0, 3.0):
            for train, test in KFold(4).split(X):
                A = gram(X[train], reg)
                print(round(float(A.sum()), 3))
    """
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(text), mode="--partial-reuse", times=1)
    assert reused == [plain]
    found = sites(tmp_path)
    assert (found["[]"]["calls"], found["[]"]["executions"]) == (12, 0)
    plain, reused = plain_and_reused(tmp_path, textwrap.dedent(text), times=1)
    assert reused == [plain]
    assert sites(tmp_path)["[]"]["executions"] == 4

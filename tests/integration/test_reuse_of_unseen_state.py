"""State that neither attributes nor pickles show, under ``run --reuse``: what has it is not answered, or answered as plain Python would."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration.reused_scripts import COMMAND, HEAVY, plain_and_reused, sites

STATE = {
    "a file that is read on": """
        open("data.txt", "w").write("a\\n7\\n4\\n")
        def line(handle):
            burn()
            return handle.readline()
        handle = open("data.txt")
        print([line(handle) for _ in range(4)])
        class Reader:
            def __init__(self):
                self.handle = open("data.txt", "rb")
            def next(self):
                burn()
                return self.handle.readline()
        reader = Reader()
        print([reader.next() for _ in range(4)])
        def following():
            burn()
            return HANDLE.readline()
        HANDLE = open("data.txt")
        print([following() for _ in range(4)])
    """,
    "a file that is written on": """
        def line(handle, x):
            burn()
            handle.write(f"{x}\\n")
        with open("out.txt", "w") as handle:
            for _ in range(3):
                line(handle, 1)
        print(open("out.txt").read())
    """,
    "a compressed file": """
        import gzip, os
        with gzip.open("out.txt", "wt") as handle:
            handle.write("a\\nb\\nc\\n")
        def line(handle):
            burn()
            return handle.readline()
        handle = gzip.open("out.txt", "rt")
        print([line(handle) for _ in range(4)])
    """,
    "streams in memory": """
        import io
        def line(stream):
            burn()
            return stream.readline()
        def put(stream):
            burn()
            stream.write("x")
        text, raw = io.StringIO("a\\nb\\nc\\n"), io.BytesIO(b"a\\nb\\nc\\n")
        print([line(text) for _ in range(4)], [line(raw) for _ in range(4)])
        stream = io.StringIO()
        for _ in range(3):
            put(stream)
        print(stream.getvalue())
    """,
    "exceptions": """
        class Failure(Exception):
            pass
        class Code(ValueError):
            def __init__(self, code):
                self.code = code
                super().__init__(f"code {code}")
        def told(error):
            burn()
            return str(error)
        for _ in range(2):
            print([told(each) for each in (Failure("a"), Failure("b"), Code(1), Code(2), ValueError("c"), ValueError("d"))])
        def made(x):
            burn()
            try:
                1 / 0
            except ZeroDivisionError as error:
                result = ValueError(x)
                result.__cause__ = error
                return result
        def caught(x):
            burn()
            try:
                raise KeyError(x)
            except KeyError as error:
                return error
        print([(repr(made(1).__cause__), caught(1).__traceback__ is not None) for _ in range(3)])
    """,
    "subclasses of containers written in C": """
        import collections
        class Buffer(collections.deque):
            pass
        class Grouped(collections.defaultdict):
            pass
        class Ordered(collections.OrderedDict):
            pass
        def told(each):
            burn()
            return list(each)
        for _ in range(2):
            print(told(Buffer([1])), told(Buffer([2, 3])))
        def missing(each):
            burn()
            return each["x"]
        print(missing(Grouped(int)), missing(Grouped(list)))
        one, other = Ordered(a=1, b=2), Ordered(a=1, b=2)
        other.move_to_end("a")
        print(told(one), told(other))
    """,
    "subclasses that say something else than they contain": """
        class Name(str):
            def __str__(self):
                return "name"
        class Count(int):
            def __int__(self):
                return 1
        class Bag(list):
            def __iter__(self):
                return iter([0])
        def told(each):
            burn()
            return [len(each), each[0]] if isinstance(each, (str, list)) else each + 0
        for _ in range(2):
            print(told(Name("ab")), told(Name("cde")), told(Count(2)), told(Count(3)), told(Bag([4])), told(Bag([5])))
    """,
    "an object that says what is kept of it": """
        class Held:
            def __init__(self, size):
                self.size = size
            def __getstate__(self):
                return {}
            def __setstate__(self, state):
                self.size = -1
        def make(x):
            burn()
            return Held(x)
        print([make(8).size for _ in range(3)])
        def put(kept):
            burn()
            kept.append(Held(8))
        for _ in range(3):
            kept = []
            put(kept)
            print(kept[0].size)
    """,
    "log records": """
        import logging, sys
        kept = []
        class Keeping(logging.Handler):
            def emit(self, record):
                kept.append(record.getMessage())
        log = logging.getLogger("app")
        shown = logging.StreamHandler(sys.stdout)
        log.addHandler(shown)
        log.addHandler(Keeping())
        log.setLevel(logging.INFO)
        def work(x):
            burn()
            log.info("info %d", x)
            log.debug("debug %d", x)
            return x
        for _ in range(3):
            work(1)
        log.setLevel(logging.DEBUG)
        work(1)
        shown.setFormatter(logging.Formatter("new %(message)s"))
        work(1)
        print(kept)
        def given(logger):
            burn()
            logger.info("given")
        for _ in range(3):
            given(log)
        print(kept)
    """,
    "functions for the end": """
        import atexit
        def work(x):
            burn()
            atexit.register(print, "late", x)
            return x
        print([work(1) for _ in range(3)])
    """,
    "warnings": """
        import warnings
        def work(x):
            burn()
            warnings.warn(f"careful {x}")
            return x
        def quiet(x):
            burn()
            return x
        for _ in range(3):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                print(work(1), quiet(1), [str(each.message) for each in seen])
        warnings.simplefilter("ignore")
        print([work(2) for _ in range(3)])
        warnings.simplefilter("error")
        try:
            work(2)
        except UserWarning as error:
            print("raised", error)
    """,
    "warnings that are shown once": """
        import warnings
        def show(message, category, filename, lineno, file=None, line=None):
            print("shown", message, lineno)
        warnings.showwarning = show
        def work(x):
            burn()
            warnings.warn("careful")
            return x
        def outer(x):
            burn()
            return work(x) + 1
        print([work(1) for _ in range(4)], [outer(1) for _ in range(4)])
        with warnings.catch_warnings():
            pass  # the places that have warned may warn again
        print([work(1) for _ in range(4)], [outer(1) for _ in range(4)])
    """,
    "filters of warnings that a call sets": """
        import warnings
        def settle(x):
            burn()
            warnings.filterwarnings("ignore", message="careful")
            return x
        for _ in range(3):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                settle(1)
                warnings.warn("careful")
                print(len(seen))
    """,
    "lists that threads append to": """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        def add(x):
            burn(1_000_000)
            kept.append(x)
        for _ in range(4):
            kept = []
            threads = [threading.Thread(target=add, args=(1,)) for _ in range(5)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            print(len(kept))
        class Kept:
            def __init__(self):
                self.parts = []
            def add(self, x):
                burn(1_000_000)
                self.parts.append(x)
                return x
        one = Kept()
        with ThreadPoolExecutor(4) as pool:
            print(sum(pool.map(one.add, [1, 2] * 4)), sorted(one.parts))
    """,
    "tracebacks that the program looks at": """
        import sys, traceback
        class Model:
            def fit(self, x):
                burn()
                raise ValueError(x)
        def inner(x):
            burn()
            return 1 / x
        def outer(x):
            return inner(x) + 1
        for _ in map(str, range(2)):
            for call in (lambda: outer(0), lambda: Model().fit(1)):
                try:
                    call()
                except (ZeroDivisionError, ValueError) as error:
                    print(traceback.format_exc(), len(traceback.extract_tb(error.__traceback__)))
        def caught(x):
            burn()
            try:
                outer(x)
            except ZeroDivisionError:
                return traceback.format_exc()
        print(caught(0))
        try:
            try:
                outer(0)
            except ZeroDivisionError as error:
                raise RuntimeError from error
        except RuntimeError:
            print(traceback.format_exc())
    """,
    "an exception where the engine refused": """
        def work(x, handle):
            burn()
            raise ValueError(x)
        for _ in map(str, range(3)):
            try:
                work(1, open("out.txt", "w"))
            except ValueError as error:
                print(repr(error.__context__))
    """,
}

ARRAYS = {
    "memory of tensors and arrays": """
        import torch
        def tensor(x):
            burn()
            return torch.from_numpy(x)
        def array(t):
            burn()
            return t.detach().numpy()[1:]
        def buffer(b):
            burn()
            return np.frombuffer(b, dtype="u1")
        def held(x, kept):
            burn()
            kept.append(torch.from_numpy(x[1:]))
        for _ in range(3):
            x, t, b, kept = np.zeros(3), torch.zeros(3), bytearray(b"abc"), []
            results = tensor(x), array(t), buffer(b)
            held(x, kept)
            x[:], t[:], b[0] = 4, 5, 65
            print(*results, kept)
        class Mine(torch.Tensor):
            pass
        def total(t):
            burn()
            return t.sum().item()
        print(total(torch.ones(2).as_subclass(Mine)), total(torch.zeros(2).as_subclass(Mine)))
    """,
    "arrays that may not be written": """
        def made(n):
            burn()
            x = np.arange(float(n))
            x.flags.writeable = False
            return x
        def part(n):
            burn()
            x = np.arange(float(n))[1:]
            x.flags.writeable = False
            return x
        def settle(x):
            burn()
            x.flags.writeable = False
            return 1
        kept = []
        for n in (5, 5, 5, 300_000, 300_000, 300_000):
            kept += made(n), part(n)
            x = np.zeros(n)
            settle(x)
            print(kept[-1].flags.writeable, kept[-2].flags.writeable, x.flags.writeable)
    """,
    "arguments that overlap": """
        def work(a, b):
            burn()
            before = b.copy()
            a += 1
            result = (b - before).tolist()
            a -= 1
            return result
        x = np.zeros(20)
        for _ in range(2):
            print(work(x[:5], x[:5]), work(x[:5], x[5:10]), work(x[:5], x[2:7]), work(x[:5], x[1:6]), work(x[:5], np.zeros(5)))
    """,
    "arrays of other classes": """
        def masked(x):
            burn()
            return np.ma.array(x, copy=False, mask=[1, 0, 0])
        def matrix(x):
            burn()
            return np.asmatrix(x)
        def fill(x):
            burn()
            x = x.copy()
            x[0] = 9
            return x.tolist(), x.hardmask
        def hard(n):
            burn()
            return np.ma.array([1.0, 2.0], mask=[1, 0], hard_mask=True)
        for _ in range(3):
            x = np.zeros(3)
            results = masked(x), matrix(x)
            x[:] = 4
            print(*results, hard(1).hardmask)
            print(fill(np.ma.array([1, 2], mask=[1, 0])), fill(np.ma.array([1, 2], mask=[1, 0], hard_mask=True)))
    """,
    "a frame over an array": """
        import pandas as pd
        def table(x):
            burn()
            return pd.DataFrame(x, copy=False)
        for _ in range(3):
            x = np.zeros((2, 2))
            frame = table(x)
            x[0, 0] = 5
            print(frame.iloc[0, 0])
    """,
    "attributes of a frame": """
        import pandas as pd
        import warnings; warnings.simplefilter("ignore")
        def told(frame):
            burn()
            return frame.meta
        def made(n):
            burn()
            frame = pd.DataFrame({"a": [n]})
            frame.note = "kept"
            return frame
        def noted(frame):
            burn()
            frame["b"] = 1
            frame.note = "kept"
        frame = pd.DataFrame({"a": [1]})
        for meta in ("one", "two", "one"):
            frame.meta = meta
            print(told(frame), made(1).note)
            other = pd.DataFrame({"a": [1]})
            noted(other)
            print(other.note)
    """,
    "a model that does not converge": """
        import warnings
        from sklearn.linear_model import LogisticRegression
        X = np.random.default_rng(0).random((2000, 10)); y = X[:, 0] > 0.5
        def fit(steps):
            return float(LogisticRegression(max_iter=steps).fit(X, y).coef_.sum())
        for _ in range(3):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                fit(1)
                model = LogisticRegression(max_iter=2)
                model.fit(X, y)
                print(len(seen))
    """,
}


@pytest.mark.parametrize("name", STATE)
def test_output_is_plain_pythons_whatever_state_a_call_has(name: str, tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(STATE[name]))
    assert reused == [plain, plain]


@pytest.mark.parametrize("name", ARRAYS)
def test_output_is_plain_pythons_whatever_arrays_and_frames_have(name: str, tmp_path: Path) -> None:
    for library in ("numpy", "torch", "pandas", "sklearn"):
        if library in "import numpy" + ARRAYS[name]:
            pytest.importorskip(library)
    plain, reused = plain_and_reused(tmp_path, "import numpy as np\n" + HEAVY + textwrap.dedent(ARRAYS[name]))
    assert reused == [plain, plain]


ANSWERED = {
    "columns with accessors": """
        import pandas as pd
        def work(frame):
            burn(1_000_000)
            return frame["a"].str.upper()
        frame = pd.DataFrame({"a": ["x", "y"]})
        frame["a"].str.lower()
        print([work(frame).tolist() for _ in map(str, range(4))])
    """,
    "tensors": """
        import torch
        def work(t):
            burn(1_000_000)
            return t + 1
        t = torch.ones(5)
        print([work(t).tolist() for _ in map(str, range(4))])
    """,
    "subclasses whose state can be seen": """
        import collections
        class Table(dict):
            def __init__(self, *args):
                super().__init__(*args)
                self.name = "table"
        class Point(collections.namedtuple("Point", "x y")):
            __slots__ = ()
        class Slotted:
            __slots__ = ("a", "b")
        class Row:
            def __init__(self, values):
                self.values = values
        def work(table, point, slotted, row):
            burn(1_000_000)
            return [len(table), table.name, point.x, slotted.a, row.values[0]]
        slotted = Slotted(); slotted.a = 1
        for _ in map(str, range(4)):
            print(work(Table({1: 2}), Point(1, 2), slotted, Row([1])))
    """,
    "warnings of others": """
        import warnings
        def loud(x):
            burn(1_000_000)
            warnings.warn("careful")
        def work(x):
            burn(1_000_000)
            return x
        for _ in map(str, range(4)):
            loud(1)
            print(work(1))
    """,
}


@pytest.mark.parametrize("name", ANSWERED)
def test_what_can_be_seen_is_answered(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("torch")
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(ANSWERED[name]), times=1)
    assert reused == [plain]
    assert sites(tmp_path)["work"]["reused"] == 3


PARTIAL = {
    "functions of math without numpy": """
        import math
        print(sum(math.log(i) + math.sin(i) for i in range(1, 50)))
        for i in range(1, 50):
            print(math.exp(-i), [1, 2].count(i))
    """,
    "several aggregates of a stack of tables": """
        import numpy as np, pandas as pd
        one = pd.DataFrame({"k": np.arange(40000) % 7, "v": np.arange(40000), "w": np.arange(40000) % 11})
        both = pd.concat([one, None, one], ignore_index=True)
        for _ in map(str, range(3)):
            print(both.groupby("k")[["v", "w"]].agg(["min", "max"]).sum().tolist(), both.groupby("k").agg({"v": "sum"}).sum().tolist())
            print(both.groupby("k").agg("sum").sum().tolist())
    """,
}


@pytest.mark.parametrize("name", PARTIAL)
def test_calls_that_are_no_stacks_are_left_alone_by_partial_reuse(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    plain, reused = plain_and_reused(tmp_path, HEAVY + textwrap.dedent(PARTIAL[name]), mode="--partial-reuse", times=1)
    assert reused == [plain]


def test_a_warning_is_told_again_by_a_later_run(tmp_path: Path) -> None:
    text = "import time, warnings\n" + HEAVY + "def work(x):\n    burn()\n    warnings.warn('careful')\n    return x\nprint([work(1) for _ in range(4)])\n"
    (tmp_path / "script.py").write_text(text)
    for _ in range(2):
        words = [sys.executable, *COMMAND, "run", "--reuse", "script.py"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr.count("UserWarning: careful") == 1

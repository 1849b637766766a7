"""What a call depends on besides its arguments, under ``run --reuse``: code wherever it stands, what hangs on modules, settings of the process."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.reused_scripts import HEAVY, plain_and_reused, sites

MODULES = {
    "helper.py": """
        import functools
        import inner
        K = 1
        def add(a, x): return a + x
        def fn(x): return x + K
        part = functools.partial(add, 2)
        class Adds:
            def __init__(self, v): self.v = v
            def __call__(self, x): return x + self.v
        made = Adds(5)
        pair = [lambda x: x + 1, lambda x: x + 2]
        class Meta(type):
            def __call__(cls, *given):
                made = super().__call__(*given)
                made.v += 1
                return made
        class Made(metaclass=Meta):
            def __init__(self, v): self.v = v
    """,
    "inner.py": "LIMIT = 3\n",
    "hanging.py": """
        import pandas as pd
        @pd.api.extensions.register_dataframe_accessor("own")
        class Own:
            def __init__(self, frame): self.frame = frame
            def middle(self): return float(self.frame.a.mean())
    """,
    "package/__init__.py": "",
    "package/inside.py": "Z = 3\ndef scale(x): return x * Z\n",
}

CASES = {
    "modules reached through modules": """
        import package.inside
        import helper
        def scaled(x): burn(); return package.inside.scale(x)
        def limited(x): burn(); return helper.inner.LIMIT * x
        print(scaled(2), scaled(2), limited(2), limited(2))
        helper.inner.LIMIT = 7; package.inside.Z = 5
        print(scaled(2), limited(2))
    """,
    "lambdas on one line": """
        import helper
        def call(fn, x): burn(); return fn(x)
        print(call(lambda q: q + 1, 1), call(lambda q: q + 2, 1))
        table = {"a": lambda x: x + 1, "b": lambda x: x * 20}
        print([call(each, 3) for each in (*table.values(), *helper.pair)])
        first, second = lambda x: 1, lambda x: 2
        print(call(first, 0), call(second, 0))
        def ordered(values, key): burn(); return sorted(values, key=key)
        print(ordered([1, -2], lambda v: v), ordered([1, -2], lambda v: -v))
        def total(x): burn(); return sum(i * x for i in range(3)) + sum(i + x for i in range(3)), [i for i in range(x)] + [i * i for i in range(x)]
        print(total(2), total(3))
    """,
    "objects of modules that are called": """
        from unittest.mock import patch
        import helper
        def work(x): burn(); return helper.fn(x) + helper.made(x) + helper.part(x)
        print(work(1), work(1))
        helper.made.v = 100
        print(work(1))
        helper.part = helper.functools.partial(helper.add, 9)
        print(work(1))
        with patch("helper.fn", return_value=33): print(work(1))
        with patch.object(helper, "K", 9): print(work(1))
        print(work(1))
    """,
    "clocks and looks at files as values": """
        import functools, time, os
        from datetime import datetime
        def tell(x, clock=time.monotonic): burn(); return clock()
        print(tell(1) == tell(1), tell(1, time.time_ns) == tell(1, time.time_ns), tell(1, datetime.now) == tell(1, datetime.now))
        print(tell(1, functools.partial(time.perf_counter)) == tell(1, functools.partial(time.perf_counter)))
        class Clock: now_is = staticmethod(time.perf_counter_ns); later = time.perf_counter_ns
        def told(x): burn(); return Clock.now_is()
        def told_later(x): burn(); return Clock.later()
        table = {"t": time.perf_counter_ns}
        def looked_up(x): burn(); return table["t"]()
        print(told(1) == told(1), told_later(1) == told_later(1), looked_up(1) == looked_up(1))
        def is_there(path, check=os.path.exists): burn(); return check(path)
        print(is_there("out.txt")); open("out.txt", "w").close(); print(is_there("out.txt"))
        import logging
        def made(x): burn(); return logging.LogRecord("a", 1, "p", 1, "m", (), None).created
        print(made(1) == made(1))
    """,
    "the working directory": """
        import os
        os.makedirs("sub", exist_ok=True)
        for name in ("data.txt", "sub/data.txt"): open(name, "w").write(name)
        def read(name): burn(); return os.path.basename(os.getcwd()), open(name).read()
        print(read("data.txt")[1]); os.chdir("sub"); print(read("data.txt")); os.chdir(".."); print(read("data.txt")[1])
    """,
    "settings of libraries": """
        import decimal, os, sys, time
        from datetime import datetime
        import numpy as np
        import pandas as pd
        import sklearn
        x = np.array([0.0, 1 / 3])
        frame = pd.DataFrame({"a": np.arange(100) / 3})
        def logs(x): burn(); return np.log(x)
        for mode in ("ignore", "raise", "ignore", "raise"):
            with np.errstate(all=mode):
                try: print(mode, logs(x))
                except FloatingPointError as error: print(error)
        def shown(x): burn(); return str(x)
        print(shown(x)); np.set_printoptions(precision=2); print(shown(x))
        with np.printoptions(precision=4): print(shown(x))
        print(shown(frame)); pd.set_option("display.max_rows", 4); print(shown(frame))
        with pd.option_context("display.float_format", lambda v: "x"): print(shown(frame))
        with pd.option_context("display.float_format", lambda v: "y"): print(shown(frame))
        def third(x): burn(); return decimal.Decimal(x) / 3
        print(third(1)); decimal.getcontext().prec = 6; print(third(1))
        def limit(x): burn(); return sys.getrecursionlimit()
        print(limit(1)); sys.setrecursionlimit(2000); print(limit(1))
        def hour(x): burn(); return datetime.fromtimestamp(x).hour
        for zone in ("UTC", "Asia/Tokyo"): os.environ["TZ"] = zone; time.tzset(); print(hour(0))
        def config(x): burn(); return sklearn.get_config()["assume_finite"]
        print(config(1)); sklearn.set_config(assume_finite=True); print(config(1))
    """,
    "settings that a call makes": """
        import numpy as np
        def prepare(digits): burn(); np.set_printoptions(precision=digits)
        for digits in (2, 4, 2, 4): prepare(digits); print(np.array([1 / 3]))
    """,
    "names in texts": """
        import pandas as pd
        LIMIT, TEXT = 2, "a > @LIMIT"
        def asked(d): burn(); return d.query("a > @LIMIT").a.sum()
        def told(d, k): burn(); return d.eval("a * @k + @LIMIT").sum()
        def bare(d): burn(); return int(pd.eval("LIMIT * 10"))
        def given(d): burn(); return d.query(TEXT).a.sum()
        d = pd.DataFrame({"a": [1, 2, 3, 4]})
        for LIMIT in (2, 3, 2, 1): print(asked(d), told(d, 3), told(d, 4), bare(d), given(d))
    """,
    "what the program hangs on classes of libraries": """
        from fractions import Fraction
        import pandas as pd
        pd.DataFrame.told = lambda self: "one"
        def work(d): burn(); return d.told()
        d = pd.DataFrame({"a": [1, 2]})
        print(work(d), work(d)); pd.DataFrame.told = lambda self: "two"; print(work(d))
        def shown(x): burn(); return str(x)
        print(shown(Fraction(1, 3))); Fraction.__str__ = lambda self: "own"; print(shown(Fraction(1, 3)))
    """,
    "what the program exchanges": """
        import abc, builtins, math, sys
        import numpy as np
        def work(x): burn(); return float(np.mean(x)) + math.sqrt(4)
        x, mean = np.arange(5.0), np.mean
        print(work(x)); np.mean = lambda v: 42.0; print(work(x)); np.mean = np.median; print(work(x ** 2))
        np.mean = mean; print(work(x), work(x ** 2)); math.sqrt = lambda v: -1.0; print(work(x))
        builtins.helper = lambda x: x * 2
        def helped(x): burn(); return helper(x)
        print(helped(2)); builtins.helper = lambda x: x * 3; print(helped(2))
        def say(x): burn(); print("said", x)
        plain = print; say(1); builtins.print = lambda *a: plain("own", *a); say(1); builtins.print = plain
        class Base: pass
        def count(x): burn(); return len(Base.__subclasses__())
        print(count(1)); One = type("One", (Base,), {}); print(count(1))
        class Shape(abc.ABC): pass
        class Square: pass
        def is_shape(x): burn(); return isinstance(x, Shape)
        print(is_shape(Square())); Shape.register(Square); print(is_shape(Square()), is_shape([]))
        K = 5
        def through(x): burn(); return sys.modules["__main__"].K * x, through.__globals__["K"]
        print(through(2)); K = 6; print(through(2))
    """,
}


EDITS = {
    "an object of a module": (
        "import helper\ndef work(x): burn(); return helper.part(x) + helper.made(x)\nprint(work(1))\n",
        "helper.py", ("add, 2", "add, 3"),
    ),
    "the class of an object of a module": (
        "import helper\ndef work(x): burn(); return helper.made(x)\nprint(work(1))\n",
        "helper.py", ("return x + self.v", "return x * self.v"),
    ),
    "a module in a package": (
        "import package.inside\ndef work(x): burn(); return package.inside.scale(x)\nprint(work(2))\n",
        "package/inside.py", ("Z = 3", "Z = 4"),
    ),
    "one of two lambdas": (
        "import helper\ndef work(fn, x): burn(); return fn(x)\nprint([work(each, 1) for each in helper.pair])\n",
        "helper.py", ("x + 1, lambda x: x + 2", "x + 1, lambda x: x + 3"),
    ),
    "an accessor of frames": (
        "import pandas as pd, hanging\ndef work(d): burn(); return d.own.middle()\nprint(work(pd.DataFrame({'a': [1.0, 4.0, 9.0]})))\n",
        "hanging.py", ("mean()", "max()"),
    ),
    "a metaclass": (
        "from helper import Made\ndef work(x): burn(); return Made(x).v\nprint(work(1))\n",
        "helper.py", ("made.v += 1", "made.v += 2"),
    ),
}  # fmt: skip


def written(folder: Path, modules: Mapping[str, str]) -> None:
    """Writes modules beside the script."""
    for name, text in modules.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def program(text: str) -> str:
    """Returns a script that has something to burn."""
    return HEAVY + textwrap.dedent(text).replace("burn()", "burn(400_000)")


@pytest.mark.parametrize("case", CASES)
def test_output_is_that_of_plain_python(tmp_path: Path, case: str) -> None:
    written(tmp_path, MODULES)
    plain, reused = plain_and_reused(tmp_path, program(CASES[case]))
    assert plain and reused == [plain, plain]


@pytest.mark.parametrize("case", EDITS)
def test_what_is_edited_beside_the_script_is_computed_anew(tmp_path: Path, case: str) -> None:
    text, name, (old, new) = EDITS[case]
    written(tmp_path, MODULES)
    before, reused = plain_and_reused(tmp_path, program(text))
    assert before and reused == [before, before]
    assert sites(tmp_path)["work"]["reused"]
    edited = (tmp_path / name).read_text().replace(old, new)
    (tmp_path / name).write_text(edited)
    os.utime(tmp_path / name, (2e9, 2e9))  # else Python takes what it compiled in the same second for it
    after, reused = plain_and_reused(tmp_path, program(text), times=1)
    assert reused == [after] and after != before

"""Positions: from every statement of a program, in every frame, the rest of it can be run elsewhere."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.capture import Reader
from dartvc.program.frames import is_supported
from dartvc.program.generators import GeneratorCodec
from dartvc.program.sources import Sources
from dartvc.program.stopping import Stopper

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")


def step_through(path: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(HERE / "stepping.py"), str(path), *options], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("options", [[], ["--watched"]])
def test_a_program_with_every_kind_of_statement_goes_on_from_each_of_them(options: list[str]) -> None:
    outcome = step_through(HERE / "every_statement.txt", *options)
    assert outcome["wrong"] == []
    assert outcome["resumed"] > (0 if options else 340)  # watched, some are answered, and parts of functions are computed as a whole
    refused = {reason.rpartition(": ")[2] for _, reason, _ in outcome["refused"]}
    assert refused <= {
        line
        for line in refused
        if any(word in line for word in ("plain call", "finally", "half evaluated", "through other code", "pending", "comprehension"))
    }


@pytest.mark.parametrize("options", [[], ["--watched"]])
@pytest.mark.parametrize(
    "body",
    [
        "total = 0\nfor i in range(4):\n    for j in (1, 2):\n        if j == 2: continue\n        total += i\nelse:\n    total *= 2\nprint(total)",
        "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nprint([f(5)], f(6) * f(3))",
        "class A:\n    def __call__(self, x):\n        y = x + 1\n        return y\na = A()\nz = a(1)\nw = {'k': a}['k'](z)\nprint(z, w)",
        "import functools\ndef g(a, b):\n    c = a * b\n    return c\nh = functools.partial(g, 3)\nprint(h(4) + h(5))",
        "def f(*args, k=1, **more):\n    n = len(args) + k\n    n += sum(more.values())\n    return n\nprint(f(1, 2, k=5, q=7))",
        "class B:\n    def go(self):\n        out = []\n        for x in 'ab':\n            out.append(x)\n        return out\n"
        "class C(B):\n    def go(self):\n        first = super().go()\n        keep = lambda: self\n        return first + [keep() is self]\nprint(C().go())",
        "n = 3\nwhile n:\n    n -= 1\n    try:\n        if n == 1:\n            raise KeyError(n)\n    except KeyError as e:\n        print('caught', e)\n"
        "        for k in range(2):\n            print(k)\n    else:\n        print('else', n)\nprint('end')",
        "import io\nout = []\ndef f(x):\n    y = x * 2\n    return y\nwith io.StringIO() as text, io.BytesIO():\n    for i in range(3):\n        v = f(i) + 1\n"
        "        out.append(f(v))\n        text.write(str(v))\n    else:\n        out.append('else')\n    print(out, text.getvalue())\nprint(v, i)",
        "def f(k):\n    z = k + 1\n    return z\nlast = None\ntry:\n    raise KeyError(3)\nexcept KeyError:\n    for k in (1, 2):\n        last = f(k)\n"
        "        while True:\n            last = max(last, f(last))\n            if last > 4:\n                break\nprint(last, k)",
        "def lm(x, c, reg):\n    a = []\n    for v in x:\n        a.append(v * c)\n    s = sum(a)\n    t = s / reg\n    return t\n"
        "for reg in (1, 2):\n    for c in (1, 2):\n        q = lm([1, 2], c, reg)\n        if q > 2:\n            continue\n        print(q)\nprint('end', q)",
        "import numpy as np\ndef mk(n, *, k=1.0):\n    a = np.full((n, n), k)\n    return a\nx = mk(2) @ mk(2, k=2.0)\nfor i in range(2):\n"
        "    y = np.dot(mk(2), mk(2) @ x) + (mk(2) @ mk(2))[mk(1, k=0).astype(int)[0]]\n    z = np.linalg.solve(a=mk(2) + np.eye(2), b=mk(2))\nprint(y, z)",
    ],
)
def test_small_programs_go_on_from_each_statement(tmp_path: Path, body: str, options: list[str]) -> None:
    program = tmp_path / "program.txt"
    program.write_text(body + "\n")
    outcome = step_through(program, *options)
    assert outcome["wrong"] == []
    assert outcome["resumed"] > (0 if options else 3)


CALLABLES = """
import functools
class Args:
    def go(self, n=1):
        return run(n)
    def __call__(self, n=1):
        return run(n)
def run(n=1):
    a = n + 1
    return a * 2
Args.run, table = staticmethod(run), {"a": run}
give = Args()
for turn in range(1, 2):
    x = 1 + CALLED(turn)
print(x)
"""


@pytest.mark.parametrize("options", [[], ["--watched"]])
def test_a_function_goes_on_whatever_expression_its_callable_was(tmp_path: Path, options: list[str]) -> None:
    ways = [
        *("{'a': run}['a']", "globals()['run']", "table.get('a', run)", "Args().run", "getattr(Args, 'run')", "(run if turn else table['a'])", "(run or None)"),
        *("functools.partial(run)", "functools.partial(functools.partial(give))", "Args()", "Args().go", "getattr(give, 'go')", "Args.go.__get__(give)"),
        *("[give][0]", "(lambda: run)()", "run", "give.run", "(kept := run)", "Args().go.__func__.__get__(Args())"),
    ]
    program = tmp_path / "program.txt"
    calls = " + ".join(f"{way}(turn)" for way in ways).replace("(kept := run)(turn)", "(kept := run)(*[turn], **{})")
    program.write_text(CALLABLES.replace("1 + CALLED(turn)", f"1 + {calls}"))
    outcome = step_through(program, *options)
    assert outcome["wrong"] == []
    assert not {5, 7, 9, 10} & {line for line, _, _ in outcome["refused"]}
    assert options or outcome["resumed"] > 2 * len(ways)


@pytest.mark.parametrize("way", ["list(map(run, [2]))", "sorted([2], key=run)", "cached(2)", "Made(2)", "functools.reduce(run, [2, 3])"])
def test_a_function_that_c_code_calls_is_no_place_to_go_on_from(tmp_path: Path, way: str) -> None:
    program = tmp_path / "program.txt"
    body = "import functools\ndef run(n, m=0):\n    a = n + m\n    return a\nclass Made:\n    def __init__(self, n):\n        self.n = n\n"
    program.write_text(f"{body}cached = functools.lru_cache(run)\nfor turn in range(2):\n    {way}\n    cached.cache_clear()\n")
    outcome = step_through(program)
    assert outcome["wrong"] == []
    assert {line for line, reason, _ in outcome["refused"] if "was called through other code" in reason} == ({7} if "Made" in way else {3, 4})
    assert not {3, 4, 7} & set(outcome["lines"])


def pairs(items: list[int]) -> Any:
    for index, item in enumerate(items):
        for sign in (1, -1):
            yield index, sign * item
    yield from "ab"


def test_a_suspended_generator_is_made_again_where_it_stood() -> None:
    codec = GeneratorCodec(Reader(Sources()))
    for steps in range(8):
        first = pairs([5, 6])
        for _ in range(steps):
            next(first, None)
        if first.gi_frame is None:
            break
        place, values, cells, stack = codec.take_apart(first)
        again = codec.make(globals(), json.loads(json.dumps(place)), dict(values), cells, copy.deepcopy(stack))
        for _ in range(2):  # made again, and not asked since, it can be taken apart like any other
            place, values, cells, stack = codec.take_apart(again)
            again = codec.make(globals(), json.loads(json.dumps(place)), dict(values), cells, copy.deepcopy(stack))
        assert list(again) == list(pairs([5, 6]))[steps:]


def test_a_running_generator_is_refused() -> None:
    codec = GeneratorCodec(Reader(Sources()))
    problems: list[str] = []

    def peek() -> Any:
        try:
            codec.take_apart(me[0])
        except ValueError as error:
            problems.append(str(error))
        yield 1

    me = [peek()]
    next(me[0])
    assert "running" in problems[0]


def test_a_tight_loop_stops_at_a_statement() -> None:
    stops: list[tuple[str, int]] = []
    namespace: dict[str, object] = {"stops": stops}
    source = "i = 0\nrequest()\nwhile not stops:\n    i += 1\n"
    code = compile(source, "loop.py", "exec")

    def on_stop(frame: types.FrameType) -> None:
        stops.append((frame.f_code.co_name, frame.f_lineno))

    stopper = Stopper(lambda each: each is code, on_stop)
    namespace["request"] = stopper.request
    exec(code, namespace)
    assert stops[0][0] == "<module>" and stops[0][1] in (3, 4)


def test_library_code_runs_untraced_and_the_stop_comes_when_it_returns() -> None:
    stops: list[int] = []
    traced: list[bool] = []

    def library() -> None:
        for _ in range(3):
            stopper.request()  # asked again while the library still runs, as a pacer does
            traced.append(sys.gettrace() is not None and stopper.is_requested)

    namespace: dict[str, object] = {"library": library}
    code = compile("library()\nx = 1\ny = 2\n", "user.py", "exec")

    def on_stop(frame: types.FrameType) -> None:
        stops.append(frame.f_lineno)

    stopper = Stopper(lambda each: each is code, on_stop)
    before = sys.gettrace()
    exec(code, namespace)
    assert stops == [2]
    if before is None:
        assert traced == [False, False, False]

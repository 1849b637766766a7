"""The slice of any program for any of its names makes the value that the whole program makes."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.lineage.traces.expressions import Surroundings
from dartvc.lineage.traces.slices import slice_of, slice_of_cells
from dartvc.lineage.traces.statements import Source
from dartvc.lineage.traces.tracer import Tracer

NAMES = ("a", "b", "c", "d")
LISTS = ("p", "q")
HEAD = [*(f"{name} = {number}" for number, name in enumerate(NAMES, 1)), "p = [1, 2]", "q = [3]"]
FUNCTIONS = """
def add(x, y):
    return x + y
def push(items, x):
    items.append(x)
    return len(items)
def pick(items, x):
    if x % 2:
        return items[-1]
    for each in items:
        if each > x:
            return each
    return x
class Counter:
    step = 1
    def __init__(self, start):
        self.total = start
    def count(self, x):
        self.total += x
        return self.total
"""


class NoWays:
    """A program of which no way is known."""

    def outcomes(self, file: str, node: ast.stmt) -> frozenset[int] | None:
        return None

    def note(self, file: str, node: ast.stmt) -> str:
        return ""


name = st.sampled_from(NAMES)
items = st.sampled_from(LISTS)
simple = st.one_of(
    st.builds("{} = {} + {}".format, name, name, name),
    st.builds("{} = {}".format, name, name),
    st.builds("{} += {}".format, name, name),
    st.builds("{}, {} = {}, {}".format, name, name, name, name),
    st.builds("{}.append({})".format, items, name),
    st.builds("{} = {}".format, items, items),
    st.builds("{} = list({})".format, items, items),
    st.builds("{}[-1] = {}".format, items, name),
    st.builds("{} = {}[0]".format, name, items),
    st.builds("{} = sum({})".format, name, items),
    st.builds("{} = [each * 2 for each in {} if each < {}]".format, items, items, name),
    st.builds("{} = add({}, {})".format, name, name, name),
    st.builds("{} = push({}, {})".format, name, items, name),
    st.builds("{} = pick({}, {})".format, name, items, name),
    st.builds("counter = Counter({})".format, name),
    st.builds("{} = counter.count({})".format, name, name),
    st.builds("counter.total = {}".format, name),
    st.builds("pair = ({}, {})".format, name, items),
    st.builds("{} = pair[0]".format, name),
    st.builds("pair[1].append({})".format, name),
    st.builds("{} = {} if {} > 3 else {}".format, name, name, name, name),
)


def indented(lines: list[str]) -> list[str]:
    """Returns lines one level deeper."""
    return [f"    {line}" for line in lines]


def compound(body: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    """Returns statements with others in them."""
    block = st.lists(body, min_size=1, max_size=3).map(lambda parts: [line for part in parts for line in part])
    return st.one_of(
        st.builds(lambda test, one, other: [f"if {test} % 2:", *indented(one), "else:", *indented(other)], name, block, block),
        st.builds(lambda test, one: [f"if {test} > 2:", *indented(one)], name, block),
        st.builds(lambda each, one: [f"for {each} in range(3):", *indented(one)], name, block),
        st.builds(lambda each, source, one: [f"for {each} in {source}[:3]:", *indented(one)], name, items, block),
        st.builds(lambda each, test, one: [f"for {each} in range(4):", f"    if {each} > {test}:", "        break", *indented(one)], name, name, block),
        st.builds(lambda each, test, one: [f"for {each} in range(4):", f"    if {each} == {test}:", "        continue", *indented(one)], name, name, block),
        st.builds(lambda one, other: ["try:", *indented(one), "except (IndexError, ValueError):", *indented(other)], block, block),
    )


statement = st.recursive(simple.map(lambda line: [line]), compound, max_leaves=6)
program = st.lists(statement, min_size=2, max_size=9).map(lambda parts: [line for part in parts for line in part])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(program, st.sampled_from((*NAMES, *LISTS)))
def test_a_slice_makes_the_value_that_the_program_makes(body: list[str], wanted: str) -> None:
    lines = [*FUNCTIONS.strip().splitlines(), *HEAD, "counter = Counter(0)", "pair = (a, p)", *body]
    text = "\n".join(lines)
    whole: dict[str, object] = {}
    try:
        exec(text, whole)
    except (IndexError, RecursionError, OverflowError, MemoryError):
        return
    tracer = Tracer(Surroundings(), NoWays(), lambda _: None)
    source = Source("program.py", ast.parse(text), lines)
    tracer.run(source)
    part = slice_of(tracer, wanted, source)
    made: dict[str, object] = {}
    exec(part, made)
    assert made[wanted] == whole[wanted], part


@pytest.mark.parametrize(
    ("program", "wanted", "gone"),
    [
        ("x = 1\ny = 2\nz = x + 1\n", "z", ["y = 2"]),
        ("x = []\ny = []\nx.append(1)\ny.append(2)\nz = len(x)\n", "z", ["y = []", "y.append(2)"]),
        ("def f(x):\n    unused = x * 3\n    return x + 1\ny = f(1)\nw = f(2)\n", "y", ["w = f(2)"]),
        ("import json, math\nx = math.pi\nprint(x)\ny = json.dumps([x])\n", "x", ["print(x)", "y = json.dumps([x])"]),
        ("total = 0\nrest = 0\nfor i in range(3):\n    total += i\n    rest -= i\n", "total", ["    rest -= i", "rest = 0"]),
        ("class A:\n    def f(self):\n        return 1\n    def g(self):\n        return 2\na = A()\nx = a.f()\ny = a.g()\n", "x", ["y = a.g()"]),
    ],
)
def test_what_a_value_does_not_need_is_left_out(program: str, wanted: str, gone: list[str]) -> None:
    tracer = Tracer(Surroundings(), NoWays(), lambda _: None)
    source = Source("program.py", ast.parse(program), program.splitlines())
    tracer.run(source)
    left = slice_of(tracer, wanted, source).splitlines()
    assert not set(gone) & set(left)
    assert len(left) < len(program.splitlines())


def test_cells_share_their_imports_and_definitions() -> None:
    texts = ("import math\nimport json", "def f(x):\n    return math.sqrt(x)", "a = f(4)\nb = json.dumps(a)")
    cells = [Source(f"In [{number}]", ast.parse(text), text.splitlines()) for number, text in enumerate(texts)]
    tracer = Tracer(Surroundings(), NoWays(), lambda _: None)
    for each in cells:
        tracer.run(each)
    text = slice_of_cells(tracer, "a", cells)
    assert text.splitlines() == ["import math", "def f(x):", "    return math.sqrt(x)", "a = f(4)"]

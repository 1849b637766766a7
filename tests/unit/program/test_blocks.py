"""Functions cut into blocks: they compute what they did, and a block is what a function could be."""

from __future__ import annotations

import ast
import builtins
import textwrap
import types
from typing import Any

import pytest

from dartvc.lineage import blocks as answered
from dartvc.lineage.sites import Site
from dartvc.program.blocks import cut_into_blocks, name_blocks
from dartvc.program.instrument import Compiler
from dartvc.program.sources import Sources, iter_codes
from dartvc.program.watched import is_block

SWITCH = "__switch"


def cut(text: str) -> tuple[ast.Module, int]:
    """Returns a module whose functions are cut, and how many blocks there are."""
    tree = ast.parse(textwrap.dedent(text))
    count = 0

    def next_block(line: int, in_loop: bool) -> str:
        nonlocal count
        count += 1
        return SWITCH

    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            cut_into_blocks(node, next_block, lambda statement: True)
    return ast.fix_missing_locations(tree), count


def run(text: str, hook: Any) -> dict[str, Any]:
    """Runs a cut module with this behind its switches."""
    tree, _ = cut(text)
    namespace: dict[str, Any] = {}
    setattr(builtins, SWITCH, hook)
    try:
        exec(name_blocks(compile(tree, "program.py", "exec")), namespace)
    finally:
        delattr(builtins, SWITCH)
    return namespace


PROGRAMS = {
    "a branch that may rebind a parameter": """
        def f(X, intercept, reg):
            if intercept:
                X = [*X, 1]
            total = sum(X)
            return total * reg
        out = [f([1, 2], i, r) for i in (0, 1) for r in (1, 2, 3)]
    """,
    "loops and names that are bound in them": """
        def f(rows, k):
            seen = []
            for row in rows:
                if row > 2:
                    continue
                seen.append(row * 2)
            while len(seen) > 3:
                seen.pop()
            return seen[:k]
        out = [f([1, 2, 3, 0, 1], k) for k in range(4)]
    """,
    "comprehensions over what is bound before": """
        def f(rows, k):
            base = len(rows)
            shifted = [each + base for each in rows if each]
            return shifted[k]
        out = [f([1, 2, 3], k) for k in range(3)]
    """,
    "two cuts": """
        def f(a, b, c):
            first = a * a + 1
            second = first + b * b
            return second - c
        out = [f(a, b, c) for a in (1, 2) for b in (3, 4) for c in (5, 6)]
    """,
    "a name that is bound in one branch and read in the same": """
        def f(a, b):
            x = abs(a)
            if x > 1:
                y = x + 1
                x = y * 2
            return x + b
        out = [f(a, b) for a in (-1, 2) for b in (3, 4)]
    """,
    "what a turn hands on, beside what only its target decides": """
        def g(x):
            return [x * x, x]
        def f(rows, weight):
            total = 0
            for row in rows:
                square = g(row)
                both = square[0] + square[1]
                total = total * 2 + both * weight
            return total, both
        out = [f([1, 2, 3], w) for w in (1, 2)]
    """,
    "a turn that ends early, and a name of the turn before": """
        def g(x):
            return x + 1
        def f(rows, limit):
            last, seen = 0, []
            for row in rows:
                if row == 2:
                    continue
                more = g(row)
                if more > limit:
                    break
                seen.append((last, more))
                last = g(more)
            else:
                seen.append("else")
            return seen, last
        out = [f([1, 2, 3, 4], limit) for limit in (2, 4, 9)]
    """,
    "loops in loops, in branches and in other loops' ends": """
        def g(*given):
            return sum(given)
        def f(names, flag):
            out, kept = [], 0
            for one in names:
                if flag:
                    for other in names:
                        base = g(one, 1)
                        near = g(base, 2)
                        kept = g(kept, near, other)
                        out.append(kept)
                else:
                    while kept < 40:
                        step = g(one, 3)
                        kept += step
            return out, kept
        out = [f([1, 2, 3], flag) for flag in (True, False)]
    """,
    "a name that only some turns bind": """
        def g(x):
            return x * 3
        def f(rows, scale):
            found = None
            for row in rows:
                half = g(row)
                if row % 2:
                    found = half
                    rest = found * scale
            return found, rest
        out = [f([1, 2, 3, 4], s) for s in (1, 5)]
    """,
    "a target that the turn changes": """
        def g(x):
            return x + 10
        def f(rows, k):
            out = []
            for i, row in enumerate(rows):
                row = g(row)
                i = g(row + 1)
                out.append((i, row, k))
            return out, i, row
        out = [f([1, 2], k) for k in (1, 2)]
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_function_that_was_cut_returns_what_it_did(name: str) -> None:
    plain: dict[str, Any] = {}
    exec(textwrap.dedent(PROGRAMS[name]), plain)
    assert cut(PROGRAMS[name])[1] >= 1
    assert run(PROGRAMS[name], lambda block, *given: block(*given))["out"] == plain["out"]
    assert run(PROGRAMS[name], None)["out"] == plain["out"]


@pytest.mark.parametrize(
    "text",
    [
        "def f(a):\n    x = abs(a)\n    return x\n",  # depends on all that there is
        "def f(a, b):\n    x = abs(a)\n    return lambda: x + b\n",  # a closure would see another variable
        "def f(a, b):\n    global x\n    x = abs(a)\n    return x + b\n",
        "def f(a, b):\n    if a:\n        x = abs(a)\n    return x + b\n",  # may stay unbound
        "def f(a, b):\n    if a:\n        return abs(a)\n    return b\n",
        "def f(a, b):\n    x = abs(a)\n    print(locals())\n    return x + b\n",
        "def f(a, b): x = abs(a); return x + b\n",  # no line of its own
        "def f(a, b):\n    with a as x:\n        y = x + 1\n    return y + b\n",
        "def f(a, b):\n    x = yield a + 1\n    return x + b\n",
        "def f(a):\n    for x in a:\n        y = g(x)\n        if y:\n            break\n",  # all of the turn depends on all that varies
        "def f(a):\n    t = 0\n    for x in a:\n        y = abs(x) + 1\n        t = t + y\n    return t\n",  # too quick to be asked about in each turn
        "def f(a):\n    t = 0\n    for x in a: y = g(x); t = t + y\n    return t\n",  # no line of its own
        "def f(a):\n    t = 0\n    for x in a:\n        if x:\n            y = g(x)\n        t = t + y\n    return t\n",  # bound in the turn before
    ],
)
def test_what_could_not_be_a_function_is_left_as_it_is(text: str) -> None:
    tree, count = cut(text)
    assert count == 0
    assert ast.dump(tree) == ast.dump(ast.parse(text))


def test_what_only_a_target_decides_is_one_block_in_all_turns() -> None:
    asked: list[tuple[Any, ...]] = []

    def hook(block: types.FunctionType, *given: Any) -> Any:
        asked.append(given)
        return block(*given)

    run(PROGRAMS["what a turn hands on, beside what only its target decides"], hook)
    assert asked == [(1,), (2,), (3,)] * 2  # whatever the weight is


def test_a_block_stands_on_its_own_lines_under_its_functions_name_and_is_known() -> None:
    codes: list[types.CodeType] = []

    def hook(block: types.FunctionType, *given: Any) -> Any:
        codes.append(block.__code__)
        return block(*given)

    run(PROGRAMS["two cuts"], hook)
    assert {code.co_name for code in codes} == {"f"}
    assert {code.co_firstlineno for code in codes} == {3, 4}
    assert all(is_block(code) for code in codes)
    assert not is_block(test_what_could_not_be_a_function_is_left_as_it_is.__code__)


def test_the_plain_code_of_a_block_has_no_switches_of_blocks_inside_it() -> None:
    """Else a part that is known by its code would be another one when a part of it is off, or when the file has one more function."""
    text = textwrap.dedent("""
        import g
        def f(rows, weight, unused):
            total = 0
            for row in rows:
                square = g.square(row)
                total = total + square * weight
            return total, unused
    """)
    numbers = iter(range(100))
    compiler = Compiler(Sources(), lambda *place: next(numbers), lambda *place: next(numbers))
    watched = [code for code in iter_codes(compiler.compile("program.py", text)) if is_block(code)]
    assert {code.co_qualname.count("__dvc_block__") for code in watched} >= {1, 2}
    assert any("__dvc_0__" in code.co_names for code in watched)
    plain = {compiler.plain(code) for code in watched}
    assert len(plain) == 2
    assert not [name for code in plain for name in (*code.co_names, *code.co_varnames) if name.startswith("__dvc")]


def _count(rows: list[int]) -> tuple[int]:
    return (len(rows),)


def test_a_part_of_a_turn_that_takes_long_is_left_to_be_committed_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Any = None  # nothing is asked of it before a part was seen to be worth it
    part: Any = _count
    for in_loop in (True, False):
        monkeypatch.setattr(answered, "_WORTH_S", 0.0)
        monkeypatch.setattr(answered, "_LONG_S", 0.0)
        block = answered.Block(Site("a part of f"), SWITCH, calls, in_loop=in_loop)
        assert block(part, [1, 2]) == (2,)
        assert block.site.is_off == in_loop

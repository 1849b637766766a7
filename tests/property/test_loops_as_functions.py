"""A script whose loops, and parts of their turns, are run as functions leaves the namespace that it leaves as it is, whatever its loops do."""

from __future__ import annotations

import ast
import builtins
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.lineage import blocks as answered
from dartvc.lineage.blocks import Block, Loop
from dartvc.lineage.sites import Site
from dartvc.program.blocks import cut_loops, name_blocks
from dartvc.program.watched import BLOCK, LOOP

NAMES = st.sampled_from("abc")
VALUES = st.sampled_from(("1", "-2", "a", "b", "c", "a + b", "len(rows)", "rows[-1]", "sum([x + 1 for x in rows])", "shown()", "shown()", "moved()", "moved()"))
SIMPLE = st.one_of(
    st.tuples(NAMES, VALUES).map(lambda each: f"{each[0]} = {each[1]}"),
    st.tuples(NAMES, VALUES).map(lambda each: f"{each[0]} += {each[1]}"),
    VALUES.map(lambda value: f"rows.append({value})"),
    VALUES.map(lambda value: f"said.append(str({value}))"),
    NAMES.map(lambda name: f"del {name}"),
    st.sampled_from(("break", "continue", "pass", "raise ValueError(len(rows))", "rows = rows[:4]", "other = rows")),
)


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for text in lines for line in text.split("\n"))


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bodies = st.lists(inner, min_size=1, max_size=3).map(_indented)
    return st.one_of(
        st.tuples(NAMES, st.integers(0, 3), bodies).map(lambda each: f"for {each[0]} in range({each[1]}):\n    len(rows)\n{each[2]}"),
        st.tuples(NAMES, bodies, bodies).map(lambda each: f"for {each[0]} in list(rows[:3]):\n{each[1]}\nelse:\n{each[2]}"),
        bodies.map(lambda body: f"while len(rows) < 4 and fuel.pop():\n    rows.append(1)\n{body}"),
        st.tuples(VALUES, bodies, bodies).map(lambda each: f"if {each[0]}:\n{each[1]}\nelse:\n{each[2]}"),
        bodies.map(lambda body: f"try:\n{body}\nexcept NameError:\n    said.append('none')"),
        st.tuples(NAMES, bodies).map(lambda each: f"try:\n{each[1]}\nexcept (NameError, ValueError) as {each[0]}:\n    said.append(str({each[0]}))"),
        st.tuples(bodies, bodies, bodies).map(lambda each: f"try:\n{each[0]}\nexcept ValueError:\n{each[1]}\nfinally:\n{each[2]}"),
        bodies.map(lambda body: f"with suppress(NameError, ValueError):\n{body}"),
    )


STATEMENTS = st.recursive(SIMPLE, _compound, max_leaves=12)
FUNCTIONS = st.sampled_from(
    (
        "def shown():\n    return len(rows)\ndef moved():\n    return 1",
        "def shown():\n    return a * 10\ndef moved():\n    return 1",
        "def shown():\n    return (lambda: b)()\ndef moved():\n    return 1",
        "def shown():\n    return 2\ndef moved():\n    global a\n    a = len(said)\n    return a",
    )
)


def _turn(names: list[str], before: list[str], between: list[str], after: list[str]) -> str:
    """Returns a loop whose turns begin with what its target alone decides, in another one or not."""
    outer, inner, target = names
    body = [*before, f"{target} = made({outer})", *between, f"said.append(str({target} + {inner}))", *after]
    return f"for {outer} in range(3):\n    for {inner} in range(2):\n{_indented([_indented(body)])}"


STEPS = st.lists(
    st.one_of(
        st.tuples(NAMES, NAMES).map(lambda each: f"{each[0]} = made({each[1]})"),
        st.tuples(NAMES, VALUES).map(lambda each: f"if {each[1].replace('shown()', 'made(1)').replace('moved()', 'made(2)')}:\n    {each[0]} += made(b)"),
        st.tuples(NAMES, NAMES).map(lambda each: f"for {each[0]} in range(2):\n    {each[1]} = made({each[0]})"),
        st.sampled_from(("rows = rows[:4]", "rows.append(a)", "if b > 9:\n    break", "if a > 9:\n    continue", "del c", "raise ValueError(len(said))")),
    ),
    max_size=2,
)
TURNS = st.builds(_turn, st.permutations("abc"), STEPS, STEPS, STEPS)


class _Plainly:
    """Answers nothing."""

    def invoke(self, site: Site, function: Any, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the loop, or the part of its turn."""
        return plain(*args, **kwargs)


def _outcome(code: Any) -> tuple[dict[str, Any], str]:
    namespace: dict[str, Any] = {"__name__": "__main__", "rows": [1, 2], "said": [], "fuel": [False, *[True] * 30]}
    raised = ""
    try:
        exec(code, namespace)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    return {name: value for name, value in namespace.items() if not callable(value) and name != "__builtins__"}, raised


def _check(functions: str, statements: list[str], *, are_loops_on: bool) -> None:
    """Runs a script as it is, and with its loops and their parts as functions; both leave the same."""
    ending = "for last in rows:\n    a = len(said) + a"
    text = "\n".join(["from contextlib import suppress", functions, "a = b = c = 1", *statements, ending])
    try:
        plain = compile(text, "script.py", "exec")
    except SyntaxError:  # break outside of a loop
        return
    switches: list[str] = []
    calls: Any = _Plainly()

    def next_block(line: int, in_loop: bool) -> str:
        switch = f"__dvc_test_{len(switches)}__"
        part = Block(Site("a part of a loop", is_part=True), switch, calls, in_loop=True)
        hook = part if in_loop else Loop(Site("a loop", is_loop=True), switch, calls) if are_loops_on else None
        setattr(builtins, switch, hook)
        switches.append(switch)
        return switch

    tree = ast.parse(text)
    cut_loops(tree, text, lambda loop: True, next_block)
    try:
        with mock.patch.object(answered, "_WORTH_S", 0.0):
            left = _outcome(name_blocks(compile(tree, "script.py", "exec")))
    finally:
        for name in switches:
            delattr(builtins, name)
    assert left == _outcome(plain)
    assert not {BLOCK, LOOP} & left[0].keys()


@settings(max_examples=800, deadline=None)
@given(FUNCTIONS, st.lists(STATEMENTS, min_size=2, max_size=6))
def test_loops_that_run_as_functions_leave_the_same_namespace(functions: str, statements: list[str]) -> None:
    _check(functions, statements, are_loops_on=True)


@settings(max_examples=400, deadline=None)
@given(st.lists(TURNS, min_size=1, max_size=3), st.booleans())
def test_parts_of_their_turns_leave_the_same_namespace(statements: list[str], are_loops_on: bool) -> None:
    _check("def made(x):\n    said.append('made')\n    return x * 2 if x < 50 else rows[x]", statements, are_loops_on=are_loops_on)

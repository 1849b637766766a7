"""A script whose loops are run as functions leaves the namespace that it leaves as it is, whatever its loops do."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.lineage.blocks import Loop
from dartvc.lineage.sites import Site
from dartvc.program.blocks import cut_loops, name_blocks
from dartvc.program.watched import BLOCK

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


class _Plainly:
    """Answers nothing."""

    def invoke(self, site: Site, function: Any, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the loop."""
        return plain(*args, **kwargs)


def _outcome(code: Any) -> tuple[dict[str, Any], str]:
    namespace: dict[str, Any] = {"__name__": "__main__", "rows": [1, 2], "said": [], "fuel": [False, *[True] * 30]}
    raised = ""
    try:
        exec(code, namespace)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    return {name: value for name, value in namespace.items() if not callable(value) and name != "__builtins__"}, raised


@settings(max_examples=800, deadline=None)
@given(FUNCTIONS, st.lists(STATEMENTS, min_size=2, max_size=6))
def test_loops_that_run_as_functions_leave_the_same_namespace(functions: str, statements: list[str]) -> None:
    text = "\n".join(["from contextlib import suppress", functions, "a = b = c = 1", *statements, "for last in rows:\n    a = len(said) + a"])
    try:
        plain = compile(text, "script.py", "exec")
    except SyntaxError:  # break outside of a loop
        return
    switches: list[str] = []

    def next_block(line: int) -> str:
        switches.append(f"__dvc_test_{len(switches)}__")
        setattr(builtins, switches[-1], Loop(Site("a loop", is_loop=True), switches[-1], _Plainly()))  # type: ignore[arg-type]
        return switches[-1]

    tree = ast.parse(text)
    cut_loops(tree, text, lambda loop: True, next_block)
    try:
        assert _outcome(name_blocks(compile(tree, "script.py", "exec"))) == _outcome(plain)
    finally:
        for name in switches:
            delattr(builtins, name)
    assert BLOCK not in _outcome(plain)[0]

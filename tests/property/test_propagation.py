"""Propagation, held against rewritten programs: the log statements of a program must arrive where they stand in its rewritten twin, or be refused."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.hindsight.propagation.sourcetext import Insertion
from dartvc.porcelain.propagating import Propagation, propagate_source

PROGRAMS = [path.read_text() for path in sorted((Path(__file__).parents[1] / "unit" / "hindsight" / "programs").glob("*.txt"))]
LOG = "dartvc.log("


def is_log(node: ast.stmt) -> bool:
    """Tells whether a statement is a log statement."""
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith(LOG)


def iter_blocks(tree: ast.AST) -> Iterator[tuple[ast.AST, list[ast.stmt]]]:
    """Yields every block of statements with its owner."""
    for node in ast.walk(tree):
        for label in ("body", "orelse", "finalbody"):
            block = getattr(node, label, None)
            if isinstance(block, list) and block:
                yield node, block


def rename_variable(tree: ast.Module, choose: random.Random) -> None:
    """Renames a variable of one function, or of the module."""
    scope = choose.choice([node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Module)])
    own = {node.id for node in ast.walk(scope) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in ast.walk(scope) if isinstance(node, ast.arg)} - {"self"}
    if not own:
        return
    name = choose.choice(sorted(own))
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and node.id == name:
            node.id += "_renamed"
        elif isinstance(node, ast.arg) and node.arg == name:
            node.arg += "_renamed"
        elif isinstance(node, ast.ExceptHandler) and node.name == name:
            node.name += "_renamed"


def rename_attribute(tree: ast.Module, choose: random.Random) -> None:
    """Renames an attribute that the program makes itself."""
    own = sorted({node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)})
    name = choose.choice(own) if own else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == name:
            node.attr = f"other_{name}"


def rename_function(tree: ast.Module, choose: random.Random) -> None:
    """Renames a function and every use of it."""
    name = choose.choice(
        [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")] or [""]
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.name = f"do_{name}"
        elif isinstance(node, ast.Name) and node.id == name:
            node.id = f"do_{name}"
        elif isinstance(node, ast.Attribute) and node.attr == name:
            node.attr = f"do_{name}"


def insert_statement(tree: ast.Module, choose: random.Random) -> None:
    """Adds a statement that has nothing to do with the rest, not right between a log and what it follows."""
    owner, block = choose.choice(list(iter_blocks(tree)))
    index = choose.randrange(len(block))
    is_guard = isinstance(block[index], ast.If) and bool(logged(block[index]))
    if isinstance(owner, ast.ClassDef) or is_log(block[index]) or is_guard or (owner is tree and index < 5):
        return
    number = choose.randrange(1000)
    block[index:index] = ast.parse(choose.choice([f"aside_{number} = {number} * 3", f"print('at', {number})"])).body


def wrap_statements(tree: ast.Module, choose: random.Random) -> None:
    """Puts some statements under a guard, no log at its edges: on which side of an edge it belongs is a matter of taste."""
    owner, block = choose.choice(list(iter_blocks(tree)))
    first = choose.randrange(len(block))
    last = choose.randrange(first + 1, len(block) + 1)
    inside = block[first:last]
    is_plain = not any(isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef) for node in inside)
    at_edge = [block[first], block[last - 1], *block[last : last + 1]]
    if isinstance(owner, ast.ClassDef | ast.Module) or not is_plain or any(logged(node) for node in at_edge):
        return
    guard = ast.parse(choose.choice(["with print():\n    pass", "if print:\n    pass"])).body[0]
    assert isinstance(guard, ast.With | ast.If)
    guard.body = inside
    block[first:last] = [guard]


def reorder_definitions(tree: ast.Module, choose: random.Random) -> None:
    """Swaps two definitions at the top."""
    places = [number for number, node in enumerate(tree.body) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if len(places) >= 2:
        one, other = choose.sample(places, 2)
        tree.body[one], tree.body[other] = tree.body[other], tree.body[one]


REWRITES: list[Callable[[ast.Module, random.Random], None]] = [
    rename_variable, rename_attribute, rename_function, insert_statement, wrap_statements, reorder_definitions,
]  # fmt: skip


def without_logs(tree: ast.Module, keep: set[str]) -> ast.Module:
    """Returns a copy without the log statements, but for those of some names; a guard that held only them goes too."""
    stripped = copy.deepcopy(tree)
    for _ in range(2):
        for _, block in list(iter_blocks(stripped)):
            block[:] = [node for node in block if not is_log(node) or name_of(node) in keep] or [ast.Pass()]
            block[:] = [node for node in block if not (isinstance(node, ast.If) and isinstance(node.body[0], ast.Pass))] or [ast.Pass()]
    return stripped


def name_of(node: ast.stmt) -> str:
    """Returns the name that a log statement logs under."""
    assert isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return str(ast.literal_eval(node.value.args[0]))


def logged(tree: ast.AST) -> set[str]:
    """Returns the names that are logged inside of a node."""
    return {name_of(node) for node in ast.walk(tree) if isinstance(node, ast.stmt) and is_log(node)}


def refused_names(new: str, done: Propagation) -> set[str]:
    """Returns the names whose log statements were refused."""
    lines = {each.new_line for each in done.refusals}
    return {name for node in ast.walk(ast.parse(new)) if isinstance(node, ast.stmt) and node.lineno in lines for name in logged(node)}


def text_without(text: str, insertions: tuple[Insertion, ...]) -> str:
    """Takes insertions out of the text that has them."""
    for each in insertions:
        assert text.startswith(each.text, each.offset)
        text = text[: each.offset] + text[each.offset + len(each.text) :]
    return text


def normal(tree: ast.Module) -> str:
    """Returns a tree as text."""
    return ast.unparse(ast.parse(ast.unparse(ast.fix_missing_locations(tree))))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(PROGRAMS), st.randoms(use_true_random=False), st.integers(1, 6), st.booleans())
def test_logs_arrive_where_they_stand_in_the_rewritten_program_or_are_refused(
    program: str, choose: random.Random, count: int, is_new_rewritten: bool
) -> None:
    tree = ast.parse(program)
    rewritten = copy.deepcopy(tree)
    for _ in range(count):
        choose.choice(REWRITES)(rewritten, choose)
    new_tree, wanted = (rewritten, tree) if is_new_rewritten else (tree, rewritten)
    new = normal(new_tree)
    kept = {name for name in sorted(logged(wanted)) if choose.random() < 0.3}
    done = propagate_source(normal(without_logs(wanted, kept)), new)
    refused = refused_names(new, done)
    assert normal(ast.parse(done.text)) == normal(without_logs(wanted, logged(wanted) - (refused - kept)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(PROGRAMS), st.randoms(use_true_random=False), st.integers(0, 6))
def test_what_is_added_can_be_taken_out_again_and_is_not_added_twice(program: str, choose: random.Random, count: int) -> None:
    tree = ast.parse(program)
    for _ in range(count):
        choose.choice(REWRITES)(tree, choose)
    old = normal(without_logs(tree, set()))
    done = propagate_source(old, program)
    ast.parse(done.text)
    assert text_without(done.text, done.insertions) == old
    again = propagate_source(done.text, program)
    assert again.text == done.text
    assert not again.placements


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(PROGRAMS), st.randoms(use_true_random=False))
def test_an_identical_program_gets_exactly_the_lines_that_it_lacks(program: str, choose: random.Random) -> None:
    lines = program.splitlines(keepends=True)
    logs = [
        number for number, line in enumerate(lines) if line.strip().startswith(LOG) and not lines[number - 1].strip().startswith("if i")
    ]
    gone = {number for number in logs if choose.random() < 0.7}
    old = "".join(line for number, line in enumerate(lines) if number not in gone)
    done = propagate_source(old, program)
    assert done.text == program
    assert not done.refusals

"""A place inside a function: the path to a statement in the syntax tree, and what the value stack holds there.

`Place.items` lists what lies on the stack from the bottom: the iterator of each loop around the place, the exit of each ``with`` item, the
exception that was being handled before each ``except`` block. `pending_operands` lists what an unfinished expression has evaluated before a call.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from dartvc.model.records import NamedTuple
from dartvc.program.sources import Scope

__all__ = ["SELF", "NotResumable", "Path", "Place", "Range", "block_of", "path_of", "path_to_await", "path_to_call", "pending_operands", "range_of_node"]

SELF = ast.Constant(value=...)
"""Among pending operands: the second slot of a callable, which the interpreter fills with the method's object or a null pointer."""

Path = tuple[tuple[str, int], ...]
"""From a scope to a statement: pairs of (field of the node, index in it); an index of -1 for a field that is no list."""

Range = tuple[int, int, int, int]
"""Line, column, end line, end column."""


class NotResumable(Exception):
    """The program cannot be continued from here; the text says why."""


class Place(NamedTuple):
    """A statement of a scope and what its surroundings keep on the value stack."""

    path: Path
    statement: ast.stmt
    items: tuple[str, ...]


def path_of(scope: Scope, statement: ast.stmt, *, in_loop: bool = False) -> Place:
    """Returns where a statement stands.

    Args:
        scope: the function or module.
        statement: one of its statements.
        in_loop: the place is the head of this ``for`` loop, with its iterator made already.

    Raises:
        NotResumable: it stands where control flow depends on more than the place (a ``finally`` block, a class body).
    """
    found = _find(scope, statement, (), ())
    if found is None:
        raise NotResumable("the statement is not in the source")
    path, items = found
    return Place(path, statement, (*items, "iterator") if in_loop else items)


def _find(node: ast.AST, wanted: ast.stmt, path: Path, items: tuple[str, ...]) -> tuple[Path, tuple[str, ...]] | None:
    for field, index, child, inside in _blocks(node, items):
        here = (*path, (field, index))
        if child is wanted:
            if inside is None:
                raise NotResumable(f"line {wanted.lineno} is in a finally block")
            return here, inside
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.lineno <= wanted.lineno <= (child.end_lineno or child.lineno):
            if inside is None:
                raise NotResumable(f"line {wanted.lineno} is in a finally block")
            found = _find(child, wanted, here, inside)
            if found is not None:
                return found
    return None


def _blocks(node: ast.AST, items: tuple[str, ...]) -> Sequence[tuple[str, int, ast.stmt, tuple[str, ...] | None]]:
    """Lists a node's child statements with the stack items inside them; None where a place cannot be resumed."""
    listed: list[tuple[str, int, ast.stmt, tuple[str, ...] | None]] = []

    def add(field: str, statements: Sequence[ast.stmt], inside: tuple[str, ...] | None) -> None:
        listed.extend((field, index, each, inside) for index, each in enumerate(statements))

    if isinstance(node, ast.For | ast.AsyncFor):
        add("body", node.body, (*items, "iterator"))
        add("orelse", node.orelse, items)
    elif isinstance(node, ast.With | ast.AsyncWith):
        add("body", node.body, (*items, *["exit"] * len(node.items)))
    elif isinstance(node, ast.Try):
        add("body", node.body, items)
        for index, handler in enumerate(node.handlers):
            listed.extend((f"handlers.{index}", at, each, (*items, "exception")) for at, each in enumerate(handler.body))
        add("orelse", node.orelse, items)
        add("finalbody", node.finalbody, None)
    elif isinstance(node, ast.Match):
        for index, case in enumerate(node.cases):
            add(f"cases.{index}", case.body, items)
    elif isinstance(node, ast.TryStar):
        add("body", node.body, items)
        for index, handler in enumerate(node.handlers):
            add(f"handlers.{index}", handler.body, None)
        add("orelse", node.orelse, items)
        add("finalbody", node.finalbody, None)
    else:
        add("body", getattr(node, "body", ()), items)
        add("orelse", getattr(node, "orelse", ()), items)
    return listed


def block_of(node: ast.AST, field: str) -> list[ast.stmt]:
    """Returns the list of statements that a step of a path leads into."""
    name, _, index = field.partition(".")
    if index:
        part = getattr(node, name)[int(index)]
        return part.body  # type: ignore[no-any-return]
    return getattr(node, name)  # type: ignore[no-any-return]


def path_to_call(statement: ast.stmt, place: Range) -> tuple[list[ast.AST], ast.Call]:
    """Returns the expressions from a statement down to the call at a range of the source, and the call.

    Raises:
        NotResumable: what runs there is not a plain call (an operator, a property, the exit of a ``with`` block).
    """

    def is_there(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (node.end_lineno, node.end_col_offset) == place[2:]

    matches = _paths_to(statement, lambda node: is_there(node) or (isinstance(node, ast.Call) and range_of_node(node) == place))
    exact = [match for match in matches if range_of_node(match[1]) == place] or matches
    if len(exact) != 1:
        raise NotResumable(f"line {place[0]} runs code other than by a plain call")
    return exact[0]


def path_to_await(statement: ast.stmt, place: Range) -> tuple[list[ast.AST], ast.Await]:
    """Returns the expressions from a statement down to the ``await`` at a range of the source, and that.

    Raises:
        NotResumable: it stands in a comprehension.
    """
    matches: list[tuple[list[ast.AST], ast.Await]] = _paths_to(statement, lambda node: isinstance(node, ast.Await) and range_of_node(node) == place)
    if len(matches) != 1:
        raise NotResumable(f"line {place[0]} awaits inside a comprehension")
    return matches[0]


def _paths_to(statement: ast.stmt, is_wanted: Callable[[ast.AST], bool]) -> list[tuple[list[ast.AST], Any]]:
    matches: list[tuple[list[ast.AST], Any]] = []

    def visit(node: ast.AST, above: list[ast.AST]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                continue
            if is_wanted(child):
                matches.append(([*above, node], child))
            visit(child, [*above, node])

    visit(statement, [])
    return matches


def range_of_node(node: ast.AST) -> Range:
    """Returns where a node stands in its source."""
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


def pending_operands(above: list[ast.AST], call: ast.expr, version: tuple[int, int]) -> list[ast.expr | None]:
    """Lists what the expressions around a call have left on the value stack before it, bottom first; None for a null pointer, `SELF` behind a callable.

    Raises:
        NotResumable: an expression of a kind whose evaluation order is not handled.
    """
    operands: list[ast.expr | None] = []
    for node, child in zip(above, [*above[1:], call], strict=True):
        operands.extend(_left_of(node, child, version))
    return operands


def _left_of(node: ast.AST, child: ast.AST, version: tuple[int, int]) -> list[ast.expr | None]:
    if isinstance(node, ast.stmt):
        return _left_in_statement(node, child)
    if isinstance(node, ast.withitem | ast.Attribute | ast.UnaryOp | ast.FormattedValue | ast.NamedExpr | ast.keyword | ast.Starred | ast.Await):
        return []
    if isinstance(node, ast.Call):
        return _left_in_call(node, child, version)
    if isinstance(node, ast.BinOp):
        return [] if child is node.left else [node.left]
    if isinstance(node, ast.Subscript):
        return [] if child is node.value else [node.value]
    if isinstance(node, ast.BoolOp | ast.IfExp):
        return []
    if isinstance(node, ast.Compare) and (child is node.left or child is node.comparators[0]):
        return [] if child is node.left else [node.left]
    if isinstance(node, ast.Tuple | ast.List | ast.Set) and not any(isinstance(each, ast.Starred) for each in node.elts):
        return list(node.elts[: node.elts.index(child)])  # type: ignore[arg-type]
    if isinstance(node, ast.JoinedStr):
        return list(node.values[: node.values.index(child)])  # type: ignore[arg-type]
    raise NotResumable(f"the call stands inside an expression of kind {type(node).__name__}")


def _left_in_call(node: ast.Call, child: ast.AST, version: tuple[int, int]) -> list[ast.expr | None]:
    if any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords):
        raise NotResumable("the call is an argument of another with * or **")
    if child is node.func:
        return [None] if version < (3, 13) and not isinstance(child, ast.Attribute) else []
    before: list[ast.expr | None] = [node.func, SELF]
    for each in (*node.args, *node.keywords):
        if each is child:
            return before
        before.append(each.value if isinstance(each, ast.keyword) else each)  # type: ignore[arg-type]
    raise NotResumable("the call is not an argument")


def _left_in_statement(node: ast.stmt, child: ast.AST) -> list[ast.expr | None]:
    if isinstance(node, ast.AugAssign):
        target = node.target
        if isinstance(target, ast.Name):
            return [target]
        if isinstance(target, ast.Attribute):
            return [target.value, target]
        if isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Slice):
            return [target.value, target.slice, target]
        raise NotResumable("the target is a slice")
    if isinstance(node, ast.With | ast.AsyncWith):
        if child is node.items[0]:
            return []
        raise NotResumable("the call enters a second with item")
    if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.Return | ast.If | ast.While | ast.For | ast.AsyncFor | ast.Raise | ast.Assert):
        return []
    raise NotResumable(f"the call stands in a statement of kind {type(node).__name__}")

"""The number of an iteration of a ``while`` loop, where a variable of the program counts it.

A ``while`` loop has no iterator that knows how far it is. But when its body adds a constant to a variable once in each iteration, and nothing else
in the loop binds that, its value tells one iteration from another and which comes first.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

__all__ = ["Counter", "find_counter", "may_continue", "number_of"]


@dataclass(frozen=True, slots=True)
class Counter:
    """A variable that counts iterations.

    Attributes:
        name: of the variable.
        step: what is added to it.
        statement: which does that, directly in the loop's body.
    """

    name: str
    step: int
    statement: ast.stmt


def find_counter(loop: ast.While, tree: ast.AST) -> Counter | None:
    """Returns what counts the iterations of a loop; None when nothing certainly does.

    Args:
        loop: the loop.
        tree: of the file that it stands in.
    """
    shared = {name for each in ast.walk(tree) if isinstance(each, ast.Global | ast.Nonlocal) for name in each.names}
    for statement in loop.body:
        counted = _counted(statement)
        if counted is not None and counted[0] not in shared and _bindings(loop, counted[0]) == 1:
            return Counter(*counted, statement)
        if may_continue(statement):
            return None
    return None


def number_of(value: object, step: int, is_counted: bool) -> int | None:
    """Returns what orders the iterations of a loop, from its counter's value; None when that is no whole number.

    Args:
        value: of the variable.
        step: what is added to it in each iteration.
        is_counted: whether that was done already in the present one.
    """
    if not isinstance(value, int):
        return None
    counted = value if step > 0 else -value
    return counted // abs(step) - is_counted


def _counted(statement: ast.stmt) -> tuple[str, int] | None:
    """Returns the variable that a statement adds a constant to, and the constant."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        name, operation, left, right = statement.target.id, statement.op, None, statement.value
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name) and isinstance(statement.value, ast.BinOp):
        name, operation, left, right = statement.targets[0].id, statement.value.op, statement.value.left, statement.value.right
        if isinstance(right, ast.Name) and isinstance(operation, ast.Add):
            left, right = right, left
        if len(statement.targets) > 1 or not isinstance(left, ast.Name) or left.id != name:
            return None
    else:
        return None
    if not isinstance(right, ast.Constant) or type(right.value) is not int or right.value <= 0:
        return None
    if isinstance(operation, ast.Add):
        return name, right.value
    return (name, -right.value) if isinstance(operation, ast.Sub) else None


def _bindings(loop: ast.While, name: str) -> int:
    """Returns how often a variable is bound or deleted inside a loop."""
    names = sum(isinstance(each, ast.Name) and each.id == name and not isinstance(each.ctx, ast.Load) for each in ast.walk(loop))
    others = (str(getattr(each, "name", None) or getattr(each, "rest", None)) for each in ast.walk(loop))  # definitions, handlers, patterns
    imported = (each.asname or each.name.partition(".")[0] for each in ast.walk(loop) if isinstance(each, ast.alias))
    return names + sum(each == name for each in others) + sum(each == name for each in imported)


def may_continue(statement: ast.AST) -> bool:
    """Whether a statement of a loop's body may go on with the next iteration."""
    if isinstance(statement, ast.Continue):
        return True
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    if isinstance(statement, ast.For | ast.While | ast.AsyncFor):
        return any(map(may_continue, statement.orelse))
    return any(map(may_continue, ast.iter_child_nodes(statement)))

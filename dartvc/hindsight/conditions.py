"""Conditions over columns as SQL: ``epoch > 5 and lr < 0.1`` is evaluated where the records are, so that what it excludes is never read.

The grammar is that of `dartvc.porcelain.expressions`: comparisons, arithmetic, ``and``, ``or``, ``not``, ``in`` over names and literals. A missing value makes
a comparison false, and so does comparing a number with a text. A name that is no identifier stands in backticks, as in pandas: `` `val/acc` > 0.9 ``; a local of a
function may stand as it is listed: ``main().loss < 0.1``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from dartvc.errors import UsageError

__all__ = ["condition_sql", "names_in", "parse_condition", "parse_expression"]

_HINT = "for example 'epoch > 5 and loss < 0.1'"
_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=", ast.NotEq: "<>"}
_QUOTED = re.compile(r"`([^`]+)`")
_NUMBERS = "('integer', 'real')"


def parse_condition(text: str) -> ast.expr:
    """Parses a condition.

    Raises:
        UsageError: it is no expression, or more than a condition over scalars.
    """
    tree = parse_expression(text)
    condition_sql(tree, lambda name: (name, []))
    return tree


def parse_expression(text: str) -> ast.expr:
    """Parses an expression in which names may stand in backticks, and locals of functions as they are listed.

    Raises:
        UsageError: it is no expression.
    """
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        return quoted.setdefault(match[1], f"_quoted_{len(quoted)}_")

    try:
        tree = ast.parse(_QUOTED.sub(stand_in, text.strip()), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{text!r} is not an expression: {error}", kind="expression", hint=_HINT) from None
    found: ast.expr = _Names({given: name for name, given in quoted.items()}).visit(tree)
    return found


class _Names(ast.NodeTransformer):
    """Puts the names that are meant in the place of what stands for them."""

    def __init__(self, meant: dict[str, str]) -> None:
        self._meant = meant

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._meant.get(node.id, node.id), ast.Load())

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        call = node.value
        is_local = isinstance(call, ast.Call) and not call.args and not call.keywords and isinstance(call.func, ast.Name | ast.Attribute)
        return ast.Name(ast.unparse(node), ast.Load()) if is_local else self.generic_visit(node)


def names_in(condition: ast.expr) -> list[str]:
    """Returns the names that a condition mentions, each once."""
    return list(dict.fromkeys(node.id for node in ast.walk(condition) if isinstance(node, ast.Name)))


def condition_sql(node: ast.expr, column: Callable[[str], tuple[str, list[object]]]) -> tuple[str, list[object]]:
    """Returns a condition as SQL, with its parameters.

    Args:
        node: the condition.
        column: gives the SQL of a name, with its parameters.

    Raises:
        UsageError: it has anything that is no condition over scalars, such as a call.
    """
    if isinstance(node, ast.BoolOp):
        joint = " AND " if isinstance(node.op, ast.And) else " OR "
        return _joined([_truth(condition_sql(part, column)) for part in node.values], joint)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        text, given = _truth(condition_sql(node.operand, column))
        return f"(NOT {text})", given
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        text, given = condition_sql(node.operand, column)
        return f"({'-' if isinstance(node.op, ast.USub) else '+'}{text})", given
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return _joined([_compared(op, sides[at], sides[at + 1], column) for at, op in enumerate(node.ops)], " AND ")
    if isinstance(node, ast.BinOp):
        left, right = condition_sql(node.left, column), condition_sql(node.right, column)
        return _arithmetic(node, left, right)
    if isinstance(node, ast.Name):
        return column(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str | None):
        return ("NULL", []) if node.value is None else ("?", [node.value])
    raise UsageError(f"{ast.unparse(node)!r} is more than a condition over scalars", kind="expression", hint=_HINT)


def _joined(parts: list[tuple[str, list[object]]], joint: str) -> tuple[str, list[object]]:
    return "(" + joint.join(text for text, _ in parts) + ")", [each for _, given in parts for each in given]


def _truth(part: tuple[str, list[object]]) -> tuple[str, list[object]]:
    return f"coalesce({part[0]}, 0)", part[1]


def _arithmetic(node: ast.BinOp, left: tuple[str, list[object]], right: tuple[str, list[object]]) -> tuple[str, list[object]]:
    given = [*left[1], *right[1]]
    if type(node.op) in _BINARY:
        return f"({left[0]} {_BINARY[type(node.op)]} {right[0]})", given
    if isinstance(node.op, ast.Div):
        return f"(1.0 * {left[0]} / {right[0]})", given
    if isinstance(node.op, ast.Mod):  # Python's sign, not C's
        return f"((({left[0]} % {right[0]}) + {right[0]}) % {right[0]})", [*given, *right[1], *right[1]]
    if isinstance(node.op, ast.FloorDiv):
        quotient = f"(1.0 * {left[0]} / {right[0]})"
        return f"(CAST({quotient} AS INTEGER) - ({quotient} < CAST({quotient} AS INTEGER)))", given * 3
    raise UsageError(f"{ast.unparse(node)!r} is more than a condition over scalars", kind="expression", hint=_HINT)


def _compared(
    op: ast.cmpop, left: ast.expr, right: ast.expr, column: Callable[[str], tuple[str, list[object]]]
) -> tuple[str, list[object]]:
    one, given = condition_sql(left, column)
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            raise UsageError(f"{ast.unparse(right)!r} is no list of literals", kind="expression", hint="for example 'seed in (1, 2)'")
        text, further = _joined([condition_sql(each, column) for each in right.elts], ", ")
        return f"coalesce({one} {'IN' if isinstance(op, ast.In) else 'NOT IN'} {text}, 0)", [*given, *further]
    other, further = condition_sql(right, column)
    is_with_none = any(isinstance(each, ast.Constant) and each.value is None for each in (left, right))
    if isinstance(op, ast.Is | ast.IsNot) or (is_with_none and isinstance(op, ast.Eq | ast.NotEq)):
        is_same = isinstance(op, ast.Is | ast.Eq)
        return f"({one} IS {'' if is_same else 'NOT '}{other})", [*given, *further]
    if type(op) not in _COMPARE:
        raise UsageError(f"{ast.unparse(left)!r} is compared in a way that is not known", kind="expression", hint=_HINT)
    parameters = [*given, *further]
    text = f"{one} {_COMPARE[type(op)]} {other}"
    if isinstance(op, ast.Eq | ast.NotEq):
        return f"coalesce({text}, 0)", parameters
    guards = []
    for node, sql, own in ((left, one, given), (right, other, further)):
        against = right if node is left else left
        if not isinstance(node, ast.Constant) and isinstance(against, ast.Constant):
            kinds = "('text')" if isinstance(against.value, str) else _NUMBERS
            guards.append(f"typeof({sql}) IN {kinds}")
            parameters = [*own, *parameters]
    return f"coalesce({' AND '.join([*guards, text])}, 0)", parameters

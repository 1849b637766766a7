"""Conditions over the scalars of a commit, read from summaries: ``loss < 0.1 and epoch >= 5``. Nothing is unpickled or executed."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from dartvc.errors import NotFoundError, UsageError
from dartvc.hindsight.conditions import names_in, parse_expression
from dartvc.history import Repository
from dartvc.model import Oid

__all__ = ["can_tell", "evaluate", "holds", "names_of", "require_names"]

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda left, right: left in right, ast.NotIn: lambda left, right: left not in right, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip


def holds(repository: Repository, oid: Oid, expression: str) -> bool:
    """Whether a condition holds at a commit; False where a name is missing or is no scalar."""
    tree = parse_expression(expression)
    entries = repository.names(oid)
    values: dict[str, object] = {}
    for name in names_in(tree):
        meant = _meant(name, entries)
        if len(meant) == 1:
            summary = repository.summary(entries[meant[0]])
            try:
                values[name] = ast.literal_eval(str(summary["repr"]))
            except (KeyError, ValueError, SyntaxError):
                if summary.get("repr") in ("nan", "inf", "-inf"):
                    values[name] = float(str(summary["repr"]))
    try:
        return bool(evaluate(tree, values))
    except (KeyError, TypeError, ZeroDivisionError):
        return False


def can_tell(repository: Repository, oid: Oid, expression: str) -> bool:
    """Whether a commit has all the names of a condition: locals are there as long as their function runs."""
    entries = repository.names(oid)
    return all(len(_meant(name, entries)) == 1 for name in names_of(expression))


def names_of(expression: str) -> list[str]:
    """Returns the names that a condition asks for, each once."""
    return names_in(parse_expression(expression))


def _meant(name: str, known: Collection[str]) -> list[str]:
    """Returns what a name may mean: a global one, or one as it is listed, else locals of functions."""
    return [name] if name in known else [each for each in known if each.endswith(f"().{name}") and "._." not in each]


def require_names(repository: Repository, tips: Sequence[Oid], names: Iterable[str]) -> None:
    """Looks for names that no commit ever had: for when nothing was found, so that a slip of the pen is not taken for an answer.

    Raises:
        NotFoundError: no commit up to ``tips`` has one of the names, or several functions have it; the hint suggests what there is.
    """
    missing = set(names).difference(*(repository.names(tip) for tip in tips))
    known: set[str] = set()
    for commit in repository.iter_log(tips) if missing else ():
        known.update(commit.added)
        missing.difference_update(commit.added)
        if not missing:
            return
    for name in sorted(missing):
        meant = sorted(_meant(name, known))
        if len(meant) == 1:
            continue
        if meant:
            raise NotFoundError(f"several functions have a variable {name!r}", kind="unknown-name", hint=f"one of {', '.join(meant)}")
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "dvc-state ls"
        raise NotFoundError(f"no commit has a variable {name!r}", kind="unknown-name", hint=hint)


def evaluate(node: ast.expr, values: Mapping[str, object]) -> Any:
    """Evaluates comparisons, arithmetic and boolean operators over named scalars and literals.

    Raises:
        UsageError: the expression has anything else, such as a call.
        KeyError: a name is unknown.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BoolOp):
        results = (evaluate(part, values) for part in node.values)
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if isinstance(node, ast.UnaryOp):
        operand = evaluate(node.operand, values)
        return not operand if isinstance(node.op, ast.Not) else -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](evaluate(node.left, values), evaluate(node.right, values))
    if isinstance(node, ast.Compare):
        left = evaluate(node.left, values)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = evaluate(part, values)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True
    if isinstance(node, ast.Tuple | ast.List):
        return [evaluate(part, values) for part in node.elts]
    raise UsageError(
        f"{ast.unparse(node)!r} is more than a condition over scalars", kind="expression", hint="for example 'loss < 0.1 and epoch > 5'"
    )

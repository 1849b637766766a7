"""What the code of a commit says about one of its names: the statements that make it, and the names that these read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Making", "makings_of"]


@dataclass(frozen=True, slots=True)
class Making:
    """A statement that binds or changes a name: its line in the code, its first line as text, the names that it reads."""

    line: int
    text: str
    reads: tuple[str, ...]


def makings_of(code: str, name: str) -> list[Making]:
    """Returns the statements of a cell or script that bind a name or change its object, in the order of the source; none where it is no Python.

    Args:
        code: the text; lines of IPython's own (``%``, ``!``) are passed over.
        name: of a local in a run (``main().loss``) the last part counts.
    """
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())
    try:
        tree = ast.parse(plain)
    except (SyntaxError, ValueError, RecursionError):
        return []
    short = name.rpartition("().")[2]
    lines = plain.splitlines()
    found = []
    for statement in _statements(tree):
        if short in _written(statement):
            reads = dict.fromkeys(each.id for part in _parts(statement) for each in ast.walk(part) if _is_read(each, statement))  # type: ignore[attr-defined]
            found.append(Making(statement.lineno, lines[statement.lineno - 1].strip(), tuple(reads)))
    return found


def _is_read(node: ast.AST, statement: ast.stmt) -> bool:
    if not isinstance(node, ast.Name):
        return False
    return isinstance(node.ctx, ast.Load) or (isinstance(statement, ast.AugAssign) and node is statement.target)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            yield node


def _parts(statement: ast.stmt) -> list[ast.AST]:
    """Returns what a statement itself consists of: the head of a compound one, the whole of a definition."""
    if isinstance(statement, ast.For | ast.AsyncFor):
        return [statement.target, statement.iter]
    if isinstance(statement, ast.With | ast.AsyncWith):
        return list(statement.items)
    if isinstance(statement, ast.If | ast.While | ast.Try | ast.Match):
        return []
    return [statement]


def _written(statement: ast.stmt) -> set[str]:
    """Returns the names that a statement binds, and those whose object it changes in a way that shows: ``x[0] = 1``, ``x.a = 1``, ``x.append(1)``."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    names: set[str] = set()
    for part in _parts(statement):
        for node in ast.walk(part):
            if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
                names.add(_root(node))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and isinstance(statement.value.func, ast.Attribute):
        names.add(_root(statement.value.func))
    return names - {""}


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""

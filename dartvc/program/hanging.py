"""What a program hangs on the classes of others: ``pd.DataFrame.total = ...``, a class that is given to a registry under a name."""

from __future__ import annotations

import ast

from dartvc.model.records import NamedTuple

__all__ = ["Hung", "find_hung"]


class Hung(NamedTuple):
    """Something that is hung on what a file imports.

    Attributes:
        filename: the file that does it.
        place: the dotted name that is assigned to; empty for what is registered.
        definition: the function or class that is registered; empty for what is assigned.
        name: the attribute under which it is reached.
    """

    filename: str
    place: str
    definition: str
    name: str


def find_hung(tree: ast.Module, filename: str) -> list[Hung]:
    """Returns what a file hangs on what it imports, as far as its own statements tell."""
    nodes = list(ast.walk(tree))
    imports = [each for each in nodes if isinstance(each, ast.Import | ast.ImportFrom)]
    imported = {(alias.asname or alias.name).split(".")[0] for each in imports for alias in each.names}
    found: list[Hung] = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root(node) in imported:
            found.append(Hung(filename, ast.unparse(node), "", node.attr))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for each in node.decorator_list:
                given = each.args[0] if isinstance(each, ast.Call) and each.args and _root(each.func) in imported else None
                if isinstance(given, ast.Constant) and isinstance(given.value, str):
                    found.append(Hung(filename, "", node.name, given.value))
    return found


def _root(node: ast.expr) -> str:
    """Returns the name that a chain of attributes begins with; empty for any other expression."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""

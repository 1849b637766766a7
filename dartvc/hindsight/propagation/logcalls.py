"""Which calls are log calls: ``dartvc.log(...)`` and ``flor.log(...)``, under whatever name the source imports them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["LogCalls"]

_MODULES = frozenset({"dartvc", "dartvc.flor", "flor", "flordb"})


class LogCalls:
    """The log calls of one module, and the functions of the user that do nothing but log.

    Args:
        tree: the module.
        nodes: all its nodes.
    """

    def __init__(self, tree: ast.Module, nodes: list[ast.AST]) -> None:
        self._modules = {"dartvc", "flor", "flordb"}
        self._functions: set[str] = set()
        self.recorders: set[str] = set()
        bound: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in _MODULES and alias.asname:
                        self._modules.add(alias.asname)
            elif isinstance(node, ast.ImportFrom) and node.module in _MODULES:
                self._functions |= {alias.asname or alias.name for alias in node.names if alias.name == "log"}
                self._modules |= {alias.asname or alias.name for alias in node.names if alias.name == "flor"}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        for node in nodes:
            if isinstance(node, ast.Assign) and self.is_log_function(node.value) and len(node.targets) == 1:
                target = node.targets[0]
                if isinstance(target, ast.Name):
                    self._functions.add(target.id)
        self._modules -= bound
        self.recorders = {definition.name for definition in self._iter_recorders(tree, nodes)}
        self.calls = [node for node in nodes if isinstance(node, ast.Call) and self.is_log_call(node)]

    def is_log_call(self, node: ast.AST) -> bool:
        """Tells whether a node is a log call, or a call of a function that only logs."""
        if not isinstance(node, ast.Call):
            return False
        return self.is_log_function(node.func) or (isinstance(node.func, ast.Name) and node.func.id in self.recorders)

    def is_log_statement(self, node: ast.stmt) -> bool:
        """Tells whether a statement does nothing but log."""
        return isinstance(node, ast.Expr) and self._only_logs(node.value)

    def logged_value(self, node: ast.AST) -> ast.expr | None:
        """Returns the expression that a log call passes through as its value; None for anything else."""
        if not isinstance(node, ast.Call) or not self.is_log_function(node.func):
            return None
        if len(node.args) >= 2 and not isinstance(node.args[1], ast.Starred):
            return node.args[1]
        return next((each.value for each in node.keywords if each.arg == "value"), None)

    def find_calls(self, node: ast.AST) -> list[ast.Call]:
        """Returns the log calls inside a node, itself included, in the order of the walk."""
        return [each for each in ast.walk(node) if isinstance(each, ast.Call) and self.is_log_call(each)]

    def _only_logs(self, node: ast.expr) -> bool:
        if self.is_log_call(node):
            return True
        match node:
            case ast.IfExp():
                return self._only_logs(node.body) and (isinstance(node.orelse, ast.Constant) or self._only_logs(node.orelse))
            case ast.BoolOp():
                return self._only_logs(node.values[-1])
            case ast.Tuple() | ast.List():
                return bool(node.elts) and all(self._only_logs(each) for each in node.elts)
            case ast.ListComp() | ast.SetComp():
                return self._only_logs(node.elt)
            case ast.DictComp():
                return self._only_logs(node.value)
            case ast.Await():
                return self._only_logs(node.value)
        return False

    def is_log_function(self, node: ast.expr) -> bool:
        """Tells whether an expression names the function that logs."""
        if isinstance(node, ast.Name):
            return node.id in self._functions
        if not isinstance(node, ast.Attribute) or node.attr != "log":
            return False
        return ast.unparse(node.value) == "dartvc.flor" or (isinstance(node.value, ast.Name) and node.value.id in self._modules)

    def _iter_recorders(self, tree: ast.Module, nodes: list[ast.AST]) -> Iterator[ast.FunctionDef]:
        """Yields functions whose only effect is to log, and which are called for nothing else."""
        definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        found = {name: node for name, node in definitions.items() if self.find_calls(node) and all(map(self._is_record_only, node.body))}
        if not found:
            return
        plain_calls = {
            id(node.value.func)
            for node in nodes
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        }
        for node in nodes:
            if isinstance(node, ast.Name) and node.id in found and id(node) not in plain_calls:
                del found[node.id]
        yield from found.values()

    def _is_record_only(self, node: ast.stmt) -> bool:
        match node:
            case ast.Pass() | ast.Import() | ast.ImportFrom():
                return True
            case ast.Expr():
                return isinstance(node.value, ast.Constant) or self._only_logs(node.value)
            case ast.Return():
                return node.value is None
            case ast.Assign():
                return all(isinstance(target, ast.Name) for target in node.targets) and not _carries_on(node)
            case ast.For() if _counts(node.iter):
                return False
            case ast.If() | ast.For() | ast.With():
                return all(map(self._is_record_only, [*node.body, *getattr(node, "orelse", [])]))
        return False


def _carries_on(node: ast.Assign) -> bool:
    """Whether an assignment makes a variable from itself, as the steps of a computation do."""
    names = {target.id for target in node.targets if isinstance(target, ast.Name)}
    return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node.value))


def _counts(iterable: ast.expr) -> bool:
    """Whether a loop counts, as loops over epochs do, and does not go over what is there."""
    if not (isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range"):
        return False
    return not any(isinstance(each, ast.Call) for argument in iterable.args for each in ast.walk(argument))

"""Which names statements read and bind: what a part of a function needs to be given, and what it leaves behind."""

from __future__ import annotations

import ast
from collections.abc import Iterable

__all__ = ["Flow", "loads", "stores"]


def loads(nodes: Iterable[ast.AST]) -> set[str]:
    """Returns the names that are read, those that ``+=`` adds to among them."""
    inside = [each for node in nodes for each in ast.walk(node)]
    added = {each.target.id for each in inside if isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name)}
    return added | {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def stores(nodes: Iterable[ast.AST]) -> set[str]:
    """Returns the names that are bound, other than in comprehensions, which have their own."""
    pending, names = list(nodes), set()
    while pending:
        each = pending.pop()
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names.add(each.id)
        pending.extend([each.iter, *each.ifs] if isinstance(each, ast.comprehension) else ast.iter_child_nodes(each))
    return names


class Flow:
    """What a run of statements needs to be bound before, and what it has bound for certain afterwards.

    Args:
        local_names: the names that are local to the function.
    """

    def __init__(self, local_names: set[str]) -> None:
        self._local_names = local_names
        self.needed: set[str] = set()
        self.bound: set[str] = set()
        self.stored: set[str] = set()

    def block(self, statements: list[ast.stmt]) -> None:
        """Takes statements, in order."""
        for each in statements:
            self._take(each)

    def _read(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                inside = {name for each in ast.walk(node) if isinstance(each, ast.comprehension) for name in stores([each.target])}
                self.needed |= (loads([node]) & self._local_names) - self.bound - (inside - self._local_names)

    def _bind(self, target: ast.expr) -> None:
        names = stores([target])
        self.stored |= names
        self.bound |= names

    def _take(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            self._read(node.value, *node.targets)
            for target in node.targets:
                self._bind(target)
        elif isinstance(node, ast.AugAssign):
            self._read(node.value, node)
            self._bind(node.target)
        elif isinstance(node, ast.AnnAssign):
            self._read(node.value, node.target)
            if node.value is not None:
                self._bind(node.target)
        elif isinstance(node, ast.If):
            self._read(node.test)
            before = set(self.bound)
            self.block(node.body)
            after, self.bound = self.bound, before
            self.block(node.orelse)
            self.bound &= after
        elif isinstance(node, ast.For | ast.While):
            self._read(node.iter if isinstance(node, ast.For) else node.test)
            before = set(self.bound)
            if isinstance(node, ast.For):
                self._bind(node.target)
            self.block(node.body)
            self.bound = set(before)
            self.block(node.orelse)
            self.bound = before
        elif isinstance(node, ast.With):
            for item in node.items:
                self._read(item.context_expr)
                if item.optional_vars is not None:
                    self._bind(item.optional_vars)
            before = set(self.bound)
            self.block(node.body)
            self.bound = before  # it may have ended an exception in the middle
        elif isinstance(node, ast.Try):
            self._take_try(node)
        else:
            self._read(node)

    def _take_try(self, node: ast.Try) -> None:
        before = set(self.bound)
        self.block(node.body)
        self.block(node.orelse)
        ends = [self.bound]
        for handler in node.handlers:
            self.bound = set(before)
            self._read(handler.type)
            self.block(handler.body)
            ends.append(self.bound)
        self.bound = set(before)
        self.block(node.finalbody)
        self.bound |= set.intersection(*ends)

"""One version of a module with what is worked out about it once, however many other versions it is held against."""

from __future__ import annotations

import ast
from functools import cached_property

from dartvc.errors import UsageError
from dartvc.hindsight.propagation.flow import Flow, iter_bindings
from dartvc.hindsight.propagation.likeness import home_of
from dartvc.hindsight.propagation.renames import Name
from dartvc.hindsight.propagation.scopes import Scope
from dartvc.hindsight.propagation.sourcetext import SourceText
from dartvc.hindsight.propagation.statements import Block, Program, Statement, header_nodes
from dartvc.hindsight.propagation.units import root_name

__all__ = ["Version", "too_deep"]

_TELLING = frozenset({"print", "tqdm", "display"})


def too_deep(source: SourceText) -> UsageError:
    """Returns the error for a source whose expressions are nested beyond what Python's own recursion takes."""
    return UsageError(
        f"{source.filename} has expressions that are nested too deeply to compare", kind="too-deep", hint="split them into statements"
    )


class Version(Program):
    """A program with its reaching definitions and with what each statement changes.

    Raises:
        UsageError: its expressions are nested too deeply.
    """

    def __init__(self, source: SourceText) -> None:
        try:
            super().__init__(source)
        except RecursionError:
            raise too_deep(source) from None
        self._flows: dict[Scope, Flow] = {}

    def flow(self, scope: Scope) -> Flow:
        """Returns the reaching definitions of a scope."""
        if scope not in self._flows:
            self._flows[scope] = Flow(self, scope)
        return self._flows[scope]

    @cached_property
    def changes(self) -> dict[Statement, frozenset[Name] | None]:
        """What each statement's header binds or may change; None: a call for its effect, which may change anything."""
        return {statement: self._changes_of(statement) for statement in self.statements}

    def _changes_of(self, statement: Statement) -> frozenset[Name] | None:
        if statement.is_log:
            return frozenset()
        node = statement.node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            function = call.func if isinstance(call, ast.Call) else call
            root = root_name(function)
            return frozenset() if root is not None and root.id in _TELLING else None
        names = {(statement.scope.home(name), name) for name in iter_bindings(statement)}
        for each in header_nodes(statement):
            if isinstance(each, ast.Attribute | ast.Subscript) and isinstance(each.ctx, ast.Store | ast.Del):
                root = root_name(each)
                if root is not None:
                    names.add((home_of(self, root, root.id), root.id))
        return frozenset(names)

    def first_index(self, block: Block) -> int:
        """Returns the first place in a block where a statement may be added: after a docstring and ``from __future__``."""
        index = 0
        is_body = block.label == "body" and (block.owner is None or block.owner.family in ("function", "ClassDef"))
        for number, statement in enumerate(block.statements):
            node = statement.node
            is_text = (
                number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            )
            if is_body and (is_text or (isinstance(node, ast.ImportFrom) and node.module == "__future__")):
                index = number + 1
        return index

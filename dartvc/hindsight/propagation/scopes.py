"""Where names live: the scopes of a module, what each binds, and which scope a name in the source belongs to."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["Scope", "ScopeMap"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Scope:
    """A module, class, function, lambda or comprehension, and the names that it binds."""

    __slots__ = ("bound", "global_names", "kind", "node", "nonlocal_names", "parent")

    def __init__(self, kind: str, node: ast.AST, parent: Scope | None) -> None:
        self.kind = kind
        self.node = node
        self.parent = parent
        self.bound: set[str] = set()
        self.global_names: set[str] = set()
        self.nonlocal_names: set[str] = set()

    def home(self, name: str) -> Scope | None:
        """Returns the scope that a name used here belongs to; None: a builtin, or unknown."""
        scope: Scope | None = self
        if name in self.global_names:
            while scope is not None and scope.parent is not None:
                scope = scope.parent
            return scope if scope is not None and name in scope.bound else None
        while scope is not None:
            is_visible = scope is self or scope.kind != "class"
            if is_visible and name in scope.bound and name not in scope.nonlocal_names and name not in scope.global_names:
                return scope
            scope = scope.parent
        return None

    def is_within(self, other: Scope) -> bool:
        """Tells whether this scope is another one or nested in it."""
        scope: Scope | None = self
        while scope is not None and scope is not other:
            scope = scope.parent
        return scope is other


class ScopeMap:
    """The scopes of one module: for each node that names something, the scope in which the name is looked up."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope("module", tree, None)
        self.of: dict[ast.AST, Scope] = {}
        self.own: dict[ast.AST, Scope] = {tree: self.module}
        for statement in tree.body:
            self._visit(statement, self.module)

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        self.of[node] = scope
        for name in _bound_names(node):
            _binding_scope(node, scope).bound.add(name)
        if isinstance(node, ast.Global):
            scope.global_names.update(node.names)
            self.module.bound.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            scope.nonlocal_names.update(node.names)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            self._visit_definition(node, scope)
        elif isinstance(node, _COMPREHENSIONS):
            inner = self.own[node] = Scope("comprehension", node, scope)
            self._visit(node.generators[0].iter, scope)
            for child in _children(node, skip=node.generators[0].iter):
                self._visit(child, inner)
        else:
            for child in ast.iter_child_nodes(node):
                self._visit(child, scope)

    def _visit_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef, scope: Scope) -> None:
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        inner = self.own[node] = Scope(kind, node, scope)
        outside: list[ast.AST] = list(getattr(node, "decorator_list", []))
        if isinstance(node, ast.ClassDef):
            outside += [*node.bases, *node.keywords]
        else:
            arguments = node.args
            self.of[arguments] = inner
            outside += [*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)]
            for arg in _parameters(arguments):
                inner.bound.add(arg.arg)
                self.of[arg] = inner
                if arg.annotation is not None:
                    outside.append(arg.annotation)
            if getattr(node, "returns", None) is not None:
                outside.append(node.returns)  # type: ignore[union-attr, arg-type]
        for child in outside:
            self._visit(child, scope)
        body = node.body if isinstance(node.body, list) else [node.body]
        for each in body:
            self._visit(each, inner)


def _parameters(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (each for each in (arguments.vararg, arguments.kwarg) if each is not None)


def _binding_scope(node: ast.AST, scope: Scope) -> Scope:
    """Returns the scope in which a node binds: a walrus in a comprehension binds outside of it, but for its own loop variables."""
    if isinstance(node, ast.Name) and scope.kind == "comprehension":
        assert isinstance(scope.node, _COMPREHENSIONS)
        targets = {id(each) for generator in scope.node.generators for each in ast.walk(generator.target)}
        while id(node) not in targets and scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
    return scope


def _bound_names(node: ast.AST) -> Iterator[str]:
    """Yields the names that a node itself binds in its scope."""
    match node:
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.alias():
            yield node.asname or node.name.split(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name


def _children(node: ast.AST, skip: ast.AST) -> Iterator[ast.AST]:
    """Yields the children of a comprehension, its first iterable left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            yield from (each for each in ast.iter_child_nodes(child) if each is not skip)
        else:
            yield child

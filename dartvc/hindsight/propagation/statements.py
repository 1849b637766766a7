"""A module as a tree of statements and blocks, each statement with the atoms that it is compared by."""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from dartvc.hindsight.propagation.logcalls import LogCalls
from dartvc.hindsight.propagation.scopes import Scope, ScopeMap
from dartvc.hindsight.propagation.sourcetext import SourceText

__all__ = ["Atom", "Block", "Program", "Statement", "header_nodes"]

Atom = tuple[str, str, ast.AST | None]
"""(tag, value, node): tag ``s`` structure, ``n`` a name, ``b`` a bound name, ``a`` an attribute, ``k`` a keyword, ``c`` a constant, ``i`` a module."""

_FAMILIES: dict[type[ast.stmt], str] = {
    ast.Assign: "assign",
    ast.AugAssign: "assign",
    ast.AnnAssign: "assign",
    ast.For: "loop",
    ast.AsyncFor: "loop",
    ast.While: "loop",
    ast.FunctionDef: "function",
    ast.AsyncFunctionDef: "function",
    ast.With: "with",
    ast.AsyncWith: "with",
    ast.Import: "import",
    ast.ImportFrom: "import",
}
_TRY = (ast.Try, ast.TryStar)
_SKIPPED = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})


@dataclass(eq=False, slots=True, repr=False)
class Block:
    """A sequence of statements: a body, an ``else``, a handler, a case."""

    owner: Statement | None
    label: str
    scope: Scope
    header: list[Atom] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)


@dataclass(eq=False, repr=False)
class Statement:
    """One statement of a module; ``first`` and ``last`` number it and the statements inside it in the order of the text."""

    node: ast.stmt
    block: Block
    index: int
    first: int
    is_log: bool
    atoms: list[Atom]
    last: int = 0
    blocks: list[Block] = field(default_factory=list)

    @property
    def scope(self) -> Scope:
        """The scope that the statement stands in."""
        return self.block.scope

    @property
    def line(self) -> int:
        """Its first line, without decorators."""
        return self.node.lineno

    @cached_property
    def family(self) -> str:
        """The kind of statement; forms that may stand for each other have one kind."""
        return "log" if self.is_log else _FAMILIES.get(type(self.node), type(self.node).__name__)

    @cached_property
    def shape(self) -> int:
        """A hash of the header's syntax without names and constants."""
        return hash(tuple(value if tag == "s" else tag for tag, value, _ in self.all_atoms))

    @cached_property
    def all_atoms(self) -> list[Atom]:
        """The atoms of the header and of the headers of its blocks."""
        return [*self.atoms, *(atom for block in self.blocks for atom in block.header)]

    @property
    def size(self) -> int:
        """How many statements it is made of, itself included."""
        return self.last - self.first + 1

    def ancestors(self) -> Iterator[Statement]:
        """Yields the statements around it, innermost first."""
        owner = self.block.owner
        while owner is not None:
            yield owner
            owner = owner.block.owner

    def encloses(self, other: Statement) -> bool:
        """Tells whether another statement is this one or inside it."""
        return self.first <= other.first <= self.last


def header_nodes(statement: Statement) -> Iterator[ast.AST]:
    """Yields the nodes of a statement that are no statements inside it; of definitions, what is evaluated where they stand."""
    stack: list[ast.AST] = [statement.node]
    while stack:
        node = stack.pop()
        yield node
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, ast.stmt) or not isinstance(child, ast.AST):
                    continue
                if not (name == "args" and isinstance(child, ast.arguments) and node is not statement.node):
                    stack.append(child)


class Program:
    """One version of a module: its text, scopes, log calls and statements in the order of the text."""

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self.scopes = ScopeMap(source.tree)
        self.logs = LogCalls(source.tree, source.nodes)
        self.statements: list[Statement] = []
        self.root = Block(None, "body", self.scopes.module)
        self.of_node: dict[ast.AST, Statement] = {}
        self._fill(self.root, source.tree.body)

    @cached_property
    def log_calls(self) -> dict[Statement, list[ast.Call]]:
        """The log calls in the headers of the statements that have any."""
        wanted = {id(call): call for call in self.logs.calls}
        if not wanted:
            return {}
        starts = [self.source.start(statement.node) for statement in self.statements]
        near = [self.statements[bisect_right(starts, self.source.start(call)) - 1] for call in self.logs.calls]
        found = self._calls_of(near, wanted)
        return found if sum(map(len, found.values())) == len(wanted) else self._calls_of(self.statements, wanted)

    def _calls_of(self, statements: list[Statement], wanted: dict[int, ast.Call]) -> dict[Statement, list[ast.Call]]:
        found = {}
        for statement in dict.fromkeys(statements):
            calls = [wanted[id(node)] for node in header_nodes(statement) if id(node) in wanted]
            if calls:
                found[statement] = sorted(calls, key=lambda call: (call.lineno, call.col_offset))
        return found

    def inside(self, statement: Statement) -> list[Statement]:
        """Returns the statements inside one, itself left out."""
        return self.statements[statement.first + 1 : statement.last + 1]

    def expression_atoms(self, node: ast.AST) -> list[Atom]:
        """Returns the atoms of any node, log calls standing for the values that they pass through."""
        atoms: list[Atom] = []
        _collect(node, atoms, self._in_code)
        return atoms

    def _in_code(self, node: ast.AST) -> list[ast.AST] | None:
        """Takes a log call inside other code for the value that it passes through."""
        value = self.logs.logged_value(node)
        return None if value is None else [value]

    def _in_log(self, node: ast.AST) -> list[ast.AST] | None:
        """Takes the function of a log call for one name, however it was imported."""
        if isinstance(node, ast.Call) and self.logs.is_log_function(node.func):
            return [_Tag("log"), *node.args, *node.keywords]
        return None

    def _fill(self, block: Block, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            is_log = self.logs.is_log_statement(node)
            atoms: list[Atom] = []
            _collect(node, atoms, self._in_log if is_log else self._in_code)
            statement = Statement(node, block, len(block.statements), len(self.statements), is_log, atoms)
            self.statements.append(statement)
            self.of_node[node] = statement
            block.statements.append(statement)
            for inner, children in self._blocks(statement):
                statement.blocks.append(inner)
                self._fill(inner, children)
            statement.last = len(self.statements) - 1

    def _blocks(self, owner: Statement) -> Iterator[tuple[Block, list[ast.stmt]]]:
        node = owner.node
        scope = self.scopes.own.get(node, owner.scope)
        for label in ("body", "orelse", "finalbody"):
            children = getattr(node, label, None)
            if children:
                yield Block(owner, label, scope), children
        if isinstance(node, _TRY):
            for number, handler in enumerate(node.handlers):
                yield Block(owner, f"handler {number}", scope, self._header(handler)), handler.body
        elif isinstance(node, ast.Match):
            for number, case in enumerate(node.cases):
                yield Block(owner, f"case {number}", scope, self._header(case)), case.body

    def _header(self, node: ast.AST) -> list[Atom]:
        atoms: list[Atom] = [("s", type(node).__name__, None)]
        if isinstance(node, ast.ExceptHandler) and node.name:
            atoms.append(("b", node.name, node))
        for name, value in ast.iter_fields(node):
            if name not in _SKIPPED and isinstance(value, ast.AST):
                _collect(value, atoms, self._in_code)
        return atoms


def _collect(node: ast.AST, atoms: list[Atom], instead: Callable[[ast.AST], list[ast.AST] | None]) -> None:
    """Appends the atoms of a statement's header, or of an expression; ``x += 1`` has those of ``x = x + 1``."""
    children: Iterable[ast.AST | None] | None = None
    match node:
        case ast.Name() | ast.Constant() | ast.alias() | ast.Global() | ast.Nonlocal() | ast.expr_context() | _Tag():
            atoms += _leaf(node)
            return
        case ast.Attribute():
            atoms.append(("s", "Attribute", None))
            _collect(node.value, atoms, instead)
            atoms.append(("a", node.attr, node))
            return
        case ast.AugAssign():
            atoms.append(("s", "Assign", None))
            children = (node.target, _Tag("BinOp"), node.target, node.op, node.value)
        case ast.AnnAssign():
            atoms.append(("s", "Assign", None))
            children = (node.target, node.value)
        case _:
            children = instead(node)
            if children is None:
                atoms += _opening(node)
    skipped = _SKIPPED if isinstance(node, ast.stmt) else frozenset()
    for child in _fields(node, skipped) if children is None else children:
        if child is not None:
            _collect(child, atoms, instead)


def _leaf(node: ast.AST) -> list[Atom]:
    """Returns the atoms of a node without children of interest."""
    match node:
        case ast.Name():
            return [("n", node.id, node)]
        case ast.Constant():
            return [("c", repr(node.value), node)]
        case ast.alias():
            return [("i", node.name, node), ("b", node.asname or node.name.split(".")[0], node)]
        case ast.Global() | ast.Nonlocal():
            return [("s", type(node).__name__, None), *(("n", name, None) for name in node.names)]
        case _Tag():
            return [("s", node.name, None)]
    return []


def _opening(node: ast.AST) -> list[Atom]:
    """Returns the atoms that stand before those of a node's children; forms that may stand for each other open alike."""
    match node:
        case ast.arguments():
            return []
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [("s", "FunctionDef", None), ("b", node.name, node)]
        case ast.ClassDef():
            return [("s", "ClassDef", None), ("b", node.name, node)]
        case ast.For() | ast.AsyncFor():
            return [("s", "For", None)]
        case ast.With() | ast.AsyncWith():
            return [("s", "With", None)]
        case ast.arg():
            return [("b", node.arg, node)]
        case ast.keyword():
            return [("k", node.arg or "**", node)]
        case ast.ImportFrom():
            return [("s", "ImportFrom", None), ("i", "." * node.level + (node.module or ""), node)]
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [("s", type(node).__name__, None), ("b", name, node)]
    return [("s", type(node).__name__, None)]


def _fields(node: ast.AST, skipped: frozenset[str]) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name not in skipped:
            yield from (child for child in (value if isinstance(value, list) else (value,)) if isinstance(child, ast.AST))


class _Tag(ast.AST):
    """A mark of structure that no node of the tree stands for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

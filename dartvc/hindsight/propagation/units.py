"""What has to travel: the log statements that OLD lacks, the guards around them, and what only they need."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dartvc.hindsight.propagation.alignment import Alignment
from dartvc.hindsight.propagation.likeness import home_of
from dartvc.hindsight.propagation.renames import Name
from dartvc.hindsight.propagation.statements import Program, Statement

__all__ = ["Travelling", "Wrap", "find_travelling", "mentioned_names", "root_name"]

_CARRIED = frozenset({"If", "loop", "with", "Try", "TryStar", "Match"})


@dataclass(frozen=True, slots=True)
class Wrap:
    """A log call inside a statement that OLD has without it: the call is put around the same expression there."""

    statement: Statement
    call: ast.Call


@dataclass(frozen=True)
class Travelling:
    """The edit that made NEW's log statements: ``logs`` are placed, ``support`` is placed where a placed log needs it."""

    logs: tuple[Statement, ...]
    wraps: tuple[Wrap, ...]
    support: dict[Name, tuple[Statement, ...]]
    members: frozenset[Statement]


def find_travelling(alignment: Alignment) -> Travelling:
    """Finds what of NEW belongs to log statements that OLD lacks."""
    program = alignment.new
    unmatched = [each for each in program.statements if each not in alignment.to_old]
    recorders = {node for node in program.source.tree.body if isinstance(node, ast.FunctionDef) and node.name in program.logs.recorders}
    in_recorders = {each for node in recorders for each in program.inside(program.of_node[node])}
    roots = {each for each in unmatched if each not in in_recorders and _is_root(program, each)}
    members = _support(program, unmatched, roots)
    carried = _carried(unmatched, members)
    tops = dict.fromkeys(_top(each, carried) for each in sorted(roots, key=lambda each: each.first))
    support: dict[Name, list[Statement]] = defaultdict(list)
    for each in sorted(members - roots, key=lambda each: each.first):
        for name in _owned(program, each):
            top = _top(each, carried)
            if top not in support[name]:
                support[name].append(top)
    for each in roots:
        for name in _owned(program, each):
            support[name].append(_top(each, carried))
    return Travelling(
        tuple(tops), tuple(_wraps(alignment)), {name: tuple(each) for name, each in support.items()}, frozenset(members | carried)
    )


def mentioned_names(program: Program, statements: Iterable[Statement]) -> Iterator[tuple[Name, Statement]]:
    """Yields every variable that the headers of statements mention, with the statement."""
    for statement in statements:
        for tag, value, node in statement.all_atoms:
            if tag in "nb" and node is not None:
                yield (home_of(program, node, value), value), statement
        for call in program.log_calls.get(statement, ()):
            for inner in ast.walk(call):
                if isinstance(inner, ast.Name):
                    yield (home_of(program, inner, inner.id), inner.id), statement


def root_name(node: ast.expr) -> ast.Name | None:
    """Returns the variable at the root of ``x.a[b].c``; None when there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node if isinstance(node, ast.Name) else None


def _is_root(program: Program, statement: Statement) -> bool:
    if statement.is_log:
        return True
    return statement.family == "assign" and statement in program.log_calls


def _owned(program: Program, statement: Statement) -> set[Name]:
    """Returns the variables that a statement makes or changes; empty when it may do anything else."""
    node = statement.node
    names: list[ast.AST | None] = []
    spelled: list[str] = []
    match node:
        case ast.Assign() | ast.Delete():
            names = [root_name(each) for target in node.targets for each in _flat(target)]
        case ast.AugAssign():
            names = [root_name(node.target)]
        case ast.AnnAssign(value=ast.expr()):
            names = [root_name(node.target)]
        case ast.Expr(value=ast.Call(func=ast.Attribute() as function)) if not statement.is_log:
            names = [root_name(function)]
        case ast.Import() | ast.ImportFrom():
            names = list(node.names)
            spelled = [each.asname or each.name.split(".")[0] for each in node.names]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            names, spelled = [node], [node.name]
    if not spelled:
        spelled = [each.id if isinstance(each, ast.Name) else "" for each in names]
    if any(each is None for each in names):
        return set()
    return {(home_of(program, each, name), name) for each, name in zip(names, spelled, strict=True) if each is not None}


def _flat(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from _flat(each)
    else:
        yield target


def _support(program: Program, unmatched: list[Statement], roots: set[Statement]) -> set[Statement]:
    """Returns the largest set of statements without counterpart whose variables nothing outside of the set mentions."""
    mentions: dict[Name, set[Statement]] = defaultdict(set)
    binders: dict[Name, set[Statement]] = defaultdict(set)
    for name, statement in mentioned_names(program, program.statements):
        mentions[name].add(statement)
    for statement in program.statements:
        if not isinstance(statement.node, ast.Expr):
            for name in _owned(program, statement):
                binders[name].add(statement)
    free = set(unmatched)
    owned = {each: names for each in unmatched if each not in roots and (names := _owned(program, each))}
    members = roots | set(owned)
    while True:
        inside = {inner for each in members if each.family in ("function", "ClassDef") for inner in program.inside(each)}
        allowed = members | inside | _carried(unmatched, members)
        gone = set()
        for each, names in owned.items():
            if each not in members or each.family == "import":
                continue
            is_whole = each.family not in ("function", "ClassDef") or all(inner in free for inner in program.inside(each))
            is_own = all(mentions[name] <= allowed and binders[name] and binders[name] <= members for name in names)
            if not (is_whole and is_own):
                gone.add(each)
        if not gone:
            return members
        members -= gone


def _carried(unmatched: list[Statement], members: set[Statement]) -> set[Statement]:
    """Returns the compound statements without counterpart in which everything travels."""
    carried: set[Statement] = set()
    for each in reversed(unmatched):
        if each.family in _CARRIED:
            children = [child for block in each.blocks for child in block.statements]
            travels = [child in members or child in carried for child in children]
            if any(travels) and all(does or _is_empty(child.node) for does, child in zip(travels, children, strict=True)):
                carried.add(each)
    return carried


def _is_empty(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _top(statement: Statement, carried: set[Statement]) -> Statement:
    """Returns the outermost compound that travels with a statement."""
    owner = statement.block.owner
    while owner is not None and owner in carried:
        statement = owner
        owner = statement.block.owner
    return statement


def _wraps(alignment: Alignment) -> Iterator[Wrap]:
    """Yields the log calls inside matched statements whose counterparts lack them."""
    for mine, theirs in alignment.to_old.items():
        if mine.is_log:
            continue
        there = [ast.unparse(call.args[0]) for call in alignment.old.log_calls.get(theirs, ()) if call.args]
        for call in alignment.new.log_calls.get(mine, ()):
            name = ast.unparse(call.args[0]) if call.args else ""
            if name in there:
                there.remove(name)
            elif alignment.new.logs.logged_value(call) is not None:
                yield Wrap(mine, call)

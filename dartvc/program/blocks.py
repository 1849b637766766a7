"""Parts of a function that depend on some of its parameters only: computed once for all calls that differ in the others.

The statements of a function are cut where a parameter is used for the first time. What stands before such a cut becomes a block::

    if __dvc_7__:
        def __dvc_block__(X, intercept): <statements>; return (X,)
        (X,) = __dvc_7__(__dvc_block__, X, intercept)
    else:
        <statements>

Nothing is known here of what the statements do: whoever answers a block watches it as it does a call. Here is seen to it that a block may be
run as a function: it reads names that are bound, binds names that are bound afterwards too, and is left at its end alone.
"""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterable

__all__ = ["BLOCK", "cut_into_blocks", "is_block", "name_blocks"]

BLOCK = "__dvc_block__"
_MARK = "__dvc_part__"
_OPAQUE = frozenset({"locals", "vars", "eval", "exec", "dir", "globals", "super", "__class__"})
_CLOSED = (
    ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.GeneratorExp | ast.NamedExpr | ast.Yield | ast.YieldFrom
    | ast.Await | ast.Global | ast.Nonlocal | ast.Import | ast.ImportFrom | ast.Delete | ast.Match
)  # fmt: skip
_STEP = ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.If | ast.For | ast.While | ast.Pass | ast.Assert
_LEAVING = ast.Return | ast.Try | ast.With | ast.Raise
_WORK = ast.Call | ast.BinOp


def cut_into_blocks(function: ast.FunctionDef, next_block: Callable[[int], str]) -> None:
    """Puts blocks into a function, where it has any.

    Args:
        next_block: returns the name of the switch of a block that begins at a line.
    """
    if any(isinstance(each, _CLOSED) or (isinstance(each, ast.Name) and each.id in _OPAQUE) for child in function.body for each in ast.walk(child)):
        return
    arguments = function.args
    parameters = {each.arg for each in ast.walk(arguments) if isinstance(each, ast.arg)}
    used = parameters & _loads(function.body)
    if len(used) < 2:
        return
    body: list[ast.stmt] = []
    bound = set(parameters)
    segments = _segments(function.body, used)
    local_names = parameters | _stores(function.body)
    lines = {function.lineno}  # a block is found again by the line on which it begins
    for number, (segment, is_cut_off) in enumerate(segments):
        following = [each for later, _ in segments[number + 1 :] for each in later]
        flow = _Flow(local_names)
        flow.block(segment)
        needed = flow.needed | ((flow.stored - flow.bound) & _loads(following))
        results = sorted(flow.stored & _loads(following))
        if is_cut_off and results and needed <= bound and _is_work(segment) and segment[0].lineno not in lines:
            lines.add(segment[0].lineno)
            body.append(_block(segment, sorted(needed), results, next_block))
        else:
            body += segment
        bound |= flow.bound
    function.body = body


def name_blocks(code: types.CodeType) -> types.CodeType:
    """Returns code whose blocks bear the name of the function that they are a part of, and a mark by which `is_block` knows them.

    Without that, equal blocks of two functions are equal code: what one has computed answers the other.
    """
    constants = tuple(name_blocks(each) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    if code.co_name == BLOCK:
        function = code.co_qualname.removesuffix(f".<locals>.{BLOCK}").rpartition(".")[2]
        return code.replace(co_consts=(*constants, _MARK), co_name=function)
    return code.replace(co_consts=constants)


def is_block(code: types.CodeType) -> bool:
    """Tells whether a frame of this code runs a part of the function whose frame called it."""
    return code.co_consts[-1:] == (_MARK,)


def _segments(body: list[ast.stmt], used: set[str]) -> list[tuple[list[ast.stmt], bool]]:
    """Returns the statements in runs, each with whether a parameter comes into use after it and it can be a block."""
    runs: list[tuple[list[ast.stmt], bool]] = []
    seen: set[str] = set()
    for statement in body:
        fresh = (_loads([statement]) & used) - seen
        seen |= fresh
        is_step = isinstance(statement, _STEP) and not any(isinstance(each, _LEAVING) for each in ast.walk(statement))
        is_step = is_step and not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        may_be_cut_off = is_step and seen < used
        if runs and runs[-1][1] == may_be_cut_off and (not fresh or fresh == seen):
            runs[-1][0].append(statement)
        else:
            runs.append(([statement], may_be_cut_off))
    return runs


def _is_work(segment: list[ast.stmt]) -> bool:
    return any(isinstance(each, _WORK) for statement in segment for each in ast.walk(statement))


def _names(nodes: Iterable[ast.AST], context: type[ast.expr_context]) -> set[str]:
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, context)}


def _loads(nodes: Iterable[ast.AST]) -> set[str]:
    nodes = list(nodes)
    added = {
        each.target.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name)
    }
    return _names(nodes, ast.Load) | added


def _stores(nodes: Iterable[ast.AST]) -> set[str]:
    """Returns the names that are bound, other than in comprehensions, which have their own."""
    pending, names = list(nodes), set()
    while pending:
        each = pending.pop()
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names.add(each.id)
        pending.extend([each.iter, *each.ifs] if isinstance(each, ast.comprehension) else ast.iter_child_nodes(each))
    return names


class _Flow:
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
                inside = {name for each in ast.walk(node) if isinstance(each, ast.comprehension) for name in _stores([each.target])}
                self.needed |= (_loads([node]) & self._local_names) - self.bound - (inside - self._local_names)

    def _bind(self, target: ast.expr) -> None:
        names = _stores([target])
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
        else:
            self._read(node)


def _block(segment: list[ast.stmt], needed: list[str], results: list[str], next_block: Callable[[int], str]) -> ast.stmt:
    first, last = segment[0], segment[-1]
    def load(text: str) -> ast.expr:
        return ast.Name(text, ast.Load())

    switch = next_block(first.lineno)
    given = ast.arguments([], [ast.arg(each) for each in needed], None, [], [], None, [])
    body = [*copy.deepcopy(segment), ast.Return(ast.Tuple([load(each) for each in results], ast.Load()))]
    definition = ast.FunctionDef(BLOCK, given, body, [], None, None)
    if hasattr(definition, "type_params"):
        definition.type_params = []
    target = ast.Tuple([ast.Name(each, ast.Store()) for each in results], ast.Store())
    call = ast.Assign([target], ast.Call(load(switch), [load(BLOCK), *(load(each) for each in needed)], []))
    whole = ast.If(load(switch), [definition, call], segment)
    for each in (body[-1], definition, given, call, whole, whole.test, *ast.walk(body[-1]), *ast.walk(given), *ast.walk(call)):
        ast.copy_location(each, last if each is body[-1] else first)
    return ast.fix_missing_locations(whole)

"""Parts of a function that depend on some of its parameters only: computed once for all calls that differ in the others.

The statements of a function are cut where a parameter is used for the first time. What stands before such a cut becomes a block::

    if __dvc_7__:
        def __dvc_block__(X, intercept): <statements>; return (X,)
        (X,) = __dvc_7__(__dvc_block__, X, intercept)
    else:
        <statements>

So it is in the body of a loop, where the names that the loops around bind, and those that their turns hand on, stand beside the parameters. There a block
must call something: its switch is asked in every turn.

Loops of the script's own level become blocks, too, so that a later run is given what they bound (`cut_loops`), with parts in their turns::

    if __dvc_8__:
        def __dvc_loop__(best, losses): loss = UNBOUND; <the loop>; return (best, loss)
        __dvc_8__(__dvc_loop__, ("best", "loss"), best, losses)
    else:
        <the loop>

Nothing is known here of what the statements do: whoever answers a block watches it as it does a call. Here is seen to it that a block may be
run as a function: it reads names that are bound, binds names that are bound afterwards too, and is left at its end alone; and that nobody else
reads what a loop binds while it runs.
"""

from __future__ import annotations

import ast
import builtins
import collections
import copy
import symtable
import types
from collections.abc import Callable, Mapping

from dartvc.program.liveness import Flow, loads, stores
from dartvc.program.sources import MODULE_SCOPE
from dartvc.program.watched import BLOCK, LOOP, LOOP_MARK, PART_MARK, UNBOUND, stand_at

__all__ = ["cut_into_blocks", "cut_loops", "name_blocks", "outermost_name", "without_blocks_inside"]

_OPAQUE = frozenset({"locals", "vars", "eval", "exec", "dir", "globals", "super", "__class__"})
_CLOSED = (
    ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.GeneratorExp | ast.NamedExpr | ast.Yield | ast.YieldFrom
    | ast.Await | ast.Global | ast.Nonlocal | ast.Import | ast.ImportFrom | ast.Delete | ast.Match
)  # fmt: skip
_STEP = ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.If | ast.For | ast.While | ast.Pass | ast.Assert
_LEAVING = ast.Return | ast.Try | ast.With | ast.Raise
_WORK = ast.Call | ast.BinOp
_LIGHT_METHODS = frozenset(name for kind in (list, dict, set, str, collections.deque) for name in dir(kind))
_LIGHT_MODULES = frozenset({"math", "cmath", "operator", "random"})
_LISTED = frozenset({"listcomp", "setcomp", "dictcomp"})
_FOREIGN = frozenset({"dartvc", "flor", "flordb", "__main__"})
_LOOKING_UP = frozenset({"query", "eval"})
_INSIDE = ".<locals>."
_NAMESPACES = frozenset({"__globals__", "f_globals"})
_READING_ANY = frozenset({"globals", "vars", "eval", "exec", "__main__"})


NextSwitch = Callable[[int, bool], str]
"""Returns the name of the switch of a block that begins at a line; with whether it is a part of a loop's turn."""


def cut_into_blocks(function: ast.FunctionDef, next_block: NextSwitch, may_be_cut: Callable[[ast.stmt], bool]) -> None:
    """Puts blocks into a function, and into the bodies of its loops, where there are any.

    Args:
        next_block: returns the name of a switch.
        may_be_cut: whether statements beside this one may become blocks as far as others are concerned.
    """
    if any(isinstance(each, _CLOSED) or (isinstance(each, ast.Name) and each.id in _OPAQUE) for child in function.body for each in ast.walk(child)):
        return
    parameters = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    cutter = _PartCutter(parameters | stores(function.body), {function.lineno}, next_block, may_be_cut)
    function.body = cutter.cut(function.body, parameters, parameters, set(), in_loop=False)


class _PartCutter:
    """Cuts the statements of one function, or of one loop of the script's own level.

    Args:
        local_names: the names that are local to it.
        lines: where something begins that bears the name of its blocks: one is found again by its line.
    """

    def __init__(self, local_names: set[str], lines: set[int], next_block: NextSwitch, may_be_cut: Callable[[ast.stmt], bool]) -> None:
        self._local_names = local_names
        self._lines = lines
        self._next_block = next_block
        self._may_be_cut = may_be_cut

    def cut(self, statements: list[ast.stmt], varying: set[str], bound: set[str], live: set[str], *, in_loop: bool) -> list[ast.stmt]:
        """Returns statements with blocks among them, and in the bodies of their loops.

        Args:
            varying: the names that tell one execution from another: parameters, and what the loops around bind or carry on.
            bound: the names that are bound for certain where the statements begin.
            live: the names that are read behind them.
            in_loop: whether they are the body of a loop.
        """
        used = varying & loads(statements)
        may_be_cut = all(map(self._may_be_cut, statements))
        body: list[ast.stmt] = []
        segments = _segments(statements, used)
        for number, (segment, is_cut_off) in enumerate(segments):
            wanted = live | loads([each for later, _ in segments[number + 1 :] for each in later])
            flow = self._flow(segment)
            needed = flow.needed | ((flow.stored - flow.bound) & wanted)
            results = sorted(flow.stored & wanted)
            is_block = may_be_cut and is_cut_off and bool(results) and needed <= bound and segment[0].lineno not in self._lines
            is_block = is_block and (_is_heavy(segment) if in_loop else len(used) > 1 and _is_work(segment))
            if is_block:
                self._lines.add(segment[0].lineno)
            self.cut_loops_in(segment, varying, bound, wanted)
            body += [_block(segment, sorted(needed), results, self._next_block(segment[0].lineno, in_loop))] if is_block else segment
            bound = bound | flow.bound
        return body

    def _flow(self, statements: list[ast.stmt]) -> Flow:
        flow = Flow(self._local_names)
        flow.block(statements)
        return flow

    def cut_loops_in(self, statements: list[ast.stmt], varying: set[str], bound: set[str], live: set[str]) -> None:
        """Cuts the bodies of the loops in statements that are not cut themselves; the arguments are those of `cut`."""
        for place, statement in enumerate(statements):
            before, bound = bound, bound | self._flow([statement]).bound
            if not isinstance(statement, ast.If | ast.For | ast.While):
                continue
            wanted = live | loads(statements[place + 1 :])
            if isinstance(statement, ast.If):
                self.cut_loops_in(statement.body, varying, before, wanted)
                self.cut_loops_in(statement.orelse, varying, before, wanted)
                continue
            self._lines.add(statement.lineno)
            targets = stores([statement.target]) if isinstance(statement, ast.For) else set()
            carried = self._flow(statement.body).needed
            again = carried | loads([*([statement.test] if isinstance(statement, ast.While) else []), *statement.orelse])
            inside = varying | targets | (carried & stores(statement.body))
            statement.body = self.cut(statement.body, inside, before | targets, wanted | again, in_loop=True)


def cut_loops(module: ast.Module, text: str, may_be_cut: Callable[[ast.stmt], bool], next_block: NextSwitch) -> None:
    """Puts the loops of a script's own level into blocks, where nothing but the loop can see what it binds as it runs.

    A program that logs is left alone: where a record belongs is read from the frames of its loops. So is one that looks up names of which only a text tells.

    Args:
        module: the script, the functions in it cut or not.
        text: its source.
        may_be_cut: whether a loop may be a block as far as others are concerned.
        next_block: returns the name of a switch.
    """
    table = symtable.symtable(text, "", "exec")
    seen = _seen_by_functions(table)
    names = {symbol.get_name() for symbol in table.get_symbols()}
    if _FOREIGN.isdisjoint(names) and _READING_ANY.isdisjoint(seen) and not any(map(_looks_up, ast.walk(module))):
        _LoopCutter(seen, may_be_cut, next_block).cut(module.body, set())


def _looks_up(node: ast.AST) -> bool:
    """Whether a node may read a global whose name stands in a text: ``frame.query("a > @LIMIT")``, ``sys.modules[...]``."""
    if isinstance(node, ast.Attribute):
        return node.attr in _NAMESPACES or ast.unparse(node) == "sys.modules"
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in _LOOKING_UP:
        return False
    text = next((each.value if isinstance(each, ast.Constant) else each for each in (*node.args, *(each.value for each in node.keywords))), "")
    return not isinstance(text, str) or (bool(text) if node.func.attr == "eval" else "@" in text)


class _LoopCutter:
    """Cuts loops.

    Args:
        seen: the globals that functions read or bind, with whether one binds it.
    """

    def __init__(self, seen: Mapping[str, bool], may_be_cut: Callable[[ast.stmt], bool], next_block: NextSwitch) -> None:
        self._seen = seen
        self._may_be_cut = may_be_cut
        self._next_block = next_block
        self._lines: set[int] = set()

    def cut(self, body: list[ast.stmt], bound: set[str]) -> None:
        """Cuts the loops among statements, and keeps ``bound`` to the names that are bound to values behind them for certain."""
        for place, statement in enumerate(body):
            if isinstance(statement, ast.If):
                branches = set(bound), set(bound)
                self.cut(statement.body, branches[0])
                self.cut(statement.orelse, branches[1])
                bound |= branches[0] & branches[1]
            elif isinstance(statement, ast.With | ast.Try):
                self.cut(statement.body, bound | _bound_by(statement))
                left = bound - _unbound_by(statement)  # wherever its body was left
                for part in (*(each.body for each in getattr(statement, "handlers", ())), getattr(statement, "finalbody", [])):
                    self.cut(part, set(left))
            elif isinstance(statement, ast.For | ast.While):
                body[place] = self._cut_loop(statement, bound)
            bound |= _bound_by(statement)
            bound -= _unbound_by(statement)

    def _cut_loop(self, loop: ast.For | ast.While, bound: set[str]) -> ast.stmt:
        stored = stores([loop])
        flow = Flow(stored)
        flow.block([loop])
        caught = {each.name for each in ast.walk(loop) if isinstance(each, ast.ExceptHandler) and each.name}
        if not (caught | stored).isdisjoint(self._seen) or not caught.isdisjoint(stored | bound | _loads_outside_handlers(loop)):
            return loop  # a name of ``except ... as`` is taken away at the end of its handler
        if not (_may_be_function(loop, stored) and flow.needed <= bound and self._may_be_cut(loop)):
            return loop
        given = flow.needed | {name for name in loads([loop]) & bound if not self._seen.get(name)}
        switch = self._next_block(loop.lineno, False)
        _PartCutter(stored | given, self._lines, self._next_block, self._may_be_cut).cut_loops_in([loop], set(), bound, stored)
        return _loop_block(loop, sorted(given), sorted(stored), switch)


def _loads_outside_handlers(loop: ast.stmt) -> set[str]:
    """Returns the names that a loop reads elsewhere than in a handler that gives them what it caught."""
    pending: list[tuple[ast.AST, frozenset[str]]] = [(loop, frozenset())]
    found: set[str] = set()
    while pending:
        node, given = pending.pop()
        if isinstance(node, ast.ExceptHandler) and node.name:
            pending += [(each, given | {node.name}) for each in node.body]
            pending += [(node.type, given)] if node.type is not None else []
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in given:
            found.add(node.id)
        pending += [(each, given) for each in ast.iter_child_nodes(node)]
    return found


def _may_be_function(loop: ast.For | ast.While, stored: set[str]) -> bool:
    nodes = list(ast.walk(loop))
    if any(isinstance(each, _CLOSED | ast.AnnAssign | ast.TryStar | ast.AsyncFor | ast.AsyncWith) for each in nodes):
        return False
    if any(isinstance(each, ast.Name) and (each.id in _OPAQUE or (each.id in stored and each.id.startswith("__"))) for each in nodes):
        return False
    return bool(stored) and any(isinstance(each, ast.Call) for each in nodes)


def _bound_by(statement: ast.stmt) -> set[str]:
    """Returns the names that are bound to values when a statement is over."""
    if isinstance(statement, ast.Assign | ast.AugAssign) or (isinstance(statement, ast.AnnAssign) and statement.value is not None):
        return stores([statement])
    if isinstance(statement, ast.With):
        return stores([item.optional_vars for item in statement.items if item.optional_vars is not None])
    return set()


def _unbound_by(statement: ast.stmt) -> set[str]:
    """Returns the names that a statement may take away."""
    deleted = {each.id for each in ast.walk(statement) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Del)}
    return deleted | {each.name for each in ast.walk(statement) if isinstance(each, ast.ExceptHandler) and each.name}


def _seen_by_functions(table: symtable.SymbolTable, *, is_inside: bool = False) -> dict[str, bool]:
    """Returns the globals that functions, classes, lambdas and generators of a module read or bind, with whether one binds it."""
    seen: dict[str, bool] = {}
    for child in table.get_children():
        is_function = is_inside or child.get_name() not in _LISTED
        for symbol in child.get_symbols() if is_function else ():
            if symbol.is_global():
                name = symbol.get_name()
                seen[name] = seen.get(name, False) or symbol.is_assigned()
        for name, is_bound in _seen_by_functions(child, is_inside=is_function).items():
            seen[name] = seen.get(name, False) or is_bound
    return seen


class _Opener(ast.NodeTransformer):
    """Takes the blocks out of blocks; their statements stay."""

    def __init__(self) -> None:
        self._is_inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        around, self._is_inside = self._is_inside, node.name in (BLOCK, LOOP)
        self.generic_visit(node)
        self._is_inside = around
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        is_open = self._is_inside and _is_block(node)
        self.generic_visit(node)
        return node.orelse if is_open else node


def _is_block(node: ast.If) -> bool:
    return isinstance(node.body[0], ast.FunctionDef) and node.body[0].name == BLOCK


def without_blocks_inside(tree: ast.Module) -> ast.Module:
    """Returns a module with no block inside another: a block is known by its statements, whatever parts they have."""
    outer = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name in (BLOCK, LOOP))
    if not any(isinstance(each, ast.If) and _is_block(each) for block in outer for each in ast.walk(block)):
        return tree
    opened: ast.Module = _Opener().visit(copy.deepcopy(tree))
    return opened


def outermost_name(qualname: str) -> str:
    """Returns the qualified name that a block inside other blocks would have if it stood in their function, or in the script, itself."""
    scopes = qualname.split(_INSIDE)
    if scopes[:2] == [LOOP, BLOCK]:
        del scopes[0]
    return _INSIDE.join(each for each, around in zip(scopes, ("", *scopes), strict=False) if (around, each) != (BLOCK, BLOCK))


def name_blocks(code: types.CodeType) -> types.CodeType:
    """Returns code whose blocks bear the name of the function that they are a part of, and a mark by which `dartvc.program.watched` knows them.

    Without that, equal blocks of two functions are equal code: what one has computed answers the other.
    """
    constants = tuple(name_blocks(each) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    if code.co_name == LOOP:
        return code.replace(co_consts=(*constants, LOOP_MARK), co_name=MODULE_SCOPE)
    if code.co_name == BLOCK:
        function = outermost_name(code.co_qualname).rpartition(_INSIDE)[0].rpartition(".")[2] or MODULE_SCOPE
        return code.replace(co_consts=(*constants, PART_MARK), co_name=function)
    return code.replace(co_consts=constants)


def _segments(body: list[ast.stmt], used: set[str]) -> list[tuple[list[ast.stmt], bool]]:
    """Returns the statements in runs, each with whether a parameter comes into use after it and it can be a block."""
    runs: list[tuple[list[ast.stmt], bool]] = []
    seen: set[str] = set()
    for statement in body:
        fresh = (loads([statement]) & used) - seen
        seen |= fresh
        is_step = isinstance(statement, _STEP) and not any(isinstance(each, _LEAVING) for each in ast.walk(statement))
        is_step = is_step and not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)) and not _leaves_loop(statement)
        may_be_cut_off = is_step and seen < used
        if runs and runs[-1][1] == may_be_cut_off and (not fresh or fresh == seen):
            runs[-1][0].append(statement)
        else:
            runs.append(([statement], may_be_cut_off))
    return runs


def _leaves_loop(statement: ast.stmt) -> bool:
    """Whether a statement ends a turn of the loop that it stands in."""
    if isinstance(statement, ast.Break | ast.Continue):
        return True
    inside = statement.orelse if isinstance(statement, ast.For | ast.While) else [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]
    return any(map(_leaves_loop, inside))


def _is_work(segment: list[ast.stmt]) -> bool:
    return any(isinstance(each, _WORK) for statement in segment for each in ast.walk(statement))


def _is_heavy(segment: list[ast.stmt]) -> bool:
    """Whether statements may take so long that a look at a switch in each turn of a loop is nothing beside them."""
    return any(isinstance(each, ast.MatMult) or (isinstance(each, ast.Call) and not _is_light(each.func)) for statement in segment for each in ast.walk(statement))


def _is_light(function: ast.expr) -> bool:
    """Whether what is called is known to be quick by its name: a builtin, a method of Python's containers and texts, the mathematics of numbers."""
    if isinstance(function, ast.Attribute):
        return function.attr in _LIGHT_METHODS or (isinstance(function.value, ast.Name) and function.value.id in _LIGHT_MODULES)
    return isinstance(function, ast.Name) and hasattr(builtins, function.id)


def _load(text: str) -> ast.expr:
    return ast.Name(text, ast.Load())


def _block(segment: list[ast.stmt], needed: list[str], results: list[str], switch: str) -> ast.stmt:
    target = ast.Tuple([ast.Name(each, ast.Store()) for each in results], ast.Store())
    call = ast.Assign([target], ast.Call(_load(switch), [_load(BLOCK), *map(_load, needed)], []))
    return _switched(switch, BLOCK, segment, needed, results, [], call)


def _loop_block(loop: ast.For | ast.While, given: list[str], results: list[str], switch: str) -> ast.stmt:
    names: list[ast.expr] = [ast.Constant(each) for each in results]
    call = ast.Expr(ast.Call(_load(switch), [_load(LOOP), ast.Tuple(names, ast.Load()), *map(_load, given)], []))
    unbound = [ast.Name(each, ast.Store()) for each in results if each not in given]
    return _switched(switch, LOOP, [loop], given, results, [ast.Assign([each], ast.Constant(UNBOUND)) for each in unbound], call)


def _switched(
    switch: str, name: str, segment: list[ast.stmt], given: list[str], results: list[str], prologue: list[ast.stmt], call: ast.stmt
) -> ast.stmt:
    """Returns statements that run as they are while the switch is off, and else as a function that returns what they bind."""
    first, last = segment[0], segment[-1]
    arguments = ast.arguments([], [ast.arg(each) for each in given], None, [], [], None, [])
    ending = ast.Return(ast.Tuple([_load(each) for each in results], ast.Load()))
    definition = ast.FunctionDef(name, arguments, [*prologue, *copy.deepcopy(segment), ending], [], None, None)
    if hasattr(definition, "type_params"):
        definition.type_params = []
    whole = ast.If(_load(switch), [definition, call], segment)
    ours: list[ast.AST] = [definition, whole, whole.test]
    for each in (*ours, *(node for part in (*prologue, arguments, call) for node in ast.walk(part))):
        ast.copy_location(each, first)
    stand_at(ending, last)
    return ast.fix_missing_locations(whole)

"""A function that begins in the middle: its tree rewritten so that it goes on from a place.

Statements before the place fall away; a loop around it runs the rest of the present pass first and then goes on with the iterator that it
had; a ``with`` block around it is entered without entering its manager again; an unfinished call becomes a call of the next frame. What
follows is the function's own code, so that it runs as fast and can be captured again.

The names that a variant needs begin with ``_.``, which no Python name can.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from typing import TypeVar, cast

from dartvc.program.places import SELF, NotResumable, Path, block_of, path_to_await, path_to_call, pending_operands
from dartvc.program.sources import Scope

__all__ = ["ASYNC_ENTERED", "CALL", "ENTERED", "FRAME", "ITERATING", "MAKER", "ONCE", "VARIANT", "make_variant", "own_imports"]

FRAME = "_.frame"
"""The function's argument: an object with the values of the locals (``values``) and of the stack (``stack``)."""
CALL = "_.call"
"""Runs the next frame and returns what it returns."""
ENTERED = "_.entered"
"""Makes a context manager of the exit of one that has been entered."""
ONCE = "_.once"
"""Iterates once; holds the iterator of the loop whose pass it runs."""
ASYNC_ENTERED = "_.async_entered"
"""The same for ``async with``; given a second argument, of one that is being entered."""
ITERATING = "_.iterating"
"""What an ``async for`` iterates over, from its iterator and the answer that it waits for."""
MAKER = "_.make"
VARIANT = "_.variant"
_PARTIAL = "_.partial"

_T = TypeVar("_T", bound=ast.AST)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Rewriter:
    """Rewrites one scope to begin at a place.

    Args:
        path: the statement.
        kind: see `CapturedFrame.kind`.
        call: where the unfinished call or the yield stands.
        version: Python's version, which the order on the stack depends on.
        exits: of how many items of an ``async with`` that is being entered or left the exits are on the stack.
    """

    def __init__(self, path: Path, kind: str, call: tuple[int, int, int, int] | None, version: tuple[int, int], exits: int = 0) -> None:
        self.exits = exits
        self.path = path
        self.kind = kind
        self.call = call
        self.version = version
        self.next_item = 0

    def _item(self) -> ast.expr:
        self.next_item += 1
        return ast.Subscript(ast.Attribute(_load(FRAME), "stack", ast.Load()), ast.Constant(self.next_item - 1), ast.Load())

    def _entered(self) -> ast.withitem:
        return ast.withitem(ast.Call(_load(ASYNC_ENTERED), [self._item()], []), None)

    def block(self, statements: Sequence[ast.stmt], depth: int) -> list[ast.stmt]:
        """Returns a block's statements from the place on; ``depth`` is the step of the path that leads into it."""
        index = self.path[depth][1]
        present, rest = statements[index], list(statements[index + 1 :])
        if depth == len(self.path) - 1:
            return [*self._at(present), *rest]
        return [*self._inside(present, depth + 1), *rest]

    def _at(self, statement: ast.stmt) -> list[ast.stmt]:
        if self.kind == "statement":
            return [statement]
        if self.kind == "loop":
            assert isinstance(statement, ast.For)
            return [_like(ast.For(statement.target, self._item(), statement.body, statement.orelse), statement)]
        if self.kind == "yield":
            return self._after_yield(statement)
        if self.kind == "aenter" and isinstance(statement, ast.AsyncWith):
            entered = [self._entered() for _ in range(self.exits - 1)]
            entering = ast.withitem(ast.Call(_load(ASYNC_ENTERED), [self._item(), self._item()], []), statement.items[len(entered)].optional_vars)
            return [_like(ast.AsyncWith([*entered, entering, *statement.items[len(entered) + 1 :]], statement.body), statement)]
        if self.kind == "aexit":
            entered = [self._entered() for _ in range(self.exits)]
            leaving = _like(ast.Expr(ast.Await(self._item())), statement)
            return [_like(ast.AsyncWith(entered, [leaving]), statement) if entered else leaving]
        if self.kind == "anext" and isinstance(statement, ast.AsyncFor):
            rest = ast.Call(_load(ITERATING), [self._item(), self._item()], [])
            return [_like(ast.AsyncFor(statement.target, rest, statement.body, statement.orelse), statement)]
        return self._in_call(statement)

    def _inside(self, statement: ast.stmt, depth: int) -> list[ast.stmt]:
        field = self.path[depth][0]
        if isinstance(statement, ast.For) and field == "body":
            iterator = self._item()
            rest = _like(ast.For(statement.target, iterator, statement.body, statement.orelse), statement)
            return [self._once(statement, iterator, self.block(statement.body, depth), [rest])]
        if isinstance(statement, ast.While) and field == "body":
            return [self._once(statement, ast.Constant(None), self.block(statement.body, depth), [statement])]
        if isinstance(statement, ast.AsyncFor) and field == "body":
            iterator = self._item()
            following = ast.Call(_load(ITERATING), [iterator], [])
            others = _like(ast.AsyncFor(statement.target, following, statement.body, statement.orelse), statement)
            return [self._once(statement, iterator, self.block(statement.body, depth), [others])]
        if isinstance(statement, ast.AsyncWith):
            exits = [self._entered() for _ in statement.items]
            return [_like(ast.AsyncWith(exits, self.block(statement.body, depth)), statement)]
        if isinstance(statement, ast.With):
            exits = [ast.withitem(ast.Call(_load(ENTERED), [self._item()], []), None) for _ in statement.items]
            return [_like(ast.With(exits, self.block(statement.body, depth)), statement)]
        if isinstance(statement, ast.Try | ast.TryStar):
            return [self._in_try(statement, field, depth)]
        return self.block(block_of(statement, field), depth)

    def _once(self, statement: ast.stmt, iterator: ast.expr, body: list[ast.stmt], following: list[ast.stmt]) -> ast.stmt:
        """Runs the rest of a pass: ``continue`` goes on to what follows, ``break`` leaves it out, as in the loop itself."""
        single = ast.Call(_load(ONCE), [iterator], [])
        return _like(ast.For(ast.Name(_PARTIAL, ast.Store()), single, body, following), statement)

    def _in_try(self, statement: ast.Try | ast.TryStar, field: str, depth: int) -> ast.stmt:
        if field == "body":
            body = self.block(statement.body, depth)
            return _like(type(statement)(body, statement.handlers, statement.orelse, statement.finalbody), statement)
        if field == "orelse":
            body = self.block(statement.orelse, depth)
            return _like(ast.Try(body, [], [], statement.finalbody), statement) if statement.finalbody else _flat(body, statement)
        handler = statement.handlers[int(field.partition(".")[2])]
        raised = ast.Raise(self._item(), None)
        begun = ast.ExceptHandler(_load("_.BaseException"), handler.name, self.block(handler.body, depth))
        return _like(ast.Try([raised], [begun], [], statement.finalbody), statement)

    def _in_call(self, statement: ast.stmt) -> list[ast.stmt]:
        assert self.call is not None
        above: list[ast.AST]
        inner: ast.expr
        above, inner = path_to_await(statement, self.call) if self.kind == "await" else path_to_call(statement, self.call)
        operands = pending_operands(above, inner, self.version)
        replaced: dict[int, ast.expr] = {}
        for operand in operands:
            item = self._item()
            if operand is not None and operand is not SELF:
                replaced[id(operand)] = item
        replaced[id(inner)] = ast.Await(self._item()) if self.kind == "await" else ast.Call(_load(CALL), [], [])
        if isinstance(statement, ast.AugAssign):
            return self._in_augmented(statement, operands, replaced)
        fresh = _replace(statement, replaced, above)
        if isinstance(fresh, ast.While):
            again = [self._once(statement, ast.Constant(None), fresh.body, [statement])]
            return [_like(ast.If(fresh.test, again, fresh.orelse), statement)]
        return [fresh]

    def _in_augmented(self, statement: ast.AugAssign, operands: list[ast.expr | None], replaced: dict[int, ast.expr]) -> list[ast.stmt]:
        value = _replace(statement.value, replaced, [])
        count = {ast.Name: 1, ast.Attribute: 2, ast.Subscript: 3}[type(statement.target)]
        self.next_item -= len(operands) + (self.kind == "await")
        items = [self._item() for _ in operands]
        target: ast.expr = statement.target
        if isinstance(target, ast.Attribute):
            target = ast.Attribute(items[0], target.attr, ast.Store())
        elif isinstance(target, ast.Subscript):
            target = ast.Subscript(items[0], items[1], ast.Store())
        begun = ast.Assign([ast.Name(_PARTIAL, ast.Store())], items[count - 1])
        changed = ast.AugAssign(ast.Name(_PARTIAL, ast.Store()), statement.op, value)
        return [_like(each, statement) for each in (begun, changed, ast.Assign([target], _load(_PARTIAL)))]

    def _after_yield(self, statement: ast.stmt) -> list[ast.stmt]:
        """The first ``send`` of the variant starts it, so that what the paused yield gives comes from a yield of its own."""
        assert isinstance(statement, ast.Expr | ast.Assign)
        value = statement.value
        waiting: ast.expr = ast.Yield(ast.Constant(None))
        before: list[ast.stmt] = []
        if isinstance(value, ast.YieldFrom):
            before = [_like(ast.Expr(waiting), statement)]
            waiting = ast.YieldFrom(self._item())
        if isinstance(statement, ast.Assign):
            return [*before, _like(ast.Assign(statement.targets, waiting), statement)]
        return [*before, _like(ast.Expr(waiting), statement)]


def make_variant(
    tree: ast.Module,
    scope: Scope,
    path: Path,
    kind: str,
    call: tuple[int, int, int, int] | None,
    values: Sequence[str],
    cells: Sequence[str],
    version: tuple[int, int],
    exits: int = 0,
) -> tuple[ast.Module, _Function | None]:
    """Returns a module's tree in which ``scope`` begins at a place, and the function's new node (None for the module's own code).

    The new function takes one argument, `FRAME`. Its locals come from there; cells are free variables of it, given by the function
    ``_.make`` around it.

    Raises:
        NotResumable: the place does not exist, or stands in an expression that cannot be finished.
    """
    rewriter = Rewriter(path, kind, call, version, exits)
    body = list(scope.body) if not path else rewriter.block(scope.body, 0)
    head = _prologue(values, getattr(scope, "lineno", 1))
    if isinstance(scope, ast.Module):
        futures = [each for each in scope.body if isinstance(each, ast.ImportFrom) and each.module == "__future__"]
        body = [each for each in body if each not in futures]
        return _finished(ast.Module([*futures, *body], [])), None
    if isinstance(scope, ast.ClassDef):
        raise NotResumable("the body of a class is running")
    return _replace_function(tree, scope, head, body, cells, version)


def _replace_function(
    tree: ast.Module, scope: _Function, head: list[ast.stmt], body: list[ast.stmt], cells: Sequence[str], version: tuple[int, int]
) -> tuple[ast.Module, _Function]:
    parameters = [each.arg for each in (*scope.args.posonlyargs, *scope.args.args)]
    first = parameters[0] if parameters else FRAME + "0"
    is_generator = _yields(scope)
    arguments = [ast.arg(first), ast.arg(FRAME)]
    own = [name for name in cells if name != "__class__" and name != first]
    declared: list[ast.stmt] = [ast.Nonlocal(own)] if own else []
    declared_in_body = {name for each in body for node in ast.walk(each) if isinstance(node, ast.Nonlocal) for name in node.names}
    if declared and declared_in_body:
        body = [_without_nonlocal(each) for each in body]
    globals_declared = [each for each in _own_statements(scope.body) if isinstance(each, ast.Global)]
    declared += [ast.Global(list(each.names)) for each in globals_declared]
    if globals_declared:
        body = [_without_global(each) for each in body]
    yields: list[ast.stmt] = [ast.If(ast.Constant(False), [ast.Expr(ast.Yield(None))], [])] if is_generator else []
    new = type(scope)(
        name=VARIANT,
        args=ast.arguments([], arguments, None, [], [], None, []),
        body=[*declared, *head, *body, *yields],
        decorator_list=[],
        returns=None,
    )
    _like(new, scope)
    if version >= (3, 12):
        vars(new)["type_params"] = []
    kept = [ast.arg(name) for name in own]
    maker = ast.FunctionDef(MAKER, ast.arguments([], kept, None, [], [], None, []), [new], [], None)
    _like(maker, scope)
    if version >= (3, 12):
        vars(maker)["type_params"] = []
    return _finished(_swap(_around(tree, scope), scope, maker)), new


def _around(tree: ast.Module, scope: _Function) -> ast.Module:
    """Returns what of a module the compiler must see to compile a function as it did: its own top-level statement, and all imports."""
    kept = [each for each in tree.body if each.lineno <= scope.lineno <= (each.end_lineno or each.lineno)]
    return ast.Module([*(each for each in own_imports(tree.body) if each not in kept), *kept], [])


def own_imports(body: Sequence[ast.AST]) -> list[ast.stmt]:
    """Returns the imports of a module's own code, in blocks, too: a call of what a module imports is compiled in a way of its own."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            found.extend(own_imports(list(ast.iter_child_nodes(node))))
    return found


def _prologue(values: Sequence[str], line: int) -> list[ast.stmt]:
    """Returns the statements that set the locals; afterwards nothing but the locals holds their values."""
    frame_values = ast.Attribute(_load(FRAME), "values", ast.Load())
    head: list[ast.stmt] = [
        ast.Assign([ast.Name(name, ast.Store())], ast.Subscript(frame_values, ast.Constant(name), ast.Load())) for name in values
    ]
    head.append(ast.Expr(ast.Call(ast.Attribute(frame_values, "clear", ast.Load()), [], [])))
    return [_at_line(each, line) for each in head]


def _yields(scope: _Function) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for each in scope.body for node in _own_nodes(each))


def _own_nodes(node: ast.AST) -> list[ast.AST]:
    found = [node]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return found
    for child in ast.iter_child_nodes(node):
        found.extend(_own_nodes(child))
    return found


def _own_statements(body: Sequence[ast.stmt]) -> list[ast.AST]:
    return [node for each in body for node in _own_nodes(each)]


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return self.new
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and any(isinstance(each, ast.AST) for each in value):
                changed = [self.visit(each) if isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case) else each for each in value]
                if any(one is not other for one, other in zip(changed, value, strict=True)):
                    node = copy.copy(node)
                    setattr(node, field, changed)
        return node


def _swap(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    """Returns a tree with one statement replaced; only the nodes above it are copied."""
    swapped = _Swap(old, new).visit(tree)
    assert isinstance(swapped, ast.Module)
    return swapped


class _Replace(ast.NodeTransformer):
    def __init__(self, replaced: dict[int, ast.expr]) -> None:
        self.replaced = replaced

    def visit(self, node: ast.AST) -> ast.AST:
        new = self.replaced.get(id(node))
        if new is not None:
            return ast.copy_location(new, node)
        if isinstance(node, ast.stmt | ast.expr | ast.withitem | ast.keyword):
            node = copy.copy(node)
            for field, value in ast.iter_fields(node):
                if field in ("body", "orelse", "finalbody", "handlers", "cases", "target", "targets") and not isinstance(node, ast.IfExp):
                    continue
                if isinstance(value, list):
                    setattr(node, field, [self.visit(each) if isinstance(each, ast.AST) else each for each in value])
                elif isinstance(value, ast.AST):
                    setattr(node, field, self.visit(value))
        return node


def _replace(node: _T, replaced: dict[int, ast.expr], above: list[ast.AST]) -> _T:
    """Returns a copy of a statement or expression with sub-expressions replaced, and without the branches that were decided before."""
    return cast(_T, _Replace({**replaced, **_decided(replaced, above)}).visit(node))


def _decided(replaced: dict[int, ast.expr], above: list[ast.AST]) -> dict[int, ast.expr]:
    """Of ``and``, ``or`` and conditional expressions around the call, keeps only what was still to be evaluated."""
    decided: dict[int, ast.expr] = {}
    for node in reversed(above):
        known = {**replaced, **decided}
        if isinstance(node, ast.BoolOp):
            index = next(at for at, each in enumerate(node.values) if _holds(each, known))
            if index:
                values = [_Replace(known).visit(each) for each in node.values[index:]]
                decided[id(node)] = ast.BoolOp(node.op, values) if len(values) > 1 else values[0]  # type: ignore[arg-type,assignment]
        elif isinstance(node, ast.IfExp) and not _holds(node.test, known):
            branch = node.body if _holds(node.body, known) else node.orelse
            decided[id(node)] = _Replace(known).visit(branch)  # type: ignore[assignment]
    return decided


def _holds(node: ast.AST, known: dict[int, ast.expr]) -> bool:
    return any(id(each) in known for each in ast.walk(node))


class _Declarations(ast.NodeTransformer):
    def __init__(self, kind: type[ast.stmt]) -> None:
        self.kind = kind

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, self.kind):
            return ast.copy_location(ast.Pass(), node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.expr):
            return node
        return self.generic_visit(copy.copy(node))


def _without_nonlocal(node: ast.stmt) -> ast.stmt:
    return _Declarations(ast.Nonlocal).visit(copy.deepcopy(node))  # type: ignore[return-value]


def _without_global(node: ast.stmt) -> ast.stmt:
    return _Declarations(ast.Global).visit(copy.deepcopy(node))  # type: ignore[return-value]


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _like(node: _T, model: ast.AST) -> _T:
    return ast.copy_location(node, model)


def _at_line(node: _T, line: int) -> _T:
    return ast.copy_location(node, ast.Pass(lineno=line, col_offset=0, end_lineno=line, end_col_offset=0))


def _flat(body: list[ast.stmt], model: ast.stmt) -> ast.stmt:
    return _like(ast.If(ast.Constant(True), body, []), model)


def _finished(tree: ast.Module) -> ast.Module:
    return ast.fix_missing_locations(tree)

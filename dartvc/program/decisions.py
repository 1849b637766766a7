"""Which way a program takes through its code: statements that decide are numbered, and marks for them put into the tree that is compiled.

Each function, class or module has a stream of its own. In it every pair of a statement and an outcome has a number, by the order of the
statements in the source: 1 and 0 for the branches of ``if``; 1 for each turn of a loop and 0 where it is exhausted; for ``try`` with handlers 0
where its body is through and k + 1 where handler k begins; for ``match`` k where case k begins, and one more where none matched. A mark is
``if __dvc_p7__: __dvc_p7__(number)``: a builtin appends to the stream, and is None where nothing is recorded any more (3 to 5 ns). On the level of a module or class
it is declared global, so that it is looked up as fast as in functions (16 ns in place of 62).

A loop that decides nothing and calls nothing bears no marks: a turn of it takes 20 to 50 ns, and all that a mark would tell is that there was one more.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator

from dartvc.model.records import NamedTuple
from dartvc.program.tracebacks import CAUGHT
from dartvc.program.watched import stand_at

__all__ = [
    "Deciding",
    "DecidingScope",
    "NextStream",
    "ScopePlace",
    "as_text",
    "blocks_of",
    "encoded",
    "find_scopes",
    "is_plain_loop",
    "note_streams",
    "outcomes_of",
    "put_marks",
]

Deciding = ast.If | ast.For | ast.AsyncFor | ast.While | ast.Try | ast.TryStar | ast.Match
Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_PLAIN = ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.Pass
_CALLING = ast.Call | ast.MatMult | ast.Await | ast.Yield | ast.YieldFrom | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_NARROW = 250
_WIDE = 60_000
_SURROGATES, _SURROGATES_SIZE = 0xD800, 0x800
_NOTE = "dartvc_stream"
_WHILE_STAYS_SLOW = sys.version_info < (3, 12)
"""CPython 3.11 begins to specialise code at calls and backward jumps, and ``while`` jumps back by its condition, which does not count; ``continue`` does."""
_LEAVING_ALONE = frozenset(
    " ".join(
        (
            "staticmethod classmethod property cached_property setter getter deleter wraps lru_cache cache singledispatch register contextmanager",
            "asynccontextmanager abstractmethod override overload final total_ordering dataclass unique runtime_checkable no_grad inference_mode",
            "fixture parametrize command option argument",
        )
    ).split()
)
"""Decorators that do not look into the code that they are given: what compiles it has to see the user's own."""
_COMPILING = frozenset(("jit", "njit", "vectorize", "guvectorize", "cfunc", "stencil", "compile", "script", "kernel"))
_COMPILING_CALL = re.compile(rf"\b(?:{'|'.join(sorted(_COMPILING))})\s*\(")


class ScopePlace(NamedTuple):
    """Where a module, class or function stands whose statements decide.

    Attributes:
        number: its place among all such scopes of the file.
        is_local: whether it is a function, or stands in one.
        width: the bytes of a number in its stream; 0: nothing is recorded.
    """

    number: int
    qualname: str
    line: int
    end_line: int | None
    indentation: int
    is_local: bool
    width: int


class DecidingScope(NamedTuple):
    """A module, class or function with statements that decide.

    Attributes:
        statements: these, in the order of the source, each with the number of its outcome 0.
    """

    place: ScopePlace
    node: Scope
    statements: tuple[tuple[Deciding, int], ...]


NextStream = Callable[[str, str, ScopePlace], str]
"""Is called for each scope with the file, its text and the place; returns the builtin that appends to its stream."""


def outcomes_of(node: Deciding) -> int:
    """Returns how many outcomes a statement has; 0 for ``try`` without handlers."""
    if isinstance(node, ast.Try | ast.TryStar):
        return len(node.handlers) + 1 if node.handlers else 0
    return len(node.cases) + 1 if isinstance(node, ast.Match) else 2


def is_plain_loop(node: ast.stmt) -> bool:
    """Whether a statement is a loop with nothing in it but assignments that call nothing, and other such loops."""
    if not isinstance(node, ast.For | ast.While) or node.orelse or (isinstance(node, ast.While) and _may_take_long(node.test)):
        return False
    return all(is_plain_loop(each) or (isinstance(each, _PLAIN) and not _may_take_long(each)) for each in node.body)


def _may_take_long(node: ast.AST) -> bool:
    return any(isinstance(each, _CALLING) for each in ast.walk(node))


def encoded(number: int, width: int) -> int | bytes:
    """Returns what the mark of a number gives to the builtin: a byte, or two that are a character of UTF-16."""
    if width == 1:
        return number
    return (number if number < _SURROGATES else number + _SURROGATES_SIZE).to_bytes(2, "little")


def as_text(stream: bytes, width: int) -> str:
    """Returns a stream as text, one character for each decision; `encoded` numbers decoded the same way find their like in it."""
    return stream.decode("latin-1" if width == 1 else "utf-16-le")


def find_scopes(tree: ast.Module, text: str) -> list[DecidingScope]:
    """Returns the scopes of a file, as parsed from a text, that have statements that decide; in the order of the source."""
    compiled = {
        each.id
        for call in (ast.walk(tree) if _COMPILING_CALL.search(text) else ())
        if isinstance(call, ast.Call) and _last_name(call.func) in _COMPILING
        for each in call.args
        if isinstance(each, ast.Name)
    }
    found: list[DecidingScope] = []
    _add_scope(tree, "<module>", "", found, compiled, is_local=False, is_left_alone=False)
    return found


def _add_scope(
    scope: Scope, qualname: str, prefix: str, found: list[DecidingScope], compiled: set[str], *, is_local: bool, is_left_alone: bool
) -> None:
    statements: list[tuple[Deciding, int]] = []
    inner: list[_SCOPES] = []
    count = 0
    for each in _own_statements(scope.body):
        if isinstance(each, _SCOPES):
            inner.append(each)
        elif isinstance(each, Deciding) and outcomes_of(each):
            if not is_plain_loop(each):
                statements.append((each, count))
            count += outcomes_of(each)
    if statements:
        width = 0 if is_left_alone or count > _WIDE else 1 if count <= _NARROW else 2
        line, end_line, indentation = (1, None, 0) if isinstance(scope, ast.Module) else (scope.lineno, scope.end_lineno, scope.col_offset)
        place = ScopePlace(len(found), qualname, line, end_line, indentation, is_local, width)
        found.append(DecidingScope(place, scope, tuple(statements)))
    for each in inner:
        name, is_class = prefix + each.name, isinstance(each, ast.ClassDef)
        is_alone = is_left_alone or each.name in compiled or not all(_last_name(mark) in _LEAVING_ALONE for mark in each.decorator_list)
        _add_scope(
            each,
            name,
            name + ("." if is_class else ".<locals>."),
            found,
            compiled,
            is_local=is_local or not is_class,
            is_left_alone=is_alone,
        )


def _own_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields statements with those in them, in order; of functions and classes only the definition."""
    for each in body:
        yield each
        if not isinstance(each, _SCOPES):
            for part in blocks_of(each):
                yield from _own_statements(part)


def _all_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields statements with those in them."""
    for each in body:
        yield each
        for part in blocks_of(each):
            yield from _all_statements(part)


def blocks_of(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yields the blocks of a statement, in order."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        part = getattr(node, name, ())
        if name in ("handlers", "cases"):
            for each in part:
                yield each.body
        elif part:
            yield part


def _last_name(node: ast.expr) -> str:
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def note_streams(tree: ast.Module, filename: str, text: str, next_stream: NextStream) -> None:
    """Notes on the statements of a tree, as parsed, which numbers they have in which stream: copies of them keep that."""
    for scope in find_scopes(tree, text):
        if scope.place.width:
            switch = next_stream(filename, text, scope.place)
            if not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef):
                setattr(scope.node, _NOTE, (switch, 0, 0))
            for statement, first in scope.statements:
                setattr(statement, _NOTE, (switch, first, scope.place.width))


def put_marks(tree: ast.Module) -> None:
    """Puts marks where statements bear notes."""
    for node in [tree, *_all_statements(tree.body)]:
        note: tuple[str, int, int] | None = getattr(node, _NOTE, None)
        if note is None:
            continue
        if isinstance(node, ast.Module | ast.ClassDef):
            node.body.insert(_first_place(node.body), ast.copy_location(ast.Global([note[0]]), node.body[0]))
        elif isinstance(node, Deciding):
            _mark(node, *note)


def _first_place(body: list[ast.stmt]) -> int:
    """Returns where statements may be put: behind the docstring and what comes from ``__future__``."""
    place = int(isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant))
    while place < len(body) and _is_future(body[place]):
        place += 1
    return place


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _mark(node: Deciding, switch: str, first: int, width: int) -> None:
    def mark(outcome: int) -> ast.stmt:
        call = ast.Call(ast.Name(switch, ast.Load()), [ast.Constant(encoded(first + outcome, width))], [])
        made = ast.If(ast.Name(switch, ast.Load()), [ast.Expr(call)], [])
        return stand_at(made, node)

    if isinstance(node, ast.Match):
        for number, case in enumerate(node.cases):
            case.body.insert(0, mark(number))
        if node.cases[-1].guard is not None or not _is_irrefutable(node.cases[-1].pattern):
            node.cases.append(ast.match_case(ast.copy_location(ast.MatchAs(), node), None, [mark(len(node.cases))]))
    elif isinstance(node, ast.Try | ast.TryStar):
        for number, handler in enumerate(node.handlers):
            strip = ast.If(ast.Name(CAUGHT, ast.Load()), [ast.Expr(ast.Call(ast.Name(CAUGHT, ast.Load()), [], []))], [])
            handler.body[:0] = [stand_at(strip, node), mark(number + 1)]
        node.orelse.insert(0, mark(0))
    else:
        node.body.insert(0, mark(1))
        node.orelse.insert(0, mark(0))
        if isinstance(node, ast.While) and _WHILE_STAYS_SLOW:
            node.body.append(ast.copy_location(ast.Continue(), node))


def _is_irrefutable(pattern: ast.pattern) -> bool:
    if isinstance(pattern, ast.MatchOr):
        return any(map(_is_irrefutable, pattern.patterns))
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or _is_irrefutable(pattern.pattern))

"""The loops around a place in a program, from its source alone; and where a running frame keeps their iterators.

A site is an instruction of a code object. Its loops are found once: the ``for`` and ``while`` statements around it in the source, out to
the function that it stands in. For each ``for`` loop the site's value stack holds the iterator at a depth known from the bytecode.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dartvc.host.places import is_library_file
from dartvc.model.records import NamedTuple
from dartvc.program.flow import CodeFlow, range_of
from dartvc.program.frames import local_slots
from dartvc.program.sources import MODULE_SCOPE

__all__ = ["CodeLoops", "Level", "Loop", "base_of"]

_NOTHING = ast.Module([], [])
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_INNER_CODE = frozenset({"<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop statement.

    ``function``, ``name`` and ``ordinal`` (its number among the loops of one name in one function) tell it again in another version of the
    program, where lines have moved.

    Attributes:
        function: qualified name of the function, ``<module>`` at top level.
        name: the first name that it binds; of a ``while`` loop the first name in its condition, else ``while``.
        ordinal: 0 for the first loop of this name.
        file: the name of the file, without its folder.
        targets: all names that it binds; of a ``while`` loop the name in its condition.
        line: its first line.
        is_for: whether it is a ``for`` loop.
    """

    function: str
    name: str
    ordinal: int
    file: str
    targets: tuple[str, ...] = field(compare=False)
    line: int = field(compare=False)
    is_for: bool = field(compare=False)


class Level(NamedTuple):
    """One loop around a site, as a frame of one code object holds it.

    Attributes:
        loop: the loop.
        slot: where in the frame's slots its iterator lies; -1 when that is not known or it has none.
        place: line and column as one number, to order what happens within one iteration.
        readers: for each target how to read it: (slot in the frame or -1, name).
        base: (start, step) of a ``for`` over a ``range`` with a known start, for iterators that have forgotten it.
    """

    loop: Loop
    slot: int
    place: int
    readers: tuple[tuple[int, str], ...]
    base: tuple[int, int] | None


class Site(NamedTuple):
    """A place that logs, or calls what logs: the loops around it, outermost first, and its own line and column as one number."""

    levels: tuple[Level, ...]
    place: int


class CodeLoops:
    """What is known of one code object: its sites, found when they are first met."""

    def __init__(self, code: types.CodeType) -> None:
        self.code = code
        self.sites: dict[int, Site] = {}
        self.is_module = code.co_name == MODULE_SCOPE
        self.is_generator = bool(code.co_flags & _GENERATORS) and not self.is_module
        self.is_user = not is_library_file(code.co_filename)
        self._flow: CodeFlow | None = None

    def site(self, lasti: int) -> Site:
        """Returns the site of an instruction."""
        site = self.sites.get(lasti)
        if site is None:
            try:
                site = self._find(lasti)
            except (ValueError, IndexError, KeyError, SyntaxError, RecursionError):
                site = Site((), 0)
            self.sites[lasti] = site
        return site

    def iterator_slot(self, lasti: int) -> int:
        """Returns the slot of the iterator of the only ``for`` loop around an instruction; -1 when there is none or more than one."""
        heads = [each for each in self._flow_of().instructions if each.opname == "FOR_ITER" and each.offset <= lasti < each.argval]
        return self._slot_of(heads[0]) if len(heads) == 1 else -1

    def _flow_of(self) -> CodeFlow:
        if self._flow is None:
            self._flow = CodeFlow(self.code, _NOTHING)
        return self._flow

    def _slot_of(self, head: Any) -> int:
        depth = self._flow_of().depths.get(head.offset, 0)
        return len(local_slots(self.code)) + depth - 1 if depth > 0 else -1

    def _find(self, lasti: int) -> Site:
        instruction = self._flow_of().instruction_at(lasti)
        where = range_of(instruction)
        if where is None or self.code.co_name in _INNER_CODE or not self.is_user:
            return Site((), 0)
        loops = _loops_at(self.code.co_filename, where)
        return Site(tuple(self._level(loop, node, lasti) for loop, node in loops), _place(where[0], where[1]))

    def _level(self, loop: Loop, node: ast.For | ast.While, lasti: int) -> Level:
        slots = local_slots(self.code)
        readers = tuple((slots.index(name) if name in slots else -1, name) for name in loop.targets)
        place = _place(node.lineno, node.col_offset)
        if isinstance(node, ast.While):
            return Level(loop, -1, place, readers, None)
        heads = [each for each in self._flow_of().instructions if each.opname == "FOR_ITER" and _belongs(range_of(each), node)]
        inside = [each for each in heads if each.offset <= lasti < each.argval] or heads
        return Level(loop, self._slot_of(inside[-1]) if inside else -1, place, readers, base_of(node.iter))


def _place(line: int, column: int) -> int:
    return line << 12 | min(column, 4095)


def _belongs(where: tuple[int, int, int, int] | None, node: ast.For) -> bool:
    """Whether an instruction at a place is the head of a loop: it stands at the iterable, or, where code was rewritten, at the whole statement."""
    if where is None:
        return False
    iterable = node.iter
    first, last = (iterable.lineno, iterable.col_offset), (iterable.end_lineno or 0, iterable.end_col_offset or 0)
    whole = (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
    return where == whole or where == (*first, *last)


def base_of(iterable: ast.expr) -> tuple[int, int] | None:
    """Returns (start, step) of a ``range`` that is written with a known start; None of anything else."""
    if not (isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range"):
        return None
    given = iterable.args
    if iterable.keywords or not 1 <= len(given) <= 3:
        return None
    try:
        start = 0 if len(given) == 1 else ast.literal_eval(given[0])
        step = 1 if len(given) < 3 else ast.literal_eval(given[2])
    except ValueError:
        return None
    return (start, step) if isinstance(start, int) and isinstance(step, int) and step else None


@lru_cache(maxsize=256)
def _tree_of(filename: str, size: int) -> ast.Module | None:
    """Parses a file; ``size`` tells its versions apart."""
    lines = linecache.getlines(filename)
    try:
        return ast.parse("".join(lines), filename) if lines else None
    except (SyntaxError, ValueError):
        return None


def _loops_at(filename: str, where: tuple[int, int, int, int]) -> list[tuple[Loop, ast.For | ast.While]]:
    """Returns the loops around a place, outermost first, within the innermost function around it."""
    tree = _tree_of(filename, sum(map(len, linecache.getlines(filename))))
    if tree is None:
        return []
    chain: list[ast.For | ast.While] = []
    scope: ast.AST = tree
    function, prefix = MODULE_SCOPE, ""
    node: ast.AST | None = tree
    while node is not None:
        inner = _child_at(node, where)
        if isinstance(node, ast.For | ast.While) and inner is not None and not any(inner is each for each in node.orelse):
            chain.append(node)
        elif isinstance(node, ast.While) and inner is None:
            chain.append(node)  # in its condition
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _in_body(inner, where):
            chain, scope, function = [], inner, prefix + inner.name
            prefix = function + ("." if isinstance(inner, ast.ClassDef) else ".<locals>.")
        node = inner
    return [(_loop_of(each, scope, function, filename), each) for each in chain]


def _child_at(node: ast.AST, where: tuple[int, int, int, int]) -> ast.stmt | None:
    """Returns the statement directly inside a node that holds a place."""
    for child in _statements_in(node):
        first = min([child.lineno, *(each.lineno for each in getattr(child, "decorator_list", ()))])
        if (first, 0 if first != child.lineno else child.col_offset) <= where[:2] and where[2:] <= (
            child.end_lineno or child.lineno,
            child.end_col_offset or 0,
        ):
            return child
    return None


def _statements_in(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            yield from child.body


def _in_body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, where: tuple[int, int, int, int]) -> bool:
    return (node.body[0].lineno, 0) <= where[:2]


def _loop_of(node: ast.For | ast.While, scope: ast.AST, function: str, filename: str) -> Loop:
    targets = _targets(node)
    name = targets[0] if targets else "while" if isinstance(node, ast.While) else "for"
    alike = [each for each in _loops_of_scope(scope) if (_targets(each) or ("while" if isinstance(each, ast.While) else "for",))[0] == name]
    ordinal = next(number for number, each in enumerate(alike) if each is node)
    return Loop(function, name, ordinal, os.path.basename(filename), targets, node.lineno, isinstance(node, ast.For))


def _loops_of_scope(scope: ast.AST) -> Iterator[ast.For | ast.While]:
    for child in _statements_in(scope):
        if isinstance(child, ast.For | ast.While):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _loops_of_scope(child)


def _targets(node: ast.For | ast.While) -> tuple[str, ...]:
    if isinstance(node, ast.For):
        return tuple(each.id for each in ast.walk(node.target) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
    names = [each for each in ast.walk(node.test) if isinstance(each, ast.Name)]
    called = {id(each.func) for each in ast.walk(node.test) if isinstance(each, ast.Call)}
    return tuple(each.id for each in names if id(each) not in called)[:1]

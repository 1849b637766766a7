"""Cells of a shell: sources without a file, run statement by statement, each statement compiled by itself."""

from __future__ import annotations
import __future__ as features

import ast
import functools
import operator
import types
from collections.abc import Sequence

from dartvc.program.capture import CapturedFrame, Reader
from dartvc.program.places import NotResumable
from dartvc.program.resuming import remaining_statements
from dartvc.program.sources import MODULE_SCOPE, Sources, SourceUnit, digest_of_code

__all__ = ["FEATURES", "add_cell", "announce", "compile_statement", "continuation", "future_flags"]

FEATURES: int = functools.reduce(operator.or_, (getattr(features, name).compiler_flag for name in features.all_feature_names))
"""The compiler's flags that a shell carries from a cell to the next ones."""
_COROUTINE = 0x80


class CellUnit(SourceUnit):
    """A cell: what a function compiles to depends on the statements compiled with it, and a shell compiles each by itself."""

    def compiled(self) -> list[types.CodeType]:
        """Returns the code objects of its statements."""
        return [compile_statement(node, self.filename, self.flags)[0] for node in self.tree.body]


def add_cell(sources: Sources, filename: str, text: str, flags: int) -> SourceUnit | None:
    """Registers a cell's text under the file name that the shell compiled it with; None when it is no Python.

    Args:
        flags: those of `FEATURES` that it was compiled with.
    """
    known = sources.find(filename)
    if isinstance(known, CellUnit) and known.text == text and known.flags & FEATURES == flags:
        return known
    try:
        return sources.put(CellUnit(filename, text, flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    except (SyntaxError, ValueError, RecursionError):
        return None


def future_flags(text: str) -> int:
    """Returns the flags of the compiler that a cell brings by what it imports from ``__future__``.

    Raises:
        SyntaxError: it is no Python.
    """
    if "__future__" not in text:
        return 0
    code: types.CodeType = compile(text, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code.co_flags & FEATURES


def announce(reader: Reader, unit: SourceUnit, code: types.CodeType, known: Sequence[types.CodeType] = ()) -> None:
    """Tells a reader which place in a cell the code object has that runs one of its statements.

    Args:
        known: code of statements that were begun elsewhere and are finished here (see `continuation`), or are watched.

    Raises:
        NotResumable: the code is not that of the cell, or the cell awaits something.
    """
    if unit.code.co_flags & _COROUTINE:
        raise NotResumable("the cell awaits something")
    if code not in known and not any(code == each for each in _codes_at(unit, code)):
        raise NotResumable("the code is not what the cell says; something has transformed it")
    reader.register(code, unit.tree, 1, digest_of_code(unit.code))


def _codes_at(unit: SourceUnit, code: types.CodeType) -> list[types.CodeType]:
    """Returns what a shell can have compiled the statement to that stands where a code object does."""
    lines = [line for _, _, line in code.co_lines() if line]
    if not lines:
        return []
    line = max(lines)
    made = []
    for node in unit.tree.body:
        first = min((each.lineno for each in getattr(node, "decorator_list", ())), default=node.lineno)
        if first <= line <= (node.end_lineno or node.lineno):
            made.extend(compile_statement(node, unit.filename, unit.flags))
    return made


def compile_statement(node: ast.stmt, filename: str, flags: int) -> list[types.CodeType]:
    """Returns a statement's code as a shell compiles it: executed, or shown."""
    roots = (ast.Module([node], []), ast.Interactive([node]))
    return [compile(root, filename, "exec" if isinstance(root, ast.Module) else "single", flags, dont_inherit=True) for root in roots]


def continuation(frame: CapturedFrame, reader: Reader, filename: str) -> tuple[list[ast.stmt], list[types.CodeType]]:
    """Returns the statements that a cell has still to run, and the code of the first one, which begins in the middle.

    Args:
        frame: the cell's own.
        filename: under which the cell's text is registered here.

    Raises:
        NotResumable: the source is not there or is no longer what ran.
    """
    if frame.qualname != MODULE_SCOPE:
        raise NotResumable("the outermost frame is not a cell's")
    unit = reader.sources.find(filename)
    statements = remaining_statements(frame, reader, filename)
    return statements, compile_statement(statements[0], filename, unit.flags if unit is not None else 0)

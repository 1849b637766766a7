"""The flow of a code object: how deep the value stack is at each instruction, and where statements begin.

An instruction begins a statement when control reaches it only from other statements: nothing of the statement has been evaluated there,
so that it can be run again from its start. Line numbers alone do not tell: an expression over several lines has several.
"""

from __future__ import annotations

import ast
import dis
import types
from bisect import bisect_right
from typing import Any

from dartvc.program.sources import Scope

__all__ = ["CodeFlow"]

_NO_FALLTHROUGH = frozenset(
    {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"}
)
_Range = tuple[int, int, int, int]


class CodeFlow:
    """What is known of a code object compiled from ``scope``, without running it."""

    def __init__(self, code: types.CodeType, scope: Scope) -> None:
        self.code = code
        self.scope = scope
        self.instructions = [each for each in dis.get_instructions(self.code) if each.opname != "CACHE"]
        self._index = {each.offset: index for index, each in enumerate(self.instructions)}
        self._offsets = [each.offset for each in self.instructions]
        self.depths, self._before = self._follow()
        self._statements = _statements_by_range(self.scope)
        self._owner: dict[int, ast.stmt | None] = {}

    def instruction_at(self, lasti: int) -> dis.Instruction:
        """Returns the instruction that ``f_lasti`` stands in (it may point at an inline cache behind it)."""
        return self.instructions[bisect_right(self._offsets, lasti) - 1]

    def index_of(self, instruction: dis.Instruction) -> int:
        """Returns the position of an instruction among `instructions`."""
        return self._index[instruction.offset]

    def index_at(self, offset: int) -> int:
        """Returns the position of the instruction at an offset."""
        return self._index[offset]

    def is_fresh(self, lasti: int) -> bool:
        """Whether a generator or coroutine that stands there has not begun (since 3.13 it stands behind ``RETURN_GENERATOR``)."""
        index = self.index_of(self.instruction_at(lasti)) if lasti >= 0 else 0
        return lasti < 0 or any(each.opname == "RETURN_GENERATOR" for each in self.instructions[max(index - 1, 0) : index + 1])

    def owner(self, instruction: dis.Instruction) -> ast.stmt | None:
        """Returns the innermost statement that an instruction belongs to."""
        offset = instruction.offset
        if offset not in self._owner:
            self._owner[offset] = self._innermost(range_of(instruction))
        return self._owner[offset]

    def begins(self, instruction: dis.Instruction) -> ast.stmt | None:
        """Returns the statement that begins at an instruction, None when it is in the middle of one."""
        statement = self.owner(instruction)
        if statement is None:
            return None
        for before in self._before.get(instruction.offset, ()):
            earlier = self.instructions[self._index[before]]
            if self.owner(earlier) is statement and earlier.opname not in ("NOP", "RESUME", "JUMP_BACKWARD"):
                return None
        return statement

    def _innermost(self, place: _Range | None) -> ast.stmt | None:
        if place is None or place[:2] == place[2:]:
            return None  # no code of the user's
        best: ast.stmt | None = None
        for (first, first_column, last, last_column), statement in self._statements:
            if (first, first_column) <= place[:2] and place[2:] <= (last, last_column):
                best = statement  # inner ones come later
        return best

    def _follow(self) -> tuple[dict[int, int], dict[int, set[int]]]:
        depths: dict[int, int] = {0: 0}
        before: dict[int, set[int]] = {}
        handlers: Any = dis._parse_exception_table(self.code)  # type: ignore[attr-defined]
        todo = [0]
        todo_handlers = [(entry.target, entry.depth + 1 + bool(entry.lasti)) for entry in handlers]
        for target, depth in todo_handlers:
            depths[target] = depth
            todo.append(target)
        while todo:
            offset = todo.pop()
            index = self._index[offset]
            instruction = self.instructions[index]
            for target, depth in self._next(index, instruction, depths[offset]):
                before.setdefault(target, set()).add(offset)
                if target not in depths:
                    depths[target] = depth
                    todo.append(target)
        return depths, before

    def _next(self, index: int, instruction: dis.Instruction, depth: int) -> list[tuple[int, int]]:
        argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
        following = []
        if instruction.opname == "RETURN_GENERATOR":
            following.append((self.instructions[index + 1].offset, depth + 1))
        elif instruction.opname not in _NO_FALLTHROUGH and index + 1 < len(self.instructions):
            effect = dis.stack_effect(instruction.opcode, argument, jump=False)
            following.append((self.instructions[index + 1].offset, depth + effect))
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            effect = dis.stack_effect(instruction.opcode, argument, jump=True)
            following.append((instruction.argval, depth + effect))
        return following


def range_of(instruction: dis.Instruction) -> _Range | None:
    """Returns (line, column, end line, end column) of an instruction's source; columns count UTF-8 bytes, as the tree's do."""
    place = instruction.positions
    if place is None or place.lineno is None or place.col_offset is None or place.end_lineno is None or place.end_col_offset is None:
        return None
    return place.lineno, place.col_offset, place.end_lineno, place.end_col_offset


def _statements_by_range(scope: Scope) -> list[tuple[_Range, ast.stmt]]:
    """Returns all statements of a scope, outer ones before inner ones, without those of nested functions and classes."""
    found: list[tuple[_Range, ast.stmt]] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                first, column = child.lineno, child.col_offset
                for decorator in getattr(child, "decorator_list", ()):
                    if decorator.lineno < first:
                        first, column = decorator.lineno, decorator.col_offset - 1
                found.append(((first, column, child.end_lineno or first, child.end_col_offset or 0), child))
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    continue
            if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                visit(child)

    visit(scope)
    return found

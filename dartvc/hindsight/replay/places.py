"""A recorded position, found again in the program with log statements added; and the order of a log call and a position.

A patched text is the old one with insertions, so that every old statement has one image, which begins where its first character went. A
position has an image when the stack holds the same things there. A program may be entered in the middle when what was inserted changes nothing
that lasts: log statements, and imports, functions and constants at the top of a file, which are then run first.
"""

from __future__ import annotations

import ast
import copy
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.hindsight.contexts import Context, iteration_of
from dartvc.hindsight.loops import CodeLoops
from dartvc.hindsight.propagation.sourcetext import Insertion, SourceText, apply_insertions
from dartvc.hindsight.replay.counters import find_counter, number_of
from dartvc.model.records import NamedTuple
from dartvc.program.capture import CapturedFrame
from dartvc.program.places import NotResumable, block_of, path_of, path_to_call, pending_operands
from dartvc.program.sources import MODULE_SCOPE, Scope, SourceUnit, digest_of_code

__all__ = ["Boundary", "BoundaryFrame", "BoundaryLoop", "PatchedFile", "boundary_of", "is_behind"]

_VERSION = sys.version_info[:2]
_SETUP = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_ENDLESS = 1 << 60
_EMPTY_CELL = types.CellType()
_GENERATOR = 0x20 | 0x80 | 0x200


class PatchedFile:
    """One file of a program: the recorded text, and the patched one.

    Args:
        path: where the patched one lies.
        old: the recorded text.
        new: the patched text.
        passes: the insertions that lead from one to the other.
    """

    def __init__(self, path: str, old: str, new: str, passes: Sequence[Sequence[Insertion]]) -> None:
        self.old_unit = SourceUnit(path, old)
        self.new_unit = SourceUnit(path, new) if passes else self.old_unit
        self._old = SourceText(old, path)
        self._new = SourceText(new, path) if passes else self._old
        self._passes = passes

    def setup(self) -> list[ast.stmt]:
        """Returns the statements at the top that were added or added to, which are run before the program is entered in the middle.

        Raises:
            NotResumable: something was inserted that lasts in another way.
        """
        if not self._passes:
            return []
        imports = {ast.dump(each) for each in self._old.tree.body if isinstance(each, ast.Import | ast.ImportFrom)}
        found: list[ast.stmt] = []
        for each in self.added():
            is_top = any(each is top for top in self._new.tree.body)
            is_constant = isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
            if is_top and (isinstance(each, _SETUP) or is_constant):
                found.append(each)
            elif not isinstance(each, ast.Import | ast.ImportFrom) and _lasts(each):
                raise NotResumable(f"line {each.lineno} of the patched program keeps something from iteration to iteration")
        found += [each for each in self._new.tree.body if isinstance(each, ast.Import | ast.ImportFrom) and ast.dump(each) not in imports]
        return list(dict.fromkeys(found))

    @property
    def new_tree(self) -> ast.Module:
        """The tree that `added` speaks of."""
        return self._new.tree

    def added(self) -> list[ast.stmt]:
        """Returns the statements that were added, not those inside them."""
        starts = {self._image(self._old.start(each)) for each in ast.walk(self._old.tree) if isinstance(each, ast.stmt)}
        return list(self._added(self._new.tree, starts))

    def stopped_after(self, statement: ast.stmt, line: str) -> PatchedFile:
        """Returns the file with one more line behind a statement of `new_tree`, in the same block.

        Raises:
            NotResumable: the line goes on behind the statement.
        """
        end = self._new.line_end(self._new.end(statement))
        if end is None:
            raise NotResumable(f"line {statement.end_lineno} holds more than one statement")
        text = f"{self._new.newline}{self._new.indentation(self._new.start(statement))}{line}"
        stop = Insertion(end, 0, text)
        changed = apply_insertions(self._new.text, [stop])
        return PatchedFile(self.new_unit.filename, self._old.text, changed, [*self._passes, [stop]])

    def standing_before(self, frame: CapturedFrame, statement: ast.stmt) -> CapturedFrame:
        """Returns a frame that stands at the head of a loop, in this file, as it stands before a statement of the loop's body.

        Raises:
            NotResumable: the statement has no such place.
        """
        scope, _ = self.new_unit.find(frame.qualname, frame.first_line)
        if scope is None:
            raise NotResumable(f"{frame.qualname} is not in the source")
        image = self._statement(scope, self._new.offset(statement.lineno, statement.col_offset))
        place = path_of(scope, image)
        if len(place.items) != len(frame.stack):
            raise NotResumable("the stack holds something else there")
        moved = copy.copy(frame)
        moved.path, moved.kind, moved.line = place.path, "statement", image.lineno
        moved.values, moved.stack = dict(frame.values), list(frame.stack)
        return moved

    def around(self, frame: Mapping[str, Any]) -> tuple[list[tuple[ast.AST, str]], ast.stmt]:
        """Returns what a placed frame stands in (nodes, with the field that leads inwards), and its statement.

        Raises:
            NotResumable: it is not in this file.
        """
        scope, _ = self.new_unit.find(str(frame["function"]), int(frame["first_line"]))
        node: Any = scope
        steps: list[tuple[ast.AST, str]] = []
        for field, index in frame["path"]:
            steps.append((node, str(field).partition(".")[0]))
            try:
                node = block_of(node, field)[index]
            except (AttributeError, IndexError, TypeError):
                raise NotResumable("the statement is not in the source") from None
        return steps, node

    def _added(self, node: ast.AST, starts: set[int]) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and self._new.start(child) not in starts:
                yield child
            elif not isinstance(child, ast.expr):
                yield from self._added(child, starts)

    def codes(self) -> dict[tuple[str, int], tuple[types.CodeType, types.CodeType]]:
        """Returns the old and the new code of every function, by its qualified name and its first line in the old text."""
        found = {}
        for (name, line), old in self.old_unit.codes.items():
            new = self.new_unit.codes.get((name, self._line(line)))
            if new is not None:
                found[name, line] = (old, new)
        return found

    def place(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the recorded description of a frame as it would be in the patched file.

        Raises:
            NotResumable: it has no image there.
        """
        name, line = str(frame["function"]), int(frame["first_line"])
        scope, code = self.old_unit.find(name, line)
        new_scope, new_code = self.new_unit.find(name, self._line(line))
        if scope is None or code is None or new_scope is None or new_code is None or digest_of_code(code) != frame["digest"]:
            raise NotResumable(f"{name} is not the code that ran")
        moved = {**frame, "first_line": self._line(line), "digest": digest_of_code(new_code), "line": self._line(int(frame["line"]))}
        if not frame["path"]:
            return moved
        statement, _ = _statement_at(scope, frame["path"])
        image = self._statement(new_scope, self._image(self._old.start(statement)))
        in_loop = frame["kind"] == "loop"
        old_place, new_place = path_of(scope, statement, in_loop=in_loop), path_of(new_scope, image, in_loop=in_loop)
        call = frame.get("call")
        new_call = self._range(call) if call else None
        operands = [_operands(statement, call), _operands(image, new_call)] if frame["kind"] == "call" else [0, 0]
        if old_place.items != new_place.items or operands[0] != operands[1]:
            raise NotResumable(f"line {statement.lineno} holds something else in the patched program")
        return {**moved, "path": [list(step) for step in new_place.path], "call": new_call}

    def is_counted(self, placed: Mapping[str, Any]) -> bool:
        """Whether every ``while`` loop around a placed frame has a variable that counts its iterations."""
        scope, _ = self.new_unit.find(str(placed["function"]), int(placed["first_line"]))
        if scope is None:
            return False
        statement, through = _statement_at(scope, placed["path"])
        whiles = [each for each in (*through, statement) if isinstance(each, ast.While)]
        return all(find_counter(each, self.new_unit.tree) is not None for each in whiles)

    def _image(self, offset: int, *, is_end: bool = False) -> int:
        for insertions in self._passes:
            offset += sum(len(each.text) for each in insertions if each.offset < offset or (each.offset == offset and not is_end))
        return offset

    def _line(self, line: int) -> int:
        text = self._old.line(line)
        return self._new.line_of(self._image(self._old.offset(line, 0) + len(text) - len(text.lstrip())))

    def _range(self, call: Sequence[int]) -> tuple[int, int, int, int]:
        start, end = self._image(self._old.offset(call[0], call[1])), self._image(self._old.offset(call[2], call[3]), is_end=True)
        return (*self._position(start), *self._position(end))

    def _position(self, offset: int) -> tuple[int, int]:
        line = self._new.line_of(offset)
        before = self._new.text[self._new.offset(line, 0) : offset]
        return line, len(before.encode())

    def _statement(self, scope: Scope, start: int) -> ast.stmt:
        for each in ast.walk(scope):
            if isinstance(each, ast.stmt) and self._new.start(each) == start and each is not scope:
                return each
        raise NotResumable("the statement has no image in the patched program")


def _operands(statement: ast.stmt, call: Sequence[int] | None) -> int:
    if call is None:
        return 0
    above, node = path_to_call(statement, (call[0], call[1], call[2], call[3]))
    return len(pending_operands(above, node, _VERSION))


def _statement_at(scope: Scope, path: Sequence[Sequence[Any]]) -> tuple[ast.stmt, list[ast.stmt]]:
    """Returns the statement that a path leads to, and those that it leads through their bodies."""
    node: Any = scope
    through: list[ast.stmt] = []
    for number, (field, index) in enumerate(path):
        if number and field == "body":
            through.append(node)
        try:
            node = block_of(node, field)[index]
        except (AttributeError, IndexError, TypeError):
            raise NotResumable("the statement is not in the source") from None
    return node, through


def _lasts(statement: ast.stmt) -> bool:
    """Whether a statement leaves more behind than log records: a variable, an attribute, an item."""
    targets = {id(each) for node in ast.walk(statement) if isinstance(node, ast.For | ast.comprehension) for each in ast.walk(node.target)}
    return any(
        isinstance(each, ast.Name | ast.Attribute | ast.Subscript) and isinstance(each.ctx, ast.Store | ast.Del) and id(each) not in targets
        for each in ast.walk(statement)
    )


class BoundaryLoop(NamedTuple):
    """One loop around a position.

    Attributes:
        place: of the loop.
        body: the first place inside.
        number: of the iteration; of a ``while`` loop what orders its iterations.
        counter: of a ``while`` loop the variable that counts them.
        step: what is added to that.
        counted: where that is done.
    """

    place: int
    body: int
    number: int
    counter: str = ""
    step: int = 0
    counted: int = 0


@dataclass(frozen=True, slots=True)
class BoundaryFrame:
    """One frame of a position: its loops; then the statement, as places.

    ``end`` of a call is where the call ends; ``kind`` is that of the frame, ``loop`` also at the head of a ``while`` loop.
    """

    file: str
    function: str
    loops: tuple[BoundaryLoop, ...]
    start: int
    end: int
    call_end: int
    kind: str


Boundary = tuple[BoundaryFrame, ...]


def boundary_of(
    frames: Sequence[CapturedFrame], files: Mapping[str, PatchedFile], namespace_of: Callable[[str], Mapping[str, object]]
) -> Boundary:
    """Returns where loaded frames, placed in the patched program, stand.

    Args:
        frames: the frames.
        files: of the program.
        namespace_of: returns the globals of a module.

    Raises:
        NotResumable: a loop around them cannot tell the number of its iteration.
    """
    found = []
    for frame in frames:
        unit = files[frame.filename].new_unit
        scope, _ = unit.find(frame.qualname, frame.first_line)
        if scope is None:
            raise NotResumable(f"{frame.qualname} is not in the source")
        statement, through = _statement_at(scope, frame.path)
        kind, start = frame.kind, _number(statement.lineno, statement.col_offset)
        if isinstance(statement, ast.While):
            if kind != "statement":
                raise NotResumable("it stands in the condition of a while loop")
            kind = "loop"
        if kind == "loop":
            through = [*through, statement]
        iterators = list(frame.stack)
        loops = []
        for each in through:
            if isinstance(each, ast.While):
                loop = _counted_loop(each, unit.tree, start, _variables(frame, namespace_of))
                loops.append(loop._replace(number=loop.number - 1) if each is statement else loop)
            if isinstance(each, ast.For):
                number = iteration_of(_next_iterator(iterators), each.iter)
                if number is None:
                    raise NotResumable(f"the loop at line {each.lineno} does not know the number of its iteration")
                loops.append(BoundaryLoop(_number(each.lineno, each.col_offset), _number(each.body[0].lineno, 0), number))
        end = _number(statement.end_lineno or statement.lineno, statement.end_col_offset or 0)
        call_end = _number(frame.call[2], frame.call[3]) if frame.call else 0
        found.append(BoundaryFrame(frame.filename, frame.qualname, tuple(loops), start, end, call_end, kind))
    return tuple(found)


def _counted_loop(loop: ast.While, tree: ast.AST, place: int, variables: Mapping[str, object]) -> BoundaryLoop:
    """Returns a ``while`` loop around a place, numbered by the variable that counts its iterations.

    Raises:
        NotResumable: there is none.
    """
    counter = find_counter(loop, tree)
    if counter is not None:
        counted = _number(counter.statement.lineno, counter.statement.col_offset)
        number = number_of(variables.get(counter.name), counter.step, place > counted)
        if number is not None:
            start, body = _number(loop.lineno, loop.col_offset), _number(loop.body[0].lineno, 0)
            return BoundaryLoop(start, body, number, counter.name, counter.step, counted)
    raise NotResumable(f"the loop at line {loop.lineno} does not know the number of its iteration")


def _variables(frame: CapturedFrame, namespace_of: Callable[[str], Mapping[str, object]]) -> Mapping[str, object]:
    if frame.qualname == MODULE_SCOPE:
        return namespace_of(frame.module)
    cells = {name: cell.cell_contents for name, cell in frame.cells.items() if cell != _EMPTY_CELL}
    return {**frame.values, **cells}


def _next_iterator(stack: list[Any]) -> object:
    """Takes the next iterator from what lies on a stack; exits of ``with`` blocks stand between them."""
    while stack:
        item = stack.pop(0)
        if hasattr(item, "__next__"):
            return item
    raise NotResumable("an iterator is missing")


def is_behind(frames: Sequence[types.FrameType], context: Context | None, boundary: Boundary, codes: dict[int, CodeLoops]) -> bool | None:
    """Whether a log call comes after a position in the order of execution; None when that cannot be told.

    Args:
        frames: the user's frames, outermost first; the last one logs.
        context: of the call.
        boundary: the position.
        codes: what is known of code objects, by identity.
    """
    numbers = [each.iteration for each in context.chain()] if context is not None else []
    for depth, frame in enumerate(frames):
        if depth >= len(boundary) or frame.f_code.co_flags & _GENERATOR:
            return None
        there = boundary[depth]
        if frame.f_code.co_filename != there.file or frame.f_code.co_qualname != there.function:
            return None
        known = codes.get(id(frame.f_code))
        if known is None or known.code is not frame.f_code:
            known = codes[id(frame.f_code)] = CodeLoops(frame.f_code)
        levels, place = known.site(frame.f_lasti)
        own, numbers = numbers[: len(levels)], numbers[len(levels) :]
        if len(own) < len(levels):
            return None
        for index, (loop, level) in enumerate(zip(there.loops, levels, strict=False)):
            if loop.counter and level.place == loop.place:
                number = number_of(frame.f_locals.get(loop.counter), loop.step, place > loop.counted)
                if number is None:
                    return None
                own[index] = number
        decided = _within(there, [each.place for each in levels], own, place)
        if decided is not None:
            return decided
        if there.kind == "statement":
            return True
        call_end = _call_end(frame)
        if call_end != there.call_end:
            return call_end > there.call_end
    return None


def _within(there: BoundaryFrame, levels: Sequence[int], numbers: Sequence[int], place: int) -> bool | None:
    """Decides within one frame; None when both stand in the same statement of the same iterations."""
    for depth, loop in enumerate(there.loops):
        if depth >= len(levels):
            return place >= loop.body
        if levels[depth] != loop.place:
            return levels[depth] > loop.place
        if numbers[depth] != loop.number:
            return numbers[depth] > loop.number
    if there.kind == "loop":
        return False
    here = levels[len(there.loops)] if len(levels) > len(there.loops) else place
    if here < there.start:
        return False
    return True if here > there.end else None


def _call_end(frame: types.FrameType) -> int:
    for index, (_, end_line, _, end_column) in enumerate(frame.f_code.co_positions()):
        if index == frame.f_lasti // 2:
            return _number(end_line or 0, end_column or 0)
    return _ENDLESS


def _number(line: int, column: int) -> int:
    return line << 12 | min(column, 4095)

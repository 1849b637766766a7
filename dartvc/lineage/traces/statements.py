"""Statements over items that have no others in them: assignments, deletions, and what ends a way."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from dartvc.lineage.traces.calling import Calls
from dartvc.lineage.traces.expressions import OPERATORS, Surroundings
from dartvc.lineage.traces.heap import Constant, Heap, Instance, Library, Module, Result, Thing, UserClass
from dartvc.lineage.traces.items import LineageItem, Place, Step

__all__ = ["Source", "Statements", "Ways"]


class Ways(Protocol):
    """Which ways a run took through a file."""

    def outcomes(self, file: str, node: ast.stmt) -> frozenset[int] | None:
        """Returns the outcomes that a statement ever had: see `dartvc.program.decisions`; None: not known."""
        ...

    def note(self, file: str, node: ast.For | ast.While | ast.AsyncFor) -> str:
        """Returns how often a loop turned, and which ways its turns took, as text; empty: not known."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """One piece of the program's code: a file, or a cell; ``last_line``: statements that begin behind it were not reached."""

    file: str
    tree: ast.Module
    lines: Sequence[str]
    last_line: int = 1 << 30


class Statements(Calls):
    """Executes statements one after the other.

    Args:
        surroundings: what the program was given.
        ways: which ways it took.
    """

    def __init__(self, surroundings: Surroundings, ways: Ways) -> None:
        super().__init__(surroundings)
        self._ways = ways
        self._source = Source("", ast.Module([], []), [])
        self._around: tuple[int, ...] = ()
        self._controls: tuple[LineageItem, ...] = ()
        self._breaks: list[list[Heap]] = []
        self._steps = 0
        self._module_frames: dict[str, int] = {}
        self.main = self.new_frame()
        self.executions: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Step]] = {}
        """All executions of a statement that the same calls led to: the turns of a loop."""
        self.exits: dict[tuple[int, tuple[int, ...]], list[Step]] = {}
        """Statements that leave a function or a loop, by the identity of a syntax node around them and the calls that led there."""

    def block(self, body: Sequence[ast.stmt]) -> None:
        """Executes statements one after the other, until this way is left."""
        for each in body:
            if self.heap.is_left:
                return
            self._statement(each)

    def _statement(self, node: ast.stmt) -> None:
        self._steps += 1
        before = self.step
        line = self._source.lines[node.lineno - 1].strip() if node.lineno <= len(self._source.lines) else ""
        place = Place(self.frame.file, node.lineno, self.frame.function)
        self.step = Step(place, line, (*self._around, id(node)), self.frame.calls, self._controls, self.maker.last)
        self.executions.setdefault((self.step.nodes, self.step.calls), []).append(self.step)
        try:
            method = getattr(self, f"_exec_{type(node).__name__}", None)
            if method is not None:
                method(node)
        finally:
            self.step = before

    def _exec_Expr(self, node: ast.Expr) -> None:
        self.evaluate(node.value, is_unused=True)

    def _exec_Assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.bind(target, value)

    def _exec_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.evaluate(node.value))

    def _exec_AugAssign(self, node: ast.AugAssign) -> None:
        target = self.evaluate(_as_load(node.target))
        value = self.evaluate(node.value)
        opcode = f"{OPERATORS[type(node.op)]}="
        if isinstance(node.target, ast.Name) and self._is_scalar(target):
            self.bind(node.target, self.heap.new(self.item(opcode, [target, value]), Result("scalar", ())))
            return
        item = self.item(opcode, [target, value])
        if isinstance(node.target, ast.Name):
            self.heap.change(target, item, self.step)
            self.heap.hold(target, [value] if self.heap.nature(value) is None else [])
        else:
            self.bind(node.target, self.heap.new(item, None))

    def _is_scalar(self, thing: Thing) -> bool:
        nature = self.heap.nature(thing)
        return isinstance(nature, Constant) or (isinstance(nature, Result) and nature.name == "scalar")

    def bind(self, target: ast.expr, thing: Thing) -> None:
        """Gives a target of an assignment an object."""
        heap = self.heap
        if isinstance(target, ast.Name):
            heap.bind(self.frame.elsewhere.get(target.id, self.frame.own), target.id, thing, self.step)
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target, thing)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, thing)
        elif isinstance(target, ast.Attribute):
            base = self.evaluate(target.value)
            nature = heap.nature(base)
            if isinstance(nature, Module):
                heap.bind(nature.frame, target.attr, thing, self.step)
            elif isinstance(nature, Instance | UserClass):
                heap.items[base] = self.item(f".{target.attr}=", [base, thing])
                heap.set_field(base, target.attr, thing)
            elif not isinstance(nature, Library):
                heap.change(base, self.item(f".{target.attr}=", [base, thing]), self.step)
                heap.set_field(base, target.attr, thing)
        elif isinstance(target, ast.Subscript):
            self._bind_part(target, thing)

    def _bind_part(self, target: ast.Subscript, thing: Thing) -> None:
        base, index = self.evaluate(target.value), self.evaluate(target.slice)
        heap = self.heap
        heap.change(base, self.item("[]=", [base, index, thing]), self.step)
        name = f"[{heap.constant(index)!r}]"
        if type(heap.nature(index)) is Constant and not isinstance(target.slice, ast.Slice):
            heap.forget_fields(base, "[" if name.startswith("[-") else "[-")  # counted from the other end, it may be the same part
            heap.set_field(base, name, thing)
        else:
            heap.forget_fields(base)
            if not isinstance(heap.nature(thing), Constant):
                heap.hold(base, [thing])

    def _unpack(self, target: ast.Tuple | ast.List, thing: Thing) -> None:
        for number, each in enumerate(target.elts):
            part = self.heap.field(thing, f"[{number}]")
            self.bind(each, part if part is not None else self.result("[]", [thing], [str(number)], [thing]))

    def _exec_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.heap.unbind(self.frame.elsewhere.get(target.id, self.frame.own), target.id)
            elif isinstance(target, ast.Subscript | ast.Attribute):
                base = self.evaluate(target.value)
                self.heap.forget_fields(base, "")
                self.heap.change(base, self.item("del", [base]), self.step)

    def _exec_Global(self, node: ast.Global) -> None:
        frame = self._module_frames.get(self.frame.file, self.main)
        self.frame.elsewhere.update(dict.fromkeys(node.names, frame))

    def _exec_Nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            holder = next((each for each in self.frame.frames[1:] if name in self.heap.frames.get(each, {})), None)
            if holder is not None:
                self.frame.elsewhere[name] = holder

    @contextmanager
    def _inside(self, node: ast.AST, controls: Sequence[LineageItem] = ()) -> Iterator[None]:
        outer = self._around, self._controls
        self._around, self._controls = (*self._around, id(node)), (*self._controls, *controls)
        try:
            yield
        finally:
            self._around, self._controls = outer

    # -- ends of ways -------------------------------------------------------------------------------------------------------------

    def _note_exit(self) -> None:
        for around in self.step.nodes[:-1]:
            self.exits.setdefault((around, self.step.calls), []).append(self.step)

    def _exec_Break(self, _: ast.stmt) -> None:
        self._note_exit()
        if self._breaks:
            self._breaks[-1].append(self.heap.copy())
        self.heap.is_left = True

    _exec_Continue = _exec_Break

    def _exec_Return(self, node: ast.Return) -> None:
        self._note_exit()
        value = self.evaluate(node.value) if node.value is not None else self.constant(None)
        self.frame.results.append((value, self.heap.copy()))
        self.heap.is_left = True

    def _exec_Raise(self, node: ast.Raise) -> None:
        self._note_exit()
        self.heap.is_left = True

    def _exec_Assert(self, node: ast.Assert) -> None:
        self.evaluate(node.test)


def _as_load(node: ast.expr) -> ast.expr:
    """Returns a target as an expression that reads it."""
    if isinstance(node, ast.Name):
        return ast.Name(node.id, ast.Load())
    if isinstance(node, ast.Attribute):
        return ast.Attribute(node.value, node.attr, ast.Load())
    return ast.Subscript(node.value, node.slice, ast.Load()) if isinstance(node, ast.Subscript) else node

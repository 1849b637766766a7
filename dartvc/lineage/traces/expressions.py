"""Expressions over items: each operation becomes an item, each object an object of the heap."""

from __future__ import annotations

import ast
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dartvc.lineage.traces.heap import Bound, Constant, Function, Heap, Instance, Library, Module, Result, Super, Thing, UserClass
from dartvc.lineage.traces.items import EITHER, LITERAL, ItemMaker, LineageItem, Place, Step
from dartvc.lineage.traces.libraries import is_walked_once

__all__ = ["OPERATORS", "Arguments", "Expressions", "Frame", "Opaque", "Surroundings"]

OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|",
    ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.Invert: "~", ast.Not: "not", ast.UAdd: "+", ast.USub: "-", ast.And: "and", ast.Or: "or", ast.Eq: "==",
    ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
"""How Python writes an operator, by the class of its syntax node."""
_LITERAL_LIMIT = 60
_OUTSIDE_VALUES = frozenset({"sys.argv", "os.environ", "sys.stdin"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a program was given.

    Attributes:
        files: what it read: path to digest; paths as the program may have written them.
        made: what it wrote: such paths, to one for each file.
        arguments: its settings (``dartvc.arg``), as they were given.
        argv: its command line.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    argv: Sequence[str] = ()


@dataclass
class Frame:
    """One activation of a function, or a module: its own names first in ``frames``, then those around it."""

    file: str
    function: str
    frames: tuple[int, ...]
    own: int
    subject: tuple[Thing, Thing] | None = None
    """Of a method: the class in which it is written, and its first argument."""
    calls: tuple[int, ...] = ()
    """The identities of the statements whose calls led here."""
    elsewhere: dict[str, int] = field(default_factory=dict)
    """Names that are declared global or nonlocal, and the frame that has them."""
    results: list[tuple[Thing, Heap]] = field(default_factory=list)
    yields: list[Thing] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call is given."""

    positional: tuple[Thing, ...] = ()
    keywords: Mapping[str, Thing] = field(default_factory=dict)

    def all(self) -> tuple[Thing, ...]:
        """Returns all of them, in order."""
        return (*self.positional, *self.keywords.values())


class Expressions(ABC):
    """Evaluates expressions; calls of the user's functions are left to `call_function`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self.maker = ItemMaker()
        self.heap = Heap(self.maker)
        self.step: Step = Step(Place("", 0), "")
        self.frame = Frame("", "", (), 0)
        self._frames = 0
        self._streams: dict[str, Thing] = {}
        self._libraries: dict[str, Thing] = {}

    # -- items ----------------------------------------------------------------------------------------------------------------

    def item(self, opcode: str, things: Iterable[Thing] = (), literals: Iterable[str] = ()) -> LineageItem:
        """Returns an item of the present statement; constants that are written in it become its literals."""
        inputs, texts = [], list(literals)
        for each in things:
            if self.is_written_here(each):
                texts.append(self.text_of(each))
            else:
                inputs.append(self.heap.use(each))
        return self.maker.make(opcode, inputs, texts, self.step)

    def is_written_here(self, thing: Thing) -> bool:
        """Whether an object is a constant in the present statement: one that another statement gave a name is an input like any other."""
        return type(self.heap.nature(thing)) is Constant and self.heap.items[thing].step is self.step

    def text_of(self, thing: Thing) -> str:
        """Returns a constant as text."""
        text = repr(self.heap.constant(thing))
        return text if len(text) <= _LITERAL_LIMIT else f"{text[:_LITERAL_LIMIT]}..."

    def constant(self, value: Any) -> Thing:
        """Returns an object whose value is known."""
        text = repr(value)
        return self.heap.new(self.maker.make(LITERAL, (), (text[:_LITERAL_LIMIT],), self.step), Constant(value))

    def result(self, opcode: str, things: Sequence[Thing] = (), literals: Iterable[str] = (), holds: Iterable[Thing] = ()) -> Thing:
        """Returns a new object that an operation made."""
        return self.heap.new(self.item(opcode, things, literals), Result(opcode, tuple(things)), holds)

    def library(self, name: str) -> Thing:
        """Returns what a library knows by a name."""
        thing = self._libraries.get(name)
        if thing is None or thing not in self.heap.items:
            thing = self._libraries[name] = self.heap.new(self.maker.make("import", (), (name,), None), Library(name))
        return thing

    def either(self, things: Sequence[Thing]) -> Thing:
        """Returns an object that is one of several."""
        unique = list(dict.fromkeys(things))
        if len(unique) == 1:
            return unique[0]
        natures = {self.heap.nature(each) for each in unique}
        nature = natures.pop() if len(natures) == 1 else None
        return self.heap.new(self.maker.make(EITHER, [self.heap.use(each) for each in unique], (), self.step), nature, unique)

    # -- evaluation -----------------------------------------------------------------------------------------------------------

    def evaluate(self, node: ast.expr, *, is_unused: bool = False) -> Thing:
        """Returns the object that an expression gives."""
        if isinstance(node, ast.Call):
            return self.call(node, is_unused=is_unused)
        method = getattr(self, f"_eval_{type(node).__name__}", None)
        if method is not None:
            return int(method(node))
        parts = [self.evaluate(each) for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        return self.result(type(node).__name__.lower(), parts, (), parts)

    def _eval_Constant(self, node: ast.Constant) -> Thing:
        return self.constant(node.value)

    def _eval_Name(self, node: ast.Name) -> Thing:
        return self.look_up(node.id)

    def look_up(self, name: str) -> Thing:
        """Returns what a name stands for here; what nobody has bound is Python's own."""
        frame = self.frame.elsewhere.get(name)
        found = self.heap.find((frame,) if frame is not None else self.frame.frames, name)
        if found is None:
            return self.library(f"builtins.{name}")
        self.step.reads.update(dict.fromkeys(found.steps))
        return found.thing

    def _eval_Attribute(self, node: ast.Attribute) -> Thing:
        return self.attribute(self.evaluate(node.value), node.attr)

    def attribute(self, base: Thing, name: str) -> Thing:
        """Returns an attribute of an object."""
        found = self.known_attribute(base, name)
        return found if found is not None else self.result(f".{name}", [base], (), [base])

    def known_attribute(self, base: Thing, name: str) -> Thing | None:
        """Returns an attribute of an object where the program, or a name of a library, tells what it is; else None."""
        heap = self.heap
        nature = heap.nature(base)
        if isinstance(nature, Library):
            dotted = f"{nature.name.removeprefix('builtins.')}.{name}"
            return self.from_outside(dotted, Arguments()) if dotted in _OUTSIDE_VALUES else self.library(dotted)
        if isinstance(nature, Module):
            binding = heap.find((nature.frame,), name)
            if binding is None:
                return self.result(f".{name}", [base])
            self.step.reads.update(dict.fromkeys(binding.steps))
            return binding.thing
        found = heap.field(base, name)
        if found is not None:
            return found
        if isinstance(nature, Super):
            inherited = self.inherited(nature, name)
            if inherited is not None:
                return self._bound(inherited, nature.subject, is_class=False)
        if isinstance(nature, Instance | UserClass):
            member = self.member(nature.cls if isinstance(nature, Instance) else base, name)
            if member is not None:
                return self._bound(member, base, is_class=isinstance(nature, UserClass))
        return None

    def member(self, cls: Thing, name: str) -> Thing | None:
        """Returns what a class of the user's has under a name, or one that it is made from."""
        nature = self.heap.nature(cls)
        if not isinstance(nature, UserClass):
            return None
        found = self.heap.field(cls, name)
        if found is not None:
            return found
        return self._in_bases(nature, name)

    def inherited(self, view: Super, name: str) -> Thing | None:
        """Returns what the classes behind a ``super()`` have under a name."""
        cls = self.heap.nature(view.cls)
        assert isinstance(cls, UserClass)
        return self._in_bases(cls, name)

    def _in_bases(self, cls: UserClass, name: str) -> Thing | None:
        return next((each for base in cls.bases if (each := self.member(base, name)) is not None), None)

    def _bound(self, member: Thing, subject: Thing, *, is_class: bool) -> Thing:
        function = self.heap.nature(member)
        if not isinstance(function, Function) or function.is_static or (is_class and not function.is_class_method):
            return member
        if function.is_property:
            return self.call_function(function, Arguments((subject,)), member)
        return self.heap.new(self.heap.items[member], Bound(function, subject), (subject,))

    def _eval_BinOp(self, node: ast.BinOp) -> Thing:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        first, second = self.heap.constant(left), self.heap.constant(right)
        if isinstance(node.op, ast.Add) and isinstance(first, str) and isinstance(second, str):
            return self.constant(first + second)
        if isinstance(node.op, ast.Div) and isinstance(first, str) and isinstance(second, str):
            return self.constant(os.path.join(first, second))  # a Path
        return self.result(OPERATORS[type(node.op)], [left, right])

    def _eval_UnaryOp(self, node: ast.UnaryOp) -> Thing:
        operand = self.evaluate(node.operand)
        value = self.heap.constant(operand)
        if isinstance(node.op, ast.USub) and isinstance(value, int | float):
            return self.constant(-value)
        return self.result(OPERATORS[type(node.op)], [operand])

    def _eval_Compare(self, node: ast.Compare) -> Thing:
        return self.result(OPERATORS[type(node.ops[0])], [self.evaluate(each) for each in (node.left, *node.comparators)])

    def _eval_BoolOp(self, node: ast.BoolOp) -> Thing:
        parts = [self.evaluate(each) for each in node.values]
        return self.result(OPERATORS[type(node.op)], parts, (), parts)

    def _eval_IfExp(self, node: ast.IfExp) -> Thing:
        parts = [self.evaluate(each) for each in (node.test, node.body, node.orelse)]
        return self.result("if", parts, (), parts[1:])

    def _eval_Subscript(self, node: ast.Subscript) -> Thing:
        base, index = self.evaluate(node.value), self.evaluate(node.slice)
        if type(self.heap.nature(index)) is Constant:
            found = self.heap.field(base, f"[{self.heap.constant(index)!r}]")
            if found is not None:
                return found
        return self.result("[]", [base, index], (), [base])

    def _eval_Slice(self, node: ast.Slice) -> Thing:
        parts = [self.evaluate(each) for each in (node.lower, node.upper, node.step) if each is not None]
        if all(type(self.heap.nature(each)) is Constant for each in parts):
            text = ":".join("" if each is None else ast.unparse(each) for each in (node.lower, node.upper))
            return self.heap.new(self.maker.make(LITERAL, (), (text,), self.step), Constant(Opaque(text)))
        return self.result("slice", parts)

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Thing:
        parts = [self.evaluate(each) for each in node.elts]
        thing = self.result(type(node).__name__.lower(), parts, (), parts)
        if not any(isinstance(each, ast.Starred) for each in node.elts) and not isinstance(node, ast.Set):
            self.heap.fields[thing] = {f"[{number}]": part for number, part in enumerate(parts)}
        return thing

    _eval_List = _eval_Tuple = _eval_Set = _sequence

    def _eval_Dict(self, node: ast.Dict) -> Thing:
        keys = [self.evaluate(each) if each is not None else None for each in node.keys]
        values = [self.evaluate(each) for each in node.values]
        thing = self.result("dict", [each for each in keys if each is not None] + values, (), values)
        if all(each is not None and type(self.heap.nature(each)) is Constant for each in keys):
            self.heap.fields[thing] = {
                f"[{self.heap.constant(key)!r}]": value for key, value in zip(keys, values, strict=True) if key is not None
            }
        return thing

    def _eval_JoinedStr(self, node: ast.JoinedStr) -> Thing:
        parts = [self.evaluate(each.value if isinstance(each, ast.FormattedValue) else each) for each in node.values]
        if all(type(self.heap.nature(each)) is Constant for each in parts):
            return self.constant("".join(str(self.heap.constant(each)) for each in parts))
        return self.result("format", parts)

    def _eval_Starred(self, node: ast.Starred) -> Thing:
        return self.evaluate(node.value)

    def _eval_NamedExpr(self, node: ast.NamedExpr) -> Thing:
        value = self.evaluate(node.value)
        self.heap.bind(self.frame.elsewhere.get(node.target.id, self.frame.own), node.target.id, value, self.step)
        return value

    def _eval_Await(self, node: ast.Await) -> Thing:
        return self.evaluate(node.value)

    def _eval_Yield(self, node: ast.Yield) -> Thing:
        given = self.evaluate(node.value) if node.value is not None else self.constant(None)
        self.frame.yields.append(given)
        return self.result("sent", [given])

    def _eval_YieldFrom(self, node: ast.YieldFrom) -> Thing:
        given = self.element(self.evaluate(node.value))
        self.frame.yields.append(given)
        return self.result("sent", [given])

    def _eval_Lambda(self, node: ast.Lambda) -> Thing:
        return self.define(node, f"{self.frame.function}.<lambda>" if self.frame.function else "<lambda>")

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Thing:
        outer = self.frame
        own = self.new_frame()
        self.frame = Frame(outer.file, outer.function, (own, *outer.frames), own, outer.subject, outer.calls, outer.elsewhere, outer.results, outer.yields)
        try:
            deciding = []
            for each in node.generators:
                source = self.evaluate(each.iter)
                self.bind(each.target, self.element(source))
                deciding += [source, *(self.evaluate(test) for test in each.ifs)]
            parts = [self.evaluate(each) for each in ((node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,))]
        finally:
            self.frame = outer
        return self.result("comprehension", [*parts, *deciding], (), parts)

    _eval_ListComp = _eval_SetComp = _eval_GeneratorExp = _eval_DictComp = _comprehension

    def element(self, source: Thing) -> Thing:
        """Returns what an iteration over an object gives."""
        nature = self.heap.nature(source)
        fields = [part for name, part in self.heap.fields.get(source, {}).items() if name[:1] == "[" and name[1:-1].isdigit()]
        if isinstance(nature, Result):
            last, arguments = nature.name.rpartition(".")[2], nature.arguments
            if last in ("enumerate", "zip") and arguments:
                parts = [self.element(each) for each in arguments]
                parts = [self.result("count", arguments[:1]), *parts[:1]] if last == "enumerate" else parts
                thing = self.result("tuple", parts, (), parts)
                self.heap.fields[thing] = {f"[{number}]": part for number, part in enumerate(parts)}
                return thing
            if last in ("tqdm", "list", "tuple", "sorted", "reversed", "iter") and arguments and not fields:
                return self.element(arguments[0])
        if fields:
            return self.either(fields)
        thing = self.result("element", [source], (), [source])
        if isinstance(nature, Result) and is_walked_once(nature.name):
            self.heap.change(source, self.item("next", [source]), self.step)
        return thing

    def try_ways(self, ways: Sequence[Callable[[], None]]) -> None:
        """Executes several ways from here; afterwards one of them was taken."""
        if len(ways) == 1:
            ways[0]()
            return
        start, ends = self.heap, []
        for way in ways:
            self.heap = start.copy()
            way()
            ends.append(self.heap)
        self.heap = ends[0]
        self.heap.join(ends[1:], self.step)

    # -- what statements bring ------------------------------------------------------------------------------------------------

    def new_frame(self) -> int:
        """Returns the number of a new frame without names."""
        self._frames += 1
        return self._frames

    @abstractmethod
    def call(self, node: ast.Call, *, is_unused: bool = False) -> Thing:
        """Returns what a call gives; what it changes is changed."""

    @abstractmethod
    def from_outside(self, name: str, arguments: Arguments) -> Thing:
        """Returns what the world outside a program gives it."""

    @abstractmethod
    def bind(self, target: ast.expr, thing: Thing) -> None:
        """Gives a target of an assignment an object."""

    @abstractmethod
    def define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, qualname: str) -> Thing:
        """Returns a function of the user's."""

    @abstractmethod
    def call_function(self, function: Function, arguments: Arguments, callee: Thing) -> Thing:
        """Returns what a call of a user's function gives."""

    @abstractmethod
    def instantiate(self, cls: Thing, arguments: Arguments) -> Thing:
        """Returns a new instance of a user's class."""


class Opaque(str):
    """A constant of which only the text is known; its repr is that text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

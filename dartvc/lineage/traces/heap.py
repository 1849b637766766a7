"""Objects and names as a trace sees them: which item an object is now, what it may share memory with, what lies in its parts.

An object stands for one that the program would have, or for all those that one place would make. What changes an object changes all that it may be a view of.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dartvc.lineage.traces.items import EITHER, STATE, ItemMaker, LineageItem, Step
from dartvc.model.records import NamedTuple

__all__ = ["Binding", "Bound", "Constant", "Function", "Heap", "Instance", "Library", "Module", "Nature", "Result", "Super", "Thing", "UserClass"]

Thing = int
"""An object of a trace."""


class Binding(NamedTuple):
    """What a name stands for, and the statements that may have bound it."""

    thing: Thing
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function of the user's, or a lambda; ``frames`` are those around it, innermost first, ``defaults`` by parameter."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    file: str
    qualname: str
    frames: tuple[int, ...]
    defaults: Mapping[str, Thing]
    is_static: bool = False
    is_class_method: bool = False
    is_property: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class UserClass:
    """A class of the user's: its body's names are the fields of the object; ``bases`` in the order of the source."""

    name: str
    bases: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of a class of the user's."""

    cls: Thing


@dataclass(frozen=True, slots=True)
class Super:
    """``super()``: an object seen as one of the classes that its class is made from; ``cls`` is the one in which that is written."""

    cls: Thing
    subject: Thing


@dataclass(frozen=True, slots=True)
class Bound:
    """A method of the user's with its object."""

    function: Function
    subject: Thing


@dataclass(frozen=True, slots=True)
class Library:
    """What a library knows by a dotted name: ``numpy.linalg.solve``, ``builtins.zip``."""

    name: str


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the user's; its names are those of a frame."""

    frame: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a call of a library gave: of which name, from which arguments; using it draws from the random stream ``draws``."""

    name: str
    arguments: tuple[Thing, ...]
    draws: str = ""


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is known: a literal, or made of such."""

    value: Any


Nature = Function | UserClass | Instance | Super | Bound | Library | Module | Result | Constant | None
"""What is known of an object; it never changes."""
_NONE: frozenset[Thing] = frozenset()
_EMPTY: Mapping[str, Thing] = {}
_NOTHING: Mapping[str, Binding] = {}


@dataclass
class Heap:
    """The objects at one moment of a trace. Copies share what neither has changed.

    Attributes:
        natures: what is known of each object; shared by all copies.
        items: which item made each object what it is.
        holds: what each object may be a view of, or have in it.
        fields: parts with known names: ``w`` of ``self``, ``[0]`` of a tuple, ``['lr']`` of a dict.
        frames: the names of each frame.
        covered: up to which item an object's own item tells of its parts, too.
        is_left: this way through the code ends here: a return, a break, an exception.
    """

    maker: ItemMaker
    natures: list[Nature] = field(default_factory=list)
    items: dict[Thing, LineageItem] = field(default_factory=dict)
    holds: dict[Thing, frozenset[Thing]] = field(default_factory=dict)
    fields: dict[Thing, Mapping[str, Thing]] = field(default_factory=dict)
    frames: dict[int, Mapping[str, Binding]] = field(default_factory=dict)
    covered: dict[Thing, int] = field(default_factory=dict)
    is_left: bool = False

    def copy(self) -> Heap:
        """Returns a heap that changes on its own."""
        return Heap(self.maker, self.natures, dict(self.items), dict(self.holds), dict(self.fields), dict(self.frames), dict(self.covered))

    def become(self, other: Heap) -> None:
        """Takes over the state of another one."""
        self.items, self.holds, self.fields, self.frames = other.items, other.holds, other.fields, other.frames
        self.covered, self.is_left = other.covered, other.is_left

    # -- objects --------------------------------------------------------------------------------------------------------------

    def new(self, item: LineageItem, nature: Nature = None, holds: Iterable[Thing] = (), fields: Mapping[str, Thing] = _EMPTY) -> Thing:
        """Returns a new object."""
        thing = len(self.natures)
        self.natures.append(nature)
        self.items[thing] = item
        held = frozenset(holds)
        if held:
            self.holds[thing] = held
        if fields:
            self.fields[thing] = fields
        return thing

    def nature(self, thing: Thing) -> Nature:
        """Returns what is known of an object."""
        return self.natures[thing]

    def constant(self, thing: Thing) -> Any:
        """Returns the value of an object when it is known; else None."""
        nature = self.natures[thing]
        return nature.value if type(nature) is Constant else None

    def field(self, thing: Thing, name: str) -> Thing | None:
        """Returns a part by name."""
        return self.fields.get(thing, _EMPTY).get(name)

    def set_field(self, thing: Thing, name: str, part: Thing) -> None:
        """Gives an object a part."""
        self.fields[thing] = {**self.fields.get(thing, _EMPTY), name: part}

    def hold(self, thing: Thing, others: Iterable[Thing]) -> None:
        """Notes that an object may have others in it."""
        self.holds[thing] = self.holds.get(thing, _NONE).union(others) - {thing}

    def reach(self, thing: Thing) -> list[Thing]:
        """Returns an object and all that it may have in it or be a view of."""
        found = {thing: None}
        waiting = [thing]
        for each in waiting:
            for part in (*self.holds.get(each, _NONE), *self.fields.get(each, _EMPTY).values()):
                if part not in found:
                    found[part] = None
                    waiting.append(part)
        return list(found)

    def use(self, thing: Thing) -> LineageItem:
        """Returns the item for all that an object is: its own, with what its parts have become since."""
        own = self.items[thing]
        if thing not in self.holds and thing not in self.fields:
            return own
        known = max(own.number, self.covered.get(thing, 0))
        newer = {item.number: item for each in self.reach(thing) if (item := self.items[each]).number > known and self._counts(each)}
        if not newer:
            return own
        return self.maker.make(STATE, (own, *(newer[number] for number in sorted(newer))), (), own.step)

    def _counts(self, thing: Thing) -> bool:
        return type(self.natures[thing]) not in (Constant, Library, Module)

    def change(self, thing: Thing, item: LineageItem, step: Step | None) -> None:
        """Notes that an object was changed by an item, and with it what it may be a view of."""
        for each in self.reach(thing):
            if each == thing:
                self.items[each] = item
            elif self._counts(each) and not isinstance(self.natures[each], Function | UserClass | Bound | Super):
                self.items[each] = self.maker.make(item.opcode, (self.items[each], item), (), step)

    def forget_fields(self, thing: Thing, kinds: str = "[") -> None:
        """Notes that it is no longer known which part has which name, of those whose names begin so."""
        fields = self.fields.get(thing)
        if fields:
            gone = [part for name, part in fields.items() if name.startswith(kinds)]
            self.fields[thing] = {name: part for name, part in fields.items() if not name.startswith(kinds)}
            self.hold(thing, gone)

    # -- names ----------------------------------------------------------------------------------------------------------------

    def find(self, frames: Iterable[int], name: str) -> Binding | None:
        """Returns what a name stands for in the first frame that has it."""
        for frame in frames:
            binding = self.frames.get(frame, _NOTHING).get(name)
            if binding is not None:
                return binding
        return None

    def bind(self, frame: int, name: str, thing: Thing, step: Step) -> None:
        """Gives a name in a frame an object."""
        self.frames[frame] = {**self.frames.get(frame, _NOTHING), name: Binding(thing, (step,))}

    def unbind(self, frame: int, name: str) -> None:
        """Takes a name away."""
        self.frames[frame] = {each: binding for each, binding in self.frames.get(frame, _NOTHING).items() if each != name}

    # -- ways -----------------------------------------------------------------------------------------------------------------

    def join(self, others: Iterable[Heap], step: Step | None) -> None:
        """Becomes what is known when one of several ways was taken, this one or another; ways that were left do not count."""
        ways = [each for each in (self, *others) if not each.is_left]
        if not ways:
            self.is_left = True
            return
        first = ways[0].copy()
        for way in ways[1:]:
            _Join(first, way, step).run()
        self.become(first)


class _Join:
    """Adds to one heap what another one may have been instead."""

    def __init__(self, one: Heap, other: Heap, step: Step | None) -> None:
        self.one, self.other, self.step = one, other, step
        self._joined: dict[tuple[Thing, Thing], Thing] = {}

    def run(self) -> None:
        one, other = self.one, self.other
        for thing, item in other.items.items():
            mine = one.items.get(thing)
            if mine is None:
                one.items[thing] = item
            elif mine is not item:
                one.items[thing] = one.maker.make(EITHER, (mine, item), (), self.step)
        for thing, held in other.holds.items():
            if held is not one.holds.get(thing):
                one.holds[thing] = one.holds.get(thing, _NONE) | held
        for key, names in other.frames.items():
            one.frames[key] = self._names(one.frames[key], names) if key in one.frames else names
        for thing, parts in other.fields.items():
            one.fields[thing] = self._parts(one.fields[thing], parts) if thing in one.fields else parts

    def _names(self, mine: Mapping[str, Binding], theirs: Mapping[str, Binding]) -> Mapping[str, Binding]:
        if mine is theirs:
            return mine
        joined = dict(mine)
        for name, binding in theirs.items():
            known = joined.get(name)
            if known is not None and known is not binding:
                binding = Binding(self._either(known.thing, binding.thing), tuple(dict.fromkeys((*known.steps, *binding.steps))))
            joined[name] = binding
        return joined

    def _parts(self, mine: Mapping[str, Thing], theirs: Mapping[str, Thing]) -> Mapping[str, Thing]:
        if mine is theirs:
            return mine
        return {**mine, **{name: self._either(mine[name], part) if name in mine else part for name, part in theirs.items()}}

    def _either(self, mine: Thing, theirs: Thing) -> Thing:
        if mine == theirs:
            return mine
        key = mine, theirs
        if key not in self._joined:
            one = self.one
            first, second = one.items[mine], self.other.items[theirs]
            item = one.maker.make(EITHER, (first, second), (), self.step)
            nature = one.natures[mine]
            self._joined[key] = one.new(
                item, nature if nature == one.natures[theirs] and not isinstance(nature, Constant) else None, (mine, theirs)
            )
        return self._joined[key]

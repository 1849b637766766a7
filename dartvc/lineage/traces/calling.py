"""Calls over items: of libraries, by what their names say; those of the user's functions are left to `call_function`."""

from __future__ import annotations

import ast
import itertools
import os
from collections.abc import Sequence
from functools import partial

from dartvc.lineage.traces.expressions import Arguments, Opaque
from dartvc.lineage.traces.files import Files
from dartvc.lineage.traces.heap import Bound, Constant, Function, Instance, Library, Module, Result, Super, Thing, UserClass
from dartvc.lineage.traces.items import EITHER, LineageItem, iter_items
from dartvc.lineage.traces.libraries import (
    changed_arguments,
    changes_object,
    hands_on_arguments,
    hands_on_object,
    is_seeding,
    outside_of,
    stream_of,
    stream_when_used,
)

__all__ = ["Calls"]

_DRAWING_METHODS = ("fit", "partial_fit", "split", "forward")
_CALLED = ("__call__", "forward", "call")
"""What calling an object runs: Python's own, and what torch's and Keras' layers call in their turn."""
_CANDIDATES_LIMIT = 12
_LEAVES_LOOKED_AT = 20_000


class Calls(Files):
    """Evaluates calls."""

    def call(self, node: ast.Call, *, is_unused: bool = False) -> Thing:
        """Returns what a call gives; what it changes is changed."""
        subject: Thing | None = None
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self.frame.subject is not None:
            cls, first = self.frame.subject
            return self.heap.new(self.heap.items[first], Super(cls, first), (first,))
        if isinstance(node.func, ast.Attribute):
            subject = self.evaluate(node.func.value)
            callee = self.known_attribute(subject, node.func.attr)
        else:
            callee = self.evaluate(node.func)
        arguments = Arguments(
            tuple(self.evaluate(each) for each in node.args),
            {each.arg or f"**{number}": self.evaluate(each.value) for number, each in enumerate(node.keywords)},
        )
        if callee is None:
            assert subject is not None and isinstance(node.func, ast.Attribute)
            view = self.heap.nature(subject)
            subject = view.subject if isinstance(view, Super) else subject
            return self.call_method(subject, node.func.attr, arguments, is_unused=is_unused)
        return self.call_thing(callee, arguments, is_unused=is_unused)

    def call_thing(self, callee: Thing, arguments: Arguments, *, is_unused: bool = False) -> Thing:
        """Returns what calling an object gives."""
        nature = self.heap.nature(callee)
        if isinstance(nature, Function):
            return self.call_function(nature, arguments, callee)
        if isinstance(nature, Bound):
            return self.call_function(nature.function, Arguments((nature.subject, *arguments.positional), arguments.keywords), callee)
        if isinstance(nature, UserClass):
            return self.instantiate(callee, arguments)
        if isinstance(nature, Library):
            return self.call_library(nature.name, arguments, is_unused=is_unused)
        if isinstance(nature, Instance):
            member = next((each for name in _CALLED if (each := self.member(nature.cls, name)) is not None), None)
            called = self.heap.nature(member) if member is not None else None
            if isinstance(called, Function) and member is not None:
                return self.call_function(called, Arguments((callee, *arguments.positional), arguments.keywords), member)
        candidates = [each for each in self.heap.reach(callee) if each != callee and isinstance(self.heap.nature(each), Function | Bound | UserClass)]
        if 0 < len(candidates) <= _CANDIDATES_LIMIT:
            return self._call_any(callee, candidates, arguments)
        item = self._given("()", [callee], arguments, self._drawn_by(callee))
        self._draw(callee, item)
        return self.heap.new(item, Result("()", arguments.all()), [callee, *arguments.all()] if is_unused else ())

    def _call_any(self, chosen: Thing, callees: Sequence[Thing], arguments: Arguments) -> Thing:
        """Returns what a call gives of which only the functions are known that it may be of; which one it was depends on how it was chosen."""
        found: list[Thing] = []

        def call(callee: Thing) -> None:
            found.append(self.call_thing(callee, arguments))

        self.try_ways([partial(call, each) for each in callees])
        made = self.maker.make(EITHER, [self.heap.use(each) for each in (*dict.fromkeys(found), chosen)], (), self.step)
        return self.heap.new(made, None, found)

    def _streams_behind(self, thing: Thing) -> list[Thing]:
        """Returns the random streams that using an object draws from."""
        names = {nature.draws for each in self.heap.reach(thing) if isinstance(nature := self.heap.nature(each), Result) and nature.draws}
        return [self._stream(name) for name in sorted(names)]

    def _drawn_by(self, thing: Thing) -> list[LineageItem]:
        return [self.heap.use(each) for each in self._streams_behind(thing)]

    def _draw(self, thing: Thing, item: LineageItem) -> None:
        for each in self._streams_behind(thing):
            self.heap.change(each, item, self.step)

    def element(self, source: Thing) -> Thing:
        """Returns what an iteration over an object gives; a loader draws its order."""
        if isinstance(self.heap.nature(source), Result) and self._streams_behind(source):
            self._draw(source, self.maker.make("draw", [self.heap.use(source), *self._drawn_by(source)], (), self.step))
            return self.result("element", [source, *self._streams_behind(source)], (), [source])
        return super().element(source)

    def _given(self, opcode: str, things: Sequence[Thing], arguments: Arguments, further: Sequence[LineageItem] = ()) -> LineageItem:
        """Returns the item of a library's call: constants with their names among the literals."""
        literals = []
        inputs = [self.heap.use(each) for each in things]
        for name, value in (
            *(("", each) for each in arguments.positional),
            *((f"{key}=", each) for key, each in arguments.keywords.items()),
        ):
            if self.is_written_here(value):
                literals.append(name + self.text_of(value))
            else:
                inputs.append(self.use_called(value))
        return self.maker.make(opcode, [*inputs, *further], literals, self.step)

    def use_called(self, thing: Thing) -> LineageItem:
        """Returns the item for an object that a library is given; it may call it."""
        nature = self.heap.nature(thing)
        function = nature.function if isinstance(nature, Bound) else nature
        if not isinstance(function, Function):
            return self.heap.use(thing)
        names = {each.id for each in ast.walk(function.node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
        bindings = [each for name in sorted(names) if (each := self.heap.find(function.frames, name)) is not None]
        self.step.reads.update(dict.fromkeys(step for each in bindings for step in each.steps))
        read = dict.fromkeys(each.thing for each in bindings if each.thing != thing)
        data = [self.heap.use(each) for each in read if not isinstance(self.heap.nature(each), Library | Constant)]
        return self.maker.make("function", (self.heap.use(thing), *data), (), self.step)

    def call_method(self, subject: Thing, name: str, arguments: Arguments, *, is_unused: bool) -> Thing:
        """Returns what a method gives whose code is not the user's."""
        nature = self.heap.nature(subject)
        drawn = self._drawn_by(subject) if name.startswith(_DRAWING_METHODS) else []
        item = self._given(f".{name}", [subject], arguments, [*self.files_read(name, arguments, subject), *drawn])
        if drawn:
            self._draw(subject, item)
        origin = nature.name if isinstance(nature, Result) else ""
        if type(nature) is not Constant and changes_object(name, origin, is_unused=is_unused):
            self.heap.forget_fields(subject)
            self.heap.change(subject, item, self.step)
            self.heap.hold(subject, (each for each in arguments.all() if type(self.heap.nature(each)) is not Constant))
        if name == "backward":
            self._change_leaves(item)
        result = self.heap.new(item, Result(f".{name}", (subject, *arguments.all())), [subject] if hands_on_object(name) else ())
        self.note_written(name, arguments, item, result, subject)
        return result

    def _change_leaves(self, item: LineageItem) -> None:
        """Changes what autograd gives gradients: every object that can hold some and that a loss was made of."""
        made_of = {each.number for each in itertools.islice(iter_items(item), _LEAVES_LOOKED_AT)}
        for thing, own in list(self.heap.items.items()):
            nature = self.heap.nature(thing)
            is_layer = isinstance(nature, Instance) or (isinstance(nature, Result) and nature.name.startswith("torch.nn"))
            if own.number in made_of and (is_layer or "requires_grad=True" in own.literals):
                self.heap.change(thing, self.maker.make("gradients", (self.heap.use(thing), item), (), self.step), self.step)

    def call_library(self, name: str, arguments: Arguments, *, is_unused: bool) -> Thing:
        """Returns what a function of a library gives."""
        things = arguments.all()
        known = self._known_value(name, arguments)
        if known is not None:
            return known
        if outside_of(name):
            return self.from_outside(name, arguments)
        stream = stream_of(name, arguments.keywords)
        further = self.files_read(name, arguments)
        if stream and not is_seeding(name):
            further.append(self.heap.use(self._stream(stream)))
        item = self._given(name, (), arguments, further)
        if name.endswith(".einsum"):
            item = self._expanded_einsum(item)
        if stream:
            self.heap.change(self._stream(stream), item, self.step)
        for number in changed_arguments(name, len(arguments.positional), is_unused=is_unused):
            self._change_argument(arguments.positional[number], item)
        if "out" in arguments.keywords:
            self._change_argument(arguments.keywords["out"], item)
        holds = [each for each in things if type(self.heap.nature(each)) is not Constant] if hands_on_arguments(name) else ()
        result = self.heap.new(item, Result(name, things, stream_when_used(name, arguments.keywords)), holds)
        self.note_written(name, arguments, item, result)
        return result

    def _expanded_einsum(self, item: LineageItem) -> LineageItem:
        """Returns an ``einsum`` with its parts in it: a product over all indices, and a sum over those that the result lacks."""
        text = next((ast.literal_eval(each) for each in item.literals if each[:1] in ("'", '"') and each[-1] == each[0] and "->" in each), "")
        if not text:
            return item
        left, _, kept = text.replace(" ", "").partition("->")
        summed = "".join(sorted(set(left) - set(kept) - set(",.")))
        since = self.maker.last
        made = self.maker.make("*", item.inputs, (left,), self.step)
        if summed:
            made = self.maker.make("sum", (made,), (f"over {summed}",), self.step)
        return self.maker.closed(item.opcode, made, since, self.step, item.literals)

    def _change_argument(self, thing: Thing, item: LineageItem) -> None:
        if not isinstance(self.heap.nature(thing), Constant | Library | Function | UserClass | Bound | Module):
            self.heap.forget_fields(thing)
            self.heap.change(thing, item, self.step)

    def _stream(self, name: str) -> Thing:
        if name not in self._streams:
            self._streams[name] = len(self.heap.natures)
            self.heap.natures.append(None)
        thing = self._streams[name]
        if thing not in self.heap.items:
            self.heap.items[thing] = self.maker.make("stream", (), (name, "not seeded"), None)
        return thing

    def _known_value(self, name: str, arguments: Arguments) -> Thing | None:
        """Returns what a call gives where that can be told: paths, and settings of the run."""
        values = [self.heap.constant(each) for each in arguments.positional]
        if name in ("pathlib.Path", "os.fspath", "builtins.str", "os.path.abspath") and len(values) == 1 and isinstance(values[0], str):
            return self.constant(values[0])
        if name in ("os.path.join", "pathlib.Path") and values and all(isinstance(each, str) for each in values):
            return self.constant(os.path.join(*values))
        if name == "dartvc.arg" and values and isinstance(values[0], str):
            given = self.surroundings.arguments.get(values[0])
            default = arguments.positional[1] if len(values) > 1 else arguments.keywords.get("default")
            if given is not None:
                return self.heap.new(
                    self.maker.make("setting", (), (f"{values[0]}={given}",), self.step), Constant(Opaque(f"{values[0]}={given}"))
                )
            return default
        return None

    def from_outside(self, name: str, arguments: Arguments) -> Thing:
        """Returns what the world outside a program gives it."""
        kind = outside_of(name)
        literals = [" ".join(self.surroundings.argv)] if kind == "command line" else []
        item = self._given(name, (), arguments, [self.maker.make(kind, (), literals, None)])
        return self.heap.new(item, Result(name, arguments.all()))

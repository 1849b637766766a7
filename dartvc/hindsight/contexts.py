"""Where in its loops a running program is: for each living frame the loops around its place, with the number of their present iteration.

Nothing is counted while the program runs. The number is read from the iterators on the frame's value stack: CPython's own iterators know how
far they are. A ``while`` loop and an iterator that cannot tell are counted by what is seen: an iteration is over when the program
logs again at the same place or before it. What is known of a frame is left in its ``f_trace`` (a debugger's is left alone), where it dies
with the frame.
"""

from __future__ import annotations

import ast
import gc
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dartvc.hindsight.loops import CodeLoops, Level, Loop, base_of
from dartvc.program.frames import view_of
from dartvc.program.standins import iterator_behind

__all__ = ["Context", "LoopReader", "NamedLoop", "iteration_in", "iteration_of"]

_SCALARS = frozenset({int, float, bool, str, type(None)})
_TEXT_LIMIT = 200
_range_iterator = type(iter(range(0)))
_RANGES = frozenset({_range_iterator, type(iter(range(1 << 70)))})


class Context:
    """One iteration of one loop, inside one iteration of the loop around it.

    Attributes:
        parent: the iteration around it; None outside of all loops.
        loop: the loop.
        entry: how many times the loop was entered before, in the same iteration around it, by calls that log.
        iteration: the number of the iteration, from 0.
        values: of the loop's targets, when the iteration was first seen; None for what is no scalar.
        tail: what was last seen in it, as places in the source; only where iterations are counted by that.
    """

    __slots__ = ("entries", "entry", "iteration", "loop", "parent", "tail", "values")

    def __init__(self, parent: Context | None, loop: Loop, entry: int, iteration: int, values: tuple[object, ...]) -> None:
        self.parent = parent
        self.loop = loop
        self.entry = entry
        self.iteration = iteration
        self.values = values
        self.tail: tuple[int, ...] = ()
        self.entries: dict[Loop, int] | None = None

    def chain(self) -> list[Context]:
        """Returns the contexts from the outermost to this one."""
        found = [self]
        while found[-1].parent is not None:
            found.append(found[-1].parent)
        return found[::-1]


class NamedLoop:
    """An iterator that gives its loop a name and knows the number of its iteration.

    Args:
        name: what the loop's column is called.
        items: what to go over.
    """

    def __init__(self, name: str, items: Iterable[Any]) -> None:
        self.name = name
        self.number = -1
        self._items = iter(items)

    def __iter__(self) -> NamedLoop:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self.number += 1
        return item


class LoopState:
    """What is known of one loop of one living frame: its iterator, when it is one that tells cheaply how far it is, and its last context."""

    __slots__ = ("context", "hint", "iterator", "last_number", "level", "slot")

    def __init__(self, level: Level) -> None:
        self.level = level
        self.slot = level.slot
        self.iterator: object = None
        self.last_number = 0
        self.hint: Callable[[], int] = int
        self.context: Context | None = None


class Marker:
    """What is known of one living frame."""

    __slots__ = ("code", "is_generator", "loops", "outer", "sites", "view")

    def __init__(self, code: CodeLoops, is_generator: bool) -> None:
        self.code = code
        self.is_generator = is_generator
        self.outer: Context | None = None
        self.view: Any = None
        self.sites: dict[int, tuple[list[LoopState], int]] = {}
        self.loops: dict[tuple[int, int], LoopState] | None = None

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        """Asks for no trace events of its frame."""

    def site(self, frame: types.FrameType, lasti: int) -> tuple[list[LoopState], int]:
        """Returns the states of the loops around an instruction, and its place in the source."""
        levels, place = self.code.site(lasti)
        if self.loops is None:
            self.loops = {}
        if levels and self.view is None:
            self.view = view_of(frame) or _NO_VIEW
        states = []
        for level in levels:
            known = level.place, level.slot  # a resumed function has a loop more than once, at other depths
            state = self.loops.get(known)
            if state is None:
                state = self.loops[known] = LoopState(level)
            states.append(state)
        found = self.sites[lasti] = states, place
        return found


class LoopReader:
    """Reads the loop context of running frames; of one process.

    Args:
        open_contexts: the chain of contexts in which an earlier process stood, when this one continues it.
        entries: how often it had entered each loop that stands in no other.

    Attributes:
        entries: the same, of this process.
    """

    def __init__(self, open_contexts: Sequence[Context] = (), entries: Mapping[Loop, int] | None = None) -> None:
        self._codes: dict[int, CodeLoops] = {}
        self.entries = dict(entries or {})
        self._open = list(open_contexts)
        self._continuing: set[int] = set()

    def context_of(self, frame: types.FrameType) -> Context | None:
        """Returns the innermost iteration that a frame stands in, its own or one of a frame that called it."""
        marker = frame.f_trace
        if type(marker) is not Marker:
            marker = self._mark(frame)
        lasti = frame.f_lasti
        site = marker.sites.get(lasti)
        if site is None:
            site = marker.site(frame, lasti)
        context = self._outside(frame) if marker.is_generator else marker.outer
        states = site[0]
        if states:
            view = marker.view
            for state in states:
                # Fast path: a range that was seen before tells how many items are left
                slot = state.slot
                if slot >= 0 and view[slot] is state.iterator:
                    number = state.last_number - state.hint()
                else:
                    told = self._number(view, state)
                    if told is None:
                        return self._counted(frame, marker, site, states.index(state), context)
                    number = told
                known = state.context
                if known is None or known.iteration != number or known.parent is not context:
                    known = state.context = self._begin(frame, marker, state, context, number)
                context = known
        return context

    # -- frames ---------------------------------------------------------------------------------------------------------------

    def _mark(self, frame: types.FrameType) -> Marker:
        holder: Any = frame.f_trace
        while (kept := getattr(holder, "kept", None)) is not None:  # a stop that the program is on its way to has put something before it
            if type(kept) is Marker:
                return kept
            holder = kept
        code = frame.f_code
        known = self._codes.get(id(code))
        if known is None or known.code is not code:
            known = self._codes[id(code)] = CodeLoops(code)
        marker = Marker(known, known.is_generator)
        if not known.is_module and not known.is_generator:
            marker.outer = self._outside(frame)
        if holder is None:
            frame.f_trace = marker
        elif hasattr(holder, "kept"):
            holder.kept = marker
        return marker

    def _outside(self, frame: types.FrameType) -> Context | None:
        """Returns the context of the nearest user's frame above this one that stands in a loop, or that is known."""
        above = frame.f_back
        while above is not None:
            code = above.f_code
            known = self._codes.get(id(code))
            if known is None or known.code is not code:
                known = self._codes[id(code)] = CodeLoops(code)
            if known.is_user:
                if type(above.f_trace) is Marker or known.site(above.f_lasti).levels:
                    return self.context_of(above)
                if known.is_module:
                    return None
            above = above.f_back
        return None

    # -- iterations -----------------------------------------------------------------------------------------------------------

    def _number(self, view: Any, state: LoopState) -> int | None:
        """Returns the number of a loop's present iteration, None when its iterator cannot tell."""
        if state.slot < 0 or view is _NO_VIEW:
            return None
        held = view[state.slot]
        iterator: Any = iterator_behind(held)
        if type(iterator) is NamedLoop:
            loop = state.level.loop
            if loop.name != iterator.name:
                state.level = state.level._replace(loop=replace(loop, name=iterator.name, targets=(iterator.name, *loop.targets[1:])))
            return iterator.number
        if type(iterator) in _RANGES:
            number = _of_range(iterator, state.level.base, self._codes)
            number = 0 if number is None else number  # one that has forgotten its start is counted from where it is first seen
            hint = iterator.__length_hint__
            state.iterator, state.last_number, state.hint = held, number + hint(), hint
            return number
        return _position_of(iterator, state.level.base, self._codes)

    def _begin(self, frame: types.FrameType, marker: Marker, state: LoopState, parent: Context | None, number: int) -> Context:
        """Makes the context of an iteration that is seen for the first time."""
        known, level = state.context, state.level
        if known is not None and known.parent is parent:
            entry = known.entry
        elif parent is marker.outer or self._open:
            entry = self._entry(level.loop, parent, number)
        else:
            entry = 0
        made = Context(parent, level.loop, entry, number, _values(frame, marker, level))
        if self._open:
            earlier = self._continued(level.loop, parent)
            if earlier is not None and (earlier.entry, earlier.iteration) == (entry, number):
                made.entries = dict(earlier.entries or {})
        return made

    def _entry(self, loop: Loop, parent: Context | None, number: int) -> int:
        """Returns how often a loop was entered before in one iteration around it, and counts this time."""
        earlier = self._continued(loop, parent)
        if earlier is not None and number >= earlier.iteration and id(earlier) not in self._continuing:
            self._continuing.add(id(earlier))
            return earlier.entry
        if parent is None:
            entries = self.entries
        elif parent.entries is None:
            entries = parent.entries = {}
        else:
            entries = parent.entries
        entry = entries.get(loop, 0)
        entries[loop] = entry + 1
        return entry

    def _continued(self, loop: Loop, parent: Context | None) -> Context | None:
        """Returns the context of the earlier process that a loop is the continuation of."""
        depth = len(parent.chain()) if parent is not None else 0
        if depth >= len(self._open) or self._open[depth].loop != loop:
            return None
        here: Context | None = parent
        for earlier in reversed(self._open[:depth]):
            if here is None or here.loop != earlier.loop or (here.entry, here.iteration) != (earlier.entry, earlier.iteration):
                return None
            here = here.parent
        return self._open[depth]

    def _counted(
        self, frame: types.FrameType, marker: Marker, site: tuple[list[LoopState], int], index: int, context: Context | None
    ) -> Context | None:
        """Returns the context inside loops of which one, at ``index``, can only be counted by what is seen."""
        states, place = site
        for depth in range(index, len(states)):
            state = states[depth]
            number = self._number(marker.view, state)
            if number is None:
                known = self._seen(frame, marker, state, context, *self._tail(marker, states[depth + 1 :], place))
            elif state.context is not None and state.context.iteration == number and state.context.parent is context:
                known = state.context
            else:
                known = self._begin(frame, marker, state, context, number)
            context = state.context = known
        return context

    def _tail(self, marker: Marker, inner: Sequence[LoopState], place: int) -> tuple[tuple[int, ...], bool]:
        """Returns what is seen inside a loop, as places in the order of the source; and whether more of the same may follow it there."""
        tail: list[int] = []
        for state in inner:
            number = self._number(marker.view, state)
            if number is None:
                return (*tail, state.level.place), True
            tail += (state.level.place, number)
        return (*tail, place), False

    def _seen(
        self,
        frame: types.FrameType,
        marker: Marker,
        state: LoopState,
        parent: Context | None,
        tail: tuple[int, ...],
        may_repeat: bool,
    ) -> Context:
        """Returns the present iteration of a loop that is counted by what is seen: what comes later in the source is in the same one."""
        known, loop = state.context, state.level.loop
        earlier = self._continued(loop, parent) if known is None and self._open else None
        if earlier is not None and id(earlier) not in self._continuing:
            self._continuing.add(id(earlier))
            known = Context(parent, loop, earlier.entry, earlier.iteration, earlier.values)
            known.tail, known.entries = earlier.tail, dict(earlier.entries or {})
        if known is None or known.parent is not parent:
            known = self._begin(frame, marker, state, parent, 0)
        elif not known.tail or tail < known.tail or (tail == known.tail and not may_repeat):
            known = Context(parent, loop, known.entry, known.iteration + 1, _values(frame, marker, state.level))
        known.tail = tail
        return known


def _values(frame: types.FrameType, marker: Marker, level: Level) -> tuple[object, ...]:
    readers = level.readers
    if len(readers) == 1:
        slot = readers[0][0]
        if slot >= 0:
            try:
                value = marker.view[slot]
                if type(value) is int:
                    return (value,)
            except ValueError:
                return (None,)
        return (_value(frame, marker, readers[0]),)
    return tuple([_value(frame, marker, reader) for reader in readers])


def _value(frame: types.FrameType, marker: Marker, reader: tuple[int, str]) -> object:
    """Returns a loop variable's present value if it is a scalar, else None."""
    slot, name = reader
    value: object = None
    if slot >= 0 and marker.view is not _NO_VIEW:
        try:
            value = marker.view[slot]
        except ValueError:
            return None
        if type(value) is types.CellType:
            try:
                value = value.cell_contents
            except ValueError:
                return None
    elif slot < 0:
        names = frame.f_globals
        value = names.get(name) if marker.code.is_module or name in names else None
    kind = type(value)
    if kind in _SCALARS:
        return value[:_TEXT_LIMIT] if kind is str else value  # type: ignore[index]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) in _SCALARS:
        return value.item()
    return None


def _position_of(iterator: Any, base: tuple[int, int] | None, codes: dict[int, CodeLoops]) -> int | None:
    """Returns the number of the item that an iterator gave last; None when it cannot tell. Runs none of the user's code."""
    tell = _POSITIONS.get(type(iterator))
    try:
        if tell is not None:
            return tell(iterator, base, codes)
        counted = getattr(iterator, "_num_yielded", None) if type(iterator).__module__.startswith("torch.") else None
        return counted - 1 if isinstance(counted, int) else None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None


def iteration_of(iterator: Any, iterable: ast.expr) -> int | None:
    """Returns the number of the iteration that a ``for`` loop over an expression is in, from its iterator; None when it cannot tell."""
    if type(iterator) is NamedLoop:
        return iterator.number
    return _position_of(iterator_behind(iterator), base_of(iterable), {})


def iteration_in(held: object, level: Level) -> int | None:
    """Returns the number of the iteration that a loop is in, from what lies in its slot; None when that cannot tell."""
    iterator = iterator_behind(held)
    return iterator.number if type(iterator) is NamedLoop else _position_of(iterator, level.base, {})


_Base = tuple[int, int] | None
_Codes = dict[int, CodeLoops]


def _of_range(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    _, (numbers, *_), *state = iterator.__reduce__()
    if state and state[0] is not None:
        return int(state[0]) - 1
    return (numbers.start - base[0]) // base[1] - 1 if base is not None else None


def _of_sequence(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    _, _, *state = iterator.__reduce__()
    return int(state[0]) - 1 if state else None


def _of_reversed(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    _, (items, *_), *state = iterator.__reduce__()
    return len(items) - int(state[0]) - 2 if state else None


def _of_enumerate(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    _, (inner, count) = iterator.__reduce__()
    number = _position_of(inner, None, codes)
    return number if number is not None else int(count) - 1


def _of_zip(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    found = (_position_of(inner, None, codes) for inner in iterator.__reduce__()[1])
    return next((number for number in found if number is not None), None)


def _of_map(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    found = (_position_of(inner, None, codes) for inner in iterator.__reduce__()[1][1:])
    return next((number for number in found if number is not None), None)


def _of_hash_table(iterator: Any, base: _Base, codes: _Codes) -> int | None:
    tables = [each for each in gc.get_referents(iterator) if isinstance(each, dict | set | frozenset)]
    return len(tables[0]) - iterator.__length_hint__() - 1 if tables else None


def _of_generator(iterator: types.GeneratorType[Any, Any, Any], base: _Base, codes: _Codes) -> int | None:
    """Asks the one ``for`` loop that a suspended generator stands in: it has gone round as often as the generator has yielded."""
    frame = iterator.gi_frame
    if frame is None or iterator.gi_running:
        return None
    known = codes.get(id(frame.f_code))
    if known is None or known.code is not frame.f_code:
        known = codes[id(frame.f_code)] = CodeLoops(frame.f_code)
    slot = known.iterator_slot(frame.f_lasti)
    view = view_of(frame)
    return _position_of(view[slot], None, codes) if slot >= 0 and view is not None else None


class _NoView:
    """Stands for the slots of a frame where they cannot be read: nothing is what a loop holds."""

    def __getitem__(self, index: int) -> object:
        return self


_NO_VIEW = _NoView()
_NO_ITEMS: dict[object, object] = {}
_POSITIONS: dict[type, Callable[[Any, _Base, _Codes], int | None]] = {
    _range_iterator: _of_range,
    type(iter(range(1 << 70))): _of_range,
    **{type(each): _of_sequence for each in (iter([]), iter(()), iter(""), iter("é"), iter(b""), iter(bytearray()))},
    type(reversed([])): _of_reversed,
    enumerate: _of_enumerate,
    zip: _of_zip,
    map: _of_map,
    **{type(each): _of_hash_table for each in (iter(_NO_ITEMS), iter(_NO_ITEMS.values()), iter(_NO_ITEMS.items()), iter(set(_NO_ITEMS)))},
    types.GeneratorType: _of_generator,
}

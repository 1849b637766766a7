"""Statements over items that have others in them: branches, loops, handlers.

Branches follow the ways that a run recorded; where nothing is recorded both are taken, and what they give is one or the other. A loop's body is executed as often as
something new comes of it, two to four times, and closed into one item for each object that it made or changed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from dartvc.lineage.traces.heap import Constant, Function, Heap, Library, Module, Result, Thing, UserClass
from dartvc.lineage.traces.items import LOOP, LineageItem
from dartvc.lineage.traces.statements import Statements

__all__ = ["Branches"]

_PASSES = 4


class Branches(Statements):
    """Executes statements of every kind but definitions."""

    def _outcomes(self, node: ast.stmt) -> frozenset[int] | None:
        return self._ways.outcomes(self.frame.file, node)

    def _exec_If(self, node: ast.If) -> None:
        test = self.heap.use(self.evaluate(node.test))
        taken = self._outcomes(node)
        bodies = [body for outcome, body in ((1, node.body), (0, node.orelse)) if taken is None or not taken or outcome in taken]
        with self._inside(node, [test]):
            self.try_ways([partial(self.block, body) for body in bodies])

    def _exec_Match(self, node: ast.Match) -> None:
        subject = self.evaluate(node.subject)
        taken = self._outcomes(node)
        cases = [each for number, each in enumerate(node.cases) if not taken or number in taken]
        is_none_possible = not taken or len(node.cases) in taken
        with self._inside(node, [self.heap.use(subject)]):
            ways = [partial(self._case, case, subject) for case in cases]
            self.try_ways([*ways, *([partial(self.block, ())] if is_none_possible else [])])

    def _case(self, case: ast.match_case, subject: Thing) -> None:
        for each in ast.walk(case.pattern):
            name = getattr(each, "name", None) or getattr(each, "rest", None)
            if isinstance(name, str):
                self.bind(ast.Name(name, ast.Store()), self.result("[]", [subject], (), [subject]))
        self.block(case.body)

    def _exec_For(self, node: ast.For | ast.AsyncFor) -> None:
        source = self.evaluate(node.iter)
        taken = self._outcomes(node)
        if taken and 1 not in taken:
            self.block(node.orelse)
            return

        def turn() -> None:
            self.bind(node.target, self.element(source))
            self.block(node.body)

        self._loop(node, turn, [self.heap.use(source)])

    _exec_AsyncFor = _exec_For

    def _exec_While(self, node: ast.While) -> None:
        test = self.heap.use(self.evaluate(node.test))
        taken = self._outcomes(node)
        if taken and 1 not in taken:
            self.block(node.orelse)
            return

        def turn() -> None:
            with self._inside(node, [self.heap.use(self.evaluate(node.test))]):
                self.block(node.body)

        self._loop(node, turn, [test])

    def _loop(self, node: ast.For | ast.While | ast.AsyncFor, turn: Callable[[], None], controls: Sequence[LineageItem]) -> None:
        """Executes a loop's body until nothing new comes of it, and closes what it made into one item for each object."""
        since, first_thing, unturned = self.maker.last, len(self.heap.natures), self.heap.copy()
        known: frozenset[object] | None = None
        with self._inside(node, controls):
            for number in range(_PASSES):
                start = self.heap.copy()
                self._breaks.append([])
                turn()
                ends = self._breaks.pop()
                self.heap.join([*ends, *([start] if number else [])], self.step)
                found = frozenset((each.step.place, each.opcode) for each in self._made_since(since) if each.step is not None)
                if self.heap.is_left or found == known:
                    break
                known = found
        if not self.heap.is_left:
            self._close(LOOP, since, first_thing, unturned.items, self._ways.note(self.frame.file, node), [type(node).__name__.lower()])
        if not _is_entered(node, self._outcomes(node)):
            self.heap.join([unturned], self.step)
        with self._inside(node, controls):
            self.block(node.orelse)

    def _made_since(self, since: int) -> Iterator[LineageItem]:
        seen: set[int] = set()
        waiting = [item for item in self.heap.items.values() if item.number > since]
        while waiting:
            item = waiting.pop()
            if item.number > since and item.number not in seen:
                seen.add(item.number)
                yield item
                waiting.extend(item.inputs)

    def _close(
        self,
        opcode: str,
        since: int,
        first_thing: int,
        before: Mapping[Thing, LineageItem],
        note: str,
        literals: Sequence[str],
        further: Sequence[Thing] = (),
    ) -> None:
        """Gives each object that was made or changed since a moment, and still has a name, one item for all that was done to it."""
        heap = self.heap
        named = [each.thing for names in heap.frames.values() for each in names.values() if each.thing >= first_thing]
        changed = [
            thing for thing, item in heap.items.items() if thing < first_thing and item.number > since and before.get(thing) is not item
        ]
        roots = dict.fromkeys((*changed, *named, *further))
        for thing in list(roots):
            roots.update(dict.fromkeys(_parts(heap, thing)))
        open_roots = [each for each in roots if not isinstance(heap.nature(each), Constant | Library | Module | Function | UserClass)]
        wholes = {thing: heap.use(thing) for thing in open_roots if thing in heap.items}
        closed: dict[int, LineageItem] = {}
        for thing, item in wholes.items():
            if item.number > since:
                if item.number not in closed:
                    closed[item.number] = self.maker.closed(opcode, item, since, self.step, literals, note)
                heap.items[thing] = closed[item.number]
                if thing >= first_thing:
                    heap.holds[thing] = frozenset(
                        each for each in heap.reach(thing) if each != thing and (each < first_thing or each in roots)
                    )
        heap.covered.update(dict.fromkeys(wholes, self.maker.last))

    def _exec_With(self, node: ast.With | ast.AsyncWith) -> None:
        for each in node.items:
            subject = self.evaluate(each.context_expr)
            if each.optional_vars is not None:
                nature = self.heap.nature(subject)
                entered = subject if isinstance(nature, Result) else self.result(".__enter__", [subject], (), [subject])
                self.bind(each.optional_vars, entered)
        with self._inside(node):
            self.block(node.body)

    _exec_AsyncWith = _exec_With

    def _exec_Try(self, node: ast.Try) -> None:
        taken = self._outcomes(node)
        with self._inside(node):
            start = self.heap.copy()
            self.block(node.body)
            if not self.heap.is_left:
                self.block(node.orelse)
            ends = []
            for number, handler in enumerate(node.handlers, 1):
                if taken is not None and number not in taken:
                    continue
                done, self.heap = self.heap, start.copy()
                if not done.is_left:
                    self.heap.join([done], self.step)
                if handler.name:
                    self.bind(ast.Name(handler.name, ast.Store()), self.result("exception"))
                self.block(handler.body)
                ends.append(self.heap)
                self.heap = done
            if taken and 0 not in taken and ends:
                self.heap = ends.pop()
            self.heap.join(ends, self.step)
            is_left, self.heap.is_left = self.heap.is_left, False
            self.block(node.finalbody)
            self.heap.is_left = self.heap.is_left or is_left

    _exec_TryStar = _exec_Try


def _is_entered(node: ast.For | ast.While | ast.AsyncFor, outcomes: frozenset[int] | None) -> bool:
    """Whether a loop's body is known to be executed."""
    if outcomes:
        return 1 in outcomes
    if isinstance(node, ast.While):
        return isinstance(node.test, ast.Constant) and bool(node.test.value)
    if isinstance(node.iter, ast.List | ast.Tuple | ast.Set):
        return bool(node.iter.elts)
    is_range = isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) and node.iter.func.id == "range"
    last = node.iter.args[-1:] if is_range and isinstance(node.iter, ast.Call) and len(node.iter.args) < 3 else []
    return any(isinstance(each, ast.Constant) and isinstance(each.value, int) and each.value > 0 for each in last)


def _parts(heap: Heap, thing: Thing) -> Iterator[Thing]:
    """Yields the parts of an object that have names, and theirs."""
    seen, waiting = {thing}, [thing]
    for each in waiting:
        fresh = [part for part in heap.fields.get(each, {}).values() if part not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
        yield from fresh

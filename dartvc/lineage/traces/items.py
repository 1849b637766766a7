"""Lineage items: which operation made a value, of what. They form a graph without circles; equal graphs have equal digests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xxhash import xxh3_128

from dartvc.model.records import NamedTuple

__all__ = ["CALL", "EITHER", "FILE", "LITERAL", "LOOP", "NAME", "STATE", "ItemMaker", "LineageItem", "Place", "Step", "iter_items"]

LITERAL, FILE, CALL, LOOP, EITHER, STATE, NAME = "literal", "file", "call", "loop", "either", "state", "name"
"""Opcodes of what is no operation: a constant, a file's content, a call of the user's function, a loop, what one of several ways gave, an object whose parts
changed, one that got a name by another statement than the one that made it."""


class Place(NamedTuple):
    """Where a statement stands; ``function`` is empty in a module's own code."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" in {self.function}" if self.function else "")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One execution of a statement.

    Attributes:
        place: where.
        text: the statement's first line.
        nodes: the identities of its syntax node and of those around it.
        calls: the identities of the statements whose calls led here, outermost first.
        controls: what decided that it was executed.
        since: the number of the last item that was made before it.
        items: what it made.
        reads: the statements that had bound the names it read.
    """

    place: Place
    text: str
    nodes: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()
    controls: tuple[LineageItem, ...] = ()
    since: int = 0
    items: list[LineageItem] = field(default_factory=list)
    reads: dict[Step, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class LineageItem:
    """An operation that made a value.

    Attributes:
        opcode: a dotted name of a library's function (``numpy.linalg.solve``), a method (``.fit``), an operator (``@``), or one of this module's.
        inputs: what it worked on.
        literals: its constants, as text: ``reg=0.1``, seeds among them.
        inner: what a call or a loop consists of; it ends in the same inputs.
        step: the statement that it belongs to.
        note: what is known of it besides: the turns of a loop and the ways they took.
        number: items are made after their inputs.
        digest: 32 hexadecimal digits over opcode, literals and the inputs' digests (of a call and a loop: those of what is in it).
    """

    opcode: str
    inputs: tuple[LineageItem, ...]
    literals: tuple[str, ...]
    inner: LineageItem | None
    step: Step | None
    note: str
    number: int
    digest: str


class ItemMaker:
    """Makes items, numbered in the order in which they were made."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self.last = 0

    def make(
        self,
        opcode: str,
        inputs: Iterable[LineageItem] = (),
        literals: Iterable[str] = (),
        step: Step | None = None,
        *,
        inner: LineageItem | None = None,
        note: str = "",
    ) -> LineageItem:
        """Returns a new item; inputs that are given twice count twice."""
        inputs, literals = tuple(inputs), tuple(literals)
        parts = [opcode, *literals, note, *((inner.digest,) if inner is not None else (each.digest for each in inputs))]
        self.last = next(self._count)
        item = LineageItem(opcode, inputs, literals, inner, step, note, self.last, xxh3_128("\0".join(parts).encode()).hexdigest())
        if step is not None and opcode not in (EITHER, STATE, LOOP):
            step.items.append(item)
        return item

    def closed(
        self, opcode: str, item: LineageItem, since: int, step: Step | None, literals: Iterable[str] = (), note: str = ""
    ) -> LineageItem:
        """Returns one item for everything that was made after ``since`` on the way to ``item``."""
        outside: dict[int, LineageItem] = {}
        seen = {item.number}
        waiting = [item]
        while waiting:
            for each in reversed(waiting.pop().inputs):
                if each.number in seen:
                    continue
                seen.add(each.number)
                if each.number <= since:
                    outside[each.number] = each
                else:
                    waiting.append(each)
        return self.make(opcode, [outside[number] for number in sorted(outside)], literals, step, inner=item, note=note)


def iter_items(root: LineageItem) -> Iterator[LineageItem]:
    """Yields an item and all that it was made of, nearest first, each once; of a call and a loop what is in it stands for its inputs."""
    seen = {root.number}
    waiting = [root]
    for item in waiting:
        yield item
        for each in item.inputs if item.inner is None else (item.inner,):
            if each.number not in seen:
                seen.add(each.number)
                waiting.append(each)

"""Carry or recompute: which values of a state to transfer and which to make again from the others, at the least cost.

The model of ElasticNotebook (Li, Gor, Prabhu, Gor, Park: "ElasticNotebook: Enabling Live Migration for Computational Notebooks", PVLDB 17(2), 2023), with one
thing more: an old value that a cell starts from, and that the state does not have any more, may be carried, too, when that is cheaper
than to make it. Costs are whole nanoseconds, so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dartvc.lineage.mincut import UNBOUNDED, FlowGraph

__all__ = ["Choice", "Maker", "Value", "all_carried", "all_remade", "cheapest", "cost_of"]


@dataclass(frozen=True, slots=True)
class Value:
    """One version of a co-variable.

    Attributes:
        carry_ns: what it costs to transfer; None: it is not stored anywhere.
        maker: the number of the cell that made it; None: nothing can make it again.
        is_wanted: whether it belongs to the state (else it is only what some cell started from).
    """

    carry_ns: int | None
    maker: int | None
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Maker:
    """One cell: what it costs to run again, and the numbers of the values that it starts from."""

    run_ns: int
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do: values to carry, cells to run again, what both cost together."""

    carried: frozenset[int]
    run: frozenset[int]
    cost_ns: int


def cheapest(values: Sequence[Value], makers: Sequence[Maker]) -> Choice:
    """Returns the choice of the least cost, with as few cells as can be; exact, by a minimum cut.

    A node stands for each cell (on the source's side: it is run) and for each value that only cells want (on the source's side: one of
    them is run). Cut edges are what is paid: source to cell the wanted values that it does not make, cell to sink its time, value to its
    maker what carrying it costs.
    """
    source, sink = 0, 1
    cell = [2 + number for number in range(len(makers))]
    graph = FlowGraph(2 + len(makers) + len(values))
    for number, value in enumerate(values):
        if value.is_wanted and value.maker is not None:
            graph.add_edge(source, cell[value.maker], _capacity(value.carry_ns))
        elif not value.is_wanted:
            graph.add_edge(2 + len(makers) + number, sink if value.maker is None else cell[value.maker], _capacity(value.carry_ns))
    for number, maker in enumerate(makers):
        graph.add_edge(cell[number], sink, maker.run_ns)
        for each in dict.fromkeys(maker.inputs):
            if not values[each].is_wanted:
                graph.add_edge(cell[number], 2 + len(makers) + each, UNBOUNDED)
    _, side = graph.cut(source, sink)
    return _choice(values, makers, frozenset(number for number in range(len(makers)) if cell[number] in side))


def all_carried(values: Sequence[Value], makers: Sequence[Maker]) -> Choice:
    """Returns the choice to run nothing that need not be run."""
    lost = [value.maker for value in values if value.is_wanted and value.carry_ns is None and value.maker is not None]
    return _choice(values, makers, _with_what_they_need(values, makers, lost, only_lost=True))


def all_remade(values: Sequence[Value], makers: Sequence[Maker]) -> Choice:
    """Returns the choice to carry nothing that can be made again."""
    wanted = [value.maker for value in values if value.is_wanted and value.maker is not None]
    return _choice(values, makers, _with_what_they_need(values, makers, wanted, only_lost=False))


def cost_of(values: Sequence[Value], makers: Sequence[Maker], run: frozenset[int]) -> int | None:
    """Returns what it costs to run these cells and to carry what is missing then; None when something can be had neither way."""
    total = sum(makers[number].run_ns for number in run)
    for number in _carried(values, makers, run):
        carry_ns = values[number].carry_ns
        if carry_ns is None:
            return None
        total += carry_ns
    return total


def _choice(values: Sequence[Value], makers: Sequence[Maker], run: frozenset[int]) -> Choice:
    cost = cost_of(values, makers, run)
    return Choice(frozenset(_carried(values, makers, run)), run, UNBOUNDED if cost is None else cost)


def _carried(values: Sequence[Value], makers: Sequence[Maker], run: frozenset[int]) -> list[int]:
    needed = {each for number in run for each in makers[number].inputs}
    return [number for number, value in enumerate(values) if (value.is_wanted or number in needed) and value.maker not in run]


def _with_what_they_need(values: Sequence[Value], makers: Sequence[Maker], first: Sequence[int], *, only_lost: bool) -> frozenset[int]:
    run: set[int] = set()
    waiting = list(first)
    while waiting:
        number = waiting.pop()
        if number in run:
            continue
        run.add(number)
        for each in makers[number].inputs:
            maker = values[each].maker
            if maker is not None and (not only_lost or values[each].carry_ns is None):
                waiting.append(maker)
    return frozenset(run)


def _capacity(carry_ns: int | None) -> int:
    return UNBOUNDED if carry_ns is None else carry_ns

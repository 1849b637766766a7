"""Walking the history: newest first, children before parents."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from dartvc.model import Oid

__all__ = ["iter_topological"]


class Linked(Protocol):
    """What a walk asks of a commit."""

    @property
    def oid(self) -> Oid:
        """Its id."""

    @property
    def parents(self) -> tuple[Oid, ...]:
        """The ids of its parents."""

    @property
    def time_s(self) -> int:
        """Its time in seconds since the epoch."""


Node = TypeVar("Node", bound=Linked)


def iter_topological(read: Callable[[Oid], Node], tips: Iterable[Oid], hide: Iterable[Oid]) -> Iterator[Node]:
    """Yields the commits reachable from ``tips`` and not from ``hide``: children before parents, by time where that leaves a choice.

    Each is read once. While there is a single line of commits it is lazy: the first ones of a long history come at once. A clock that
    went backwards changes the choice only, never the order of parent and child.

    Raises:
        CorruptError: a commit is damaged or gone.
    """
    hidden = _reachable(read, hide)
    frontier = list(dict.fromkeys(tip for tip in tips if tip not in hidden))
    while len(frontier) == 1:
        commit = read(frontier[0])
        yield commit
        parents = commit.parents
        if len(parents) != 1 or parents[0] in hidden:
            frontier = list(dict.fromkeys(parent for parent in parents if parent not in hidden))
        else:
            frontier[0] = parents[0]
    yield from _ordered(read, frontier, hidden)


def _reachable(read: Callable[[Oid], Node], tips: Iterable[Oid]) -> set[Oid]:
    seen: set[Oid] = set()
    stack = list(tips)
    while stack:
        oid = stack.pop()
        if oid not in seen:
            seen.add(oid)
            stack.extend(read(oid).parents)
    return seen


def _ordered(read: Callable[[Oid], Node], tips: list[Oid], hidden: set[Oid]) -> Iterator[Node]:
    """Kahn's algorithm over everything that is left, newest first among the commits whose children were all given."""
    commits: dict[Oid, Node] = {}
    children: dict[Oid, int] = dict.fromkeys(tips, 0)
    stack = list(tips)
    while stack:
        oid = stack.pop()
        if oid in commits:
            continue
        commits[oid] = commit = read(oid)
        for parent in dict.fromkeys(commit.parents):
            if parent not in hidden:
                children[parent] = children.get(parent, 0) + 1
                stack.append(parent)
    order = {tip: index for index, tip in enumerate(commits)}
    ready = [(-commits[oid].time_s, order[oid], oid) for oid in dict.fromkeys(tips) if children[oid] == 0]
    heapq.heapify(ready)
    while ready:
        _, _, oid = heapq.heappop(ready)
        commit = commits.pop(oid)
        yield commit
        for parent in dict.fromkeys(commit.parents):
            if parent in hidden:
                continue
            children[parent] -= 1
            if children[parent] == 0:
                heapq.heappush(ready, (-commits[parent].time_s, order[parent], parent))

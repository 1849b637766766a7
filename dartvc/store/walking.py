"""Walking the history: newest first, children before parents."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from dartvc.model import Oid

__all__ = ["iter_topological"]

CommitReader = Callable[[Oid], tuple[tuple[Oid, ...], float]]


def iter_topological(read: CommitReader, tips: Iterable[Oid], hide: Iterable[Oid]) -> Iterator[Oid]:
    """Yields the commits reachable from ``tips`` and not from ``hide``: children before parents, by time where that leaves a choice.

    While there is a single line of commits it is lazy: the first ones of a long history come at once. A clock that went backwards
    changes the choice only, never the order of parent and child.

    Raises:
        CorruptError: a commit is damaged or gone.
    """
    hidden = _reachable(read, hide)
    frontier = list(dict.fromkeys(tip for tip in tips if tip not in hidden))
    while len(frontier) == 1:
        oid = frontier[0]
        parents = read(oid)[0]
        yield oid
        if len(parents) != 1 or parents[0] in hidden:
            frontier = list(dict.fromkeys(parent for parent in parents if parent not in hidden))
        else:
            frontier[0] = parents[0]
    yield from _ordered(read, frontier, hidden)


def _reachable(read: CommitReader, tips: Iterable[Oid]) -> set[Oid]:
    seen: set[Oid] = set()
    stack = list(tips)
    while stack:
        oid = stack.pop()
        if oid not in seen:
            seen.add(oid)
            stack.extend(read(oid)[0])
    return seen


def _ordered(read: CommitReader, tips: list[Oid], hidden: set[Oid]) -> Iterator[Oid]:
    """Kahn's algorithm over everything that is left, newest first among the commits whose children were all given."""
    commits: dict[Oid, tuple[tuple[Oid, ...], float]] = {}
    children: dict[Oid, int] = dict.fromkeys(tips, 0)
    stack = list(tips)
    while stack:
        oid = stack.pop()
        if oid in commits:
            continue
        every, time_s = read(oid)
        parents = tuple(dict.fromkeys(parent for parent in every if parent not in hidden))
        commits[oid] = parents, time_s
        for parent in parents:
            children[parent] = children.get(parent, 0) + 1
            stack.append(parent)
    order = {tip: index for index, tip in enumerate(commits)}
    ready = [(-commits[oid][1], order[oid], oid) for oid in dict.fromkeys(tips) if children[oid] == 0]
    heapq.heapify(ready)
    while ready:
        _, _, oid = heapq.heappop(ready)
        yield oid
        for parent in commits[oid][0]:
            children[parent] -= 1
            if children[parent] == 0:
                heapq.heappush(ready, (-commits[parent][1], order[parent], parent))

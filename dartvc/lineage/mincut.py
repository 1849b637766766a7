"""The minimum cut of a small directed graph, by Dinic's algorithm (Soviet Math. Doklady 11, 1970)."""

from __future__ import annotations

from collections import deque

__all__ = ["UNBOUNDED", "FlowGraph"]

UNBOUNDED = 1 << 62
"""The capacity of an edge that must not be cut."""


class FlowGraph:
    """A graph of nodes 0 to ``count - 1`` whose edges have whole-numbered capacities.

    Args:
        count: how many nodes.
    """

    def __init__(self, count: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(count)]
        self._target: list[int] = []
        self._left: list[int] = []

    def add_edge(self, source: int, target: int, capacity: int) -> None:
        """Adds an edge; several between the same nodes add up."""
        for node, other, room in ((source, target, capacity), (target, source, 0)):
            self._edges[node].append(len(self._target))
            self._target.append(other)
            self._left.append(room)

    def cut(self, source: int, sink: int) -> tuple[int, frozenset[int]]:
        """Returns the capacity of the minimum cut and the nodes on the source's side, as few as can be."""
        flow = 0
        while True:
            level = self._levels(source)
            if level[sink] < 0:
                return flow, frozenset(node for node, depth in enumerate(level) if depth >= 0)
            following = [0] * len(self._edges)
            while pushed := self._push(source, sink, level, following):
                flow += pushed

    def _levels(self, source: int) -> list[int]:
        level = [-1] * len(self._edges)
        level[source] = 0
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for edge in self._edges[node]:
                target = self._target[edge]
                if self._left[edge] and level[target] < 0:
                    level[target] = level[node] + 1
                    queue.append(target)
        return level

    def _push(self, source: int, sink: int, level: list[int], following: list[int]) -> int:
        """Finds one more way to the sink and fills it; returns by how much, 0 when there is none."""
        way: list[int] = []
        node = source
        while node != sink:
            edges = self._edges[node]
            while following[node] < len(edges):
                edge = edges[following[node]]
                if self._left[edge] and level[self._target[edge]] == level[node] + 1:
                    break
                following[node] += 1
            else:
                if not way:
                    return 0
                node = self._target[way.pop() ^ 1]
                following[node] += 1
                continue
            way.append(edge)
            node = self._target[edge]
        pushed = min(self._left[edge] for edge in way)
        for edge in way:
            self._left[edge] -= pushed
            self._left[edge ^ 1] += pushed
        return pushed

"""Which results go first when there is no room for all: LIMA's policies, chosen by the setting ``dartvc.cachePolicy``.

A policy gives each result a score; the lowest goes first. Results differ in what they cost, in size, in how often and how lately they were
used, and in height: how many other results, one made from the other, stand behind them (of two that cost the same the deeper one is less likely to
come again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from dartvc.errors import UsageError
from dartvc.history.config import CACHE_POLICIES

__all__ = ["POLICIES", "Policy", "Ranked", "cost_and_size", "policy_named", "saved_by_byte"]

_LEAST_BYTES = 64


class Ranked(Protocol):
    """A result as eviction sees it: ``last_use`` grows with time, ``uses`` counts the times it was wanted."""

    @property
    def cost_s(self) -> float:
        """Returns what making it took."""
        ...

    @property
    def size_bytes(self) -> int:
        """Returns what it takes."""
        ...

    @property
    def uses(self) -> int:
        """Returns how often it was wanted."""
        ...

    @property
    def last_use(self) -> float:
        """Returns when it was wanted last."""
        ...

    @property
    def height(self) -> int:
        """Returns how many results stand behind it, itself counted."""
        ...


Policy = Callable[[Sequence[Ranked]], list[float]]


def saved_by_byte(entry: Ranked) -> float:
    """Returns what a byte of a result saves: (uses + 1) * cost / size."""
    return (entry.uses + 1) * entry.cost_s / max(entry.size_bytes, _LEAST_BYTES)


def cost_and_size(entries: Sequence[Ranked]) -> list[float]:
    """Scores what a byte saves, over the time that nobody wanted it (hyperbolic caching, Blankstein et al., ATC 2017).

    Without that, results of a loop's earlier turns, each wanted many times and never again, would stay, and the new ones go.
    """
    latest = max((each.last_use for each in entries), default=0.0)
    return [saved_by_byte(each) / (1.0 + latest - each.last_use) for each in entries]


def least_recently_used(entries: Sequence[Ranked]) -> list[float]:
    """Scores the time of the last use."""
    return [each.last_use for each in entries]


def dag_height(entries: Sequence[Ranked]) -> list[float]:
    """Scores 1 / height: the deepest go first; of equals, the one not used for longest."""
    latest = max((each.last_use for each in entries), default=0.0) or 1.0
    return [1 / max(each.height, 1) + 1e-6 * each.last_use / latest for each in entries]


def hybrid(entries: Sequence[Ranked]) -> list[float]:
    """Scores the sum of the ranks that the other three give."""
    total = [0.0] * len(entries)
    for policy in (cost_and_size, least_recently_used, dag_height):
        scores = policy(entries)
        for rank, number in enumerate(sorted(range(len(entries)), key=scores.__getitem__)):
            total[number] += rank
    return total


POLICIES: Mapping[str, Policy] = MappingProxyType(
    dict(zip(CACHE_POLICIES, (cost_and_size, least_recently_used, dag_height, hybrid), strict=True))
)


def policy_named(name: str) -> Policy:
    """Returns a policy.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in POLICIES:
        raise UsageError(
            f"{name!r} is no policy for stored results", kind="bad-setting", hint=f"dvc-state config dartvc.cachePolicy {' or '.join(POLICIES)}"
        )
    return POLICIES[name]

"""The first commit for which something holds, found by asking about few commits (git-bisect(1))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dartvc.errors import UsageError
from dartvc.model import Commit, Oid

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["BisectReport", "bisect_commits"]


@dataclass(frozen=True, slots=True)
class BisectReport:
    """The first commit for which the predicate holds (None: for none), and the commits that were asked about."""

    first: Commit | None
    asked: tuple[tuple[Oid, bool], ...]


def bisect_commits(
    repository: Repository, bad: Oid, predicate: Callable[[Commit], bool | None], *, good: Oid | None = None
) -> BisectReport:
    """Searches the first-parent commits up to ``bad`` for the first one where the predicate holds.

    As with git, it is taken to hold from some commit on. A predicate that returns None cannot tell; such commits are passed over.

    Args:
        repository: where.
        bad: the newest commit.
        predicate: asked about some ``log2(n)`` commits.
        good: a commit where it does not hold; None: from the first commit on.

    Raises:
        UsageError: ``good`` is not an ancestor of ``bad`` along first parents.
    """
    line: list[Oid] = []
    oid: Oid | None = bad
    while oid is not None and oid != good:
        line.append(oid)
        parents = repository.database.read_commit(oid).parents
        oid = parents[0] if parents else None
    if good is not None and oid is None:
        raise UsageError(f"{good[:8]} is not an ancestor of {bad[:8]}", kind="not-an-ancestor", hint="dvc-state log --graph")
    line.reverse()
    asked: dict[Oid, bool | None] = {}

    def ask(position: int) -> bool | None:
        if line[position] not in asked:
            asked[line[position]] = predicate(repository.commit(line[position]))
        return asked[line[position]]

    low, high = 0, len(line)  # the answer lies in line[low:high], or is `high`
    while low < high:
        middle = (low + high) // 2
        probe = next((at for at in _around(middle, low, high) if ask(at) is not None), None)
        if probe is None:
            break
        if asked[line[probe]]:
            high = probe
        else:
            low = probe + 1
    first = next((at for at in range(high, len(line)) if asked.get(line[at])), None)
    answers = tuple((each, answer) for each, answer in asked.items() if answer is not None)
    return BisectReport(repository.commit(line[first]) if first is not None else None, answers)


def _around(middle: int, low: int, high: int) -> list[int]:
    return sorted(range(low, high), key=lambda at: abs(at - middle))

"""Walks over all that values refer to, by the garbage collector's own traversal and at C speed.

What is walked is taken in pieces that stay in the processor's cache: a list of a million rows never has a million of anything beside it. And most objects
have one reference, so that they cannot be met twice: they need not be remembered, which is what a walk spends most of its time and memory on.
"""

from __future__ import annotations

import itertools
import operator
from sys import getrefcount
from typing import Any

__all__ = ["Waiting", "by_identity", "by_references", "not_seen"]

_PIECE = 1 << 13


class Waiting:
    """Lists of objects that are still to be walked, the newest first, each with a mark."""

    __slots__ = ("_lists",)

    def __init__(self) -> None:
        self._lists: list[tuple[list[Any], int, Any]] = []

    def add(self, objects: list[Any], mark: Any = None) -> None:
        """Adds a list, which the caller must not keep."""
        self._drop_taken()
        self._lists.append((objects, 0, mark))

    def __iter__(self) -> Waiting:
        return self

    def __next__(self) -> tuple[list[Any], Any]:
        """Takes a piece of the newest list, with its mark. The list itself lives until the next call."""
        self._drop_taken()
        if not self._lists:
            raise StopIteration
        objects, at, mark = self._lists[-1]
        self._lists[-1] = objects, at + _PIECE, mark
        return objects[at : at + _PIECE], mark

    def _drop_taken(self) -> None:
        while self._lists and self._lists[-1][1] >= len(self._lists[-1][0]):
            self._lists.pop()


def by_references(piece: list[Any], lists: int = 0) -> tuple[list[Any], list[Any]]:
    """Returns the objects of a piece to which one reference leads, and those to which more do.

    Args:
        piece: as it was taken, or a part of it that took its place.
        lists: how many other lists hold these objects, besides the one that the piece was taken from.
    """
    most = _ONCE + lists
    are_alone = [getrefcount(each) <= most for each in piece]
    if all(are_alone):
        return piece, []
    return list(itertools.compress(piece, are_alone)), list(itertools.compress(piece, map(operator.not_, are_alone)))


def by_identity(objects: list[Any]) -> dict[int, Any]:
    """Returns objects by their identities, each once."""
    return dict(zip(map(id, objects), objects, strict=True))


def not_seen(seen: set[int], objects: list[Any]) -> list[Any]:
    """Returns those of objects that were not seen before, each once; they are from now on."""
    identities, count = list(map(id, objects)), len(seen)
    if seen.isdisjoint(identities):  # fast path: no object of most pieces was
        seen.update(identities)
        return objects if len(seen) - count == len(objects) else list(by_identity(objects).values())
    fresh = {key: each for key, each in zip(identities, objects, strict=True) if key not in seen}
    seen.update(fresh)
    return list(fresh.values())


_ONCE = 0


def _count_of_one() -> int:
    """Returns what `getrefcount` says in `by_references` of an object to which one reference leads: the lists and the loop count, too."""
    holder = [object()]
    waiting = Waiting()
    waiting.add([*holder])
    piece, _ = next(waiting)
    return next((count for count in range(1, 16) if by_references(piece, count)[0]), 0)


_ONCE = _count_of_one()

"""How many results stand behind a value: known by identity, as long as the value lives."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

__all__ = ["Heights"]


class Heights:
    """The heights of living results. Arrays and frames are followed; what knows no weak references counts as new."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}

    def note(self, value: Any, height: int) -> None:
        """Notes the height of a result, and of those directly inside it."""
        for each in value if type(value) in (tuple, list) and len(value) < 16 else (value,):
            number = id(each)
            try:
                self._known[number] = weakref.ref(each, lambda _, number=number: self._known.pop(number, None)), height  # type: ignore[misc]
            except TypeError:
                continue

    def forget(self, value: Any) -> None:
        """Takes note that an object is going to be another value."""
        self._known.pop(id(value), None)

    def above(self, identities: Iterable[int]) -> int:
        """Returns the height of what is made from objects, which are alive, by their identity."""
        known = self._known
        if not known:
            return 1
        return 1 + max((known[number][1] for number in identities if number in known), default=0)

"""The categories in the filters of `warnings`, by name: a filter of a library must not import that library in order to come back.

A library that is imported later may give out warnings of its category; until then no warning of it can exist. So a category that is not here
yet is stood for by a class that knows its name, and asks every class that it is compared with for its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["described_filters", "living_filters"]


_MARK = "category"


class _Expected(type):
    """The class of stand-ins: what has the name is a subclass."""

    place: tuple[str, str]

    def __subclasscheck__(cls, other: type) -> bool:
        return any((each.__module__, each.__qualname__) == cls.place for each in other.__mro__)


def described_filters(filters: Iterable[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Returns filters with the names of the categories that libraries and modules define."""
    return tuple((*each[:2], _described(each[2]), *each[3:]) for each in filters)


def _described(category: Any) -> Any:
    if type(category) is _Expected:
        return (_MARK, *category.place)
    place = getattr(category, "__module__", ""), getattr(category, "__qualname__", "")
    if place[0] in ("builtins", "__main__") or _find(*place) is not category:
        return category
    return (_MARK, *place)


def living_filters(filters: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Returns filters as `warnings` has them; importing nothing."""
    return [(*each[:2], _living(each[2]), *each[3:]) for each in filters]


def _living(category: Any) -> Any:
    if not isinstance(category, tuple):
        return category
    _, module, name = category
    found = _find(module, name)
    if isinstance(found, type):
        return found
    expected = _Expected(name.rpartition(".")[2], (Warning,), {})
    expected.place = module, name
    return expected


def _find(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found

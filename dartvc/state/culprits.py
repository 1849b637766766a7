"""Where inside an object the part sits that cannot be stored: ``session.pool._lock``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from types import FunctionType, MethodType
from typing import Any

__all__ = ["find_culprit"]

_MAX_DEPTH = 12
_MAX_CHILDREN = 200
_SCALARS = (int, float, complex, bool, str, bytes, type(None))


def find_culprit(name: str, value: object, is_storable: Callable[[object], bool]) -> str:
    """Returns the path of the innermost part of ``value`` that cannot be stored, as the user would write it.

    Args:
        name: the variable's name, the start of the path.
        value: an object that is known not to be storable.
        is_storable: tries one part; called at most a few hundred times.
    """
    path, current = name, value
    seen = {id(value)}
    for _ in range(_MAX_DEPTH):
        for step, part in _parts(current):
            if isinstance(part, _SCALARS) or id(part) in seen:
                continue
            seen.add(id(part))
            if not is_storable(part):
                path, current = path + step, part
                break
        else:
            return path
    return path


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """Yields what an object holds; asks the types of the language alone, so that no code of the user's runs."""
    kind = type(value)
    if issubclass(kind, dict):
        pairs = list(dict.items(value))[:_MAX_CHILDREN]
        yield from ((f"[{key!r}]" if type(key) in _SCALARS else f"[<{type(key).__name__}>]", part) for key, part in pairs)
    for plain in (list, tuple, set, frozenset):
        if issubclass(kind, plain):
            items = islice(plain.__iter__(value), _MAX_CHILDREN)
            yield from ((f"[{index}]" if plain in (list, tuple) else "{...}", part) for index, part in enumerate(list(items)))
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        attributes = {}
    if isinstance(attributes, dict):
        yield from ((f".{key}", part) for key, part in list(attributes.items())[:_MAX_CHILDREN])
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            try:
                yield f".{slot}", object.__getattribute__(value, slot)
            except (AttributeError, TypeError):
                continue
    for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False) if kind is FunctionType else ():
        try:
            yield f".<closure {variable}>", cell.cell_contents
        except ValueError:
            continue
    if kind is MethodType:
        yield ".__self__", value.__self__

"""Where inside an object the part sits that cannot be stored: ``session.pool._lock``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    kind = type(value)
    if issubclass(kind, dict):
        pairs = list(dict.items(value))[:_MAX_CHILDREN]
        yield from ((f"[{key!r}]" if isinstance(key, _SCALARS) else f"[<{type(key).__name__}>]", part) for key, part in pairs)
    elif issubclass(kind, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(list(value)[:_MAX_CHILDREN]))
    elif issubclass(kind, set | frozenset):
        yield from (("{...}", part) for part in list(value)[:_MAX_CHILDREN])
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
    closure = getattr(value, "__closure__", None) if callable(value) else None
    for variable, cell in zip(getattr(getattr(value, "__code__", None), "co_freevars", ()), closure or (), strict=False):
        try:
            yield f".<closure {variable}>", cell.cell_contents
        except ValueError:
            continue
    function = getattr(value, "__func__", None) if kind.__name__ == "method" else None
    if function is not None:
        yield ".__self__", value.__self__

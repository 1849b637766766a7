"""Scalars, texts and containers of the language."""

from __future__ import annotations

import array
import collections
from collections.abc import Callable
from itertools import islice
from typing import Any

from dartvc.state.summaries.words import SET_ITEMS, clean, item_of, short_text, type_name

__all__ = ["BUILTIN", "describe_mapping", "describe_sequence"]

_ITEMS = 20
_TEXT = 400


def describe_sequence(value: Any, kind: type) -> dict[str, object]:
    """Describes what is stored in a list, tuple, set, frozenset or deque, past overridden methods.

    Args:
        value: an instance of ``kind`` or of a subclass.
        kind: the builtin type whose storage is read.
    """
    length = kind.__len__(value)  # type: ignore[attr-defined]
    found: dict[str, object] = {"type": type_name(type(value)), "length": length}
    if kind in (set, frozenset):
        return found | _set_items(kind, value, length)
    first = list(islice(kind.__iter__(value), _ITEMS))  # type: ignore[attr-defined]
    if first:
        found["item_types"] = list(dict.fromkeys(type_name(type(item)) for item in first))
    found["repr"] = short_text(tuple(first) if kind is tuple else first)
    if 0 < length <= _ITEMS:
        found["items"] = [item_of(item) for item in first]
    return found


def describe_mapping(value: Any) -> dict[str, object]:
    """Describes what is stored in a dict, past overridden methods: its length, and its items if they are few."""
    length = dict.__len__(value)
    found: dict[str, object] = {"type": type_name(type(value)), "length": length}
    first = list(islice(dict.items(value), _ITEMS))
    if first:
        found["key_types"] = list(dict.fromkeys(type_name(type(key)) for key, _ in first))
        found["item_types"] = list(dict.fromkeys(type_name(type(item)) for _, item in first))
    pairs = ", ".join(f"{short_text(key, 1)}: {short_text(item, 1)}" for key, item in first[:6])
    found["repr"] = clean("{" + pairs + (", ..." if length > 6 else "") + "}")
    if 0 < length <= _ITEMS:
        found["items"] = {clean(key) if type(key) is str else short_text(key): item_of(item) for key, item in first}
    return found


def _set_items(kind: Any, value: Any, length: int) -> dict[str, object]:
    """Describes a set's items in the order of their texts: the order of a set differs from process to process."""
    first = list(islice(kind.__iter__(value), SET_ITEMS))
    found: dict[str, object] = {"item_types": sorted({type_name(type(item)) for item in first})} if first else {}
    if length > SET_ITEMS:
        return found | {"repr": f"<{kind.__name__} of {length}>"}
    return found | {"repr": short_text(kind(first)) if not first else clean("{" + ", ".join(sorted(short_text(item, 1) for item in first)) + "}")}


def _describe_int(value: int) -> dict[str, object]:
    bits = value.bit_length()
    if bits <= 512:
        return {"type": "int", "repr": repr(value)}
    return {"type": "int", "bits": bits, "repr": f"{'-' if value < 0 else ''}{hex(abs(value >> (bits - 64)))}..."}


def _describe_scalar(value: Any) -> dict[str, object]:
    return {"type": type(value).__name__, "repr": repr(value)}


def _describe_range(value: range) -> dict[str, object]:
    text = short_text([value.start, value.stop, value.step])[1:-1]
    return {"type": "range", "repr": f"range({text})"}


def _describe_text(value: Any) -> dict[str, object]:
    text = repr(value[:_TEXT])
    return {"type": type(value).__name__, "length": len(value), "repr": clean(text, _TEXT * 4) + ("..." if len(value) > _TEXT else "")}


def _describe_array(value: Any) -> dict[str, object]:
    found: dict[str, object] = {"type": "array.array", "length": len(value), "typecode": value.typecode}
    found["repr"] = short_text(list(value[:7]))
    return found


def _describe_view(value: memoryview) -> dict[str, object]:
    return {"type": "memoryview", "shape": list(value.shape or ()), "format": value.format, "bytes": value.nbytes}


def _describe_defaultdict(value: Any) -> dict[str, object]:
    found = describe_mapping(value)
    factory = value.default_factory
    found["default"] = type_name(factory) if issubclass(type(factory), type) else short_text(factory)
    return found


BUILTIN: dict[type, Callable[[Any], dict[str, object]]] = {
    int: _describe_int,
    bool: _describe_scalar,
    complex: _describe_scalar,
    type(None): _describe_scalar,
    type(Ellipsis): _describe_scalar,
    type(NotImplemented): _describe_scalar,
    range: _describe_range,
    str: _describe_text,
    bytes: _describe_text,
    bytearray: _describe_text,
    memoryview: _describe_view,
    array.array: _describe_array,
    list: lambda value: describe_sequence(value, list),
    tuple: lambda value: describe_sequence(value, tuple),
    set: lambda value: describe_sequence(value, set),
    frozenset: lambda value: describe_sequence(value, frozenset),
    collections.deque: lambda value: describe_sequence(value, collections.deque),
    dict: describe_mapping,
    collections.OrderedDict: describe_mapping,
    collections.Counter: describe_mapping,
    collections.defaultdict: _describe_defaultdict,
}
"""The describer of each builtin container and scalar, by exact type."""

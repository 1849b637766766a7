"""Instances of classes that nothing more is known of: their attributes, read past everything that the class could override."""

from __future__ import annotations

import collections
import enum
import types
from collections.abc import Iterator
from itertools import islice
from typing import Any

from dartvc.state.summaries.containers import describe_mapping, describe_sequence
from dartvc.state.summaries.words import clean, instance_dict, item_of, mro_of, namespace_of, short_text, type_name

__all__ = ["attribute_items", "describe_instance", "iter_attributes"]

_ATTRIBUTES = 20
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class statement made it
_FLAGS = type.__dict__["__flags__"].__get__


def describe_instance(value: Any) -> dict[str, object]:
    """Describes an instance: what a builtin base stores in it, then its attributes (``attributes``, at most twenty)."""
    kind = type(value)
    found = _builtin_part(value, kind)
    if _is_enum(kind):
        parts = instance_dict(value)
        return found | {"name": item_of(parts.get("_name_")), "repr": short_text(parts.get("_value_"))}
    attributes = attribute_items(value)
    if attributes:
        found["attributes"] = attributes
        total = len(instance_dict(value))
        if total > _ATTRIBUTES:
            found["more_attributes"] = total - _ATTRIBUTES
    return found


def attribute_items(value: object) -> dict[str, object]:
    """Returns the first twenty attributes of an instance, each as a number or a short text."""
    return {name: _attribute(part) for name, part in islice(iter_attributes(value), _ATTRIBUTES)}


def iter_attributes(value: object) -> Iterator[tuple[str, object]]:
    """Yields the attributes that an instance stores, in its ``__dict__`` or in slots; computed ones are not among them."""
    for key, part in dict.items(instance_dict(value)):
        yield (clean(key) if type(key) is str else short_text(key)), part
    for base in mro_of(type(value))[:-1]:
        if _FLAGS(base) & _HEAP_TYPE:
            for name, member in namespace_of(base).items():
                if type(member) is types.MemberDescriptorType:
                    try:
                        yield clean(name), member.__get__(value)
                    except AttributeError:
                        continue


def _attribute(part: object) -> object:
    if type(part) in (list, dict, tuple, set, frozenset) and len(part) > 6:  # type: ignore[arg-type]
        return f"{type(part).__name__} of {len(part)}"  # type: ignore[arg-type]
    return item_of(part)


def _builtin_part(value: Any, kind: type) -> dict[str, object]:
    """Returns what a builtin base class of ``kind`` stores in the value."""
    if issubclass(kind, dict):
        return describe_mapping(value)
    for base in (list, tuple, set, frozenset, collections.deque):
        if issubclass(kind, base):
            return _with_fields(describe_sequence(value, base), kind) if base is tuple else describe_sequence(value, base)
    found: dict[str, object] = {"type": type_name(kind)}
    if issubclass(kind, str | bytes | bytearray):
        storage = str if issubclass(kind, str) else bytes if issubclass(kind, bytes) else bytearray
        found["length"] = storage.__len__(value)
        found["repr"] = short_text(storage.__getitem__(value, slice(0, 81)))
    elif issubclass(kind, int):
        found["repr"] = short_text(int.__add__(value, 0))
    elif issubclass(kind, float):
        found["repr"] = float.__repr__(value)
    elif issubclass(kind, BaseException):
        found["repr"] = short_text(BaseException.__dict__["args"].__get__(value))
    return found


def _with_fields(found: dict[str, object], kind: type) -> dict[str, object]:
    """Gives the items of a named tuple their names."""
    names = namespace_of(kind).get("_fields")
    items = found.get("items")
    if type(names) is tuple and type(items) is list and len(names) == len(items) and all(type(name) is str for name in names):
        found["items"] = dict(zip(names, items, strict=True))
    return found


def _is_enum(kind: type) -> bool:
    return enum.Enum in mro_of(kind)[1:] if type(kind) is enum.EnumType else False

"""The standard library's values whose attributes would say little: files, paths, times, numbers, patterns."""

from __future__ import annotations

import datetime
import io
import pathlib
import re
from collections.abc import Callable
from typing import Any

from dartvc.state.summaries.words import clean, instance_dict, item_of, short_text, type_name

__all__ = ["BUILTIN", "GENUINE"]

_RAW_OWNERS = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)


def _describe_file(value: Any) -> dict[str, object]:
    """Describes an open file from its raw descriptor; a stack with a layer of the user's own is only named."""
    found: dict[str, object] = {"type": type_name(type(value))}
    mode: object = None
    layer = value
    if type(layer) is io.TextIOWrapper:
        mode = instance_dict(layer).get("mode")
        found["encoding"] = item_of(layer.encoding)
        layer = layer.buffer
    if type(layer) in _RAW_OWNERS:
        layer = layer.raw
    if type(layer) is io.FileIO:
        found["path"] = item_of(instance_dict(layer).get("name"))
        found["mode"] = item_of(mode if type(mode) is str else layer.mode)
        found["closed"] = layer.closed
    return found


def _describe_memory(value: Any) -> dict[str, object]:
    found: dict[str, object] = {"type": type_name(type(value))}
    if value.closed:
        return found | {"closed": True}
    if type(value) is io.BytesIO:
        view = value.getbuffer()
        size = view.nbytes
        view.release()
        return found | {"length": size, "position": value.tell()}
    return found | {"position": value.tell()}


def _describe_path(value: Any) -> dict[str, object]:
    copy = type(value)(value)  # its text is kept in the path once it is asked for
    return {"type": type_name(type(value)), "repr": clean(repr(str(copy)), 400)}


def _describe_time(value: Any) -> dict[str, object]:
    found: dict[str, object] = {"type": type_name(type(value)), "repr": value.replace(tzinfo=None).isoformat()}
    zone = value.tzinfo
    return found | ({"zone": str(zone) if type(zone) is datetime.timezone else type_name(type(zone))} if zone is not None else {})


def _describe_by_text(value: Any) -> dict[str, object]:
    return {"type": type_name(type(value)), "repr": clean(str(value))}


def _describe_fraction(value: Any) -> dict[str, object]:
    return {"type": "fractions.Fraction", "repr": clean(f"{short_text(value.numerator)}/{short_text(value.denominator)}")}


def _describe_pattern(value: Any) -> dict[str, object]:
    return {"type": "re.Pattern", "repr": short_text(value.pattern), "flags": int(value.flags)}


BUILTIN: dict[type, Callable[[Any], dict[str, object]]] = {
    io.TextIOWrapper: _describe_file,
    io.FileIO: _describe_file,
    **dict.fromkeys(_RAW_OWNERS, _describe_file),
    io.BytesIO: _describe_memory,
    io.StringIO: _describe_memory,
    type(pathlib.Path()): _describe_path,
    pathlib.PurePosixPath: _describe_path,
    pathlib.PureWindowsPath: _describe_path,
    datetime.datetime: _describe_time,
    datetime.time: _describe_time,
    datetime.date: _describe_by_text,
    datetime.timedelta: _describe_by_text,
    datetime.timezone: _describe_by_text,
    re.Pattern: _describe_pattern,
}
"""Describers of the standard library's types, by exact type."""


def _exact(describe: Callable[[Any], dict[str, object]], name: str) -> Callable[[Any], dict[str, object]]:
    """Only names a subclass, whose methods are the user's own."""
    return lambda value: describe(value) if type_name(type(value)) == name else {"type": type_name(type(value))}


_BY_NAME = {"decimal.Decimal": _describe_by_text, "uuid.UUID": _describe_by_text, "fractions.Fraction": _describe_fraction}
GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {name: _exact(describe, name) for name, describe in _BY_NAME.items()}
"""Describers of types in modules that are not loaded for their sake, by name."""

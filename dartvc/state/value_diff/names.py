"""The difference of one name, told from the summaries of its two values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from dartvc.model import Summary
from dartvc.state.value_diff.chunks import ArrayDiff

__all__ = ["Change", "DiffKind", "NameDiff", "change_of", "diff_summaries", "elements_note", "headline"]

_HEADLINE = ("name", "repr", "signature", "shape", "dtype", "rows", "columns", "length", "parameters", "stored", "version", "path", "state")
_BARE = frozenset({"name", "repr", "signature", "shape", "dtype", "path"})
_STATISTICS = ("min", "max", "mean", "norm", "max_abs", "grad_norm")
_PARTS = {"layers": "layer", "attributes": "attribute", "items": "item", "methods": "method", "params": "parameter", "fitted": "fitted attribute",
          "closure": "closure variable", "keywords": "keyword"}  # fmt: skip
_TOLD_BY_SUMMARY = frozenset({"source", "shape", "fields", "layers"})
_ECHOES = frozenset({"repr", "item_types", "key_types"})


class DiffKind(StrEnum):
    """What happened to a name."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    RETYPED = "retyped"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference inside a value: where, what it was, what it is, and a remark such as the relative change.

    ``path`` is empty for the value itself, a column's or layer's name, or both with a dot between: ``price.dtype``.
    """

    path: str
    before: object
    after: object
    note: str = ""


@dataclass(frozen=True, slots=True)
class NameDiff:
    """How one name differs: what happened to it, the one-line descriptions of both values, the changes, and a source diff."""

    name: str
    kind: DiffKind
    before_type: str = ""
    after_type: str = ""
    before: str = ""
    after: str = ""
    changes: tuple[Change, ...] = ()
    source: tuple[str, ...] = ()


Values = ArrayDiff | Mapping[str, ArrayDiff] | None


def diff_summaries(
    name: str,
    before: Summary | None,
    after: Summary | None,
    *,
    diff_values: Values = None,
    diff_parts: Callable[[], Sequence[Change]] = tuple,
) -> NameDiff:
    """Tells how a name differs between two commits.

    Args:
        name: of the variable.
        before: the summary there, None if there was no such name.
        after: the summary here.
        diff_values: what `diff_arrays` found, for an array, or by column or layer for a frame or a model.
        diff_parts: tells what differs inside, which the summaries need not show; not asked for what has a shape or a source.
    """
    old, new = before or {}, after or {}
    types = str(old.get("type", "")), str(new.get("type", ""))
    lines = headline(old) if old else "", headline(new) if new else ""
    if before is None:
        return NameDiff(name, DiffKind.ADDED, *types, *lines)
    if after is None:
        return NameDiff(name, DiffKind.REMOVED, *types, *lines)
    if types[0] != types[1]:
        return NameDiff(name, DiffKind.RETYPED, *types, *lines, (change_of("", lines[0], lines[1]),))
    changes = [*_value_changes(diff_values), *_differ(old)(old, new)]
    source = tuple(_source_diff(old.get("source"), new.get("source")))
    if not changes or not _TOLD_BY_SUMMARY.intersection(old):
        changes = _joined(changes, diff_parts())
    if not changes and not source:
        changes = [Change("", None, None, "contents changed")]
    return NameDiff(name, DiffKind.CHANGED, *types, *lines, tuple(changes), source)


def _joined(told: Sequence[Change], found: Sequence[Change]) -> list[Change]:
    """Returns the changes that summaries tell, and those found inside the values that are not among them."""
    paths = {change.path for change in told}
    fresh = [change for change in found if not any(_is_within(change.path, path) for path in paths)]
    return [change for change in told if change.path or not fresh or change.before is not None] + fresh


def _is_within(path: str, other: str) -> bool:
    return path == other if not other or path == other else path.startswith((f"{other}[", f"{other}."))


def headline(summary: Summary) -> str:
    """Returns one line for a value: ``numpy.ndarray (3, 4) float64``, ``pandas.DataFrame rows 10 columns 3``."""
    parts = [str(summary.get("type", "?"))]
    for key in _HEADLINE:
        value = summary.get(key)
        if value is None or isinstance(value, Mapping):
            continue
        if key == "length" and "repr" in summary and parts[0] in ("str", "bytes"):
            continue
        text = _shape_text(value) if isinstance(value, list) else str(value)
        parts.append(text if key in _BARE else f"{key} {text}")
    return " ".join(parts)


def _shape_text(shape: list[object]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _differ(summary: Summary) -> Callable[[Summary, Summary], Iterator[Change]]:
    if "fields" in summary and "rows" in summary:
        return _frame_changes
    if "layers" in summary:
        return _model_changes
    if "shape" in summary:
        return _array_changes
    return _plain_changes


def _plain_changes(old: Summary, new: Summary) -> Iterator[Change]:
    """Yields the differences of scalars, containers, instances and everything else, key by key."""
    parts = [key for key in _PARTS if isinstance(old.get(key), Mapping | list) and isinstance(new.get(key), Mapping | list)]
    found = [change for key in parts for change in _part_changes(key, old[key], new[key])]
    for key in dict.fromkeys((*old, *new)):
        left, right = old.get(key), new.get(key)
        if left == right or key in parts or key in ("source", "type") or (key in _ECHOES and found):
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _part_changes(key, left, right)
        elif key == "repr":
            yield change_of("", left, right)
        elif key != "code" or not ("source" in old and "source" in new):
            yield change_of(key, left, right)
    yield from found


def _part_changes(key: str, left: object, right: object) -> Iterator[Change]:
    """Yields what was added to, removed from and changed in the parts of a value."""
    noun = _PARTS.get(key, key)
    old, new = ({f"[{place}]": item for place, item in enumerate(part)} if isinstance(part, list) else part for part in (left, right))
    assert isinstance(old, Mapping) and isinstance(new, Mapping)
    for name in dict.fromkeys((*old, *new)):
        path = str(name)
        if name not in old:
            yield Change(path, None, new[name], f"{noun} added")
        elif name not in new:
            yield Change(path, old[name], None, f"{noun} removed")
        elif old[name] != new[name]:
            yield change_of(path, old[name], new[name])


def _array_changes(old: Summary, new: Summary) -> Iterator[Change]:
    """Yields changes of shape, dtype and the like first, then of statistics."""
    for key in dict.fromkeys((*old, *new)):
        left, right = old.get(key), new.get(key)
        if left == right or key in ("sampled", "type") or key in _STATISTICS:
            continue
        if key == "bytes" and (old.get("shape"), old.get("dtype")) != (new.get("shape"), new.get("dtype")):
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _part_changes(key, left, right)
        elif key == "repr":
            yield change_of("", left, right)
        else:
            yield change_of(key, *(_shape_text(part) if isinstance(part, list) else part for part in (left, right)))
    yield from _statistic_changes("", old, new)


def _statistic_changes(prefix: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Change]:
    for key in _STATISTICS:
        if old.get(key) != new.get(key):
            change = change_of(f"{prefix}{key}", old.get(key), new.get(key))
            sampled = "in a sample" if "sampled" in old or "sampled" in new else ""
            yield Change(change.path, change.before, change.after, ", ".join(filter(None, (change.note, sampled))))


def _frame_changes(old: Summary, new: Summary) -> Iterator[Change]:
    """Yields changes of a table: rows, columns added and removed, dtypes, nulls, then ranges."""
    left, right = old.get("fields"), new.get("fields")
    assert isinstance(left, Mapping) and isinstance(right, Mapping)
    for key in dict.fromkeys((*old, *new)):
        if key not in ("fields", "type", "columns", "more_columns") and old.get(key) != new.get(key):
            yield change_of(key, old.get(key), new.get(key))
    if old.get("columns") != new.get("columns"):
        yield change_of("columns", old.get("columns"), new.get("columns"))
    for name in dict.fromkeys((*left, *right)):
        if name not in left:
            if not old.get("more_columns"):
                yield Change(name, None, _column_text(right[name]), "column added")
        elif name not in right:
            if not new.get("more_columns"):
                yield Change(name, _column_text(left[name]), None, "column removed")
        elif left[name] != right[name]:
            yield from _column_changes(name, left[name], right[name])
    if list(left) != list(right) and set(left) == set(right):
        yield Change("columns", ", ".join(left), ", ".join(right), "order")


def _column_changes(name: str, left: Mapping[str, object], right: Mapping[str, object]) -> Iterator[Change]:
    for key in dict.fromkeys((*left, *right)):
        if key not in _STATISTICS and key not in ("sampled", "item_types") and left.get(key) != right.get(key):
            change = change_of(f"{name}.{key}", left.get(key), right.get(key))
            is_sampled = key == "nulls" and ("sampled" in left or "sampled" in right)
            yield Change(change.path, change.before, change.after, f"{change.note}, in a sample".lstrip(", ")) if is_sampled else change
    yield from _statistic_changes(f"{name}.", left, right)


def _column_text(column: Mapping[str, object]) -> str:
    nulls = column.get("nulls")
    return str(column.get("dtype", "?")) + (f", {nulls} null" if nulls else "")


def _model_changes(old: Summary, new: Summary) -> Iterator[Change]:
    """Yields changes of a model: how many parameters, settings, then layer by layer shape and norm."""
    left, right = old.get("layers"), new.get("layers")
    assert isinstance(left, Mapping) and isinstance(right, Mapping)
    settings = {key: part for key, part in old.items() if key != "layers"}, {key: part for key, part in new.items() if key != "layers"}
    yield from _plain_changes(*settings)
    for name in dict.fromkeys((*left, *right)):
        if name not in left or name not in right:
            old_layer, new_layer = (_layer_text(layers.get(name)) for layers in (left, right))
            yield Change(name, old_layer, new_layer, "layer added" if name not in left else "layer removed")
            continue
        for key in ("shape", "norm"):
            if left[name].get(key) != right[name].get(key):
                yield change_of(f"{name}.{key}", left[name].get(key), right[name].get(key))


def _layer_text(layer: Mapping[str, object] | None) -> str | None:
    return None if layer is None else str(layer.get("shape", "?"))


def _value_changes(values: Values) -> Iterator[Change]:
    """Yields what the comparison of raw values found: how many elements or cells changed, by how much at most."""
    if isinstance(values, ArrayDiff):
        values, noun = {"": values}, "elements"
    else:
        noun = "cells"
    for name, found in (values or {}).items():
        if found.changed:
            yield Change(name, None, found.changed, elements_note(found, noun))


def elements_note(found: ArrayDiff, noun: str) -> str:
    """Returns in words what the comparison of raw values found: ``2 of 2000 elements changed, max abs 0.5``."""
    most = f", max abs {found.max_abs:.6g}" if found.max_abs is not None else ""
    return f"{found.changed} of {found.count} {noun} changed{most}"


def change_of(path: str, before: object, after: object) -> Change:
    """Returns a change with its remark: by how much a number changed."""
    return Change(path, before, after, _distance(before, after))


def _distance(before: object, after: object) -> str:
    """Returns the absolute and the relative change of a number: ``-0.09, -90.00%``; empty for anything else."""
    old, new = _number_of(before), _number_of(after)
    if old is None or new is None:
        return ""
    change = new - old if isinstance(old, int) and isinstance(new, int) else _float(new) - _float(old)
    text = f"{change:+d}" if isinstance(change, int) and abs(change) < 10**15 else f"{_float(change):+.6g}"
    if not old or not math.isfinite(_float(change)) or not math.isfinite(_float(old)):
        return text
    return f"{text}, {_float(change) / abs(_float(old)):+.2%}"


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _number_of(value: object) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or len(value) > 400 or not value[:2].strip("+-")[:1].isdigit():
        return None
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return None


def _source_diff(left: object, right: object) -> Iterator[str]:
    """Yields a unified diff of two sources, without the header."""
    if isinstance(left, list) and isinstance(right, list) and left != right:
        lines = difflib.unified_diff([str(part) for part in left], [str(part) for part in right], lineterm="", n=3)
        yield from islice(lines, 2, None)

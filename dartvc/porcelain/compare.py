"""What differs between two commits, read from summaries and raw chunks: nothing is unpickled."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dartvc.history import Repository
from dartvc.model import Oid

__all__ = ["Change", "Difference", "NameDifference", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference inside a name: where, what it was, what it is, and a remark such as the relative change."""

    path: str
    before: object
    after: object
    note: str = ""


@dataclass(frozen=True, slots=True)
class NameDifference:
    """A name that differs: ``kind`` is added, removed, modified or omitted."""

    name: str
    kind: str
    type: str
    changes: tuple[Change, ...] = ()
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs between two commits."""

    before: Oid
    after: Oid
    names: tuple[NameDifference, ...]


def compare(repository: Repository, before: Oid, after: Oid, names: Sequence[str] | None = None) -> Difference:
    """Compares two commits; equal names are not mentioned."""
    old, new = repository.names(before), repository.names(after)
    found = []
    for name in sorted(old.keys() | new.keys()):
        if names is not None and name not in names:
            continue
        left, right = old.get(name), new.get(name)
        if left is not None and right is not None and left.tree_oid == right.tree_oid:
            continue
        if left is None and right is not None:
            summary = repository.summary(right)
            found.append(NameDifference(name, "added", str(summary["type"]), (Change("", None, _headline(summary)),)))
        elif right is None and left is not None:
            summary = repository.summary(left)
            found.append(NameDifference(name, "removed", str(summary["type"]), (Change("", _headline(summary), None),)))
        elif left is not None and right is not None:
            first, second = repository.summary(left), repository.summary(right)
            source = tuple(_source_diff(first, second))
            found.append(NameDifference(name, "modified", str(second["type"]), tuple(_changes("", first, second)), source))
    return Difference(before, after, tuple(found))


def _headline(summary: Mapping[str, object]) -> str:
    """Returns one line for a value."""
    parts = [str(summary["type"])]
    for key in ("repr", "signature", "shape", "dtype", "rows", "columns", "length", "parameters", "version"):
        value = summary.get(key)
        if key in summary and not isinstance(value, Mapping):
            shape = "x".join(map(str, value)) if key == "shape" and isinstance(value, list) else str(value)
            parts.append(shape if key in ("repr", "signature", "shape", "dtype") else f"{key} {shape}")
    return " ".join(parts)


def _changes(path: str, before: Mapping[str, object], after: Mapping[str, object]) -> list[Change]:
    found: list[Change] = []
    for key in dict.fromkeys([*before, *after]):
        left, right = before.get(key), after.get(key)
        where = f"{path}.{key}" if path else key
        if left == right or key == "source":
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found.extend(_changes(where, left, right))
        else:
            found.append(Change(where, left, right, _relative(left, right)))
    if not found and not path:
        found.append(Change("contents", None, None, "changed"))
    return found


def _relative(before: object, after: object) -> str:
    values = []
    for value in (before, after):
        try:
            values.append(float(str(value)))
        except ValueError:
            return ""
    change = values[1] - values[0]
    return f"{change:+.6g}" + (f", {change / abs(values[0]):+.2%}" if values[0] else "")


def _source_diff(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    left, right = before.get("source"), after.get("source")
    if not isinstance(left, list) or not isinstance(right, list) or left == right:
        return []
    return [line for line in difflib.unified_diff(left, right, lineterm="", n=2) if not line.startswith(("---", "+++"))]

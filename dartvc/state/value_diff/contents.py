"""What changed inside two stored values, read from the nodes of their pickles: items, attributes, lines of texts."""

from __future__ import annotations

import difflib
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from dartvc.state.pickled import Node, Unreadable, content_digest
from dartvc.state.value_diff.chunks import ArrayDiff
from dartvc.state.value_diff.names import Change, change_of, elements_note
from dartvc.state.value_diff.tables import TENSOR, Contents, diff_elements, dtype_of, shape_of

__all__ = ["diff_contents"]

_MOST_CHANGES = 20
_MOST_STEPS = 5_000_000
_DEEPEST = 60
_LONG_TEXT = 80
_LONG_INT_BITS = 1024
_LINES_COMPARED = 20_000


def diff_contents(before: Contents, after: Contents) -> tuple[Change, ...]:
    """Tells which items, attributes and lines differ, where it can."""
    walk = _Walk(before, after)
    try:
        walk.compare(before.value, after.value, "", 0)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, struct.error, Unreadable):
        pass  # a stranger's stream need not make sense; what was found until here holds
    more = len(walk.changes) - _MOST_CHANGES
    kept = walk.changes[:_MOST_CHANGES]
    return (*kept, Change("", None, more, f"{more} more changed")) if more > 0 else tuple(kept)


class _Walk:
    def __init__(self, before: Contents, after: Contents) -> None:
        self.before = before
        self.after = after
        self.changes: list[Change] = []
        self.seen: set[tuple[int, int]] = set()
        self.left = _MOST_STEPS

    def compare(self, old: Any, new: Any, path: str, depth: int) -> None:
        self.left -= 1
        if self.left < 0:
            return
        if not isinstance(old, Node) or not isinstance(new, Node):
            if type(old) is not type(new) or (old != new and not (old != old and new != new)):
                self.changes.append(_scalar_change(path, old, new))
            return
        if (id(old), id(new)) in self.seen or depth > _DEEPEST:
            return
        self.seen.add((id(old), id(new)))
        if old.kind != new.kind or old.calls() != new.calls():
            self.changes.append(Change(path, _text(old), _text(new)))
        elif old.kind in ("list", "tuple"):
            self._compare_items(old.parts, new.parts, path, depth)
        elif old.kind == "dict":
            self._compare_pairs(old.pairs(), new.pairs(), path, depth, str if not path else repr)
        elif old.kind in ("set", "frozenset"):
            self._compare_sets(old.parts, new.parts, path)
        elif old.kind == "global" and old.parts != new.parts:
            self.changes.append(Change(path, _text(old), _text(new)))
        elif old.kind == "call":
            self._compare_calls(old, new, path, depth)

    def _compare_items(self, old: Sequence[Any], new: Sequence[Any], path: str, depth: int) -> None:
        if len(old) == len(new):
            for place, (left, right) in enumerate(zip(old, new, strict=True)):
                self.compare(left, right, f"{path}[{place}]", depth + 1)
            return
        start = 0
        while start < min(len(old), len(new)) and self._is_equal(old[start], new[start]):
            start += 1
        end = 0
        while end < min(len(old), len(new)) - start and self._is_equal(old[-1 - end], new[-1 - end]):
            end += 1
        for place in range(start, len(old) - end):
            self.changes.append(Change(f"{path}[{place}]", _text(old[place]), None, "item removed"))
        for place in range(start, len(new) - end):
            self.changes.append(Change(f"{path}[{place}]", None, _text(new[place]), "item added"))

    def _is_equal(self, old: Any, new: Any) -> bool:
        """Whether two items are the same as far as a look tells; each look counts towards what this walk may do."""
        if not isinstance(old, Node) and not isinstance(new, Node):
            return type(old) is type(new) and (old == new or (old != old and new != new))
        walk = _Walk(self.before, self.after)
        walk.left = self.left
        walk.compare(old, new, "", 0)
        self.left = walk.left
        return not walk.changes

    def _compare_pairs(self, old: Mapping[Any, Any], new: Mapping[Any, Any], path: str, depth: int, spell: Callable[[Any], str]) -> None:
        for key in dict.fromkeys((*old, *new)):
            name = f"{path}[{spell(key)}]" if path else spell(key)
            if key not in old:
                self.changes.append(Change(name, None, _text(new[key]), "item added"))
            elif key not in new:
                self.changes.append(Change(name, _text(old[key]), None, "item removed"))
            else:
                self.compare(old[key], new[key], name, depth + 1)

    def _compare_sets(self, old: Sequence[Any], new: Sequence[Any], path: str) -> None:
        left, right = ([item for item in items if not isinstance(item, Node)] for items in (old, new))
        gone, come = set(left) - set(right), set(right) - set(left)
        self.changes.extend(Change(path, _text(item), None, "item removed") for item in left if item in gone)
        self.changes.extend(Change(path, None, _text(item), "item added") for item in right if item in come)

    def _compare_calls(self, old: Node, new: Node, path: str, depth: int) -> None:
        found = diff_elements(self.before._replace(value=old), self.after._replace(value=new))
        if found is not None:
            self._count(found, path)
        elif shape_of(old) is not None:
            self._compare_memory(old, new, path)
        if old.calls() == TENSOR:
            (grad, attributes), (later, others) = old.state().parts[:2], new.state().parts[:2]
            self.compare(grad, later, f"{path}.grad" if path else "grad", depth + 1)
            self._compare_attributes(attributes.pairs(), others.pairs(), path, depth)
        if found is not None or shape_of(old) is not None:
            return
        left, right = _number(old), _number(new)
        if left is not None and right is not None:
            self.compare(left, right, path, depth + 1)
            return
        self._compare_items(old.arguments(), new.arguments(), path, depth)
        for (how, first), (other, second) in zip(old.given, new.given, strict=False):
            if how != other:
                continue
            for one, two in _states(first, second) if how == "state" else ((first, second),):
                if how == "state" and isinstance(one, Node) and isinstance(two, Node) and one.kind == two.kind == "dict":
                    self._compare_attributes(one.pairs(), two.pairs(), path, depth)
                else:
                    self.compare(one, two, path, depth + 1)

    def _compare_memory(self, old: Node, new: Node, path: str) -> None:
        """Tells of arrays whose elements are not counted one against the other that they differ: in their shapes, or in what they are stored as."""
        first, second = (f"{_text(each)} {'x'.join(map(str, shape_of(each) or ()))}".rstrip() for each in (old, new))
        if first != second:
            self.changes.append(Change(path, first, second))
        elif _memory_of(old, self.before) != _memory_of(new, self.after):
            self.changes.append(Change(path, None, None, "elements changed"))

    def _compare_attributes(self, old: Mapping[Any, Any], new: Mapping[Any, Any], path: str, depth: int) -> None:
        for key in dict.fromkeys((*old, *new)):
            name = f"{path}.{key}" if path else str(key)
            if key not in old or key not in new:
                come = key in new
                self.changes.append(Change(name, None if come else _text(old[key]), _text(new[key]) if come else None, f"attribute {'added' if come else 'removed'}"))
            else:
                self.compare(old[key], new[key], name, depth + 1)

    def _count(self, found: ArrayDiff | Mapping[str, ArrayDiff], path: str) -> None:
        for name, each in ({"": found} if isinstance(found, ArrayDiff) else found).items():
            if each.changed:
                where = f"{path}.{name}" if path and name else path or name
                self.changes.append(Change(where, None, each.changed, elements_note(each, "cells" if name else "elements")))


def _states(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """Returns the pairs to compare of two states: pickle gives a pair of dicts to objects with slots."""
    if isinstance(old, Node) and isinstance(new, Node) and old.kind == new.kind == "tuple" and len(old.parts) == len(new.parts) == 2:
        return list(zip(old.parts, new.parts, strict=True))
    return [(old, new)]


def _scalar_change(path: str, old: Any, new: Any) -> Change:
    if isinstance(old, str) and isinstance(new, str) and ("\n" in old or "\n" in new):
        return _lines_change(path, old.splitlines(), new.splitlines())
    if isinstance(old, str | bytes) and type(old) is type(new) and max(len(old), len(new)) > _LONG_TEXT:
        return _long_change(path, old, new)
    return change_of(path, _text(old), _text(new))


def _lines_change(path: str, old: list[str], new: list[str]) -> Change:
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    changed = max(len(left), len(right))
    if len(left) + len(right) < _LINES_COMPARED // 10:
        blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        changed = sum(max(block[2] - block[1], block[4] - block[3]) for block in blocks if block[0] != "equal")
    if not changed:
        return Change(path, None, None, "ends of lines changed")
    return Change(path, None, changed, f"{changed} line{'s' if changed > 1 else ''} changed, the first is {start + 1}")


def _common(old: Sequence[Any], new: Sequence[Any]) -> int:
    return next((place for place, (left, right) in enumerate(zip(old, new, strict=False)) if left != right), min(len(old), len(new)))


def _long_change(path: str, old: str | bytes, new: str | bytes) -> Change:
    start = _common(old, new)
    room = slice(max(0, start - 10), start + 30)
    return Change(path, f"...{old[room]!r}...", f"...{new[room]!r}...", f"from {start} on")


def _text(value: Any, depth: int = 0) -> Any:
    """Returns how people are shown a value: numbers as they are."""
    if isinstance(value, int) and value.bit_length() > _LONG_INT_BITS:
        return f"an int of {value.bit_length()} bits"
    if not isinstance(value, Node):
        return value if isinstance(value, int | float) else repr(value) if not isinstance(value, str | bytes) else repr(value[:_LONG_TEXT])
    if value.kind == "global":
        return str(value.parts[1])
    if value.kind == "call":
        number = _number(value)
        head = value.calls().rpartition(".")[2]
        return number if number is not None else {"numpy_array": "array", "torch_tensor": "tensor"}.get(head, head or "object")
    size = len(value.parts) // (2 if value.kind == "dict" else 1)
    shown = ", ".join(str(_text(part, depth + 1)) for part in islice(value.parts, 4)) if value.kind != "dict" and depth < 2 else ""
    return f"{value.kind} of {size}" if size > 4 or not shown else f"{value.kind}({shown})"


def _memory_of(node: Node, contents: Contents) -> bytes:
    digests = [[chunk.digest for chunk in chunks] for chunks in contents.buffers]
    return content_digest(Node("tuple", node.arguments()), digests, foreign=contents.foreign)


def _number(node: Node) -> float | int | bool | None:
    """Returns a numpy scalar's value."""
    if not node.calls().endswith("multiarray.scalar") or len(node.arguments()) != 2:
        return None
    kind, data = node.arguments()
    forms = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?"}
    text = dtype_of(kind)
    form = forms.get(text.lstrip("<>|="))
    if form is None or type(data) is not bytes:
        return None
    found: float = struct.unpack((">" if text[0] == ">" else "<") + form, data)[0]
    return found

"""Where two traces part: the first items, counted from the inputs, that are not the same on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dartvc.lineage.traces.items import EITHER, LineageItem

__all__ = ["Difference", "find_differences"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two values were made differently; on one side there may be nothing.

    Attributes:
        what: ``literals``, ``file``, ``operation``, ``turns`` (a loop went another way), ``input`` (one side has one more).
    """

    what: str
    one: LineageItem | None
    other: LineageItem | None


def find_differences(one: LineageItem, other: LineageItem) -> list[Difference]:
    """Returns where two values' lineages part, what was made first before what was made of it; empty when they are equal.

    Items are the same when their digests are; where they are not, but the operation is, the difference lies in what they were made of.
    Where only one side knows which way it went (on the other a function was answered by an earlier run), that way is compared.
    """
    found: dict[tuple[str, str], Difference] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if left.digest == right.digest or (left.digest, right.digest) in seen:
            continue
        seen.add((left.digest, right.digest))
        if left.inner is not None and right.inner is not None and left.opcode == right.opcode:
            if left.note and right.note and left.note != right.note:
                found.setdefault((left.digest, right.digest), Difference("turns", left, right))
            left, right = left.inner, right.inner
            waiting.append((left, right))
            continue
        if (left.opcode == EITHER) != (right.opcode == EITHER):
            way = _way_of(left, right) if left.opcode == EITHER else _way_of(right, left)
            if way is not None:
                waiting.append((way, right) if left.opcode == EITHER else (left, way))
                continue
        if left.opcode != right.opcode:
            found.setdefault((left.digest, right.digest), Difference("operation", left, right))
            continue
        if left.literals != right.literals:
            found.setdefault((left.digest, right.digest), Difference("file" if left.opcode == "file" else "literals", left, right))
        for a, b in _paired(left, right):
            if a is not None and b is not None:
                waiting.append((a, b))
            else:
                found.setdefault((a.digest if a else "", b.digest if b else ""), Difference("input", a, b))
    return sorted(found.values(), key=_rank)


def _way_of(either: LineageItem, taken: LineageItem) -> LineageItem | None:
    """Returns which of the ways that a value may have come is one that is known to have been taken."""
    ways = [way for each in either.inputs for way in ((_way_of(each, taken),) if each.opcode == EITHER else (each,)) if way is not None]
    return next((way for is_alike in (_is_equal, _is_same_step, _is_same_operation) for way in ways if is_alike(way, taken)), None)


def _rank(each: Difference) -> int:
    item = each.one if each.one is not None else each.other
    return item.number if item is not None else 0


def _paired(one: LineageItem, other: LineageItem) -> Iterator[tuple[LineageItem | None, LineageItem | None]]:
    """Yields the inputs of two items that stand for each other: equal ones first, then those of the same operation, then the rest in order."""
    left, right = list(one.inputs), list(other.inputs)
    for is_alike in (_is_equal, _is_same_step, _is_same_operation):
        for each in list(left):
            match = next((it for it in right if is_alike(each, it)), None)
            if match is not None:
                left.remove(each)
                right.remove(match)
                yield each, match
    for number in range(max(len(left), len(right))):
        yield (left[number] if number < len(left) else None), (right[number] if number < len(right) else None)


def _is_equal(one: LineageItem, other: LineageItem) -> bool:
    return one.digest == other.digest


def _is_same_step(one: LineageItem, other: LineageItem) -> bool:
    return one.opcode == other.opcode and one.step is not None and other.step is not None and one.step.text == other.step.text


def _is_same_operation(one: LineageItem, other: LineageItem) -> bool:
    return one.opcode == other.opcode

"""Which runs and which iterations a replay is to tell of: a condition over what is known of them, and a sample."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dartvc.errors import UsageError
from dartvc.hindsight.conditions import names_in, parse_condition
from dartvc.hindsight.contexts import Context
from dartvc.hindsight.records import LogRecord
from dartvc.hindsight.replay.results import Place, place_of
from dartvc.porcelain.expressions import evaluate

__all__ = ["Known", "Selection", "known_of"]

_T = TypeVar("_T")
_SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Known:
    """What is recorded of a run.

    Attributes:
        outside: what was logged outside of all loops, its parameters among it.
        inside: what was logged in iterations, by the path of the iteration.
        names: all of these names.
    """

    outside: Mapping[str, object] = field(default_factory=dict)
    inside: Mapping[Place, Mapping[str, object]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def row(self, context: Context | None) -> dict[str, object]:
        """Returns what is known in one iteration: loop variables, and what was logged there, around it and outside of all loops."""
        row = dict(self.outside)
        for each in context.chain() if context is not None else ():
            row.update((name, value) for name, value in zip(each.loop.targets, each.values, strict=False) if value is not None)
            row.setdefault(each.loop.name, each.iteration)
            row.update(self.inside.get(place_of(each), {}))
        return row


def known_of(records: Iterable[LogRecord]) -> Known:
    """Gathers what a run recorded."""
    outside: dict[str, object] = {}
    inside: dict[Place, dict[str, object]] = {}
    names: set[str] = set()
    for record in records:
        if isinstance(record.value, _SCALARS):
            names.add(record.name)
            (outside if record.context is None else inside.setdefault(place_of(record.context), {}))[record.name] = record.value
    return Known(outside, inside, frozenset(names))


class Selection:
    """What is to be replayed.

    Args:
        where: a condition, such as ``epoch > 5 and lr < 0.1``; empty: everything.
        sample: so many iterations of a run (``10``), or such a part of them (``10%``), evenly spread; empty: all.

    Raises:
        UsageError: one of them cannot be read.
    """

    def __init__(self, where: str = "", sample: str = "") -> None:
        self.text = " ".join(f"{word} {text}" for word, text in (("where", where), ("sample", sample)) if text)
        condition = parse_condition(where) if where else None
        self._parts: list[ast.expr] = [condition] if condition is not None else []
        if isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And):
            self._parts = condition.values
        found = re.fullmatch(r"(\d+)(%?)", sample) if sample else None
        if sample and (found is None or not int(found[1]) or (found[2] and int(found[1]) > 100)):
            raise UsageError(f"{sample!r} is no sample", kind="sample", hint="--sample 10, or --sample 10%")
        self._count = int(found[1]) if found else 0
        self._is_share = bool(found and found[2])
        self.outside: Mapping[str, object] = {}

    def of(self, known: Known) -> Selection:
        """Returns the selection for one run."""
        own = copy.copy(self)
        own.outside = known.outside
        return own

    @property
    def is_sample(self) -> bool:
        """Whether not all iterations are wanted."""
        return bool(self._count)

    def is_run_wanted(self, known: Known, records: Sequence[LogRecord]) -> bool:
        """Whether a run may have anything that is wanted, as far as its records tell."""
        for part in self._parts:
            names = set(names_in(part))
            if names <= known.outside.keys():
                if not _holds(part, known.outside):
                    return False
            elif names <= known.names and not any(_holds(part, known.row(each.context)) for each in records):
                return False
        return True

    def may_want(self, row: Mapping[str, object]) -> bool:
        """Whether an iteration of which this is known may be wanted."""
        return all(_holds(part, row) for part in self._parts if row.keys() >= set(names_in(part)))

    def filtered(self, found: Sequence[LogRecord], known: Known, *, is_sampled: bool) -> list[LogRecord]:
        """Returns the records of wanted iterations; what was replayed counts among what is known of them."""
        if self._parts:
            own = known_of(found)
            kept = []
            for record in found:
                row = {**known.row(record.context), **own.row(record.context)}
                if all(_holds(part, row) for part in self._parts):
                    kept.append(record)
            found = kept
        if self._count and not is_sampled:
            places = list(dict.fromkeys(place_of(each.context)[:1] for each in found))
            wanted = set(self.sampled(places))
            found = [each for each in found if place_of(each.context)[:1] in wanted]
        return list(found)

    def sampled(self, items: Sequence[_T]) -> list[_T]:
        """Returns a sample of some iterations, evenly spread, always the same."""
        total = len(items)
        count = max(1, total * self._count // 100) if self._is_share else self._count
        if not self._count or count >= total:
            return list(items)
        return [items[(2 * index + 1) * total // (2 * count)] for index in range(count)]


def _holds(part: ast.expr, row: Mapping[str, object]) -> bool:
    try:
        return bool(evaluate(part, row))
    except (KeyError, TypeError, ZeroDivisionError):
        return False

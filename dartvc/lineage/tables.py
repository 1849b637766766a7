"""Rewrites over concatenated tables of pandas: group-by sums, counts, means, minima, maxima, sizes, and counts of values.

``pd.concat([old, new])`` leaves a hint where its parts lie. Each part is known by the content of the columns that are asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from dartvc.lineage.parts import Blocks, Find, PartCall

__all__ = ["GroupBy", "ValueCounts"]

_SUMMED = frozenset({"sum", "count", "size"})


class GroupBy:
    """``concat(T_1, ..., T_n).groupby(keys)[columns].sum()`` from the same of the parts."""

    names = frozenset({"sum", "count", "mean", "min", "max", "size", "agg"})

    def match(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], find: Find) -> PartCall | None:
        """Returns how to assemble the call, or None when it is of another kind."""
        pandas = sys.modules.get("pandas")
        grouped: Any = getattr(function, "__self__", None)
        if pandas is None or kwargs or type(grouped).__name__ not in ("DataFrameGroupBy", "SeriesGroupBy"):
            return None
        if name == "agg" and len(args) == 1 and isinstance(args[0], str) and args[0] in self.names - {"agg"}:
            name, args = args[0], ()
        table, keys, columns = _what_is_grouped(grouped)
        blocks = find(table) if table is not None and not args and name != "agg" else None
        if blocks is None:
            return None
        values = [columns] if isinstance(columns, str) else columns
        wanted = table[[*keys, *values]]
        if not all(str(wanted[each].dtype) in ("float64", "int64") for each in values):
            return None
        if any(str(wanted[each].dtype) not in ("int64", "str", "bool") for each in keys):
            return None
        levels = list(range(len(keys)))

        def of(part: Any, how: str) -> Any:
            return getattr(part.groupby(keys if len(keys) > 1 else keys[0])[columns], how)()

        def merge(states: list[Any]) -> Any:
            if name == "mean":
                sums, counts = (pandas.concat([state[at] for state in states]).groupby(level=levels).sum() for at in (0, 1))
                return sums / counts
            groups = pandas.concat(states).groupby(level=levels)
            return groups.sum() if name in _SUMMED else getattr(groups, name)()

        parts = [wanted.iloc[start:stop] for start, stop in zip(blocks.bounds, blocks.bounds[1:], strict=False)]
        compute = (lambda part: (of(part, "sum"), of(part, "count"))) if name == "mean" else lambda part: of(part, name)
        return PartCall(f"{name} {keys} {columns}", Blocks(0, parts, blocks.bounds), compute, merge, int(wanted.memory_usage(index=False).sum()))


def _what_is_grouped(grouped: Any) -> tuple[Any, list[str], Any]:
    """Returns the table, the columns that are the keys, and the column or columns that are asked for; None for the table of any other grouping."""
    keys = getattr(grouped, "keys", None)
    keys = [keys] if isinstance(keys, str) else keys
    is_plain = getattr(grouped, "as_index", False) and getattr(grouped, "sort", False) and getattr(grouped, "dropna", False)
    if not is_plain or not isinstance(keys, list) or not keys or not all(isinstance(each, str) for each in keys):
        return None, [], []
    groupings = getattr(getattr(grouped, "_grouper", None), "groupings", ())
    table: Any = getattr(groupings[0], "obj", None) if groupings else None
    if type(table) is not sys.modules["pandas"].DataFrame or not table.columns.is_unique or not all(each in table.columns for each in keys):
        return None, [], []
    columns = getattr(grouped, "_selection", None)
    columns = [each for each in table.columns if each not in keys] if columns is None else columns
    names = [columns] if isinstance(columns, str) else columns
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names) or set(names) & set(keys):
        return None, [], []
    return table, keys, columns


class ValueCounts:
    """``concat(S_1, ..., S_n).value_counts()`` from the counts of the parts."""

    names = frozenset({"value_counts"})

    def match(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], find: Find) -> PartCall | None:
        """Returns how to assemble the call, or None when it is of another kind."""
        pandas = sys.modules.get("pandas")
        column: Any = getattr(function, "__self__", None)
        if pandas is None or int(pandas.__version__.split(".")[0]) < 3 or args or kwargs or type(column) is not pandas.Series:
            return None  # before pandas 3 equal counts came in no order
        blocks = find(column)
        if blocks is None or str(column.dtype) not in ("int64", "str", "bool"):
            return None

        def merge(states: list[Any]) -> Any:
            counts = pandas.concat(states).groupby(level=0, sort=False).sum()
            return counts.sort_values(ascending=False, kind="stable")

        parts = [column.iloc[start:stop].reset_index(drop=True) for start, stop in zip(blocks.bounds, blocks.bounds[1:], strict=False)]
        size = int(column.memory_usage(index=False))
        return PartCall(f"counts {column.name!r}", Blocks(0, parts, blocks.bounds), lambda part: part.value_counts(sort=False), merge, size)

"""Tables: frames and Series of pandas, frames and Series of polars, tables of pyarrow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from dartvc.state.summaries.columns import describe_block, index_text
from dartvc.state.summaries.words import clean, instance_dict, item_of, module_of, number, short_text, type_name

__all__ = ["GENUINE"]

_COLUMNS = 50
_BLOCKS = 1_000
_RUNS = 8
_RUN_ROWS = 256


def _describe_frame(value: Any) -> dict[str, object]:
    """Describes a frame of pandas from its blocks: rows, columns, index, and per column dtype, nulls, range or first value."""
    parts = instance_dict(value)
    manager: Any = parts["_mgr"]
    names, index = manager.axes
    found: dict[str, object] = {"type": type_name(type(value)), "rows": len(index), "columns": len(names), "index": index_text(index)}
    labels = names[:_COLUMNS].tolist()
    columns: list[dict[str, object]] = [{} for _ in labels]
    for block in islice(manager.blocks, _BLOCKS):
        places = [(row, place) for row, place in enumerate(islice(iter(block.mgr_locs), 10_000)) if place < _COLUMNS]
        if places:
            for (_, place), described in zip(places, describe_block(block.values, [row for row, _ in places]), strict=True):
                columns[place] = described
    attributes = parts.get("_attrs")
    if attributes:
        found["attrs"] = short_text(attributes)
    return found | _fields(labels, columns, len(names))


def _fields(labels: list[Any], columns: list[dict[str, object]], width: int) -> dict[str, object]:
    """Returns ``fields``: the columns by label; a label that comes again gets its position behind it."""
    fields: dict[str, object] = {}
    for place, (label, column) in enumerate(zip(labels, columns, strict=True)):
        text = clean(label) if type(label) is str else short_text(label)
        fields[f"{text} #{place}" if text in fields else text] = column
    found: dict[str, object] = {"fields": fields}
    return found | ({"more_columns": width - len(labels)} if width > len(labels) else {})


def _describe_series(value: Any) -> dict[str, object]:
    parts = instance_dict(value)
    manager: Any = parts["_mgr"]
    found: dict[str, object] = {"type": type_name(type(value)), "length": len(manager.axes[0])}
    found["name"] = item_of(parts.get("_name"))
    found["index"] = index_text(manager.axes[0])
    return found | describe_block(manager.blocks[0].values, [0])[0]


def _describe_polars(value: Any) -> dict[str, object]:
    """Describes a frame of polars: nulls are counted (polars keeps the counts), ranges of long columns come from runs of rows."""
    polars = sys.modules["polars"]
    frame = polars.DataFrame._from_pydf(instance_dict(value)["_df"]) if "_df" in instance_dict(value) else value
    rows, width = frame.shape
    names = frame.columns[:_COLUMNS]
    found: dict[str, object] = {"type": type_name(type(value)), "rows": rows, "columns": width}
    chosen = frame.select(names) if width > _COLUMNS else frame
    nulls = chosen.null_count().row(0) if width else ()
    columns: list[dict[str, object]] = []
    sample, low, high = _ranges(polars, chosen, rows)
    for place, (name, kind) in enumerate(chosen.schema.items()):
        column: dict[str, object] = {"dtype": clean(str(kind))}
        if name in low and sample < rows:
            column["sampled"] = sample
        column["nulls"] = nulls[place]
        if name in low and low[name] is not None:
            column |= {"min": _plain(low[name]), "max": _plain(high[name])}
        elif rows and name not in low:
            column["first"] = item_of(chosen.item(0, place)) if str(kind) in ("String", "Boolean", "Binary") else "..."
        columns.append(column)
    return found | _fields(list(names), columns, width)


def _ranges(polars: Any, frame: Any, rows: int) -> tuple[int, Mapping[str, object], Mapping[str, object]]:
    names = [name for name, kind in frame.schema.items() if kind.is_numeric() or kind.is_temporal()]
    if not rows or not names:
        return rows, {}, {}
    picked = frame.select(names)
    if rows > _RUNS * _RUN_ROWS:
        step = rows // _RUNS
        picked = polars.concat([picked.slice(place * step, _RUN_ROWS) for place in range(_RUNS)], rechunk=False)
    return picked.height, picked.min().row(0, named=True), picked.max().row(0, named=True)


def _plain(value: Any) -> object:
    return number(value) if type(value) in (int, float, bool) else clean(str(value))


def _describe_polars_series(value: Any) -> dict[str, object]:
    polars = sys.modules["polars"]
    series = polars.Series._from_pyseries(instance_dict(value)["_s"]) if "_s" in instance_dict(value) else value
    fields: Any = _describe_polars(series.to_frame())["fields"]
    column: dict[str, object] = next(iter(fields.values()), {})
    return {"type": type_name(type(value)), "length": len(series), "name": clean(series.name)} | column


def _describe_lazy(value: Any) -> dict[str, object]:
    return {"type": type_name(type(value))}


def _describe_arrow(value: Any) -> dict[str, object]:
    """Describes a table or record batch of pyarrow: the type, the nulls and the first value of each column."""
    schema, rows = value.schema, value.num_rows
    found: dict[str, object] = {"type": type_name(type(value)), "rows": rows, "columns": len(schema)}
    labels, columns = [], []
    for place in range(min(len(schema), _COLUMNS)):
        field, data = schema.field(place), value.column(place)
        column: dict[str, object] = {"dtype": clean(str(field.type)), "nulls": int(data.null_count)}
        if rows:
            column["first"] = _arrow_first(data, field.type)
        labels.append(field.name)
        columns.append(column)
    return found | _fields(labels, columns, len(schema))


def _arrow_first(data: Any, kind: Any) -> object:
    if not module_of(type(kind)).startswith("pyarrow.lib"):  # an extension type of the user's own
        return "..."
    first = data.slice(0, 1).to_pylist()[0]
    return item_of(first) if type(first) in (int, float, bool, str, bytes, type(None)) else clean(str(first)) if type(first) is not list else "..."


def _describe_arrow_array(value: Any) -> dict[str, object]:
    found: dict[str, object] = {"type": type_name(type(value)), "length": len(value), "dtype": clean(str(value.type))}
    return found | {"nulls": int(value.null_count)}


GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {
    "pandas.core.frame.DataFrame": _describe_frame,
    "pandas.DataFrame": _describe_frame,
    "pandas.core.series.Series": _describe_series,
    "pandas.Series": _describe_series,
    "polars.dataframe.frame.DataFrame": _describe_polars,
    "polars.series.series.Series": _describe_polars_series,
    "polars.lazyframe.frame.LazyFrame": _describe_lazy,
    "pyarrow.lib.Table": _describe_arrow,
    "pyarrow.lib.RecordBatch": _describe_arrow,
    "pyarrow.lib.Array": _describe_arrow_array,
    "pyarrow.lib.ChunkedArray": _describe_arrow_array,
}
"""Describers by the dotted name of a base class."""


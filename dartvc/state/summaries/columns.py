"""Columns of pandas: what a block, a Series or an Index stores, read from its arrays.

Nothing goes through the public methods of frames: they fill caches and may consolidate blocks. Extension arrays are looked into only where
pandas itself defines them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from dartvc.state.summaries.arrays import describe_array
from dartvc.state.summaries.words import (
    clean,
    instance_dict,
    is_genuine,
    item_of,
    module_of,
    number,
    qualname_of,
    rough,
    short_text,
    type_name,
)

__all__ = ["GENUINE", "describe_block", "describe_index", "dtype_text", "index_text"]

_EXACT = 65_536
_SAMPLED = 16_384
_OBJECTS = 200
_RUNS = 16


def dtype_text(values: Any) -> str:
    """Returns the dtype of an array of numpy or pandas as they write it, for other arrays the name of its class."""
    dtype = values.dtype
    library = module_of(type(dtype)).partition(".")[0]
    if library == "pandas" and type(dtype).__name__ == "CategoricalDtype":
        return "category"
    return clean(str(dtype)) if library in ("numpy", "pandas") else type_name(type(dtype))


def describe_block(values: Any, rows: Sequence[int]) -> list[dict[str, object]]:
    """Describes chosen rows of a block (the columns of a frame), each as a JSON object: dtype, nulls, min, max, mean or first value.

    Args:
        values: the block's array: (columns, length) for numpy's dtypes, one-dimensional for the others.
        rows: which of its columns to describe.
    """
    dtype = dtype_text(values)
    numpy = sys.modules["numpy"]
    backing = values
    while type(backing) is not numpy.ndarray:
        inner = getattr(backing, "_ndarray", None) if is_genuine(type(backing), "pandas") else None
        if inner is None or dtype.startswith(("period", "category")):
            break
        backing = inner
    if type(backing) is numpy.ndarray:
        array: Any = backing.reshape(1, -1) if backing.ndim == 1 else backing
        described = _describe_numbers(array, rows) if array.dtype.kind in "biufmM" else _describe_objects(array, rows)
    else:
        described = [_describe_extension(values) for _ in rows]
    return [{"dtype": dtype} | column for column in described]


def _sample(array: Any, rows: Sequence[int]) -> Any:
    """Returns the chosen rows of a (k, n) array, or runs of them where they are long."""
    numpy = sys.modules["numpy"]
    chosen = slice(rows[0], rows[-1] + 1) if len(rows) == rows[-1] - rows[0] + 1 else numpy.array(rows)
    length = array.shape[1]
    if length * len(rows) <= _EXACT or length <= _RUNS:
        return array[chosen]
    run = max(8, _SAMPLED // len(rows) // _RUNS)
    step = length // _RUNS
    if run >= step:
        return array[chosen]
    return numpy.concatenate([array[chosen, place * step : place * step + run] for place in range(_RUNS)], axis=1)


def _describe_numbers(array: Any, rows: Sequence[int]) -> list[dict[str, object]]:
    numpy = sys.modules["numpy"]
    found: list[dict[str, object]] = [{} for _ in rows]
    length = array.shape[1]
    if not length:
        return found
    sample = _sample(array, rows)
    kind = sample.dtype.kind
    with numpy.errstate(all="ignore"):
        missing = numpy.isnan(sample) if kind == "f" else numpy.isnat(sample) if kind in "mM" else None
        nulls = [0] * len(rows) if missing is None else numpy.count_nonzero(missing, axis=1).tolist()
        low, high = numpy.fmin.reduce(sample, axis=1), numpy.fmax.reduce(sample, axis=1)
        if kind not in "mM":
            sums = numpy.sum(sample, axis=1, dtype=float) if missing is None else numpy.sum(sample, axis=1, dtype=float, where=~missing)
    texts = kind in "mM"
    for place, column in enumerate(found):
        if sample.shape[1] < length:
            column["sampled"] = int(sample.shape[1])
        column["nulls"] = nulls[place]
        present = sample.shape[1] - nulls[place]
        if present:
            column["min"] = str(low[place]) if texts else number(low[place].item())
            column["max"] = str(high[place]) if texts else number(high[place].item())
            if not texts:
                column["mean"] = rough(float(sums[place]) / present)
    return found


def _describe_objects(array: Any, rows: Sequence[int]) -> list[dict[str, object]]:
    found = []
    length = array.shape[1]
    step = length // _OBJECTS | 1 if length > _OBJECTS else 1
    for row in rows:
        items = list(islice(array[row, ::step].flat, _OBJECTS)) if length else []
        column: dict[str, object] = {"sampled": len(items)} if len(items) < length else {}
        present = [item for item in items if not _is_null(item)]
        column["nulls"] = len(items) - len(present)
        if present:
            column["item_types"] = list(dict.fromkeys(type_name(type(item)) for item in present))[:6]
            column["first"] = item_of(present[0])
        found.append(column)
    return found


def _is_null(item: Any) -> bool:
    kind = type(item)
    return item is None or (kind is float and item != item) or (qualname_of(kind) in ("NaTType", "NAType") and module_of(kind).startswith("pandas."))


def _describe_extension(values: Any) -> dict[str, object]:
    """Describes an extension array of pandas itself; nothing is asked of others."""
    if not is_genuine(type(values), "pandas"):
        return {}
    numpy = sys.modules["numpy"]
    parts = instance_dict(values)
    mask, data = parts.get("_mask"), parts.get("_data")
    if type(mask) is numpy.ndarray and type(data) is numpy.ndarray:
        return _describe_masked(data, mask)
    codes: Any = getattr(values, "_ndarray", None)
    if dtype_text(values) == "category" and type(codes) is numpy.ndarray:
        categories: Any = values.dtype.categories
        sample: Any = codes[:: max(1, codes.size // _SAMPLED)]
        found: dict[str, object] = {"sampled": int(sample.size)} if sample.size < codes.size else {}
        return found | {"nulls": int((sample < 0).sum()), "categories": len(categories), "first": short_text(categories[:6].tolist())}
    arrow: Any = parts.get("_pa_array")
    if arrow is not None and module_of(type(arrow)).startswith("pyarrow"):
        found = {"nulls": int(arrow.null_count)}
        first = arrow.slice(0, 1).to_pylist()
        return found | ({"first": item_of(first[0])} if first else {})
    return {}


def _describe_masked(data: Any, mask: Any) -> dict[str, object]:
    step = data.size // _SAMPLED | 1
    hidden = mask[::step]
    sample = data[::step][~hidden]
    found: dict[str, object] = {"sampled": int(hidden.size)} if step > 1 else {}
    found["nulls"] = int(hidden.sum())
    if sample.size:
        found |= {"min": number(sample.min().item()), "max": number(sample.max().item()), "mean": rough(float(sample.mean(dtype=float)))}
    return found


def describe_index(value: Any) -> dict[str, object]:
    """Describes an Index: its length, dtype, name and first labels."""
    parts = instance_dict(value)
    found: dict[str, object] = {"type": type_name(type(value))}
    if type(parts.get("_range")) is range:
        labels: Any = parts["_range"]
        return found | {"length": len(labels), "dtype": "int64", "name": item_of(parts.get("_name")), "repr": short_text(labels)}
    codes: Any = parts.get("_codes")
    if codes is not None:
        levels, names = parts.get("_levels"), parts.get("_names")
        levels_found = [describe_index(level) for level in list(levels)[:8]]  # type: ignore[call-overload]
        names_found = [item_of(name) for name in list(names)[:8]]  # type: ignore[call-overload]
        return found | {"length": len(codes[0]) if len(codes) else 0, "names": names_found, "levels": levels_found}
    data: Any = parts.get("_data")
    if data is None:
        return found
    library = module_of(type(data)).partition(".")[0]
    found |= {"length": len(data) if library in ("numpy", "pandas") else None, "dtype": dtype_text(data), "name": item_of(parts.get("_name"))}
    if library == "numpy":
        return found | {key: part for key, part in describe_array(data).items() if key in ("sampled", "nan", "min", "max", "repr")}
    return found | {key: part for key, part in describe_block(data, [0])[0].items() if key != "dtype"}


def index_text(index: Any) -> str:
    """Returns one line for the row labels of a frame or a Series: ``RangeIndex 0..99``."""
    described = describe_index(index)
    name = str(described["type"]).removeprefix("pandas.")
    text = described.get("repr") or (f"{described['min']}..{described['max']}" if "min" in described else "")
    label = described.get("name")
    return clean(" ".join(filter(None, (name, str(described.get("dtype", "")), str(text), f"name {label}" if label is not None else ""))))


GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {
    "pandas.core.indexes.base.Index": describe_index,
    "pandas.Index": describe_index,
}
"""Describers by the dotted name of a base class."""

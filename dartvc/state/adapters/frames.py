"""pandas and Arrow: blocks as plain memory where pandas copies on write, as shared views where it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dartvc.state.adapters.arrays import Detached, memory_address

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS", "UNCHANGING", "copies_on_write"]


def copies_on_write() -> bool:
    """Whether pandas guarantees that no frame sees another's changes (pandas 3, or the option of pandas 2)."""
    pandas = sys.modules["pandas"]
    if int(pandas.__version__.split(".")[0]) >= 3:
        return True
    return pandas.get_option("mode.copy_on_write") is True


def _reduce_block(block: Any, saving: Any) -> Any:
    reduction = block.__reduce__()
    if not copies_on_write():
        return reduction
    builder, (values, *rest) = reduction[0], reduction[1]
    numpy = sys.modules["numpy"]
    if type(values) is numpy.ndarray:
        return builder, (saving.keep(Detached(values)), *rest), *reduction[2:]
    return reduction


def _block_children(block: Any) -> Iterable[object]:
    values = block.values
    if not copies_on_write():
        return (values,)
    if type(values) is sys.modules["numpy"].ndarray:
        return values.ravel().tolist() if values.dtype.hasobject else ()
    return _guarded_children(values) if type(values).__module__.partition(".")[0] == "pandas" else (values,)


def _guarded_children(values: Any) -> Iterator[object]:
    """Yields the memory of pandas' own column arrays, which frames may have in common, but whoever was handed the array may write to."""
    numpy = sys.modules["numpy"]
    parts = [values._ndarray] if hasattr(values, "_ndarray") else vars(values).values() if hasattr(values, "__dict__") else (values,)
    for part in parts:
        if type(part) is numpy.ndarray:
            if part.nbytes:
                yield ("guarded", memory_address(part))
            if part.dtype.hasobject:
                yield from part.ravel().tolist()
        elif hasattr(part, "_ndarray") and part is not values:
            yield from _guarded_children(part)
        else:
            yield part


def _index_children(index: Any) -> Iterable[object]:
    return ()


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "pandas._libs.internals.Block": _reduce_block,
    "pandas._libs.internals.NumpyBlock": _reduce_block,
}
BUILDERS: dict[str, Callable[..., Any]] = {}
CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {
    "pandas._libs.internals.Block": _block_children,
    "pandas._libs.internals.NumpyBlock": _block_children,
    "pandas.core.indexes.base.Index": _index_children,
    "pandas.Index": _index_children,
}
UNCHANGING: frozenset[str] = frozenset(
    {"pandas.core.dtypes.base.ExtensionDtype", "pandas.api.extensions.ExtensionDtype"}
    | {"pandas._libs.tslibs.timestamps._Timestamp", "pandas._libs.tslibs.timedeltas._Timedelta", "pandas._libs.tslibs.period._Period"}
    | {"pandas._libs.tslibs.offsets.BaseOffset", "pandas._libs.interval.Interval", "pandas.Interval"}
    | {"pyarrow.lib._PandasConvertible", "pyarrow.lib.DataType", "pyarrow.lib.Field", "pyarrow.lib.Schema", "pyarrow.lib.Scalar"}
)
"""Column types, times and Arrow's arrays and tables: copied, filtered and assigned frames have them in common."""

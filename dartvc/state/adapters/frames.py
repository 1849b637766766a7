"""pandas: blocks as plain memory where pandas copies on write, as shared views where it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from dartvc.state.adapters.arrays import Detached
from dartvc.state.adapters.arrays import _children as _array_children

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS", "copies_on_write"]


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
    numpy = sys.modules["numpy"]
    if type(values) is not numpy.ndarray or not copies_on_write():
        return (values,)
    return _array_children(values) if values.dtype.hasobject else ()


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

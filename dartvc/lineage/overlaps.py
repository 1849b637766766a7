"""Memory that tensors have in common with arrays and with each other, told by addresses: an array does not know the tensor that it was made from."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["Extent", "extent_of", "is_tensor", "overlap"]

Extent = tuple[int, int]
"""The address of the first byte, and of that behind the last one."""


def is_tensor(value: object) -> bool:
    """Whether a value is one of torch's tensors."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def extent_of(value: Any) -> Extent:
    """Returns where an array, or the storage of a tensor, lies."""
    if is_tensor(value):
        storage = value.untyped_storage()
        return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    numpy = sys.modules["numpy"]
    low, high = getattr(numpy.lib, "array_utils", numpy).byte_bounds(value)
    return low, high


def overlap(some: Iterable[Extent], others: Iterable[Extent]) -> bool:
    """Whether any of some extents has a byte in common with any of the others."""
    found = sorted([(*each, False) for each in some] + [(*each, True) for each in others])
    ends = [-1, -1]
    for low, high, is_other in found:
        if low < high and ends[not is_other] > low:
            return True
        ends[is_other] = max(ends[is_other], high)
    return False

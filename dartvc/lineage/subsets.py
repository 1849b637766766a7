"""Partial reuse of rows: a product over most rows of an array as that over all of them, less that over the others."""

from __future__ import annotations

import math
import sys
from typing import Any

from dartvc.lineage.deferring import Deferred
from dartvc.lineage.parts import Find, Products, are_floats, untransposed
from dartvc.model.records import NamedTuple

__all__ = ["RowSubset"]

_WEIGHT_LEFT = 0.05


class RowSubset:
    """``X[rows].T @ Y[rows]`` = ``X.T @ Y`` less the same of the rows that are left out: the folds of a cross-validation.

    The rows are picked by an index, or stacked of slices: ``vstack([X[:low], X[high:]])``. The difference is taken only where most rows are in,
    and where no column has nearly all of its weight in the others: there it would cancel.
    """

    def apply(self, left: Any, right: Any, find: Find, products: Products) -> Any:
        """Returns the product, or None when the left operand is no transpose of most rows of an array."""
        subset = untransposed(left)
        if type(subset) is not Deferred or type(right) is not Deferred or not are_floats(left, right):
            return None
        mine = _LeftOut.of(subset)
        other = mine if right is subset else _LeftOut.of(right)
        if mine is None or other is None or not mine.has_rows_of(other) or mine.size > subset.shape[0]:
            return None
        digests = products.digest(mine.whole), products.digest(other.whole), mine.digest(products)
        if not (mine.keeps_weight(digests[0], digests[2], products) and other.keeps_weight(digests[1], digests[2], products)):
            return None
        total = products.transposed(mine.whole, other.whole, digests[0], digests[1])
        return total - products.lazily(b"less" + b"".join(digests), lambda: _multiplied(mine, other))


class _LeftOut(NamedTuple):
    """Rows of an array that a subset of it lacks.

    Attributes:
        whole: the array.
        rows: what picks them from it, an index or one slice.
        size: how many they are.
    """

    whole: Any
    rows: Any
    size: int

    @classmethod
    def of(cls, subset: Deferred) -> _LeftOut | None:
        """Returns what an array put off lacks; None where it is no subset of the rows of one array, each once."""
        return cls._of_index(subset) if subset.rows is not None else cls._of_slices(subset)

    @classmethod
    def _of_index(cls, subset: Deferred) -> _LeftOut | None:
        numpy = sys.modules["numpy"]
        (whole,) = subset.parts
        is_out = numpy.ones(len(whole), bool)
        is_out[subset.rows] = False
        out = numpy.flatnonzero(is_out)
        return cls(whole, out, len(out)) if len(out) + subset.shape[0] == len(whole) else None

    @classmethod
    def _of_slices(cls, subset: Deferred) -> _LeftOut | None:
        whole = subset.parts[0].base
        if subset.axis != 0 or type(whole) is not type(subset.parts[0]) or whole.shape[1:] != subset.shape[1:] or not whole.flags.c_contiguous:
            return None
        address, row_bytes = whole.__array_interface__["data"][0], math.prod(whole.shape[1:]) * whole.itemsize
        gaps, end = [], 0
        for part in (part for part in subset.parts if len(part)):
            start, rest = divmod(part.__array_interface__["data"][0] - address, row_bytes)
            if part.base is not whole or rest or start < end:
                return None
            gaps += [slice(end, start)] if start > end else []
            end = start + len(part)
        gaps += [slice(end, len(whole))] if end < len(whole) else []
        return cls(whole, gaps[0], gaps[0].stop - gaps[0].start) if len(gaps) == 1 else None

    def has_rows_of(self, other: _LeftOut) -> bool:
        """Whether another subset lacks the same rows, of an array of as many."""
        is_slice = type(self.rows) is slice
        if len(self.whole) != len(other.whole) or is_slice is not (type(other.rows) is slice):
            return False
        return self.rows == other.rows if is_slice else bool(sys.modules["numpy"].array_equal(self.rows, other.rows))

    def digest(self, products: Products) -> bytes:
        """Returns what the rows are known by."""
        return str(self.rows).encode() if type(self.rows) is slice else products.digest(self.rows)

    def keeps_weight(self, digest: bytes, rows_digest: bytes, products: Products) -> bool:
        """Whether each column of the array has a good part of its sum of squares in the rows that are not left out."""
        numpy = sys.modules["numpy"]

        def squares(values: Any) -> Any:
            return numpy.atleast_1d(numpy.einsum("i...,i...->...", values, values))

        total = products.lazily(b"squares" + digest, lambda: squares(self.whole))
        less = products.lazily(b"squares" + digest + rows_digest, lambda: squares(self.whole[self.rows]))
        return bool(numpy.isfinite(total).all() and (total - less >= _WEIGHT_LEFT * total).all())


def _multiplied(mine: _LeftOut, other: _LeftOut) -> Any:
    picked = mine.whole[mine.rows]
    return picked.T @ (picked if other is mine else other.whole[other.rows])

"""Partial reuse: results assembled from products of parts that were computed before (LIMA's rewrites, for parts of any width).

With X stacked of row blocks, ``X.T @ Y`` is the sum of ``X_i.T @ Y_i``; with X stacked of columns, it is the block matrix of ``X_i.T @ Y_j``.
Products of parts are kept by the content of both, so one cache covers Gram matrices under row and column concatenation, added intercept
columns, growing feature sets, and folds of a cross-validation. ``A @ V[:, :k]`` grows from the widest product so far. The sums run in
another order than one product would: the last bits may differ, which is why this has to be asked for.
"""

from __future__ import annotations

import itertools
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from dartvc.lineage.aggregates import Aggregate, Elementwise
from dartvc.lineage.codekeys import Refused
from dartvc.lineage.contents import Contents
from dartvc.lineage.deferring import Deferred, Transposed, settled
from dartvc.lineage.growing import Grown, Growth
from dartvc.lineage.memory import Memory
from dartvc.lineage.parts import Blocks, CallRewrite, Find, PartCall, Products, Stacked, are_floats, untransposed
from dartvc.lineage.sites import Site
from dartvc.lineage.subsets import RowSubset
from dartvc.lineage.tables import GroupBy, ValueCounts

__all__ = ["CONCATENATION", "METHODS", "BlocksOfResult", "ColumnBlocks", "GrowingProduct", "Rewrites", "RowBlocks"]

_PARTS_LIMIT = 64
_SMALL_PART = 1 << 16
_SMALL_TABLE = 1 << 10
_HASH_BYTES_PER_S = 1e10
_COPY_BYTES_PER_S = 5e9
_MARGIN = 2.0
_TRIALS = 8
_PARTNERS_LIMIT = 1024
_RIGHT_LIMIT_BYTES = 8 << 20
_CALL_REWRITES: tuple[CallRewrite, ...] = (GroupBy(), ValueCounts(), Aggregate(), Elementwise())
CONCATENATION = "concat"
METHODS = frozenset({CONCATENATION}).union(*(each.names for each in _CALL_REWRITES))
"""Names of calls that only partial reuse looks at."""


class Rewrite(Protocol):
    """One way to assemble ``left @ right`` from parts."""

    def apply(self, left: Any, right: Any, find: Find, products: Products) -> Any:
        """Returns the product, or None when this way does not fit."""


class RowBlocks:
    """``vstack(X_1, ..., X_n).T @ Y`` = the sum of ``X_i.T @ Y_i``."""

    def apply(self, left: Any, right: Any, find: Find, products: Products) -> Any:
        """Returns the product, or None when the left operand is no transpose of stacked rows."""
        whole = untransposed(left)
        blocks = find(whole) if whole is not None else None
        if blocks is None or blocks.axis != 0 or not are_floats(left, right) or right.ndim > 2 or type(right) is Transposed:
            return None
        if right is whole:
            others = blocks.parts
        elif type(right) is Deferred and right.rows is None and right.axis == 0 and right.bounds == blocks.bounds:
            others = right.parts
        else:
            array = settled(right)
            others = [array[start:stop] for start, stop in zip(blocks.bounds, blocks.bounds[1:], strict=False)]
        total = None
        for part, other in zip(blocks.parts, others, strict=True):
            digest = products.digest(part)
            product = products.transposed(part, other, digest, digest if right is whole else products.digest(other))
            total = product.copy() if total is None else total.__iadd__(product)
        return total


class ColumnBlocks:
    """``hstack(X_1, ..., X_n).T @ hstack(Y_1, ..., Y_m)`` = the matrix of blocks ``X_i.T @ Y_j``.

    With a right operand that is no stack, blocks are only begun when it was multiplied with another stack before: one that is new at each
    step of a descent is better multiplied as a whole, which an exact key may answer.
    """

    def __init__(self) -> None:
        self._partners: dict[bytes, bytes] = {}

    def apply(self, left: Any, right: Any, find: Find, products: Products) -> Any:
        """Returns the product, or None when the left operand is no transpose of stacked columns."""
        numpy = sys.modules["numpy"]
        whole = untransposed(left)
        blocks = find(whole) if whole is not None else None
        if blocks is None or blocks.axis != 1 or not are_floats(left, right):
            return None
        columns = [_Column(part, grown, products) for part, grown in zip(blocks.parts, blocks.grown, strict=True)]
        if right is whole:
            others, bounds = columns, blocks.bounds
        else:
            right = settled(right)
            others, bounds = [_Column(right, None, products)], (0, right.shape[1] if right.ndim == 2 else 1)
            if not self._is_worth_it(columns, others[0]):
                return None
        result = numpy.empty((left.shape[0], bounds[-1]) if right.ndim == 2 else (left.shape[0],), left.dtype)
        for row, mine in enumerate(columns):
            rows = slice(blocks.bounds[row], blocks.bounds[row + 1])
            for column, other in enumerate(others):
                if right is whole and column < row:
                    result[rows, bounds[column] : bounds[column + 1]] = result[bounds[column] : bounds[column + 1], rows].T
                elif right.ndim == 2:
                    result[rows, bounds[column] : bounds[column + 1]] = mine.transposed(other)
                else:
                    result[rows] = mine.transposed(other)
        return result

    def _is_worth_it(self, columns: list[_Column], other: _Column) -> bool:
        if len(self._partners) >= _PARTNERS_LIMIT:
            self._partners.clear()
        mine = b"".join(each.digest for each in columns)
        return self._partners.setdefault(other.digest, mine) != mine or any(each.is_multiplied_with(other) for each in columns)


class _Column:
    """One part of stacked columns, known by its content, or as the prefix of a product that grows."""

    def __init__(self, part: Any, grown: Grown | None, products: Products) -> None:
        self._part = part
        self._grown = grown if grown is not None and grown.holds(part) else None
        self._products = products
        self.digest = products.digest(part) if self._grown is None else self._grown.key + str(part.shape[1]).encode()

    def is_multiplied_with(self, other: _Column) -> bool:
        """Whether the transpose was multiplied with another array before."""
        return self._products.has(self.digest, other.digest) if self._grown is None else self._grown.has(other.digest)

    def transposed(self, other: _Column) -> Any:
        """Returns the product of the transpose with another part, which is never changed by anybody."""
        mine, theirs, width = self._grown, other._grown, self._part.shape[1]
        if mine is not None:
            return self._products.counted(mine, mine.gram(width) if other is self else mine.transposed(other._part, other.digest, width))
        if theirs is not None:
            return self._products.counted(theirs, theirs.transposed(self._part, self.digest, other._part.shape[1])).T
        return self._products.transposed(self._part, other._part, self.digest, other.digest)


class BlocksOfResult:
    """``vstack(X_1, ..., X_n) @ Y`` = ``vstack(X_1 @ Y, ..., X_n @ Y)``, and ``X @ hstack(Y_1, ..., Y_n)`` likewise."""

    def apply(self, left: Any, right: Any, find: Find, products: Products) -> Any:
        """Returns the product, or None when neither operand is stacked that way."""
        numpy = sys.modules["numpy"]
        if type(left) is Transposed or type(right) is Transposed or not are_floats(left, right) or left.ndim != 2:
            return None
        rows, columns = find(left), find(right)
        if rows is not None and rows.axis == 0:
            right = settled(right)
            digest = products.digest(right)
            return numpy.concatenate([products.plain(part, right, products.digest(part), digest) for part in rows.parts])
        if columns is not None and columns.axis == 1 and right.ndim == 2:
            left = settled(left)
            digest = products.digest(left)
            return numpy.concatenate([products.plain(left, part, digest, products.digest(part)) for part in columns.parts], axis=1)
        return None


def _wider(array: Any) -> Any:
    """Returns the wider matrix whose first columns an array is, else None; an index such as ``V[:, order]`` leaves it transposed."""
    base = array.base
    if array.ndim != 2 or base is None or type(base) is not type(array) or base.ndim != 2:
        return None
    for whole in (base, base.T):
        if whole.shape[0] == array.shape[0] and whole.shape[1] > array.shape[1] and whole.strides == array.strides:
            return whole if whole.__array_interface__["data"] == array.__array_interface__["data"] else None
    return None


class GrowingProduct:
    """``A @ V[:, :k]`` grows from the widest ``A @ V[:, :j]`` so far, and so does ``X.T @ Y`` for such a product X: PCA and SVD with growing numbers
    of components.
    """

    def __init__(self, growth: Growth) -> None:
        self._growth = growth

    def apply(self, left: Any, right: Any, find: Find, products: Products) -> Any:
        """Returns the product, or None when the right operand is no prefix of another array's columns, nor the left one of a product."""
        numpy = sys.modules["numpy"]
        if type(left) is not numpy.ndarray or type(right) is not numpy.ndarray or not are_floats(left, right):
            return None
        whole = untransposed(left)
        grown = self._growth.of(whole) if whole is not None else None
        if grown is not None:
            mine = _Column(whole, grown, products)
            return mine.transposed(mine if right is whole else _Column(right, None, products)).copy()
        if left.ndim != 2 or right.ndim != 2 or right.nbytes > min(_RIGHT_LIMIT_BYTES, left.nbytes) or right.shape[1] > right.shape[0]:
            return None
        wider = _wider(right)
        if wider is not None and wider.nbytes > 8 * right.nbytes + (1 << 22):
            wider = None
        found = self._growth.multiply(left, right, wider, products.digest(left))
        return products.counted(found[1], found[0]) if found is not None else None


class Rewrites:
    """All rewrites, and what they need to know about stacked arrays.

    Args:
        memory: where products of parts are kept.
        digest: the fingerprint of one array.
        contents: knows large arrays without reading them.
        copy: makes a copy of a large array.
    """

    def __init__(
        self, memory: Memory, digest: Callable[[Any], bytes], contents: Contents, copy: Callable[[Any], Any] = lambda array: array.copy()
    ) -> None:
        self.assembled = 0
        self._products = Products(memory, digest)
        self._growth = Growth(copy, contents)
        self._stacked: dict[int, Stacked] = {}
        self._tables: dict[int, Stacked] = {}
        self._rewrites: tuple[Rewrite, ...] = (RowSubset(), RowBlocks(), ColumnBlocks(), GrowingProduct(self._growth), BlocksOfResult())
        self._rates: dict[int, float] = {}

    def note(self, result: Any, parts: Any, axis: int) -> None:
        """Notes where the parts of a stacked array lie: a hint only, parts are known by their content."""
        numpy = sys.modules["numpy"]
        if type(result) is not numpy.ndarray or result.ndim != 2 or not 1 < len(parts) <= _PARTS_LIMIT or result.nbytes < _SMALL_PART:
            return
        widths = [1 if part.ndim < 2 else part.shape[axis] for part in parts if isinstance(part, numpy.ndarray)]
        bounds = [0]
        for width in widths:
            bounds.append(bounds[-1] + width)
        if len(widths) == len(parts) and bounds[-1] == result.shape[axis]:
            number = id(result)
            reference = weakref.ref(result, lambda _: self._stacked.pop(number, None))
            grown = tuple(map(self._growth.of, parts))
            self._stacked[number] = Stacked(reference, axis, tuple(bounds), grown)
            for part, each, start, stop in zip(parts, grown, bounds, bounds[1:], strict=False):
                if each is not None and axis == 1:
                    each.note_copy(result[:, start:stop], part)

    def forget(self, array: Any) -> None:
        """Takes note that the memory of an array is going to hold something else."""
        self._stacked.pop(id(array), None)
        self._growth.forget(array)

    def note_tables(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Notes where the parts of a table or column of pandas lie that a call has concatenated."""
        pandas = sys.modules.get("pandas")
        parts = args[0] if args and isinstance(args[0], list | tuple) else []
        if pandas is None or function is not getattr(pandas, CONCATENATION, None) or len(args) != 1 or not kwargs.keys() <= {"ignore_index"}:
            return
        if not all(isinstance(part, pandas.DataFrame | pandas.Series) for part in parts):
            return  # None stands for no rows
        if not 1 < len(parts) <= _PARTS_LIMIT or sum(map(len, parts)) != len(result) or len(result) < _SMALL_TABLE:
            return
        number, bounds = id(result), (0, *itertools.accumulate(map(len, parts)))
        self._tables[number] = Stacked(weakref.ref(result, lambda _: self._tables.pop(number, None)), 0, bounds)

    def call(self, site: Site, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
        """Returns whether a call was done, and what it gives: plain and timed the first time, from parts where that is cheaper."""
        if "numpy" not in sys.modules or (site.partial == 0 and site.executions >= _TRIALS):
            return False, None
        for rewrite in _CALL_REWRITES:
            if site.name not in rewrite.names:
                continue
            found = rewrite.match(site.name, function, args, kwargs, self._find)
            if found is not None:
                return self._from_parts(site, found, function, args, kwargs)
        return False, None

    def _from_parts(self, site: Site, found: PartCall, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
        begin = time.perf_counter()
        rate = self._rates.get(id(site))
        if rate is None:
            result = function(*args, **kwargs)
            self._rates[id(site)] = (time.perf_counter() - begin) / max(found.read_bytes, 1)
            site.calls += 1
            return True, result
        spent_s = found.read_bytes / _HASH_BYTES_PER_S + found.copied_bytes / _COPY_BYTES_PER_S
        if rate * found.read_bytes < _MARGIN * spent_s:
            return False, None
        hits, saved_s = self._products.hits, self._products.saved_s
        try:
            answer = self._products.assembled(found)
        except Refused:
            return False, None
        self._account_for(site, begin, hits, saved_s)
        return True, answer

    def _account_for(self, site: Site, begin: float, hits: int, saved_s: float) -> None:
        """Writes down a result that was assembled since ``begin``, when there were so many hits and so much was saved."""
        site.calls += 1
        site.assembled += 1
        self.assembled += 1
        if self._products.hits > hits:
            site.partial += 1
            site.saved_s += self._products.saved_s - saved_s
            site.last = "in part"
        else:
            site.executions += 1
            site.cost_s += time.perf_counter() - begin

    def _find(self, array: Any) -> Blocks | None:
        if type(array) is Deferred:
            return Blocks(array.axis, array.parts, array.bounds, tuple(map(self._growth.of, array.parts))) if array.rows is None else None
        if hasattr(array, "iloc"):
            return self._find_table(array)
        stacked = self._stacked.get(id(array))
        is_found = stacked is not None and stacked.reference() is array
        if stacked is None or not is_found:
            return None
        bounds = list(zip(stacked.bounds, stacked.bounds[1:], strict=False))
        parts = [array[start:stop] if stacked.axis == 0 else array[:, start:stop] for start, stop in bounds]
        return Blocks(stacked.axis, parts, stacked.bounds, stacked.grown)

    def _find_table(self, table: Any) -> Blocks | None:
        """Finds the bounds of a table's parts, or of a column's, which is a new object each time but has the index of its table."""
        for stacked in tuple(self._tables.values()):
            whole = stacked.reference()
            if whole is not None and stacked.bounds[-1] == len(table) == len(whole) and (whole is table or whole.index.is_(table.index)):
                return Blocks(0, [], stacked.bounds)
        return None

    def multiply(self, left: Any, right: Any, site: Site) -> Any:
        """Returns ``left @ right`` assembled from parts, or None when no rewrite fits."""
        if site.partial == 0 and site.executions >= _TRIALS:
            return None
        begin = time.perf_counter()
        hits, saved_s = self._products.hits, self._products.saved_s
        for rewrite in self._rewrites:
            answer = rewrite.apply(left, right, self._find, self._products)
            if answer is not None:
                self._account_for(site, begin, hits, saved_s)
                return answer
        return None

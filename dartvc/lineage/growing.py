"""Products that grow: ``A @ V[:, :k]`` for one k after another, and what is multiplied with the transposes of these.

The widest product is kept, and each narrower one is its first columns; so is its Gram matrix the leading block of the widest one's. A product that
grows again grows to twice its width, as far as there are columns: wide products cost a third for each column of what narrow ones do. What was
handed out is a copy, and is believed to be these columns as long as nobody wrote to it, or it is equal to them.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable
from typing import Any

from dartvc.lineage.contents import Contents

__all__ = ["Grown", "Growth"]

_WIDEST_LIMIT = 4
_PARTNERS_LIMIT = 16
_COMPARED_AT_ONCE = 1 << 14
_NUMBERS = itertools.count()


class Grown:
    """One product, as wide as it was needed so far.

    Args:
        columns: memory for the widest product.
        key: what it is the product of.
        contents: knows which arrays are copies of the first columns.
    """

    def __init__(self, columns: Any, key: bytes, contents: Contents) -> None:
        self.columns = columns
        self.key = key
        self._contents = contents
        self._name = f"columns of product {next(_NUMBERS)}"
        self.width = 0
        self.hits = 0
        self._gram: tuple[Any, int] | None = None
        self._products: dict[bytes, tuple[Any, int]] = {}

    def grow(self, left: Any, right: Any, width: int) -> Any:
        """Returns the first columns of ``left @ right``, so many."""
        self.hits += self.width > 0
        if self.width < width:
            done, self.width = self.width, _next_width(self.width, width, right.shape[1])
            self.columns[:, done : self.width] = left @ right[:, done : self.width]
        return self.columns[:, :width]

    def note_copy(self, copy: Any, array: Any = None) -> None:
        """Notes that an array was just filled with the first columns, or with another array, if that has them."""
        if array is None or self._contents.bears(array, self._name):
            self._contents.mark(copy, self._name)

    def holds(self, array: Any) -> bool:
        """Whether an array is the first columns of the product."""
        if array.ndim != 2 or array.shape[0] != len(self.columns) or not 0 < array.shape[1] <= self.width or array.dtype != self.columns.dtype:
            return False
        if self._contents.bears(array, self._name):
            return True
        numpy = sys.modules["numpy"]
        columns, step = self.columns[:, : array.shape[1]], max(_COMPARED_AT_ONCE // array.shape[1], 1)  # what is compared stays in the cache
        return all(numpy.array_equal(array[at : at + step], columns[at : at + step]) for at in range(0, len(array), step))

    def gram(self, width: int) -> Any:
        """Returns ``X.T @ X`` for the first columns, never to be changed."""
        numpy = sys.modules["numpy"]
        gram, done = self._gram or (numpy.empty((self.columns.shape[1],) * 2, self.columns.dtype), 0)
        self.hits += done > 0
        if done < width:
            upto = _next_width(done, width, self.width)
            gram[done:upto, :upto] = self.columns[:, done:upto].T @ self.columns[:, :upto]
            gram[:done, done:upto] = gram[done:upto, :done].T
            self._gram = gram, upto
        return gram[:width, :width]

    def has(self, digest: bytes) -> bool:
        """Whether the transpose was multiplied with an array."""
        return digest in self._products

    def transposed(self, other: Any, digest: bytes, width: int) -> Any:
        """Returns ``X.T @ other`` for the first columns, never to be changed."""
        numpy = sys.modules["numpy"]
        shape = (self.columns.shape[1], *other.shape[1:])
        product, done = self._products.get(digest) or (numpy.empty(shape, self.columns.dtype), 0)
        self.hits += done > 0
        if done < width:
            upto = _next_width(done, width, self.width)
            product[done:upto] = self.columns[:, done:upto].T @ other
            if len(self._products) >= _PARTNERS_LIMIT:
                self._products.pop(next(iter(self._products)))
            self._products[digest] = product, upto
        return product[:width]


def _next_width(done: int, wanted: int, limit: int) -> int:
    """Returns how many columns to have next: those that are wanted, and twice as many as there are, as far as there are more."""
    return min(max(wanted, 2 * done), limit)


class Growth:
    """The products that grew lately, and the copies of them that the program has.

    Args:
        copy: makes a copy of a prefix.
        contents: knows which arrays are copies of a prefix.
    """

    def __init__(self, copy: Callable[[Any], Any], contents: Contents) -> None:
        self._copy = copy
        self._contents = contents
        self._widest: dict[bytes, Grown] = {}
        self._handed: dict[int, tuple[weakref.ref[Any], Grown]] = {}

    def multiply(self, left: Any, right: Any, key: bytes, width: int) -> tuple[Any, Grown]:
        """Returns the first columns of ``left @ right``, so many."""
        numpy = sys.modules["numpy"]
        grown = self._widest.get(key)
        if grown is None:
            if len(self._widest) >= _WIDEST_LIMIT:
                self._widest.pop(next(iter(self._widest)))
            grown = self._widest[key] = Grown(numpy.empty((left.shape[0], right.shape[1]), left.dtype), key, self._contents)
        result = self._copy(grown.grow(left, right, width))
        grown.note_copy(result)
        number = id(result)
        self._handed[number] = weakref.ref(result, lambda _: self._handed.pop(number, None)), grown
        return result, grown

    def of(self, array: Any) -> Grown | None:
        """Returns the product that an array was handed out as the first columns of; whether it still is, is another question."""
        reference, grown = self._handed.get(id(array), (None, None))
        return grown if reference is not None and reference() is array else None

    def forget(self, array: Any) -> None:
        """Takes note that the memory of an array is going to hold something else."""
        self._handed.pop(id(array), None)

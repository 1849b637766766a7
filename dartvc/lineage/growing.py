"""Products that grow: ``A @ V[:, :k]`` for one k after another, and what is multiplied with the transposes of these.

The widest product is kept, and each narrower one is its first columns; so is its Gram matrix the leading block of the widest one's. A product that
grows again grows to twice its width, as far as columns are known: wide products cost a third for each column of what narrow ones do. What was
handed out is a copy, and is believed to be these columns as long as nobody wrote to it, or it is equal to them. Right operands are known by their
content, which is small beside the product: ``V[:, order[:k]]`` is an array of its own for each k.
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
_SEEN_LIMIT = 16
_COMPARED_AT_ONCE = 1 << 14
_NUMBERS = itertools.count()


class Grown:
    """One product, as wide as it was needed so far.

    Args:
        left: the left operand's digest.
        right: a right operand.
        columns: memory for the widest product.
        contents: knows which arrays are copies of the first columns.
    """

    def __init__(self, left: bytes, right: Any, columns: Any, contents: Contents) -> None:
        self.left = left
        self.columns = columns
        self._right = right.copy()
        self._contents = contents
        self._name = f"columns of product {next(_NUMBERS)}"
        self.width = 0
        self.hits = 0
        self._gram: tuple[Any, int] | None = None
        self._products: dict[bytes, tuple[Any, int]] = {}

    @property
    def key(self) -> bytes:
        """What tells the product from others."""
        return self._name.encode()

    def has_room_for(self, left: bytes, right: Any) -> bool:
        """Whether a product is the first columns of this one, or goes on where this one ends."""
        return left == self.left and right.shape[1] <= self.columns.shape[1] and _are_alike(self._right, right)

    def grow(self, left: Any, right: Any) -> Any:
        """Returns ``left @ right``."""
        self.hits += self.width > 0
        width = right.shape[1]
        if width > self._right.shape[1]:
            self._right = right.copy()
        if self.width < width:
            done, self.width = self.width, _next_width(self.width, width, self._right.shape[1])
            self.columns[:, done : self.width] = left @ self._right[:, done : self.width]
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


def _are_alike(one: Any, other: Any) -> bool:
    """Whether two matrices have the same columns as far as both have any."""
    width = min(one.shape[1], other.shape[1])
    return one.dtype == other.dtype and bool(sys.modules["numpy"].array_equal(one[:, :width], other[:, :width]))


class Growth:
    """The products that grew lately, and the copies of them that the program has.

    Args:
        copy: makes a copy of a prefix.
        contents: knows which arrays are copies of a prefix.
    """

    def __init__(self, copy: Callable[[Any], Any], contents: Contents) -> None:
        self._copy = copy
        self._contents = contents
        self._widest: list[Grown] = []
        self._seen: dict[bytes, Any] = {}
        self._handed: dict[int, tuple[weakref.ref[Any], Grown]] = {}

    def multiply(self, left: Any, right: Any, wider: Any, digest: bytes) -> tuple[Any, Grown] | None:
        """Returns ``left @ right``, and what it is the first columns of; None while nothing says that it grows.

        Args:
            wider: the matrix whose first columns ``right`` is, else None: then it grows when it has grown.
            digest: the left operand's.
        """
        grown = next((each for each in self._widest if each.has_room_for(digest, right)), None)
        if grown is None:
            before = self._seen.pop(digest, None)
            if wider is None and (before is None or before.shape == right.shape or not _are_alike(before, right)):
                self._remember(digest, right)
                return None
            grown = self._begin(left, right if wider is None else wider, digest)
        result = self._copy(grown.grow(left, right))
        grown.note_copy(result)
        number = id(result)
        self._handed[number] = weakref.ref(result, lambda _: self._handed.pop(number, None)), grown
        return result, grown

    def _remember(self, digest: bytes, right: Any) -> None:
        while len(self._seen) >= _SEEN_LIMIT:
            del self._seen[next(iter(self._seen))]
        self._seen[digest] = right.copy()

    def _begin(self, left: Any, right: Any, digest: bytes) -> Grown:
        columns = sys.modules["numpy"].empty((left.shape[0], max(right.shape)), left.dtype)
        del self._widest[: 1 - _WIDEST_LIMIT]
        self._widest.append(Grown(digest, right, columns, self._contents))
        return self._widest[-1]

    def of(self, array: Any) -> Grown | None:
        """Returns the product that an array was handed out as the first columns of; whether it still is, is another question."""
        reference, grown = self._handed.get(id(array), (None, None))
        return grown if reference is not None and reference() is array else None

    def forget(self, array: Any) -> None:
        """Takes note that the memory of an array is going to hold something else."""
        self._handed.pop(id(array), None)

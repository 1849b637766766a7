"""Arrays that are put off: `Deferred` stands for ``np.vstack(parts)``, or ``X[rows]``, where the program only multiplies it and asks for its shape.

The compiler says where that is so (`dartvc.program.deferrable`); here is checked, when it happens, that the names read meanwhile stand for
numbers and arrays, so that nothing that runs before the last use can change a part. Whatever else is asked makes the array, once.
"""

from __future__ import annotations

import builtins
import math
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Deferral", "Deferred", "Transposed", "settled"]

_WORTH_BYTES = 1 << 20
_WORTH_ROWS_BYTES = 1 << 16
_PARTS_LIMIT = 64
_ITEMS_LIMIT = 1024
_PLAIN: frozenset[type] = frozenset({bool, int, float, complex, str, bytes, type(None), range, slice, types.BuiltinFunctionType})


class Deferred:
    """A stack that was not made yet.

    Args:
        parts: its parts, which nobody changes as long as this is in use.
        axis: along which they lie.
        stack: makes the array.
        rows: which rows of the only part it is; None for a stack.
    """

    __array_ufunc__ = None  # numpy leaves ``array @ deferred`` to `__rmatmul__`

    def __init__(self, parts: list[Any], axis: int, stack: Callable[[], Any], rows: Any = None) -> None:
        self.parts = parts
        self.axis = axis
        self.rows = rows
        self._stack = stack
        self._array: Any = None
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts) if rows is None else _count(rows)
        self.shape = tuple(shape)
        self.dtype = parts[0].dtype
        self.ndim = len(shape)

    @property
    def bounds(self) -> tuple[int, ...]:
        """Where the parts begin, and where the last one ends."""
        bounds = [0]
        for part in self.parts:
            bounds.append(bounds[-1] + part.shape[self.axis])
        return tuple(bounds)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return int(self.size * self.dtype.itemsize)

    @property
    def missing_bytes(self) -> int:
        """How many bytes would have to be copied for the array."""
        return self.nbytes if self._array is None else 0

    @property
    def T(self) -> Transposed:
        """The transpose."""
        return Transposed(self)

    def array(self) -> Any:
        """Returns the array, made the first time."""
        if self._array is None:
            self._array = self._stack()
        return self._array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array() if dtype is None else self.array().astype(dtype)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __matmul__(self, other: Any) -> Any:
        return self.array() @ settled(other)

    def __rmatmul__(self, other: Any) -> Any:
        return other @ self.array()


class Transposed:
    """The transpose of a stack that was not made yet."""

    __array_ufunc__ = None

    def __init__(self, of: Deferred) -> None:
        self.of = of
        self.shape = of.shape[::-1]
        self.ndim = of.ndim
        self.dtype = of.dtype
        self.size = of.size
        self.nbytes = of.nbytes

    def array(self) -> Any:
        """Returns the transpose of the array."""
        return self.of.array().T

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array() if dtype is None else self.array().astype(dtype)

    def __matmul__(self, other: Any) -> Any:
        return self.array() @ settled(other)

    def __rmatmul__(self, other: Any) -> Any:
        return other @ self.array()


def settled(value: Any) -> Any:
    """Returns the array for a stack that was put off, any other value as it is."""
    return value.array() if type(value) in (Deferred, Transposed) else value


class Deferral:
    """Decides which stacks are put off.

    Args:
        lendable: for a function's code, its parameters that may be given such a stack, with the names read until the last use.
        is_quiet: whether no other thread could change a part.
    """

    __dvc_replaces__ = "call"

    def __init__(self, lendable: Callable[[types.CodeType], dict[str, frozenset[str]]], is_quiet: Callable[[], bool]) -> None:
        self._lendable = lendable
        self._is_quiet = is_quiet

    def defer(self, parts: Any, axis: int, reads: frozenset[str], frame: types.FrameType, stack: Callable[[], Any]) -> Deferred | None:
        """Returns a stack that is put off, or None when it has to be made now."""
        if not 1 < len(parts) <= _PARTS_LIMIT or not _fit_together(parts, axis):
            return None
        if sum(part.nbytes for part in parts) < _WORTH_BYTES or not self._is_quiet():
            return None
        return Deferred(list(parts), axis, stack) if _are_plain(reads, frame) else None

    def defer_rows(self, values: Any, rows: Any, reads: frozenset[str], frame: types.FrameType, gather: Callable[[], Any]) -> Deferred | None:
        """Returns rows of an array that are put off, or None when they have to be picked now."""
        if not _can_be_picked_from(values) or not _are_rows(rows, len(values)) or not self._is_quiet():
            return None
        if _count(rows) * (values.nbytes // max(len(values), 1)) < _WORTH_ROWS_BYTES or not _are_plain(reads, frame):
            return None
        return Deferred([values], 0, gather, rows)

    def hand(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function, with arrays in place of stacks that it might use in other ways than these were put off for."""
        if any(type(each) is Deferred for each in (*args, *kwargs.values())) and not self._may_borrow(function, args, kwargs):
            return function(*map(settled, args), **{name: settled(each) for name, each in kwargs.items()})
        return function(*args, **kwargs)

    def _may_borrow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if type(function) is not types.FunctionType:
            return False
        code = function.__code__
        lendable = self._lendable(code)
        given = {**dict(zip(code.co_varnames, args, strict=False)), **kwargs}
        borrowed = [name for name, value in given.items() if type(value) is Deferred]
        if not lendable.keys() >= set(borrowed) or not all(_is_plain(value) for value in given.values()):
            return False
        try:
            outer = {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False)}
        except ValueError:
            return False  # a cell that was not filled yet
        reads = frozenset().union(*(lendable[name] for name in borrowed))
        return all(name in given or _is_plain(_found(name, (outer, function.__globals__, vars(builtins)))) for name in reads)


def _are_plain(reads: frozenset[str], frame: types.FrameType) -> bool:
    namespaces = (frame.f_locals, frame.f_globals, vars(builtins))
    return all(_is_plain(_found(name, namespaces)) for name in reads)


def _can_be_picked_from(values: Any) -> bool:
    """Whether rows of an array come out in row order whatever they are."""
    if type(values) is not sys.modules["numpy"].ndarray or values.dtype.kind != "f" or values.dtype.byteorder not in "=|":
        return False
    return values.ndim == 1 or bool(values.ndim == 2 and values.flags.c_contiguous)


def _are_rows(rows: Any, count: int) -> bool:
    """Whether an index picks rows of an array that has so many: one mask, or numbers that are all in range."""
    numpy = sys.modules["numpy"]
    if type(rows) is not numpy.ndarray or rows.ndim != 1 or not len(rows):
        return False
    if rows.dtype == numpy.bool_:
        return len(rows) == count
    return bool(rows.dtype == numpy.intp) and int(rows.min()) >= 0 and int(rows.max()) < count


def _count(rows: Any) -> int:
    return int(rows.sum()) if rows.dtype == bool else len(rows)


def _found(name: str, namespaces: Iterable[Any]) -> Any:
    """Returns what a name stands for; None when it is bound only later."""
    return next((namespace[name] for namespace in namespaces if name in namespace), None)


def _fit_together(parts: Any, axis: int) -> bool:
    """Whether parts are arrays of one type, and of the shapes that stack."""
    numpy = sys.modules["numpy"]
    first = parts[0]
    for part in parts:
        if type(part) is not numpy.ndarray or part.dtype != first.dtype or part.dtype.kind != "f" or part.ndim != first.ndim:
            return False
        if not (part.ndim == 2 and part.shape[1 - axis] == first.shape[1 - axis]) and not (part.ndim == 1 and axis == 0):
            return False
        if not part.flags.c_contiguous or part.dtype.byteorder not in "=|":
            return False
    return True


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether operators and numpy's functions over a value run no code of the program."""
    kind = type(value)
    if kind in _PLAIN or kind in (Deferred, Transposed):
        return True
    if kind in (tuple, list):
        return depth > 0 and len(value) <= _ITEMS_LIMIT and all(_is_plain(each, depth - 1) for each in value)
    if kind is types.ModuleType:
        return str(value.__name__) in ("numpy", "numpy.linalg")
    if kind is type:
        return value in (range, int, float)
    numpy = sys.modules["numpy"]
    return (kind is numpy.ndarray and not value.dtype.hasobject) or (issubclass(kind, numpy.generic) and kind is not numpy.object_)

"""numpy: arrays out of band, views that keep sharing memory with their base, memmaps, subclasses.

An array that owns its memory is stored as that memory. A view is stored as its root (the object that owns the memory) and where in it
the view lies, so that after a restore two names that shared memory share it again. A small view that alone keeps a large
root alive is stored as a copy: nobody can tell the difference.
"""

from __future__ import annotations

import array
import mmap
import sys
from collections.abc import Callable, Iterable
from typing import Any

from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS", "TRANSIENT", "UNCHANGING", "memory_address", "reduce_array"]

IN_BAND_BYTES = 64 * 1024
_SPREAD = 16
"""How many times as much memory as its elements take a view may span, that is stored without the array that it is a view of, to be laid out again as it was."""
_STORED_OWNERS = (bytes, bytearray, array.array)
_SOLE_HOLDERS = 3  # the view's own .base, our local variable, getrefcount's argument


class Detached:
    """An array whose sharing of memory means nothing (its library copies on write): stored as an array of its own."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values


def reduce_detached(detached: Detached, saving: Any) -> Any:
    """Stores the array alone, whatever it shares memory with."""
    values = detached.values
    if values.dtype.hasobject:
        numpy = sys.modules["numpy"]
        return door("numpy_object_array"), (values.dtype, values.shape), numpy.ravel(values).tolist(), None, None, door("numpy_fill")
    return _standalone(values, saving)


def reduce_array(values: Any, saving: Any) -> Any:
    """Stores an array; see the module's text."""
    numpy = sys.modules["numpy"]
    kind = type(values)
    if kind is not numpy.ndarray:
        return _reduce_subclass(values, kind, numpy, saving)
    base = values.base
    while type(base) is numpy.ndarray and base.base is not None:
        base = base.base
    if base is None and not values.dtype.hasobject:
        shared = saving.regions.setdefault(("numpy", _address(values)), values)
        if shared is not values:
            return door("numpy_view"), (shared, 0, values.dtype, values.shape, values.strides, values.flags.writeable)
    if base is None or (values.dtype.hasobject and not isinstance(base, numpy.ndarray)):
        return NotImplemented if values.dtype.hasobject else _standalone(values, saving)
    if isinstance(base, numpy.ndarray):
        if sys.getrefcount(base) <= _SOLE_HOLDERS + (values.base is not base) and id(base) not in saving.regions:
            return NotImplemented if values.dtype.hasobject else _standalone(values, saving)
        if isinstance(base, numpy.memmap):
            return _standalone(values, saving)
        return _reduce_view(values, base, numpy, saving)
    if isinstance(base, bytearray | array.array | memoryview | mmap.mmap) or type(base).__module__.startswith("torch"):
        if type(base).__module__.startswith("torch"):
            return door("torch_as_numpy"), (base, values.dtype, values.shape, values.strides, _address(values) - base.data_ptr())
        if isinstance(base, memoryview) and base.readonly:
            return _standalone(values, saving)
        try:
            raw = numpy.frombuffer(base, numpy.uint8)
        except (ValueError, BufferError):
            return _standalone(values, saving)
        if isinstance(base, memoryview) and not isinstance(base.obj, (*_STORED_OWNERS, numpy.ndarray)):
            base = saving.regions.setdefault(("memoryview", id(base)), bytearray(base))  # memory of a file: its bytes become the array's
        return door("numpy_view"), (
            base,
            _address(values) - _address(raw),
            values.dtype,
            values.shape,
            values.strides,
            values.flags.writeable,
        )
    return _standalone(values, saving)


def _address(values: Any) -> int:
    return int(values.__array_interface__["data"][0])


def _reduce_view(values: Any, root: Any, numpy: Any, saving: Any) -> Any:
    saving.regions[id(root)] = root
    offset = _address(values) - _address(root)
    return door("numpy_view"), (root, offset, values.dtype, values.shape, values.strides, values.flags.writeable)


def _standalone(values: Any, saving: Any) -> Any:
    """Stores the elements: axes in the order of the memory, so that the bytes are taken where they lie.

    What is left of a larger array keeps its strides: numpy sums scattered elements in another order than adjacent ones, with other last bits.
    """
    numpy = sys.modules["numpy"]
    flags = values.flags
    laid, order, is_copy = values, tuple(range(values.ndim)), False
    if not flags.c_contiguous:
        order = tuple(sorted(order, key=lambda axis: -abs(values.strides[axis])))
        laid = values.transpose(order)
        is_copy = not laid.flags.c_contiguous
        if is_copy:
            laid = saving.keep(numpy.ascontiguousarray(laid))
    described: tuple[Any, ...] = (values.dtype, laid.shape, order, bool(flags.writeable))
    if is_copy and sum(_span(values.shape, values.strides)) <= _SPREAD * values.nbytes:
        described = (*described, values.strides)
    if laid.nbytes < IN_BAND_BYTES:
        return door("numpy_array"), (laid.tobytes(), *described)
    return door("numpy_array"), (saving.out_of_band(memoryview(laid.reshape(-1).view(numpy.uint8)), is_copy=is_copy), *described)


def _reduce_subclass(values: Any, kind: type, numpy: Any, saving: Any) -> Any:
    if kind is numpy.memmap:
        if values.filename is None or not isinstance(values._mmap, mmap.mmap):
            return _standalone(values, saving)
        described = (str(values.filename), values.dtype, values.shape, values.offset, values.mode, bool(values.flags.f_contiguous))
        return door("numpy_memmap"), (*described, _content_digest(values))
    if "__reduce__" in {name for base in kind.__mro__ if base is not numpy.ndarray and base is not object for name in vars(base)}:
        return NotImplemented
    plain = values.view(numpy.ndarray)
    state = dict(values.__dict__) if hasattr(values, "__dict__") else None
    inner = Detached(plain) if plain.base is values and values.base is None else plain
    if plain.base is values and values.base is not None:
        inner = numpy.asarray(values)
    return door("numpy_subclass"), (kind, saving.keep(inner)), state, None, None, door("numpy_subclass_state")


def _content_digest(values: Any) -> bytes:
    from xxhash import xxh3_128_digest

    numpy = sys.modules["numpy"]
    return bytes(xxh3_128_digest(memoryview(numpy.ascontiguousarray(values).reshape(-1).view(numpy.uint8)))) if values.size else b""


def memory_address(values: Any) -> int:
    """Returns the address of the memory that an array lives in: equal for all views of one root."""
    numpy = sys.modules["numpy"]
    base = values
    while isinstance(base, numpy.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, numpy.ndarray):
        return _address(base)
    if type(base).__module__.startswith("torch"):
        return int(base.untyped_storage().data_ptr())
    if isinstance(base, bytearray | array.array | mmap.mmap | memoryview):
        try:
            return _address(numpy.frombuffer(base, numpy.uint8))
        except (ValueError, BufferError):
            return _address(values)
    return _address(values)


def _children(values: Any) -> Iterable[object]:
    """What an array refers to, for the aliasing walk: its memory as a number, and the objects of an object array."""
    numpy = sys.modules["numpy"]
    if values.dtype.hasobject and values.dtype.names is None:
        yield from numpy.ravel(values).tolist()
    if values.nbytes:
        yield ("memory", memory_address(values))
    if hasattr(values, "__dict__"):
        yield values.__dict__


def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Returns how many bytes before its first element, and behind it, an array spans."""
    steps = [(count - 1) * stride for count, stride in zip(shape, strides, strict=True)]
    return -sum(step for step in steps if step < 0), sum(step for step in steps if step > 0)


def _spread(values: Any, strides: tuple[int, ...], numpy: Any) -> Any:
    """Returns an array with the same elements and other strides; the kernel gives no pages for what is between them."""
    before, behind = _span(values.shape, strides)
    spread = numpy.ndarray(values.shape, values.dtype, numpy.empty(before + behind + values.itemsize, numpy.uint8), before, strides)
    spread[...] = values
    return spread


def _build_array(
    loading: Any, source: Any, dtype: Any, laid_shape: tuple[int, ...], order: tuple[int, ...], writeable: bool, strides: tuple[int, ...] = (),
) -> Any:  # fmt: skip
    numpy = loading.library("numpy")
    dtype = plain_dtype(numpy, dtype)
    made = numpy.empty(laid_shape, dtype)
    if isinstance(source, int):
        loading.read_buffer_into(source, memoryview(made.reshape(-1).view(numpy.uint8)))
    elif source:
        made.reshape(-1).view(numpy.uint8)[:] = numpy.frombuffer(source, numpy.uint8)
    if order != tuple(range(len(order))):
        back = sorted(range(len(order)), key=order.__getitem__)
        made = made.transpose(back)
        if made.base is not None and made.flags.f_contiguous and len(order) > 1:
            owner = numpy.ndarray(made.shape, dtype, order="F")
            if owner.nbytes < IN_BAND_BYTES:
                owner[...] = made
                made = owner
    if strides:
        made = _spread(made, strides, numpy)
    if not writeable:
        made.flags.writeable = False
    return made


def _build_view(loading: Any, root: Any, offset: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], writeable: bool) -> Any:
    numpy = loading.library("numpy")
    if not isinstance(root, numpy.ndarray):
        raw = numpy.frombuffer(root, numpy.uint8)
        made = numpy.ndarray(shape, dtype, buffer=raw, offset=offset, strides=strides)
    elif dtype.hasobject:
        made = numpy.lib.stride_tricks.as_strided(_flat(root)[offset // root.itemsize :], shape, strides)
        if made.dtype != dtype:
            made = made.view(dtype)
    else:
        memory = root if root.flags.c_contiguous else _flat(root).view(numpy.uint8)
        made = numpy.ndarray(shape, plain_dtype(numpy, dtype), buffer=memory, offset=offset, strides=strides)
    if not writeable:
        made.flags.writeable = False
    return made


def _flat(root: Any) -> Any:
    """Returns a dense array's memory as one axis, whatever the order of its axes, without copying."""
    axes = sorted(range(root.ndim), key=lambda axis: -abs(root.strides[axis]))
    return root.transpose(axes).reshape(-1)


def plain_dtype(numpy: Any, dtype: Any) -> Any:
    """Returns numpy's own object for a number's dtype: a pickled one comes back as a copy, and libraries tell them apart."""
    return numpy.dtype(dtype.str) if dtype.kind in "biufc" and dtype.names is None and dtype.metadata is None else dtype


def _reduce_dtype(dtype: Any, saving: Any) -> Any:
    if dtype.kind in "biufc" and dtype.names is None and dtype.metadata is None:
        return type(dtype).__mro__[-2], (dtype.str,)
    return NotImplemented


def _build_memmap(loading: Any, path: str, dtype: Any, shape: Any, offset: int, mode: str, fortran: bool, digest: bytes) -> Any:
    numpy = loading.library("numpy")
    mapped = numpy.memmap(path, dtype, "r+" if mode == "w+" else mode, offset, shape, "F" if fortran else "C")
    if _content_digest(mapped) != digest:
        loading.note(f"the file {path} behind a memmap has other contents than at the commit")
    return mapped


def _build_object_array(loading: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return loading.library("numpy").empty(shape, dtype)


def _fill(loading: Any, made: Any, items: list[Any]) -> None:
    flat = made.reshape(-1)
    for index, item in enumerate(items):
        flat[index] = item


def _set_subclass_state(loading: Any, made: Any, state: dict[str, Any]) -> None:
    made.__dict__.update(state)


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "numpy.ndarray": reduce_array,
    "numpy.dtype": _reduce_dtype,
    "dartvc.state.adapters.arrays.Detached": reduce_detached,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "numpy_array": _build_array,
    "numpy_view": _build_view,
    "numpy_memmap": _build_memmap,
    "numpy_object_array": _build_object_array,
    "numpy_fill": _fill,
    "numpy_subclass": lambda loading, kind, plain: plain.view(kind),
    "numpy_subclass_state": _set_subclass_state,
}
CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {"numpy.ndarray": _children}
TRANSIENT: dict[str, Callable[[Any], str]] = {
    f"dartvc.lineage.deferring.{each}": lambda value: "an array was put off" for each in ("Deferred", "Transposed")
}
UNCHANGING: frozenset[str] = frozenset({"numpy.dtype"})

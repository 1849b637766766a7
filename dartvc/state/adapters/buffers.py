"""Views of memory: a memoryview is stored as the object whose memory it shows, and as which part of it is shown how.

So it shares that memory again after a restore, whatever was done to it: slices of the first axis, casts, `toreadonly`. What cannot be made
again so, or shows memory that belongs to no object, is refused: a copy would no longer follow its owner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS"]

_FULL_READ_ONLY = 0x011C  # PyBUF_FULL_RO: any layout will do


def _reduce_memoryview(view: Any, saving: Any) -> Any:
    """Stores the object whose memory it is, and which part of it the view shows how."""
    owner = view.obj
    if owner is None:
        raise saving.refuse(view, "the memory of this view belongs to a C library", "keep a copy: bytes(view)")
    whole = memoryview(owner)
    start = _address_of(view) - _address_of(whole) if view.nbytes else 0
    rows = _rows_of(view, whole, start)
    cast = None
    if rows is None:
        cast, rows = _cast_of(view, start)
    arguments = (owner, cast, rows, view.readonly)
    try:
        made = _build_memoryview(None, *arguments)
    except (ValueError, TypeError, NotImplementedError):
        made = None
    if made is None or _layout(made) != _layout(view):
        raise saving.refuse(view, f"this view of {type(owner).__name__} cannot be made again", "keep a copy: bytes(view)")
    return door("memoryview_of"), arguments


def _rows_of(view: Any, whole: Any, start: int) -> tuple[Any, ...] | None:
    """Returns the slice of its owner's first axis that a view is, () when it is all of it; None when it is no such slice."""
    if (view.format, view.ndim, view.suboffsets) != (whole.format, whole.ndim, whole.suboffsets):
        return None
    if (view.shape, view.strides, start) == (whole.shape, whole.strides, 0):
        return ()
    if not view.ndim or (view.shape[1:], view.strides[1:]) != (whole.shape[1:], whole.strides[1:]):
        return None
    pitch, count = whole.strides[0], view.shape[0]
    if not count:
        return (0, 0, 1)
    if not pitch or start % pitch or view.strides[0] % pitch:
        return None
    first, step = start // pitch, view.strides[0] // pitch
    stop = first + (count - 1) * step + (1 if step > 0 else -1)
    return (first, stop if stop >= 0 else None, step) if step else None


def _cast_of(view: Any, start: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Returns (offset, size, format, shape) of the bytes that a view lies in, row by row, and which of these rows are its own."""
    if not view.ndim:
        return (start, view.itemsize, view.format, ()), ()
    pitch = view.itemsize * math.prod(view.shape[1:])
    count, stride = view.shape[0], view.strides[0]
    step = stride // pitch if pitch and count > 1 else 1
    span = (count - 1) * abs(step) + 1 if count else int(view.ndim > 1)
    begin = start + min(0, (count - 1) * stride) if count else 0
    shape = (span, *view.shape[1:]) if view.ndim > 1 else None
    return (begin, span * pitch, view.format, shape), () if step == 1 and count else (None if count else 0, None if count else 0, step)


def _build_memoryview(loading: Any, owner: Any, cast: tuple[Any, ...] | None, rows: tuple[Any, ...], readonly: bool) -> Any:
    view: Any = memoryview(owner)
    if cast is not None:
        offset, size, format, shape = cast
        part = view.cast("B")[offset : offset + size]
        view = part.cast(format) if shape is None else part.cast(format, shape)
    if rows:
        view = view[slice(*rows)]
    return view.toreadonly() if readonly and not view.readonly else view


def _layout(view: Any) -> tuple[object, ...]:
    """Returns what two views of the same memory must have in common."""
    strides = tuple(stride for stride, count in zip(view.strides, view.shape, strict=True) if count > 1)
    return view.format, view.shape, view.readonly, (strides, view.suboffsets, _address_of(view)) if view.nbytes else None


def _address_of(view: Any) -> int:
    """Returns where the first element lies."""
    import ctypes

    pointer = ctypes.py_object(view)
    buffer = (ctypes.c_ssize_t * 16)()
    ctypes.pythonapi.PyObject_GetBuffer(pointer, buffer, _FULL_READ_ONLY)
    address = int(buffer[0])
    ctypes.pythonapi.PyBuffer_Release(buffer)
    return address


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {"builtins.memoryview": _reduce_memoryview}
BUILDERS: dict[str, Callable[..., Any]] = {
    "memoryview": lambda loading, owner, start, size, format: memoryview(owner)[start : start + size].cast("B").cast(format),
    "memoryview_of": _build_memoryview,
}
CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {"builtins.memoryview": lambda view: (view.obj,)}

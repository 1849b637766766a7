"""Results that are kept in memory, and handed out so that no caller can change what the next one gets.

An array is kept as it is, without a copy. It is handed out itself when nobody else holds it any more (its count of references says so), as a
copy when somebody does; either way its content is compared with what it was first. A view is made anew of the array that owns its memory.
Frames share their blocks by pandas' own copy on write. Everything else is kept pickled, and so are results whose parts share memory.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from dartvc.lineage.codekeys import Effects, Refused
from dartvc.lineage.contents import owner_of
from dartvc.lineage.frames import frame_attributes
from dartvc.model.records import NamedTuple
from dartvc.state.loading import LiveBuffers, Loading, Unloadable, load
from dartvc.state.saving import Refusal, Saving, note_identities, save
from dartvc.state.strings import is_supported as keeps_strings

__all__ = ["Frozen", "Holder", "Lost", "StoredValue", "exact_saving", "freeze", "keeps_array", "keeps_frame", "thaw"]

_IMMUTABLE = frozenset({type(None), bool, int, float, complex, str, bytes})
_VIEWED = 2
"""How many times as large as a view the array may be that is kept for it."""
_BUFFERS = "biufc"  # kinds whose memory Python's buffers describe
_ALONE = 2  # the holding's own reference, and getrefcount's argument


def keeps_array(value: Any) -> bool:
    """Whether a value is an array that is kept as it is."""
    kind = type(value)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy" or value.dtype.hasobject:
        return False
    return (value.flags.c_contiguous or value.flags.f_contiguous) and value.dtype.kind in "biufcmMSUV"


def keeps_frame(value: Any) -> bool:
    """Whether a value is a frame or column that is kept as it is: with nothing in it that can be changed but its own blocks."""
    kind = type(value)
    if kind.__name__ not in ("DataFrame", "Series") or kind.__module__.split(".")[0] != "pandas":
        return False
    if int(sys.modules["pandas"].__version__.split(".")[0]) < 3:
        return False
    dtypes = value.dtypes if kind.__name__ == "DataFrame" else [value.dtype]
    return not any(getattr(dtype, "hasobject", False) for dtype in dtypes) and not value.attrs and not frame_attributes(value)


class Lost(Exception):
    """A kept result was changed by somebody who had it, or cannot be made again."""


class Frozen(NamedTuple):
    """A pickled value: its stream, and its large buffers."""

    stream: bytes
    buffers: tuple[bytes | memoryview, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of both."""
        return len(self.stream) + sum(len(each) for each in self.buffers)


def exact_saving(values: dict[str, object], namespace: dict[str, Any], outside: Iterable[object] = ()) -> Saving:
    """Returns what values are to be pickled with, so that what the program pickles of them later is the same to the byte; see `note_identities`."""
    saving = Saving(namespace, "")
    saving.keeps_strings = keeps_strings()
    if saving.keeps_strings:
        note_identities(values, (namespace, *outside))
    return saving


def freeze(value: object, namespace: dict[str, Any]) -> Frozen:
    """Pickles a value, with copies of its buffers.

    Raises:
        Refused: it cannot be stored.
    """
    values: dict[str, object] = {"value": value}
    try:
        saved = save(values, exact_saving(values, namespace))
    except Refusal as refusal:
        raise Refused(f"its result cannot be stored: {refusal.reason}") from refusal
    return Frozen(saved.stream, tuple(bytes(each) for each in saved.buffers))


def thaw(frozen: Frozen, namespace: dict[str, Any]) -> Any:
    """Unpickles a value.

    Raises:
        Lost: it cannot be made here.
    """
    try:
        return load(frozen.stream, Loading(namespace, LiveBuffers([memoryview(each) for each in frozen.buffers])))["value"]
    except (Unloadable, KeyError) as error:
        raise Lost(str(error)) from error


class _Constant:
    def __init__(self, value: object) -> None:
        self._value = value

    def take(self, *, is_borrowed: bool = False) -> Any:
        return self._value


def _copy_of(array: Any) -> Any:
    """Returns a copy of an array that may be written where the array may be."""
    copy = array.copy(order="K")
    copy.flags.writeable = array.flags.writeable
    return copy


class _Array:
    def __init__(self, value: Any, digest: Callable[[Any], bytes]) -> None:
        self._value = value
        self._digest = digest
        self._expected = digest(value)

    def is_like(self, other: _Array) -> bool:
        """Whether both hold the same array, with the same content."""
        return self._value is other._value and self._expected == other._expected

    def take(self, *, is_borrowed: bool = False) -> Any:
        is_alone = sys.getrefcount(self._value) <= _ALONE
        if self._digest(self._value) != self._expected:
            raise Lost("its result was changed in place")
        return self._value if is_alone or is_borrowed else _copy_of(self._value)


class _View:
    """A view of an array that is kept: with the same strides, on which the last bits of what is computed from it may depend."""

    def __init__(self, owner: _Array, value: Any, address: int) -> None:
        self._owner = owner
        self._layout = value.shape, value.dtype
        self._offset = value.__array_interface__["data"][0] - address
        self._strides = value.strides
        self._is_writeable = value.flags.writeable

    def take(self, *, is_borrowed: bool = False) -> Any:
        owner = self._owner.take(is_borrowed=is_borrowed)
        view = sys.modules["numpy"].ndarray(*self._layout, owner, self._offset, self._strides)
        view.flags.writeable = self._is_writeable
        return view


class _Frame:
    def __init__(self, value: Any, digest: Callable[[Any], bytes]) -> None:
        self._value = value.copy(deep=False)
        self._digest = digest
        self._expected = digest(value)

    def take(self, *, is_borrowed: bool = False) -> Any:
        if self._digest(self._value) != self._expected:
            raise Lost("its result was changed in place")
        return self._value.copy(deep=False)


class _Sequence:
    def __init__(self, kind: Callable[[Any], Any], parts: list[Any]) -> None:
        self._kind = kind
        self._parts = parts

    def take(self, *, is_borrowed: bool = False) -> Any:
        return self._kind(part.take(is_borrowed=is_borrowed) for part in self._parts)


class _Copied:
    """A list or dict with nothing in it that could be changed."""

    def __init__(self, value: Any) -> None:
        self._value = value.copy()

    def take(self, *, is_borrowed: bool = False) -> Any:
        return self._value.copy()


class _Mapping:
    def __init__(self, keys: list[Any], parts: list[Any]) -> None:
        self._keys = keys
        self._parts = parts

    def take(self, *, is_borrowed: bool = False) -> Any:
        return {key: part.take(is_borrowed=is_borrowed) for key, part in zip(self._keys, self._parts, strict=True)}


class _Pickled:
    def __init__(self, frozen: Frozen, namespace: dict[str, Any]) -> None:
        self._frozen = frozen
        self._namespace = namespace

    def take(self, *, is_borrowed: bool = False) -> Any:
        return thaw(self._frozen, self._namespace)


class _Met:
    """What was met of one result: its objects, and what the memory of its arrays and of its frames belongs to. Frames may share theirs."""

    def __init__(self) -> None:
        self._objects: set[int] = set()
        self._of_arrays: set[int] = set()
        self._of_frames: set[int] = set()

    def is_new(self, value: Any) -> bool:
        """Whether neither an object nor its memory was met before; notes both.

        Raises:
            Refused: a frame shares memory with an array.
        """
        is_frame = keeps_frame(value)
        arrays = value._mgr.arrays if is_frame else (value,) if type(value).__module__.startswith("numpy") else ()
        owners = {id(owner_of(each)) for each in arrays}
        if not owners.isdisjoint(self._of_arrays if is_frame else self._of_frames):
            raise Refused("its result has a frame and an array that share memory")
        is_new = id(value) not in self._objects and (is_frame or owners.isdisjoint(self._of_arrays))
        self._objects.add(id(value))
        (self._of_frames if is_frame else self._of_arrays).update(owners)
        return is_new


class StoredValue:
    """The holding of a result that came from the repository."""

    def __init__(self, frozen: Frozen, namespace: dict[str, Any]) -> None:
        self._frozen = frozen
        self._namespace = namespace

    def take_all(self) -> tuple[Any, Any]:
        """Returns the value, and where the random streams stood after it."""
        value, streams_after = thaw(self._frozen, self._namespace)
        return value, streams_after

    def take(self, *, is_borrowed: bool = False) -> Any:
        """Returns the value."""
        return self.take_all()[0]


class Holder:
    """Makes holdings.

    Args:
        digest: the fingerprint of one result, alone.
        namespace: the program's globals, to which functions among the results belong.

    Attributes:
        let_go: is called with each array that is kept; whoever else of ours holds it lets go of it, so that it can be handed out itself.
    """

    def __init__(self, digest: Callable[[Any], bytes], namespace: dict[str, Any]) -> None:
        self._digest = digest
        self._namespace = namespace
        self._arrays: weakref.WeakValueDictionary[int, _Array] = weakref.WeakValueDictionary()  # kept once, for all that return them
        self.let_go: Callable[[Any], None] = lambda array: None

    def hold(self, value: Any) -> Any:
        """Returns a holding: ``take()`` gives an independent value, or raises `Lost`; one that is borrowed is only looked at.

        Raises:
            Refused: the value cannot be kept.
        """
        return self._hold(value, _Met()) or _Pickled(freeze(value, self._namespace), self._namespace)

    def pickled(self, frozen: Frozen) -> Any:
        """Returns the holding of a value that is pickled already."""
        return _Pickled(frozen, self._namespace)

    def _hold(self, value: Any, met: _Met) -> Any:
        kind = type(value)
        if kind in _IMMUTABLE:
            return _Constant(value)
        if not met.is_new(value):
            return None  # the same object twice, or the same memory: only pickle keeps them one
        if kind in (tuple, list, dict) and _IMMUTABLE.issuperset(map(type, itertools.chain(value, value.values() if kind is dict else ()))):
            return _Copied(value) if kind is not tuple else _Constant(value)
        is_named = issubclass(kind, tuple) and kind.__module__.startswith("numpy.linalg")
        if is_named or kind in (tuple, list, Effects):
            parts = [self._hold(each, met) for each in value]
            return _Sequence(kind._make if is_named else kind, parts) if all(part is not None for part in parts) else None
        if kind is dict:
            if not all(type(key) in _IMMUTABLE for key in value):
                return None
            parts = [self._hold(each, met) for each in value.values()]
            return _Mapping(list(value), parts) if all(part is not None for part in parts) else None
        if kind.__module__.startswith("numpy"):
            return self._hold_numpy(value)
        if kind.__module__.startswith("pandas"):
            return _Frame(value, self._digest) if keeps_frame(value) else None
        return None

    def _hold_numpy(self, value: Any) -> Any:
        numpy = sys.modules["numpy"]
        if isinstance(value, numpy.generic) and not value.dtype.hasobject and value.dtype.names is None:
            return _Constant(value)
        owner = owner_of(value)
        if owner is not value and keeps_array(owner) and owner.dtype.kind in _BUFFERS and owner.nbytes <= _VIEWED * value.nbytes:
            return _View(self._hold_array(owner), value, owner.__array_interface__["data"][0])
        if not keeps_array(value):
            return None
        return self._hold_array(value) if owner is value else _Array(_copy_of(value), self._digest)

    def _hold_array(self, value: Any) -> _Array:
        self.let_go(value)
        held, known = _Array(value, self._digest), self._arrays.get(id(value))
        if known is not None and known.is_like(held):
            return known
        self._arrays[id(value)] = held
        return held

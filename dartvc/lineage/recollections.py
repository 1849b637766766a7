"""Estimators that were walked once, and are believed to be the same while everything in them stands where it stood.

Walking a forest of forty trees takes milliseconds, and a search for ensemble weights asks for it a thousand times. So the first walk notes what it
passed: for each object the objects in it, for each array its header and the digest of its bytes, for a compiled part what pickle would store.
Later it is asked whether all that still holds, which is a comparison of identities; only bytes are read again. Whatever does not fit into these
kinds (the program's own objects, sets, frames) makes an estimator one that is walked each time.
"""

from __future__ import annotations

import itertools
import sys
import time
import types
import weakref
from collections.abc import Callable
from operator import is_
from typing import Any

from xxhash import xxh3_128

from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import LARGE_BYTES, Contents, feed_elements, hash_of
from dartvc.lineage.fingerprints import SCALARS, Fingerprint, find_handler
from dartvc.model.records import NamedTuple

__all__ = ["Recollections"]

_KEPT = 64
_SIZE_LIMIT_BYTES = 256 << 20
_DEPTH_LIMIT = 8
_PLAIN_KINDS = frozenset("biufcV")  # of which numpy gives out the memory as it is

_Shape = tuple[type, tuple[Any, ...], tuple[Any, ...]]
_Check = tuple[Callable[[Any, Any, Contents | None], bool], Any, Any]


class _Unsteady(Exception):
    """An estimator has a part whose sameness cannot be told without walking it."""


class Whole(NamedTuple):
    """What one walk over an estimator, by itself, came to; ``identities`` are in the order in which it met them, and valid while this lives."""

    digest: bytes
    identities: tuple[int, ...]
    owners: frozenset[int]
    size_bytes: int
    has_code: bool
    has_user_code: bool
    has_stream: bool
    definitions: list[Any]
    kept: list[object]


class _Known:
    """One estimator that was walked; nothing here holds it: it goes when the program lets go of it."""

    def __init__(self, reference: weakref.ref[Any]) -> None:
        self.reference = reference
        self.whole: Whole | None = None
        self.shape: _Shape | None = None
        self.checks: list[_Check] = []


class Recollections:
    """The estimators that were walked lately.

    Args:
        plans: what functions depend on.
        contents: knows large arrays without reading them.
    """

    def __init__(self, plans: Plans, contents: Contents) -> None:
        self._plans = plans
        self._contents = contents
        self._known: dict[int, _Known] = {}

    def whole(self, value: Any) -> Whole:
        """Returns what an estimator is known by.

        Fast path: the plain twin is a walk over the estimator; both give the same digest.

        Raises:
            Refused: it has no content that could be compared.
        """
        known = self._known.get(id(value))
        if known is not None and known.reference() is not value:
            known = None
        if known is not None and known.whole is not None and self._holds(known, value):
            return known.whole
        start = time.perf_counter()
        try:
            return self._learn(value, known)
        finally:
            self._contents.learning_s += time.perf_counter() - start

    def _learn(self, value: Any, known: _Known | None) -> Whole:
        """Walks an estimator, and at the second time notes what was passed."""
        if known is None:
            number = id(value)
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)), None)
            known = self._known[number] = _Known(weakref.ref(value, lambda gone: self._forget(number, gone)))
            recorder = _Recorder(self._plans, self._contents, is_recording=False)
            recorder.instance(value)
            return recorder.whole(value)
        recorder = _Recorder(self._plans, self._contents, is_recording=True)
        known.whole, known.shape, known.checks = None, _shape_of(value), []
        recorder.instance(value)
        whole = recorder.whole(value)
        is_steady = known.shape is not None and recorder.checks is not None and not whole.has_user_code and not whole.has_code
        if is_steady and whole.size_bytes <= _SIZE_LIMIT_BYTES:
            known.whole, known.checks = whole, recorder.checks or []
        return whole

    def _forget(self, number: int, reference: object) -> None:
        known = self._known.get(number)
        if known is not None and known.reference is reference:
            del self._known[number]

    def _holds(self, known: _Known, value: Any) -> bool:
        contents = self._contents
        try:
            return _is_same_instance(value, known.shape, contents) and all(
                check(part, expected, contents) for check, part, expected in known.checks
            )
        except Exception:
            return False  # then it is walked, and whatever is wrong comes out there


class _Recorder(Fingerprint):
    """A walk over one estimator that notes how to tell later whether it would come out the same."""

    takes_wholes = False

    def __init__(self, plans: Plans, contents: Contents, *, is_recording: bool) -> None:
        super().__init__(plans, contents)
        self.checks: list[_Check] | None = [] if is_recording else None
        self._is_inside = False

    def whole(self, root: Any) -> Whole:
        """Returns what the walk over an estimator came to."""
        kept = [each for each in self._kept if each is not root]
        return Whole(
            self.digest(), tuple(self.identities), frozenset(self.owners), self.size_bytes,
            self.has_code, self.has_user_code, self.has_stream, self.definitions, kept,
        )  # fmt: skip

    def add(self, value: Any) -> None:
        """Adds a value, and a check of it."""
        kind = type(value)
        if self.checks is None or self._is_inside or kind in SCALARS or id(value) in self.identities:
            super().add(value)
            return
        handler = find_handler(value)
        is_compiled = handler in (Fingerprint.reduced, Fingerprint.stream)
        try:
            check = _check_of(handler, value, self.contents)
        except _Unsteady:
            self.checks = None
        else:
            if check is not None:
                self.checks.append(check)
        self._is_inside = is_compiled
        super().add(value)
        if is_compiled:
            self._is_inside = False


def _check_of(handler: Any, value: Any, contents: Contents | None) -> _Check | None:
    """Returns how to tell whether an object is the same; None for what cannot change."""
    if handler is Fingerprint.list:
        if type(value) is list:
            return _is_same_list, value, tuple(value)
        if type(value) is set:
            raise _Unsteady
        return None
    if handler is Fingerprint.dict:
        return _is_same_dict, value, (tuple(value), tuple(value.values()))
    if handler in (Fingerprint.instance, Fingerprint.estimator):
        return _is_same_instance, value, _shape_of_instance(value)
    if handler is Fingerprint.array:
        if value.dtype.hasobject:
            return _is_same_boxes, value, (_header(value), tuple(value.ravel().tolist()))
        return _is_same_array, value, (_header(value), _bytes_digest(value, contents))
    if handler in (Fingerprint.reduced, Fingerprint.stream):
        return _is_same_reduction, value, _token(value)
    if handler in (Fingerprint.named, Fingerprint.type, Fingerprint.member) or _is_numpy_scalar(value):
        return None
    if handler is Fingerprint.function and not value.__closure__:
        return None  # has_code says whether it is the program's
    if handler is Fingerprint.builtin and (value.__self__ is None or isinstance(value.__self__, types.ModuleType | type)):
        return None
    raise _Unsteady


def _shape_of(value: Any) -> _Shape | None:
    try:
        return _shape_of_instance(value)
    except _Unsteady:
        return None


def _shape_of_instance(value: Any) -> _Shape:
    kind = type(value)
    if not hasattr(value, "__dict__") or any("__slots__" in vars(base) and vars(base)["__slots__"] for base in kind.__mro__):
        raise _Unsteady
    if issubclass(kind, dict | list | tuple | set | frozenset | str | int | float | bytes):
        raise _Unsteady
    return kind, tuple(vars(value)), tuple(vars(value).values())


def _are_same(values: Any, expected: tuple[Any, ...]) -> bool:
    return len(values) == len(expected) and all(map(is_, values, expected))


def _is_same_list(value: Any, expected: Any, contents: Contents | None) -> bool:
    return _are_same(value, expected)


def _is_same_dict(value: Any, expected: Any, contents: Contents | None) -> bool:
    return _are_same(value, expected[0]) and _are_same(value.values(), expected[1])


def _is_same_instance(value: Any, expected: Any, contents: Contents | None) -> bool:
    names = value.__dict__
    return type(value) is expected[0] and _are_same(names, expected[1]) and _are_same(names.values(), expected[2])


def _is_same_array(value: Any, expected: Any, contents: Contents | None) -> bool:
    return bool(_header(value) == expected[0]) and _bytes_digest(value, contents) == expected[1]


def _is_same_boxes(value: Any, expected: Any, contents: Contents | None) -> bool:
    return bool(_header(value) == expected[0]) and _are_same(value.ravel().tolist(), expected[1])


def _is_same_reduction(value: Any, expected: Any, contents: Contents | None) -> bool:
    return bool(_token(value) == expected)


def _header(values: Any) -> tuple[Any, ...]:
    return values.dtype, values.shape, values.strides, values.flags.writeable


def _bytes_digest(values: Any, contents: Contents | None) -> bytes:
    if values.nbytes < LARGE_BYTES or contents is None:
        return hash_of(values)
    return contents.digest(values, lambda: hash_of(values))


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject


def _token(value: Any) -> tuple[object, ...]:
    """Returns something equal for a compiled part as long as pickle would store the same of it.

    Raises:
        _Unsteady: it holds more than numbers, arrays and classes.
    """
    shape: list[object] = []
    hasher = xxh3_128()
    _describe(value, shape.append, hasher.update, sys.modules["numpy"].ndarray, _DEPTH_LIMIT)
    return (*shape, hasher.digest())


def _describe(value: Any, note: Callable[[object], None], feed: Callable[[Any], None], array: type, depth: int) -> None:
    """Notes what can be compared, and feeds the bytes of arrays."""
    kind = type(value)
    if kind in SCALARS:
        note(kind)
        note(repr(value) if kind is float or kind is complex else value)
    elif kind is array:
        if value.dtype.hasobject:
            raise _Unsteady
        note(_header(value))
        if value.flags.c_contiguous and value.dtype.kind in _PLAIN_KINDS:
            feed(value)
        else:
            feed_elements(value, feed)
    elif depth == 0:
        raise _Unsteady
    elif kind in (tuple, list, dict):
        note(kind)
        note(len(value))
        for each in itertools.chain(value, value.values()) if kind is dict else value:
            _describe(each, note, feed, array, depth - 1)
    elif isinstance(value, type) or kind in (types.BuiltinFunctionType, types.FunctionType) or kind.__name__ == "cython_function_or_method":
        note(value)
    elif isinstance(value, sys.modules["numpy"].generic):
        note(value.dtype)
        note(value.tobytes())
    else:
        reduction = value.__reduce_ex__(5)
        if type(reduction) is not tuple or any(each is not None for each in reduction[3:]):
            raise _Unsteady
        note(kind)
        _describe(reduction[:3], note, feed, array, depth - 1)

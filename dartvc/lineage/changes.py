"""Calls that change what they are given, answered by changing it in the same way: ``fit`` of an estimator, ``add_features(frame)``.

What such a call did is written down as the new contents of those objects that it changed (lists, dicts, arrays, frames, estimators, instances of
the program's classes), with all references to what was there before kept as references. Done again, the same objects get these contents:
whoever holds the scaler inside a pipeline sees it fitted. Arrays and frames stay out of the pickle, so that keeping them costs what keeping a
result costs. A call that changed anything else, or that keeps a view of an argument, is refused.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from opcode import opmap
from operator import is_not
from typing import Any

from dartvc.lineage.bindings import Bound
from dartvc.lineage.codekeys import Effects, Refused
from dartvc.lineage.contents import LARGE_BYTES
from dartvc.lineage.fingerprints import SCALARS, Fingerprint
from dartvc.lineage.holdings import exact_saving, keeps_array, keeps_frame
from dartvc.lineage.kinds import restores_itself
from dartvc.lineage.overlaps import is_tensor
from dartvc.model.records import NamedTuple
from dartvc.state.loading import LiveBuffers, Loading, StateUnpickler, restore_identities
from dartvc.state.saving import Saving, Sink, StatePickler

__all__ = ["Change", "is_estimator", "may_write"]

_OBJECTS_LIMIT = 2000
_WRITES = frozenset(opmap[name] for name in ("STORE_ATTR", "STORE_SUBSCR", "DELETE_ATTR", "DELETE_SUBSCR", "STORE_SLICE") if name in opmap)
_BINARY = opmap["BINARY_OP"]
_IN_PLACE = 13  # the first of its kinds: x += y


def may_write(code: types.CodeType) -> bool:
    """Whether code sets attributes or elements: of what it is given, perhaps."""
    steps = code.co_code
    return not _WRITES.isdisjoint(steps[::2]) or any(step == _BINARY and kind >= _IN_PLACE for step, kind in zip(steps[::2], steps[1::2], strict=True))


def is_estimator(value: object) -> bool:
    """Whether a value is one of scikit-learn's own estimators, all of whose state Python can see."""
    kind = type(value)
    return kind.__module__.split(".")[0] == "sklearn" and hasattr(kind, "get_params") and _has_plain_state(kind)


class _Plain:
    """What an object of the program's classes is in memory, as long as no base of its class is written in C."""


def _has_plain_state(kind: type) -> bool:
    """Whether the attributes of its objects are all of their state."""
    is_plain = kind.__basicsize__ <= _Plain.__basicsize__ and kind.__itemsize__ == 0 and kind.__dictoffset__ != 0
    return is_plain and all(getattr(kind, name) is getattr(object, name) for name in ("__reduce_ex__", "__reduce__"))


class _Role(NamedTuple):
    """How one kind of object is changed.

    Attributes:
        state: returns what to compare: a list or dict of references that are compared by identity, or anything else by equality.
        contents: returns what to keep of a changed object, given the object and its state.
        put: gives an object other contents.
    """

    state: Callable[[Any, Callable[[Any], bytes]], Any]
    contents: Callable[[Any, Any], Any]
    put: Callable[[Any, Any], None]


def _array_state(array: Any, digest: Callable[[Any], bytes]) -> Any:
    return (array.shape, array.strides, array.dtype, array.flags.writeable), digest(array)


def _put_list(old: list[Any], new: list[Any]) -> None:
    old[:] = new


def _put_dict(old: dict[Any, Any], new: dict[Any, Any]) -> None:
    old.clear()
    old.update(new)


def _put_array(old: Any, new: Any) -> None:
    sys.modules["numpy"].copyto(old, new)


def _frame_contents(frame: Any, state: Any) -> Any:
    if not keeps_frame(frame):
        raise Refused("it gives a frame what cannot be kept")
    return frame.copy(deep=False)


def _put_frame(old: Any, new: Any) -> None:
    old._update_inplace(new)
    old.attrs = new.attrs
    if hasattr(old, "_name"):
        old._name = new._name


_LIST = _Role(lambda value, digest: list(value), lambda value, state: state, _put_list)
_DICT = _Role(lambda value, digest: dict(value), lambda value, state: state, _put_dict)
_OBJECT = _Role(lambda value, digest: dict(vars(value)), lambda value, state: state, lambda old, new: _put_dict(vars(old), new))
_ARRAY = _Role(_array_state, lambda value, state: value.copy(order="K"), _put_array)
_FRAME = _Role(lambda value, digest: digest(value), _frame_contents, _put_frame)


class Change:
    """One call that may change what it is given.

    Args:
        subjects: the objects that it may change, with all that hangs on them.
        bystanders: what else it is given.
        is_own: whether a module is the program's.
        digest: the fingerprint of one value.
        namespace: the program's globals.

    Raises:
        Refused: too many objects hang on them.
    """

    def __init__(
        self, subjects: Iterable[Any], bystanders: Iterable[Any], is_own: Callable[[str], bool], digest: Callable[[Any], bytes],
        namespace: dict[str, Any],
    ) -> None:  # fmt: skip
        self._is_own = is_own
        self._digest = digest
        self._namespace = namespace
        self._olds: list[Any] = []
        self._roles: list[_Role] = []
        self._fixed: list[Any] = []
        self._numbers: dict[int, int] = {}
        for each in subjects:
            self._collect(each)
        for each in bystanders:
            self._add_fixed(each)

    def _collect(self, subject: Any) -> None:
        waiting = [subject]
        while waiting:
            value = waiting.pop()
            kind = type(value)
            if kind in SCALARS or isinstance(value, type):
                continue
            if kind is tuple:
                waiting += reversed(value)
                continue
            role = self._role_of(value)
            if role is None:
                self._add_fixed(value)
            elif self._is_new(value, len(self._olds)):
                self._olds.append(value)
                self._roles.append(role)
                waiting += reversed(_parts_of(vars(value) if role is _OBJECT else value)) if role not in (_ARRAY, _FRAME) else ()

    def _role_of(self, value: Any) -> _Role | None:
        kind = type(value)
        if kind is list:
            return _LIST
        if kind is dict:
            return _DICT
        if keeps_array(value):
            return _ARRAY
        if keeps_frame(value):
            return _FRAME
        return _OBJECT if is_estimator(value) or (self._is_own(kind.__module__) and _has_plain_state(kind)) else None

    def _add_fixed(self, value: Any) -> None:
        if self._is_new(value, -len(self._fixed) - 1):
            self._fixed.append(value)

    def _is_new(self, value: Any, number: int) -> bool:
        if len(self._numbers) >= _OBJECTS_LIMIT:
            raise Refused("it is given too many objects that it may change")
        return self._numbers.setdefault(id(value), number) == number

    def look(self) -> None:
        """Notes what the objects are, before the call."""
        self._before = [(type(each), role.state(each, self._digest)) for each, role in zip(self._olds, self._roles, strict=True)]
        self._expected = self._digest(self._fixed)

    def describe(self, result: Any, given: Fingerprint, *, bound: Bound | None = None) -> Any:
        """Returns what the call did since `look`, with what it returned, as `Effects`; the result alone where it did nothing.

        Args:
            result: what it returned.
            given: the walk over all that it was given; where some memory was given twice, what a write does depends on more than content.
            bound: what it bound beside its locals; None: that was not looked at.

        Raises:
            Refused: it cannot be done again.
        """
        if self._digest(self._fixed) != self._expected:
            raise Refused("it changes what cannot be changed again")
        changed = {}
        for number, (value, role, (kind, before)) in enumerate(zip(self._olds, self._roles, self._before, strict=True)):
            now = role.state(value, self._digest)
            if type(value) is not kind or (role is _ARRAY and now[0] != before[0]):
                raise Refused("it changes the class of an object, or the shape of an array")
            if not _is_same(before, now):
                if given.shares_memory and role in (_ARRAY, _FRAME):
                    raise Refused("it changes arguments that share memory")
                changed[number] = role.contents(value, now)
        parts = (result, *result) if type(result) is tuple else (result,)
        if not changed and not bound and self._numbers.keys().isdisjoint(map(id, parts)):
            return result
        values: dict[str, object] = {"changed": changed, "bound": bound, "result": result}
        sink = Sink()
        try:
            saving = exact_saving(values, self._namespace, (*self._olds, *self._fixed))
            pickler = saving.pickler = _Pickler(sink, saving, self._numbers, given, self._is_own)
            pickler.dump(values)
        except Refused:
            raise
        except Exception as error:
            raise Refused(f"what it did cannot be stored: {error}") from error
        if saving.foreign:
            raise Refused("what it did cannot be stored: it has large buffers of a library's own")
        return Effects((b"".join(sink.pieces), pickler.wholes, [bytes(each) for each in saving.buffers], bound is not None))

    def apply(self, effects: Effects) -> tuple[Any, Bound]:
        """Does again what a call like this one did; returns its result, and what it bound beside its locals.

        Raises:
            Refused: it cannot be loaded here; nothing was done.
        """
        stream, wholes, buffers, _ = effects
        loading = Loading(self._namespace, LiveBuffers([memoryview(each) for each in buffers]))
        try:
            names = _Unpickler(stream, loading, self._olds, self._fixed, wholes).load()
            restore_identities(names, (*self._olds, *self._fixed))
        except Exception as error:
            raise Refused(f"what it did cannot be loaded: {error}") from error
        for number, new in names["changed"].items():
            self._roles[number].put(self._olds[number], new)
        return names["result"], names["bound"] or {}


def _parts_of(value: Any) -> list[Any]:
    """Returns what is in a list or dict, unless that is scalars only."""
    parts = list(value) if type(value) is not dict else [*value, *value.values()]
    return [] if SCALARS.issuperset(map(type, parts)) else parts


def _is_same(before: Any, now: Any) -> bool:
    if type(now) is list:
        return len(before) == len(now) and not any(map(is_not, before, now))
    if type(now) is dict:
        return len(before) == len(now) and not any(map(is_not, before, now)) and not any(map(is_not, before.values(), now.values()))
    return bool(before == now)


class _Pickler(StatePickler):
    """Leaves out what was there before, and large arrays and frames.

    Attributes:
        wholes: these.
    """

    def __init__(self, sink: Sink, saving: Saving, numbers: dict[int, int], given: Fingerprint, is_own: Callable[[str], bool]) -> None:
        super().__init__(sink, saving)
        self.wholes: list[Any] = []
        self._places: dict[int, int] = {}
        self._numbers = numbers
        self._given = given
        self._is_own = is_own

    def persistent_id(self, value: Any) -> Any:
        """Returns the number of an object that was there before, or ``("whole", place)``."""
        number = self._numbers.get(id(value))
        if number is not None:
            return number
        numpy = sys.modules.get("numpy")
        kind: type = type(value)
        if restores_itself(kind, self._is_own):
            raise Refused(f"a {kind.__qualname__} says itself what is kept of it")
        if is_tensor(value) and self._given.has_memory_of(value):
            raise Refused("it keeps a view of what it was given")
        if numpy is not None and type(value) is numpy.ndarray:
            if self._given.has_memory_of(value):
                raise Refused("it keeps a view of what it was given")
            if value.nbytes < LARGE_BYTES or not keeps_array(value):
                return None
        elif not keeps_frame(value):
            return None
        place = self._places.setdefault(id(value), len(self.wholes))
        if place == len(self.wholes):
            self.wholes.append(value)
        return "whole", place


class _Unpickler(StateUnpickler):
    def __init__(self, stream: bytes, loading: Loading, olds: list[Any], fixed: list[Any], wholes: list[Any]) -> None:
        super().__init__(stream, loading)
        self._olds = olds
        self._fixed = fixed
        self._wholes = wholes

    def persistent_load(self, number: Any) -> Any:
        """Returns the object that was there before, or was left out."""
        if type(number) is tuple:
            return self._wholes[number[1]]
        return self._olds[number] if number >= 0 else self._fixed[-number - 1]

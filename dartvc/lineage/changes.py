"""Calls that change their object, answered by changing it in the same way: ``fit`` of scikit-learn's estimators.

What such a call did is written down as the new contents of every object that was there before (the estimator, those inside it, their lists and
dicts), with all references between them, and to the arguments, kept as references. Done again, the same objects get these contents: whoever
holds the scaler inside a pipeline sees it fitted. A call that wrote into anything else, or keeps a view of an argument, is refused.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterable
from typing import Any

from dartvc.lineage.codekeys import Refused, Unkept
from dartvc.lineage.contents import owner_of
from dartvc.lineage.fingerprints import Fingerprint

__all__ = ["Change", "is_estimator"]

_LEAVES = (type(None), bool, int, float, complex, str, bytes, type)
_OBJECTS_LIMIT = 2000


def is_estimator(value: object) -> bool:
    """Whether a value is one of scikit-learn's own estimators, all of whose state Python can see."""
    kind = type(value)
    return (
        kind.__module__.split(".")[0] == "sklearn"
        and hasattr(kind, "get_params")
        and kind.__reduce_ex__ is object.__reduce_ex__
        and hasattr(value, "__dict__")
    )


class Change:
    """One call that may change an estimator.

    Args:
        estimator: the object.
        arguments: what else the call is given.
        walker: an empty fingerprint, for what must not change.
    """

    def __init__(self, estimator: Any, arguments: Iterable[Any], walker: Fingerprint) -> None:
        self._olds: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._fixed: list[Any] = []
        self._collect(estimator)
        for each in arguments:
            self._add(each, self._fixed)
        self._expected = self._digest(walker)
        self._owners = walker.owners

    def _add(self, value: Any, group: list[Any]) -> bool:
        if id(value) in self._numbers:
            return False
        if len(self._olds) + len(self._fixed) >= _OBJECTS_LIMIT:
            raise Refused("it changes too many objects")
        self._numbers[id(value)] = -len(self._fixed) - 1 if group is self._fixed else len(self._olds)
        group.append(value)
        return True

    def _collect(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, _LEAVES) or callable(value):
            return
        if kind is tuple:
            for each in value:
                self._collect(each)
        elif is_estimator(value):
            if self._add(value, self._olds):
                for each in vars(value).values():
                    self._collect(each)
        elif kind in (list, dict):
            if self._add(value, self._olds):
                for each in value if kind is list else [*value, *value.values()]:
                    self._collect(each)
        else:
            self._add(value, self._fixed)

    def _digest(self, walker: Fingerprint) -> bytes:
        for each in self._fixed:
            walker.add(each)
        return walker.digest()

    def describe(self, result: Any, walker: Fingerprint) -> bytes | Unkept:
        """Returns what the call did and what it returned, as bytes; or why that cannot be done again."""
        try:
            if self._digest(walker) != self._expected:
                return Unkept("it changes its arguments")
            stream = io.BytesIO()
            _Pickler(stream, self._numbers, self._owners).dump(([_contents(each) for each in self._olds], result))
            return stream.getvalue()
        except Refused as refusal:
            return Unkept(refusal.reason)
        except Exception as error:
            return Unkept(f"what it did cannot be stored: {error}")

    def apply(self, described: bytes) -> Any:
        """Does again what a call like this one did; returns its result."""
        contents, result = _Unpickler(io.BytesIO(described), self._olds, self._fixed).load()
        for old, new in zip(self._olds, contents, strict=True):
            if type(old) is list:
                old[:] = new
            else:
                names = old if type(old) is dict else vars(old)
                names.clear()
                names.update(new)
        return result


def _contents(value: Any) -> Any:
    return list(value) if type(value) is list else dict(value) if type(value) is dict else dict(vars(value))


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, numbers: dict[int, int], owners: set[int]) -> None:
        super().__init__(stream, 5)
        self._numbers = numbers
        self._owners = owners

    def persistent_id(self, value: Any) -> int | None:
        """Returns the number of an object that was there before."""
        number = self._numbers.get(id(value))
        if number is None and type(value) is _ndarray() and id(owner_of(value)) in self._owners:
            raise Refused("it keeps a view of what it was given")
        return number


def _ndarray() -> Any:
    return sys.modules["numpy"].ndarray


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, olds: list[Any], fixed: list[Any]) -> None:
        super().__init__(stream)
        self._olds = olds
        self._fixed = fixed

    def persistent_load(self, number: int) -> Any:
        """Returns the object that was there before."""
        return self._olds[number] if number >= 0 else self._fixed[-number - 1]

"""What an input is known by: a digest of its content, 128 bits of xxh3.

The walk writes a tag before every value and a number for an object met a second time, so that aliasing inside the inputs counts. It refuses
what it does not know to the ground, rather than guess: a call with such an input is simply executed. No code of the user's classes runs.
On the way it notes the identity of every mutable object and of the memory behind arrays, from which follows whether a result is independent
of what the call was given.
"""

from __future__ import annotations

import enum
import functools
import itertools
import marshal
import sys
import types
from collections.abc import Callable
from typing import Any

from xxhash import xxh3_128

from dartvc.lineage.codekeys import Effects, Plans, Refused, TooMany, version_of_package
from dartvc.lineage.contents import MIDDLE_BYTES, Contents, feed_elements, hash_of, owner_of
from dartvc.lineage.deferring import Deferred, Transposed
from dartvc.lineage.frames import frame, index
from dartvc.lineage.kinds import (
    behind,
    check_definition,
    contents_of,
    described,
    hides_state,
    name_alone,
    numpy_scalar,
    partial,
    refused,
    restores_itself,
    slots_of,
    tensor,
    walk_of_instance,
)
from dartvc.lineage.overlaps import Extent, extent_of, is_tensor, overlap

__all__ = ["SCALARS", "Fingerprint", "find_handler"]

SCALARS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
_TRUSTED = frozenset(
    {"numpy", "scipy", "sklearn", "pandas", "torch", "statsmodels", "xgboost", "lightgbm", "networkx", "pyarrow", "polars"} | {"dateutil", "pytz"}
)
_STREAMS = frozenset({"RandomState", "Generator", "Random"})
_MARSHAL = 2
_DEPTH_LIMIT = 400
_SCALARS_AT_ONCE = 8


class Fingerprint:
    """One walk over some values.

    Args:
        plans: what functions depend on.
        contents: knows large arrays without reading them; None reads them.
        is_result: whether the values are a result.

    Attributes:
        has_code: whether a function or class of the program is among the values.
        has_stream: whether a random stream is among them, which a library's function may move.
        definitions: the program's functions and classes whose closures were walked.
        has_user_code: whether calling a method of one of the values may run the program's own code.
        identities: ids of the mutable objects that were met.
        owners: ids of the objects that own the memory of the arrays that were met.
        tensors: torch's, whose memory only its addresses tell.
        shares_memory: whether two arrays, or an array and a frame, have an owner in common; frames among themselves copy on write.
        size_bytes: about how much was walked.
        passed: how many objects were; eight scalars of one container count as one.
        limit: how many may be.
    """

    takes_wholes = True

    def __init__(self, plans: Plans, contents: Contents | None = None, *, is_result: bool = False) -> None:
        self.plans = plans
        self.contents = contents
        self.is_result = is_result
        self.identities: dict[int, int] = {}
        self.owners: set[int] = set()
        self.shares_memory = False
        self.tensors: list[Any] = []
        self._array_owners: set[int] = set()
        self._block_owners: set[int] = set()
        self._arrays: list[Any] = []
        self.size_bytes = 0
        self.has_code = self.has_user_code = self.has_stream = False
        self.definitions: list[Any] = []
        self.passed, self.limit = 0, sys.maxsize
        self._state = xxh3_128()
        self._kept: list[object] = []
        self._depth = 0

    def digest(self) -> bytes:
        """Returns the digest of everything added so far."""
        return self._state.digest()

    def is_apart_from(self, result: Fingerprint) -> bool:
        """Whether no mutable object and no memory of a result belongs to these values; frames may share blocks, which they copy on write."""
        mine, its = self.identities.keys(), result.identities.keys()
        if mine & its or self.owners & result.owners or mine & result.owners or self.owners & its or self._array_owners & result._block_owners:
            return False
        return not (self.tensors or result.tensors) or not overlap(self._extents(), result._extents())

    def has_memory_of(self, value: Any) -> bool:
        """Whether the memory of an array or tensor belongs to these values."""
        owner = id(owner_of(value))
        if owner in self.owners or owner in self.identities:
            return True
        return bool(self.tensors or is_tensor(value)) and overlap(self._extents(), [extent_of(value)])

    def close(self) -> None:
        """Notes, when all is added, whether arrays and tensors share memory, and where the arrays lie in it."""
        if self.tensors and not self.shares_memory:
            extents = sorted(self._extents())
            self.shares_memory = any(before[1] > after[0] for before, after in itertools.pairwise(extents))
        if not self.shares_memory:
            return
        self.note("shared memory")
        first: dict[int, int] = {}
        for each in self._arrays:
            low = extent_of(each)[0]
            self.note(str(low - first.setdefault(id(owner_of(each)), low)))

    def _extents(self) -> list[Extent]:
        return [extent_of(each) for each in (*self.tensors, *self._arrays)]

    def note(self, text: str) -> None:
        """Adds a word that is no value."""
        self._state.update(text.encode("utf-8", "surrogatepass"))
        self._state.update(b"\0")

    def add(self, value: Any) -> None:
        """Adds a value.

        Raises:
            Refused: something in it has no content that could be compared.
        """
        self._pass(1)
        kind = type(value)
        if kind in SCALARS:
            packed = marshal.dumps(value, _MARSHAL)
            self.size_bytes += len(packed)
            self._state.update(packed)
            if value != value:
                self._is_known(value)  # NaN: in lists, only the same one is equal to it
            return
        handler = _HANDLERS.get(kind) or _find_handler(kind, value)
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise Refused("an input is nested too deeply")
        try:
            handler(self, value)
        finally:
            self._depth -= 1

    def _pass(self, count: int) -> None:
        self.passed += count
        if self.passed > self.limit:
            raise TooMany("it reads too many objects")

    def _is_known(self, value: object) -> bool:
        number = self.identities.get(id(value))
        if number is not None:
            self._state.update(b"#%d;" % number)
            return True
        self.identities[id(value)] = len(self.identities)
        self._kept.append(value)
        return False

    def _items(self, values: Any) -> None:
        self._pass(len(values) // _SCALARS_AT_ONCE)
        if SCALARS.issuperset(map(type, values)):
            packed = marshal.dumps(values if type(values) in (list, tuple) else list(values), _MARSHAL)
            self.size_bytes += len(packed)
            self._state.update(packed)
            return
        self._state.update(b"%d:" % len(values))
        for each in values:
            self.add(each)

    def list(self, values: Any) -> None:
        """Adds a list, a tuple or a set, in the order of its iteration."""
        kind = type(values)
        if kind in (tuple, frozenset) or not self._is_known(values):
            self._state.update(b"[" if kind is list else b"(" if kind is tuple else b"{" if kind is set else b"<")
            self._items(values)

    def dict(self, values: Any) -> None:
        """Adds a dict, in its order."""
        if not self._is_known(values):
            self._state.update(b"d")
            self._items(list(values))
            self._items(list(values.values()))

    def array(self, values: Any) -> None:
        """Adds a numpy array: its type, its layout in memory (results of linear algebra depend on it in the last bits), its elements."""
        if self._is_known(values):
            return
        owner = self._own(values)
        self.shares_memory = self.shares_memory or owner in self.owners
        self._array_owners.add(owner)
        self._arrays.append(values)
        self.owners.add(owner)
        self.elements(values)

    def derived(self, values: Any) -> None:
        """Adds a masked array, a matrix and the like: the array, and what it has besides."""
        if self._is_known(values):
            return
        if self.is_result and getattr(values, "_hardmask", False):
            raise Refused("pickle does not keep that a mask is hard")
        self.note(f"V{type(values).__module__}.{type(values).__qualname__}")
        self.array(values.view(sys.modules["numpy"].ndarray))
        self.add(vars(values))

    def _own(self, values: Any) -> int:
        owner = owner_of(values)
        self._kept.append(owner)
        return id(owner)

    def elements(self, values: Any) -> None:
        """Adds the type, layout and elements of an array, whoever it belongs to."""
        numpy = sys.modules["numpy"]
        dtype = values.dtype
        strides = tuple(stride if count > 1 else 0 for stride, count in zip(values.strides, values.shape, strict=True))
        self.note(
            f"A{dtype.str if dtype.names is None else described(dtype)}{values.shape}{strides if values.size else ''}{values.flags.writeable}"
        )
        if dtype.hasobject or dtype.kind not in "biufcmMSUV":
            self._items(numpy.ravel(values).tolist())
            return
        self.size_bytes += values.nbytes
        if values.nbytes < MIDDLE_BYTES:
            feed_elements(values, self._state.update)
        elif self.contents is None:
            self._state.update(hash_of(values))
        else:
            self._state.update(self.contents.digest(values, lambda: hash_of(values)))

    def stack(self, values: Deferred) -> None:
        """Adds an array that was put off: its parts, in order, and which rows of them it is."""
        if not self._is_known(values):
            self.note(f"S{values.axis}")
            if values.rows is not None:
                self.array(values.rows)
            for part in values.parts:
                self.array(part)

    def transposed(self, values: Transposed) -> None:
        """Adds the transpose of a stack that was put off."""
        self.note("ST")
        self.stack(values.of)

    def function(self, value: Any) -> None:
        """Adds a function: the user's by its whole closure, a library's by its name."""
        self.has_code = self.has_code or bool(value.__closure__) or self.plans.is_user_module(value.__module__)
        if not self.plans.is_user_module(value.__module__):
            check_definition(value)
            self.note(f"f{value.__module__}.{value.__qualname__} {version_of_package(str(value.__module__).split('.')[0])}")
            if value.__closure__:
                self._cells(value)
            return
        if not self._is_known(value):
            self.plan_of(value)

    def _cells(self, function: Any) -> None:
        for cell in function.__closure__:
            try:
                content = cell.cell_contents
            except ValueError:
                self.note("empty")
            else:
                self.add(content)

    def plan_of(self, definition: Any, report: Callable[[str], None] | None = None) -> None:
        """Adds the closure of a user's function or class: its code, and the globals and cells that it reads, by content."""
        self.has_user_code = True
        self.definitions.append(definition)
        plan = self.plans.plan(definition)
        if plan.refusal:
            raise Refused(plan.refusal, is_final=True)
        self._state.update(plan.digest)
        for label, namespace, name in plan.data:
            self.note(label)
            self.add(namespace.get(name))
            if report is not None:
                report(label)
        for label, cell in plan.cells:
            self.note(label)
            try:
                content = cell.cell_contents
            except ValueError:
                self.note("empty")
                continue
            self.add(content)
            if report is not None:
                report(label)

    def method(self, value: Any) -> None:
        """Adds a bound method."""
        self.note("m")
        self.add(value.__func__)
        self.add(value.__self__)

    def builtin(self, value: Any) -> None:
        """Adds a function written in C, with the object that it is bound to."""
        check_definition(value)
        self.note(f"b{value.__module__}.{value.__qualname__}")
        owner = value.__self__
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            self.add(owner)

    def type(self, value: Any) -> None:
        """Adds a class: the user's by its code and attributes, a library's by its name."""
        if not self.plans.is_user_module(value.__module__):
            check_definition(value)
        else:
            self.has_code = True
        self.class_of(value)

    def class_of(self, value: Any) -> None:
        """Adds the class of an object."""
        if self.plans.is_user_module(value.__module__):
            if not self._is_known(value):
                self.note("c")
                self.plan_of(value)
        else:
            self.note(f"c{value.__module__}.{value.__qualname__} {version_of_package(value.__module__.split('.')[0])}")

    def module(self, value: Any) -> None:
        """Adds a library's module by its name and version."""
        if self.plans.is_user_module(value.__name__):
            raise Refused(f"the module {value.__name__} is an input")
        self.note(f"M{value.__name__} {version_of_package(value.__name__.split('.')[0])}")

    def named(self, value: Any) -> None:
        """Adds what a library knows by name: a ufunc, a dtype, a member of an enumeration."""
        self.note(f"n{type(value).__qualname__} {value!r}")

    def member(self, value: Any) -> None:
        """Adds a member of an enumeration."""
        self.class_of(type(value))
        self.note(value.name or repr(value))

    def instance(self, value: Any) -> None:
        """Adds an object: its class and its attributes as they are, past any ``__getstate__``."""
        if self._is_known(value):
            return
        kind: type = type(value)
        if hides_state(kind):
            raise Refused(f"a {kind.__qualname__} has state that cannot be seen")
        if self.is_result and restores_itself(kind, self.plans.is_user_module):
            raise Refused(f"a {kind.__qualname__} says itself what is kept of it")
        self.note("o")
        self.class_of(kind)
        for plain in contents_of(kind, value):
            self._kept.append(plain)
            self.add(plain)
        if hasattr(value, "__dict__"):
            names = vars(value)
            self._items(list(names))
            self._items(list(names.values()))
        for name in slots_of(kind):
            self.note(name)
            if hasattr(value, name):
                self.add(getattr(value, name))

    def estimator(self, value: Any) -> None:
        """Adds one of scikit-learn's estimators: what it is by itself, and which of its parts were met before."""
        whole_of = self.contents.whole_of if self.contents is not None and self.takes_wholes and not self.is_result else None
        if whole_of is None or id(value) in self.identities:
            self.instance(value)
            return
        whole = whole_of(value)
        self._kept.append(whole)
        self._state.update(whole.digest)
        if not self.identities.keys().isdisjoint(whole.identities):
            self.note(f"={[(self.identities.get(each), number) for number, each in enumerate(whole.identities) if each in self.identities]}")
        for each in whole.identities:
            self.identities.setdefault(each, len(self.identities))
        self.shares_memory = self.shares_memory or not self.owners.isdisjoint(whole.owners)
        self.owners |= whole.owners
        self.size_bytes += whole.size_bytes
        self.has_code |= whole.has_code
        self.has_user_code |= whole.has_user_code
        self.has_stream |= whole.has_stream
        self.definitions += whole.definitions

    def stream(self, value: Any) -> None:
        """Adds a random stream: where it stands."""
        self.has_stream = True
        self.reduced(value)

    def reduced(self, value: Any) -> None:
        """Adds a library's object by what pickle would store."""
        if self._is_known(value):
            return
        try:
            reduction = value.__reduce_ex__(5)
        except Exception as error:
            raise Refused(f"a {type(value).__qualname__} has no content that could be compared") from error
        self.note(f"r{type(value).__module__}.{type(value).__qualname__}")
        if isinstance(reduction, str):
            if self.plans.is_user_module(getattr(value, "__module__", None)):
                raise Refused(f"a {type(value).__qualname__} is known by its name alone")
            self.note(reduction)
            return
        function, arguments, *rest = reduction
        parts = (function, arguments, *[list(each) if index and each is not None else each for index, each in enumerate(rest[:3])])
        self._kept.append(parts)
        for part in parts:
            self._kept.append(part)
            self.add(part)


_HANDLERS: dict[type, Callable[[Fingerprint, Any], None]] = {
    list: Fingerprint.list,
    tuple: Fingerprint.list,
    set: Fingerprint.list,
    frozenset: Fingerprint.list,
    dict: Fingerprint.dict,
    types.FunctionType: Fingerprint.function,
    types.MethodType: Fingerprint.method,
    types.BuiltinFunctionType: Fingerprint.builtin,
    types.ModuleType: Fingerprint.module,
    **dict.fromkeys((staticmethod, classmethod), behind),
    functools.partial: partial,
    type: Fingerprint.type,
    range: Fingerprint.reduced,
    slice: Fingerprint.reduced,
    Deferred: Fingerprint.stack,
    Transposed: Fingerprint.transposed,
    Effects: Fingerprint.list,
    bytearray: Fingerprint.reduced,
}


def find_handler(value: Any) -> Callable[[Fingerprint, Any], None]:
    """Returns the method that adds a value."""
    return _HANDLERS.get(type(value)) or _find_handler(type(value), value)


def _find_handler(kind: type, value: Any) -> Callable[[Fingerprint, Any], None]:
    top, name = kind.__module__.split(".")[0], kind.__name__
    if name in _STREAMS:
        return Fingerprint.stream
    if name == "cython_function_or_method":
        return name_alone
    if issubclass(kind, type):
        return Fingerprint.type
    if issubclass(kind, enum.Enum):
        return Fingerprint.member
    if kind.__module__ == "__main__" or (top not in sys.stdlib_module_names and top not in _TRUSTED):
        return walk_of_instance(kind)
    handler = _handler_of_library(kind, top, name, value)
    _HANDLERS[kind] = handler
    return handler


def _handler_of_library(kind: type, top: str, name: str, value: Any) -> Callable[[Fingerprint, Any], None]:
    if issubclass(kind, BaseException) or top == "logging":
        return refused
    if top == "numpy":
        numpy = sys.modules["numpy"]
        if kind in (numpy.ndarray, numpy.memmap):
            return Fingerprint.array
        if issubclass(kind, numpy.ndarray):
            return Fingerprint.derived
        if issubclass(kind, numpy.generic):
            return numpy_scalar
        if isinstance(value, numpy.dtype) or name in ("ufunc", "_ArrayFunctionDispatcher"):
            return Fingerprint.named if name != "_ArrayFunctionDispatcher" else name_alone
    if top == "pandas":
        pandas = sys.modules["pandas"]
        if kind in (pandas.DataFrame, pandas.Series):
            return frame
        if issubclass(kind, pandas.Index):
            return index
    if top == "torch" and name in ("Tensor", "Parameter"):
        return tensor
    if (
        getattr(kind, "__reduce_ex__", None) is object.__reduce_ex__
        and getattr(kind, "__reduce__", None) is object.__reduce__
        and hasattr(value, "__dict__")
    ):
        return Fingerprint.estimator if top == "sklearn" and hasattr(kind, "get_params") else Fingerprint.instance
    return Fingerprint.reduced

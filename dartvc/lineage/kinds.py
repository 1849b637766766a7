"""How single kinds of objects are walked: small functions that `dartvc.lineage.fingerprints` hands a walk and a value."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

from dartvc.lineage.codekeys import Refused, version_of_package
from dartvc.lineage.forbidden import forbidden_definition

__all__ = [
    "behind",
    "check_definition",
    "contents_of",
    "described",
    "hides_state",
    "name_alone",
    "numpy_scalar",
    "partial",
    "refused",
    "restores_itself",
    "slots_of",
    "tensor",
    "walk_of_instance",
]

_CONTENTS: dict[type, Callable[[Any], Any]] = {
    dict: dict.copy,
    list: list.copy,
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes(bytes.__iter__(value)),
}
"""Classes written in C whose state is what they contain, and how to take it out past what a subclass may say."""
_POINTER_BYTES = object.__basicsize__ // 2
_MANAGED_WEAKREF, _MANAGED_DICT = 1 << 3, 1 << 4  # Py_TPFLAGS: kept in front of the object
_RESTORING = frozenset({"__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__"})


def check_definition(value: Any) -> None:
    """Looks what a library's function or class is that is handed on as a value.

    Raises:
        Refused: whoever calls it cannot be answered: a clock, a look at the file system.
    """
    refusal = forbidden_definition(value)
    if refusal:
        raise Refused(refusal)


def walk_of_instance(kind: type) -> Callable[[Any, Any], None]:
    """Returns how to walk an instance of a class that is not of a library known here: only when Python can see all of its state."""
    def walk(walker: Any, value: Any) -> None:
        for base in kind.__mro__:
            is_known = base is object or base in _CONTENTS or base.__module__.split(".")[0] in {"abc", "typing", "collections", "sklearn", "torch"}
            if not is_known and not walker.plans.is_user_module(base.__module__):
                raise Refused(f"a {kind.__qualname__} has no content that could be compared")
        walker.instance(value)

    return walk


def contents_of(kind: type, value: Any) -> list[Any]:
    """Returns what an object contains as one of the containers or scalars that its class derives from."""
    return [take(value) for base, take in _CONTENTS.items() if issubclass(kind, base)]


@functools.lru_cache(1024)
def hides_state(kind: type) -> bool:
    """Whether objects of a class have more state than attributes, slots, and what containers and scalars contain: that of a base in C."""
    base = next(each for each in kind.__mro__ if each is object or each in _CONTENTS)
    pointers = len(slots_of(kind))
    pointers += kind.__dictoffset__ != 0 and not kind.__flags__ & _MANAGED_DICT
    pointers += kind.__weakrefoffset__ != 0 and base.__weakrefoffset__ == 0 and not kind.__flags__ & _MANAGED_WEAKREF
    aligned = -(-base.__basicsize__ // _POINTER_BYTES) * _POINTER_BYTES
    return kind.__basicsize__ > aligned + pointers * _POINTER_BYTES


@functools.lru_cache(1024)
def restores_itself(kind: type, is_own: Callable[[str], bool]) -> bool:
    """Whether code of the program decides what pickle keeps of an object; ``is_own`` tells whether a module is the program's."""
    for base in kind.__mro__:
        for name in _RESTORING & vars(base).keys() if base is not object else ():
            method = vars(base)[name]
            if isinstance(method, types.FunctionType) and is_own(method.__module__):
                return True
    return False


@functools.lru_cache(256)
def described(dtype: Any) -> str:
    """Returns what a structured type is."""
    return repr(dtype)


@functools.lru_cache(1024)
def slots_of(kind: type) -> tuple[str, ...]:
    """Returns the names of a class's slots."""
    import copyreg

    if all("__slots__" not in vars(base) for base in kind.__mro__):
        return ()
    return tuple(copyreg._slotnames(kind))  # type: ignore[attr-defined]


def numpy_scalar(walker: Any, value: Any) -> None:
    """Adds a scalar of numpy's."""
    walker.note(f"s{value.dtype.str}")
    walker.add(value.tobytes())


def name_alone(walker: Any, value: Any) -> None:
    """Adds what a library knows by name, with the library's version."""
    check_definition(value)
    walker.note(f"n{value.__module__}.{value.__qualname__} {version_of_package(str(value.__module__).split('.')[0])}")


def behind(walker: Any, value: Any) -> None:
    """Adds a static or a class method by what is behind it."""
    walker.note(type(value).__name__)
    walker.add(value.__func__)


def tensor(walker: Any, values: Any) -> None:
    """Adds a torch tensor that no graph hangs on."""
    torch = sys.modules["torch"]
    if values.grad_fn is not None or values.grad is not None or values.layout is not torch.strided:
        raise Refused("a tensor belongs to a graph of gradients")
    if walker._is_known(values):
        return
    if values.device.type != "cpu":
        raise Refused("a tensor is not in this machine's memory")
    walker.note(f"T{values.dtype}{tuple(values.shape)}{values.stride()}{values.requires_grad}{values.is_inference()}{version_of_package('torch')}")
    plain = values.detach()
    walker.tensors.append(plain)
    walker.owners.add(plain.untyped_storage().data_ptr())
    if plain.numel():
        walker.size_bytes += plain.numel() * plain.element_size()
        walker._state.update(plain.contiguous().view(-1).view(torch.uint8).numpy())


def partial(walker: Any, value: Any) -> None:
    """Adds a `functools.partial`."""
    if not walker._is_known(value):
        walker.note("p")
        for each in (value.func, value.args, value.keywords):
            walker.add(each)


def refused(walker: Any, value: Any) -> None:
    """Refuses what has more state than pickle would store: the frames and causes of an exception, the handlers and levels behind a logger."""
    raise Refused(f"a {type(value).__qualname__} has state that cannot be seen")

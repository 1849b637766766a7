"""How single kinds of objects are walked: small functions that `dartvc.lineage.fingerprints` hands a walk and a value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dartvc.lineage.codekeys import Refused, version_of_package
from dartvc.lineage.forbidden import forbidden_definition

__all__ = ["behind", "check_definition", "described", "name_alone", "numpy_scalar", "partial", "slots_of", "walk_of_instance"]


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
    known = (object, dict, list, tuple, set, frozenset, str, int, float, bytes, Exception, BaseException)

    def walk(walker: Any, value: Any) -> None:
        for base in kind.__mro__:
            top = base.__module__.split(".")[0]
            if (
                not walker.plans.is_user_module(base.__module__)
                and base not in known
                and top not in {"abc", "typing", "collections", "sklearn"}
            ):
                if top == "torch" or top == "sklearn":
                    continue
                raise Refused(f"a {kind.__qualname__} has no content that could be compared")
        walker.instance(value)

    return walk


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


def partial(walker: Any, value: Any) -> None:
    """Adds a `functools.partial`."""
    if not walker._is_known(value):
        walker.note("p")
        for each in (value.func, value.args, value.keywords):
            walker.add(each)

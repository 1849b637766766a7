"""What is known of particular types: how to take them apart, how to build them again, what memory they share.

A module each for a library. Tables are keyed by a type's dotted name, so nothing is imported to look something up: an adapter's
functions run only when a value of its library is met. `REDUCERS` answers the pickler, `BUILDERS` the loader, `CHILDREN` the
aliasing walk (for types whose references the garbage collector cannot see, or should not follow), `UNCHANGING` names types that this walk passes
over because nothing can change their objects, `TRANSIENT` tells at the price of a look
whether a value stands in the middle of something, so that a run had better be committed a statement later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dartvc.state import classes, definitions, sets
from dartvc.state.adapters import arrays, buffers, coroutines, files, frames, guarded, loaders, pools, standard, tensors

__all__ = ["BUILDERS", "CHILDREN", "Reducer", "Revival", "find_children", "find_reducer", "is_unchanging", "reducers_by_type", "why_not_now"]

Reducer = Callable[[Any, Any], Any]
Revival = coroutines.Revival

_MODULES: tuple[Any, ...] = (classes, standard, sets, buffers, coroutines, files, pools, arrays, frames, tensors, loaders)

REDUCERS: dict[str, Reducer] = dict(definitions.REDUCERS)
BUILDERS: dict[str, Callable[..., Any]] = dict(definitions.BUILDERS)
CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = dict(definitions.CHILDREN)
TRANSIENT: dict[str, Callable[[Any], str]] = {}
UNCHANGING: frozenset[str] = arrays.UNCHANGING | frames.UNCHANGING
for _module in _MODULES:
    REDUCERS.update(_module.REDUCERS)
    BUILDERS.update(_module.BUILDERS)
    CHILDREN.update(getattr(_module, "CHILDREN", {}))
    TRANSIENT.update(getattr(_module, "TRANSIENT", {}))

_REDUCER_OF_TYPE: dict[type, Reducer | None] = {}
_CACHED_TYPES = 4096


def reducers_by_type() -> dict[type, Reducer | None]:
    """Returns the cache from type to reducer (None: pickle's own way); importable types only, so it keeps nobody alive."""
    return _REDUCER_OF_TYPE


def find_reducer(kind: type, main_name: str, met: set[type]) -> Reducer | None:
    """Returns the reducer for a type: its own, else that of the nearest base that has one.

    User classes are added to ``met`` when their own code takes part: what they pickle to has to be proven to load.
    """
    if tensors.is_parametrized_kind(kind):
        return tensors.reduce_parametrized
    found: Reducer | None = None

    def is_users(base: type) -> bool:
        return definitions.is_by_value(base, main_name)

    by_value = bool(kind.__flags__ & definitions.HEAP_TYPE) and is_users(kind) and not issubclass(kind, type)
    for base in kind.__mro__[:-1]:
        found = REDUCERS.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            break
    if issubclass(kind, type):
        found = classes.reduce_class
    if by_value:
        if found is not None or guarded.runs_code_at_load(kind, is_users):
            met.add(kind)
        if issubclass(kind, dict) and "items" in {name for base in kind.__mro__[:-1] if base is not dict for name in vars(base)}:
            return standard.reduce_dict_subclass
    if found is None and by_value and guarded.has_own_reduce(kind, is_users):
        return guarded.reduce_guarded
    if found is None and by_value and classes.makes_itself(kind, is_users):
        return classes.reduce_past_new
    if not by_value:
        if len(_REDUCER_OF_TYPE) >= _CACHED_TYPES:
            _REDUCER_OF_TYPE.clear()
        _REDUCER_OF_TYPE[kind] = found
    return found


def find_children(kind: type) -> Callable[[Any], Iterable[object]] | None:
    """Returns how to enumerate what an object of this type refers to, None where the garbage collector knows."""
    for base in kind.__mro__[:-1]:
        found = CHILDREN.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
    return None


def is_unchanging(kind: type) -> bool:
    """Whether nothing can change objects of this type, so that two names which share one share nothing."""
    return any(f"{base.__module__}.{base.__qualname__}" in UNCHANGING for base in kind.__mro__[:-1])


def why_not_now(value: object) -> str:
    """Returns why a value cannot be stored at this moment but will be soon; an empty string for nearly every value."""
    probe = TRANSIENT.get(f"{type(value).__module__}.{type(value).__qualname__}")
    return probe(value) if probe is not None else ""

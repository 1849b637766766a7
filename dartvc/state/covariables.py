"""Which names share mutable memory: co-variables (Li et al., "Kishu", VLDB 2024).

The walk follows references with the garbage collector's own traversal, level by level at C speed, and stops at what cannot be
changed through an alias (scalars, strings, importable classes and functions, modules). Array memory counts by its address, so a view and
its base meet even where no Python object is shared.
"""

from __future__ import annotations

import builtins
import gc
import types
from collections.abc import Iterable, Mapping
from typing import Any

from dartvc.state import adapters
from dartvc.state.definitions import code_names, home_of_globals, is_by_value

__all__ = ["ATOMIC_TYPES", "OPAQUE_ROOTS", "SHARED_FREELY", "Reach", "group_by_sharing", "reach"]

ATOMIC_TYPES = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice}
    | {types.ModuleType, types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType}
    | {types.ClassMethodDescriptorType, types.CodeType}
)
SHARED_FREELY = frozenset(
    {"datetime", "decimal", "fractions", "uuid", "pathlib", "re", "zoneinfo", "ipaddress", "numpy.dtypes", "_thread"}
)
OPAQUE_ROOTS = frozenset({"IPython", "ipykernel", "zmq", "traitlets", "dartvc", "tornado", "jupyter_client", "prompt_toolkit"})

_MANY = 64
_ATOMIC, _IMMUTABLE, _MUTABLE, _FUNCTION, _CLASS, _SPECIAL = range(6)


class Reach:
    """What can be reached from one value: identities of mutable objects and memory, and the names that its functions mention.

    ``guarded`` is memory that its holder never writes to while another has it too (copy on write): shared only with who has it bare.
    """

    __slots__ = ("global_names", "guarded", "identities")

    def __init__(self) -> None:
        self.identities: set[int] = set()
        self.guarded: set[int] = set()
        self.global_names: set[str] = set()


class _Kinds(dict[type, tuple[int, Any]]):
    """How to treat objects of a type; filled as types are met. One walk's worth: it must not keep the user's classes alive.

    ``user_classes`` are the classes of the program itself that were met for the first time: an object refers to its class even where
    the garbage collector does not say so.
    """

    def __init__(self, main_name: str) -> None:
        super().__init__()
        self.main_name = main_name
        self.user_classes: list[object] = []

    def __missing__(self, kind: type) -> tuple[int, Any]:
        found = self[kind] = _classify(kind, self.main_name)
        if found[0] in (_MUTABLE, _SPECIAL) and is_by_value(kind, self.main_name):
            self.user_classes.append(kind)
        return found


def _classify(kind: type, main_name: str) -> tuple[int, Any]:
    if kind in ATOMIC_TYPES:
        return _ATOMIC, None
    if kind is types.FunctionType:
        return _FUNCTION, None
    if issubclass(kind, type):
        return _CLASS, None
    if kind in (tuple, frozenset, types.CellType, types.MethodType, types.BuiltinFunctionType, property, classmethod, staticmethod):
        return (_MUTABLE if kind is types.CellType else _IMMUTABLE), None
    children = adapters.find_children(kind)
    if children is not None:
        return _SPECIAL, children
    module = kind.__module__
    root = module.partition(".")[0] if isinstance(module, str) else ""
    if module in SHARED_FREELY or root in SHARED_FREELY or root in OPAQUE_ROOTS:
        return _ATOMIC, None
    if adapters.is_unchanging(kind) and not is_by_value(kind, main_name):
        return _ATOMIC, None
    return _MUTABLE, None


def reach(value: object, namespace: Mapping[str, object], main_name: str) -> Reach:
    """Walks everything that ``value`` refers to."""
    found = Reach()
    kinds = _Kinds(main_name)
    seen = {id(namespace), id(vars(builtins))}
    level: list[Any] = [value]
    collecting = gc.isenabled()
    gc.disable()
    try:
        while level:
            expand: list[object] = []
            following: list[object] = []
            for item in _without_atoms(level):
                treatment, children = kinds[type(item)]
                if treatment == _ATOMIC:
                    continue
                identity = id(item)
                if identity in seen:
                    continue
                if treatment == _SPECIAL:
                    seen.add(identity)
                    found.identities.add(identity)
                    _take_special(children(item), found, following)
                elif treatment == _MUTABLE:
                    seen.add(identity)
                    found.identities.add(identity)
                    expand.append(item)
                elif treatment == _IMMUTABLE:
                    seen.add(identity)
                    expand.append(item)
                else:
                    seen.add(identity)
                    if is_by_value(item, main_name):
                        found.identities.add(identity)
                        following.extend(_parts_of_definition(item, found, namespace, main_name))
            if expand:
                following.extend(gc.get_referents(*expand))
            if kinds.user_classes:
                following.extend(kinds.user_classes)
                kinds.user_classes.clear()
            level = following
    finally:
        if collecting:
            gc.enable()
    return found


def _without_atoms(level: list[Any]) -> list[Any]:
    """Fast path: leaves out, at C speed where all are, what the walk would pass over one by one."""
    if len(level) < _MANY:
        return level
    if ATOMIC_TYPES.issuperset(map(type, level)):
        return []
    return [item for item in level if type(item) not in ATOMIC_TYPES]


def _take_special(children: Iterable[object], found: Reach, following: list[object]) -> None:
    for child in children:
        if type(child) is tuple and len(child) == 2 and child[0] in ("memory", "guarded"):
            (found.identities if child[0] == "memory" else found.guarded).add(-int(child[1]))
        else:
            following.append(child)


def _parts_of_definition(definition: Any, found: Reach, namespace: Mapping[str, object], main_name: str) -> list[object]:
    if isinstance(definition, types.FunctionType):
        found.global_names.update(code_names(definition.__code__))
        parts: list[object] = [definition.__dict__, *(definition.__closure__ or ())]
        parts.extend(definition.__defaults__ or ())
        parts.extend((definition.__kwdefaults__ or {}).values())
        if hasattr(definition, "__wrapped__"):
            parts.append(definition.__wrapped__)
        if home_of_globals(definition.__globals__, namespace, main_name) is None:
            parts.append(definition.__globals__)
        return parts
    return [*definition.__bases__, *(value for key, value in vars(definition).items() if key not in ("__dict__", "__weakref__"))]


def group_by_sharing(reaches: Mapping[str, Reach]) -> list[tuple[str, ...]]:
    """Groups names whose reaches overlap (union-find over identities), in the order of the mapping."""
    parent: dict[str, str] = {name: name for name in reaches}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    owner: dict[int, str] = {}
    largest = max(reaches, key=lambda name: len(reaches[name].identities), default="")
    for name, reached in reaches.items():
        if name == largest:
            continue
        for identity in reached.identities:
            first = owner.setdefault(identity, name)
            if first is not name:
                parent[root(name)] = root(first)
    if largest:  # intersected as a set, so that one huge value costs the small ones' size
        for identity in reaches[largest].identities & owner.keys():
            parent[root(owner[identity])] = root(largest)
    for name, reached in reaches.items():
        for identity in reached.guarded:
            if identity in owner:
                parent[root(name)] = root(owner[identity])
            if identity in reaches[largest].identities:
                parent[root(name)] = root(largest)
    groups: dict[str, list[str]] = {}
    for name in reaches:
        groups.setdefault(root(name), []).append(name)
    return [tuple(names) for names in groups.values()]

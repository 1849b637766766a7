"""Which names share mutable memory: co-variables (Li et al., "Kishu", VLDB 2024).

The walk follows references with the garbage collector's own traversal, level by level at C speed, and stops at what cannot be
changed through an alias (scalars, strings, importable classes and functions, modules). Array memory counts by its address, so a view and
its base meet even where no Python object is shared.
"""

from __future__ import annotations

import builtins
import gc
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dartvc.host.collector import CollectorPaused
from dartvc.state import adapters
from dartvc.state.definitions import code_names, home_of_globals, is_by_value
from dartvc.state.walking import Waiting, by_identity, by_references, not_seen

__all__ = ["ATOMIC_TYPES", "OPAQUE_ROOTS", "SHARED_FREELY", "group_by_sharing"]

ATOMIC_TYPES = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice}
    | {types.ModuleType, types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType}
    | {types.ClassMethodDescriptorType, types.CodeType}
)
SHARED_FREELY = frozenset(
    {"datetime", "decimal", "fractions", "uuid", "pathlib", "re", "zoneinfo", "ipaddress", "numpy.dtypes", "_thread"}
)
OPAQUE_ROOTS = frozenset({"IPython", "ipykernel", "zmq", "traitlets", "dartvc", "tornado", "jupyter_client", "prompt_toolkit"})

_NOBODY = ""
"""Who owns the namespaces where walks end."""
_ATOMIC, _IMMUTABLE, _MUTABLE, _DEFINITION, _SPECIAL = range(5)


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

    def are_all(self, objects: list[Any], treatment: int) -> bool:
        """Whether all objects are treated in one way, and none is of a class of the program's own that was not met before."""
        return all(self[kind][0] == treatment for kind in set(map(type, objects))) and not self.user_classes

    def those(self, objects: list[Any], *treatments: int) -> list[Any]:
        """Returns those of objects that are treated in these ways."""
        present = set(map(type, objects))
        wanted = {kind for kind in present if self[kind][0] in treatments}
        if len(wanted) == len(present):
            return objects
        return [each for each in objects if type(each) in wanted] if wanted else []


def _classify(kind: type, main_name: str) -> tuple[int, Any]:
    if kind in ATOMIC_TYPES:
        return _ATOMIC, None
    if kind is types.FunctionType or issubclass(kind, type):
        return _DEFINITION, None
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


def group_by_sharing(values: Mapping[str, object], namespace: Mapping[str, object], main_name: str) -> tuple[list[tuple[str, ...]], set[str]]:
    """Groups names whose values share mutable memory, in the order of the mapping; returns also the names that functions inside of them mention.

    Args:
        values: what the names refer to.
        namespace: the globals of the program, where walks end.
        main_name: of the program's module.
    """
    walk = _Walk(values, namespace, main_name)
    with CollectorPaused():
        for name, value in values.items():
            walk.follow(name, value)
    return walk.groups(), walk.global_names


class _Walk:
    """Walks everything that values refer to, each mutable object once: what a name finds walked already ties it to the name that came first.

    ``owner`` has the identities of mutable objects, and memory as the negative of its address. ``guarded`` is memory that its holder never
    writes to while another has it too (copy on write): shared only with who has it bare.
    """

    def __init__(self, names: Iterable[str], namespace: Mapping[str, object], main_name: str) -> None:
        self.global_names: set[str] = set()
        self._namespace = namespace
        self._main_name = main_name
        self._owner: dict[int, str] = {id(namespace): _NOBODY, id(vars(builtins)): _NOBODY}
        self._guarded: dict[int, list[str]] = {}
        self._kept: list[list[object]] = []  # parts that are made when they are asked for: another's identity must not be theirs
        self._parent = {name: name for name in names}

    def follow(self, name: str, value: object) -> None:
        """Walks one value."""
        kinds = _Kinds(self._main_name)
        seen: set[int] = set()  # what cannot be changed is walked for each name
        waiting = Waiting()
        waiting.add([value], False)
        for piece, is_inside in waiting:
            piece = _without_atoms(piece)
            alone, several = by_references(piece) if is_inside else ([], piece)
            if kinds.are_all(piece, _MUTABLE):  # fast path: rows, most of what programs have many of
                once = alone + self._claim(name, several)
                waiting.add(gc.get_referents(*once), True)
                continue
            once = kinds.those(alone, _MUTABLE, _IMMUTABLE) + self._claim(name, kinds.those(several, _MUTABLE))
            again = not_seen(seen, kinds.those(several, _IMMUTABLE))
            found = [each for item in by_identity(kinds.those(piece, _SPECIAL, _DEFINITION)).values() for each in self._parts(name, item, kinds)]
            found += gc.get_referents(*again)
            found += kinds.user_classes
            kinds.user_classes.clear()
            waiting.add(found, False)
            waiting.add(gc.get_referents(*once), True)

    def _claim(self, name: str, objects: list[Any]) -> list[Any]:
        """Returns those of mutable objects that were not met before, each once; ties the name to the names that met the others."""
        owner = self._owner
        identities = list(map(id, objects))
        met = owner.keys() & identities
        if met:
            for first in set(map(owner.__getitem__, met)):
                self._tie(name, first)
            fresh = [each for identity, each in zip(identities, objects, strict=True) if identity not in met]
            return self._claim(name, fresh) if fresh else fresh
        count = len(owner)
        owner.update(zip(identities, itertools.repeat(name)))
        return objects if len(owner) - count == len(objects) else list(by_identity(objects).values())

    def _parts(self, name: str, item: Any, kinds: _Kinds) -> Iterable[object]:
        """Returns what an object with children of its own kind, or a definition, refers to; nothing when it was met before."""
        treatment, children = kinds[type(item)]
        if (treatment == _DEFINITION and not is_by_value(item, self._main_name)) or not self._claim(name, [item]):
            return ()
        if treatment == _DEFINITION:
            return self._parts_of_definition(item)
        parts = list(self._special(name, children(item)))
        self._kept.append(parts)
        return parts

    def _special(self, name: str, children: Iterable[object]) -> Iterator[object]:
        for child in children:
            if type(child) is not tuple or len(child) != 2 or child[0] not in ("memory", "guarded"):
                yield child
            elif child[0] == "memory":
                self._tie(name, self._owner.setdefault(-int(child[1]), name))
            else:
                self._guarded.setdefault(-int(child[1]), []).append(name)

    def _parts_of_definition(self, definition: Any) -> list[object]:
        if isinstance(definition, types.FunctionType):
            self.global_names.update(code_names(definition.__code__))
            parts: list[object] = [definition.__dict__, *(definition.__closure__ or ())]
            parts.extend(definition.__defaults__ or ())
            parts.extend((definition.__kwdefaults__ or {}).values())
            if hasattr(definition, "__wrapped__"):
                parts.append(definition.__wrapped__)
            if home_of_globals(definition.__globals__, self._namespace, self._main_name) is None:
                parts.append(definition.__globals__)
            return parts
        return [*definition.__bases__, *(value for key, value in vars(definition).items() if key not in ("__dict__", "__weakref__"))]

    def _root(self, name: str) -> str:
        parent = self._parent
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def _tie(self, name: str, other: str) -> None:
        if other not in (name, _NOBODY):
            self._parent[self._root(name)] = self._root(other)

    def groups(self) -> list[tuple[str, ...]]:
        """Returns which names share something, after all were followed."""
        for identity, names in self._guarded.items():
            bare = self._owner.get(identity)
            for name in names if bare is not None else ():
                self._tie(name, bare or name)
        groups: dict[str, list[str]] = {}
        for name in self._parent:
            groups.setdefault(self._root(name), []).append(name)
        return [tuple(names) for names in groups.values()]


def _without_atoms(piece: list[Any]) -> list[Any]:
    """Leaves out what cannot be changed and refers to nothing, most often all of a piece."""
    if ATOMIC_TYPES.issuperset(map(type, piece)):
        return []
    return [each for each in piece if type(each) not in ATOMIC_TYPES]

"""What a function's behaviour depends on besides its arguments: its code, the code that it can reach, and the globals that these read.

The closure is found by walking names from code to code, in the user's own modules only; what a package defines is known by the package's
version. A `Plan` is the closure of one function, flattened: definitions whose identity is checked at each call, and data that is walked.
"""

from __future__ import annotations

import _abc  # type: ignore[import-not-found]
import builtins
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xxhash import xxh3_128

from dartvc.lineage.facts import Facts, read_facts
from dartvc.lineage.forbidden import forbidden_attribute, forbidden_definition
from dartvc.program.hanging import Hung

__all__ = ["Effects", "Plan", "Plans", "Refused", "TooMany", "version_of_package"]

_ABSENT = object()
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class to which attributes can be added
_CLASS_FURNITURE = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__annotations__", "_abc_impl", "__slotnames__"}
)
_MAIN = frozenset({"__main__", "__mp_main__"})
"""The names of the script: the second in processes that `multiprocessing` starts."""
_VERSIONS: dict[str, str] = {}


class Refused(Exception):
    """A call cannot be answered from the store; the reason says why, ``is_final`` that no call of this function ever can."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


class TooMany(Refused):
    """A walk was broken off."""


class Effects(tuple[Any, ...]):
    """What a call did to its arguments and to globals, and what it returned, as `dartvc.lineage.changes` writes it down.

    (stream, arrays and frames, buffers of the stream, whether globals are among what it may have changed).
    """

    __slots__ = ()

    @property
    def wholes(self) -> list[Any]:
        """The large arrays and frames that are not."""
        return self[1]  # type: ignore[no-any-return]

    @property
    def size_bytes(self) -> int:
        """Bytes of what is pickled."""
        return len(self[0]) + sum(map(len, self[2]))

    @property
    def binds(self) -> bool:
        """Whether globals are among what it may have changed."""
        return self[3]  # type: ignore[no-any-return]


def version_of_package(top: str) -> str:
    """Returns the version of an imported package: what stands for all of its code."""
    known = _VERSIONS.get(top)
    if known is None:
        known = str(getattr(sys.modules.get(top), "__version__", ""))
        if not known and top not in sys.stdlib_module_names:
            import importlib.metadata

            try:
                known = importlib.metadata.version(top)
            except importlib.metadata.PackageNotFoundError:
                known = ""
        _VERSIONS[top] = known
    return known


class Plan:
    """The closure of one function or class.

    Attributes:
        fixed: must still be bound as they were.
        data: is read anew at each call.
        classes: the user's, each as it was (`_shape_of`).
        owners: by label, what has names that the closure may bind: a module's namespace, a class, a function, a cell.
        stored: globals that it assigns; ``may_set``: whether it binds anything beyond its locals at all.
    """

    def __init__(self) -> None:
        self.digest = b""
        self.refusal = ""
        self.fixed: list[tuple[Mapping[str, Any], str, object]] = []
        self.data: list[tuple[str, Mapping[str, Any], str]] = []
        self.cells: list[tuple[str, types.CellType]] = []
        self.functions: list[types.FunctionType] = []
        self.classes: list[tuple[type, tuple[object, ...]]] = []
        self.owners: dict[str, Any] = {}
        self.stored: set[str] = set()
        self.may_set = False
        self.kept: list[object] = []
        self.hung_before = 0

    def holds(self) -> bool:
        """Whether every definition is still the one that the plan was made of."""
        for namespace, name, value in self.fixed:
            if namespace.get(name, _ABSENT) is not value:
                return False
        if any(_shape_of(cls) != shape for cls, shape in self.classes):
            return False
        return all(not function.__dict__ for function in self.functions)


def _shape_of(cls: type) -> tuple[object, ...]:
    """Returns what of a class has no place among the attributes that are compared one by one: how many there are, its bases, its names, its text."""
    return len(vars(cls)), cls.__mro__, cls.__name__, cls.__qualname__, vars(cls).get("__doc__")


class Plans:
    """The plans of one process.

    Args:
        is_user: whether a file is the user's own.
        plain: gives the code without instrumentation.
        hung: what the program hangs on classes of libraries; grows as modules are imported.

    Attributes:
        learning_s: what it took to make plans.
    """

    def __init__(
        self, is_user: Callable[[str], bool], plain: Callable[[types.CodeType], types.CodeType], hung: Sequence[Hung] = ()
    ) -> None:
        self.learning_s = 0.0
        self._is_user = is_user
        self.hung = hung
        self._plain = plain
        self._facts: dict[types.CodeType, Facts] = {}
        self._plans: dict[int, Plan] = {}
        self._are_user_modules: dict[str, bool] = {}
        self._namespaces: dict[str, dict[str, Any]] = {}
        self.originals: dict[types.FunctionType, types.CodeType] = {}

    def code_of(self, function: types.FunctionType) -> types.CodeType:
        """Returns the user's code of a function, whatever its ``__code__`` is at the moment."""
        return self._plain(self.originals.get(function, function.__code__))

    def facts(self, code: types.CodeType) -> Facts:
        """Returns what is known of a code object."""
        facts = self._facts.get(code)
        if facts is None:
            facts = self._facts[code] = read_facts(code)
        return facts

    def is_user_module(self, name: str | None) -> bool:
        """Whether a module is the user's own: its file lies in the project."""
        if name is None or name in _MAIN:
            return True
        known = self._are_user_modules.get(name)
        if known is None:
            module = sys.modules.get(name)
            file = getattr(module, "__file__", None)
            known = module is not None and file is not None and self._is_user(file)
            if module is not None:
                self._are_user_modules[name] = known
        return known

    def namespace_of(self, filename: str) -> dict[str, Any]:
        """Returns the globals of a file of the user's: those of the script, where no module is made of it."""
        found = self._namespaces.get(filename)
        if found is None:
            loaded = (each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == filename)
            found = self._namespaces[filename] = vars(next(loaded, sys.modules["__main__"]))
        return found

    def forget(self, function: types.FunctionType) -> None:
        """Lets a function go that is not used any more."""
        self._plans.pop(id(function), None)
        self.originals.pop(function, None)

    def plan(self, definition: types.FunctionType | type) -> Plan:
        """Returns the plan of a user's function or class, made anew when a definition in its closure was exchanged."""
        plan = self._plans.get(id(definition))
        if plan is None or plan.hung_before != len(self.hung) or not plan.holds():
            start = time.perf_counter()
            plan = self._plans[id(definition)] = _Planner(self).make(definition)
            self.learning_s += time.perf_counter() - start
        return plan


class _Planner:
    def __init__(self, plans: Plans) -> None:
        self.plans = plans
        self.plan = Plan()
        self.state = xxh3_128()
        self.seen: set[int] = set()
        self.pending: list[types.FunctionType | type] = []
        self.attributes: set[str] = set()
        self.modules: dict[str, types.ModuleType] = {}
        self.libraries: dict[str, Any] = {}
        self.set: set[str] = set()
        self.sets_any = False
        self.done: set[tuple[str, str]] = set()
        self.followed: set[tuple[str, str]] = set()

    def make(self, definition: types.FunctionType | type) -> Plan:
        self._push(definition)
        self.plan.hung_before = len(self.plans.hung)
        while self.pending and not self.plan.refusal:
            each = self.pending.pop(0)
            self._take_class(each) if isinstance(each, type) else self._take_function(each)
            if not self.pending:
                self._take_modules()
                self._take_libraries()
                self._take_hung()
        self._take_what_is_set()
        self.plan.fixed = list({(id(each[0]), each[1]): each for each in self.plan.fixed}.values())
        self.plan.may_set = bool(self.plan.stored or self.set or self.sets_any)
        self.plan.digest = self.state.digest()
        return self.plan

    def _push(self, definition: types.FunctionType | type) -> None:
        if id(definition) not in self.seen:
            self.seen.add(id(definition))
            self.plan.kept.append(definition)
            self.pending.append(definition)

    def _take_function(self, function: types.FunctionType) -> None:
        plan = self.plan
        facts = self.plans.facts(self.plans.code_of(function))
        if facts.refusal:
            plan.refusal = f"{function.__qualname__} {facts.refusal}"
            return
        self.state.update(facts.digest)
        self.attributes |= facts.attributes
        self.set |= facts.set
        self.sets_any = self.sets_any or facts.sets_any
        plan.stored |= facts.stored
        plan.owners[f"module {function.__globals__.get('__name__')}"] = function.__globals__
        plan.owners[f"function {function.__module__}.{function.__qualname__}"] = function
        for name in dict.fromkeys((*facts.names, *sorted(facts.stored))):
            self._take_name(function, function.__globals__, name)
        for name in sorted(facts.texts):
            if name in function.__globals__:
                self._take_name(function, function.__globals__, name)
            else:
                plan.fixed.append((function.__globals__, name, _ABSENT))
        for name in facts.imports:
            module = sys.modules.get(name)
            if module is None or self.plans.is_user_module(name):
                plan.refusal = f"{function.__qualname__} imports {name}"
            else:
                self.state.update(f"import {name} {version_of_package(name.split('.')[0])}".encode())
                self.libraries[name] = module
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            plan.cells.append((f"{function.__qualname__}:{name}", cell))
            plan.owners[f"cell {function.__module__}.{function.__qualname__}:{name}"] = cell
        if function.__defaults__ or function.__kwdefaults__:
            plan.data.append((f"defaults of {function.__qualname__}", _Defaults(function), ""))
        if function.__dict__:
            plan.data.append((f"attributes of {function.__qualname__}", _Attributes(function), ""))
        else:
            plan.functions.append(function)

    def _take_name(self, owner: types.FunctionType, namespace: dict[str, Any], name: str) -> None:
        value = namespace.get(name, _ABSENT)
        if name in ("getattr", "vars", "attrgetter"):
            self.attributes.add("__dict__")  # any attribute of a module may be meant
        if value is _ABSENT:
            self.plan.fixed.append((namespace, name, _ABSENT))
            namespace = vars(builtins)
            value = namespace.get(name, _ABSENT)
            if value is _ABSENT:
                self.plan.fixed.append((namespace, name, _ABSENT))
                return
        if isinstance(value, types.FunctionType | type | types.ModuleType | types.BuiltinFunctionType) or callable(value):
            self._take_definition(f"{owner.__qualname__}", namespace, name, value)
        else:
            self._take_data(name, namespace)

    def _take_data(self, name: str, namespace: Mapping[str, Any]) -> None:
        where = str(namespace.get("__name__", ""))
        if (where, name) not in self.done:
            self.done.add((where, name))
            self.plan.data.append((name if where in _MAIN else f"{where}.{name}", namespace, name))

    def _take_definition(self, owner: str, namespace: Mapping[str, Any], name: str, value: Any) -> None:
        refusal = forbidden_definition(value)
        if refusal:
            self.plan.refusal = self.plan.refusal or f"{owner} {refusal}"
        elif isinstance(value, types.FunctionType | type) and self.plans.is_user_module(value.__module__):
            self.plan.fixed.append((namespace, name, value))
            self.state.update(f"{name}=".encode())
            self._push(value)
        elif isinstance(value, types.ModuleType):
            self.plan.fixed.append((namespace, name, value))
            if self.plans.is_user_module(value.__name__):
                self.modules[value.__name__] = value
            else:
                self.libraries[value.__name__] = value
                self.state.update(f"{name}=module {value.__name__} {version_of_package(value.__name__.split('.')[0])};".encode())
        elif isinstance(value, types.FunctionType | type | types.BuiltinFunctionType) and getattr(value, "__self__", None) in (
            None,
            builtins,
        ):
            self.plan.fixed.append((namespace, name, value))
            module = str(value.__module__)
            if isinstance(value, type) and value.__flags__ & _HEAP_TYPE:
                self.libraries[f"{module}.{value.__qualname__}"] = value
            self.state.update(f"{name}={module}.{value.__qualname__} {version_of_package(module.split('.')[0])};".encode())
        else:
            self._take_data(name, namespace)

    def _take_class(self, cls: type) -> None:
        self.state.update(f"class {cls.__name__} {cls.__qualname__}{[base.__qualname__ for base in cls.__mro__]}{vars(cls).get('__doc__')!r}".encode())
        for base in (*cls.__mro__[1:], type(cls)):
            if self.plans.is_user_module(base.__module__):
                self._push(base)
            elif base is not object and base is not type:
                self.state.update(f"{base.__module__}.{base.__qualname__} {version_of_package(base.__module__.split('.')[0])}".encode())
        self.plan.classes.append((cls, _shape_of(cls)))
        self.plan.owners[f"class {cls.__module__}.{cls.__qualname__}"] = cls
        names: Any = vars(cls)
        for name, value in names.items():
            if name in _CLASS_FURNITURE or isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
                continue
            for each in _functions_in(value):
                self._take_exchangeable(cls.__qualname__, names, name, value, each)
            if not _functions_in(value):
                self.plan.data.append((f"{cls.__qualname__}.{name}", names, name))
        if "_abc_impl" in names:
            self.plan.data.append((f"classes registered with {cls.__qualname__}", _Registered(cls), ""))

    def _take_modules(self) -> None:
        """Takes what the closure reads of the user's modules by attribute, which may be further modules."""
        if self.modules and self.attributes & {"__dict__", "__getattribute__"}:
            self.plan.refusal = "reads a module's names in a way that cannot be followed"
        waiting = list(self.modules)
        for module_name in waiting:
            self._take_module(module_name, vars(self.modules[module_name]))
            waiting += [name for name in self.modules if name not in waiting]

    def _take_module(self, module_name: str, names: dict[str, Any]) -> None:
        self.plan.owners[f"module {module_name}"] = names
        for name in sorted((self.attributes | self.set) & names.keys() | (names.keys() if self.sets_any else set())):
            value = names[name]
            if (module_name, name) in self.followed or (name.startswith("__") and name.endswith("__") and name not in self.attributes):
                continue
            refusal = forbidden_attribute(module_name, name)
            if refusal:
                self.plan.refusal = refusal
            elif callable(value) or isinstance(value, types.ModuleType):
                self.followed.add((module_name, name))
                self._take_definition(module_name, names, name, value)
            else:
                self._take_data(name, names)

    def _take_libraries(self) -> None:
        """Takes what the closure reads of libraries by attribute, since the program may have exchanged it."""
        waiting = list(self.libraries)
        for label in waiting:
            owner = self.libraries[label]
            names = vars(owner)
            for name in sorted(self.attributes & names.keys()):
                value = names[name]
                if isinstance(value, types.ModuleType):
                    if value.__name__ == f"{label}.{name}":
                        self.libraries[value.__name__] = value
                        waiting += [value.__name__] if value.__name__ not in waiting else []
                elif (label, name) not in self.followed:
                    self.followed.add((label, name))
                    if isinstance(owner, types.ModuleType):
                        self.plan.refusal = self.plan.refusal or forbidden_attribute(label, name)
                    self._take_exchangeable(label, names, name, value, value)

    def _take_hung(self) -> None:
        """Takes what the program hangs on classes of libraries: whoever has an instance may reach it."""
        for hung in self.plans.hung[: self.plan.hung_before]:
            names = self.plans.namespace_of(hung.filename)
            root, *path = hung.place.split(".") if hung.place else (hung.definition,)
            owner = names.get(root, _ABSENT)
            if (hung.filename, hung.place or hung.definition) in self.followed or (hung.definition and hung.name not in self.attributes):
                continue
            self.followed.add((hung.filename, hung.place or hung.definition))
            if hung.definition:
                self._take_exchangeable(hung.filename, names, root, owner, owner)
                continue
            self.plan.fixed.append((names, root, owner))
            for each in path[:-1]:
                owner = getattr(owner, "__dict__", {}).get(each, _ABSENT)
            if isinstance(owner, type) and not self.plans.is_user_module(owner.__module__):
                value = vars(owner).get(hung.name, _ABSENT)
                self._take_exchangeable(hung.place, vars(owner), hung.name, value, value)

    def _take_exchangeable(self, owner: str, names: Mapping[str, Any], name: str, value: Any, definition: Any) -> None:
        """Takes a definition that hangs on a class or a library's module.

        Args:
            definition: what is behind ``value``.
        """
        self.plan.fixed.append((names, name, value))
        if isinstance(definition, types.FunctionType | type) and self.plans.is_user_module(definition.__module__):
            self.state.update(f"{name}=".encode())
            self._push(definition)
        elif callable(definition):
            refusal = forbidden_definition(definition)
            self.plan.refusal = self.plan.refusal or (f"{owner} {refusal}" if refusal else "")
            self.state.update(f"{name}={getattr(definition, '__module__', '')}.{getattr(definition, '__qualname__', '')};".encode())
        elif isinstance(definition, bool | int | float | str):
            self.state.update(f"{name}={definition!r};".encode())
        elif not isinstance(definition, types.ModuleType):
            self.state.update(f"{name} is a {type(definition).__qualname__};".encode())

    def _take_what_is_set(self) -> None:
        """Takes what the closure may set in libraries."""
        for label, owner in self.libraries.items() if self.set else ():
            self.plan.owners[f"library {label}"] = owner
            names = vars(owner)
            for name in sorted(self.set):
                if callable(names.get(name, None)) or name not in names:
                    self.plan.fixed.append((names, name, names.get(name, _ABSENT)))
                else:
                    self.plan.data.append((f"{label}.{name}", names, name))
        for module in self.modules.values():
            for name in self.set - vars(module).keys():
                self.plan.fixed.append((vars(module), name, _ABSENT))


def _functions_in(value: Any) -> list[Any]:
    if isinstance(value, types.FunctionType):
        return [value]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__] if isinstance(value.__func__, types.FunctionType) else []
    if isinstance(value, property):
        return [each for each in (value.fget, value.fset, value.fdel) if isinstance(each, types.FunctionType)]
    return []


class _Defaults(dict[str, Any]):
    """The default arguments of a function, read when asked."""

    def __init__(self, function: types.FunctionType) -> None:
        super().__init__()
        self._function = function

    def get(self, key: str, default: Any = None) -> Any:
        return (self._function.__defaults__, self._function.__kwdefaults__)


class _Attributes(dict[str, Any]):
    """The attributes of a function, read when asked."""

    def __init__(self, function: types.FunctionType) -> None:
        super().__init__()
        self._function = function

    def get(self, key: str, default: Any = None) -> Any:
        return self._function.__dict__


class _Registered(dict[str, Any]):
    """The classes that were registered with an abstract one, read when asked."""

    def __init__(self, cls: type) -> None:
        super().__init__()
        self._cls = cls

    def get(self, key: str, default: Any = None) -> Any:
        alive = [reference() for reference in _abc._get_dump(self._cls)[0]]
        return sorted((each for each in alive if each is not None), key=lambda each: (each.__module__, each.__qualname__))

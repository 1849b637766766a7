"""Classes by value: taken apart into what they are made from, and made again in steps that end every circle.

A class may lead to its own instances: through a list that it keeps, a singleton, a variable that one of its methods closes over. An instance is made
from its class, and a bound method looked up in it. So a class first gets its methods, and only then what else it has, and what its methods hold.
What C defines is stored by the name under which a module has it, which need not be its own.
"""

from __future__ import annotations

import abc
import copyreg
import enum
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from dartvc.state.definitions import function_state, interned, is_by_value, is_importable
from dartvc.state.rebuild import door

if TYPE_CHECKING:
    from dartvc.state.saving import Reduction, Saving

__all__ = ["BUILDERS", "REDUCERS", "makes_itself", "reduce_class", "reduce_past_new"]

_CLASS_ATTRIBUTES_MADE_ANEW = frozenset(
    {"__dict__", "__weakref__", "_abc_impl", "__module__", "__qualname__", "__slots__", "__orig_bases__", "__slotnames__"}
)
_SET_BY_MAKING = ("__doc__", "__abstractmethods__")
"""Attributes that making a class sets before the others: stored first, so that a class made again is stored in the same order."""
_STAYING = frozenset({*_SET_BY_MAKING, "__module__", "__qualname__"})
_WRAPPED = ("func", "__wrapped__")
"""Where descriptors keep the function that they stand for: `functools.cached_property`, `functools.lru_cache`, decorators in their manner."""
_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented)})


class _Step:
    """A call that is made while a class's state is loaded, before what stands behind it."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments


def _reduce_step(step: _Step, saving: Saving) -> Reduction:
    return door(step.name), step.arguments


class _FunctionStep:
    """Gives a function that was stored without it what it holds."""

    __slots__ = ("function",)

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function


def _reduce_function_step(step: _FunctionStep, saving: Saving) -> Reduction:
    return door("function_state"), (step.function, function_state(step.function))


def reduce_class(cls: Any, saving: Saving) -> Reduction:
    """Takes a class apart, or leaves an importable one to pickle."""
    if cls is type(None) or cls is type(Ellipsis) or cls is type(NotImplemented):
        return NotImplemented
    if not is_by_value(cls, saving.main_name):
        return saving.by_name(cls) if is_importable(cls) else _reduce_class_of_c(cls, saving)
    if isinstance(cls, enum.EnumMeta):
        return _reduce_enum(cls)
    if type(cls).__name__ == "PyCArrayType":
        return door("ctypes_array_type"), (cls._type_, cls._length_)
    attributes: dict[str, object] = {key: vars(cls)[key] for key in _SET_BY_MAKING if key in vars(cls)}
    for key, value in vars(cls).items():
        if key in _CLASS_ATTRIBUTES_MADE_ANEW or isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            continue
        if key == "_fields_" or type(value).__name__ == "CField":
            continue
        attributes[key] = value
    first: dict[str, object] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    for key in ("__slots__", "__orig_bases__", "_fields_"):
        if key in vars(cls):
            slots = vars(cls)[key]
            first[key] = tuple(slots) if key == "__slots__" and not isinstance(slots, str | tuple) else slots
    registered: tuple[type, ...] = ()
    if isinstance(cls, abc.ABCMeta):
        references = cast(Any, abc)._get_dump(cls)[0] if hasattr(abc, "_get_dump") else ()
        registered = tuple(sorted((kept for kept in (reference() for reference in references) if kept), key=lambda kept: kept.__qualname__))
    metaclass = None if type(cls) is type(cls.__bases__[0]) else type(cls)
    arguments = (metaclass, cls.__name__, cls.__bases__, first)
    steps = _steps_of(cls, attributes, saving)
    if steps:
        return door("class_"), arguments, (steps, attributes, registered), None, None, door("class_state_in_steps")
    return door("class_"), arguments, (attributes, registered), None, None, door("class_state")


def _steps_of(cls: type, attributes: Mapping[str, object], saving: Saving) -> tuple[_Step | _FunctionStep, ...]:
    """Returns what is done before a class's attributes are loaded, in order: it gets its methods, its other descriptors, and its methods what they hold."""
    methods, others, late = {}, {}, []
    leads_on = False
    for key, value in attributes.items():
        is_plain, functions = _functions_in(value)
        late += [each for each in functions if id(each) not in saving.whole_functions and not _is_closed(each, cls, saving.main_name)]
        if is_plain or key in _SET_BY_MAKING:
            methods[key] = value
        elif type(value) not in _ATOMS:
            leads_on = True
            if hasattr(type(value), "__get__"):
                others[key] = value
    if not late and not (leads_on and methods):
        return ()
    saving.bare_functions.update(map(id, late))
    steps: list[_Step | _FunctionStep] = [_Step("class_state", cls, (each, ())) for each in (methods, others) if each]
    return (*steps, *map(_FunctionStep, dict.fromkeys(late)))


def _functions_in(value: object) -> tuple[bool, list[types.FunctionType]]:
    """Returns the functions of a method or another descriptor, and whether it consists of nothing else."""
    parts: list[object] = [value]
    if type(value) in (staticmethod, classmethod):
        parts = [cast(Any, value).__func__]
    elif type(value) is property:
        parts = [each for each in (value.fget, value.fset, value.fdel) if each is not None]
    elif hasattr(type(value), "__get__") and type(value) is not types.FunctionType:
        parts = [value, *(inspect.getattr_static(value, name, None) for name in _WRAPPED)]
    functions = [each for each in parts if type(each) is types.FunctionType]
    return len(functions) == len(parts), functions


def _is_closed(function: types.FunctionType, cls: type, main_name: str) -> bool:
    """Whether what is stored of a method leads nowhere but to its own class."""
    if not is_by_value(function, main_name):
        return True
    held: list[object] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *function.__annotations__.values()]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:
            continue
    return not function.__dict__ and all(
        each is cls or type(each) in _ATOMS or (isinstance(each, type) and not is_by_value(each, main_name)) for each in held
    )


def _reduce_class_of_c(cls: type, saving: Saving) -> Reduction:
    found = _public_name(cls, saving.namespace)
    if found is None:
        raise saving.refuse(cls, f"the class {cls.__module__}.{cls.__qualname__} of a C library is in no module that could be imported")
    return door("imported"), found


def _public_name(cls: type, namespace: Mapping[str, object]) -> tuple[str, str] | None:
    """Returns (module, name) where a class is found: in `types` or another module of Python's before any other, in a public one before a private one."""

    def rank(name: str) -> tuple[bool, bool, str]:
        root = name.partition(".")[0]
        return root not in sys.stdlib_module_names, any(each.startswith("_") for each in name.split(".")), name

    for key in types.__all__:
        if getattr(types, key) is cls:
            return "types", key
    kept = [name for name, module in list(sys.modules.items()) if module is not None and name != "__main__" and not name.startswith("dartvc.")]
    for name in sorted(kept, key=rank):
        names = getattr(sys.modules[name], "__dict__", None)
        if type(names) is not dict or names is namespace:
            continue
        found = next((key for key, value in list(names.items()) if value is cls and type(key) is str and key.isidentifier()), None)
        if found is not None:
            return name, found
    return None


def makes_itself(kind: type, is_users: Callable[[type], bool]) -> bool:
    """Whether a class of the user's has a ``__new__`` that loading an instance would run again, with what it counts, registers or refuses."""
    mine = [vars(base) for base in kind.__mro__[:-1] if is_users(base)]
    return any("__new__" in each for each in mine) and not any("__getnewargs__" in each or "__getnewargs_ex__" in each for each in mine)


def reduce_past_new(value: Any, saving: Saving) -> Reduction:
    """Takes an object apart as pickle does; it is made by the ``__new__`` of the library or of C that the user's own one leads to."""
    from dartvc.state.saving import reduce_plainly

    reduction = reduce_plainly(value, saving)
    if reduction is NotImplemented:
        reduction = saving.keep(value.__reduce_ex__(5))
    if not isinstance(reduction, tuple) or reduction[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return reduction
    return saving.keep((door("object_past_new"), *reduction[1:]))


def _build_past_new(loading: Any, kind: type, *given: object) -> object:
    return _own_way(kind, "__new__", loading.namespace.get("__name__", "__main__"))(kind, *given)


def _reduce_enum(cls: Any) -> Reduction:
    members = {name: member._value_ for name, member in cls.__members__.items()}
    made = set(members) | {"_member_names_", "_member_map_", "_value2member_map_", "_unhashable_values_", "_hashable_values_"}
    made |= {"_unhashable_values_map_", "_use_args_", "_member_type_", "_value_repr_", "_new_member_", "__new_member__", "__new__"}
    made |= {"_flag_mask_", "_singles_mask_", "_all_bits_", "_boundary_", "_inverted_", "_generate_next_value_"}
    attributes = {
        key: value
        for key, value in vars(cls).items()
        if key not in made
        and key not in _CLASS_ATTRIBUTES_MADE_ANEW
        and not isinstance(value, types.DynamicClassAttribute | enum.property)
        and key not in vars(enum.Enum) | vars(enum.Flag)
    }
    arguments = (type(cls), cls.__name__, cls.__bases__, {"__module__": cls.__module__, "__qualname__": cls.__qualname__}, members)
    return door("enum"), arguments, (attributes, ()), None, None, door("class_state")


def _build_class(loading: Any, metaclass: Any, name: str, bases: tuple[type, ...], first: dict[str, Any]) -> type:
    maker = metaclass or type(bases[0])
    main_name = loading.namespace.get("__name__", "__main__")
    with _without_subclass_hooks(bases, main_name):
        return cast(type, _own_way(maker, "__new__", main_name)(maker, sys.intern(name), bases, interned(first)))


def _own_way(kind: type, name: str, main_name: object) -> Any:
    """Returns a method of a class as it was before the program's own classes had a say: what theirs did, was done when the class was made."""
    for base in kind.__mro__:
        if name in vars(base) and base.__module__ not in ("__main__", main_name):
            return getattr(base, name)
    raise AttributeError(name)


@contextmanager
def _without_subclass_hooks(bases: tuple[type, ...], main_name: object) -> Iterator[None]:
    """While it lasts, the program's own ``__init_subclass__`` methods do nothing."""
    mine = dict.fromkeys(base for each in bases for base in each.__mro__ if base.__module__ in ("__main__", main_name))
    hooks = {base: vars(base)["__init_subclass__"] for base in mine if "__init_subclass__" in vars(base)}
    for base in hooks:
        type.__setattr__(base, "__init_subclass__", classmethod(lambda cls, **named: None))
    try:
        yield
    finally:
        for base, hook in hooks.items():
            type.__setattr__(base, "__init_subclass__", hook)


def _set_class_state(loading: Any, cls: Any, state: tuple[dict[str, Any], tuple[type, ...]]) -> None:
    attributes, registered = state
    assign = type.__setattr__ if isinstance(cls, enum.EnumMeta) else _own_way(type(cls), "__setattr__", loading.namespace.get("__name__"))
    for key, value in attributes.items():
        if key in vars(cls) and key not in _STAYING and not isinstance(cls, enum.EnumMeta):
            type.__delattr__(cls, key)  # set by its making (``typing.Generic``): it comes where it stood
        assign(cls, key, value)
    for each in registered:
        cls.register(each)


def _set_class_state_in_steps(loading: Any, cls: Any, state: tuple[object, dict[str, Any], tuple[type, ...]]) -> None:
    """Sets what is left, and all in its order: the steps were done when they were loaded."""
    _set_class_state(loading, cls, state[1:])


def _build_enum(loading: Any, metaclass: Any, name: str, bases: tuple[type, ...], first: dict[str, Any], members: dict[str, Any]) -> type:
    names = metaclass.__prepare__(name, bases)
    for key, value in (*interned(first).items(), *members.items()):
        names[sys.intern(key)] = value
    return cast(type, metaclass.__new__(metaclass, sys.intern(name), bases, names))


REDUCERS: dict[str, Callable[[Any, Saving], Reduction]] = {
    "builtins.type": reduce_class,
    f"{_Step.__module__}.{_Step.__qualname__}": _reduce_step,
    f"{_FunctionStep.__module__}.{_FunctionStep.__qualname__}": _reduce_function_step,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "class_": _build_class,
    "class_state": _set_class_state,
    "class_state_in_steps": _set_class_state_in_steps,
    "ctypes_array_type": lambda loading, kind, length: kind * length,
    "enum": _build_enum,
    "object_past_new": _build_past_new,
}

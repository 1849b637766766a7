"""Functions and classes by value: those of ``__main__``, of a notebook, nested ones, lambdas.

Pickle stores functions and classes as a name to import, which fails for all that a user defines at the prompt. Here they are taken
apart and built again, with three things kept that matter to a living namespace: functions come back bound to the *living*
globals, closure cells that were shared stay shared, and a class keeps its identity among its instances, methods and subclasses.
What importable modules define is left to pickle.
"""

from __future__ import annotations

import builtins
import dataclasses
import linecache
import marshal
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from dartvc.state.forbidden import is_forbidden
from dartvc.state.rebuild import door
from dartvc.state.strings import with_interned_keys

if TYPE_CHECKING:
    from dartvc.state.saving import Reduction, Saving

__all__ = [
    "BUILDERS", "CHILDREN", "HEAP_TYPE", "REDUCERS", "code_names", "function_state", "home_of_globals", "interned", "is_by_value", "is_importable", "is_made_in_c",
    "reduce_expression", "reduce_function",
]  # fmt: skip

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time; the interpreter's own nameless types are not
_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE: never of a class statement
_METHODS_OF_C = (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType)
_MARSHAL_VERSION = 2  # without back references: equal code gives equal bytes whatever its reference counts are


def is_by_value(definition: Any, main_name: str) -> bool:
    """Whether a function or class has to be stored by value because no import brings it back; an empty main name counts the main module too."""
    module_name = getattr(definition, "__module__", None)
    if module_name is None or (main_name and module_name in ("__main__", main_name)):
        return True
    return not is_importable(definition) and not is_made_in_c(definition)


def is_importable(definition: Any) -> bool:
    """Whether a function or class is found in its module under its own name."""
    found: object = sys.modules.get(definition.__module__)
    for part in definition.__qualname__.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            return False
    return found is definition


def is_made_in_c(definition: object) -> bool:
    """Whether a class is C's: its methods, if it has any, are no functions that could be stored."""
    if not isinstance(definition, type):
        return False
    if not definition.__flags__ & HEAP_TYPE or definition.__flags__ & _IMMUTABLE_TYPE:
        return True
    return any(type(value) in _METHODS_OF_C and value.__objclass__ is definition for value in vars(definition).values())


def code_names(code: types.CodeType) -> Iterator[str]:
    """Yields the global and attribute names that a code object and the code nested in it mention."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_names(constant)


def reduce_function(function: Any, saving: Saving) -> Reduction:
    """Takes a function apart, or leaves an importable one to pickle."""
    if not is_by_value(function, saving.main_name):
        return saving.by_name(function)
    code = _written_code(function.__code__, saving)
    saving.global_names.update(_known_code(code)[2])
    cells = function.__closure__ or ()
    saving.function_cells.update(id(cell) for cell in cells)
    arguments = (_known_code(code)[1], _globals_of(function.__globals__, saving), function.__name__, cells)
    if id(function) in saving.bare_functions:
        return door("function"), arguments
    saving.whole_functions.add(id(function))
    return door("function"), arguments, function_state(function), None, None, door("function_state")


def function_state(function: Any) -> tuple[dict[str, object], tuple[tuple[types.CellType, object], ...]]:
    """Returns what a function holds beside its code: attributes, and the contents of its cells."""
    contents = []
    for cell in function.__closure__ or ():
        try:
            contents.append((cell, cell.cell_contents))
        except ValueError:
            continue
    attributes = {
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": function.__annotations__,
        "__dict__": dict(function.__dict__),
    }
    parameters = getattr(function, "__type_params__", ())
    if parameters:
        attributes["__type_params__"] = parameters
    return attributes, tuple(contents)


def reduce_expression(generator: Any, saving: Saving) -> Reduction:
    """Takes a generator expression apart into its code and the iterator that it has still to ask.

    Raises:
        ValueError: it is more than that.
    """
    iterator, cells = saving.generators.take_apart_expression(generator)  # type: ignore[union-attr]
    code = _written_code(generator.gi_code, saving)
    saving.global_names.update(_known_code(code)[2])
    names = _globals_of(generator.gi_frame.f_globals, saving)
    closure = tuple(cells[name] for name in code.co_freevars)
    return door("generator_expression"), (_known_code(code)[1], names, generator.__qualname__, closure, iterator)


def home_of_globals(names: dict[str, Any], namespace: Mapping[str, object], main_name: str) -> str | None:
    """Returns whose a function's globals are: a module's name, an empty one for the program's namespace, None for a dict of their own."""
    if names is namespace:
        return ""
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is not None and module.__dict__ is names:
        return name
    return "" if name in ("__main__", main_name) else None


def _globals_of(names: dict[str, Any], saving: Saving) -> object:
    """Returns what stands for a function's globals: the living namespace, a module's, or the dict itself.

    Pickle writes the dict itself once, before its items: whoever holds it still does, and a function in it finds it there.
    """
    home = home_of_globals(names, saving.namespace, saving.main_name)
    if home is None:
        return names
    return (home,) if home else door("namespace")


def _reduce_spec(spec: Any, saving: Saving) -> Reduction:
    """Tells that the dict of the builtins is being written out: what holds it (an `exec`'s globals) gets the builtins of the restore."""
    if spec is builtins.__spec__ and not saving.knows_builtins:
        raise saving.meet_builtins()
    return NotImplemented


_KNOWN_CODES: dict[int, tuple[weakref.ReferenceType[types.CodeType], tuple[bytes, int, str, str], frozenset[str]]] = {}
_KNOWN_CODES_LIMIT = 4096


def _known_code(code: types.CodeType) -> tuple[weakref.ReferenceType[types.CodeType], tuple[bytes, int, str, str], frozenset[str]]:
    """Returns what is stored of a code object and the names that it mentions; a code object never changes, so that is worked out once."""
    known = _KNOWN_CODES.get(id(code))
    if known is None or known[0]() is not code:
        if len(_KNOWN_CODES) >= _KNOWN_CODES_LIMIT:
            _KNOWN_CODES.clear()
        known = _KNOWN_CODES[id(code)] = (weakref.ref(code), _reduced_code(code), frozenset(code_names(code)))
    return known


def _reduced_code(code: types.CodeType) -> tuple[bytes, int, str, str]:
    """Returns a code object as (marshalled bytes, Python's hex version, file name, source lines when no file has them)."""
    source = ""
    if not os.path.exists(code.co_filename):
        lines: Any = linecache.cache.get(code.co_filename)
        if lines is not None and len(lines) == 4:
            first = code.co_firstlineno - 1
            last = max((line for _, _, line in code.co_lines() if line is not None), default=first + 1)
            source = "".join(lines[2][first:last])
    return marshal.dumps(code, _MARSHAL_VERSION), sys.hexversion >> 16, code.co_filename, source


def reduce_code(code: types.CodeType, saving: Saving) -> Reduction:
    """Takes a bare code object apart."""
    return door("code"), _known_code(_written_code(code, saving))[1]


def _written_code(code: types.CodeType, saving: Saving) -> types.CodeType:
    """Returns what the user wrote where code is watched and has the same cells."""
    plain = saving.plain_code(code) if saving.plain_code is not None else code
    return plain if plain.co_freevars == code.co_freevars else code


def reduce_cell(cell: types.CellType, saving: Saving) -> Reduction:
    """Takes a closure cell apart; the contents of a function's cells travel with the function's state, so that cycles end."""
    if id(cell) in saving.function_cells:
        return door("cell"), ()
    try:
        return door("cell"), (), (cell.cell_contents,), None, None, door("cell_state")
    except ValueError:
        return door("cell"), ()


def reduce_module(module: types.ModuleType, saving: Saving) -> Reduction:
    """Stores a module as its name; the program's own main module comes back as the living one."""
    if module.__dict__ is saving.namespace:
        return door("main_module"), ()
    if sys.modules.get(module.__name__) is not module:
        raise saving.refuse(module, f"module {module.__name__!r} cannot be imported again")
    return door("module"), (module.__name__,)


def _reduce_property(value: Any, saving: Saving) -> Reduction:
    return property, (value.fget, value.fset, value.fdel, value.__doc__)


def _reduce_wrapper(value: Any, saving: Saving) -> Reduction:
    return type(value), (value.__func__,)


def _reduce_mappingproxy(value: types.MappingProxyType[Any, Any], saving: Saving) -> Reduction:
    import gc

    return door("mappingproxy"), (gc.get_referents(value)[0],)


def _reduce_view(value: Any, saving: Saving) -> Reduction:
    import gc

    return door("dict_view"), (gc.get_referents(value)[0], type(value).__name__.removeprefix("dict_").removeprefix("odict_"))


def _reduce_lru_cache(value: Any, saving: Saving) -> Reduction:
    from dartvc.state.caches import contents_of, is_library_s

    if is_by_value(value, saving.main_name):
        parameters = value.cache_parameters()
        made: Any = door("lru_cache"), (value.__wrapped__, parameters["maxsize"], parameters["typed"])
    elif is_library_s(value):
        return NotImplemented
    else:
        made = door("imported"), (value.__module__, value.__qualname__)
    if id(value) in saving.emptied:
        saving.notes.append(f"what {value.__qualname__} has cached cannot be stored: it comes back empty")
        return made
    contents = contents_of(value)
    if contents is None:
        return made
    saving.caches[id(value)] = contents
    return *made, contents, None, None, door("lru_cache_state")


def _cache_parts(value: Any) -> Iterable[object]:
    from dartvc.state.caches import parts_of

    return parts_of(value)


def _reduce_missing(value: Any, saving: Saving) -> Reduction:
    for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY", "_FIELD", "_FIELD_CLASSVAR", "_FIELD_INITVAR"):
        if getattr(dataclasses, name, None) is value:
            return door("dataclass_sentinel"), (name,)
    return NotImplemented


REDUCERS: dict[str, Callable[[Any, Saving], Reduction]] = {
    "builtins.function": reduce_function,
    "builtins.code": reduce_code,
    "builtins.cell": reduce_cell,
    "builtins.module": reduce_module,
    "_frozen_importlib.ModuleSpec": _reduce_spec,
    "builtins.property": _reduce_property,
    "builtins.classmethod": _reduce_wrapper,
    "builtins.staticmethod": _reduce_wrapper,
    "builtins.mappingproxy": _reduce_mappingproxy,
    "builtins.dict_keys": _reduce_view,
    "builtins.dict_values": _reduce_view,
    "builtins.dict_items": _reduce_view,
    "functools._lru_cache_wrapper": _reduce_lru_cache,
    "dataclasses._MISSING_TYPE": _reduce_missing,
    "dataclasses._KW_ONLY_TYPE": _reduce_missing,
    "dataclasses._HAS_DEFAULT_FACTORY_CLASS": _reduce_missing,
    "dataclasses._FIELD_BASE": _reduce_missing,
}


def _build_code(loading: Any, marshalled: bytes, version: int, filename: str, source: str) -> types.CodeType:
    if version != sys.hexversion >> 16:
        made = f"{version >> 8}.{version & 0xFF}"
        raise loading.refuse(f"its code was compiled by Python {made}, this is {sys.version_info.major}.{sys.version_info.minor}")
    code = marshal.loads(marshalled)
    present = loading.located(filename)
    if present != filename:
        filename, code = present, _moved(code, present)
    if source and filename not in linecache.cache:
        lines = ["\n"] * (code.co_firstlineno - 1) + source.splitlines(keepends=True)
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
    return cast(types.CodeType, code)


def _moved(code: types.CodeType, filename: str) -> types.CodeType:
    """Returns a code object, and those inside it, as code of another file."""
    constants = tuple(_moved(each, filename) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=filename, co_consts=constants)


def _build_function(loading: Any, code: tuple[bytes, int, str, str], names: Any, name: str, cells: tuple[Any, ...]) -> types.FunctionType:
    if isinstance(names, tuple):
        names = __import__(names[0], fromlist=["_"]).__dict__
    elif names is not loading.namespace:
        names.setdefault("__builtins__", __builtins__)
    return types.FunctionType(_build_code(loading, *code), names, sys.intern(name), None, cells)


def _build_expression(loading: Any, code: Any, names: Any, qualname: str, cells: tuple[Any, ...], iterator: Any) -> Any:
    made = _build_function(loading, code, names, "<genexpr>", cells)(iterator)
    made.__qualname__ = sys.intern(qualname)
    return made


_NAMES = frozenset({"__name__", "__qualname__", "__module__"})


def interned(attributes: dict[str, Any]) -> dict[str, Any]:
    """Gives names the one object that the compiler gives them: what is pickled later has the same memo references."""
    named = {key: sys.intern(value) if key in _NAMES and type(value) is str else value for key, value in attributes.items()}
    return with_interned_keys(named)


def _set_function_state(loading: Any, function: Any, state: tuple[dict[str, Any], tuple[tuple[Any, Any], ...]]) -> None:
    attributes, contents = state
    function.__dict__.update(attributes.pop("__dict__"))
    for key, value in interned(attributes).items():
        setattr(function, key, value)
    for cell, value in contents:
        cell.cell_contents = value


def _set_cell_state(loading: Any, cell: Any, state: tuple[Any]) -> None:
    cell.cell_contents = state[0]


def _build_module(loading: Any, name: str) -> types.ModuleType:
    import importlib

    return importlib.import_module(name)


def _build_main_module(loading: Any) -> types.ModuleType:
    return sys.modules[loading.namespace.get("__name__", "__main__")]


def _build_view(loading: Any, mapping: dict[Any, Any], kind: str) -> object:
    return getattr(mapping, kind)()


def _build_lru_cache(loading: Any, function: Any, maxsize: int | None, typed: bool) -> object:
    import functools

    return functools.lru_cache(maxsize, typed)(function)


def _build_imported(loading: Any, module: str, name: str) -> object:
    import operator

    if is_forbidden(module, name.split(".")[0]):
        raise loading.refuse(f"loading it would call {module}.{name}")
    return operator.attrgetter(name)(_build_module(loading, module))


BUILDERS: dict[str, Callable[..., Any]] = {
    "builtins_dict": lambda loading: vars(builtins),
    "code": _build_code,
    "function": _build_function,
    "function_state": _set_function_state,
    "generator_expression": _build_expression,
    "cell": lambda loading: types.CellType(),
    "cell_state": _set_cell_state,
    "module": _build_module,
    "main_module": _build_main_module,
    "mappingproxy": lambda loading, mapping: types.MappingProxyType(mapping),
    "dict_view": _build_view,
    "lru_cache": _build_lru_cache,
    "lru_cache_state": lambda loading, cache, contents: loading.caches.append((cache, contents)),
    "imported": _build_imported,
    "dataclass_sentinel": lambda loading, name: getattr(dataclasses, name),
}
CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {"functools._lru_cache_wrapper": _cache_parts}

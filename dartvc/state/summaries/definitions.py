"""Functions, classes, modules and suspended code: what defines them, never what they would do."""

from __future__ import annotations

import functools
import hashlib
import linecache
import os
import types
from collections.abc import Callable, Iterator
from typing import Any

from dartvc.state.summaries.words import clean, mro_of, namespace_of, short_text, type_name

__all__ = ["BUILTIN", "SOURCE_LINES", "code_digest", "describe_class", "signature_text"]

SOURCE_LINES = 400
_MEMBERS = 40
_MODULE_NAMES = vars(types.ModuleType)["__dict__"].__get__
_CODE_BYTES = 20_000
_SOURCE_FILE_BYTES = 512 * 1024
_LIBRARY_FOLDERS = (os.path.dirname(os.__file__) + os.sep, f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def signature_text(function: types.FunctionType) -> str:
    """Returns ``name(a, /, b=1, *args, c, **kwargs)``, read from the code object and the defaults; annotations are left out, they may be code."""
    code = function.__code__
    names = iter(code.co_varnames)
    positional = [next(names) for _ in range(code.co_argcount)]
    keyword = [next(names) for _ in range(code.co_kwonlyargcount)]
    defaults = function.__defaults__ or ()
    for place, default in enumerate(reversed(defaults), 1):
        if place <= len(positional):
            positional[-place] += f"={short_text(default)}"
    if code.co_posonlyargcount:
        positional.insert(code.co_posonlyargcount, "/")
    if code.co_flags & 0x04:
        positional.append(f"*{next(names)}")
    elif keyword:
        positional.append("*")
    given = function.__kwdefaults__ or {}
    positional += [f"{name}={short_text(dict.get(given, name))}" if dict.__contains__(given, name) else name for name in keyword]
    if code.co_flags & 0x08:
        positional.append(f"**{next(names)}")
    return clean(f"{str.__str__(function.__name__)}({', '.join(positional)})", 400)


def code_digest(code: types.CodeType) -> str:
    """Returns twelve hexadecimal digits of the SHA-256 of what a code object does: instructions, names and constants, not line numbers."""
    digest = hashlib.sha256()
    waiting = [code]
    for _ in range(200):
        if not waiting:
            break
        item = waiting.pop()
        digest.update(item.co_code)
        digest.update(repr((item.co_names, item.co_varnames, item.co_freevars)).encode("utf-8", "backslashreplace"))
        for constant in item.co_consts:
            if type(constant) is types.CodeType:
                waiting.append(constant)
            else:
                digest.update(_constant_text(constant).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:12]


def describe_class(value: Any) -> dict[str, object]:
    """Describes a class: its bases, and its own members with the digests of their code."""
    bases = [type_name(base) for base in mro_of(value)[1:-1]][:8]
    found: dict[str, object] = {"type": "class", "name": type_name(value), "bases": bases}
    members = namespace_of(value)
    methods, others = {}, {}
    for name, member in members.items():
        if type(name) is not str:
            continue
        function = _function_of(member)
        if function is not None:
            methods[clean(name)] = f"{signature_text(function)} {code_digest(function.__code__)}"
        elif not (name.startswith("__") and name.endswith("__")):
            others[clean(name)] = short_text(member)
        if len(methods) + len(others) >= _MEMBERS:
            found["more_members"] = len(members) - _MEMBERS
            break
    return found | {"methods": methods, "attributes": others}


def _constant_text(constant: object) -> str:
    if type(constant) is frozenset:
        return short_text(sorted(short_text(item) for item in constant))
    if type(constant) in (str, bytes) and len(constant) <= 100_000:  # type: ignore[arg-type]
        return repr(constant)
    if type(constant) is int and constant.bit_length() < 4_000:
        return f"int {constant}"
    return f"{type(constant).__name__} {short_text(constant)}"


def _function_of(member: object) -> types.FunctionType | None:
    """Returns the plain function behind a member of a class: a method, static or class method, or property."""
    kind = type(member)
    if kind is staticmethod or kind is classmethod:
        member = member.__func__  # type: ignore[attr-defined]
    elif kind is property:
        member = member.fget  # type: ignore[attr-defined]
    return member if type(member) is types.FunctionType else None


def _describe_function(value: types.FunctionType) -> dict[str, object]:
    code = value.__code__
    found: dict[str, object] = {"type": "function", "signature": signature_text(value)}
    module = value.__module__
    if type(module) is str and module != "__main__":
        found["module"] = clean(module)
    names = code.co_freevars
    if names and value.__closure__:
        found["closure"] = {clean(name): _cell_text(cell) for name, cell in zip(names, value.__closure__, strict=True)}
    found["code"] = code_digest(code)
    lines = _source_lines(code)
    if lines:
        found["source"] = lines
    return found


def _cell_text(cell: types.CellType) -> str:
    try:
        return short_text(cell.cell_contents)
    except ValueError:
        return "unset"


def _source_lines(code: types.CodeType) -> list[str]:
    """Returns the lines that defined a function, from sources that are loaded, else from its file unless it is a library's."""
    name = code.co_filename
    entry = linecache.cache.get(name)
    text = entry[2] if entry is not None and len(entry) == 4 else _file_lines(name)
    first, last = code.co_firstlineno, min(_last_line(code), code.co_firstlineno + SOURCE_LINES)
    lines = [clean(line.rstrip("\r\n"), 1000) for line in text[first - 1 : last]]
    begins = lines[0].lstrip() if lines else ""
    return lines if begins.startswith(("def ", "async def ", "@")) or "lambda" in begins else []


def _file_lines(name: str) -> list[str]:
    if not os.path.isabs(name) or any(folder in name for folder in _LIBRARY_FOLDERS) or not name.endswith(".py"):
        return []
    try:
        if os.stat(name).st_size > _SOURCE_FILE_BYTES:
            return []
        with open(name, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []


def _last_line(code: types.CodeType) -> int:
    if len(code.co_code) > _CODE_BYTES:
        return max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    return max(_end_lines(code, 0), default=code.co_firstlineno)


def _end_lines(code: types.CodeType, depth: int) -> Iterator[int]:
    for _, end, _, _ in code.co_positions():
        if end is not None:
            yield end
    for constant in code.co_consts:
        if type(constant) is types.CodeType and depth < 8:
            yield from _end_lines(constant, depth + 1)


def _describe_method(value: Any) -> dict[str, object]:
    function = value.__func__
    owner = type_name(value.__self__) if issubclass(type(value.__self__), type) else type_name(type(value.__self__))
    name = signature_text(function) if type(function) is types.FunctionType else short_text(function)
    return {"type": "method", "signature": name, "of": owner}


def _describe_builtin_function(value: Any) -> dict[str, object]:
    owner = value.__self__
    module = owner.__name__ if type(owner) is types.ModuleType else "" if owner is None else type_name(type(owner))
    return {"type": "builtin_function_or_method", "name": clean(f"{module}.{value.__name__}" if module else value.__name__)}


def _describe_partial(value: Any) -> dict[str, object]:
    function = value.func
    name = signature_text(function) if type(function) is types.FunctionType else _callable_name(function)
    found: dict[str, object] = {"type": "functools.partial", "function": name, "args": [short_text(item) for item in value.args[:20]]}
    return found | {"keywords": {clean(key): short_text(item) for key, item in list(value.keywords.items())[:20]}}


def _callable_name(value: object) -> str:
    return type_name(value) if issubclass(type(value), type) else short_text(value)  # type: ignore[arg-type]


def _describe_module(value: types.ModuleType) -> dict[str, object]:
    names = _MODULE_NAMES(value)
    name, version = names.get("__name__"), names.get("__version__")
    found: dict[str, object] = {"type": "module", "name": clean(name) if type(name) is str else ""}
    return found | ({"version": clean(version)} if type(version) is str else {})


def _describe_suspended(value: Any, prefix: str) -> dict[str, object]:
    kind = type(value)
    code, frame = getattr(value, f"{prefix}_code"), getattr(value, f"{prefix}_frame")
    found: dict[str, object] = {"type": kind.__name__, "name": clean(value.__qualname__)}
    running = getattr(value, f"{prefix}_running")
    is_suspended = getattr(value, f"{prefix}_suspended", True)
    found["state"] = "running" if running else "finished" if frame is None else "suspended" if is_suspended else "created"
    if frame is not None:
        found["line"] = frame.f_lineno
    return found | {"code": code_digest(code)}


BUILTIN: dict[type, Callable[[Any], dict[str, object]]] = {
    types.FunctionType: _describe_function,
    types.MethodType: _describe_method,
    types.BuiltinFunctionType: _describe_builtin_function,
    types.ModuleType: _describe_module,
    types.GeneratorType: lambda value: _describe_suspended(value, "gi"),
    types.CoroutineType: lambda value: _describe_suspended(value, "cr"),
    types.AsyncGeneratorType: lambda value: _describe_suspended(value, "ag"),
    types.CodeType: lambda value: {"type": "code", "name": clean(value.co_qualname), "code": code_digest(value)},
    functools.partial: _describe_partial,
    type: describe_class,
}
"""The describer of each kind of definition, by exact type."""


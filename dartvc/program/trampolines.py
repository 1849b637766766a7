"""Functions that ask before they run: a function keeps its identity, and its code is exchanged for a call of a hook and back again.

Exchanging ``__code__`` costs nothing once the original is back, which no wrapper can offer, and leaves ``f is f``, defaults, closure,
signature and pickling by name as they were.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

__all__ = ["bind_trampoline", "make_trampoline"]

_PLACE = "__dvc_hook__"


def make_trampoline(code: types.CodeType) -> types.CodeType:
    """Returns code with the signature and the free variables of ``code`` that hands its arguments to a hook; see `bind_trampoline`."""
    names = list(code.co_varnames)
    positional, keyword = names[: code.co_argcount], names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    rest = names[code.co_argcount + code.co_kwonlyargcount :]
    parameters, passed = [*positional], [*positional]
    if code.co_posonlyargcount:
        parameters.insert(code.co_posonlyargcount, "/")
    if code.co_flags & inspect.CO_VARARGS:
        name = rest.pop(0)
        parameters.append(f"*{name}")
        passed.append(f"*{name}")
    elif keyword:
        parameters.append("*")
    parameters += keyword
    passed += [f"{name}={name}" for name in keyword]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        name = rest.pop(0)
        parameters.append(f"**{name}")
        passed.append(f"**{name}")
    free = ", ".join(code.co_freevars)
    text = f"def outer({free}):\n def inner({', '.join(parameters)}):\n  return {_PLACE!r}.call({', '.join(passed)})\n  ({free},)\n"
    text = text.replace("(,)", "()")
    outer = next(each for each in compile(text, "<dartvc>", "exec").co_consts if isinstance(each, types.CodeType))
    inner = next(each for each in outer.co_consts if isinstance(each, types.CodeType))
    if inner.co_freevars != code.co_freevars:
        raise ValueError(f"the free variables of {code.co_qualname} cannot be passed on")
    return inner.replace(
        co_filename=code.co_filename, co_name=code.co_name, co_qualname=code.co_qualname, co_firstlineno=code.co_firstlineno
    )


def bind_trampoline(template: types.CodeType, hook: Any) -> types.CodeType:
    """Returns the trampoline that calls ``hook.call``."""
    return template.replace(co_consts=tuple(hook if each == _PLACE else each for each in template.co_consts))

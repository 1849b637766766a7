"""Which names a piece of code could have touched: the only ones that a commit has to look at.

Sound before narrow: every name in the bytecode and, transitively, in the functions it can reach counts; anything dynamic
(`globals`, `exec`, a magic, a thread or a task that the user started) widens the answer to every name, and so does a mention of what
holds objects elsewhere (`dartvc.state.holders`).
"""

from __future__ import annotations

import ast
import threading
import types
from collections.abc import Iterable, Mapping

from dartvc.state.definitions import code_names
from dartvc.state.holders import DRAWING_NAMES, is_drawn_on, leads_to_holder

__all__ = ["DYNAMIC_NAMES", "HIDDEN_NAMES", "is_hidden", "names_in_source", "touched_names", "user_threads"]

DYNAMIC_NAMES = frozenset(
    {"globals", "locals", "vars", "exec", "eval", "get_ipython", "__import__", "_getframe", "currentframe", "runpy"}
    | {
        "__main__",
        "user_ns",
        "gc",
        "ctypes",
        "_",
        "__",
        "___",
        "Out",
        "_oh",
        "compile",
        "reload",
        "importlib",
        "f_back",
        "f_globals",
        "__dict__",
    }
    | {"__globals__", "__builtins__"}
)
HIDDEN_NAMES = frozenset(
    {
        "In",
        "Out",
        "_ih",
        "_oh",
        "_dh",
        "_i",
        "_ii",
        "_iii",
        "_",
        "__",
        "___",
        "get_ipython",
        "exit",
        "quit",
        "open",
        "__builtins__",
        "__builtin__",
    }
    | {
        "__name__",
        "__doc__",
        "__package__",
        "__loader__",
        "__spec__",
        "__file__",
        "__cached__",
        "__annotations__",
        "__warningregistry__",
        "__session__",
        "_exit_code",
    }
    | {"__conditional_annotations__", "__nonzero__"}  # the latter: of the module that %run makes
)
_INFRASTRUCTURE_THREADS = ("dartvc", "IPython", "tqdm", "pydevd")


def is_hidden(name: str) -> bool:
    """Whether a name belongs to the interpreter or to IPython and not to the program."""
    if name in HIDDEN_NAMES or name.startswith("_."):
        return True
    return name.startswith("_") and (name[1:].isdigit() or (name.startswith("_i") and name[2:].isdigit()))


def names_in_source(source: str, filename: str = "<cell>") -> frozenset[str] | None:
    """Returns the names that a cell's source mentions, None when it cannot be compiled."""
    try:
        code = compile(source, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return frozenset(code_names(code))


def touched_names(mentioned: Iterable[str], namespace: Mapping[str, object], known: Mapping[str, frozenset[str]]) -> set[str] | None:
    """Returns the names of the namespace that code mentioning ``mentioned`` can touch, None when that may be all of them.

    Args:
        mentioned: names in the executed code.
        namespace: the living namespace.
        known: for names whose values hold functions, what those functions mention.
    """
    touched: set[str] = set()
    open_names = list(mentioned)
    seen: set[str] = set()
    while open_names:
        name = open_names.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in DYNAMIC_NAMES and not (name in namespace and not is_hidden(name)):
            return None
        if is_hidden(name) and (name.startswith("_") or name in ("In", "Out")) and name not in ("__name__", "__doc__", "__file__"):
            return None
        touched.add(name)
        if name in DRAWING_NAMES and is_drawn_on():
            return None
        if name not in namespace:
            continue
        value = namespace[name]
        if leads_to_holder(value, namespace):
            return None
        if isinstance(value, types.FunctionType):
            open_names.extend(code_names(value.__code__))
        open_names.extend(known.get(name, ()))
    return touched


def user_threads(infrastructure: frozenset[int]) -> bool:
    """Whether threads run that were not there when the session began and are not the interpreter's own helpers."""
    if threading.active_count() <= len(infrastructure):
        return False
    return any(
        thread.ident not in infrastructure and not thread.name.startswith(_INFRASTRUCTURE_THREADS) for thread in threading.enumerate()
    )

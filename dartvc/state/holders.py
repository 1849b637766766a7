"""Who holds objects of the namespace without being in it: code that names such a holder can change them without naming them.

A module of the user with a registry, a log handler that writes into a buffer, pyplot with its current figure, a task that waits. Other
libraries are taken to hold nothing of the program's once a call has returned.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Mapping, Set

from dartvc.host.places import is_library_file
from dartvc.state.covariables import ATOMIC_TYPES, SHARED_FREELY

__all__ = ["DRAWING_NAMES", "is_drawn_on", "leads_to_holder", "waiting_tasks"]

DRAWING_NAMES = frozenset({"plot", "hist", "boxplot"})
"""Methods of frames, and of others, that draw into pyplot's current figure."""
_DRAWING = frozenset({"matplotlib", "mpl_toolkits", "pylab", "seaborn"})
_HARMLESS = SHARED_FREELY | {"__future__", "abc", "enum", "functools", "logging", "operator", "threading", "types", "typing"}
_HARMLESS_TYPES = frozenset({"numpy.dtype", "torch.device", "torch.dtype", "torch.Size"})
_BUFFERING = frozenset({"MemoryHandler", "QueueHandler", "BufferingHandler"})
_libraries: set[str] = set()
"""Names of modules that were seen to be no user's."""
_CONTAINERS = (list, tuple, dict, set, frozenset)
_CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, property, staticmethod, classmethod)
_ITEMS_SEEN = 1000


def leads_to_holder(value: object, namespace: Mapping[str, object]) -> bool:
    """Whether code that names ``value`` can change objects of the namespace that it does not name."""
    home = _home_of(value)
    if home is None:
        return False
    package = home.partition(".")[0]
    if package in _DRAWING:
        return is_drawn_on()
    if package == "logging":
        return _is_logged_into()
    return _is_users(home) and (_is_logged_into() or _keeps_something(namespace))


def _home_of(value: object) -> str | None:
    """Returns the name of the module that a value comes from."""
    owner = value if isinstance(value, type | types.FunctionType) else type(value)
    home = value.__name__ if isinstance(value, types.ModuleType) else getattr(owner, "__module__", None)
    return home if isinstance(home, str) and home not in ("builtins", "__main__") else None


def _is_users(name: str) -> bool:
    if name in _libraries:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(file, str):
        return False
    if is_library_file(file):
        _libraries.add(name)
        return False
    return True


def is_drawn_on() -> bool:
    """Whether pyplot has a figure that the next call would draw into; notebooks close theirs behind each cell."""
    manager = getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None)
    return bool(getattr(manager, "figs", None))


def _is_logged_into() -> bool:
    """Whether a log handler may write into an object of the program's: one of its own, a buffering one, one over memory."""
    handlers = getattr(sys.modules.get("logging"), "_handlerList", ())
    return any(_is_buffering(handler) for handler in [reference() for reference in handlers] if handler is not None)


def _is_buffering(handler: object) -> bool:
    kind, stream = type(handler), type(getattr(handler, "stream", None))
    if kind.__name__ in _BUFFERING or stream.__name__ in ("StringIO", "BytesIO"):
        return True
    return any(each.__module__ == "__main__" or _is_users(each.__module__) for each in (kind, stream))


def _keeps_something(namespace: Mapping[str, object]) -> bool:
    """Whether a module of the user may hold an object of the namespace; plain settings, functions and classes hold none."""
    shared: Set[int] | None = None
    for module in [sys.modules.get(name) for name in sys.modules.keys() - _libraries if name != "__main__" and _is_users(name)]:
        names = getattr(module, "__dict__", {})
        scopes = [names, *(vars(each) for each in list(names.values()) if isinstance(each, type))]
        for name, value in [row for scope in scopes for row in list(scope.items())]:
            if name.startswith("__") or _is_harmless(value):
                continue
            if shared is None:
                shared = {id(each) for each in namespace.values()}
            if id(value) in shared or not _is_plain(value, 3):
                return True
    return False


def _is_plain(value: object, depth: int) -> bool:
    if not isinstance(value, _CONTAINERS):
        return _is_harmless(value)
    if not depth or len(value) > _ITEMS_SEEN:
        return False
    items: Iterable[object] = (*value.keys(), *value.values()) if isinstance(value, dict) else value
    return all(_is_plain(item, depth - 1) for item in items)


def _is_harmless(value: object) -> bool:
    kind = type(value)
    if kind in ATOMIC_TYPES or isinstance(value, _CODE) or kind.__module__ in _HARMLESS or type(kind).__module__ == "enum":
        return True
    return f"{kind.__module__}.{kind.__qualname__}" in _HARMLESS_TYPES


def waiting_tasks(namespace: Mapping[str, object]) -> bool:
    """Whether a task of asyncio waits in code of the namespace: it goes on while other code awaits."""
    module = sys.modules.get("asyncio.tasks")
    if module is None:
        return False
    known = [*getattr(module, "_all_tasks", ()), *getattr(module, "_scheduled_tasks", ()), *getattr(module, "_eager_tasks", ())]
    return any(not task.done() and _runs_in(task.get_coro(), namespace) for task in known)


def _runs_in(coroutine: object, namespace: Mapping[str, object]) -> bool:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None and frame.f_globals is namespace:
            return True
        coroutine = getattr(coroutine, "cr_await", None)
    return False

"""What a program hung into the process that is made of its own objects: log handlers, signal handlers, hooks, replaced streams.

They may share objects with the program's variables (a handler, a file), so a run stores them under hidden names of the same snapshot.
"""

from __future__ import annotations

import atexit
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["capture_hooks", "has_exits", "restore_hooks", "watch_exits"]

_signal: Any = sys.modules["_signal"]
_LOGGING = "process._.logging"
_SIGNALS = "process._.signals"
_HOOKS = "process._.hooks"
_AT_EXIT = "process._.atexit"
_EVENT_LOOP = "process._.event_loop"


def capture_hooks(is_users: Callable[[str], bool]) -> dict[str, object]:
    """Returns hidden names with what the program changed, nothing for what is as Python made it.

    Args:
        is_users: whether a top-level module is the user's own; loggers of libraries keep the handlers that the libraries give them.
    """
    captured: dict[str, Any] = {_LOGGING: _read_logging(is_users), _SIGNALS: _read_signals(), _HOOKS: _read_hooks(), _AT_EXIT: list(_EXITS)}
    captured[_EVENT_LOOP] = _read_event_loop()
    return {name: value for name, value in captured.items() if value}


def restore_hooks(values: Mapping[str, Any]) -> None:
    """Hangs what was captured into this process."""
    if _LOGGING in values:
        _write_logging(values[_LOGGING])
    for number, handler in values.get(_SIGNALS, {}).items():
        signal.signal(number, handler)
    for name, hook in values.get(_HOOKS, {}).items():
        module, _, attribute = name.partition(".")
        setattr(sys.modules[module], attribute, hook)
    if _EVENT_LOOP in values:
        sys.modules["asyncio.events"].set_event_loop(values[_EVENT_LOOP])
    for function, arguments, named in values.get(_AT_EXIT, ()):
        atexit.register(function, *arguments, **named)
        _EXITS.append((function, arguments, named))


_EXITS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []


def watch_exits(is_user: Callable[[types.CodeType], bool]) -> None:
    """Takes note of what the user's code registers with `atexit`, which tells nobody what it holds."""
    register, unregister = atexit.register, atexit.unregister

    def noting(function: Any, /, *arguments: Any, **named: Any) -> Any:
        register(function, *arguments, **named)
        if is_user(sys._getframe(1).f_code):
            _EXITS.append((function, arguments, named))
        return function

    def forgetting(function: Any) -> None:
        unregister(function)
        _EXITS[:] = [each for each in _EXITS if each[0] != function]

    atexit.register, atexit.unregister = noting, forgetting


def has_exits() -> bool:
    """Whether the user's code has registered functions that run when Python ends."""
    return bool(_EXITS)


def _read_event_loop() -> Any:
    """Returns the event loop that the main thread's `asyncio.get_event_loop` gives; None when there is none yet."""
    policy: Any = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    local = getattr(policy, "_local", None)
    return getattr(local, "_loop", None)


def _read_logging(is_users: Callable[[str], bool]) -> dict[str, Any]:
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "captureWarnings"):
        return {}
    root = logging.root
    loggers = {}
    for name, logger in (("", root), *root.manager.loggerDict.items()):
        if not isinstance(logger, logging.Logger):
            continue
        is_own = not name or is_users(name.partition(".")[0])
        settings = (logger.level, logger.propagate, logger.disabled)
        own = (list(logger.handlers), list(logger.filters)) if is_own else None
        if settings != (logging.WARNING if not name else logging.NOTSET, True, False) or (own is not None and any(own)):
            loggers[name] = (settings, own)
    captures_warnings = logging._warnings_showwarning is not None
    if not (loggers or root.manager.disable or captures_warnings):
        return {}
    return {"loggers": loggers, "disable": root.manager.disable, "captures_warnings": captures_warnings}


def _write_logging(value: Mapping[str, Any]) -> None:
    import logging

    for name, (settings, own) in value["loggers"].items():
        logger = logging.getLogger(name or None)
        logger.setLevel(settings[0])
        logger.propagate, logger.disabled = settings[1:]
        if own is not None:
            handlers, logger.filters[:] = own
            for handler in handlers:
                logging._addHandlerRef(handler)  # type: ignore[attr-defined]  # closed and flushed at exit, like one made by its constructor
            logger.handlers[:] = handlers
    logging.disable(value["disable"])
    logging.captureWarnings(value["captures_warnings"])


def _read_signals() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    found: dict[int, Any] = {}
    for number in range(1, signal.NSIG):
        handler = _signal.getsignal(number)  # without the enumerations of `signal`
        if handler in (None, _signal.SIG_DFL, _signal.default_int_handler) or _is_ours(handler):
            continue
        if handler == _signal.SIG_IGN and number in (signal.SIGPIPE, getattr(signal, "SIGXFSZ", 0)):
            continue  # Python itself ignores them
        found[number] = handler
    return found


def _read_hooks() -> dict[str, Any]:
    present = {
        "sys.excepthook": (sys.excepthook, sys.__excepthook__),
        "sys.displayhook": (sys.displayhook, sys.__displayhook__),
        "sys.unraisablehook": (sys.unraisablehook, sys.__unraisablehook__),
        "threading.excepthook": (threading.excepthook, threading.__excepthook__),
        "warnings.showwarning": (warnings.showwarning, getattr(warnings, "_showwarning_orig", warnings.showwarning)),
        **{f"sys.{name}": (getattr(sys, name), getattr(sys, f"__{name}__")) for name in ("stdin", "stdout", "stderr")},
    }
    return {name: hook for name, (hook, original) in present.items() if hook is not original and not _is_ours(hook) and not _is_logging(hook)}


def _is_ours(hook: Any) -> bool:
    function = getattr(hook, "__func__", hook)
    return str(getattr(function, "__module__", "")).startswith("dartvc.")


def _is_logging(hook: Any) -> bool:
    return isinstance(hook, types.FunctionType) and hook.__module__ == "logging"

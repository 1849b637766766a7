"""Making a value again that could not be stored: its recipe is run in a scratch namespace that may not touch the world outside.

A recipe is a list of steps, each with the code that ran and the commit it started from. Every name that the code mentions is loaded from
that commit, the value itself is carried from step to step. Files, processes and the network are out of reach while it runs.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dartvc.errors import DartvcError
from dartvc.model import Oid, Omission
from dartvc.state.candidates import names_in_source
from dartvc.state.loading import Loading, Unloadable, load
from dartvc.state.process import ENTRIES, apply_process

if TYPE_CHECKING:
    from dartvc.history import Repository

__all__ = ["EffectRefused", "execute", "no_effects", "random_streams_kept", "recompute"]

_STREAMS = ("random", "numpy.random", "torch.random")


class EffectRefused(Exception):
    """A recipe wanted to change the world outside its namespace."""


def recompute(repository: Repository, name: str, recipe: Mapping[str, object], living: Mapping[str, object]) -> tuple[object] | Omission:
    """Runs a recipe.

    Returns:
        A tuple of the value made, or the omission that says why there is none.
    """
    steps = recipe.get("steps")
    reason = str(recipe.get("reason", "it could not be stored"))
    if not isinstance(steps, list) or not steps:
        return Omission(name, str(recipe.get("path", name)), reason, str(recipe.get("remedy", "")))
    carried: tuple[object] | None = None
    try:
        for step in steps:
            carried = (_run_step(repository, name, step, carried),)
    except EffectRefused as refusal:
        return Omission(name, name, f"{reason}; making it again would {refusal}", "run the cell that made it")
    except (Unloadable, DartvcError) as error:
        return Omission(name, name, f"{reason}; what it was made from cannot be loaded: {error}")
    except Exception as error:
        return Omission(name, name, f"{reason}; making it again raises {type(error).__name__}: {error}")
    return carried if carried is not None else Omission(name, name, reason)


def _run_step(repository: Repository, name: str, step: Mapping[str, Any], carried: tuple[object] | None) -> object:
    scratch: dict[str, object] = {"__name__": "__main__", "__builtins__": __builtins__}
    code = str(step["code"])
    mentioned = names_in_source(code)
    if mentioned is None:
        raise EffectRefused("need IPython's magics")
    if step["base"] is not None:
        _load_mentioned(repository, Oid(step["base"]), set(mentioned), scratch)
    if carried is not None:
        scratch[name] = carried[0]
    with random_streams_kept(), no_effects(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        execute(code, "<recipe>", scratch)
    if name not in scratch:
        raise KeyError(name)
    return scratch[name]


def execute(code: str, filename: str, names: dict[str, object]) -> None:
    """Runs a cell's code; where that awaits outside of functions, on an event loop of its own, whatever loop runs around it."""
    compiled = compile(code, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if not compiled.co_flags & inspect.CO_COROUTINE:
        exec(compiled, names)
        return
    import asyncio

    around = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(eval(compiled, names))
    finally:
        loop.close()
        asyncio._set_running_loop(around)


def _load_mentioned(repository: Repository, base: Oid, mentioned: set[str], scratch: dict[str, object]) -> None:
    """Loads the names that a step mentions, and those that the functions among them mention."""
    entries = repository.names(base)
    open_names = set(mentioned)
    while open_names:
        entry = entries.get(open_names.pop())
        if entry is None or entry.name in scratch or entry.payload_oid is None:
            continue
        payload = repository.payload(entry.payload_oid)
        loaded = load(payload.read_stream(), Loading(scratch, payload))
        scratch.update(loaded)
        for value in loaded.values():
            code = getattr(value, "__code__", None)
            if code is not None:
                open_names.update(code.co_names)


@contextlib.contextmanager
def random_streams_kept() -> Iterator[None]:
    """Puts the random streams of random, numpy and torch back to where they were."""
    states = {name: ENTRIES[name].capture() for name in _STREAMS}
    try:
        yield
    finally:
        apply_process(states)


_GUARD = threading.local()
_INSTALLED: list[bool] = []
_REFUSED: tuple[str, ...] = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.kill",
    "os.chdir",
    "os.putenv",
)
_REFUSED += ("subprocess.Popen", "socket.connect", "socket.bind", "socket.sendto", "shutil.", "urllib.", "smtplib.", "ftplib.")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not getattr(_GUARD, "on", False):
        return
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            raise EffectRefused(f"write the file {arguments[0]!r}")
        if not _GUARD.may_read and isinstance(arguments[0], str | bytes) and not _is_code(os.fsdecode(arguments[0])):
            raise EffectRefused(f"read the file {arguments[0]!r}")
    elif event.startswith(_REFUSED):
        raise EffectRefused(f"cause {event}")


def _is_code(path: str) -> bool:
    """Whether a file belongs to Python, a library or the system: reading it makes nothing depend on the user's files."""
    libraries = tuple(os.path.join(each, "") for each in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), "/usr", "/proc", "/sys", "/dev"))
    return os.path.abspath(path).startswith(libraries) or f"{os.sep}site-packages{os.sep}" in path or path.endswith((".pyc", ".so"))


@contextlib.contextmanager
def no_effects(*, may_read: bool = True) -> Iterator[None]:
    """Keeps this thread from changing the world outside; and, unless it ``may_read``, from files that are no libraries."""
    if not _INSTALLED:
        sys.addaudithook(_audit)
        _INSTALLED.append(True)
    _GUARD.on, _GUARD.may_read = True, may_read
    try:
        yield
    finally:
        _GUARD.on = False

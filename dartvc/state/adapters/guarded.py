"""Classes of the user's program that pickle themselves: tried out in a child process before they run here.

A user's ``__reduce__`` may sleep for ever, exit the process, or name a function that must never run at load. So the first object
of such a class is pickled and loaded again in a forked child that has a deadline and may not touch files, processes or the network.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from dartvc.host.places import is_library_file
from dartvc.state.forbidden import is_forbidden

__all__ = ["DEADLINE_S", "has_own_reduce", "is_proven", "reduce_guarded", "runs_code_at_load", "runs_code_when_pickled", "try_in_child"]

DEADLINE_S = 5.0
_METHODS = ("__reduce_ex__", "__reduce__", "__getstate__")
_RUN_AT_LOAD = frozenset(
    {
        *("__new__", "__getnewargs__", "__getnewargs_ex__", "__setstate__", "__setattr__", "__getattr__", "__getattribute__"),
        *("__hash__", "__eq__", *_METHODS),
    }
)
_VERDICTS: dict[int, tuple[weakref.ReferenceType[type], str]] = {}
_PROVEN: dict[int, tuple[weakref.ReferenceType[type], str]] = {}


def has_own_reduce(kind: type, is_users: Callable[[type], bool]) -> bool:
    """Whether a class, or a base of it that is the user's too, brings pickling code of its own."""
    return any(method in vars(base) for base in kind.__mro__[:-1] if is_users(base) for method in _METHODS)


def runs_code_at_load(kind: type, is_users: Callable[[type], bool]) -> bool:
    """Whether an instance of a user's class may run code of the user's when it is pickled or loaded.

    One that pickles as `object` does comes back without ``__init__``, by attributes alone, unless the user defined one of the methods that
    take part in that.
    """
    if type(kind) is not type or any(getattr(kind, name) is not getattr(object, name) for name in ("__reduce_ex__", "__reduce__")):
        return True
    return any(vars(base).get(name) is not None for base in kind.__mro__[:-1] if is_users(base) for name in _RUN_AT_LOAD)


def runs_code_when_pickled(kind: type) -> bool:
    """Whether pickling an instance runs Python code that belongs to no installed library: it may change the instance."""
    for method in (*_METHODS, "__getnewargs__", "__getnewargs_ex__"):
        function = getattr(kind, method, None)
        if type(function) is types.FunctionType and not is_library_file(function.__code__.co_filename):
            return True  # what Cython made has a __code__, too, with a name that leads nowhere
    return False


def reduce_guarded(value: Any, saving: Any) -> Any:
    """Lets an object of a proven class pickle itself; refuses one whose class failed its trial."""
    kind = type(value)
    seen = _VERDICTS.get(id(kind))
    if seen is None or seen[0]() is not kind:
        seen = _VERDICTS[id(kind)] = (weakref.ref(kind), _trial(value))
    if seen[1]:
        raise saving.refuse(value, seen[1], "give the class a __getstate__ without side effects")
    reduction = value.__reduce_ex__(5)
    problem = _problem_of(reduction)
    if problem:
        raise saving.refuse(value, problem)
    return saving.keep(reduction)


def is_proven(kind: type, prove: Callable[[], str]) -> str:
    """Returns why instances of a user's class do not load back, trying it once for each class (an empty string: they do)."""
    seen = _PROVEN.get(id(kind))
    if seen is None or seen[0]() is not kind:
        seen = _PROVEN[id(kind)] = (weakref.ref(kind), prove())
    return seen[1]


def _problem_of(reduction: Any) -> str:
    if isinstance(reduction, str):
        return ""
    if not isinstance(reduction, tuple) or not 2 <= len(reduction) <= 6 or not callable(reduction[0]):
        return "its __reduce_ex__ returned something that is not a reduction"
    builder = reduction[0]
    module, name = getattr(builder, "__module__", "") or "", getattr(builder, "__qualname__", "")
    if is_forbidden(module, name):
        return f"loading it would call {module}.{name}"
    return ""


def _trial(value: Any) -> str:
    """Returns why an object cannot be pickled, an empty string when it can."""
    return try_in_child(lambda: _problem_of(value.__reduce_ex__(5)), "pickling it")


def try_in_child(work: Callable[[], str], what: str) -> str:
    """Runs ``work`` in a forked child that may not touch files, processes or the network and must end within `DEADLINE_S`.

    Returns:
        What ``work`` returned, or what stopped it: an empty string means that nothing is wrong.
    """
    if not hasattr(os, "fork"):
        return ""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reader)
        _run_child(work, what, writer)
    os.close(writer)
    try:
        poll = select.poll()  # select knows the first 1,024 descriptors only
        poll.register(reader, select.POLLIN)
        ready = poll.poll(DEADLINE_S * 1000)
        answer = os.read(reader, 1000) if ready else b""
    except BaseException:
        os.kill(child, signal.SIGKILL)
        _reap(child)
        raise
    finally:
        os.close(reader)
    if not ready:
        os.kill(child, signal.SIGKILL)
    status = _reap(child)
    if not ready:
        return f"{what} did not end within {DEADLINE_S:g} s"
    if answer == b"ok":
        return ""
    return answer.decode(errors="replace") or f"{what} ended the process (status {status})"


def _reap(child: int) -> int:
    """Waits for a child; returns its status, 0 when the program has the kernel reap its children (it ignores SIGCHLD)."""
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return 0


def _run_child(work: Callable[[], str], what: str, writer: int) -> None:
    answer = b""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole process group; it is the parent's to obey
        sys.addaudithook(_no_effects)
        answer = work().encode()[:900] or b"ok"
    except pickle.PicklingError as error:
        answer = f"{what} {error}".encode()[:900]
    except BaseException as error:
        answer = f"{what} raises {type(error).__name__}: {error}".encode()[:900]
    finally:
        os.write(writer, answer or b"no answer")
        os._exit(0)


_EFFECTS: tuple[str, ...] = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.kill",
    "subprocess.Popen",
)
_EFFECTS += ("socket.connect", "socket.bind", "socket.sendto", "shutil.", "ftplib.", "smtplib.", "urllib.")


def _no_effects(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            raise pickle.PicklingError(f"writes the file {arguments[0]!r}")
    elif event.startswith(_EFFECTS):
        raise pickle.PicklingError(f"has the side effect {event}")

"""A process that has imported what past programs import, and forks one child for each job: many runs pay for their libraries once.

Started as ``python -c "from dartvc.shims.warming import main; main()"``. Each line of its standard input is a request: a job's file with the libraries
to import before, or a job's file to end. The exit code of a child is written beside its job. It ends, and its children with it, when its input does.
Only jobs that execute log statements in the states of commits are done here: their libraries were loaded before the process became that of the run anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dartvc.hindsight.replay.jobs import UNFIT, Exited, Job
from dartvc.host.places import is_library_file
from dartvc.shims.evaluating import Evaluator

__all__ = ["Warm", "main"]

_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG
_READ_BYTES = 1 << 16
_LOADED = "loaded"
"""Libraries that a child needed beside those that it was born with: the next ones have them."""


class Warm:
    """Forks children for the jobs that it is told, until there are no more to come."""

    def __init__(self) -> None:
        self._tried: set[tuple[str, str]] = set()
        self._children: dict[int, Path] = {}

    def serve(self) -> None:
        """Answers all requests."""
        woken, wake = os.pipe()
        for each in (woken, wake):
            os.set_blocking(each, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        rest = b""
        while True:
            ready, _, _ = select.select([0, woken], [], [])
            if woken in ready:
                os.read(woken, _READ_BYTES)
                self._reap()
            if 0 in ready:
                got = os.read(0, _READ_BYTES)
                if not got:
                    break
                *lines, rest = (rest + got).split(b"\n")
                for line in lines:
                    self._answer(json.loads(line))
        for pid in self._children:
            _kill(pid)

    def _answer(self, request: dict[str, Any]) -> None:
        path = Path(str(request["job"]))
        if request.get("is_over"):
            for pid, job in self._children.items():
                if job == path:
                    _kill(pid)
            return
        self._import([(str(module), str(name)) for module, name in request["libraries"]])
        if threading.active_count() > 1:  # a library's: what it holds in the moment of a fork is held for ever
            _tell(UNFIT, path)
            return
        pid = os.fork()
        if pid == 0:
            _become_child(path)
        self._children[pid] = path

    def _import(self, names: Sequence[tuple[str, str]]) -> None:
        """Imports libraries that were not tried before; what fails here fails, or not, where the program needs it."""
        new = [each for each in names if each not in self._tried]
        self._tried.update(new)
        for module, name in new:
            with contextlib.suppress(Exception):
                found = find_spec(module.partition(".")[0])
                if found is not None and (found.origin in ("built-in", "frozen") or is_library_file(str(found.origin or ""))):
                    loaded = importlib.import_module(module)
                    if name and not hasattr(loaded, name):
                        importlib.import_module(f"{module}.{name}")
        if new or not gc.get_freeze_count():
            gc.collect()
            gc.freeze()

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                path = self._children.pop(pid)
                with contextlib.suppress(OSError):
                    self._import([(name, "") for name in (path.parent / _LOADED).read_text().split()])
                _tell(os.waitstatus_to_exitcode(status), path)


def _tell(code: int, job: Path) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it
        Exited(code).write(job.parent)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        os.killpg(pid, signal.SIGKILL)


def _become_child(path: Path) -> None:
    """Makes this process one that was started for a job, and executes it; does not return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _die_with_parent()
        nothing, said = os.open(os.devnull, os.O_RDWR), os.open(path.parent / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for target, file in enumerate((nothing, nothing, said)):
            os.dup2(file, target)
        os.chdir(path.parent)
        sys.argv[1:] = [str(path)]
        known = set(sys.modules)
        code = Evaluator(Job.read(path), path.parent).execute()
        new = [name for name, module in sys.modules.items() if name not in known and is_library_file(getattr(module, "__file__", "") or "")]
        (path.parent / _LOADED).write_text(" ".join(new))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Serves whoever started this process."""
    Warm().serve()

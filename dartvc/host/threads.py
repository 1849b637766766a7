"""Threads: begun where that is still possible, and whether one of some process gets on with its work, as the kernel sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Helper", "Standstill", "started"]

_Made = TypeVar("_Made")

_WINDOW_S = 1.0
_WORKING_SHARE = 0.05
_NS_PER_TICK = 10_000_000


def started(work: Callable[..., object], *arguments: object, name: str) -> threading.Thread | None:
    """Begins a thread that does not keep the process alive; None where Python is ending and begins no more: the caller does the work itself."""
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # from Python 3.12 on, in what `atexit` calls
        return None
    return thread


class Helper:
    """One more thread that shares work. It, and what Python has for such threads (4 ms of imports), comes with the first piece of work.

    Args:
        name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[], _Made]) -> Future[_Made]:
        """Begins a piece of work."""
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        return self._executor.submit(work)

    def close(self) -> None:
        """Ends the thread when its work is done."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)


class Standstill:
    """Watches one thread while another waits for it.

    Args:
        process: its process's id.
        thread: the kernel's number of the thread.
    """

    def __init__(self, process: int, thread: int) -> None:
        self._path = f"/proc/{process}/task/{thread}/stat"
        self._begin = time.monotonic()
        self._spent = self._read()[1]

    def is_reached(self) -> bool:
        """Whether the thread is gone, or did next to nothing for a second: it waits, perhaps for the very thread that asks."""
        state, spent = self._read()
        now = time.monotonic()
        if not state:
            return True
        if state == "R":
            self._begin, self._spent = now, spent
        if now - self._begin < _WINDOW_S:
            return False
        is_still = spent - self._spent < _WORKING_SHARE * (now - self._begin) * 1e9
        self._begin, self._spent = now, spent
        return is_still

    def _read(self) -> tuple[str, int]:
        """Returns the thread's state, empty when there is none to see, and the nanoseconds that it has worked."""
        try:
            with open(self._path, encoding="latin-1") as file:
                fields = file.read().rpartition(")")[2].split()
            return fields[0], (int(fields[11]) + int(fields[12])) * _NS_PER_TICK
        except (OSError, IndexError, ValueError):
            return "", 0

"""Signals of a run: SIGTERM, SIGINT and SIGUSR1 ask for a commit at the next safe point; then the first two take their course.

A program that set a handler of its own keeps it. If no safe point comes within the grace time, the signal does not wait for one, and the last
commit is named.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["SIGNALLED", "Signals"]

SIGNALLED = 128
"""Added to a signal's number it is the exit code of a process that the signal ended."""
_INTERRUPT_GRACE_S = 1.0
_NUMBERS_READ = 64


class Signals:
    """The signals of one run.

    Args:
        request: asks for a commit at the next safe point, an earlier request forgotten.
        close: makes every commit durable; called before the process ends by a signal.
        standing: returns how many commits were made, and a phrase about the last one and why none came since.
        grace_s: how long SIGTERM waits for a safe point.
    """

    def __init__(
        self, request: Callable[[], None], close: Callable[[], None], standing: Callable[[], tuple[int, str]], grace_s: float = 5.0
    ) -> None:
        self._request = request
        self._close = close
        self._standing = standing
        self._grace_s = grace_s
        self._pending = 0
        self._came_at: types.TracebackType | None = None
        self._raised: KeyboardInterrupt | None = None
        self._awaited = -1
        self._pid = os.getpid()
        self._mask: set[Any] = set()
        self._told = -1
        self._is_dying = False
        self._taken: tuple[tuple[signal.Signals, Any, Any], ...] = (
            (signal.SIGTERM, self._on_terminate, signal.SIG_DFL),
            (signal.SIGINT, self._on_interrupt, signal.default_int_handler),
            (signal.SIGUSR1, self._on_user, signal.SIG_DFL),
        )

    def install(self) -> None:
        """Takes the signals whose handlers are Python's own."""
        for number, handler, default in self._taken:
            if signal.getsignal(number) is default:
                signal.signal(number, handler)
        os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._leave)
        self._listen()

    def _listen(self) -> None:
        """Lets a thread hear of SIGTERM at once: our handler runs only when a call into C returns, and the grace time is not to wait for that."""
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._told = told
        threading.Thread(target=self._hear, args=(heard,), name="dartvc-signals", daemon=True).start()

    def _hear(self, heard: int) -> None:
        with suppress(OSError):  # the program closed it
            while numbers := os.read(heard, _NUMBERS_READ):
                if signal.SIGTERM in numbers and signal.getsignal(signal.SIGTERM) == self._on_terminate:
                    self._begin_grace()

    def _begin_grace(self) -> None:
        self._pending = signal.SIGTERM
        if not self._is_dying:
            self._is_dying = True
            _after(self._grace_s, self._die)  # even when a commit has begun: the machine may go away

    def _block(self) -> None:
        """Lets signals wait while a process is forked: the child's first ones would come to our handlers."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number for number, _, _ in self._taken})

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _leave(self) -> None:
        """Gives a forked child the handlers that it would have without us: one of Python's runs only when a call into C returns, a lock's maybe never."""
        for number, handler, default in self._taken:
            if signal.getsignal(number) == handler:
                signal.signal(number, default)
        if (present := signal.set_wakeup_fd(-1)) not in (-1, self._told):
            signal.set_wakeup_fd(present)
        self._unblock()

    @property
    def is_ending(self) -> bool:
        """Whether SIGTERM has come, and waits for a commit."""
        return self._pending == signal.SIGTERM

    def held_back(self) -> _HeldBack:
        """Returns a context manager for the making of a commit: the signal that asked for it does not insist any more, and takes its course afterwards.

        It raises KeyboardInterrupt when that was SIGINT.
        """
        return _HeldBack(self._take, self._follow)

    def _take(self) -> int:
        number, self._pending, self._raised = self._pending, 0, None
        return number

    def _follow(self, number: int) -> None:
        if number == signal.SIGTERM:
            self._die()
        if number == signal.SIGINT:
            self._raised = KeyboardInterrupt()
            raise self._raised

    def end(self, failure: BaseException | None, code: int) -> tuple[BaseException | None, int]:
        """Returns what ended the program, and its exit code: an interrupt after which no statement began, too.

        An interrupt that waited for a commit is given the traceback of where it came, as plain Python's has.
        """
        if failure is None and self._pending == signal.SIGINT:
            failure = self._raised = KeyboardInterrupt()
            self._pending, code = 0, SIGNALLED + signal.SIGINT
        raised = self._raised
        if raised is not None and failure is raised:
            raised.__traceback__ = self._came_at
        return failure, code

    def _on_user(self, number: int, frame: object) -> None:
        self._request()
        if self._awaited < 0 and os.getpid() == self._pid:
            self._awaited = self._standing()[0]
            _after(self._grace_s, self._look_for_commit)

    def _look_for_commit(self) -> None:
        """Tells whoever asked for a commit that there is none yet."""
        before, self._awaited = self._awaited, -1
        commits, text = self._standing()
        if commits == before:
            self._say(f"SIGUSR1 has led to no commit in {self._grace_s:g} s; {text}")

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may be gone
            print(f"dartvc: {text}", file=sys.__stderr__, flush=True)

    def _on_terminate(self, number: int, frame: object) -> None:
        if os.getpid() != self._pid:  # a child of the program (a worker of a pool) ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._begin_grace()
        self._request()

    def _on_interrupt(self, number: int, frame: types.FrameType | None) -> None:
        if os.getpid() != self._pid:
            raise KeyboardInterrupt
        if self._pending == number:  # the second time, or the grace time is over
            self._pending = 0
            raise KeyboardInterrupt
        self._pending = number
        self._came_at = _traceback_at(frame)
        self._request()
        _after(_INTERRUPT_GRACE_S, self._insist)

    def _insist(self) -> None:
        if self._pending == signal.SIGINT:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _die(self) -> None:
        """Ends the process by SIGTERM, with every commit durable."""
        try:
            self._close()
        except Exception as failure:
            self._say(f"the last commit is not durable: {failure}")
        if self._pending == signal.SIGTERM:
            self._say(f"no safe point came within {self._grace_s:g} s of SIGTERM; {self._standing()[1]}")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(SIGNALLED + signal.SIGTERM)


class _HeldBack:
    """No generator: its frames would stand in the interrupt's traceback."""

    def __init__(self, take: Callable[[], int], follow: Callable[[int], None]) -> None:
        self._take = take
        self._follow = follow
        self._number = 0

    def __enter__(self) -> None:
        self._number = self._take()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        if error is None:
            self._follow(self._number)


def _traceback_at(frame: types.FrameType | None) -> types.TracebackType | None:
    """Returns the traceback that an exception raised in a frame has when nothing catches it."""
    trace = None
    while frame is not None:
        trace = types.TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return trace


def _after(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.name = "dartvc-grace"
    timer.daemon = True
    timer.start()

"""Stopping a program at the start of a statement, at no cost while it is not asked to.

A request posts a pending call (``Py_AddPendingCall``), which CPython runs in the main thread between two bytecodes. It turns tracing on for
the user's innermost frame; the next trace event stands at the start of a statement, and tracing goes off again. While library code runs,
nothing is traced: an object left in the library frame's ``f_trace`` is destroyed when that frame returns, and turns tracing on then.

Another tool may hold the trace function (a debugger, coverage). Then ours stands in its place for one event only, whichever comes first: the
event is handed on to the tool, and the tool is put back before; if it was no start of a statement, the next one is waited for. A profiler
sees nothing of the pending call, for tracing and profiling are suspended around it.

While tracing is on, each call and each turn of a generator is an event, which takes as long as thirty of the program's own instructions. A generator
that a function in C consumes (``max(f(x) for x in rows)``) is therefore awaited like a library frame, and tracing ends after a number of events.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import inspect
import operator
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from dartvc.program.frames import is_in_call

__all__ = ["Stopper", "iter_stack"]

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int)
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_FAILURES_LIMIT = 200
_EVENTS_LIMIT = 1000
"""How many calls and turns of generators are traced for a request, each time it is made: each costs some microseconds."""


def iter_stack(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    """Yields a frame and those that called it, innermost first, without dartvc's own."""
    while frame is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith("dartvc."):
            yield frame
        frame = frame.f_back


def _unseen(act: Callable[[], int]) -> Any:
    """Returns a C function that suspends tracing and profiling of this thread, calls ``act``, and lets them go on.

    A profiler hears of every Python function that is called, before the function could do anything about it. So the three steps are joined by
    C functions alone: ``max`` calls its key on each of them, and a step is an int because that is what the C function has to return.
    """
    present = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_Get", ctypes.pythonapi))()
    enter, leave = (
        functools.partial(ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)((f"PyThreadState_{name}Tracing", ctypes.pythonapi)), present)
        for name in ("Enter", "Leave")
    )
    steps = [type("Step", (int,), {"__call__": staticmethod(step)})() for step in (enter, act, leave)]
    return _CALLBACK(functools.partial(max, steps, key=operator.call))


class Stopper:
    """Stops the main thread at places where it can be captured.

    Args:
        is_user: whether a code object is the user's own.
        on_stop: called in the main thread with the frame at the start of a statement; returns None when it is done, else the frame that must
            reach its next statement first.
    """

    def __init__(self, is_user: Callable[[types.CodeType], bool], on_stop: Callable[[types.FrameType], types.FrameType | None]) -> None:
        self._is_user = is_user
        self._on_stop = on_stop
        self._known: dict[types.CodeType, bool] = {}
        self._callback = _unseen(self._interrupt)
        self._pid = os.getpid()
        self._waiting_for: types.FrameType | None = None
        self._failures = 0
        self._foreign: Any = None
        self._is_requested = False
        self._requests = self._events = 0
        self._awaited: Callable[[], _Return | None] = lambda: None

    def request(self) -> None:
        """Asks for a stop; from any thread. Asked again, it looks anew for where the program is."""
        if not self._is_requested:
            self._failures = self._requests = 0
            self._is_requested = True
        self._requests += 1
        self._events = 0
        self._post()

    def _post(self) -> None:
        ctypes.pythonapi.Py_AddPendingCall(self._callback, None)

    @property
    def is_requested(self) -> bool:
        """Whether a request is open."""
        return self._is_requested

    def cancel(self) -> None:
        """Forgets an open request, and traces no more."""
        if self._is_requested and sys.gettrace() == self._on_call:
            self._untrace()
            self._release(sys._getframe())
        self._is_requested = False
        self._waiting_for = None
        awaited = self._awaited()
        if awaited is not None:
            awaited.frame = None  # a suspended generator may live for long, and would hold the frame that it was to tell of

    def _is_mine(self, code: types.CodeType) -> bool:
        known = self._known.get(code)
        if known is None:
            known = self._known[code] = self._is_user(code)
        return known

    def _interrupt(self) -> int:
        """The pending call: finds where the user's code is."""
        try:
            if self._is_requested and os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
                self._wait(sys._getframe(1), None)
        except KeyboardInterrupt:
            _thread.interrupt_main()  # nobody would hear of it from here
        except BaseException:
            self.cancel()
        return 0

    def _wait(self, frame: types.FrameType | None, wanted: types.FrameType | None) -> None:
        """Arranges for a trace event in the user's innermost frame, or in ``wanted`` when something inside it must end first."""
        child: types.FrameType | None = None
        for each in iter_stack(frame):
            if (each is wanted) if wanted is not None else self._is_mine(each.f_code):
                break
            child = each
        else:
            return self.cancel()
        while wanted is not None and not self._is_mine(each.f_code):
            child, above = each, each.f_back
            if above is None:
                return self.cancel()
            each = above
        self._waiting_for = each if wanted is not None else None
        if child is None:
            self._trace(each)
        elif child.f_code.co_flags & _GENERATORS:
            if not self._await_end(child, each):
                self._trace(each)
        elif self._events <= _EVENTS_LIMIT:  # else a function in C calls it back again and again: the next request may come at a better time
            self._await_return(child, each)
        return None

    def _await_end(self, generator: types.FrameType, frame: types.FrameType) -> bool:
        """Awaits the end of a generator like a return, where ``frame`` goes on after that: a function in C asks for its values, or too much was traced.

        ``next(generator)`` ends before. Therefore a request that is made again, which means that the end did not come, is traced for.
        """
        is_enough = self._events > _EVENTS_LIMIT
        if is_enough or (self._requests == 1 and is_in_call(frame, frame.f_lasti)):
            self._await_return(generator, frame)
            return True
        return False

    def _await_return(self, child: types.FrameType, frame: types.FrameType) -> None:
        """Leaves an object in ``child`` that tells when it has returned to ``frame``; nobody but ``child`` may hold it."""
        if type(child.f_trace) is not _Return:
            child.f_trace = _Return(self, child.f_trace)
        child.f_trace.frame = frame
        self._awaited = weakref.ref(child.f_trace)

    def _trace(self, frame: types.FrameType) -> None:
        present = sys.gettrace()
        if present != self._on_call:
            self._foreign = present
        if type(frame.f_trace) is not _Line:
            frame.f_trace = _Line(self, frame.f_trace)
        sys.settrace(self._on_call)

    def _untrace(self) -> None:
        """Puts back what was there, unless somebody else has put something there since."""
        if sys.gettrace() == self._on_call:
            sys.settrace(self._foreign)

    def _release(self, frame: types.FrameType) -> None:
        """Puts back the trace functions of a frame and of those that called it."""
        for each in iter_stack(frame):
            if type(each.f_trace) is _Line:
                each.f_trace = each.f_trace.kept

    def _hand_on(self, local: Any, frame: types.FrameType, event: str, argument: object) -> None:
        """Gives an event to the tool whose place ours stood in, as the interpreter would have done."""
        answer = local(frame, event, argument)
        if answer is not None:
            frame.f_trace = answer

    def _try_again(self) -> None:
        """Looks anew for a statement, after an event that was none."""
        self._failures += 1
        if self._failures > _FAILURES_LIMIT:
            self.cancel()
        elif self._is_requested:
            self._post()

    def returned(self, frame: types.FrameType) -> None:
        """A library frame that the program waited for has returned to ``frame``."""
        if self._is_requested and os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
            self._trace(frame)

    def _on_call(self, frame: types.FrameType, event: str, argument: object) -> Any:
        if self._foreign is not None:
            foreign = self._foreign
            self._untrace()
            self._release(frame)
            self._hand_on(foreign, frame, event, argument)
            return self._try_again()
        if self._is_mine(frame.f_code) and self._is_due_in(frame):
            return _Line(self, None)
        if self._count(frame):
            return None
        caller = frame.f_back
        if caller is None or frame.f_code.co_flags & _GENERATORS or str(frame.f_globals.get("__name__", "")).startswith("dartvc."):
            return None
        self._untrace()
        if self._is_mine(caller.f_code):
            self._await_return(frame, caller)
        else:
            self._wait(caller, self._waiting_for)
        return None

    def _count(self, frame: types.FrameType) -> bool:
        """Counts an event; when there were too many, ends tracing, waits for something to return if it can, and returns true."""
        self._events += 1
        if self._events <= _EVENTS_LIMIT:
            return False
        self._untrace()
        self._release(frame)
        self._wait(frame, self._waiting_for)
        return True

    def _is_due_in(self, frame: types.FrameType) -> bool:
        """Whether a frame is the one that must reach its next statement, or that one has ended without another."""
        wanted = self._waiting_for
        return wanted is None or frame is wanted or all(each is not wanted for each in iter_stack(frame))

    def on_line(self, frame: types.FrameType, event: str, argument: object) -> None:
        """A trace event of a frame in which a `_Line` was left."""
        is_here = event == "line" and self._is_requested and self._is_due_in(frame)
        if self._foreign is not None:
            self._untrace()
            self._release(frame)
            local = frame.f_trace
            if local is not None:
                self._hand_on(local, frame, event, argument)
            if not is_here:
                return self._try_again()
        elif not is_here:
            self._count(frame)
            return None
        self._untrace()
        self._release(frame)
        self._waiting_for = None
        try:
            wanted = self._on_stop(frame)
        except Exception:
            wanted = None  # whatever went wrong is ours: the program must not see it
        if wanted is None:
            self.cancel()
            return None
        self._failures += 1
        if self._failures > _FAILURES_LIMIT:
            self.cancel()
            return None
        if wanted is frame:
            self._trace(frame)
        else:
            self._wait(frame, wanted)
        return None


class _Line:
    """Left in a frame whose next statement is waited for; ``kept`` is what lay there, and what others put there meanwhile."""

    __slots__ = ("_stopper", "kept")

    def __init__(self, stopper: Stopper, kept: Any) -> None:
        self._stopper = stopper
        self.kept = kept

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        """Hands an event of the frame on; what lies in the frame afterwards stays there."""
        self._stopper.on_line(frame, event, argument)


class _Return:
    """Left in a frame that will return: its destruction tells that it has; ``kept`` as in `_Line`."""

    __slots__ = ("__weakref__", "_stopper", "frame", "kept")

    def __init__(self, stopper: Stopper, kept: Any) -> None:
        self._stopper = stopper
        self.frame: types.FrameType | None = None
        self.kept = kept

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        """Asks for no trace events of its frame."""

    def __del__(self) -> None:
        try:
            if self.frame is not None:
                self._stopper.returned(self.frame)
        except Exception:
            self._stopper.cancel()

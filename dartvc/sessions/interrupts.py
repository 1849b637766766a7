"""Ctrl-C held back for a moment: while a lock is taken or given back, an interrupt would leave it taken for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["InterruptsHeldBack"]


class InterruptsHeldBack:
    """A block of code that a Python handler of SIGINT does not interrupt; an interrupt that came is handled once, when the block ends.

    For the main thread, the only one in which handlers run; elsewhere, and where no Python handler is set, it does nothing.
    """

    def __init__(self) -> None:
        self._handler: Callable[[int, FrameType | None], object] | None = None
        self._came: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._came is not None:
                self._handler(*self._came)

"""Progress of long work as one line on a terminal: after half a second, redrawn ten times a second, gone when the work is over."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from dartvc.cli.render.units import format_duration

__all__ = ["ProgressLine", "render_progress"]

_REDRAW_S = 0.1
_BAR_CELLS = 24
_ERASE = "\r\x1b[K"


def render_progress(what: str, done: int, total: int | None, elapsed_s: float, columns: int) -> str:
    """Returns one line: the task, a bar, how much of how much, the time that is left; without a total what is known.

    Args:
        what: the task.
        done: the steps that are over.
        total: how many there are; None: not known.
        elapsed_s: since the task began.
        columns: how long the line may be.
    """
    if not total:
        parts = [f"{what} ...", f"{done:,}" if done else "", format_duration(elapsed_s * 1e3)]
    else:
        share = min(done / total, 1.0)
        cells = int(share * _BAR_CELLS)
        left_s = elapsed_s / share - elapsed_s if share else 0.0
        left = f"{format_duration(left_s * 1e3)} left" if share and left_s >= 1 else ""
        parts = [f"{what} [{'#' * cells}{'.' * (_BAR_CELLS - cells)}]", f"{int(share * 100):3d} %", f"{done:,} of {total:,}", left]
    return "  ".join(part for part in parts if part)[: max(columns - 1, 1)]


class _Task:
    __slots__ = ("began_s", "done", "total", "what")

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total = what, total
        self.done = 0
        self.began_s = time.monotonic()

    def step(self) -> None:
        self.done += 1


class ProgressLine:
    """Shows the innermost task of one command; implements `dartvc.host.progress.Watcher`. A thread draws, so that a step is one addition.

    Args:
        stream: the terminal.
        delay_s: how long the outermost task may take before anything is shown.
        redraw_s: the time between two drawings.
    """

    def __init__(self, stream: TextIO, *, delay_s: float, redraw_s: float = _REDRAW_S) -> None:
        self._stream = stream
        self._delay_s, self._redraw_s = delay_s, redraw_s
        self._tasks: list[_Task] = []
        self._over = threading.Event()
        self._drawing: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_drawn = False
        self._began_s: float | None = None

    def begin(self, what: str, total: int | None) -> Callable[[], None]:
        """Takes note of a task; see `Watcher`."""
        task = _Task(what, total)
        self._tasks.append(task)
        if self._began_s is None:
            self._began_s = task.began_s
        if self._drawing is None:
            self._over = threading.Event()
            self._drawing = threading.Thread(target=self._draw, args=(self._over,), name="dartvc-progress", daemon=True)
            self._drawing.start()
        return task.step

    def end(self) -> None:
        """Takes note that the innermost task is over; with the outermost the line goes away, before anything else is written."""
        self._tasks.pop()
        if self._tasks:
            return
        if self._drawing is not None:
            self._over.set()
            self._drawing.join()
            self._drawing = None
        self.hide()

    def hide(self) -> None:
        """Takes the line away until it is drawn the next time: something else is to be written to the terminal."""
        with self._lock:
            if self._is_drawn:
                self._show("")

    def _draw(self, over: threading.Event) -> None:
        wait_s = max(0.0, self._delay_s - (time.monotonic() - (self._began_s or 0.0)))
        while not over.wait(wait_s):
            wait_s = self._redraw_s
            text = ""
            for task in self._tasks[-1:]:
                columns = shutil.get_terminal_size().columns
                text = render_progress(task.what, task.done, task.total, time.monotonic() - task.began_s, columns)
            with self._lock:
                if (text or self._is_drawn) and not over.is_set():
                    self._show(text)

    def _show(self, text: str) -> None:
        self._is_drawn = bool(text)
        with suppress(OSError, ValueError):  # the terminal is gone
            self._stream.write(_ERASE + text)
            self._stream.flush()

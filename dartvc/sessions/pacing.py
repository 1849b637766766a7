"""When a run commits: as often as its overhead budget allows.

The cost of a commit is what the program waits plus what the background writer takes from its cores: where cores stand idle, writing costs
nothing. A commit is due when the budget (a share of the time since the run began) covers what commits have cost so far and what the next
one will.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pace", "Pacer"]

_LEAST_SPACING_S = 1.0
_LONGEST_SPACING_S = 8.0
_EXCESS_LIMIT = 3.0
_SHORT_SPACING_S, _SHORT_SPACING_SHARE = 3.0, 0.05
_SHORT_EXCESS_LIMIT = 1.5
"""Work at risk: at most 3 s and 5 % of the run where that takes no more than 1.5 times the budget, 8 s where it takes no more than 3 times."""
_FIRST_COST_S = 0.008
_WRITING_BYTES_PER_S = 400e6
_LOOK_AGAIN_S = 1.0


@dataclass
class Pace:
    """The budget and what was spent of it; times in seconds.

    Attributes:
        max_overhead: share of the run time that commits may take.
        every_s: longest spacing that the user asked for, 0 for none.
    """

    max_overhead: float = 0.01
    every_s: float = 0.0
    spent_s: float = 0.0
    expected_s: float = _FIRST_COST_S

    def take(self, stall_s: float, stored_bytes: int, busy: float = 1.0) -> None:
        """Takes note of one commit.

        Args:
            stall_s: how long the program waited for it.
            stored_bytes: what the writer has to write.
            busy: the share of the cores beside the main thread's own that the program itself keeps busy, 0 to 1.
        """
        cost = stall_s + busy * stored_bytes / _WRITING_BYTES_PER_S
        self.spent_s += cost
        self.expected_s = cost

    def next_due_s(self, elapsed_s: float, since_last_s: float) -> float:
        """Returns in how many seconds the next commit is due.

        Args:
            elapsed_s: since the run began.
            since_last_s: since the last commit.
        """
        if self.every_s:
            return max(0.0, self.every_s - since_last_s)
        affordable = (self.spent_s + self.expected_s) / max(self.max_overhead, 1e-6) - elapsed_s
        short = min(_SHORT_SPACING_S + _SHORT_SPACING_SHARE * elapsed_s, _LONGEST_SPACING_S)
        for spacing, excess in ((short, _SHORT_EXCESS_LIMIT), (_LONGEST_SPACING_S, _EXCESS_LIMIT)):
            if self.expected_s <= excess * self.max_overhead * spacing:
                affordable = min(affordable, spacing - since_last_s)
        return max(affordable, _LEAST_SPACING_S - since_last_s, 0.0)


class Pacer:
    """Asks for commits on a thread of its own.

    Args:
        pace: the budget.
        request: asks the program to stop at a safe point; called again while it has not.
    """

    def __init__(self, pace: Pace, request: Callable[[], None]) -> None:
        self.pace = pace
        self._request = request
        self._began = self._last = self._looked = time.monotonic()
        self._used = time.process_time()
        self._wake = threading.Condition()
        self._is_open = False
        self._is_over = False
        self._is_paused = False
        self._is_started = False
        self._sleeps_until = 0.0
        self._thread = threading.Thread(target=self._run, name="dartvc-pacer", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._is_started = True
        self._thread.start()

    def begin(self) -> None:
        """A unit of its own begins (a cell): its time and the budget count from now; started when it was not. Costs microseconds."""
        with self._wake:
            if not self._is_started:
                self._is_started = True
                self._thread.start()
            self.pace.spent_s = 0.0
            self._began = self._last = time.monotonic()
            self._is_open = self._is_paused = False
            if self._began + self.pace.next_due_s(0.0, 0.0) < self._sleeps_until:
                self._wake.notify_all()  # else it wakes in time by itself

    def pause(self) -> None:
        """The unit is over: nothing is asked for until the next one begins."""
        self._is_open, self._is_paused = False, True

    def stop(self) -> None:
        """Ends the thread."""
        with self._wake:
            self._is_over = True
            self._wake.notify_all()

    def committed(self, stall_s: float, stored_bytes: int) -> None:
        """Takes note of a commit, or of an attempt that was given up."""
        with self._wake:
            self.pace.take(stall_s, stored_bytes, self._busy_share())
            self._last = time.monotonic()
            self._is_open = False
            self._wake.notify_all()

    def looked(self, seconds: float) -> None:
        """Takes note of how long the program was held up beside its commits, by looking for where it can be committed."""
        self.pace.spent_s += seconds

    def _busy_share(self) -> float:
        """Returns the share of the other cores that the process has kept busy since it began to be looked at."""
        wall, used = time.monotonic(), time.process_time()
        cores = (used - self._used) / max(wall - self._looked, 1e-9)
        self._looked, self._used = wall, used
        others = len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) - 1
        return min(max((cores - 1) / others, 0.0), 1.0) if others else 1.0

    def _run(self) -> None:
        with self._wake:
            while not self._is_over:
                self._sleeps_until = 0.0
                if self._is_paused:
                    self._sleeps_until = math.inf
                    self._wake.wait()
                    continue
                if self._is_open:
                    if not self._wake.wait(_LOOK_AGAIN_S) and self._is_open:
                        self._request()
                    continue
                now = time.monotonic()
                due = self.pace.next_due_s(now - self._began, now - self._last)
                if due > 0:
                    self._sleeps_until = now + due
                    self._wake.wait(due)
                    continue
                self._is_open = True
                self._request()

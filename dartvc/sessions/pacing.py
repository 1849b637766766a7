"""When a run commits: as often as its overhead budget allows.

The cost of a commit is what the program waits plus what the background writer takes from its cores: where cores stand idle, writing bytes costs
nothing, but a few milliseconds of Python do, during which a program of pure Python cannot run. A commit is due when the budget (a share of the time
since the run began, without that in which the program waited for a core) covers what commits have cost so far and what the next one will.

The head of a long loop is the place where a commit is worth most: nothing is half done there. While one comes round often enough, commits wait for it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

__all__ = ["Pace", "Pacer"]

_LEAST_SPACING_S = 1.0
_LONGEST_SPACING_S = 8.0
_EXCESS_LIMIT = 3.0
_SHORT_SPACING_S, _SHORT_SPACING_SHARE = 3.0, 0.05
_SHORT_EXCESS_LIMIT = 2.5
"""Work at risk: at most 3 s and 5 % of the run where that takes no more than 2.5 times the budget, 8 s where it takes no more than 3 times."""
_FIRST_COST_S = 0.008
_WRITING_BYTES_PER_S = 400e6
_WRITING_S = 0.01
"""What the writer takes for the smallest commit, most of it Python: meanwhile a program of pure Python gets the interpreter back a hundred times."""
_COPYING_BYTES_PER_S = 1e9
"""How fast memory that was never committed is copied and hashed."""
_OBJECTS_PER_S = 1.5e6
"""How fast objects that were never committed are walked and pickled."""
_LOOK_AGAIN_S, _LOOK_AGAIN_SHARE = 1.0, 0.25
_LEAST_HEAD_SPACING_S = 0.1
_HEAD_EXCESS_LIMIT, _ITERATION_EXCESS_LIMIT = 2.0, 1.25
"""A head is committed ahead of the budget where its iteration pays for that, nearly: the first commits are dear, and no epoch is to go without one."""
_GLANCE_S, _GLANCE_SHARE, _LONGEST_GLANCE_S = 0.1, 0.1, 2.0
"""How often the loops are looked at, at first often, so that the first iteration of a long one is known, too."""
_HEAD_PATIENCE = 1.5
"""A head that is so many times later than usual is not waited for any more."""


class Pace:
    """The budget and what was spent of it; times in seconds.

    Args:
        max_overhead: share of the run time that commits may take.
        every_s: longest spacing that the user asked for, 0 for none.
        spent_s: what was spent before.
    """

    def __init__(self, max_overhead: float = 0.01, every_s: float = 0.0, spent_s: float = 0.0) -> None:
        self.max_overhead = max_overhead
        self.every_s = every_s
        self.spent_s = spent_s
        self.expected_s = _FIRST_COST_S
        self.is_new = False

    def take(self, stall_s: float, stored_bytes: int, busy: float = 1.0, *, is_new: bool = False) -> None:
        """Takes note of one commit.

        Args:
            stall_s: how long the program waited for it.
            stored_bytes: what the writer has to write.
            busy: the share of the cores beside the main thread's own that the program itself keeps busy, 0 to 1.
            is_new: whether it cost so much because of memory that was stored for the first time; the next one may be cheap, and tells.
        """
        self.is_new = is_new
        cost = stall_s + busy * stored_bytes / _WRITING_BYTES_PER_S
        if stored_bytes:
            cost += _WRITING_S
        self.spent_s += cost
        self.expected_s = cost

    def wait_for_s(self, new_bytes: int, new_objects: int, busy: float, elapsed_s: float) -> float:
        """Returns in how many seconds so much may be committed that never was: most of it is data that stays, and stored only once."""
        if self.every_s:
            return 0.0
        cost = new_bytes / _COPYING_BYTES_PER_S + busy * new_bytes / _WRITING_BYTES_PER_S + new_objects / _OBJECTS_PER_S
        return cost / max(_EXCESS_LIMIT * self.max_overhead, 1e-6) - elapsed_s if cost > _FIRST_COST_S else 0.0

    def next_due_s(self, elapsed_s: float, since_last_s: float) -> float:
        """Returns in how many seconds the next commit is due.

        Args:
            elapsed_s: since the run began.
            since_last_s: since the last commit.
        """
        if self.every_s:
            return max(0.0, self.every_s - since_last_s)
        affordable = (self.spent_s + self.expected_s) / self._share - elapsed_s
        return max(min(affordable, self._longest_s(elapsed_s) - since_last_s), _LEAST_SPACING_S - since_last_s, 0.0)

    @property
    def _share(self) -> float:
        return max(self.max_overhead * (_EXCESS_LIMIT if self.is_new else 1.0), 1e-6)

    def _longest_s(self, elapsed_s: float) -> float:
        """Returns how far commits may lie apart, whatever was spent; infinite where one costs too much for that."""
        short = min(_SHORT_SPACING_S + _SHORT_SPACING_SHARE * elapsed_s, _LONGEST_SPACING_S)
        if self.expected_s <= _SHORT_EXCESS_LIMIT * self.max_overhead * short:
            return short
        return _LONGEST_SPACING_S if self.expected_s <= _EXCESS_LIMIT * self.max_overhead * _LONGEST_SPACING_S else math.inf

    def is_due_at_head(self, elapsed_s: float, since_last_s: float, interval_s: float) -> bool:
        """Whether a program that stands at the head of a loop is to be committed there: the budget has room, or the next head comes too late.

        Args:
            elapsed_s: since the run began.
            since_last_s: since the last commit.
            interval_s: how long the loop takes from head to head.
        """
        if self.every_s:
            return since_last_s + interval_s / 2 >= self.every_s
        total_s = self.spent_s + self.expected_s
        if since_last_s >= _LEAST_HEAD_SPACING_S and total_s <= self._share * elapsed_s:
            return True
        is_paid = self.expected_s <= _ITERATION_EXCESS_LIMIT * self.max_overhead * interval_s
        if is_paid and total_s <= _HEAD_EXCESS_LIMIT * self.max_overhead * elapsed_s:
            return True
        return self.next_due_s(elapsed_s, since_last_s) <= interval_s / 2

    def held_s(self, elapsed_s: float, since_last_s: float, since_head_s: float, interval_s: float) -> float:
        """Returns how long a commit may wait for the next head of a loop that comes round every ``interval_s`` (0: there is none)."""
        if not interval_s:
            return 0.0
        longest = self.every_s + min(interval_s, self.every_s) if self.every_s else min(self._longest_s(elapsed_s), _LONGEST_SPACING_S)
        return min(longest - since_last_s, _HEAD_PATIENCE * interval_s - since_head_s)


class Pacer:
    """Asks for commits on a thread of its own.

    Args:
        pace: the budget.
        request: asks the program to stop at a safe point; called again while it has not.
        look: looks at the program as it runs, in this thread.
    """

    def __init__(self, pace: Pace, request: Callable[[], None], look: Callable[[], None] = lambda: None) -> None:
        self.pace = pace
        self._request = request
        self._look = look
        self._head = self._head_interval_s = 0.0
        self._head_loop = 0
        self._began = self._last = self._looked = time.monotonic()
        self._core_wait = _CoreWait()
        self._waited_before = self._core_wait.seconds()
        self._used = time.process_time()
        self._wake = threading.Condition()
        self._is_open = False
        self._is_over = False
        self._is_paused = False
        self._is_started = False
        self._sleeps_until = 0.0
        self._put_off_until = 0.0
        self._is_new = False
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
            self._waited_before = self._core_wait.seconds()
            self._head_interval_s = 0.0
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
            now = time.monotonic()
            self.pace.take(stall_s, stored_bytes, self._busy_share(now), is_new=self._is_new)
            self._looked, self._used = now, time.process_time()
            self._last = now
            self._is_open = False
            self._wake.notify_all()

    def affords(self, new_bytes: int, new_objects: int) -> bool:
        """Whether the program has run for long enough that so much may be committed for the first time; if not, it is asked again later."""
        with self._wake:
            now, self._is_new = time.monotonic(), bool(new_bytes or new_objects)
            wait_s = self.pace.wait_for_s(new_bytes, new_objects, self._busy_share(now), self._elapsed_s(now))
            if wait_s > 0:
                self._put_off_until = now + min(wait_s, max(_LOOK_AGAIN_S, _LOOK_AGAIN_SHARE * (now - self._began)))
                self._is_open = False
                self._wake.notify_all()
            return wait_s <= 0

    def put_off(self) -> None:
        """Takes note that the writer is behind: the program goes on, and is asked again a little later."""
        with self._wake:
            self._put_off_until = time.monotonic() + _LOOK_AGAIN_S
            self._is_open = False
            self._wake.notify_all()

    def looked(self, seconds: float) -> None:
        """Takes note of how long the program was held up beside its commits, by looking for where it can be committed."""
        self.pace.spent_s += seconds

    def at_head(self, interval_s: float, loop: int) -> bool:
        """Takes note that the program stands at the head of a loop; returns whether it is to be committed there.

        Args:
            interval_s: how long the last iteration took.
            loop: tells this loop from others.
        """
        with self._wake:
            now = time.monotonic()
            has_around = loop != self._head_loop and interval_s < self._head_interval_s <= _LONGEST_SPACING_S
            if has_around and now - self._head <= _HEAD_PATIENCE * self._head_interval_s:
                return False  # the loop around this one comes round soon enough
            self._head, self._head_interval_s, self._head_loop = now, interval_s, loop
            if self._is_over or self._is_paused or now < self._put_off_until:
                return False
            return self.pace.is_due_at_head(self._elapsed_s(now), now - self._last, interval_s)

    def _due_s(self, now: float) -> float:
        elapsed = self._elapsed_s(now)
        held = self.pace.held_s(elapsed, now - self._last, now - self._head, self._head_interval_s)
        return max(self.pace.next_due_s(elapsed, now - self._last), held, self._put_off_until - now)

    def _elapsed_s(self, now: float) -> float:
        """Returns the time that the budget is a share of: on a machine that others use, a program gets less than the clock says."""
        return max(now - self._began - (self._core_wait.seconds() - self._waited_before), 0.0)

    def _busy_share(self, now: float) -> float:
        """Returns the share of the other cores that the process has kept busy since the last commit."""
        cores = (time.process_time() - self._used) / max(now - self._looked, 1e-9)
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
                due = self._due_s(now)
                if due > 0:
                    glance = min(_GLANCE_S + _GLANCE_SHARE * (now - self._began), _LONGEST_GLANCE_S)
                    self._sleeps_until = now + min(due, glance)
                    if not self._wake.wait(min(due, glance)) and glance < due:
                        self._look()
                    continue
                self._is_open = True
                self._request()


class _CoreWait:
    """How long the main thread has been ready to run without a core to run on (Linux); its file is opened once, and stays so: a program may have
    given the descriptor to a file of its own."""

    def __init__(self) -> None:
        try:
            self._descriptor = os.open("/proc/self/schedstat", os.O_RDONLY)
        except OSError:
            self._descriptor = -1

    def seconds(self) -> float:
        """Returns it; 0 where the kernel does not tell."""
        try:
            return int(os.pread(self._descriptor, 100, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

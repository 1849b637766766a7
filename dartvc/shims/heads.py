"""The heads of long loops, where nothing is half done: the program stops there for a commit, at no cost in between.

Where the program is stopped for a commit, the loops around its place are looked at. One that is found in the same iteration again, or in
one of the next few, takes long for an iteration: its iterator on the frame's value stack is replaced by a `LoopHead`, which tells before each
iteration begins. A short loop is never touched; a long one pays a tenth of a microsecond an iteration.
"""

from __future__ import annotations

import os
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from dartvc.hindsight.contexts import iteration_in
from dartvc.hindsight.loops import CodeLoops
from dartvc.program.capture import LoopHead, Once
from dartvc.program.frames import replace_in_slot, view_of
from dartvc.program.stopping import iter_stack

__all__ = ["LoopHeads"]

_LONG_S = 0.1
_DEPTH = 40
"""Frames that a look goes through at most."""
_GENERATORS = 0x20 | 0x80 | 0x200


class LoopHeads:
    """Finds long loops and tells when they are at their heads.

    Args:
        is_user: whether a code object is the user's own.
        at_head: called in the main thread with the loop's frame and how long its last iteration took.
        long_s: an iteration that takes longer is long.
    """

    def __init__(
        self, is_user: Callable[[types.CodeType], bool], at_head: Callable[[types.FrameType, float], None], long_s: float = _LONG_S
    ) -> None:
        self._long_s = long_s
        self._is_user = is_user
        self._tell = at_head
        self._pid = os.getpid()
        self._codes: dict[types.CodeType, CodeLoops] = {}
        self._seen: dict[tuple[int, int, int], tuple[int, float]] = {}

    def look(self, innermost: types.FrameType) -> None:
        """Holds the loops around the place of a stopped program against those of the look before; called in a trace event of its frame."""
        try:
            if os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
                now = time.monotonic()
                seen: dict[tuple[int, int, int], tuple[int, float]] = {}
                for depth, frame in enumerate(iter_stack(innermost)):
                    if depth > _DEPTH:
                        break
                    if self._is_user(frame.f_code) and not frame.f_code.co_flags & _GENERATORS:
                        self._look_at(frame, now, seen)
                self._seen = seen
        except Exception:
            self._seen = {}  # whatever went wrong is ours: the program must not see it

    def _look_at(self, frame: types.FrameType, now: float, seen: dict[tuple[int, int, int], tuple[int, float]]) -> None:
        known = self._codes.get(frame.f_code)
        if known is None:
            known = self._codes[frame.f_code] = CodeLoops(frame.f_code)
        levels = known.site(frame.f_lasti).levels
        view = view_of(frame) if levels else None
        for level in levels:
            if level.slot < 0 or view is None:
                continue
            held: Any = view[level.slot]
            number = iteration_in(held, level)
            if number is None or type(held) in (LoopHead, Once) or not hasattr(held, "__next__"):
                continue
            place = id(frame), level.slot, id(held)
            first, since = self._seen.get(place, (number, now))
            if now - since >= self._long_s * max(1, number - first):
                replace_in_slot(frame, level.slot, held, LoopHead(held, self._at_head, since))
            else:
                seen[place] = first, since

    def _at_head(self, head: LoopHead, frame: types.FrameType) -> None:
        now = time.monotonic()
        interval, head.since_s = now - head.since_s, now
        if os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
            try:
                self._tell(frame, interval)
            except Exception:
                return  # ours, too

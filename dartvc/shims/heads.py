"""The heads of long loops, where nothing is half done: the program stops there for a commit, at no cost in between.

The loops around the program's place are looked at where it is stopped for a commit, and a few times a second from another thread.
One that is found in the same iteration again, or in one of the next few, takes long for an iteration: its iterator on the frame's value
stack is replaced by a `LoopHead`, which tells before each iteration begins. A loop of short iterations is not touched; where only some were long, the iterator
is put back.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dartvc.program.frames import RunningLoop, is_in_call, is_supported, replace_in_slot, view_of
from dartvc.program.standins import LoopHead, Once
from dartvc.program.stopping import iter_stack

if TYPE_CHECKING:
    from dartvc.hindsight.loops import CodeLoops, Level

__all__ = ["LoopHeads"]

_LONG_S = 0.1
_DEPTH = 40
"""Frames that a look goes through at most."""
_GENERATORS = 0x20 | 0x80 | 0x200
_SHORT_SHARE, _MOST_PASSES = 0.1, 1000
"""A loop with iterations so much shorter than long ones tells of some of them only."""


class LoopHeads:
    """Finds long loops and tells when they are at their heads.

    Args:
        is_user: whether a code object is the user's own.
        at_head: called in the main thread with the loop's frame, how long its last iteration took, and a number that tells the loop from others.
        long_s: an iteration that takes longer is long.
    """

    def __init__(
        self, is_user: Callable[[types.CodeType], bool], at_head: Callable[[types.FrameType, float, int], None], long_s: float = _LONG_S
    ) -> None:
        self._long_s = long_s
        self._is_user = is_user
        self._tell = at_head
        self._pid = os.getpid()
        self._codes: dict[types.CodeType, CodeLoops] = {}
        self._seen: dict[tuple[int, int, int], tuple[int, float]] = {}
        self._glanced: dict[tuple[int, int, int], tuple[int, float]] = {}

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
        levels = self._loops_of(frame.f_code).site(frame.f_lasti).levels
        view = view_of(frame) if levels else None
        for level in levels:
            if level.slot < 0 or view is None:
                continue
            held: Any = view[level.slot]
            if type(held) is LoopHead and held.passes:
                replace_in_slot(frame, level.slot, held, held.iterator)  # its iterations are short: it goes on as it was
                continue
            number = _iteration_in(held, level)
            if number is None or type(held) in (LoopHead, Once) or not hasattr(held, "__next__"):
                continue
            place = id(frame), level.slot, id(held)
            first, since = self._seen.get(place, (number, now))
            if now - since >= self._long_s * max(1, number - first):
                replace_in_slot(frame, level.slot, held, LoopHead(held, self._at_head, since))
            else:
                seen[place] = first, since

    def glance(self) -> None:
        """Looks at the loops of the main thread from another one, while that goes on; only loops that are in a call are seen."""
        if not is_supported() or sys.gettrace() is not None or sys.getprofile() is not None or os.getpid() != self._pid:
            return  # what traces this thread, too, would let the other one go on anywhere
        try:
            now = time.monotonic()
            seen: dict[tuple[int, int, int], tuple[int, float]] = {}
            for depth, frame in enumerate(iter_stack(sys._current_frames().get(threading.main_thread().ident or 0))):
                if depth > _DEPTH:
                    break
                if self._is_user(frame.f_code) and not frame.f_code.co_flags & _GENERATORS:
                    self._glance_at(frame, now, seen)
            self._glanced = seen
        except Exception:
            self._glanced = {}

    def _glance_at(self, frame: types.FrameType, now: float, seen: dict[tuple[int, int, int], tuple[int, float]]) -> None:
        lasti = frame.f_lasti
        if lasti < 0 or not is_in_call(frame, lasti):
            return
        for level in self._loops_of(frame.f_code).site(lasti).levels:
            if level.slot < 0:
                continue
            loop = RunningLoop(frame, lasti, level.slot)
            held: Any = loop.read()
            if type(held) is LoopHead and held.passes:
                loop.replace(held, held.iterator)
            number = _iteration_in(held, level) if type(held) not in (LoopHead, Once) and not _asks_generator(held) else None
            if number is None:
                continue
            place = id(frame), level.slot, id(held)
            first, since = self._glanced.get(place, (number, now))
            if now - since >= self._long_s * max(1, number - first):
                loop.replace(held, LoopHead(held, self._at_head, since))
            else:
                seen[place] = first, since

    def _loops_of(self, code: types.CodeType) -> CodeLoops:
        known = self._codes.get(code)
        if known is None:
            from dartvc.hindsight.loops import CodeLoops  # not before a program has run for a while

            known = self._codes[code] = CodeLoops(code)
        return known

    def _at_head(self, head: LoopHead, frame: types.FrameType) -> None:
        now = time.monotonic()
        interval, head.since_s = (now - head.since_s) / head.turns, now
        if interval < _SHORT_SHARE * self._long_s:  # one iteration was long, and others are not
            head.passes = min(int(_SHORT_SHARE * self._long_s / max(interval, 1e-9)), _MOST_PASSES)
            head.turns = head.passes + 1
            return
        head.turns = 1
        if os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
            try:
                self._tell(frame, interval, id(head))
            except Exception:
                return  # ours, too


def _iteration_in(iterator: object, level: Level) -> int | None:
    from dartvc.hindsight.contexts import iteration_in

    return iteration_in(iterator, level)


def _asks_generator(iterator: Any) -> bool:
    """Whether an iterator is, or is over, a generator, whose frame the other thread may be running in a moment."""
    if type(iterator) in (enumerate, zip, map):
        return any(map(_asks_generator, iterator.__reduce__()[1]))
    return isinstance(iterator, types.GeneratorType)

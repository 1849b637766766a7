"""Where a stopped program can be committed: shared by scripts, which stop for their whole run, and cells, which stop while they last."""

from __future__ import annotations

import os
import threading
import time
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from dartvc.host.collector import CollectorPaused
from dartvc.model import CommitKind
from dartvc.program.capture import CapturedFrame, CaptureError, Reader
from dartvc.program.places import NotResumable
from dartvc.program.sources import MODULE_SCOPE
from dartvc.program.stopping import Stopper
from dartvc.program.watched import bindings_shown, is_trampoline
from dartvc.sessions.pacing import Pace, Pacer
from dartvc.sessions.runs import RunRecorder, shown_frame
from dartvc.shims.heads import LoopHeads
from dartvc.state.adapters import why_not_now

__all__ = ["SafePoints"]

_TRIES_IN_A_FRAME = 60
_TRIES_OF_A_COMMIT = 10
"""Statements of one function at which to look again before its end is waited for; a commit in vain counts as so many looks."""
_FRAMES_KEPT = 6
_DEAR_BYTES = 8 * 1024 * 1024
_DEAR_WAIT_S = 0.9
"""A commit here takes more than twice what its callers' commits did, and so much more, or a library's source has to be read for it: it waits for
one of its callers, but no longer."""


class SafePoints:
    """Stops a program when a commit is due, and commits it where that is possible.

    Args:
        reader: captures frames.
        recorder: commits them.
        is_user: whether a code object is the user's own.
        stack_of: returns the program's frames, innermost first, up to the outermost that counts.
            Raises `NotResumable` when no safe point may come soon, `CaptureError` with the frame that has to go on first.
        around_commit: returns a context manager that each commit is made in.
        look: called from another thread a few times a second, less often later.

    Attributes:
        aside: returns a context manager in which the program is looked at.
    """

    def __init__(
        self,
        reader: Reader,
        recorder: RunRecorder,
        pace: Pace,
        is_user: Callable[[types.CodeType], bool],
        stack_of: Callable[[types.FrameType], list[types.FrameType]],
        around_commit: Callable[[], AbstractContextManager[None]] = nullcontext,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.reader = reader
        self.recorder = recorder
        self.stopper = Stopper(self._may_stop_in, self._at_safe_point)
        self.heads = LoopHeads(self._may_stop_in, self._at_head)
        self.pacer = Pacer(pace, self.stopper.request, self._glance)
        self._look = look
        self._is_user = is_user
        self._stack_of = stack_of
        self._around_commit = around_commit
        self.aside: Callable[[], AbstractContextManager[None]] = nullcontext
        self._unstorable: dict[tuple[str, int], dict[str, type]] = {}
        self._tries: dict[types.FrameType, int] = {}
        self._stall_s = 0.0
        self._new_bytes: dict[str, int] = {}
        self._worth_it: set[str] = set()
        self._dear_since = 0.0
        self._is_urgent = False

    def _may_stop_in(self, code: types.CodeType) -> bool:
        return self._is_user(code) and not is_trampoline(code)

    def request_anew(self) -> None:
        """Asks for a commit at the very next safe point, an earlier request forgotten."""
        self._is_urgent = True
        self.stopper.cancel()
        self.stopper.request()

    def _glance(self) -> None:
        self.heads.glance()
        self._look()

    def _at_head(self, frame: types.FrameType, interval_s: float, loop: int) -> None:
        """Commits a program that is about to ask the iterator of a long loop, if that is due; an open request is answered by that."""
        if self.pacer.at_head(interval_s, loop):
            count, was_requested = self.recorder.tally.commits, self.stopper.is_requested
            self.stopper.cancel()  # the commit itself is not to be traced
            self._try(frame, is_head=True)
            if was_requested and self.recorder.tally.commits == count:
                self.stopper.request()

    def _at_safe_point(self, frame: types.FrameType) -> types.FrameType | None:
        """Looks at the loops and commits; returns the frame that must go on first when that is not possible here."""
        with self.aside():
            self.heads.look(frame)
        return self._try(frame)

    def _try(self, frame: types.FrameType, *, is_head: bool = False) -> types.FrameType | None:
        """Commits at the start of a statement, or at the head of a loop; returns the frame that must go on first when that is not possible here."""
        began, self._stall_s = time.perf_counter(), 0.0
        try:
            with CollectorPaused(), self.aside():
                return self._commit_at(frame, is_head=is_head)
        finally:
            self.reader.release()
            self.pacer.looked(time.perf_counter() - began - self._stall_s)

    def _commit_at(self, frame: types.FrameType, *, is_head: bool) -> types.FrameType | None:
        may_wait = not (is_head or self._is_urgent)  # nothing is half done at the head of a long loop
        if self.recorder.is_writing_much and not self._is_urgent:
            self.pacer.put_off()
            return None
        if not self._is_urgent and (lack := self.recorder.room.lack()):
            self.recorder.tally.refused = lack
            self.pacer.put_off()
            return None
        if len(self._tries) > _FRAMES_KEPT:
            self._tries.clear()
        try:
            stack = self._stack_of(frame)
            thread = self._user_thread()
            if thread:
                raise NotResumable(f"the thread {thread} is running")
            stack.reverse()
            busy = next((index for index, each in enumerate(stack) if any(map(why_not_now, each.f_locals.values()))), -1)
            if busy >= 0:
                return self._wait_for(stack, busy, 1)
            unread = next((index for index, each in enumerate(stack) if not (self._is_user(each.f_code) or self.reader.knows(each.f_code))), -1)
            if unread > 0 and may_wait and self._is_worth_waiting():
                return stack[unread - 1]
            frames = self.reader.capture(stack)
        except NotResumable as reason:
            self.recorder.tally.refused = str(reason)
            self.pacer.committed(0.0, 0)
            return None
        except CaptureError as reason:
            self.recorder.tally.refused = reason.reason
            return reason.frame
        with bindings_shown(stack):
            return self._commit_frames(stack, frames, may_wait=may_wait)

    def _commit_frames(
        self, stack: Sequence[types.FrameType], frames: Sequence[CapturedFrame], *, may_wait: bool
    ) -> types.FrameType | None:
        """Commits what was captured of a stack, outermost frame first; returns the frame that must go on first when this is not the place for it."""
        unstorable = self._first_unstorable(frames)
        if unstorable >= 0:
            return self._wait_for(stack, unstorable, 1)
        if may_wait and self._is_dear([each.qualname for each in frames]):
            return stack[-2]
        if not self._is_urgent and not self._affords(frames):
            return None
        try:
            with self._around_commit():
                self._commit(frames)
        except BaseException:
            self.stopper.cancel()
            raise
        unstorable = self._first_unstorable(frames)
        if unstorable >= 0:
            return self._wait_for(stack, unstorable, _TRIES_OF_A_COMMIT)
        self._tries.clear()
        return None

    def _affords(self, frames: Sequence[CapturedFrame]) -> bool:
        """Whether what the program holds and was never committed may be committed by now."""
        new_bytes, new_objects = self.recorder.unseen(frames)
        if self.pacer.affords(new_bytes, new_objects):
            return True
        much = " and ".join([f"{new_bytes / 1e6:,.0f} MB"] * bool(new_bytes) + [f"{new_objects:,} objects"] * bool(new_objects))
        self.recorder.tally.refused, self.recorder.tally.put_off = "", f"{much} would have to be stored, and the run was too short for that so far"
        return False

    def _first_unstorable(self, frames: Sequence[CapturedFrame]) -> int:
        """Returns the index of the outermost frame that holds on its stack, or is known to hold at its line, what cannot be stored; -1 when none does."""
        for index, frame in enumerate(frames):
            known = self._unstorable.get((frame.qualname, frame.line))
            if (known and all(type(frame.find(part)) is kind for part, kind in known.items())) or any(map(why_not_now, frame.stack)):
                return index
        return -1

    def _is_dear(self, names: Sequence[str]) -> bool:
        """Whether a commit inside the last of these functions stored much more than one inside its nearest caller did, so that it may wait.

        A forward pass holds its activations, which are gone a moment later.
        """
        own = self._new_bytes.get(names[-1], 0)
        caller = next((self._new_bytes[name] for name in reversed(names[:-1]) if name in self._new_bytes), own)
        if names[-1] in self._worth_it or own <= 2 * caller + _DEAR_BYTES:
            return False
        if not self._is_worth_waiting():
            self._worth_it.add(names[-1])  # its callers do not come by soon
            return False
        return True

    def _is_worth_waiting(self) -> bool:
        """Whether a cheaper place is waited for: not longer than a while."""
        now = time.monotonic()
        self._dear_since = self._dear_since or now
        return now - self._dear_since <= _DEAR_WAIT_S

    def _wait_for(self, stack: Sequence[types.FrameType], index: int, cost: int) -> types.FrameType:
        """Returns the frame that must go on first: that one, and after many tries the one that called it."""
        tries = self._tries[stack[index]] = self._tries.get(stack[index], 0) + cost
        return stack[index if tries < _TRIES_IN_A_FRAME else max(index - 1, 0)]

    def _commit(self, frames: Sequence[CapturedFrame]) -> None:
        try:
            ticket = self.recorder.commit(frames, self._describe(shown_frame(frames)), CommitKind.AUTO)
            self.recorder.report_failures()
            self._unstorable.update(self.recorder.unstorable(frames))
            self._stall_s = self.recorder.last_stall_s
            size = ticket.size_bytes if ticket else 0
            self._new_bytes[frames[-1].qualname] = size
            self._dear_since, self._is_urgent = 0.0, False
            self.pacer.committed(self._stall_s, size)
        except Exception as error:
            self.recorder.tally.refused = f"{type(error).__name__}: {error}"
            self.pacer.committed(0.1, 0)

    def _describe(self, frame: CapturedFrame) -> str:
        """Returns what a commit at a frame is called: ``train.py:28 in fit``."""
        name = "" if frame.qualname == MODULE_SCOPE else f" in {frame.qualname}"
        return f"{os.path.basename(self.recorder.shown_file(frame.filename))}:{frame.line}{name}"

    def _user_thread(self) -> str:
        for thread in threading.enumerate():
            target = getattr(thread, "_target", None)
            code = getattr(getattr(target, "__func__", target), "__code__", None)
            is_own_class = isinstance(type(thread).run, types.FunctionType) and self._is_user(type(thread).run.__code__)
            if thread is not threading.main_thread() and (is_own_class or (code is not None and self._is_user(code))):
                return thread.name
        return ""

"""Where a stopped program can be committed: shared by scripts, which stop for their whole run, and cells, which stop while they last."""

from __future__ import annotations

import gc
import os
import threading
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from dartvc.model import CommitKind
from dartvc.program.capture import CapturedFrame, CaptureError, Reader
from dartvc.program.places import NotResumable
from dartvc.program.sources import MODULE_SCOPE
from dartvc.program.stopping import Stopper
from dartvc.sessions.pacing import Pace, Pacer
from dartvc.sessions.runs import RunRecorder, shown_frame

__all__ = ["SafePoints"]

_TRIES_IN_A_FRAME = 60
_TRIES_OF_A_COMMIT = 10
"""Statements of one function at which to look again before its end is waited for; a commit in vain counts as so many looks."""
_FRAMES_KEPT = 6


class SafePoints:
    """Stops a program when a commit is due, and commits it where that is possible.

    Args:
        reader: captures frames.
        recorder: commits them.
        is_user: whether a code object is the user's own.
        stack_of: returns the program's frames, innermost first, up to the outermost that counts.
            Raises `NotResumable` when no safe point may come soon, `CaptureError` with the frame that has to go on first.
        around_commit: returns a context manager that each commit is made in.
    """

    def __init__(
        self,
        reader: Reader,
        recorder: RunRecorder,
        pace: Pace,
        is_user: Callable[[types.CodeType], bool],
        stack_of: Callable[[types.FrameType], list[types.FrameType]],
        around_commit: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.reader = reader
        self.recorder = recorder
        self.stopper = Stopper(is_user, self._at_safe_point)
        self.pacer = Pacer(pace, self.stopper.request)
        self._is_user = is_user
        self._stack_of = stack_of
        self._around_commit = around_commit
        self._unstorable: dict[tuple[str, int], dict[str, type]] = {}
        self._tries: dict[types.FrameType, int] = {}

    def request_anew(self) -> None:
        """Asks for a commit at the next safe point, an earlier request forgotten."""
        self.stopper.cancel()
        self.stopper.request()

    def _at_safe_point(self, frame: types.FrameType) -> types.FrameType | None:
        """Commits at the start of a statement; returns the frame that must go on first when that is not possible here."""
        try:
            return self._commit_at(frame)
        finally:
            self.reader.release()

    def _commit_at(self, frame: types.FrameType) -> types.FrameType | None:
        if len(self._tries) > _FRAMES_KEPT:
            self._tries.clear()
        try:
            stack = self._stack_of(frame)
            thread = self._user_thread()
            if thread:
                raise NotResumable(f"the thread {thread} is running")
            frames = self.reader.capture(reversed(stack))
        except NotResumable as reason:
            self.recorder.tally.refused = str(reason)
            self.pacer.committed(0.0, 0)
            return None
        except CaptureError as reason:
            self.recorder.tally.refused = reason.reason
            return reason.frame
        stack.reverse()
        unstorable, cost = self._first_unstorable(frames), 1
        if unstorable < 0:
            try:
                with self._around_commit():
                    self._commit(frames)
            except BaseException:
                self.stopper.cancel()
                raise
            unstorable, cost = self._first_unstorable(frames), _TRIES_OF_A_COMMIT
        if unstorable < 0:
            self._tries.clear()
            return None
        tries = self._tries[stack[unstorable]] = self._tries.get(stack[unstorable], 0) + cost
        return stack[unstorable if tries < _TRIES_IN_A_FRAME else max(unstorable - 1, 0)]

    def _first_unstorable(self, frames: Sequence[CapturedFrame]) -> int:
        """Returns the index of the outermost frame that holds, or is known to hold at its line, what cannot be stored; -1 when none does."""
        for index, frame in enumerate(frames):
            known = self._unstorable.get((frame.qualname, frame.line))
            if known and all(type(frame.find(part)) is kind for part, kind in known.items()):
                return index
            if self.recorder.is_in_the_middle(frame):
                return index
        return -1

    def _commit(self, frames: Sequence[CapturedFrame]) -> None:
        was_collecting = gc.isenabled()
        gc.disable()  # else what a commit holds for a moment makes the collector look at the whole program
        try:
            ticket = self.recorder.commit(frames, self._describe(shown_frame(frames)), CommitKind.AUTO)
            self._unstorable.update(self.recorder.unstorable(frames))
            self.pacer.committed(self.recorder.last_stall_s, ticket.size_bytes if ticket else 0)
        except Exception as error:
            self.recorder.tally.refused = f"{type(error).__name__}: {error}"
            self.pacer.committed(0.1, 0)
        finally:
            gc.enable() if was_collecting else None

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

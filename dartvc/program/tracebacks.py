"""Tracebacks without the frames that stand between a caller and the user's own code when calls ask before they run.

Such a frame is added when an exception leaves it, so it cannot take itself out. What an exception has passed through is noted, and the next
handler of the program's takes it out before its first statement.
"""

from __future__ import annotations

import builtins
import itertools
import sys
import types

from dartvc.program.watched import is_block, is_trampoline

__all__ = ["CAUGHT", "note_passing", "strip"]

CAUGHT = "__dvc_caught__"
"""The builtin that handlers call first; None while no exception has frames of ours."""


def note_passing() -> None:
    """Lets the next handler of the program's take out the frames of ours that an exception has just passed through."""
    setattr(builtins, CAUGHT, _strip_caught)


def _strip_caught() -> None:
    error = sys.exception()
    if error is not None and strip(error):
        setattr(builtins, CAUGHT, None)


def strip(error: BaseException) -> bool:
    """Leaves an exception a traceback of the user's own frames; tells whether there were others."""
    entries: list[types.TracebackType] = []
    count = 0
    each = error.__traceback__
    while each is not None:
        count += 1
        if not _is_ours(each.tb_frame):
            if entries and is_block(each.tb_frame.f_code):
                entries.pop()  # the function that it is a part of
            entries.append(each)
        each = each.tb_next
    for entry, following in itertools.pairwise(entries):
        entry.tb_next = following
    if entries:
        entries[-1].tb_next = None
    error.__traceback__ = entries[0] if entries else None
    return len(entries) < count


def _is_ours(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("dartvc.") or is_trampoline(frame.f_code)

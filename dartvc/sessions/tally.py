"""What the commits of a run have cost so far, and how much work stands between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

__all__ = ["Tally", "describe_tally"]


class Tally:
    """The commits of one process of a run.

    Attributes:
        commits: those that can be resumed from.
        stall_s: how long the program waited for them.
        bytes: what they stored.
        longest_gap_s: the most work that a kill would have cost at any time.
        refused: why no commit could be made where the last one was tried; empty when it could.
        obstacle: what the last commit that was made could not store, so that none can be resumed from wherever it is made; empty when it could.
        put_off: why one that could be made waits until the run is longer; empty when none does.
        is_preempted: whether the process is about to end by SIGTERM.
    """

    def __init__(self) -> None:
        self.commits = self.bytes = 0
        self.stall_s = self.longest_gap_s = 0.0
        self.refused = self.obstacle = self.put_off = ""
        self.is_preempted = False
        self._last = time.monotonic()

    @property
    def refusal(self) -> str:
        """Why no commit to resume from could be made: what the last one lacked, wherever others were tried since, or else where one was; empty when one could."""
        return self.obstacle or self.refused

    @property
    def why_not(self) -> str:
        """Why no commit was made where the last one was due; empty when one was."""
        return self.refusal or self.put_off

    def add(self, stall_s: float, size_bytes: int, *, obstacle: str | None) -> None:
        """Counts a commit.

        Args:
            stall_s: how long the program waited for it.
            size_bytes: what it stored.
            obstacle: why it cannot be resumed from, empty when it can; None for one that is not meant to be (a start, an end).
        """
        self.stall_s += stall_s
        self.bytes += size_bytes
        if obstacle:
            self.obstacle = obstacle
            return
        if obstacle is not None:
            self.commits += 1
            self.refused = self.obstacle = self.put_off = ""
        now = time.monotonic()
        self.longest_gap_s, self._last = max(self.longest_gap_s, now - self._last), now

    def described(self, *, obstacle: str | None = None) -> dict[str, object]:
        """Returns it as JSON, for a commit to record: that one counts, as ``obstacle`` says to `add`; what it costs is not known yet."""
        is_whole = obstacle == ""
        return {
            "commits": self.commits + is_whole,
            "stall_ms": round(self.stall_s * 1e3, 1),
            "bytes": self.bytes,
            "longest_gap_s": round(max(self.longest_gap_s, (time.monotonic() - self._last) * is_whole), 1),
            "refused": self.why_not if obstacle is None else obstacle,
            "preempted": self.is_preempted,
        }


def describe_tally(facts: Mapping[str, Any], *, is_over: bool = False) -> str:
    """Returns a `Tally` as a sentence; where the run is over, nothing is at risk any more."""
    refused = facts["refused"]
    if not facts["commits"]:
        return "no commit that can be resumed from" + (f": {refused}" if refused else "")
    count = f"{facts['commits']} commit{'s' * (facts['commits'] != 1)} to resume from"
    waited = f"{count}, {facts['bytes'] / 1e6:.1f} MB, {facts['stall_ms'] / 1e3:.2f} s waited for them"
    risk = "" if is_over else f", at most {facts['longest_gap_s']:.1f} s of work at risk"
    return f"{waited}{risk}" + (f"; not committed last: {refused}" if refused else "")

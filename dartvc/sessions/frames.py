"""The frames that a commit holds: those of a program that stands somewhere, and those that an uncaught exception went through. Nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dartvc.history import Repository
from dartvc.model import Commit, CommitKind
from dartvc.program.sources import MODULE_SCOPE
from dartvc.sessions.traces import TRACEBACK, Trace, frame_prefixes

__all__ = ["Frame", "read_frames", "read_trace"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a commit, as it is recorded; as text ``frame 1  train.py:12 in fit: loss = step(batch)``.

    Attributes:
        index: 0 is the outermost.
        source: the line in which it stands, where that is recorded beside the place.
        error: the exception that led to the uncaught one and went through this frame; empty for the uncaught one's own frames.
        shown: what people call the file, where that is not the end of its path: ``In[3]``.
        locals: the names in the snapshot of its local variables, by the names that they have in the function.
    """

    index: int
    module: str
    file: str
    line: int
    function: str
    source: str = ""
    error: str = ""
    shown: str = ""
    locals: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        name = self.shown or os.path.basename(self.file)
        where = f"{name}:{self.line}" + ("" if self.function == MODULE_SCOPE else f" in {self.function}")
        return f"frame {self.index}  {where}" + (f": {self.source}" if self.source else "")


def read_trace(repository: Repository, commit: Commit) -> Trace | None:
    """Returns the traceback that a commit records, without its frames; None when it records none."""
    facts = _trace_facts(repository, commit)
    left_out = facts.get("left_out")
    return Trace(str(facts.get("text", "")), left_out=left_out if isinstance(left_out, int) else 0) if facts else None


def _trace_facts(repository: Repository, commit: Commit) -> dict[str, Any]:
    entry = repository.process(commit.oid).get(TRACEBACK) if commit.kind is CommitKind.EXCEPTION else None
    return dict(repository.summary(entry)) if entry is not None else {}


def read_frames(repository: Repository, commit: Commit) -> list[Frame]:
    """Returns the frames of a commit, outermost first, from what is recorded beside the values: nothing is loaded."""
    facts = _trace_facts(repository, commit)
    if not facts and (commit.run or commit.position is not None):
        entry = repository.process(commit.oid).get("position")
        facts = dict(repository.summary(entry)) if entry is not None else {}
    try:
        return _frames_of(facts.get("frames", []), repository.names(commit.oid))
    except (KeyError, TypeError, ValueError):
        return []  # a stranger's commit says what it likes


def _frames_of(places: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[Frame]:
    held: dict[str, dict[str, str]] = {}
    for name in names:
        prefix, _, local = name.rpartition(".")
        if local.isidentifier() and not prefix.endswith("._"):
            held.setdefault(prefix, {})[local] = name
    prefixes = frame_prefixes([str(place["function"]) for place in places])
    return [
        Frame(
            index,
            str(place["module"]),
            str(place["file"]),
            int(place["line"]),
            str(place["function"]),
            str(place.get("source", "")),
            str(place.get("error", "")),
            str(place.get("shown", "")),
            held.get(prefix, {}),
        )
        for index, (place, prefix) in enumerate(zip(places, prefixes, strict=True))
    ]

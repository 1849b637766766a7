"""A commit as everybody above the store sees it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from dartvc.model.ids import Oid
from dartvc.model.records import NamedTuple

__all__ = ["Commit", "CommitKind", "Position"]


class CommitKind(StrEnum):
    """What caused a commit. Automatic kinds may be thinned by retention, `MANUAL` never is."""

    MANUAL = "manual"
    CELL = "cell"
    AUTO = "auto"
    CHECKPOINT = "checkpoint"
    EXCEPTION = "exception"
    CHERRY_PICK = "cherry-pick"
    REVERT = "revert"
    STASH = "stash"
    START = "start"
    END = "end"


class Position(NamedTuple):
    """A place in a program where it can be resumed: file, line, function, and a serialised stack for the engine."""

    file: str
    line: int
    function: str
    stack: str = ""


class Commit(NamedTuple):
    """One checkpoint of a namespace, read from its commit object alone (no tree, no payload)."""

    oid: Oid
    tree: Oid
    parents: tuple[Oid, ...]
    message: str
    time: datetime
    kind: CommitKind
    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    run: str = ""
    position: Position | None = None
    execution: int | None = None
    size_bytes: int = 0
    stall_ms: float = 0.0
    duration_ms: float = 0.0
    error: str = ""
    seal: str = ""
    refs: tuple[str, ...] = ()
    approximate: int = 0

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.split("\n", 1)[0]

"""What a verb that moves state needs of the place where the state lives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dartvc.model.commit import CommitKind
from dartvc.model.ids import Oid
from dartvc.model.records import NamedTuple
from dartvc.model.staging import Omission

__all__ = ["RestoreReport", "Workspace"]


class RestoreReport(NamedTuple):
    """What a restore did to a namespace.

    ``written`` were loaded or patched in place, ``recomputed`` made again from their recipe, ``removed`` deleted, ``kept`` untouched;
    ``omissions`` could not be brought back, or came back different from what was committed.
    """

    written: tuple[str, ...] = ()
    recomputed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    omissions: tuple[Omission, ...] = ()
    read_bytes: int = 0


class Workspace(Protocol):
    """A HEAD, and (when a session is alive) the namespace that belongs to it."""

    @property
    def session_id(self) -> str:
        """The session's id, empty when no session is alive."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether a living namespace is attached."""
        ...

    @property
    def head(self) -> Oid | None:
        """The commit that the namespace is at."""
        ...

    @property
    def branch(self) -> str | None:
        """The checked-out branch's short name; None when HEAD is detached."""
        ...

    def checkpoint(self, message: str, kind: CommitKind, *, force: bool = False) -> Oid | None:
        """Commits what changed since HEAD, durably; returns None when nothing did (unless ``force``)."""
        ...

    def restore(
        self, oid: Oid, names: Sequence[str] | None = None, *, removed: Sequence[str] = (), trust: bool = False, map_device: str = ""
    ) -> RestoreReport:
        """Brings the namespace to the state at ``oid`` without moving HEAD; atomic.

        With ``names`` only these, without those ``removed``: the next commit records them.
        """
        ...

    def set_head(self, oid: Oid | None, branch: str | None, *, operation: str, description: str) -> None:
        """Moves HEAD (to a branch's tip, or detached) and records the operation."""
        ...

    def follow_head(self, oid: Oid | None, branch: str | None) -> None:
        """Takes note that HEAD was moved by an undo or redo that recorded itself; the next commit follows ``oid``."""
        ...

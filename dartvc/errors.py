"""Every error that dartvc raises, as one tree.

A class says what a caller would do; ``kind`` says what happened (an append-only code); the message is one sentence;
``hint`` is the command to type next; ``exit_code`` is what ``dvc-state`` exits with.

::

    DartvcError                      1
    ├── UsageError                   2   the request makes no sense as written
    ├── NotFoundError                3   no repository, unknown revision, unknown name, no living session
    ├── RefusedError                 4   refused to protect data
    │   └── UntrustedError           4   the commit was made elsewhere
    ├── PartialError                 5   restored or saved only in part; .omissions lists the rest
    ├── LockedError                  6   somebody else holds it; try again
    │   └── RefConflictError         6   a ref moved under us; read it again
    ├── RemoteError                  7   another repository could not be reached
    ├── StorageError                 1   the disk said no (full, read-only, I/O)
    └── CorruptError                 1   stored bytes are not what was written
        └── MissingObjectError       1   stored bytes are gone
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from dartvc.model import Omission

__all__ = [
    "CorruptError",
    "DartvcError",
    "LockedError",
    "MissingObjectError",
    "NotFoundError",
    "PartialError",
    "RefConflictError",
    "RefusedError",
    "RemoteError",
    "StorageError",
    "UntrustedError",
    "UsageError",
]


class DartvcError(Exception):
    """The root of the tree.

    Args:
        message: one sentence: what happened and to what.
        kind: append-only code of what happened, for programs.
        hint: the command to type next, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, kind: str = "error", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.hint = hint


class UsageError(DartvcError):
    """The request makes no sense as written."""

    exit_code = 2


class NotFoundError(DartvcError):
    """There is no such repository, revision or name."""

    exit_code = 3


class RefusedError(DartvcError):
    """Refused to protect the user's data."""

    exit_code = 4


class UntrustedError(RefusedError):
    """The commit was made on another machine, and restoring it would run its code."""


class PartialError(DartvcError):
    """Only a part was saved or restored; ``omissions`` names the rest."""

    exit_code = 5

    def __init__(self, message: str, omissions: Sequence[Omission], *, kind: str = "partial", hint: str = "") -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.omissions = tuple(omissions)


class LockedError(DartvcError):
    """Another process holds what is needed."""

    exit_code = 6


class RefConflictError(LockedError):
    """A ref was moved by somebody else since it was read."""


class RemoteError(DartvcError):
    """Another repository could not be reached or refused."""

    exit_code = 7


class StorageError(DartvcError):
    """The disk refused to write or read."""


class CorruptError(DartvcError):
    """Stored bytes are not the bytes that were written."""


class MissingObjectError(CorruptError):
    """Stored bytes are gone."""

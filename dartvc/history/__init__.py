"""Commits and what moves between them: the repository, its revisions, its operation log, its upkeep.

Turns a `StagedCommit` into git objects (`CommitWriter`) and commits back into values (`Repository`), names commits as git does, and
records every move of a ref so that it can be undone. It never unpickles and knows no living namespace: what a payload means is
`state`'s business, when to commit is `session`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.exports import lazily

if TYPE_CHECKING:
    from dartvc.history.namespace import NameEntry
    from dartvc.history.operations import Operation, OperationLog, RefMove, Standing, UndoPlan
    from dartvc.history.payloads import StoredChunk, StoredPayload
    from dartvc.history.repository import Repository
    from dartvc.history.writing import CommitWriter

__all__ = [
    "CommitWriter",
    "NameEntry",
    "Operation",
    "OperationLog",
    "RefMove",
    "Repository",
    "Standing",
    "StoredChunk",
    "StoredPayload",
    "UndoPlan",
]

__getattr__ = lazily(
    __name__,
    {
        "namespace": ("NameEntry",),
        "operations": ("Operation", "OperationLog", "RefMove", "Standing", "UndoPlan"),
        "payloads": ("StoredChunk", "StoredPayload"),
        "repository": ("Repository",),
        "writing": ("CommitWriter",),
    },
)

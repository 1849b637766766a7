"""The vocabulary: frozen value types and Protocols that every floor shares.

No I/O, no behaviour beyond small derivations, nothing imported but the standard library and `dartvc.errors`.
The main types are `Commit` (what history records) and `StagedCommit` (what a snapshot hands to history).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.exports import lazily

if TYPE_CHECKING:
    from dartvc.model.commit import Commit, CommitKind, Position
    from dartvc.model.ids import Digest, Oid, short
    from dartvc.model.staging import ChunkRef, CommitReport, LogSegment, LogSource, Omission, Payload, StagedCommit, StagedName, Summary
    from dartvc.model.workspace import RestoreReport, Workspace

__all__ = [
    "ChunkRef",
    "Commit",
    "CommitKind",
    "CommitReport",
    "Digest",
    "LogSegment",
    "LogSource",
    "Oid",
    "Omission",
    "Payload",
    "Position",
    "RestoreReport",
    "StagedCommit",
    "StagedName",
    "Summary",
    "Workspace",
    "short",
]

__getattr__ = lazily(
    __name__,
    {
        "commit": ("Commit", "CommitKind", "Position"),
        "ids": ("Digest", "Oid", "short"),
        "staging": ("ChunkRef", "CommitReport", "LogSegment", "LogSource", "Omission", "Payload", "StagedCommit", "StagedName", "Summary"),
        "workspace": ("RestoreReport", "Workspace"),
    },
)

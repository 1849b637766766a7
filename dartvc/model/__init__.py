"""The vocabulary: frozen value types and Protocols that every floor shares.

No I/O, no behaviour beyond small derivations, nothing imported but the standard library and `dartvc.errors`.
The main types are `Commit` (what history records) and `StagedCommit` (what a snapshot hands to history).
"""

from __future__ import annotations

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

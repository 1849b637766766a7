"""The vocabulary: frozen value types and Protocols that every floor shares.

No I/O, no behaviour beyond small derivations, nothing imported but the standard library and `dartvc.errors`.
The main types are `Commit` (what history records) and `StagedCommit` (what a snapshot hands to history).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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

_MODULES = {
    "commit": ("Commit", "CommitKind", "Position"),
    "ids": ("Digest", "Oid", "short"),
    "staging": ("ChunkRef", "CommitReport", "LogSegment", "LogSource", "Omission", "Payload", "StagedCommit", "StagedName", "Summary"),
    "workspace": ("RestoreReport", "Workspace"),
}


def __getattr__(name: str) -> object:
    """Loads what is asked for when it is first used: a command that only looks must not wait for what writes."""
    for module, names in _MODULES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

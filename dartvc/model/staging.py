"""What a snapshot hands to history: everything that a new commit changes, as plain bytes and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from dartvc.model.commit import CommitKind, Position
from dartvc.model.ids import Digest, Oid
from dartvc.model.records import NamedTuple

__all__ = ["ChunkRef", "CommitReport", "LogSegment", "LogSource", "Omission", "Payload", "StagedCommit", "StagedName", "Summary"]

Summary = Mapping[str, object]
"""A JSON object that describes a value to people: ``type`` always, then what its kind has (see `dartvc.state.summaries`)."""


class ChunkRef(NamedTuple):
    """A piece of a payload.

    ``data`` is None when the piece is in the repository already, under the same digest, in the same co-variable of an ancestor; else it stays as it is
    until the commit is durable.
    """

    digest: Digest
    size_bytes: int
    data: bytes | memoryview | None


class Payload(NamedTuple):
    """The stored form of one co-variable: a pickled dict of its names, and the large buffers that the pickle refers to by position."""

    names: tuple[str, ...]
    stream: tuple[ChunkRef, ...]
    buffers: tuple[tuple[ChunkRef, ...], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of the stream and of all buffers, stored already or not."""
        return sum(chunk.size_bytes for chunks in (self.stream, *self.buffers) for chunk in chunks)

    @property
    def new_bytes(self) -> int:
        """Bytes that the repository does not have yet."""
        return sum(chunk.size_bytes for chunks in (self.stream, *self.buffers) for chunk in chunks if chunk.data is not None)


class Omission(NamedTuple):
    """A name (or a part of the process) that could not be stored.

    ``path`` is where inside the object the trouble sits, as the user would write it: ``session.pool._lock``.
    ``recomputable`` tells whether its recipe (the code that made it) is kept so that a checkout can make it again.
    """

    name: str
    path: str
    reason: str
    remedy: str = ""
    recomputable: bool = False


class StagedName(NamedTuple):
    """One name whose stored form changes: its summary, and its payload or the omission that stands for it.

    ``is_same`` tells that its value did not change: it is stored anew together with one that did, or (a library's settings) for the first time.
    """

    name: str
    summary: Summary
    payload: Payload | None
    omission: Omission | None = None
    recipe: Mapping[str, object] | None = None
    is_same: bool = False


class LogSegment(NamedTuple):
    """The log records that a commit adds: those of one run since its commit before.

    Attributes:
        run: whose they are.
        lines: the records, encoded (docs/format.md).
        attachments: values too large for a line, by the name that a record calls them.
    """

    run: str
    lines: bytes
    attachments: Mapping[str, bytes] = MappingProxyType({})

    @property
    def size_bytes(self) -> int:
        """How much memory it holds."""
        return len(self.lines) + sum(map(len, self.attachments.values()))


class LogSource(Protocol):
    """What gives a session the log records for its next commit."""

    def cut(self) -> LogSegment | None:
        """Returns the records that no commit has yet; None when there are none."""
        ...

    def handed_over(self, ticket: object) -> None:
        """Takes note that a commit holds what the last `cut` returned; its ticket tells when it is durable."""
        ...


class StagedCommit(NamedTuple):
    """Everything that differs from the parent commit, ready to be written without looking at the program again.

    Names that are neither in ``changed`` nor in ``removed`` keep what the first parent has. ``process`` are entries of the
    process's state (RNG streams, cwd, ...) that changed, in the same shape as names; ``process_removed`` names those that ended.
    """

    message: str
    kind: CommitKind
    time_s: float
    utc_offset_min: int
    code: str = ""
    changed: tuple[StagedName, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    process: tuple[StagedName, ...] = ()
    process_removed: tuple[str, ...] = ()
    environment: Mapping[str, object] = MappingProxyType({})
    execution: int | None = None
    duration_ms: float = 0.0
    stall_ms: float = 0.0
    error: str = ""
    approximate: int = 0
    """How many results of the program were assembled from parts, with other last bits than one computation would give."""
    run: str = ""
    position: Position | None = None
    keep_names: bool = True
    """False: the commit holds only ``changed``, nothing is inherited from the parent."""
    logs: LogSegment | None = None
    state_of: Oid | None = None
    """A commit whose names and process state this one has, whatever its parent's are; ``changed`` is empty then."""

    @property
    def is_inside_cell(self) -> bool:
        """Whether it stands in the middle of a cell: it has a place in code, and no run that the code belongs to."""
        return self.position is not None and not self.run


class CommitReport(NamedTuple):
    """What a commit stored and what it could not store."""

    omissions: tuple[Omission, ...] = ()
    stored_bytes: int = 0
    stall_ms: float = 0.0

"""What differs between two commits, read from summaries, from the words of pickles and from raw chunks: nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dartvc.errors import DartvcError
from dartvc.history import NameEntry, Repository, StoredChunk, StoredPayload
from dartvc.model import Oid, Summary
from dartvc.state.value_diff import (
    ArrayChunk,
    Change,
    Contents,
    DiffKind,
    NameDiff,
    Node,
    Unreadable,
    content_digest,
    diff_contents,
    diff_elements,
    diff_summaries,
    headline,
    read_pickle,
)

__all__ = ["Difference", "compare"]

_READ_BYTES = 16 * 1024 * 1024
_FOREIGN_BYTES = 4
_PAYLOADS_KEPT = 4


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs between two commits."""

    before: Oid
    after: Oid
    names: tuple[NameDiff, ...]


def compare(repository: Repository, before: Oid, after: Oid, names: Sequence[str] | None = None) -> Difference:
    """Compares two commits; equal names are not mentioned, and what is kept beside a program's own names (of its stack, its process) is not.

    Of arrays and tables the elements that changed are counted from their stored bytes.
    """
    old, new = repository.names(before), repository.names(after)
    stored = _Stored(repository)
    found = []
    for name in sorted(old.keys() | new.keys()):
        if "._." in name if names is None else name not in names:
            continue
        left, right = old.get(name), new.get(name)
        if left is not None and right is not None:
            if left.oid == right.oid:
                continue
            difference = _changed(stored, left, right, old, new)
        else:
            difference = diff_summaries(name, stored.summary(left), stored.summary(right))
        if difference is not None:
            found.append(difference)
    return Difference(before, after, tuple(found))


def _changed(
    stored: _Stored, left: NameEntry, right: NameEntry, old: Mapping[str, NameEntry], new: Mapping[str, NameEntry]
) -> NameDiff | None:
    """Tells how a name differs; None when its contents are equal and only others of its co-variable changed."""
    first, second = stored.summary(left) or {}, stored.summary(right) or {}
    before, after = stored.contents(left), stored.contents(right)
    if before is None or after is None:
        mate = stored.changed_mate(right, old, new) if first == second else ""
        if mate:
            kind, line = str(second.get("type", "")), headline(second)
            return NameDiff(right.name, DiffKind.CHANGED, kind, kind, line, line, (Change("", None, None, f"stored together with {mate}"),))
        return diff_summaries(right.name, first, second)
    if first == second and _is_same(before, after):
        return None
    return diff_summaries(
        right.name, first, second, diff_values=diff_elements(before, after), diff_parts=lambda: diff_contents(before, after)
    )


def _is_same(before: Contents, after: Contents) -> bool:
    try:
        first, second = (
            content_digest(each.value, [[chunk.digest for chunk in chunks] for chunks in each.buffers], foreign=each.foreign)
            for each in (before, after)
        )
    except Unreadable:
        return False
    return first == second


class _Stored:
    """What two commits store, as far as it is read to compare them."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._read: dict[Oid, tuple[Mapping[str, object], StoredPayload, int] | None] = {}

    def summary(self, entry: NameEntry | None) -> Summary | None:
        """Returns the summary of a name."""
        return self.repository.summary(entry) if entry is not None else None

    def contents(self, entry: NameEntry) -> Contents | None:
        """Returns a name's node in its stored stream; None when it is not stored, too long to be looked into, or not to be read."""
        if entry.payload_oid is None:
            return None
        if entry.payload_oid not in self._read:
            while len(self._read) >= _PAYLOADS_KEPT:
                del self._read[next(iter(self._read))]
            self._read[entry.payload_oid] = self._open(entry.payload_oid)
        found = self._read[entry.payload_oid]
        if found is None or entry.name not in found[0]:
            return None
        members, payload, foreign = found
        return Contents(members[entry.name], [self._chunks(payload, chunks) for chunks in payload.buffers], foreign)

    def _open(self, payload_oid: Oid) -> tuple[Mapping[str, object], StoredPayload, int] | None:
        try:
            payload = self.repository.payload(payload_oid)
            if sum(payload.chunk_size(chunk) for chunk in payload.stream_chunks) > _READ_BYTES:
                return None
            stream = payload.read_stream()
            read: Node = read_pickle(stream)
            return read.pairs(), payload, int.from_bytes(stream[-_FOREIGN_BYTES:], "little")
        except (DartvcError, Unreadable, ValueError):
            return None

    def _chunks(self, payload: StoredPayload, chunks: Sequence[StoredChunk]) -> list[ArrayChunk]:
        def reader(chunk: StoredChunk) -> Callable[[], bytes]:
            return lambda: self.repository.database.read_blob(chunk.oid)

        return [ArrayChunk(chunk.digest, payload.chunk_size(chunk), reader(chunk)) for chunk in chunks]

    def changed_mate(self, entry: NameEntry, old: Mapping[str, NameEntry], new: Mapping[str, NameEntry]) -> str:
        """Returns a name stored together with this one whose summary changed; an empty text when there is none."""
        for name, other in new.items():
            is_mate = name != entry.name and other.payload_oid == entry.payload_oid is not None
            if is_mate and name in old and old[name].summary_oid != other.summary_oid:
                return name
        return ""

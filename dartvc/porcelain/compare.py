"""What differs between two commits, read from summaries and raw chunks: nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dartvc.errors import DartvcError
from dartvc.history import NameEntry, Repository, StoredChunk, StoredPayload
from dartvc.model import Oid, Summary
from dartvc.state.value_diff import ArrayChunk, ArrayDiff, NameDiff, diff_arrays, diff_summaries

__all__ = ["Difference", "compare"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs between two commits."""

    before: Oid
    after: Oid
    names: tuple[NameDiff, ...]


def compare(repository: Repository, before: Oid, after: Oid, names: Sequence[str] | None = None) -> Difference:
    """Compares two commits; equal names are not mentioned. Of arrays the changed elements are counted from their stored chunks."""
    old, new = repository.names(before), repository.names(after)
    found = []
    for name in sorted(old.keys() | new.keys()):
        if names is not None and name not in names:
            continue
        left, right = old.get(name), new.get(name)
        if left is not None and right is not None and left.tree_oid == right.tree_oid:
            continue
        first = repository.summary(left) if left is not None else None
        second = repository.summary(right) if right is not None else None
        values = _array_diff(repository, left, right, first, second)
        found.append(diff_summaries(name, first, second, diff_values=values))
    return Difference(before, after, tuple(found))


def _array_diff(
    repository: Repository, left: NameEntry | None, right: NameEntry | None, first: Summary | None, second: Summary | None
) -> ArrayDiff | None:
    """Counts the changed elements of a large array; None for anything else."""
    if left is None or right is None or first is None or second is None or left.payload_oid is None or right.payload_oid is None:
        return None
    if not _is_same_array(first, second):
        return None
    try:
        old, new = repository.payload(left.payload_oid), repository.payload(right.payload_oid)
        if len(old.buffers) != 1 or len(new.buffers) != 1:
            return None
        shape = second["shape"]
        assert isinstance(shape, list)
        return diff_arrays(str(second["dtype"]), shape, _chunks(repository, old), _chunks(repository, new))
    except DartvcError:
        return None


def _is_same_array(first: Mapping[str, object], second: Mapping[str, object]) -> bool:
    keys = ("type", "shape", "dtype")
    return first.get("type") == "numpy.ndarray" and all(first.get(key) == second.get(key) for key in keys)


def _chunks(repository: Repository, payload: StoredPayload) -> list[ArrayChunk]:
    def reader(chunk: StoredChunk) -> Callable[[], bytes]:
        return lambda: repository.database.read_blob(chunk.oid)

    return [ArrayChunk(chunk.digest, payload.chunk_size(chunk), reader(chunk)) for chunk in payload.buffers[0]]

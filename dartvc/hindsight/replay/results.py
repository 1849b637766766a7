"""What a replay found: read from its lines, held against what the run recorded, added to the run exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dartvc.hindsight.contexts import Context
from dartvc.hindsight.records import REPLAYED, Chunk, LogRecord, decode_chunks
from dartvc.hindsight.replay.patching import is_wanted
from dartvc.hindsight.segments import LogTip, attach_records, segments_of
from dartvc.history import Repository
from dartvc.history.logs import read_attachment, read_segment
from dartvc.model import Oid
from dartvc.store import TreeEntry

__all__ = [
    "Comparison",
    "Earlier",
    "Place",
    "are_equal",
    "compare",
    "earlier_replay",
    "found_earlier",
    "keep",
    "names_recorded",
    "of_names",
    "place_of",
    "recorded_by",
    "records_in",
]

_FACTS = "replay.json"
Place = tuple[tuple[str, str, int, str, int, int], ...]
"""The path of a context: of each loop its identity, the entry, the iteration."""


def records_in(lines: bytes) -> Iterator[LogRecord]:
    """Yields the records of a segment, with their contexts."""
    for chunk in decode_chunks(lines):
        yield from _records_of(chunk)


def _records_of(chunk: Chunk) -> Iterator[LogRecord]:
    contexts: list[Context] = []
    for parent, loop, entry, iteration, targets in zip(
        chunk.parents, chunk.loop_of, chunk.entries, chunk.iterations, chunk.targets, strict=True
    ):
        contexts.append(Context(contexts[parent] if parent >= 0 else None, chunk.loops[loop], entry, iteration, tuple(targets)))
    for index, (name, value, time_s, context) in enumerate(zip(chunk.names, chunk.values, chunk.times_s, chunk.contexts, strict=True)):
        yield LogRecord(name, value, time_s, contexts[context] if context >= 0 else None, chunk.arguments.get(index))


def recorded_by(repository: Repository, run: str) -> Iterator[LogRecord]:
    """Yields what a run recorded itself."""
    tip = repository.database.refs.read(f"refs/runs/{run}")
    for segment in segments_of(repository, LogTip(f"refs/runs/{run}", run, tip)) if tip is not None else ():
        for chunk in decode_chunks(read_segment(repository.database, segment)):
            if chunk.source != REPLAYED:
                yield from _records_of(chunk)


def names_recorded(repository: Repository, run: str) -> frozenset[str]:
    """Returns the names that a run recorded itself."""
    return frozenset(record.name for record in recorded_by(repository, run))


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier replay of a run was: the digest of the program that it executed, for which names, and for which part of the run."""

    digest: str
    names: tuple[str, ...]
    parts: tuple[str, ...] = ()
    """Each tells some of the iterations; empty: all of them."""
    segment: TreeEntry | None = None


def earlier_replay(repository: Repository, run: str, digest: str) -> Earlier | None:
    """Returns the replay that executed the same program and whose records still count; None when there is none."""
    tip = repository.database.refs.read(f"refs/logs/{run}")
    found: Earlier | None = None
    for segment in segments_of(repository, LogTip("", run, tip)) if tip is not None else ():
        facts = read_attachment(repository.database, segment, _FACTS)
        if facts is not None:
            body = json.loads(facts)
            present = Earlier(str(body["digest"]), tuple(body["names"]), tuple(body.get("parts", ())), segment)
            if present.digest == digest:
                found = present
            elif found is not None and set(found.names) & set(present.names):
                found = None
    return found


def found_earlier(repository: Repository, earlier: Earlier) -> tuple[list[LogRecord], dict[str, bytes]]:
    """Returns what an earlier replay found, and its values that are too large for a line."""
    assert earlier.segment is not None
    records = [record for chunk in decode_chunks(read_segment(repository.database, earlier.segment)) for record in _records_of(chunk)]
    attachments = {}
    for record in records:
        if isinstance(record.value, dict) and "blob" in record.value:
            name = str(record.value["blob"])
            content = read_attachment(repository.database, earlier.segment, name)
            if content is not None:
                attachments[name] = content
    return records, attachments


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values that were logged again, held against the recorded ones.

    Attributes:
        compared: how many there were.
        different: how many of them are not the same.
        example: the first of these, in words.
    """

    compared: int
    different: int
    example: str


def compare(recorded: Iterable[LogRecord], replayed: Iterable[LogRecord]) -> Comparison:
    """Holds what was logged again (same name, same iteration, same turn in it) against what was recorded."""
    known = dict(_placed(recorded))
    compared = different = 0
    example = ""
    for (name, place, turn), record in _placed(replayed):
        before = known.get((name, place, turn))
        if before is None:
            continue
        compared += 1
        if not are_equal(before.value, record.value):
            different += 1
            example = example or f"{name}{_shown(place)} was {_brief(before.value)} and is {_brief(record.value)}"
    return Comparison(compared, different, example)


def keep(
    repository: Repository,
    run: str,
    records: Sequence[LogRecord],
    names: Sequence[str],
    digest: str,
    attachments: Mapping[str, bytes],
    parts: Sequence[str] = (),
) -> Oid:
    """Adds what a replay found to its run, durably, in one commit; it replaces what earlier replays found of these names.

    Args:
        repository: where.
        run: its id.
        records: what was found.
        names: of what was asked for.
        digest: of the program that was executed.
        attachments: values too large for a line.
        parts: what was asked for of the run, each in words; none: everything.

    Raises:
        StorageError: the disk refused; nothing was added.
    """
    facts = json.dumps({"digest": digest, "names": list(names), "parts": list(parts)}).encode()
    message = f"replay {' '.join(names)}"
    used = {str(record.value["blob"]) for record in records if isinstance(record.value, dict) and "blob" in record.value}
    kept = {name: content for name, content in attachments.items() if name in used}
    return attach_records(repository, run, records, message=message, attachments={**kept, _FACTS: facts}, replaces=names)


def of_names(records: Iterable[LogRecord], names: Sequence[str]) -> list[LogRecord]:
    """Returns the records of the names that are asked for; what ``dartvc.arg`` gave is none."""
    return [record for record in records if record.argument is None and is_wanted(record.name, names)]


def _placed(records: Iterable[LogRecord]) -> Iterator[tuple[tuple[str, Place, int], LogRecord]]:
    places: dict[int, tuple[Context, Place]] = {}
    turns: dict[tuple[str, Place], int] = {}
    for record in records:
        if record.argument is None:
            place = _place(record.context, places)
            turn = turns[record.name, place] = turns.get((record.name, place), -1) + 1
            yield (record.name, place, turn), record


def place_of(context: Context | None) -> Place:
    """Returns the path of a context."""
    return _place(context, {})


def _place(context: Context | None, places: dict[int, tuple[Context, Place]]) -> Place:
    if context is None:
        return ()
    known = places.get(id(context))
    if known is None:
        loop = context.loop
        level = (loop.function, loop.name, loop.ordinal, loop.file, context.entry, context.iteration)
        known = places[id(context)] = context, (*_place(context.parent, places), level)
    return known[1]


def are_equal(one: object, other: object) -> bool:
    """Whether two stored values are the same to the last bit; the name of an attachment is the hash of its content."""
    return type(one) is type(other) and (one == other or json.dumps(one) == json.dumps(other))


def _shown(place: Place) -> str:
    return f" at {', '.join(f'{level[1]} {level[5]}' for level in place)}" if place else ""


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."

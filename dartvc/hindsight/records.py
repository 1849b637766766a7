"""Log records as bytes: lines of JSON, each a chunk of records in columns.

A chunk can be read by itself. Its columns are lists of equal length: a JSON encoder in C writes them several times faster than one object
a record. The contexts of its records (one iteration of one loop each, see `dartvc.hindsight.contexts`) are a table of their own, parents first.
docs/format.md describes every key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dartvc.errors import CorruptError
from dartvc.hindsight.contexts import Context
from dartvc.hindsight.loops import Loop
from dartvc.model.records import NamedTuple

__all__ = ["Chunk", "LogRecord", "decode_chunks", "encode_chunk", "open_state"]

RECORDED = "run"
REPLAYED = "replay"


class LogRecord(NamedTuple):
    """One record, as a program made it.

    ``argument`` is None for ``dartvc.log``; for ``dartvc.arg`` it holds the default and whether another value was given.
    """

    name: str
    value: object
    time_s: float
    context: Context | None
    argument: tuple[object, bool] | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A line, read.

    Attributes:
        first: the number of its first record in its run.
        source: ``run``, or ``replay`` for records that were made afterwards.
        names: of each record.
        values: of each record, as `dartvc.hindsight.values.stored_value` gives them.
        times_s: of each record.
        contexts: of each record its position in the columns below, -1 outside of all loops.
        loops: the loops of the contexts.
        parents: of each context the position of the one around it, -1 for none.
        loop_of: of each context the position of its loop.
        entries: of each context.
        iterations: of each context.
        targets: of each context the values of the loop's targets.
        arguments: by position of the record: its default and whether another value was given.
        replaces: names of which earlier replayed records do not count any more.
    """

    first: int
    source: str
    names: list[str]
    values: list[object]
    times_s: list[float]
    contexts: list[int]
    loops: list[Loop]
    parents: list[int]
    loop_of: list[int]
    entries: list[int]
    iterations: list[int]
    targets: list[list[object]]
    arguments: dict[int, tuple[object, bool]] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()


def encode_chunk(
    first: int,
    records: Sequence[LogRecord | tuple[Any, ...]],
    *,
    source: str = RECORDED,
    root_entries: Mapping[Loop, int] | None = None,
    replaces: Sequence[str] = (),
) -> bytes:
    """Returns records as one line.

    Args:
        first: the number of the first one in its run.
        records: `LogRecord`s, or tuples of its first four fields.
        source: see `Chunk`.
        root_entries: how often loops that stand in no other were entered so far (`LoopReader.entries`).
        replaces: names of which earlier replayed records do not count any more.
    """
    table = _ContextTable()
    names: dict[str, int] = {}
    start = records[0][2] if records else 0.0
    body: dict[str, object] = {
        "first": first,
        "source": source,
        "start": start,
        "name": [names.setdefault(record[0], len(names)) for record in records],
        "value": [record[1] for record in records],
        "us": [int((record[2] - start) * 1e6) for record in records],
        "context": [table.position(record[3]) if record[3] is not None else -1 for record in records],
        "names": [str(name) for name in names],
        **table.columns(),
    }
    arguments = {index: record[4] for index, record in enumerate(records) if len(record) > 4 and record[4] is not None}
    if arguments:
        body["arguments"] = arguments
    if replaces:
        body["replaces"] = list(replaces)
    last = records[-1][3] if records else None
    body["open"] = (
        [
            [_loop_json(each.loop), each.entry, each.iteration, each.values, each.tail, _entries_json(each.entries or {})]
            for each in last.chain()
        ]
        if last
        else []
    )
    body["entered"] = _entries_json(root_entries or {})
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


class _ContextTable:
    """The contexts of one chunk."""

    def __init__(self) -> None:
        self._positions: dict[int, int] = {}
        self._contexts: list[Context] = []
        self._parents: list[int] = []

    def position(self, context: Context) -> int:
        known = self._positions.get(id(context))
        if known is None:
            parent = context.parent
            above = -1 if parent is None else self.position(parent)
            self._parents.append(above)
            self._contexts.append(context)
            known = self._positions[id(context)] = len(self._contexts) - 1
        return known

    def columns(self) -> dict[str, object]:
        loops: dict[Loop, int] = {}
        contexts = self._contexts
        known: dict[int, int] = {}
        for each in contexts:
            if id(each.loop) not in known:
                known[id(each.loop)] = loops.setdefault(each.loop, len(loops))
        return {
            "parent": self._parents,
            "loop": [known[id(each.loop)] for each in contexts],
            "entry": [each.entry for each in contexts],
            "iteration": [each.iteration for each in contexts],
            "targets": [each.values for each in contexts],
            "loops": [_loop_json(each) for each in loops],
        }


def decode_chunks(lines: bytes, *, is_torn: bool = False) -> Iterator[Chunk]:
    """Yields the chunks of a segment or of a journal.

    Args:
        lines: what was written.
        is_torn: the writer may have been killed in the middle of the last line; it is passed over then.

    Raises:
        CorruptError: a line is not a chunk.
    """
    for line in lines.split(b"\n"):
        if not line:
            continue
        try:
            yield _chunk_of(json.loads(line))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            if is_torn:
                return
            raise CorruptError(f"a line of log records cannot be read: {error}", kind="log-line", hint="dvc-state fsck") from error


def open_state(lines: bytes) -> tuple[int, list[Context], dict[Loop, int]]:
    """Returns what the next process needs to go on behind a segment: the number of the next record, the loops that were open, those that were entered."""
    body = json.loads(lines.rstrip(b"\n").rpartition(b"\n")[2])
    chain: list[Context] = []
    for loop, entry, iteration, values, tail, entries in body["open"]:
        context = Context(chain[-1] if chain else None, _loop(loop), entry, iteration, tuple(values))
        context.tail = tuple(tail)
        context.entries = {_loop(each): count for each, count in entries}
        chain.append(context)
    return int(body["first"]) + len(body["name"]), chain, {_loop(each): count for each, count in body["entered"]}


def _chunk_of(body: Mapping[str, Any]) -> Chunk:
    names, start = body["names"], body["start"]
    return Chunk(
        first=int(body["first"]),
        source=str(body["source"]),
        names=[names[each] for each in body["name"]],
        values=body["value"],
        times_s=[start + each / 1e6 for each in body["us"]],
        contexts=body["context"],
        loops=[_loop(each) for each in body["loops"]],
        parents=body["parent"],
        loop_of=body["loop"],
        entries=body["entry"],
        iterations=body["iteration"],
        targets=body["targets"],
        arguments={int(index): (default, bool(given)) for index, (default, given) in body.get("arguments", {}).items()},
        replaces=tuple(body.get("replaces", ())),
    )


def _loop_json(loop: Loop) -> list[object]:
    return [loop.function, loop.name, loop.ordinal, loop.file, loop.targets, loop.line, loop.is_for]


def _loop(fields: Sequence[Any]) -> Loop:
    function, name, ordinal, file, targets, line, is_for = fields
    return Loop(str(function), str(name), int(ordinal), str(file), tuple(targets), int(line), bool(is_for))


def _entries_json(entries: Mapping[Loop, int]) -> list[object]:
    return [[_loop_json(loop), count] for loop, count in entries.items()]

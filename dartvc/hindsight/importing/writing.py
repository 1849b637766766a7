"""Foreign runs as commits: each is the log of one run on ``refs/logs/<id>``, many of them behind one barrier of the disk.

A run that was imported before and has gained records since gets a commit with these; one whose earlier records are others now (a parameter was changed) is
written anew. What is equal adds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.errors import DartvcError
from dartvc.hindsight.contexts import Context
from dartvc.hindsight.importing.foreign import ForeignRun, LoopStep, RunSource
from dartvc.hindsight.loops import Loop
from dartvc.hindsight.records import RECORDED, REPLAYED, LogRecord, encode_chunk
from dartvc.hindsight.segments import run_entry
from dartvc.hindsight.values import stored_value
from dartvc.history import Repository
from dartvc.model import CommitKind, LogSegment, Oid, StagedCommit

__all__ = ["Failure", "ImportedRun", "import_runs", "run_id_of"]

_LOGS = "refs/logs/"
_ID_BYTES = 8
_CHUNK_RECORDS = 20_000
_BATCH_RUNS = 64
_BATCH_RECORDS = 100_000
_READ_ERRORS = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, DartvcError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """One run after its import; ``outcome`` is new, grown, changed or unchanged, ``records`` how many were added."""

    run: str
    tool: str
    origin: str
    name: str
    outcome: str
    records: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be read, and why."""

    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Read:
    """A run as it will be written: its records with values as they are stored, of which those from number ``replayed_from`` were replayed."""

    foreign: ForeignRun
    run: str
    records: Sequence[LogRecord]
    replayed_from: int
    attachments: Mapping[str, bytes]
    facts: Mapping[str, Any]


def run_id_of(tool: str, origin: str) -> str:
    """Returns the id that a foreign run has here; the same wherever it is imported."""
    return hashlib.blake2b(f"{tool}\0{origin}".encode(), digest_size=_ID_BYTES).hexdigest()


def import_runs(repository: Repository, sources: Iterable[RunSource], where: str) -> Iterator[ImportedRun | Failure]:
    """Imports runs, and yields each when it is durable; one that cannot be read is named and passed over.

    Args:
        repository: where to.
        sources: the runs.
        where: what they are read from, for the record.

    Raises:
        StorageError: the disk refused; what was yielded before is there.
    """
    batch: list[_Read] = []
    for source in sources:
        try:
            batch.append(_prepared(source.read(), where))
        except _READ_ERRORS as error:
            yield Failure(source.label, f"{type(error).__name__}: {error}" if not isinstance(error, DartvcError) else error.message)
            continue
        if len(batch) >= _BATCH_RUNS or sum(len(each.records) for each in batch) >= _BATCH_RECORDS:
            yield from _write(repository, batch)
            batch = []
    yield from _write(repository, batch)


def _prepared(foreign: ForeignRun, where: str) -> _Read:
    contexts: dict[tuple[LoopStep, ...], Context] = {}
    loops: dict[tuple[str, ...], Loop] = {}
    attachments: dict[str, bytes] = {}
    attach = attachments.__setitem__
    records = [
        LogRecord(name, stored_value(value, attach), foreign.started_s, None, (None, True)) for name, value in foreign.arguments.items()
    ]
    records += [
        LogRecord(each.name, stored_value(each.value, attach), each.time_s, _context(each.loops, contexts, loops, foreign.tool))
        for each in foreign.records
    ]
    facts = {
        "type": "run",
        "id": run_id_of(foreign.tool, foreign.origin),
        "name": foreign.name,
        "script": foreign.script,
        "argv": list(foreign.command),
        "cwd": foreign.cwd,
        "state": foreign.state,
        "started": foreign.started_s,
        "ended": foreign.ended_s,
        "exit_code": None,
        "revision": foreign.revision,
        "tags": dict(sorted(foreign.tags.items())),
        "imported": {"tool": foreign.tool, "origin": foreign.origin, "from": where},
    }
    replayed = sum(each.is_replayed for each in foreign.records)
    return _Read(foreign, str(facts["id"]), records, len(records) - replayed, attachments, facts)


def _context(
    steps: tuple[LoopStep, ...], contexts: dict[tuple[LoopStep, ...], Context], loops: dict[tuple[str, ...], Loop], tool: str
) -> Context | None:
    if not steps:
        return None
    known = contexts.get(steps)
    if known is None:
        path = tuple(step.loop for step in steps)
        loop = loops.get(path)
        if loop is None:
            loop = loops[path] = Loop("/".join(path[:-1]), path[-1], 0, tool, (path[-1],), 0, True)
        parent = _context(steps[:-1], contexts, loops, tool)
        known = contexts[steps] = Context(parent, loop, 0, steps[-1].iteration, (steps[-1].value,))
    return known


def _digest(records: Sequence[LogRecord]) -> str:
    running = hashlib.blake2b(digest_size=16)
    for record in records:
        steps = [(each.loop.name, each.iteration) for each in record.context.chain()] if record.context is not None else []
        running.update(json.dumps([record.name, record.value, round(record.time_s, 6), steps, record.argument]).encode())
    return running.hexdigest()


def _write(repository: Repository, batch: Sequence[_Read]) -> Iterator[ImportedRun]:
    """Writes runs behind one barrier; each is compared with what is there while nobody else writes."""
    if not batch:
        return
    refs = repository.database.refs
    done: list[ImportedRun] = []
    moves: list[tuple[str, Oid, Oid | None]] = []
    with repository.database.lock():
        writer = repository.writer()
        written: set[str] = set()
        for each in batch:
            ref = _LOGS + each.run
            present = refs.read(ref)
            outcome, first = _compare(repository, each, present) if ref not in written else ("unchanged", len(each.records))
            done.append(
                ImportedRun(each.run, each.foreign.tool, each.foreign.origin, each.foreign.name, outcome, len(each.records) - first)
            )
            if outcome != "unchanged":
                is_anew = outcome == "changed"
                oid = writer.write(_staged(each, first), (present,) if present is not None and not is_anew else ())
                moves.append((ref, oid, present))
                written.add(ref)
        writer.publish()
        for ref, oid, present in moves:
            refs.move(ref, oid, expected=present)
    repository.database.tidy()
    yield from done


def _compare(repository: Repository, read: _Read, present: Oid | None) -> tuple[str, int]:
    """Returns what becomes of a run, and how many of its records are there already."""
    if present is None:
        return "new", 0
    entry = repository.process(present).get("run")
    facts = dict(repository.summary(entry)) if entry is not None else {}
    imported: Any = facts.get("imported") or {}
    count, digest = imported.get("records", -1), imported.get("digest")
    if not 0 <= count <= len(read.records) or _digest(read.records[:count]) != digest:
        return "changed", 0
    ours = {**facts, "imported": None}
    if count == len(read.records) and ours == json.loads(json.dumps({**read.facts, "imported": None})):
        return "unchanged", count
    return "grown", count


def _staged(read: _Read, first: int) -> StagedCommit:
    """Returns the commit of a run's records from number ``first``; its time is that of the run's end."""
    facts = {**read.facts, "imported": {**read.facts["imported"], "records": len(read.records), "digest": _digest(read.records)}}
    lines = []
    for start, end, source in ((first, read.replayed_from, RECORDED), (max(first, read.replayed_from), len(read.records), REPLAYED)):
        for at in range(start, end, _CHUNK_RECORDS):
            number = at if source == RECORDED else 0
            lines.append(encode_chunk(number, read.records[at : min(at + _CHUNK_RECORDS, end)], source=source))
    logs = LogSegment(read.run, b"".join(lines), read.attachments) if lines or not first else None
    foreign = read.foreign
    message = f"{foreign.tool}: {foreign.name or foreign.origin}"
    return StagedCommit(
        message, CommitKind.MANUAL, max(foreign.ended_s, foreign.started_s, 0.0), 0, process=(run_entry(facts),), run=read.run, logs=logs
    )

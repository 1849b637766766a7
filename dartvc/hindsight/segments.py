"""The log records that a repository holds: of each run the segments of its commits, what was attached later, and the tail in its journal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dartvc.errors import DartvcError
from dartvc.hindsight.journal import forget_tail, is_held, read_attachments, read_tail, tails
from dartvc.hindsight.records import REPLAYED, LogRecord, encode_chunk
from dartvc.history import Repository
from dartvc.history.logs import iter_segments, read_segment, run_of_logs
from dartvc.host.entropy import local_now
from dartvc.model import CommitKind, LogSegment, Oid, Payload, StagedCommit, StagedName
from dartvc.store import TreeEntry

__all__ = ["LogTip", "attach_records", "commit_journal", "harvest", "last_lines", "log_tips", "run_entry", "segments_of"]

_RUNS = "refs/runs/"
_LOGS = "refs/logs/"


@dataclass(frozen=True, slots=True)
class LogTip:
    """A ref that names log records: ``refs/runs/<run>`` for what a run recorded, ``refs/logs/<run>`` for other runs and for what was attached."""

    ref: str
    run: str
    oid: Oid


def log_tips(repository: Repository) -> Iterator[LogTip]:
    """Yields the refs that may name log records."""
    for prefix in (_RUNS, _LOGS):
        for ref, oid in repository.database.refs.iter_refs(prefix):
            yield LogTip(ref, ref.removeprefix(prefix), oid)


def segments_of(repository: Repository, tip: LogTip) -> list[TreeEntry]:
    """Returns the segments that a tip names, in order."""
    tree = repository.logs_tree(tip.oid)
    if tree is None or run_of_logs(repository.database, tree) != tip.run:
        return []
    return list(iter_segments(repository.database, tree))


def last_lines(repository: Repository, oid: Oid, run: str) -> bytes:
    """Returns the lines of the last segment of a run at a commit; empty when it has none."""
    segments = segments_of(repository, LogTip("", run, oid))
    return read_segment(repository.database, segments[-1]) if segments else b""


def attach_records(
    repository: Repository,
    run: str,
    records: Sequence[LogRecord],
    *,
    message: str,
    attachments: Mapping[str, bytes] | None = None,
    replaces: Sequence[str] = (),
) -> Oid:
    """Adds records to a run that is over, durably: those that a replay made. Their contexts are those of the run's own loops.

    Records of a name that the run has itself are kept, and queries prefer the run's own; of a name that was attached twice the later ones count.
    What was attached earlier of the names in ``replaces`` does not count any more.

    Raises:
        StorageError: the disk refused; nothing was added.
    """
    line = encode_chunk(0, records, source=REPLAYED, replaces=replaces)
    return _commit_logs(repository, LogSegment(run, line, dict(attachments or {})), message, {})


def commit_journal(repository: Repository, run: str) -> Oid | None:
    """Commits the journal of a run that no session commits, and removes it; None when it is empty."""
    folder = repository.path / "runs" / run
    lines, facts = read_tail(folder)
    if not lines:
        return None
    made = _commit_logs(repository, LogSegment(run, lines, read_attachments(folder)), f"log of {facts.get('script') or run}", facts)
    forget_tail(folder)
    return made


def harvest(repository: Repository) -> None:
    """Commits the journals that notebooks and processes without a session left behind; those of runs stay, because a run may be resumed."""
    for run, folder in tails(repository.path):
        if repository.database.refs.read(f"{_RUNS}{run}") is None and not is_held(folder):
            with contextlib.suppress(DartvcError, OSError):
                commit_journal(repository, run)


def _commit_logs(repository: Repository, segment: LogSegment, message: str, facts: Mapping[str, object]) -> Oid:
    database = repository.database
    ref = f"{_LOGS}{segment.run}"
    now, offset = local_now()
    process = (run_entry({**facts, "type": "run", "id": segment.run}),) if facts else ()
    staged = StagedCommit(message, CommitKind.MANUAL, now, offset, process=process, run=segment.run, logs=segment)
    with database.lock():
        present = database.refs.read(ref)
        writer = repository.writer()
        oid = writer.write(staged, (present,) if present is not None else ())
        writer.publish()
        database.refs.move(ref, oid, expected=present)
    database.tidy()
    return oid


def run_entry(facts: Mapping[str, object]) -> StagedName:
    """Returns the entry of a commit's process that describes its run."""
    from dartvc.state.chunking import match_stream  # readers do without the pickler
    from dartvc.state.saving import Saving, save

    refs, _ = match_stream(save({"run": None}, Saving({}, "__main__")).stream, ())
    return StagedName("run", facts, Payload(("run",), refs))

"""FlorDB's runs: the JSON lines in ``.flor/runs`` (4.x) and the SQLite databases ``<project>.db`` of 4.x and 3.x, read as files.

The lines are the truth of version 4, its database is a cache of them that also holds what replays found; version 3 keeps the loops in a table of their own.
FlorDB's own records (``time::...``, starts, files) are left out. Its database keeps values as text: they come back as numbers where the text is theirs.
"""

from __future__ import annotations

import ast
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from dartvc.errors import CorruptError, NotFoundError
from dartvc.hindsight.importing.foreign import ForeignRecord, ForeignRun, LoopStep, RunSource, scalar_of
from dartvc.hindsight.importing.stores import columns_of, is_sqlite, open_store

__all__ = ["find_flordb"]

_LOGGED = 1
_FORWARD = "forward"
_SPENT = ("time::setup", "time::loop", "time::teardown")
Row = Mapping[str, Any]


def find_flordb(path: Path) -> Iterator[RunSource]:
    """Yields the runs of a project's folder, of its ``.flor`` or ``.flor/runs``, of one file of lines or one database.

    Raises:
        NotFoundError: there is none.
    """
    folders = [path / ".flor", path] if path.is_dir() else []
    lines = (
        [path]
        if path.suffix == ".jsonl"
        else sorted({each for folder in folders for sub in ("", "runs") for each in (folder / sub).glob("*.jsonl")})
    )
    stores = [
        each
        for each in ([path] if not folders else sorted({each for folder in folders for each in folder.glob("*.db")}))
        if is_sqlite(each)
    ]
    if not lines and not stores:
        raise NotFoundError(
            f"there is no FlorDB log at {path}", kind="no-store", hint="dvc-state import flordb PROJECT, or a database below ~/.flor"
        )
    known: set[str] = set()
    for file in lines:
        known.add(file.stem)
        yield RunSource(f"run {file.stem} ({file})", partial(_read_lines, file, stores))
    for store in stores:
        yield from _stored_runs(store, known)


def _read_lines(file: Path, stores: Sequence[Path]) -> ForeignRun:
    rows: list[Row] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({**row, "loops": _steps(row["ctx"])})
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptError(f"line {number} of {file.name} is no record: {error}", kind="flor-line", hint="flordb unpack") from None
    if not rows:
        raise CorruptError(f"{file.name} is empty", kind="flor-line", hint="flordb unpack")
    projid, tstamp = str(rows[0]["projid"]), str(rows[0]["tstamp"])
    replayed = [row for store in stores for row in _rows_of(store, projid, tstamp) if row["source"] != _FORWARD]
    return _run(projid, tstamp, [*rows, *replayed])


def _steps(context: Sequence[Row] | None) -> tuple[LoopStep, ...]:
    """Returns the loops of a record; an outer one of which only the number is kept has it as its value."""
    return tuple(_step(str(each["name"]), int(each["iteration"] or 0), each["value"]) for each in context or ())


def _step(name: str, iteration: int, value: object) -> LoopStep:
    return LoopStep(name, iteration, iteration if value is None else scalar_of(value) if isinstance(value, str) else value)


# -- databases ----------------------------------------------------------------------------------------------------------------


def _stored_runs(store: Path, known: set[str]) -> Iterator[RunSource]:
    connection = open_store(store, {"logs": "value_name"})
    for projid, tstamp in connection.execute("SELECT DISTINCT projid, tstamp FROM logs ORDER BY tstamp").fetchall():
        if tstamp not in known:
            yield RunSource(f"run {tstamp} of {projid} ({store})", partial(_read_stored, store, projid, tstamp))


def _read_stored(store: Path, projid: str, tstamp: str) -> ForeignRun:
    return _run(projid, tstamp, _rows_of(store, projid, tstamp))


def _rows_of(store: Path, projid: str, tstamp: str) -> list[Row]:
    connection = open_store(store, {"logs": "value_name"})
    columns = columns_of(connection, "logs")
    place, source = ("ctx", "source") if "ctx" in columns else ("ctx_id", "'forward'")
    source = source if source in columns else "'forward'"
    found = connection.execute(
        f"SELECT filename, {place}, value_name, value, value_type, {source} FROM logs WHERE projid = ? AND tstamp = ? ORDER BY rowid",
        (projid, tstamp),
    ).fetchall()
    loops = _loops_of(connection) if place == "ctx_id" else {}
    rows: dict[tuple[object, ...], Row] = {}  # what a replay found again is there twice
    for row in found:
        filename, context, name, value, kind, of = row
        steps = loops.get(context, ()) if place == "ctx_id" else _steps(json.loads(context) if context else None)
        rows.setdefault(
            (context, name, value, of) if of != _FORWARD else (len(rows),),
            {"filename": filename, "loops": steps, "name": name, "value": _value(value), "type": kind, "source": of},
        )
    connection.close()
    return list(rows.values())


def _loops_of(connection: sqlite3.Connection) -> dict[object, tuple[LoopStep, ...]]:
    """Returns the loops of each context of version 3, from the outside in."""
    columns = columns_of(connection, "loops")
    if not columns:
        return {}
    names = ("ctx_id", *(each[-1] if each[-1] in columns else each[0] for each in _LOOP_COLUMNS))
    above: dict[object, tuple[object, LoopStep]] = {}
    for context, parent, name, iteration, value in connection.execute(f"SELECT DISTINCT {', '.join(names)} FROM loops"):
        above[context] = parent, _step(str(name), int(iteration or 0), value)
    found: dict[object, tuple[LoopStep, ...]] = {}
    for context in above:
        steps: list[LoopStep] = []
        at: object = context
        while at in above and len(steps) < len(above):
            at, step = above[at]
            steps.append(step)
        found[context] = tuple(steps[::-1])
    return found


_LOOP_COLUMNS = (("parent_ctx_id", "p_ctx_id"), ("loop_name", "l_name"), ("loop_iteration", "iteration"), ("iteration_value", "l_value"))
"""Columns of version 3, as its releases have called them."""


def _value(text: object) -> object:
    """Returns the value of a text in the database: FlorDB wrote JSON, or what ``str`` gave."""
    if not isinstance(text, str):
        return text
    if text[:1] in "[{(":
        for read in (json.loads, ast.literal_eval):
            try:
                return read(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return {"true": True, "false": False}.get(text, scalar_of(text))


# -- runs ---------------------------------------------------------------------------------------------------------------------


def _run(projid: str, tstamp: str, rows: Sequence[Row]) -> ForeignRun:
    started = datetime.fromisoformat(tstamp).timestamp()
    logged = [row for row in rows if row["type"] == _LOGGED]
    records = [
        ForeignRecord(str(row["name"]), row["value"], started, row["loops"], row.get("source", _FORWARD) != _FORWARD) for row in logged
    ]
    records.sort(key=lambda record: record.is_replayed)
    spent = sum(float(row["value"]) for row in rows if row["name"] in _SPENT and not row["loops"])
    files = list(dict.fromkeys(str(row["filename"]) for row in rows if row["filename"]))
    return ForeignRun(
        tool="flordb",
        origin=f"{projid}/{tstamp}",
        name=f"{projid} {tstamp}",
        started_s=started,
        ended_s=started + spent,
        state="done",
        records=records,
        tags={"project": projid},
        script=files[0] if files else "",
    )

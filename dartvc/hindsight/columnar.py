"""The relations in DuckDB: a second cache, in columns, for SQL that reads much of a large log.

``index/relations.duckdb`` has the relations of `dartvc.hindsight.relations` as tables; of each run what changed since the last time is loaded again, when a
query mentions the relation. A column of DuckDB has one type: ``value`` is a double, and what is no number stands in ``text`` beside it. A query can neither
write nor read files. The file may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dartvc.errors import LockedError, UsageError
from dartvc.hindsight.index import Index
from dartvc.hindsight.relations import VERSION
from dartvc.hindsight.tables import to_arrow

__all__ = ["answer"]

_BY_RUN = ("logs", "loops")
"""Relations that are loaded run by run; the others are small, and loaded whole."""
_WHOLE = ("args", "commits", "files", "runs", "tags", "variables")
_NUMBER = (
    "CASE WHEN typeof({0}) IN ('integer', 'real') THEN CAST({0} AS REAL) END AS {1}, CASE WHEN typeof({0}) = 'text' THEN {0} END AS {2}"
)
_SPLIT = {
    "logs": {"value": ("value", "text")},
    "loops": {"value": ("value", "text")},
    "args": {"value": ("value", "text"), "default": ("default", "default_text")},
    "variables": {"value": ("value", "text")},
}
_STATE = (
    "SELECT r.run, coalesce((SELECT group_concat(t.oid) FROM tip_ t WHERE t.run = r.id), '') || '/' ||"
    " coalesce((SELECT sum(f.size) FROM tail_file_ f WHERE f.run = r.id), 0) FROM run_ r"
)


def answer(index: Index, text: str) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
    """Answers one SELECT; returns the columns and the rows.

    Raises:
        UsageError: DuckDB or pyarrow is not installed, or DuckDB refuses the query.
        LockedError: another process has the cache.
    """
    try:
        import duckdb
    except ImportError:
        raise UsageError("this engine needs DuckDB", kind="no-duckdb", hint="pip install 'dartvc[duckdb]', or --engine sqlite") from None
    mentioned = {word.lower() for word in re.findall(r"\w+", text)}
    path = index.repository.path / "index" / "relations.duckdb"
    try:
        connection = _connect(duckdb, path)
    except duckdb.IOException as error:
        if "lock" not in str(error).lower():
            raise UsageError(f"DuckDB cannot open its cache: {error}", kind="duckdb", hint=f"rm {path}") from None
        raise LockedError("another query of DuckDB is running here", kind="duckdb-locked", hint="try again, or --engine sqlite") from None
    _refresh(index, connection, mentioned)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    try:
        if [each.type.name for each in connection.extract_statements(text)] != ["SELECT"]:
            raise UsageError("the query was refused: only one SELECT is possible", kind="sql", hint='dvc-state query "SELECT * FROM runs"')
        cursor = connection.execute(text)
    except duckdb.Error as error:
        raise UsageError(f"the query was refused: {error}", kind="sql", hint="docs/relations.md lists the columns of this engine") from None
    return tuple(column[0] for column in cursor.description), _rows(cursor, connection)


def _rows(cursor: Any, connection: Any) -> Iterator[tuple[object, ...]]:
    try:
        while rows := cursor.fetchmany(10_000):
            yield from rows
    finally:
        connection.close()


def _connect(duckdb: Any, path: Path) -> Any:
    """Opens the cache; one of another version, or a damaged one, is made anew, and where nothing can be written it is in memory."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        return _made(duckdb.connect(":memory:"))
    if path.exists():
        try:
            connection = duckdb.connect(str(path))
            if connection.execute("SELECT version FROM made_").fetchall() == [(VERSION,)]:
                return connection
            connection.close()
        except duckdb.Error as error:
            if "lock" in str(error).lower():
                raise
        path.unlink()
    return _made(duckdb.connect(str(path)))


def _made(connection: Any) -> Any:
    connection.execute("CREATE TABLE made_(version INTEGER)")
    connection.execute("INSERT INTO made_ VALUES (?)", [VERSION])
    connection.execute("CREATE TABLE loaded_(relation VARCHAR, run VARCHAR, state VARCHAR)")
    return connection


def _refresh(index: Index, connection: Any, mentioned: set[str]) -> None:
    """Loads what the query mentions and the cache does not have yet."""
    if mentioned & {"commits", "variables"}:
        index.refresh_commits()
    states = dict(index.connection.execute(_STATE))
    for relation in sorted(mentioned & {*_BY_RUN, *_WHOLE}):
        connection.execute("BEGIN")
        loaded = dict(connection.execute("SELECT run, state FROM loaded_ WHERE relation = ?", [relation]).fetchall())
        if relation in _WHOLE:
            _load(index, connection, relation, "", ())
        else:
            stale = [run for run, state in states.items() if loaded.get(run) != state]
            gone = [run for run in loaded if run not in states]
            exists = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = ?", [relation]).fetchall()[0][0]
            if exists and (stale or gone):
                connection.execute(f"DELETE FROM {relation} WHERE list_contains(?, run)", [[*stale, *gone]])
            if not exists:
                stale = list(states)
            if stale or not exists:
                _load(index, connection, relation, "WHERE run IN (SELECT value FROM json_each(?))", stale, is_added=bool(exists))
            connection.execute("DELETE FROM loaded_ WHERE relation = ?", [relation])
            if states:
                connection.executemany("INSERT INTO loaded_ VALUES (?, ?, ?)", [(relation, *each) for each in states.items()])
        connection.execute("COMMIT")


def _load(index: Index, connection: Any, relation: str, condition: str, runs: Any, *, is_added: bool = False) -> None:
    """Copies a relation, or some runs of it, from SQLite."""
    names = [row[1] for row in index.connection.execute(f"PRAGMA table_info({relation})")]
    split = _SPLIT.get(relation, {})
    shown = ", ".join(
        _NUMBER.format(f'"{name}"', *(f'"{each}"' for each in split[name])) if name in split else f'"{name}"' for name in names
    )
    cursor = index.connection.execute(f"SELECT {shown} FROM {relation} {condition}", (json.dumps(list(runs)),) if condition else ())
    columns = [column[0] for column in cursor.description]
    table = to_arrow(columns, cursor)
    connection.register("incoming_", table)
    typed = ", ".join(f'CAST("{name}" AS {_type_of(relation, name)}) AS "{name}"' for name in columns)
    if is_added:
        connection.execute(f"INSERT INTO {relation} SELECT {typed} FROM incoming_")
    else:
        connection.execute(f"CREATE OR REPLACE TABLE {relation} AS SELECT {typed} FROM incoming_")
    connection.unregister("incoming_")


_DOUBLES = ("time", "started", "ended", "modified")
_INTEGERS = ("seq", "iteration", "line", "exit_code", "commits", "size", "given")


def _type_of(relation: str, column: str) -> str:
    if column in _DOUBLES or column in _SPLIT.get(relation, {}):
        return "DOUBLE"
    return "BIGINT" if column in _INTEGERS else "BLOB" if column in ("context", "parent") else "VARCHAR"

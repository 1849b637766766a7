"""Asking what was logged: names as columns of a table, SQL over the relations, the latest and the best run."""

from __future__ import annotations

import difflib
import json
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dartvc.errors import NotFoundError, UsageError
from dartvc.hindsight.conditions import names_in, parse_condition
from dartvc.hindsight.index import Index
from dartvc.hindsight.pivot import pivot
from dartvc.history import Repository

__all__ = ["RELATIONS", "Table", "choose_runs", "query_names", "query_sql"]

RELATIONS = ("args", "commits", "files", "logs", "loops", "runs", "tags", "variables")
_RULE = re.compile(r"(?P<way>max|min):(?P<name>.+?)(:(?P<count>[1-9]\d*))?")
_OF_COMMITS = re.compile(r"\b(commits|variables)\b", re.IGNORECASE)
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; the rows are read as they are asked for, once."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[object, ...]]


def query_names(
    repository: Repository, names: Sequence[str], where: str | None = None, *, runs: str | Sequence[str] | None = None
) -> Table:
    """Returns one row for each (run, iteration) in which one of the names was logged; see `dartvc.hindsight.pivot`.

    Args:
        repository: where.
        names: logged names, arguments, loop variables, or variables of the program (their values at its commits).
        where: a condition over names, loop variables and ``run``, such as ``epoch > 5 and lr < 0.1``.
        runs: what `choose_runs` takes, or ids of runs; None: all.

    Raises:
        NotFoundError: a name, or a run, is not known.
        UsageError: the condition is malformed, or no name was given.
    """
    if not names:
        raise UsageError("no names were asked for", kind="no-names", hint="dvc-state query --df loss,acc")
    condition = parse_condition(where) if where else None
    index = _index(repository)
    chosen = choose_runs(index, runs) if isinstance(runs, str) else runs
    table = pivot(index, names, condition, runs=chosen)
    _check_names(index, [*names, *(names_in(condition) if condition is not None else [])])
    return Table(table.columns, table.rows)


def query_sql(repository: Repository, text: str, *, engine: str = "sqlite") -> Table:
    """Answers one SELECT over the relations; nothing can be written with it.

    Args:
        repository: where.
        text: the SELECT.
        engine: ``sqlite``, or ``duckdb``: analytical queries over large logs are several times faster (docs/relations.md tells what differs).

    Raises:
        UsageError: it is no SELECT, the engine does not understand it, or DuckDB is not installed.
    """
    index = _index(repository)
    if engine == "duckdb":
        from dartvc.hindsight.columnar import answer  # an extra

        return Table(*answer(index, text))
    if engine != "sqlite":
        raise UsageError(f"{engine!r} is no engine", kind="engine", hint="sqlite or duckdb")
    if _OF_COMMITS.search(text):
        index.refresh_commits()
    connection = index.connection
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
    try:
        cursor = connection.execute(text)
    except (sqlite3.Error, sqlite3.Warning) as error:
        kind = "only SELECT is possible" if "not authorized" in str(error) else str(error)
        raise UsageError(f"the query was refused: {kind}", kind="sql", hint=f"relations: {', '.join(RELATIONS)}") from None
    if cursor.description is None:
        raise UsageError("the query gives no table", kind="sql", hint='dvc-state query "SELECT * FROM runs"')
    return Table(tuple(column[0] for column in cursor.description), iter(cursor))


def choose_runs(index: Index, text: str) -> list[str]:
    """Returns the ids of the runs that a text means: ``latest``, ``best:max:acc``, ``best:min:loss:3``, or a name, an id or the beginning of one.

    Raises:
        NotFoundError: there is no such run.
    """
    run_sql = index.connection.execute
    if text == "latest":
        found = run_sql("SELECT run FROM run_ ORDER BY started DESC LIMIT 1").fetchall()
    elif text.startswith("best:"):
        found = _best(index, text.removeprefix("best:"))
    else:
        found = run_sql("SELECT run FROM run_ WHERE substr(run, 1, ?) = ? OR name = ? ORDER BY started", (len(text), text, text)).fetchall()
    if not found:
        raise NotFoundError(f"no run is {text!r}", kind="unknown-run", hint="dvc-state runs")
    return [run for (run,) in found]


def _best(index: Index, rule: str) -> list[tuple[str]]:
    """Returns the run that logged the largest (``max:acc``) or least value of a name, or the first so many of them (``max:acc:3``)."""
    parts = _RULE.fullmatch(rule)
    if parts is None:
        raise UsageError(f"{rule!r} is no choice of a run", kind="bad-run", hint="max:acc, min:loss, or max:acc:3 for the three best")
    way, name, count = parts["way"], parts["name"], int(parts["count"] or 1)
    run_sql = index.connection.execute
    if run_sql("SELECT 1 FROM series_ WHERE name = (SELECT id FROM name_ WHERE name = ?)", (name,)).fetchone() is None:
        _check_names(index, [name])
        raise NotFoundError(f"{name!r} was never logged", kind="unknown-name", hint="dvc-state query 'SELECT DISTINCT name FROM logs'")
    return run_sql(
        f"SELECT r.run FROM record_ d JOIN run_ r ON r.id = d.run WHERE d.name = (SELECT id FROM name_ WHERE name = ?)"
        f" AND d.kind IN (1, 2, 3) AND d.value IS NOT NULL GROUP BY d.run"
        f" ORDER BY {way}(d.value) {'DESC' if way == 'max' else 'ASC'}, r.started LIMIT ?",
        (name, count),
    ).fetchall()


def _index(repository: Repository) -> Index:
    recording = sys.modules.get("dartvc.hindsight.recording")
    if recording is not None:  # this process may have logged
        recording.flush()
    index = Index(repository)
    index.refresh()
    return index


def _check_names(index: Index, names: Sequence[str]) -> None:
    run_sql = index.connection.execute
    known = {each for (each,) in run_sql("SELECT name FROM name_ WHERE id IN (SELECT name FROM series_)")}
    for name in names:
        if name == "run" or name in known or name in _loop_names(index):
            continue
        index.refresh_commits([name])
        if run_sql("SELECT 1 FROM variable_ WHERE name = ? OR substr(name, -?) = ? LIMIT 1", (name, len(name) + 3, f"().{name}")).fetchone():
            continue
        near = difflib.get_close_matches(name, known, 3)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else f"logged were: {', '.join(sorted(known)[:10])}"
            if known
            else "dvc-state log --var " + name
        )
        raise NotFoundError(f"{name!r} was never logged and is no variable of a commit", kind="unknown-name", hint=hint)


def _loop_names(index: Index) -> set[str]:
    return {target for (targets,) in index.connection.execute("SELECT targets FROM loop_") for target in json.loads(targets)}

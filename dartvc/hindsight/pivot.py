"""Names as columns: one row for each (run, iteration) in which one of them was logged, innermost loops first.

A value that was logged outside a loop stands in every row inside it; one that was logged in a loop around it, in the rows of its iteration. A name
that was logged several times in one iteration gets as many rows, in which what came once is repeated. Conditions are part of the SQL.
"""

from __future__ import annotations

import ast
import heapq
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.hindsight.conditions import condition_sql, names_in
from dartvc.hindsight.index import Index
from dartvc.hindsight.relations import LEVEL_BYTES

__all__ = ["Pivot", "pivot"]

_PLAIN_KINDS = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4
"""Kinds whose values the index keeps as they are."""


@dataclass(frozen=True, slots=True)
class Pivot:
    """A table: ``columns`` are ``run``, the loop variables from the outside in, and the names; ``rows`` come as they are read."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class _Series:
    """A name of one run in one path of loops."""

    name_id: int
    path: bytes
    kinds: int
    repeats: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run has of the names that are asked for.

    Attributes:
        loops: of each path its loop variables: (level, position among the loop's targets, column).
    """

    run_id: int
    run: str
    series: Mapping[str, Sequence[_Series]]
    loops: Mapping[bytes, Sequence[tuple[int, int, str]]]

    @property
    def leaves(self) -> list[bytes]:
        """The paths of loops that have rows of their own: those of the series, outer ones too."""
        return sorted({each.path for name in self.series.values() for each in name})


def pivot(index: Index, names: Sequence[str], where: ast.expr | None = None, *, runs: Sequence[str] | None = None) -> Pivot:
    """Returns names as columns.

    Args:
        index: refreshed.
        names: logged names, arguments, or variables of the commits.
        where: a condition over these, other names, loop variables and ``run``.
        runs: only these; None: all, in the order in which they began.
    """
    names = list(dict.fromkeys(names))
    further = [name for name in (names_in(where) if where is not None else []) if name != "run" and name not in names]
    chosen = _runs(index, [*names, *further], runs)
    loop_columns = list(dict.fromkeys(column for run in chosen for columns in run.loops.values() for _, _, column in columns))
    further = [name for name in further if name not in loop_columns]
    wanted = [name for name in names if name not in loop_columns]
    logged = {name for run in chosen for name in run.series}
    variables = [name for name in (*wanted, *further) if name not in logged]
    if variables:
        index.refresh_commits(variables)
    columns = ("run", *(["commit"] if not logged else []), *loop_columns, *wanted)
    return Pivot(columns, _rows(index, chosen, columns, wanted, further, variables, where, runs, has_logs=bool(logged)))


def _runs(index: Index, names: Sequence[str], runs: Sequence[str] | None) -> list[_Run]:
    """Returns the runs that logged one of the names, in the order in which they began."""
    run_sql = index.connection.execute
    loops = {loop: tuple(json.loads(targets)) or (name,) for loop, name, targets in run_sql("SELECT id, name, targets FROM loop_")}
    marks = ", ".join("?" * len(names))
    found: dict[tuple[int, str], dict[str, list[_Series]]] = {}
    for run_id, run, name, name_id, path, kinds, repeats in run_sql(
        "SELECT r.id, r.run, n.name, n.id, s.path, s.kinds, s.repeats FROM series_ s JOIN run_ r ON r.id = s.run JOIN name_ n ON n.id = s.name"
        f" WHERE n.name IN ({marks}) ORDER BY r.started, r.id, s.source",
        tuple(names),
    ):
        if runs is None or run in runs:
            series = found.setdefault((run_id, run), {}).setdefault(name, [])
            before = next((each for each in series if each.path == path), None)
            if before is not None:
                series.remove(before)
                kinds, repeats = kinds | before.kinds, repeats or before.repeats
            series.append(_Series(name_id, path, kinds, bool(repeats)))
    return [_Run(run_id, run, series, _loop_columns(series, loops)) for (run_id, run), series in found.items()]


def _loop_columns(series: Mapping[str, Sequence[_Series]], loops: Mapping[int, tuple[str, ...]]) -> dict[bytes, list[tuple[int, int, str]]]:
    """Names the columns of each path's loop variables; one that was logged itself needs none, an inner one of an outer one's name gets a number."""
    columns: dict[bytes, list[tuple[int, int, str]]] = {}
    for path in {each.path for name in series.values() for each in name}:
        taken: dict[str, int] = {}
        columns[path] = []
        for level in range(len(path) // 2):
            for at, target in enumerate(loops[int.from_bytes(path[2 * level : 2 * level + 2], "big")]):
                taken[target] = taken.get(target, 0) + 1
                if target not in series:
                    columns[path].append((level, at, target if taken[target] == 1 else f"{target}_{taken[target]}"))
    return columns


def _rows(
    index: Index,
    chosen: Sequence[_Run],
    columns: Sequence[str],
    wanted: Sequence[str],
    further: Sequence[str],
    variables: Sequence[str],
    where: ast.expr | None,
    runs: Sequence[str] | None,
    *,
    has_logs: bool,
) -> Iterator[tuple[object, ...]]:
    if not has_logs:
        yield from _variable_rows(index, columns, [*wanted, *further], where, runs)
        return
    for run in chosen:
        states = _States(index, run.run, variables) if variables else None
        streams = [_path_rows(index, run, path, [*wanted, *further], where if states is None else None) for path in run.leaves]
        for _, cells in heapq.merge(*streams, key=lambda row: row[0]):
            if states is not None:
                cells.update(states.at(cells["_time"]))
                if where is not None and not _holds(index, where, cells):
                    continue
            yield tuple(cells.get(column) for column in columns)


# -- records ------------------------------------------------------------------------------------------------------------------


def _path_rows(
    index: Index, run: _Run, path: bytes, names: Sequence[str], where: ast.expr | None
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yields the rows of one path of loops, sorted by key."""
    here = {name: each for name in names for each in run.series.get(name, ()) if each.path == path}
    if not here:
        return
    is_repeated = any(each.repeats for each in here.values())
    sql = _PathQuery(run, path, names, here, is_repeated)
    text, given = sql.text(None if is_repeated else where)
    before: tuple[bytes, dict[str, Any]] = (b"\xff", {})
    for row in index.connection.execute(text, given):
        key, cells = row[0], sql.cells(row)
        if is_repeated:
            if before[0] == key:
                cells = {**cells, **{name: before[1][name] for name in here if cells[name] is None and f"{name}?" not in cells}}
            before = key, cells
            if where is not None and not _holds(index, where, cells):
                continue
        yield key, cells


class _PathQuery:
    """The SELECT of one path of loops of one run."""

    def __init__(self, run: _Run, path: bytes, names: Sequence[str], here: Mapping[str, _Series], is_repeated: bool) -> None:
        self.run = run
        self.path = path
        self.names = names
        self.here = here
        self.is_repeated = is_repeated
        self.depth = len(path) // 2
        self.loops = run.loops.get(path, ())
        self.special = {name: kinds for name in names if (kinds := self._kinds(name)) & ~_PLAIN_KINDS}
        self.expressions: list[tuple[str, str, list[object]]] = []
        self._choose()

    def _kinds(self, name: str) -> int:
        return sum(1 << bit for bit in range(10) if any(each.kinds & 1 << bit for each in self.run.series.get(name, ())))

    def _choose(self) -> None:
        """Chooses for each column (and the kind of a value that needs it, ``name?``) its SQL over the rows of `_grouped`."""
        add = self.expressions.append
        for level, at, column in self.loops:
            size = LEVEL_BYTES * (level + 1)
            inner = "iteration" if at < 0 else "coalesce(value, iteration)"
            if at > 0:
                inner = f"coalesce(json_extract(further, '$[{at}]'), iteration)"
            key = "g.key" if level == self.depth - 1 else f"substr(g.key, 1, {size})"
            add((column, f"(SELECT {inner} FROM context_ WHERE run = ? AND key = {key})", [self.run.run_id]))
        for at, name in enumerate(self.names):
            if name in self.here:
                add((name, f"g.v{at}", []))
                if name in self.special:
                    add((f"{name}?", f"g.k{at}", []))
                continue
            outer = [each for each in self.run.series.get(name, ()) if self.path.startswith(each.path)]
            if not outer:
                add((name, "NULL", []))
                continue
            nearest = max(outer, key=lambda each: len(each.path))
            size = LEVEL_BYTES * (len(nearest.path) // 2)
            place = f"FROM record_ WHERE run = ? AND key = substr(g.key, 1, {size}) AND name = ? ORDER BY seq DESC LIMIT 1)"
            add((name, f"(SELECT value {place}", [self.run.run_id, nearest.name_id]))
            if name in self.special:
                add((f"{name}?", f"(SELECT kind {place}", [self.run.run_id, nearest.name_id]))

    def _grouped(self) -> tuple[str, list[object]]:
        """The records of this path, one row an iteration."""
        picks = []
        for at, name in enumerate(self.names):
            if name in self.here:
                number = self.here[name].name_id
                picks.append(f"max(CASE name WHEN {number} THEN value END) AS v{at}")
                if name in self.special:
                    picks.append(f"max(CASE name WHEN {number} THEN kind END) AS k{at}")
        ids = ", ".join(str(each.name_id) for each in self.here.values())
        size = LEVEL_BYTES * self.depth
        place = f"run = ? AND name IN ({ids}) AND length(key) = {size}"
        given: list[object] = [self.run.run_id]
        for level in range(self.depth):
            if self._is_ambiguous():
                place += f" AND substr(key, {1 + LEVEL_BYTES * level}, 2) = ?"
                given.append(self.path[2 * level : 2 * level + 2])
        source, group = "record_", "key"
        if self.is_repeated:
            source = f"(SELECT *, row_number() OVER (PARTITION BY key, name ORDER BY seq) AS occurrence FROM record_ WHERE {place})"
            group, place = "key, occurrence", "1"
        text = f"SELECT key, max(time) AS time, {', '.join(picks)} FROM {source} WHERE {place} GROUP BY {group}"
        return text, given

    def _is_ambiguous(self) -> bool:
        """Whether another path of the same depth has one of the names."""
        paths = {each.path for series in self.run.series.values() for each in series}
        return any(path != self.path and len(path) == len(self.path) for path in paths)

    def text(self, where: ast.expr | None) -> tuple[str, list[object]]:
        """Returns the SELECT and its parameters."""
        grouped, given = self._grouped()
        known = {column: (sql, own) for column, sql, own in self.expressions}
        parameters: list[object] = [each for _, _, own in self.expressions for each in own]
        text = f"SELECT g.key, g.time{''.join(f', {sql}' for _, sql, _ in self.expressions)} FROM ({grouped}) g"
        parameters += given
        conditions = []
        if where is not None:
            known["run"] = ("?", [self.run.run])
            sql, own = condition_sql(where, lambda name: known.get(name, ("NULL", [])))
            conditions.append(f"coalesce({sql}, 0)")
            parameters += own
        inner = {each.name_id for series in self.run.series.values() for each in series if self._is_inside(each.path)}
        if inner:
            ids = ", ".join(map(str, inner))
            conditions.append(
                f"NOT EXISTS (SELECT 1 FROM record_ i WHERE i.run = ? AND i.key > g.key AND i.key < CAST(g.key || x'FFFF' AS BLOB) AND i.name IN ({ids}))"
            )
            parameters.append(self.run.run_id)
        if conditions:
            text += " WHERE " + " AND ".join(conditions)
        return text, parameters

    def _is_inside(self, path: bytes) -> bool:
        return len(path) > len(self.path) and path.startswith(self.path)

    def cells(self, row: Sequence[Any]) -> dict[str, Any]:
        """Returns a row's values by column, as they were logged."""
        cells = {"run": self.run.run, "_time": row[1]}
        for (column, _, _), value in zip(self.expressions, row[2:], strict=True):
            cells[column] = value
        for name in self.special:
            kind = cells.pop(f"{name}?", None)
            if kind is not None:
                cells[name] = restored(cells[name], kind)
                if cells[name] is None:
                    cells[f"{name}?"] = kind
        return cells


def restored(value: Any, kind: int) -> Any:
    """Returns a value of the index as it was logged; a blob is its description."""
    if kind == 1:
        return bool(value)
    if kind == 2:
        return int(value)
    if kind == 3:
        return float("nan") if value is None else value
    return json.loads(value) if kind in (5, 7) and value is not None else value


# -- variables ----------------------------------------------------------------------------------------------------------------


def _variable_values(index: Index, names: Sequence[str], run: str | None) -> Iterator[tuple[str, str, float, str, Any]]:
    """Yields (run, commit, time, name, value) of variables in the order of the commits; a local of the innermost function hides a global."""
    marks = " OR ".join("v.name = ? OR v.name LIKE ?" for _ in names)
    like = [each for name in names for each in (name, f"%().{name}")]
    text = (
        "SELECT c.run, c.oid, c.time, v.name, s.value, s.kind, s.summary FROM variable_ v JOIN commit_ c ON c.id = v.commit_id"
        f" JOIN summary_ s ON s.oid = v.summary_oid WHERE ({marks})"
        + (" AND c.run = ?" if run is not None else "")
        + " ORDER BY c.id, v.name"
    )
    for of_run, oid, time_s, name, value, kind, summary in index.connection.execute(text, [*like, *([run] if run is not None else [])]):
        shown = json.loads(summary) if summary is not None else restored(value, kind)
        yield of_run, oid, time_s, name.rpartition("().")[2], shown


def _variable_rows(
    index: Index, columns: Sequence[str], names: Sequence[str], where: ast.expr | None, runs: Sequence[str] | None
) -> Iterator[tuple[object, ...]]:
    """Yields one row for each commit that holds one of the variables, run by run."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for run, oid, _, name, value in _variable_values(index, names, None):
        rows.setdefault(run, {}).setdefault(oid, {"run": run or None, "commit": oid})[name] = value
    for run, commits in rows.items():
        if runs is None or run in runs:
            for cells in commits.values():
                if where is None or _holds(index, where, cells):
                    yield tuple(cells.get(column) for column in columns)


class _States:
    """The variables of one run, as they were at its commits."""

    def __init__(self, index: Index, run: str, names: Sequence[str]) -> None:
        self._times: list[float] = []
        self._values: list[dict[str, Any]] = []
        oids: list[str] = []
        for _, oid, time_s, name, value in _variable_values(index, names, run):
            if not oids or oids[-1] != oid:
                oids.append(oid)
                self._times.append(time_s)
                self._values.append(dict(self._values[-1]) if self._values else {})
            self._values[-1][name] = value

    def at(self, time_s: float) -> Mapping[str, Any]:
        """Returns the values at the last commit before a moment."""
        place = bisect_right(self._times, time_s)
        return self._values[place - 1] if place else {}


def _holds(index: Index, where: ast.expr, cells: Mapping[str, Any]) -> bool:
    """Whether a condition holds for one row; the same SQL decides as for whole tables."""

    def column(name: str) -> tuple[str, list[object]]:
        value = cells.get(name)
        return "?", [value if isinstance(value, int | float | str) and value == value else None]

    text, given = condition_sql(where, column)
    return bool(index.connection.execute(f"SELECT coalesce({text}, 0)", given).fetchone()[0])

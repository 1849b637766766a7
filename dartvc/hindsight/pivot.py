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
Sql = tuple[str, list[object]]
"""An expression and its parameters."""
_RANGES_LIMIT = 200
"""More ranges of iterations than that are not worth a part of the SELECT each."""


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

    @property
    def loop_columns(self) -> list[str]:
        """The columns of its loops' first variables, from the outside in."""
        return list(dict.fromkeys(column for path in self.leaves for _, at, column in self.loops.get(path, ()) if at == 0))


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
        index.refresh_commits([*variables, *loop_columns])
    columns = ("run", *(["commit"] if not logged else []), *loop_columns, *wanted)
    return Pivot(columns, _rows(index, chosen, columns, wanted, further, variables, where, runs, has_logs=bool(logged)))


def _runs(index: Index, names: Sequence[str], runs: Sequence[str] | None) -> list[_Run]:
    """Returns the runs that logged one of the names, in the order in which they began."""
    run_sql = index.connection.execute
    loops = {
        loop: [(at, target) for at, target in enumerate(json.loads(targets) or [name]) if at == 0 or scalars >> at & 1]
        for loop, name, targets, scalars in run_sql("SELECT id, name, targets, scalars FROM loop_")
    }
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


def _loop_columns(
    series: Mapping[str, Sequence[_Series]], loops: Mapping[int, Sequence[tuple[int, str]]]
) -> dict[bytes, list[tuple[int, int, str]]]:
    """Names the columns of each path's loop variables; one that was logged itself needs none, an inner one of an outer one's name gets a number."""
    columns: dict[bytes, list[tuple[int, int, str]]] = {}
    for path in sorted({each.path for name in series.values() for each in name}, key=lambda path: (len(path), path)):
        taken: dict[str, int] = {}
        columns[path] = []
        for level in range(len(path) // 2):
            for at, target in loops[int.from_bytes(path[2 * level : 2 * level + 2], "big")]:
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
        states = _States(index, run.run, variables, run.loop_columns) if variables else None
        queries = [_PathQuery(index, run, path, [*wanted, *further], needs_time=states is not None) for path in run.leaves]
        if states is None and len(queries) == 1 and not queries[0].special and not queries[0].is_repeated:
            yield from queries[0].plain_rows(columns, where)
            continue
        streams = [query.rows(where if states is None else None) for query in queries]
        for _, cells in heapq.merge(*streams, key=lambda row: row[0]):
            if states is not None:
                cells.update(states.before(cells))
                if where is not None and not _holds(index, where, cells):
                    continue
            yield tuple([cells.get(column) for column in columns])


# -- records ------------------------------------------------------------------------------------------------------------------


class _PathQuery:
    """What one run has in one path of loops.

    Args:
        index: where.
        run: the run.
        path: the loops.
        names: columns, those of other paths too.
        needs_time: whether rows carry when they were logged, as ``_time``.
    """

    def __init__(self, index: Index, run: _Run, path: bytes, names: Sequence[str], *, needs_time: bool) -> None:
        self.index = index
        self.run = run
        self.path = path
        self.names = names
        self.needs_time = needs_time
        self.here = {name: each for name in names for each in run.series.get(name, ()) if each.path == path}
        self.is_repeated = any(each.repeats for each in self.here.values())
        self.depth = len(path) // 2
        self.loops = run.loops.get(path, ())
        self.special = {name: kinds for name in names if (kinds := self._kinds(name)) & ~_PLAIN_KINDS}
        self.expressions: dict[str, Sql] = {}
        self.levels: dict[str, int] = {}  # of each column the outermost loop that decides it
        self._choose()

    def rows(self, where: ast.expr | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yields (key, cells by column), sorted by key."""
        columns = list(self.expressions)
        text, given = self._text(columns, None if self.is_repeated else where, "g.key, g.time")
        before: tuple[bytes, dict[str, Any]] = (b"\xff", {})
        for row in self.index.connection.execute(text, given):
            key, cells = row[0], self._cells(columns, row)
            if self.is_repeated:
                if before[0] == key:  # what came once in this iteration is repeated
                    cells.update((name, before[1][name]) for name in self.here if name in cells["_missing"])
                before = key, cells
                if where is not None and not _holds(self.index, where, cells):
                    continue
            yield key, cells

    def plain_rows(self, columns: Sequence[str], where: ast.expr | None) -> Iterator[tuple[object, ...]]:
        """Fast path: the rows that `rows` gives, straight from SQLite, when no value needs to be restored or repeated."""
        known: dict[str, Sql] = {**self.expressions, "run": ("?", [self.run.run])}
        text, given = self._text([], where, ", ".join(known.get(column, ("NULL", []))[0] for column in columns))
        own = [each for column in columns for each in known.get(column, ("", []))[1]]
        yield from self.index.connection.execute(text, [*own, *given])

    def _kinds(self, name: str) -> int:
        return sum(1 << bit for bit in range(10) if any(each.kinds & 1 << bit for each in self.run.series.get(name, ())))

    def _choose(self) -> None:
        """Chooses for each column (and the kind of a value that needs it, ``name?``) its SQL over the rows of `_grouped`, named g."""
        add = self.expressions.__setitem__
        for level, at, column in self.loops:
            value = "coalesce(value, iteration)" if at == 0 else f"json_extract(further, '$[{at}]')"
            key = "g.key" if level == self.depth - 1 else f"substr(g.key, 1, {LEVEL_BYTES * (level + 1)})"
            self.levels[column] = level
            add(column, (f"(SELECT {value} FROM context_ WHERE run = ? AND key = {key})", [self.run.run_id]))
        for at, name in enumerate(self.names):
            if name in self.here:
                add(name, (f"g.v{at}", []))
                add(f"{name}?", (f"g.k{at}" if name in self.special or self.is_repeated else "3", []))
                continue
            outer = [each for each in self.run.series.get(name, ()) if self.path.startswith(each.path)]
            if not outer:
                add(name, ("NULL", []))
                continue
            nearest = max(outer, key=lambda each: len(each.path))
            size = LEVEL_BYTES * (len(nearest.path) // 2)
            place = f"FROM record_ WHERE run = ? AND key = substr(g.key, 1, {size}) AND name = ? ORDER BY seq DESC LIMIT 1)"
            self.levels[name] = max(0, len(nearest.path) // 2 - 1)
            add(name, (f"(SELECT value {place}", [self.run.run_id, nearest.name_id]))
            if name in self.special:
                add(f"{name}?", (f"(SELECT kind {place}", [self.run.run_id, nearest.name_id]))

    def _grouped(self, place: str, given: list[object]) -> Sql:
        """The records of this path between two keys, one row an iteration."""
        picks = ["max(time) AS time" if self.needs_time else "0 AS time"]
        for at, name in enumerate(self.names):
            if name in self.here:
                number = self.here[name].name_id
                picks.append(f"max(CASE name WHEN {number} THEN value END) AS v{at}")
                if name in self.special or self.is_repeated:
                    picks.append(f"max(CASE name WHEN {number} THEN kind END) AS k{at}")
        place += f" AND name IN ({', '.join(str(each.name_id) for each in self.here.values())})"
        others = {each.path for name in self.here for each in self.run.series[name]} - {self.path}
        if others:
            place += f" AND length(key) = {LEVEL_BYTES * self.depth}"
        if any(len(path) == len(self.path) for path in others):
            for level in range(self.depth):
                place += f" AND substr(key, {1 + LEVEL_BYTES * level}, 2) = ?"
                given = [*given, self.path[2 * level : 2 * level + 2]]
        source, group = f"record_ WHERE {place}", "key"
        if self.is_repeated:
            source = f"(SELECT *, row_number() OVER (PARTITION BY key, name ORDER BY seq) AS occurrence FROM record_ WHERE {place})"
            group = "key, occurrence"
        return f"SELECT key, {', '.join(picks)} FROM {source} GROUP BY {group}", given

    def _text(self, columns: Sequence[str], where: ast.expr | None, first: str) -> Sql:
        """Returns the SELECT of columns and its parameters; ``first`` are columns without any."""
        known: dict[str, Sql] = {**self.expressions, "run": ("?", [self.run.run])}
        ranges, rest = self._ranges(where)
        parameters: list[object] = [each for column in columns for each in known[column][1]]
        conditions = []
        own: list[object] = []
        if rest:
            sql, own = condition_sql(ast.BoolOp(ast.And(), rest), lambda name: known.get(name, ("NULL", [])))
            conditions.append(sql)
        inner = {each.name_id for series in self.run.series.values() for each in series if self._is_inside(each.path)}
        if inner:
            ids = ", ".join(map(str, inner))
            upper = "CAST(g.key || x'FFFF' AS BLOB)"
            conditions.append(
                f"NOT EXISTS (SELECT 1 FROM record_ i WHERE i.run = ? AND i.key > g.key AND i.key < {upper} AND i.name IN ({ids}))"
            )
            own.append(self.run.run_id)
        parts = []
        for low, high in ranges:
            grouped, given = self._grouped("run = ? AND key >= ? AND key < ?", [self.run.run_id, low, high])
            parts.append(grouped)
            parameters += given
        source = " UNION ALL ".join(parts)
        after = " WHERE " + " AND ".join(conditions) if conditions else ""
        return f"SELECT {', '.join([first, *(known[column][0] for column in columns)])} FROM ({source}) g{after}", [*parameters, *own]

    def _ranges(self, where: ast.expr | None) -> tuple[list[tuple[bytes, bytes]], list[ast.expr]]:
        """Returns the ranges of keys that conditions on what the outer loops hold leave, and the conditions that are still to be met."""
        everything = [(b"", b"\xff" * LEVEL_BYTES)]
        conjuncts = _conjuncts(where)
        usable = [
            each
            for each in conjuncts
            if names_in(each) and all(self.levels.get(name, self.depth) < self.depth - 1 for name in names_in(each))
        ]
        if not usable:
            return everything, conjuncts
        deepest = max(self.levels[name] for each in usable for name in names_in(each))
        size = LEVEL_BYTES * (deepest + 1)
        own = {column: (sql.replace("g.key", "c.key"), given) for column, (sql, given) in self.expressions.items()}
        sql, given = condition_sql(ast.BoolOp(ast.And(), usable), lambda name: own[name])
        text = f"SELECT c.key, {sql} FROM context_ c WHERE c.run = ? AND length(c.key) = {size}"
        ranges: list[tuple[bytes, bytes]] = []
        is_open = False
        for key, holds in self.index.connection.execute(text, [*given, self.run.run_id]):
            if holds and is_open:
                ranges[-1] = ranges[-1][0], key + b"\xff\xff"
            elif holds:
                ranges.append((key, key + b"\xff\xff"))
            is_open = bool(holds)
            if len(ranges) > _RANGES_LIMIT:
                return everything, conjuncts
        return ranges or [(b"\xff", b"")], [each for each in conjuncts if each not in usable]

    def _is_inside(self, path: bytes) -> bool:
        return len(path) > len(self.path) and path.startswith(self.path)

    def _cells(self, columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
        """Returns a row's values by column, as they were logged; ``_missing`` are names that were not logged in this row."""
        cells: dict[str, Any] = {"run": self.run.run, "_time": row[1], **dict(zip(columns, row[2:], strict=True))}
        cells["_missing"] = [name for name in self.here if cells[f"{name}?"] is None] if self.is_repeated else ()
        for name in self.special:
            kind = cells.get(f"{name}?")
            if kind is not None:
                cells[name] = restored(cells[name], kind)
        return cells


def _conjuncts(where: ast.expr | None) -> list[ast.expr]:
    if where is None:
        return []
    if isinstance(where, ast.BoolOp) and isinstance(where.op, ast.And):
        return [part for value in where.values for part in _conjuncts(value)]
    return [where]


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
    """Yields (run, commit, time, name, value) of variables in the order of the commits; a local of a function hides a global of its name."""
    marks = " OR ".join("v.name = ? OR substr(v.name, -?) = ?" for _ in names)
    given = [each for name in names for each in (name, len(name) + 3, f"().{name}")]
    text = (
        "SELECT c.run, c.oid, c.time, v.name, s.value, s.kind, s.summary FROM variable_ v JOIN commit_ c ON c.id = v.commit_id"
        f" JOIN summary_ s ON s.oid = v.summary_oid WHERE ({marks})"
        + (" AND c.run = ?" if run is not None else "")
        + " ORDER BY c.id, instr(v.name, '().') > 0, v.name"
    )
    for of_run, oid, time_s, name, value, kind, summary in index.connection.execute(text, [*given, *([run] if run is not None else [])]):
        shown = json.loads(summary) if summary is not None else restored(value, kind)
        for asked in dict.fromkeys((name, name.rpartition("().")[2])):
            if asked in names:
                yield of_run, oid, time_s, asked, shown


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
    """The variables of one run, as they were at its commits.

    Args:
        index: where.
        run: the run.
        names: the variables.
        loops: columns of loop variables, from the outside in.
    """

    def __init__(self, index: Index, run: str, names: Sequence[str], loops: Sequence[str]) -> None:
        self._loops = loops
        self._times: list[float] = []
        self._values: list[dict[str, Any]] = []
        self._iterations: list[dict[str, Any]] = []
        self._places: dict[tuple[str, ...], tuple[list[tuple[Any, ...]], list[int]]] = {}
        oids: list[str] = []
        for _, oid, time_s, name, value in _variable_values(index, [*names, *(each for each in loops if each not in names)], run):
            if not oids or oids[-1] != oid:
                oids.append(oid)
                self._times.append(time_s)
                self._values.append(dict(self._values[-1]) if self._values else {})
                self._iterations.append({})
            if name in names:
                self._values[-1][name] = value
            if name in loops:
                self._iterations[-1][name] = value

    def before(self, cells: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the values at the last commit before a row; before the first one there are none.

        A row that was logged behind the last commit may come from a replay: there its iteration tells, where the commits have the loop's
        variables.
        """
        if not self._values:
            return {}
        place = bisect_right(self._times, cells["_time"])
        if place == len(self._times):
            row = {column: cells[column] for column in self._loops if isinstance(cells.get(column), int | float)}
            iterations, numbers = self._places_of(tuple(row))
            if iterations:
                found = bisect_right(iterations, tuple(row.values()))
                return self._values[numbers[found - 1]] if found else {}
        return self._values[place - 1] if place else {}

    def _places_of(self, columns: tuple[str, ...]) -> tuple[list[tuple[Any, ...]], list[int]]:
        """Returns the iterations of these loops at which commits stand, ascending, and the numbers of the commits."""
        if columns not in self._places:
            found: list[tuple[tuple[Any, ...], int]] = []
            for number, held in enumerate(self._iterations):
                if columns and all(isinstance(held.get(column), int | float) for column in columns):
                    place = tuple(held[column] for column in columns)
                    if not found or place >= found[-1][0]:
                        found.append((place, number))
            self._places[columns] = [place for place, _ in found], [number for _, number in found]
        return self._places[columns]


def _holds(index: Index, where: ast.expr, cells: Mapping[str, Any]) -> bool:
    """Whether a condition holds for one row; the same SQL decides as for whole tables."""

    def column(name: str) -> Sql:
        value = cells.get(name)
        return "?", [value if isinstance(value, int | float | str) and value == value else None]

    text, given = condition_sql(where, column)
    return bool(index.connection.execute(f"SELECT coalesce({text}, 0)", given).fetchone()[0])

"""``query``: names as columns, or SQL. A plain command line is parsed by hand: Typer costs more than most answers."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dartvc.errors import UsageError

if TYPE_CHECKING:
    from dartvc.cli.context import Context
    from dartvc.porcelain.query import Table

__all__ = ["QueryOptions", "answer_query", "parse_plainly"]

FORMATS = ("table", "csv", "json", "parquet", "arrow")
_PAGE_ROWS = 1000
"""Rows of a table are laid out so many at a time: the first page does not wait for the last row."""


@dataclass
class QueryOptions:
    """A command line of ``query``."""

    sql: str = ""
    df: str = ""
    where: str = ""
    format: str = "table"
    run: str = ""
    limit: int = 0
    output: str = ""
    latest: bool = False
    best: str = ""
    engine: str = "sqlite"

    def runs(self) -> str | None:
        """Returns which runs are meant, as `dartvc.porcelain.query.choose_runs` takes it.

        Raises:
            UsageError: more than one choice was given.
        """
        given = [each for each in (self.run, "latest" if self.latest else "", f"best:{self.best}" if self.best else "") if each]
        if len(given) > 1:
            raise UsageError("--run, --latest and --best each choose the runs", kind="query", hint="dvc-state query --df loss --best max:acc")
        return given[0] if given else None


def parse_plainly(argv: Sequence[str]) -> QueryOptions | None:
    """Fast path: reads a command line without Typer; None when it holds anything that only Typer should judge."""
    options = QueryOptions()
    words = list(argv)
    while words:
        name, separator, value = words.pop(0).partition("=")
        if name == "--json" and not separator:
            options.format = "json"
        elif name == "--latest" and not separator:
            options.latest = True
        elif name in ("--df", "--where", "--format", "--run", "--output", "--best", "--engine"):
            if not separator and not words:
                return None
            setattr(options, name[2:], value if separator else words.pop(0))
        elif name == "--limit" and (value or words):
            text = value if separator else words.pop(0)
            if not text.isdecimal():
                return None
            options.limit = int(text)
        elif name.startswith("-") or options.sql:
            return None
        else:
            options.sql = name + separator + value
    return options if options.format in FORMATS and bool(options.sql) != bool(options.df) else None


def answer_query(context: Context, options: QueryOptions) -> None:
    """Answers one command line.

    Raises:
        UsageError: neither names nor SQL were given, or both, or the format is not known.
    """
    from dartvc.porcelain.query import query_names, query_sql

    if bool(options.sql) == bool(options.df):
        raise UsageError("query takes names (--df) or SQL", kind="query", hint="dvc-state query --df loss,acc")
    if options.format not in FORMATS:
        raise UsageError(f"{options.format!r} is no format", kind="format", hint=f"one of {', '.join(FORMATS)}")
    if options.sql:
        if options.runs() or options.where:
            raise UsageError("runs and conditions of SQL stand in the SQL", kind="query", hint="SELECT ... WHERE run = '325a4f39'")
        table = query_sql(context.repository, options.sql, engine=options.engine)
    else:
        if options.engine != "sqlite":
            raise UsageError("--engine is for SQL; names as columns come from the index", kind="query", hint="dvc-state query --df loss,acc")
        names = [name.strip() for name in options.df.split(",") if name.strip()]
        table = query_names(context.repository, names, options.where or None, runs=options.runs())
    rows = itertools.islice(table.rows, options.limit) if options.limit > 0 else table.rows
    _write(context, options, table, rows)


def _write(context: Context, options: QueryOptions, table: Table, rows: Any) -> None:
    from dartvc.hindsight.tables import write_arrow, write_csv, write_parquet

    if options.format in ("parquet", "arrow"):
        write = write_parquet if options.format == "parquet" else write_arrow
        if options.output:
            with open(options.output, "wb") as file:
                write(table.columns, rows, file)
            return
        binary = getattr(context.stdout, "buffer", None)
        if binary is None or context.stdout.isatty():
            raise UsageError(
                f"{options.format} is not for terminals", kind="format", hint=f"dvc-state query ... --format {options.format} -o FILE"
            )
        whole = io.BytesIO()
        write(table.columns, rows, whole)
        binary.write(whole.getvalue())
        return
    out = open(options.output, "w", encoding="utf-8", newline="") if options.output else context.stdout  # noqa: SIM115
    try:
        if options.format == "csv":
            write_csv(table.columns, rows, out)
        elif options.format == "json":
            _write_json(table.columns, rows, out)
        else:
            _write_table(table.columns, rows, out, color=context.color and not options.output)
    finally:
        if options.output:
            out.close()


def _write_json(columns: Sequence[str], rows: Any, out: Any) -> None:
    out.write('{"schema": "dvc-state/query/1", "items": [')
    separator = ""
    for row in rows:
        cells = {name: cell.hex() if isinstance(cell, bytes) else cell for name, cell in zip(columns, row, strict=True)}
        out.write(separator + json.dumps(cells, ensure_ascii=False))
        separator = ",\n "
    out.write("]}\n")


def _write_table(columns: Sequence[str], rows: Any, out: Any, *, color: bool) -> None:
    from dartvc.cli.render import render_table

    width = shutil.get_terminal_size().columns if out.isatty() else 0
    rows = iter(rows)
    header = True
    while True:
        page = [[_shown(cell) for cell in row] for row in itertools.islice(rows, _PAGE_ROWS)]
        if not page and not header:
            return
        lines = list(render_table(columns, page, color=color, width=width))
        out.write("".join(line + "\n" for line in (lines if header else lines[1:])))
        header = False


def _shown(cell: object) -> object:
    if isinstance(cell, bytes):
        return cell.hex()
    if isinstance(cell, dict) and "blob" in cell:
        summary = cell.get("summary")
        shape = summary.get("shape") if isinstance(summary, dict) else None
        return f"<{cell.get('type')}{f' {tuple(shape)}' if isinstance(shape, list) else ''}>"
    if isinstance(cell, dict) and cell.keys() >= {"type", "repr"}:  # a variable's summary
        from dartvc.state.value_diff import headline

        return headline(cell)
    return json.dumps(cell) if isinstance(cell, dict | list) else cell

"""Tables handed out in other people's formats: pandas, Arrow, Parquet, CSV. These libraries are loaded here, when somebody asks for their format."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

from dartvc.errors import UsageError

__all__ = ["to_arrow", "to_pandas", "write_arrow", "write_csv", "write_parquet"]

_BATCH_ROWS = 65_536


def to_pandas(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Any:
    """Returns a `pandas.DataFrame`; columns of numbers are numeric, a missing value is pandas' own.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UsageError("a data frame needs pandas", kind="no-pandas", hint="pip install pandas") from None
    return pandas.DataFrame.from_records(list(rows), columns=list(columns))


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]], out: IO[str]) -> None:
    """Writes comma-separated values with a header; what is no scalar is JSON."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([json.dumps(cell) if isinstance(cell, dict | list) else cell for cell in row])


def write_parquet(columns: Sequence[str], rows: Iterable[Sequence[object]], out: IO[bytes]) -> None:
    """Writes a Parquet file; a column of mixed kinds is written as text.

    Raises:
        UsageError: pyarrow is not installed.
    """
    table = to_arrow(columns, rows)
    from pyarrow import parquet

    parquet.write_table(table, out)


def write_arrow(columns: Sequence[str], rows: Iterable[Sequence[object]], out: IO[bytes]) -> None:
    """Writes an Arrow IPC file (Feather version 2); a column of mixed kinds is written as text.

    Raises:
        UsageError: pyarrow is not installed.
    """
    table = to_arrow(columns, rows)
    import pyarrow

    with pyarrow.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def to_arrow(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Any:
    """Returns a `pyarrow.Table`, made in batches so that only Arrow's own form of all rows is in memory; mixed kinds become text.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise UsageError("Parquet and Arrow need pyarrow", kind="no-pyarrow", hint="pip install pyarrow") from None
    pieces: list[list[Any]] = [[] for _ in columns]
    source = iter(rows)
    while batch := list(itertools.islice(source, _BATCH_ROWS)):
        for place, cells in enumerate(zip(*batch, strict=True)):
            pieces[place].append(_arrow_array(pyarrow, cells))
    return pyarrow.table({name: _one_type(pyarrow, parts) for name, parts in zip(columns, pieces, strict=True)})


def _arrow_array(pyarrow: Any, cells: Sequence[object]) -> Any:
    plain = [json.dumps(cell) if isinstance(cell, dict | list) else cell for cell in cells]
    try:
        return pyarrow.array(plain)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return pyarrow.array([_text(cell) for cell in plain])


def _one_type(pyarrow: Any, parts: Sequence[Any]) -> Any:
    """Joins the pieces of a column: whole numbers become floats beside floats, anything else text."""
    kinds = {str(part.type) for part in parts} - {"null"}
    if len(kinds) < 2:
        wanted = next((part.type for part in parts if str(part.type) != "null"), pyarrow.null())
        return pyarrow.chunked_array([part.cast(wanted) for part in parts], type=wanted)
    if kinds == {"int64", "double"}:
        return pyarrow.chunked_array([part.cast(pyarrow.float64(), safe=False) for part in parts])
    return pyarrow.chunked_array([pyarrow.array([_text(cell) for cell in part.to_pylist()], pyarrow.string()) for part in parts])


def _text(cell: object) -> str | None:
    return None if cell is None else str(cell)

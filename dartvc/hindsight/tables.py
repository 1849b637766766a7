"""Tables handed out in other people's formats: pandas, Parquet, CSV. These libraries are loaded here, when somebody asks for their format."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

from dartvc.errors import UsageError

__all__ = ["to_pandas", "write_csv", "write_parquet"]


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
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow", kind="no-pyarrow", hint="pip install pyarrow") from None
    cells = list(zip(*rows, strict=True)) or [() for _ in columns]
    arrays = []
    for column in cells:
        plain = [json.dumps(cell) if isinstance(cell, dict | list) else cell for cell in column]
        try:
            arrays.append(pyarrow.array(plain))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
            arrays.append(pyarrow.array([None if cell is None else str(cell) for cell in plain]))
    parquet.write_table(pyarrow.table(dict(zip(columns, arrays, strict=True))), out)

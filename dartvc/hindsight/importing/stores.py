"""SQLite files of other tools, opened for reading only."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from dartvc.errors import NotFoundError

__all__ = ["is_sqlite", "open_store"]

_MAGIC = b"SQLite format 3\0"


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def open_store(path: Path, wanted: Mapping[str, str]) -> sqlite3.Connection:
    """Opens a database that has these tables, each with a column; nothing is written to it.

    Raises:
        NotFoundError: it is another kind of database, or damaged.
    """
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        for table, column in wanted.items():
            if column not in columns_of(connection, table):
                raise NotFoundError(
                    f"{path} has no table {table} with a column {column}", kind="no-store", hint="is it this tool's database?"
                )
    except sqlite3.DatabaseError as error:
        raise NotFoundError(f"{path} cannot be read: {error}", kind="damaged-store", hint=f"sqlite3 {path.name} .recover") from None
    return connection


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Returns the names of a table's columns; none when there is no such table."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]

"""The relations in SQLite: internal tables in a form that is cheap to add to and to pivot, and the documented views over them.

A context's key is the path of its loops: eight bytes a level (loop, entry, iteration; big-endian), so that the bytes sort as the program ran, the
loop around it is a prefix, and the same iteration has the same key in whichever process it was recorded. The file is a cache: it may be
deleted at any time, and one of another version is replaced.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path

from dartvc.hindsight.values import KINDS

__all__ = ["ARGUMENT", "LEVEL", "LEVEL_BYTES", "RECORDED", "REPLAYED", "VERSION", "connect", "in_memory", "is_busy"]

VERSION = 2
LEVEL = struct.Struct(">HHI")
LEVEL_BYTES = LEVEL.size
RECORDED, REPLAYED, ARGUMENT = 0, 1, 2
_BUSY_S = 30.0

_SCHEMA = """
CREATE TABLE run_(
    id INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, script TEXT, command TEXT, cwd TEXT, state TEXT, exit_code INTEGER,
    started REAL, ended REAL, tip TEXT, commits INTEGER, name TEXT, origin TEXT);
CREATE TABLE tag_(run INTEGER, name TEXT, value TEXT, PRIMARY KEY(run, name)) WITHOUT ROWID;
CREATE TABLE name_(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE loop_(
    id INTEGER PRIMARY KEY, function TEXT, name TEXT, ordinal INTEGER, file TEXT, line INTEGER, targets TEXT, is_for INTEGER, scalars INTEGER DEFAULT 0,
    UNIQUE(function, name, ordinal, file));
CREATE TABLE context_(run INTEGER, key BLOB, iteration INTEGER, value, further TEXT, PRIMARY KEY(run, key)) WITHOUT ROWID;
CREATE TABLE record_(
    run INTEGER, key BLOB, name INTEGER, seq INTEGER, value, kind INTEGER, time REAL, source INTEGER,
    PRIMARY KEY(run, key, name, seq)) WITHOUT ROWID;
CREATE TABLE series_(
    run INTEGER, name INTEGER, path BLOB, source INTEGER, kinds INTEGER, repeats INTEGER, last BLOB,
    PRIMARY KEY(run, name, path, source)) WITHOUT ROWID;
CREATE TABLE argument_(run INTEGER, name INTEGER, value, kind INTEGER, standard, is_given INTEGER, PRIMARY KEY(run, name)) WITHOUT ROWID;
CREATE TABLE tip_(ref TEXT PRIMARY KEY, oid TEXT, run INTEGER) WITHOUT ROWID;
CREATE TABLE segment_(ref TEXT, number INTEGER, oid TEXT, PRIMARY KEY(ref, number)) WITHOUT ROWID;
CREATE TABLE tail_(run INTEGER, key BLOB, name INTEGER, seq INTEGER);
CREATE TABLE tail_file_(run INTEGER, name TEXT, size INTEGER, PRIMARY KEY(run, name)) WITHOUT ROWID;
CREATE INDEX tail_of_ ON tail_(run);
CREATE TABLE series_before_(run INTEGER, name INTEGER, path BLOB, source INTEGER, kinds INTEGER, repeats INTEGER, last BLOB);
CREATE TABLE commit_(
    id INTEGER PRIMARY KEY, oid TEXT NOT NULL UNIQUE, run TEXT, time REAL, kind TEXT, message TEXT, file TEXT, line INTEGER, function TEXT, error TEXT);
CREATE TABLE variable_(commit_id INTEGER, name TEXT, summary_oid TEXT, PRIMARY KEY(name, commit_id)) WITHOUT ROWID;
CREATE TABLE looked_up_(name TEXT PRIMARY KEY, upto INTEGER) WITHOUT ROWID;
CREATE TABLE summary_(oid TEXT PRIMARY KEY, value, kind INTEGER, type TEXT, summary TEXT) WITHOUT ROWID;
CREATE TABLE file_(
    run INTEGER, path TEXT, access TEXT, size INTEGER, modified INTEGER, digest TEXT, place TEXT, time REAL,
    PRIMARY KEY(run, path, access, modified)) WITHOUT ROWID;
CREATE INDEX file_at_ ON file_(path);
CREATE INDEX file_with_ ON file_(digest);

CREATE VIEW runs AS SELECT run, script, command, cwd, state, exit_code, started, ended, tip, commits, name, origin FROM run_ ORDER BY started;
CREATE VIEW tags AS SELECT r.run AS run, t.name AS name, t.value AS value FROM tag_ t JOIN run_ r ON r.id = t.run;
CREATE VIEW logs AS
    SELECT r.run AS run, record_.seq AS seq, n.name AS name, record_.value AS value, KIND(record_.kind) AS type, record_.time AS time,
        record_.key AS context, CASE record_.source WHEN 1 THEN 'replay' ELSE 'run' END AS source
    FROM record_ JOIN run_ r ON r.id = record_.run JOIN name_ n ON n.id = record_.name WHERE record_.source < 2;
CREATE VIEW args AS
    SELECT r.run AS run, n.name AS name, a.value AS value, KIND(a.kind) AS type, a.standard AS "default", a.is_given AS given
    FROM argument_ a JOIN run_ r ON r.id = a.run JOIN name_ n ON n.id = a.name;
CREATE VIEW loops AS
    SELECT r.run AS run, c.key AS context, substr(c.key, 1, length(c.key) - 8) AS parent, l.name AS name, c.iteration AS iteration,
        c.value AS value, l.function AS function, l.file AS file, l.line AS line
    FROM context_ c JOIN run_ r ON r.id = c.run JOIN loop_ l ON l.id = LOOP_OF(c.key);
CREATE VIEW commits AS SELECT oid, run, time, kind, message, file, line, function, error FROM commit_;
CREATE VIEW variables AS
    SELECT c.oid AS "commit", c.run AS run, c.time AS time, v.name AS name, s.value AS value, s.type AS type, s.summary AS summary
    FROM variable_ v JOIN commit_ c ON c.id = v.commit_id JOIN summary_ s ON s.oid = v.summary_oid;
CREATE VIEW files AS
    SELECT r.run AS run, f.path AS path, f.access AS access, f.size AS size, f.modified / 1e9 AS modified, f.digest AS digest, f.place AS place
    FROM file_ f JOIN run_ r ON r.id = f.run WHERE f.size >= 0;
"""

_KIND_WORDS = "CASE {} " + " ".join(f"WHEN {number} THEN '{word}'" for number, word in enumerate(KINDS)) + " END"


def connect(path: Path, *, anew: bool = False) -> sqlite3.Connection:
    """Opens the cache, made anew when it is damaged or of another version; in memory where nothing can be written.

    Args:
        path: the file.
        anew: whatever is there is thrown away.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        if anew:
            _remove(path)
        return _open(path)
    except (sqlite3.DatabaseError, OSError) as error:
        if anew or is_busy(error) or (path.exists() and not _is_writable(path)):
            return in_memory()
        return connect(path, anew=True)


def is_busy(error: Exception) -> bool:
    """Whether another process has the cache."""
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def _remove(path: Path) -> None:
    for each in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        each.unlink(missing_ok=True)


def in_memory() -> sqlite3.Connection:
    """Returns empty relations that are kept nowhere."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _make(connection)
    return connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError("another version")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                _make(connection)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";\n"):
        text = statement.replace("KIND(record_.kind)", _KIND_WORDS.format("record_.kind")).replace(
            "KIND(a.kind)", _KIND_WORDS.format("a.kind")
        )
        if text.strip():
            connection.execute(text.replace("LOOP_OF(c.key)", _LOOP_OF))
    connection.execute(f"PRAGMA user_version = {VERSION}")


_LOOP_OF = " + ".join(
    f"{16 ** (3 - digit)} * instr('123456789ABCDEF', substr(hex(c.key), 2 * length(c.key) - {15 - digit}, 1))" for digit in range(4)
)
"""The loop's number, the first two bytes of a key's last level, as SQLite can say it."""


def _is_writable(path: Path) -> bool:
    with contextlib.suppress(OSError), open(path, "r+b"):
        return True
    return False

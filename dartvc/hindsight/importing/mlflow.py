"""MLflow's runs: the file store (a folder ``mlruns``) and the SQLite store (``mlflow.db``), read as files.

File store: ``<experiment>/<run>/meta.yaml`` with ``params/<key>``, ``tags/<key>`` (one value a file) and ``metrics/<key>`` (lines of time in milliseconds, value,
step). SQLite store: tables ``experiments``, ``runs``, ``params``, ``tags``, ``metrics``. Runs that were deleted are left out.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dartvc.errors import NotFoundError
from dartvc.hindsight.importing.foreign import ForeignRun, RunSource, scalar_of, stepped
from dartvc.hindsight.importing.stores import is_sqlite, open_store

__all__ = ["find_mlflow"]

_STATES = {"3": "done", "FINISHED": "done", "4": "failed", "FAILED": "failed", "5": "failed", "KILLED": "failed"}
_NAME_TAG, _SCRIPT_TAG, _COMMIT_TAG = "mlflow.runName", "mlflow.source.name", "mlflow.source.git.commit"
_LARGEST = 1.7976931348623157e308
"""What the SQLite store writes for infinity."""
Point = tuple[str, object, float, int]


def find_mlflow(path: Path) -> Iterator[RunSource]:
    """Yields the runs below a folder (a project, ``mlruns``, an experiment or one run) or in an SQLite store.

    Raises:
        NotFoundError: there is no store.
    """
    folders = [path, path / "mlruns"] if path.is_dir() else []
    stores = [each for each in ([path] if path.is_file() else [path / "mlflow.db"]) if is_sqlite(each)]
    runs = [run for folder in folders for run in _run_folders(folder)]
    if not stores and not runs and not any((folder / "meta.yaml").is_file() or (folder / "0").is_dir() for folder in folders):
        raise NotFoundError(f"there is no MLflow store at {path}", kind="no-store", hint="dvc-state import mlflow mlruns, or mlflow.db")
    for folder in dict.fromkeys(runs):
        if not _is_deleted(folder):
            yield RunSource(f"run {folder.name} ({folder})", partial(_read_folder, folder))
    for store in stores:
        yield from _stored_runs(store)


# -- file store ---------------------------------------------------------------------------------------------------------------


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yields the folders of runs: the folder itself, those of one experiment, or those of all."""
    if (folder / "metrics").is_dir() or (folder / "params").is_dir():
        yield folder
        return
    for depth in ("*/meta.yaml", "*/*/meta.yaml"):
        for meta in sorted(folder.glob(depth)):
            run = meta.parent
            if ((run / "metrics").is_dir() or (run / "params").is_dir()) and run.parts[len(folder.parts)] != ".trash":
                yield run


def _is_deleted(folder: Path) -> bool:
    try:
        return _read_meta(folder / "meta.yaml").get("lifecycle_stage") == "deleted"
    except (OSError, ValueError):
        return False  # reading it will tell what is wrong


def _read_folder(folder: Path) -> ForeignRun:
    meta = _read_meta(folder / "meta.yaml")
    experiment = folder.parent / "meta.yaml"
    experiment_name = _read_meta(experiment).get("name", "") if experiment.is_file() else ""
    tags = dict(_texts(folder / "tags"))
    points = [point for name, text in _texts(folder / "metrics") for point in _points(name, text)]
    return _run(
        meta.get("run_id") or meta["run_uuid"],
        experiment_name,
        tags.get(_NAME_TAG, "") or meta.get("run_name", ""),
        (meta.get("status", ""), meta.get("start_time", ""), meta.get("end_time", "")),
        dict(_texts(folder / "params")),
        tags,
        points,
    )


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields (key, text) of a folder with a file for each key; a key with slashes lies in folders."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes().decode("utf-8", "replace")


def _points(name: str, text: str) -> Iterator[Point]:
    for line in text.splitlines():
        fields = line.split()
        if fields:
            yield name, float(fields[1]), int(fields[0]) / 1000, int(fields[2]) if len(fields) > 2 else 0


def _read_meta(path: Path) -> dict[str, str]:
    """Reads MLflow's flat YAML: a scalar a key, plain or quoted, a long one folded over lines that are indented."""
    found: dict[str, str] = {}
    key = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition(":")
        if separator and not line[:1].isspace() and not line.startswith("-"):
            key = name
            found[key] = value.strip()
        elif key:
            found[key] += " " + line.strip()
    return {name: _unquoted(value) for name, value in found.items()}


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return "" if value == "null" else value


# -- SQLite store -------------------------------------------------------------------------------------------------------------


def _stored_runs(store: Path) -> Iterator[RunSource]:
    connection = open_store(store, {"runs": "run_uuid", "metrics": "run_uuid", "params": "run_uuid", "tags": "run_uuid"})
    query = "SELECT run_uuid, name FROM runs WHERE lifecycle_stage != 'deleted' ORDER BY start_time"
    for run, name in connection.execute(query).fetchall():
        yield RunSource(f"run {run} ({name})", partial(_read_stored, connection, run))


def _read_stored(connection: sqlite3.Connection, run: str) -> ForeignRun:
    def ask(columns: str, table: str, order: str = "key") -> list[tuple[object, ...]]:
        return connection.execute(f"SELECT {columns} FROM {table} WHERE run_uuid = ? ORDER BY {order}", (run,)).fetchall()

    name, status, start, end, experiment_id = ask("name, status, start_time, end_time, experiment_id", "runs", "1")[0]
    experiment = connection.execute("SELECT name FROM experiments WHERE experiment_id = ?", (experiment_id,)).fetchone()
    tags = {str(key): str(value) for key, value in ask("key, value", "tags")}
    points: list[Point] = [
        (str(key), _measured(value, is_nan), int(str(time_ms)) / 1000, int(str(step)))
        for key, value, time_ms, step, is_nan in ask("key, value, timestamp, step, is_nan", "metrics", "timestamp, step, key")
    ]
    shown = tags.get(_NAME_TAG, "") or str(name or "")
    parameters = {str(key): str(value) for key, value in ask("key, value", "params")}
    return _run(run, experiment[0] if experiment else "", shown, (str(status), str(start or ""), str(end or "")), parameters, tags, points)


def _measured(value: object, is_nan: object) -> object:
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if isinstance(value, float) and abs(value) >= _LARGEST else value


def _run(
    run: str,
    experiment: str,
    name: str,
    standing: tuple[str, str, str],
    parameters: dict[str, str],
    tags: dict[str, str],
    points: list[Point],
) -> ForeignRun:
    status, start, end = standing
    started = int(start) / 1000 if start else min((point[2] for point in points), default=0.0)
    ended = int(end) / 1000 if end else max((point[2] for point in points), default=started)
    return ForeignRun(
        tool="mlflow",
        origin=run,
        name=name,
        started_s=started,
        ended_s=ended,
        state=_STATES.get(status, "open"),
        records=stepped(points),
        arguments={key: scalar_of(value) for key, value in parameters.items()},
        tags={**tags, **({"experiment": experiment} if experiment else {})},
        script=tags.get(_SCRIPT_TAG, ""),
        revision=tags.get(_COMMIT_TAG, ""),
    )

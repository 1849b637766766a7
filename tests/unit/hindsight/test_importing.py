"""Runs of MLflow, Weights & Biases and FlorDB: read from files as these tools write them, and by the tools themselves where they are installed."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from dartvc.cli.entry import run as run_line
from dartvc.errors import NotFoundError
from dartvc.hindsight.importing.foreign import scalar_of
from dartvc.hindsight.importing.wandb import log_entries
from dartvc.history import Repository
from dartvc.porcelain.importing import Failure, ImportedRun, import_from
from dartvc.porcelain.programs import list_runs
from dartvc.porcelain.query import query_names, query_sql


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "project").mkdir()
    return Repository.init(tmp_path / "project", key_path=tmp_path / "key")


def imported(repository: Repository, tool: str, path: Path) -> list[ImportedRun]:
    found = list(import_from(repository, tool, path))
    assert not [each for each in found if isinstance(each, Failure)], found
    return [each for each in found if isinstance(each, ImportedRun)]


def rows(repository: Repository, *names: str, where: str | None = None) -> list[tuple[object, ...]]:
    return [row[1:] for row in query_names(repository, names, where).rows]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# -- MLflow -------------------------------------------------------------------------------------------------------------------


def mlflow_run(folder: Path, run: str, *, losses: Sequence[float] = (0.5, 0.25), status: int = 3, stage: str = "active") -> Path:
    """Writes a run as the file store has it."""
    place = folder / "7" / run
    write(folder / "7" / "meta.yaml", "experiment_id: '7'\nlifecycle_stage: active\nname: a study of digits that has a\n  long name\n")
    write(
        place / "meta.yaml",
        f"artifact_uri: ./x\nend_time: 2500\nexperiment_id: '7'\nlifecycle_stage: {stage}\nrun_id: {run}\n"
        f"run_name: it''s\nstart_time: 1000\nstatus: {status}\ntags: []\n",
    )
    write(place / "params/lr", "0.1")
    write(place / "params/model/kind", "mlp")
    write(place / "tags/mlflow.runName", f"run {run}")
    write(place / "tags/mlflow.source.name", "train.py")
    write(place / "metrics/loss", "".join(f"{1000 + at} {loss} {at}\n" for at, loss in enumerate(losses)))
    write(place / "metrics/val/acc", "1001 0.75 1 dataset digest\n")
    write(place / "metrics/final", "1500 0.9 0\n")
    return place


def test_a_file_store_of_mlflow_gives_runs_with_parameters_and_metrics_by_step(repository: Repository, tmp_path: Path) -> None:
    mlflow_run(tmp_path / "mlruns", "aaaa")
    mlflow_run(tmp_path / "mlruns", "bbbb", stage="deleted")
    (made,) = imported(repository, "mlflow", tmp_path)
    assert (made.outcome, made.records, made.name) == ("new", 6, "run aaaa")
    assert rows(repository, "loss", "val/acc", "lr", "final") == [(0, 0.5, None, 0.1, 0.9), (1, 0.25, 0.75, 0.1, 0.9)]
    (run,) = query_sql(repository, "SELECT name, origin, script, state, started, ended FROM runs").rows
    assert run == ("run aaaa", "mlflow:aaaa", "train.py", "done", 1.0, 2.5)
    assert ("experiment", "a study of digits that has a long name") in list(query_sql(repository, "SELECT name, value FROM tags").rows)


def test_importing_twice_adds_nothing_and_a_run_that_went_on_only_what_is_new(repository: Repository, tmp_path: Path) -> None:
    mlflow_run(tmp_path, "aaaa", status=1)
    imported(repository, "mlflow", tmp_path)
    tip = dict(repository.database.refs.iter_refs("refs/logs/"))
    assert [each.outcome for each in imported(repository, "mlflow", tmp_path)] == ["unchanged"]
    assert dict(repository.database.refs.iter_refs("refs/logs/")) == tip
    mlflow_run(tmp_path, "aaaa", losses=(0.5, 0.25))
    assert [(each.outcome, each.records) for each in imported(repository, "mlflow", tmp_path)] == [("grown", 0)]  # its state is another one
    write(tmp_path / "7/aaaa/metrics/loss", "1000 0.5 0\n1001 0.25 1\n2000 0.125 2\n")
    assert [(each.outcome, each.records) for each in imported(repository, "mlflow", tmp_path)] == [("grown", 1)]
    assert rows(repository, "loss") == [(0, 0.5), (1, 0.25), (2, 0.125)]
    write(tmp_path / "7/aaaa/params/lr", "0.3")
    assert [each.outcome for each in imported(repository, "mlflow", tmp_path)] == ["changed"]
    assert rows(repository, "loss", "lr") == [(0, 0.5, 0.3), (1, 0.25, 0.3), (2, 0.125, 0.3)]


def test_the_same_run_from_another_folder_is_the_same_run(repository: Repository, tmp_path: Path) -> None:
    mlflow_run(tmp_path / "one", "aaaa")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    imported(repository, "mlflow", tmp_path / "one")
    imported(repository, "mlflow", tmp_path / "two")
    assert list(query_sql(repository, "SELECT count(*) FROM runs").rows) == [(1,)]


def test_a_run_that_cannot_be_read_is_named_and_the_others_come(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow_run(tmp_path, "aaaa")
    write(mlflow_run(tmp_path, "bbbb") / "metrics/loss", "1000 no-number 0\n")
    (mlflow_run(tmp_path, "cccc") / "meta.yaml").write_bytes(b"\xff\xfe")
    found = list(import_from(repository, "mlflow", tmp_path))
    failures = [each.label for each in found if isinstance(each, Failure)]
    assert ["bbbb" in failures[0], "cccc" in failures[1], len(failures)] == [True, True, 2]
    assert [each.origin for each in found if isinstance(each, ImportedRun)] == ["aaaa"]
    assert run_line(["import", "mlflow", str(tmp_path)], stdout=sys.stdout, stderr=sys.stderr, directory=str(repository.root)) == 5
    assert "no-number" in capsys.readouterr().err


def test_an_sqlite_store_of_mlflow_gives_nan_and_infinity_back(repository: Repository, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    connection.executescript(
        """CREATE TABLE experiments(experiment_id INTEGER, name TEXT); INSERT INTO experiments VALUES (1, 'study');
        CREATE TABLE runs(run_uuid TEXT, name TEXT, status TEXT, start_time INTEGER, end_time INTEGER, lifecycle_stage TEXT, experiment_id INTEGER);
        INSERT INTO runs VALUES ('aa', 'first', 'FAILED', 1000, NULL, 'active', 1), ('bb', 'gone', 'FINISHED', 1, 2, 'deleted', 1);
        CREATE TABLE params(key TEXT, value TEXT, run_uuid TEXT); INSERT INTO params VALUES ('layers', '3', 'aa'), ('code', '007', 'aa');
        CREATE TABLE tags(key TEXT, value TEXT, run_uuid TEXT);
        CREATE TABLE metrics(key TEXT, value REAL, timestamp INTEGER, run_uuid TEXT, step INTEGER, is_nan INTEGER);
        INSERT INTO metrics VALUES ('a', 0, 1000, 'aa', -1, 1), ('a', 1.7976931348623157e308, 1001, 'aa', 2, 0), ('a', -1.7976931348623157e308, 1002, 'aa', 9, 0);"""
    )
    connection.commit()
    connection.close()
    imported(repository, "mlflow", tmp_path)
    found = rows(repository, "a", "layers", "code")
    assert math.isnan(found[0][1])  # type: ignore[arg-type]
    assert [found[0][0], *found[1:]] == [-1, (2, math.inf, 3, "007"), (9, -math.inf, 3, "007")]
    assert list(query_sql(repository, "SELECT state, name FROM runs").rows) == [("failed", "first")]


def test_texts_become_numbers_only_where_nothing_is_lost() -> None:
    assert [scalar_of(text) for text in ("0.1", "3", "True", "None", "007", "1e-3", "nan?")] == [0.1, 3, True, None, "007", "1e-3", "nan?"]
    assert math.isnan(scalar_of("nan"))  # type: ignore[arg-type]


# -- Weights & Biases ---------------------------------------------------------------------------------------------------------


def field(number: int, value: bytes | int) -> bytes:
    """Writes a protobuf field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def item(name: str, value: object) -> bytes:
    parts = [field(2, part.encode()) for part in name.split(".")] if "." in name else [field(1, name.encode())]
    return b"".join(parts) + field(16, json.dumps(value).encode())


def transaction_log(entries: Sequence[bytes]) -> bytes:
    """Frames entries as LevelDB's log does: blocks of 32 KiB, entries in as many pieces as they need."""
    out = bytearray(b":W&B\xe1\xbe\x00")
    for entry in entries:
        left, is_first = entry, True
        while left or is_first:
            room = 32768 - len(out) % 32768
            if room < 7:
                out += bytes(room)
                continue
            piece, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if is_first else (4 if not left else 3)
            out += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            is_first = False
    return bytes(out)


def wandb_entries(rows_: Sequence[dict[str, object]], *, text: str = "x") -> list[bytes]:
    config = field(1, item("lr", 0.1)) + field(1, item("opt", {"name": "adam"})) + field(1, item("_wandb", {}))
    about = field(1, b"abc123") + field(3, b"digits") + field(4, config) + field(8, b"first light") + field(10, b"tag one")
    about += field(17, field(1, 1000) + field(2, 500_000_000))
    history = [
        field(
            2,
            b"".join(field(1, item(name, value)) for name, value in {**row, "_timestamp": 1000.5 + step}.items())
            + field(2, field(1, step)),
        )
        for step, row in enumerate(rows_)
    ]
    summary = field(3, field(1, item("best", 0.75)) + field(1, item("loss", 9)))
    return [
        field(17, about),
        field(26, field(6, b"train.py") + field(5, b"--fast")),
        *history,
        field(4, text.encode()),
        summary,
        field(18, b""),
    ]


def wandb_file(folder: Path, entries: Sequence[bytes], name: str = "offline-run-1-abc123") -> Path:
    path = folder / "wandb" / name / "run-abc123.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(transaction_log(entries))
    return path


def test_an_offline_run_of_wandb_gives_configuration_history_and_summary(repository: Repository, tmp_path: Path) -> None:
    wandb_file(tmp_path, wandb_entries([{"loss": 0.5, "val.acc": 0.25}, {"loss": "NaN"}], text="y" * 100_000))
    (made,) = imported(repository, "wandb", tmp_path)
    assert (made.origin, made.name) == ("digits/abc123", "first light")
    assert rows(repository, "loss", "val.acc", "lr", "opt.name", "best")[0] == (0, 0.5, 0.25, 0.1, "adam", 0.75)
    assert math.isnan(rows(repository, "loss")[1][1])  # type: ignore[arg-type]
    (run,) = query_sql(repository, "SELECT script, command, state, started FROM runs").rows
    assert run == ("train.py", '["--fast"]', "done", 1000.5)
    assert ("tag:tag one", "") in list(query_sql(repository, "SELECT name, value FROM tags").rows)


def test_a_log_whose_end_was_lost_is_read_up_to_there_and_a_damaged_one_is_named(repository: Repository, tmp_path: Path) -> None:
    entries = wandb_entries([{"loss": number / 8} for number in range(50)])
    path = wandb_file(tmp_path, entries)
    whole = path.read_bytes()
    counts = []
    for size in range(7, len(whole), 97):
        counts.append(len(list(log_entries(whole[:size], "x"))))
    assert counts == sorted(counts)
    path.write_bytes(whole[: len(whole) // 2])
    imported(repository, "wandb", tmp_path)
    assert list(query_sql(repository, "SELECT state FROM runs").rows) == [("open",)]
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    (failure,) = import_from(repository, "wandb", tmp_path)
    assert isinstance(failure, Failure) and "damaged at byte" in failure.reason
    path.write_bytes(b"not a log")
    (failure,) = import_from(repository, "wandb", tmp_path)
    assert isinstance(failure, Failure) and "no transaction log" in failure.reason


def test_a_run_of_wandb_that_was_resumed_is_one_run(repository: Repository, tmp_path: Path) -> None:
    entries = wandb_entries([{"loss": 0.5}])
    wandb_file(tmp_path, entries[:-1])
    later = field(2, field(1, item("loss", 0.25)) + field(2, field(1, 1)))
    wandb_file(tmp_path, [later, field(18, field(1, 3))], "offline-run-2-abc123")
    (made,) = imported(repository, "wandb", tmp_path)
    assert rows(repository, "loss") == [(0, 0.5), (1, 0.25)]
    assert list(query_sql(repository, "SELECT run, state FROM runs").rows) == [(made.run, "failed")]


# -- FlorDB -------------------------------------------------------------------------------------------------------------------


def flor_lines(project: Path, tstamp: str = "2026-01-02T03:04:05.000006") -> None:
    place = {"projid": "p", "tstamp": tstamp, "filename": "train.py"}
    loops = [[{"name": "epoch", "iteration": number, "value": str(number)}] for number in range(2)]
    lines = [
        {**place, "ctx": None, "name": "lr", "value": 0.1, "type": 1},
        {**place, "ctx": None, "name": "time::loop", "value": 2.5, "type": 3},
        *[
            {**place, "ctx": [*loop, {"name": "batch", "iteration": 0, "value": "a"}], "name": "loss", "value": 0.5, "type": 1}
            for loop in loops
        ],
        *[{**place, "ctx": loop, "name": "acc", "value": {"top": [1]}, "type": 1} for loop in loops],
    ]
    write(project / f".flor/runs/{tstamp}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def test_flordb_s_lines_and_replayed_values_meet_in_one_run(repository: Repository, tmp_path: Path) -> None:
    flor_lines(tmp_path)
    connection = sqlite3.connect(tmp_path / ".flor/p.db")
    connection.execute("CREATE TABLE logs(projid, tstamp, filename, ctx, value_name, value, value_type, source)")
    context = json.dumps([{"name": "epoch", "iteration": 1, "value": "1"}])
    for _ in range(2):  # FlorDB inserts what it replays again
        connection.execute(
            "INSERT INTO logs VALUES ('p', '2026-01-02T03:04:05.000006', 'train.py', ?, 'norm', '1.5', 1, 'replay')", (context,)
        )
    connection.commit()
    connection.close()
    imported(repository, "flordb", tmp_path)
    assert rows(repository, "loss", "acc", "norm", "lr") == [(0, "a", 0.5, {"top": [1]}, None, 0.1), (1, "a", 0.5, {"top": [1]}, 1.5, 0.1)]
    assert list(query_sql(repository, "SELECT name, source FROM logs WHERE source = 'replay'").rows) == [("norm", "replay")]
    assert [each.outcome for each in imported(repository, "flordb", tmp_path)] == ["unchanged"]


def test_a_database_of_flordb_3_with_loops_of_its_own_is_read(repository: Repository, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "p.db")
    connection.executescript(
        """CREATE TABLE logs(projid, tstamp, filename, ctx_id, value_name, value, value_type);
        CREATE TABLE loops(ctx_id, p_ctx_id, l_name, iteration, l_value);
        INSERT INTO loops VALUES (11, NULL, 'epoch', 0, '0'), (12, 11, 'batch', 1, 'b'), (12, 11, 'batch', 1, 'b');
        INSERT INTO logs VALUES ('p', '2026-01-02T03:04:05', 'train.py', 12, 'loss', '0.5', 1), ('p', '2026-01-02T03:04:05', 'train.py', NULL, 'lr', '0.1', 1);"""
    )
    connection.commit()
    connection.close()
    imported(repository, "flordb", tmp_path / "p.db")
    assert rows(repository, "loss", "lr") == [(0, "b", 0.5, 0.1)]


# -- all ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["mlflow", "wandb", "flordb"])
def test_where_there_is_nothing_the_error_says_what_to_give(repository: Repository, tmp_path: Path, tool: str) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "gone"):
        with pytest.raises(NotFoundError) as refused:
            list(import_from(repository, tool, path))
        assert f"dvc-state import {tool}" in refused.value.hint


def test_a_database_of_another_kind_is_refused(repository: Repository, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t(x)").connection.commit()
    for tool in ("mlflow", "flordb"):
        with pytest.raises(NotFoundError, match="has no table"):
            list(import_from(repository, tool, tmp_path / "other.db"))


def test_imported_runs_are_listed_with_where_they_come_from(repository: Repository, tmp_path: Path) -> None:
    mlflow_run(tmp_path, "aaaa")
    imported(repository, "mlflow", tmp_path)
    (listed,) = list_runs(repository)
    assert (listed.state, listed.origin, listed.command) == ("done", "mlflow:aaaa", ("run aaaa",))


def test_an_imported_run_travels_with_the_repository(repository: Repository, tmp_path: Path) -> None:
    mlflow_run(tmp_path / "mlruns", "aaaa")
    imported(repository, "mlflow", tmp_path)
    bundle = tmp_path / "all.bundle"
    git = ["git", "--git-dir", str(repository.path)]
    subprocess.run([*git, "fsck", "--strict"], check=True, capture_output=True)
    subprocess.run([*git, "bundle", "create", str(bundle), "--all"], check=True, capture_output=True)
    clone = tmp_path / "clone"
    code = run_line(["clone", str(bundle), str(clone)], stdout=sys.stdout, stderr=sys.stderr, directory=str(tmp_path))
    assert code == 0
    assert rows(Repository.open(clone), "loss") == [(0, 0.5), (1, 0.25)]


MLFLOW = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run(run_name="real"):
    mlflow.log_param("lr", 0.1)
    for step in range(3):
        mlflow.log_metric("loss", step / 4, step=step)
"""
WANDB = """
import wandb
run = wandb.init(project="p", mode="offline", name="real", config={"lr": 0.1})
for step in range(3):
    run.log({"loss": step / 4})
run.finish()
"""


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_what_mlflow_itself_writes_is_read(repository: Repository, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", MLFLOW, f"sqlite:///{tmp_path}/mlflow.db"], check=True, cwd=tmp_path, capture_output=True)
    imported(repository, "mlflow", tmp_path)
    assert rows(repository, "loss", "lr") == [(0, 0.0, 0.1), (1, 0.25, 0.1), (2, 0.5, 0.1)]


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_what_wandb_itself_writes_is_read(repository: Repository, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WANDB], check=True, cwd=tmp_path, capture_output=True)
    imported(repository, "wandb", tmp_path)
    assert rows(repository, "loss", "lr") == [(0, 0, 0.1), (1, 0.25, 0.1), (2, 0.5, 0.1)]

"""Names as columns, conditions, and SQL, over records that are written as runs write them."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.cli.entry import run as run_line
from dartvc.errors import NotFoundError, UsageError
from dartvc.hindsight.conditions import parse_condition
from dartvc.hindsight.contexts import Context
from dartvc.hindsight.index import Index
from dartvc.hindsight.journal import Journal, forget_tail
from dartvc.hindsight.loops import Loop
from dartvc.hindsight.pivot import _PathQuery, _runs
from dartvc.hindsight.records import LogRecord, decode_chunks, encode_chunk
from dartvc.hindsight.segments import attach_records, commit_journal
from dartvc.hindsight.tables import to_arrow
from dartvc.history import Repository
from dartvc.porcelain.query import RELATIONS, query_names, query_sql

EPOCH = Loop("<module>", "epoch", 0, "train.py", ("epoch",), 1, True)
BATCH = Loop("step", "batch", 0, "train.py", ("batch",), 9, True)
CHECK = Loop("check", "batch", 0, "train.py", ("batch",), 20, True)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path, key_path=tmp_path / "key")


def epoch(number: int, loop: Loop = EPOCH) -> Context:
    return Context(None, loop, 0, number, (number * 10,))


def batch(parent: Context, number: int, loop: Loop = BATCH) -> Context:
    return Context(parent, loop, 0, number, (number,))


def write(repository: Repository, run: str, records: Iterable[tuple[object, ...]], *, first: int = 0) -> None:
    folder = repository.path / "runs" / run / "logs"
    folder.mkdir(parents=True)
    made = [LogRecord(str(each[0]), each[1], 1000.0 + at, *each[2:]) for at, each in enumerate(records)]  # type: ignore[arg-type]
    (folder / f"{first:012d}.jsonl").write_bytes(encode_chunk(first, made))
    commit_journal(repository, run)


def rows(repository: Repository, names: str, where: str | None = None, runs: str | None = None) -> list[tuple[object, ...]]:
    return list(query_names(repository, names.split(), where, runs=runs).rows)


def training(run: str, lr: float) -> list[tuple[object, ...]]:
    records: list[tuple[object, ...]] = [("lr", lr, None, (0.1, True))]
    for number in range(2):
        outer = epoch(number)
        records += [("loss", lr + number + at / 10, batch(outer, at)) for at in range(2)]
        records.append(("acc", number, outer))
    return records


def test_what_was_logged_in_an_outer_loop_stands_in_the_rows_inside_it(repository: Repository) -> None:
    write(repository, "aa", training("aa", 1.0))
    table = query_names(repository, ["loss", "acc", "lr"])
    assert table.columns == ("run", "epoch", "batch", "loss", "acc", "lr")
    assert list(table.rows) == [
        ("aa", 0, 0, 1.0, 0, 1.0),
        ("aa", 0, 1, 1.1, 0, 1.0),
        ("aa", 10, 0, 2.0, 1, 1.0),
        ("aa", 10, 1, 2.1, 1, 1.0),
    ]


def test_an_iteration_without_inner_records_has_a_row_of_its_own(repository: Repository) -> None:
    outer = [epoch(0), epoch(1)]
    write(repository, "aa", [("acc", 0, outer[0]), ("loss", 0.5, batch(outer[1], 0)), ("acc", 1, outer[1])])
    assert rows(repository, "loss acc") == [("aa", 0, None, None, 0), ("aa", 10, 0, 0.5, 1)]


def test_sibling_loops_share_the_values_of_the_loop_around_them(repository: Repository) -> None:
    outer = epoch(0)
    records = [("loss", 0.5, batch(outer, 0)), ("check", 0.7, batch(outer, 0, CHECK)), ("acc", 3, outer)]
    write(repository, "aa", records)
    assert rows(repository, "loss check acc") == [("aa", 0, 0, 0.5, None, 3), ("aa", 0, 0, None, 0.7, 3)]


def test_runs_come_in_the_order_in_which_they_were_recorded(repository: Repository) -> None:
    for run, lr in (("cc", 1.0), ("aa", 2.0), ("bb", 3.0)):
        write(repository, run, training(run, lr))
    assert [row[0] for row in rows(repository, "lr")] == ["cc", "aa", "bb"]


def test_values_keep_their_types(repository: Repository) -> None:
    values: list[object] = [1, 1.0, True, None, "1", float("nan"), float("-inf"), 1 << 80, {"json": [1, 2]}]
    write(repository, "aa", [("v", value, epoch(at)) for at, value in enumerate(values)])
    got = [row[-1] for row in rows(repository, "v")]
    assert [type(each) for each in got] == [int, float, bool, type(None), str, float, float, int, list]
    assert got[:5] == values[:5] and math.isnan(got[5]) and got[6:] == [float("-inf"), 1 << 80, [1, 2]]  # type: ignore[arg-type]


def test_a_name_logged_twice_in_one_iteration_has_two_rows_and_the_rest_is_repeated(repository: Repository) -> None:
    outer = epoch(0)
    write(repository, "aa", [("x", 1, outer), ("once", 9, outer), ("x", 2, outer), ("x", 3, epoch(1))])
    assert [row[2:] for row in rows(repository, "x once")] == [(1, 9), (2, 9), (3, None)]
    assert [row[2:] for row in rows(repository, "x once", "once == 9 and x > 1")] == [(2, 9)]


def test_a_name_logged_twice_across_two_commits_is_noticed(repository: Repository) -> None:
    outer = epoch(0)
    write(repository, "aa", [("x", 1, outer)])
    write(repository, "aa", [("x", 2, outer)], first=1)
    assert [row[-1] for row in rows(repository, "x")] == [1, 2]


def test_a_condition_on_a_name_that_was_not_asked_for(repository: Repository) -> None:
    for run, lr in (("aa", 1.0), ("bb", 2.0)):
        write(repository, run, training(run, lr))
    assert {row[0] for row in rows(repository, "loss", "lr > 1.5")} == {"bb"}
    assert query_names(repository, ["loss"], "lr > 1.5").columns == ("run", "epoch", "batch", "loss")
    assert rows(repository, "loss", "run == 'aa' and epoch in (10, 20) and not batch == 0") == [("aa", 10, 1, 2.1)]


def test_the_latest_and_the_best_run(repository: Repository) -> None:
    for run, lr in (("aa", 3.0), ("bb", 1.0), ("cc", 2.0)):
        write(repository, run, training(run, lr))
    assert {row[0] for row in rows(repository, "loss", runs="latest")} == {"cc"}
    assert {row[0] for row in rows(repository, "loss", runs="best:max:loss")} == {"aa"}
    assert {row[0] for row in rows(repository, "loss", runs="best:min:loss")} == {"bb"}
    with pytest.raises(NotFoundError):
        rows(repository, "loss", runs="zz")


def test_a_replayed_value_meets_the_recorded_one_in_its_row(repository: Repository) -> None:
    write(repository, "aa", training("aa", 1.0))
    for _ in range(2):  # again: nothing is doubled
        found = [LogRecord("norm", number * 7, 2000.0, epoch(number)) for number in range(2)]
        again = [LogRecord("acc", 99, 2000.0, epoch(0))]
        attach_records(repository, "aa", [*found, *again], message="replay norm")
    assert rows(repository, "norm acc") == [("aa", 0, 0, 0), ("aa", 10, 7, 1)]
    assert [row[-1] for row in rows(repository, "norm loss")] == [1.0, 1.1, 2.0, 2.1]


def test_an_unknown_name_is_refused_with_what_it_may_have_been(repository: Repository) -> None:
    write(repository, "aa", training("aa", 1.0))
    with pytest.raises(NotFoundError, match="los") as caught:
        rows(repository, "los")
    assert "loss" in caught.value.hint
    with pytest.raises(UsageError):
        rows(repository, "loss", "__import__('os').getcwd()")
    with pytest.raises(UsageError):
        rows(repository, "loss", "loss <")


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM record_",
        "DROP VIEW logs",
        "ATTACH 'x' AS y",
        "PRAGMA user_version = 9",
        "SELECT load_extension('x')",
        "CREATE TABLE t(x)",
        "nonsense",
        "",
    ],
)
def test_sql_only_reads(repository: Repository, text: str) -> None:
    write(repository, "aa", training("aa", 1.0))
    with pytest.raises(UsageError):
        query_sql(repository, text)
    assert next(query_sql(repository, "SELECT count(*) FROM logs").rows) == (6,)


def test_every_relation_is_there(repository: Repository) -> None:
    write(repository, "aa", training("aa", 1.0))
    assert list(query_sql(repository, 'SELECT run, name, value, "default", given FROM args').rows) == [("aa", "lr", 1.0, 0.1, 1)]
    assert list(query_sql(repository, "SELECT name, iteration, value FROM loops WHERE name = 'epoch' ORDER BY context").rows) == [
        ("epoch", 0, 0),
        ("epoch", 1, 10),
    ]
    joined = "SELECT l.value FROM logs l JOIN loops o USING (run, context) WHERE l.name = 'acc' AND o.value = 10"
    assert list(query_sql(repository, joined).rows) == [(1,)]
    for relation in ("runs", "commits", "variables", "files"):
        list(query_sql(repository, f"SELECT * FROM {relation}").rows)


def test_the_index_may_be_deleted_damaged_or_of_another_version(repository: Repository) -> None:
    write(repository, "aa", training("aa", 1.0))
    expected = rows(repository, "loss acc")
    path = repository.path / "index" / "relations.sqlite"
    for damage in (lambda: path.unlink(), lambda: path.write_bytes(b"x" * 5000), lambda: path.write_bytes(path.read_bytes()[:3000])):
        damage()
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)
        assert rows(repository, "loss acc") == expected
    for statement in ("PRAGMA user_version = 99", "DROP TABLE tip_", "DROP TABLE series_before_"):
        index = Index(repository)
        index.connection.execute(statement)
        index.connection.close()
        write(repository, "bb", [("x", 1, epoch(0))])
        assert rows(repository, "loss acc") == expected
        index = Index(repository)
        assert index.connection.execute("SELECT count(*) FROM tip_").fetchone()[0] == 2  # on the disk again
        index.connection.close()


def test_adding_to_a_log_reads_only_what_was_added(repository: Repository) -> None:
    outer = epoch(0)
    write(repository, "aa", [("x", at, batch(outer, at)) for at in range(50)])
    index = Index(repository)
    index.refresh()
    before = index.connection.total_changes
    write(repository, "aa", [("x", 99, batch(outer, 99))], first=50)
    index.refresh()
    assert index.connection.total_changes - before < 20
    assert len(rows(repository, "x")) == 51


def test_a_run_whose_log_was_cut_short_is_read_again(repository: Repository) -> None:
    write(repository, "aa", [("x", 1, epoch(0))])
    first = repository.database.refs.read("refs/logs/aa")
    write(repository, "aa", [("x", 2, epoch(1))], first=1)
    assert [row[-1] for row in rows(repository, "x")] == [1, 2]
    refs = repository.database.refs
    refs.move("refs/logs/aa", first, expected=refs.read("refs/logs/aa"))
    assert [row[-1] for row in rows(repository, "x")] == [1]
    refs.move("refs/logs/aa", None, expected=first)
    with pytest.raises(NotFoundError):
        rows(repository, "x")


def test_the_journal_of_a_living_run_is_followed_line_by_line(repository: Repository) -> None:
    folder = repository.path / "runs" / "aa"
    journal = Journal(folder, {"id": "aa"})
    index = Index(repository)
    for at in range(3):
        journal.append(at, encode_chunk(at, [LogRecord("x", at, 5.0, epoch(0)), LogRecord("y", at, 5.0, epoch(at))]))
        before = index.connection.total_changes
        index.refresh()
        assert index.connection.total_changes - before < 15
        assert [row[-1] for row in rows(repository, "x")] == list(range(at + 1))
    journal.turn()
    commit_journal(repository, "aa")
    assert [row[2:] for row in rows(repository, "x y")] == [(0, 0), (1, 0), (2, 0), (None, 1), (None, 2)]
    journal = Journal(folder)
    journal.append(6, encode_chunk(6, [LogRecord("x", 9, 5.0, epoch(3))]))
    assert [row[-1] for row in rows(repository, "x")] == [0, 1, 2, 9]
    journal.close()
    forget_tail(folder)  # as a process that goes on from a commit does
    assert [row[-1] for row in rows(repository, "x")] == [0, 1, 2]


def test_a_torn_line_of_a_journal_is_passed_over(repository: Repository) -> None:
    write(repository, "aa", [("x", 1, epoch(0))])
    folder = repository.path / "runs" / "aa" / "logs"
    folder.mkdir(parents=True)
    line = encode_chunk(1, [LogRecord("x", 2, 5.0, epoch(1))])
    (folder / "000000000001.jsonl").write_bytes(line + line[: len(line) // 2])
    assert [row[-1] for row in rows(repository, "x")] == [1, 2]


records = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.integers(-5, 5), st.floats(-5, 5)), st.integers(0, 3), st.integers(-1, 3)), max_size=40
)


@given(made=records, bound=st.integers(-3, 3), seed=st.integers(0, 99))
def test_the_pivot_says_what_a_plain_walk_over_the_records_says(
    made: Sequence[tuple[str, float, int, int]], bound: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One name and level at a time: each cell once, in the order of the loops."""
    repository = Repository.init(tmp_path_factory.mktemp("pivot"))
    cells: dict[tuple[int, int], dict[str, float]] = {}
    for name, value, outer, inner in made:
        cells.setdefault((outer, inner), {})[name] = value
    contexts = {number: epoch(number) for number in range(4)}
    flat = [(place, name, value) for place, cell in sorted(cells.items()) for name, value in cell.items() if place[1] >= 0]
    random.Random(seed).shuffle(flat)
    if not flat:
        return
    write(repository, "aa", [(name, value, batch(contexts[outer], inner)) for (outer, inner), name, value in flat])
    names = sorted({name for _, name, _ in flat})
    expected: dict[tuple[int, int], dict[str, float]] = {}
    for place, name, value in flat:
        expected.setdefault(place, {})[name] = value
    wanted = [
        ("aa", outer * 10, inner, *(cell.get(name) for name in names))
        for (outer, inner), cell in sorted(expected.items())
        if outer * 10 >= 10 and cell.get(names[0]) is not None and cell[names[0]] > bound
    ]
    condition = f"epoch >= 10 and {names[0]} > {bound}"
    assert rows(repository, " ".join(names), condition) == wanted
    index = Index(repository)
    index.refresh()
    (run,) = _runs(index, names, None)
    query = _PathQuery(index, run, run.leaves[0], names, needs_time=False)
    columns = ("run", "epoch", "batch", *names)
    slowly = [tuple(cells.get(column) for column in columns) for _, cells in query.rows(parse_condition(condition))]
    assert list(query.plain_rows(columns, parse_condition(condition))) == slowly == wanted


@pytest.mark.parametrize(
    "condition",
    [
        "epoch % 20 == 10",
        "x / 2 > 0.4 and x // 2 == 0",
        "not (x > 1 or epoch < 10)",
        "x + -1 == 0",
        "x is not None",
        "s == 'b'",
        "s < 'b'",
        "x < 'b'",
        "s in ('a', 'b')",
        "-7 // 2 == -4 and -7 % 3 == 2",
    ],
)
def test_conditions_mean_what_python_means(repository: Repository, condition: str) -> None:
    write(repository, "aa", [pair for at in range(4) for pair in (("x", at, epoch(at)), ("s", "abcd"[at], epoch(at)))])

    def holds(x: int, s: str, epoch: int) -> bool:
        try:
            return bool(eval(condition, {"x": x, "s": s, "epoch": epoch}))
        except TypeError:
            return False

    expected = [("aa", at * 10, at, "abcd"[at]) for at in range(4) if holds(at, "abcd"[at], at * 10)]
    assert rows(repository, "x s", condition) == expected


def test_what_is_missing_meets_no_condition(repository: Repository) -> None:
    write(repository, "aa", [pair for at in range(3) for pair in (("x", at, epoch(at)), ("y", 1, None))])
    write(repository, "bb", [("y", 1, None)])
    for condition in ("epoch > 5", "x < 5", "x > -1 and epoch >= 0", "5 > x", "x == 1 or x > 1", "x != 7", "x is not None", "x in (0, 1, 2)"):
        assert {row[0] for row in rows(repository, "x y", condition)} == {"aa"}, condition
    assert rows(repository, "x y", "x == None") == [("bb", None, None, 1)]
    assert rows(repository, "x y", "x < None") == []


def test_chunks_come_back_as_they_were_written() -> None:
    outer = epoch(3)
    line = encode_chunk(7, [LogRecord("a", 1, 5.0, batch(outer, 2)), LogRecord("b", "x", 5.5, None, (3, False))])
    (chunk,) = decode_chunks(line)
    assert (chunk.first, chunk.names, chunk.values, chunk.times_s) == (7, ["a", "b"], [1, "x"], [5.0, 5.5])
    assert chunk.contexts == [1, -1] and chunk.parents == [-1, 0] and chunk.iterations == [3, 2] and chunk.loops == [EPOCH, BATCH]
    assert chunk.arguments == {1: (3, False)}
    assert json.loads(line)["open"] == []


# -- the choice of runs -------------------------------------------------------------------------------------------------------


def test_the_best_run_is_the_one_that_logged_the_best_value_and_the_best_few_are_asked_for_by_number(repository: Repository) -> None:
    for run, values in (("aa", (0.5, 0.9)), ("bb", (0.95, 0.1)), ("cc", (math.nan, 0.2))):
        write(repository, run, [("acc", value, epoch(at)) for at, value in enumerate(values)])
    assert {row[0] for row in rows(repository, "acc", runs="best:max:acc")} == {"bb"}
    assert {row[0] for row in rows(repository, "acc", runs="best:min:acc")} == {"bb"}
    assert {row[0] for row in rows(repository, "acc", runs="best:max:acc:2")} == {"aa", "bb"}
    assert {row[0] for row in rows(repository, "acc", runs="latest")} == {"aa", "bb", "cc"} & {rows(repository, "acc")[-1][0]}
    for rule in ("best:most:acc", "best:max:", "best:max"):
        with pytest.raises(UsageError):
            rows(repository, "acc", runs=rule)
    with pytest.raises(NotFoundError, match="never logged"):
        rows(repository, "acc", runs="best:max:acd")


def test_a_name_that_is_no_identifier_stands_in_backticks(repository: Repository) -> None:
    write(repository, "aa", [("val/acc", number / 4, epoch(number)) for number in range(4)])
    assert rows(repository, "val/acc", "`val/acc` >= 0.5 and epoch < 30") == [("aa", 20, 0.5)]


def test_options_that_contradict_each_other_are_refused(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    write(repository, "aa", training("aa", 1.0))
    for words in (["--df", "loss", "--latest", "--best", "max:acc"], ["SELECT 1", "--latest"], ["--df", "loss", "--engine", "duckdb"]):
        assert run_line(["query", *words], stdout=sys.stdout, stderr=sys.stderr, directory=str(repository.root)) == 2
    assert "each choose the runs" in capsys.readouterr().err


# -- the documented relations -------------------------------------------------------------------------------------------------


def test_the_page_of_the_relations_names_every_relation_and_every_column(repository: Repository) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/relations.md").read_text(encoding="utf-8")
    documented = {
        name: re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE) for name, body in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    }
    connection = Index(repository).connection
    views = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    assert set(views) == set(RELATIONS)
    assert {name: documented.get(name) for name in views} == {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in views
    }


# -- other forms and engines --------------------------------------------------------------------------------------------------


def test_arrow_and_parquet_hold_what_the_table_holds(repository: Repository, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    write(repository, "aa", [*training("aa", 1.0), ("mixed", 1, None), ("what", {"a": [1]}, None)])
    write(repository, "bb", [*training("bb", 2.0), ("mixed", "text", None)])
    for form in ("arrow", "parquet"):
        words = ["query", "--df", "loss,acc,mixed,what", "--format", form, "-o", str(tmp_path / "out")]
        assert run_line(words, stdout=sys.stdout, stderr=sys.stderr, directory=str(repository.root)) == 0
        read = pyarrow.ipc.open_file if form == "arrow" else pyarrow.parquet.ParquetFile
        table = getattr(read(tmp_path / "out"), "read_all" if form == "arrow" else "read")()
        assert table.column("loss").to_pylist() == [row[3] for row in rows(repository, "loss acc mixed what")]
        assert table.column("mixed").to_pylist() == ["1"] * 4 + ["text"] * 4 and table.column("what").to_pylist()[0] == '{"a": [1]}'


def test_a_column_whose_kind_changes_between_batches_is_one_column() -> None:
    pytest.importorskip("pyarrow")
    count = 70_000
    table = to_arrow(["x", "y", "z"], ((number if number < count else 0.5, None if number < count else 1, number or "a") for number in range(count + 1)))
    assert (table.column("x").to_pylist()[-1], table.column("y").to_pylist()[-1]) == (0.5, 1)
    assert table.column("z").to_pylist()[:2] == ["a", "1"] and table.column("z").to_pylist()[-1] == str(count)


def test_both_engines_give_the_same_numbers_and_duckdb_follows_what_is_added(repository: Repository) -> None:
    pytest.importorskip("duckdb")
    text = "SELECT run, name, count(*), max(value), avg(value) FROM logs WHERE type = 'float' GROUP BY run, name ORDER BY run, name"
    for run in ("aa", "bb", "cc"):
        write(repository, run, training(run, len(run) / 3))
        assert list(query_sql(repository, text, engine="duckdb").rows) == list(query_sql(repository, text).rows)
    attach_records(repository, "bb", [LogRecord("norm", 0.5, 1.0, epoch(1))], message="replay")
    joined = "SELECT l.name, l.value, o.iteration FROM logs l JOIN loops o USING (run, context) WHERE l.name = 'norm'"
    assert list(query_sql(repository, joined, engine="duckdb").rows) == list(query_sql(repository, joined).rows) == [("norm", 0.5, 1)]
    repository.database.refs.move("refs/logs/aa", None, expected=repository.database.refs.read("refs/logs/aa"))
    assert list(query_sql(repository, "SELECT count(DISTINCT run) FROM logs", engine="duckdb").rows) == [(2,)]


@pytest.mark.parametrize(
    "text", ["COPY runs TO 'x.csv'", "INSERT INTO runs VALUES (1)", "SELECT 1; SELECT 2", "SELECT * FROM read_csv('x')", "ATTACH 'x.db'", "SELECT nothing"]
)
def test_duckdb_neither_writes_nor_reads_files(repository: Repository, text: str) -> None:
    pytest.importorskip("duckdb")
    with pytest.raises(UsageError):
        list(query_sql(repository, text, engine="duckdb").rows)


def test_a_damaged_cache_of_duckdb_is_made_anew(repository: Repository) -> None:
    pytest.importorskip("duckdb")
    write(repository, "aa", training("aa", 1.0))
    path = repository.path / "index/relations.duckdb"
    path.parent.mkdir()
    for content in (b"", b"no database at all", b"\0" * 100_000):
        path.write_bytes(content)
        assert list(query_sql(repository, "SELECT count(*) FROM logs", engine="duckdb").rows) == [(6,)]

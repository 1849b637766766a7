"""Text for people: ages, sizes, tables, logs, differences, values."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dartvc.cli.render import (
    format_age,
    format_duration,
    format_size,
    printable,
    render_diff,
    render_headline,
    render_log,
    render_summary,
    render_table,
)
from dartvc.cli.render.units import Ages
from dartvc.model import Commit, CommitKind, Oid, Position
from dartvc.state.summaries import summarize
from dartvc.state.value_diff import diff_summaries

NOW_S = 1_000_000_100.0


def commit(name: str, *parents: str, **more: object) -> Commit:
    """Makes a commit whose id is one letter, eight times."""
    time = datetime.fromtimestamp(1_000_000_000, UTC)
    fields: dict[str, object] = {"message": f"commit {name}", "kind": CommitKind.CELL} | more
    ids = tuple(Oid(parent * 8) for parent in parents)
    return Commit(oid=Oid(name * 8), tree=Oid("t"), parents=ids, time=time, **fields)  # type: ignore[arg-type]


def drawn(*commits: Commit) -> list[str]:
    """Returns the graph of commits without ages."""
    lines = render_log(commits, now_s=NOW_S, oneline=True, graph=True)
    return [line.replace(" (1 minute ago)", "").replace("commit ", "") for line in lines]


@given(st.lists(st.floats(-4e9, 4e9) | st.sampled_from([0.0, 1.0, 59.999, 60.0, 3600.0, 86400.0, 1209600.0, 5184000.0, 63072000.0]), max_size=20))
def test_ages_that_are_remembered_are_those_that_are_worked_out(ages_s: list[float]) -> None:
    ages = Ages(NOW_S)
    for age_s in (each for one in ages_s for each in (one, one + 0.5, -one)):
        assert ages.format(NOW_S - age_s) == format_age(NOW_S - (NOW_S - age_s))


def test_ages_sizes_and_durations() -> None:
    assert [format_age(age) for age in (0, 1, 119, 7200, 86400 * 3, 86400 * 800)] == [
        "0 seconds ago", "1 second ago", "1 minute ago", "2 hours ago", "3 days ago", "2 years ago",
    ]  # fmt: skip
    assert format_age(-120) == "in 2 minutes"
    assert [format_size(size) for size in (0, 1023, 1024, 1536, 20 * 2**20, 2**40)] == ["0 B", "1023 B", "1 KiB", "1.5 KiB", "20 MiB", "1 TiB"]
    assert [format_duration(ms) for ms in (0.5, 12, 3200, 245_000, 7_800_000)] == ["500 us", "12 ms", "3.2 s", "4 min 5 s", "2 h 10 min"]


@given(st.integers(0, 2**70))
def test_sizes_are_short(size: int) -> None:
    assert len(format_size(size)) <= 10


@given(st.text())
def test_nothing_printable_drives_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert all(line.isprintable() for line in render_log([commit("a", message=text)], now_s=NOW_S))
    assert all(line.isprintable() for line in render_diff([diff_summaries(text, summarize(text), summarize({text: text}))]))
    assert all(line.isprintable() for line in render_summary(text, summarize({text: text})))


def test_a_line_of_history() -> None:
    lines = list(render_log([commit("b", "a", refs=("HEAD -> main", "tag: best")), commit("a")], now_s=NOW_S, oneline=True))
    assert lines == ["bbbbbbbb (HEAD -> main, tag: best) commit b (1 minute ago)", "aaaaaaaa commit a (1 minute ago)"]


def test_a_detached_head_is_marked() -> None:
    assert list(render_log([commit("a")], now_s=NOW_S, oneline=True, head="a" * 8)) == ["aaaaaaaa (HEAD) commit a (1 minute ago)"]


def test_the_medium_form() -> None:
    whole = commit(
        "c", "a", "b", message="title\n\nbody", added=("x",), modified=tuple("abcdefgh"), removed=("z",), execution=3, error="ValueError: no",
        position=Position("train.py", 12, "main"), run="r1", size_bytes=2048, duration_ms=12.0,
    )  # fmt: skip
    assert list(render_log([whole], now_s=NOW_S)) == [
        "commit cccccccc",
        "Merge:  aaaaaaaa bbbbbbbb",
        "Kind:   cell [3], 12 ms, 2 KiB",
        "Date:   2001-09-09 01:46:40+00:00 (1 minute ago)",
        "Run:    r1",
        "At:     train.py:12 in main",
        "Error:  ValueError: no",
        "",
        "    title",
        "",
        "    body",
        "",
        "    + x  ~ a, b, c, d, e, f and 2 more  - z",
    ]


def test_a_straight_graph() -> None:
    assert drawn(commit("b", "a"), commit("a")) == ["* bbbbbbbb b", "* aaaaaaaa a"]


def test_a_merge_in_the_graph() -> None:
    assert drawn(commit("d", "b", "c"), commit("c", "a"), commit("b", "a"), commit("a")) == [
        "* dddddddd d",
        "|\\",
        "| * cccccccc c",
        "* | bbbbbbbb b",
        "|/",
        "* aaaaaaaa a",
    ]


def test_branches_that_join_across_a_lane() -> None:
    assert drawn(commit("d", "a"), commit("c", "b"), commit("e", "a"), commit("b", "a"), commit("a")) == [
        "* dddddddd d",
        "| * cccccccc c",
        "| | * eeeeeeee e",
        "|_|/",
        "| * bbbbbbbb b",
        "|/",
        "* aaaaaaaa a",
    ]


def test_unrelated_roots() -> None:
    assert drawn(commit("b"), commit("a")) == ["* bbbbbbbb b", "* aaaaaaaa a"]


@given(st.lists(st.lists(st.integers(1, 6), max_size=3, unique=True), max_size=25))
def test_any_history_is_drawn_with_each_commit_once(steps: list[list[int]]) -> None:
    ids = [f"{place:08d}" for place in range(len(steps))]
    commits = [
        Commit(Oid(ids[place]), Oid("t"), tuple(Oid(ids[place + step]) for step in back if place + step < len(ids)), "m",
               datetime.fromtimestamp(0, UTC), CommitKind.CELL)
        for place, back in enumerate(steps)
    ]  # fmt: skip
    lines = list(render_log(commits, now_s=NOW_S, oneline=True, graph=True))
    assert [line.split(" m ")[0][-8:] for line in lines if "* " in line] == ids
    assert all(set(line) <= set("|/\\_ ") for line in lines if "* " not in line)
    whole = list(render_log(commits, now_s=NOW_S, graph=True))
    assert not commits or commits[-1].parents or whole[-1] != ""


def test_without_colour_there_are_no_sequences_and_with_it_the_text_is_the_same() -> None:
    commits = [commit("c", "b", "a", refs=("HEAD -> main",), error="e", added=("x",)), commit("b", "a"), commit("a")]
    for oneline in (False, True):
        plain = list(render_log(commits, now_s=NOW_S, oneline=oneline, graph=True))
        coloured = list(render_log(commits, now_s=NOW_S, oneline=oneline, graph=True, color=True))
        assert all(line.isascii() and line.isprintable() for line in plain)
        assert [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured] == plain


def test_differences() -> None:
    diffs = [
        diff_summaries("lr", summarize(0.1), summarize(0.01)),
        diff_summaries("n", None, summarize(5)),
        diff_summaries("m", summarize(5), None),
        diff_summaries("x", summarize(1), summarize("a")),
        diff_summaries("p", summarize({"a": 1, "b": 2}), summarize({"a": 3, "c": 2})),
        diff_summaries("s", summarize(1), summarize(1)),
    ]
    assert list(render_diff(diffs)) == [
        "~ lr  0.1 -> 0.01 (-0.09, -90.00%)",
        "+ n  int 5",
        "- m  int 5",
        "~ x  int 1 -> str 'a'",
        "~ p  dict",
        "    a: 1 -> 3 (+2, +200.00%)",
        "  - b: 2 (item removed)",
        "  + c: 2 (item added)",
        "~ s  int: contents changed",
    ]
    assert "\x1b[" in "".join(render_diff(diffs, color=True))


def test_a_value_in_full() -> None:
    summary = {"type": "pandas.DataFrame", "rows": 2, "columns": 2, "fields": {"a": {"dtype": "int64", "nulls": 0}, "b": {"dtype": "str"}}}
    assert list(render_summary("df", summary)) == [
        "df  pandas.DataFrame rows 2 columns 2",
        "  column  dtype  nulls",
        "  a       int64      0",
        "  b       str",
    ]
    assert render_headline("x", summarize("a" * 300), width=30) == "x  str 'aaaaaaaaaaaaaaaaaaa..."
    assert list(render_summary("f", {"type": "function", "signature": "f()", "source": ["def f():"]})) == ["f  function f()", "    def f():"]


def test_tables_align_numbers_and_fit_the_terminal() -> None:
    rows = [["a", 1.5, None], ["long", 10, "x"]]
    assert list(render_table(["name", "loss", "note"], rows)) == ["name  loss  note", "a      1.5", "long    10  x"]
    assert all(len(line) <= 8 for line in render_table(["name", "loss", "note"], rows, width=8))

# ruff: noqa: SIM115
"""Open files and what stands around them: stored as the way to open them again, at the place where they stood."""

from __future__ import annotations

import concurrent.futures
import csv
import gzip
import io
import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.state.test_state_roundtrip import through as roundtrip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def through(value: Any) -> Any:
    return roundtrip({"value": value})["value"]


def test_a_csv_writer_goes_on_in_its_file() -> None:
    file = open("a.csv", "w", newline="")
    writer = csv.DictWriter(file, ["x", "y"], delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    names = roundtrip({"file": file, "writer": writer})
    names["writer"].writerow({"x": 1, "y": "a;b"})
    names["file"].close()
    assert Path("a.csv").read_bytes() == b'"x";"y"\r\n"1";"a;b"\r\n'


def test_a_csv_reader_goes_on_with_the_next_row() -> None:
    Path("a.csv").write_text("a,b\r\n1,2\r\n3,4\r\n", newline="")
    file = open("a.csv", newline="")
    reader = csv.reader(file)
    next(reader), next(reader)
    again = through(reader)
    assert (next(again), again.line_num) == (["3", "4"], 3)
    assert next(through(reader)) == ["3", "4"] and next(reader) == ["3", "4"]


@pytest.mark.parametrize("text", ["eins\nzwei\ndrei\n", "ä\r\nöö\r\nüüü\r\n", "only"])
def test_a_file_read_by_iteration_goes_on_with_the_next_line(text: str) -> None:
    Path("a.txt").write_text(text, newline="", encoding="utf-8")
    with open("a.txt", encoding="utf-8") as file:
        first = next(file)
        again = through(file)
        assert first + again.read() == first + file.read() == text.replace("\r\n", "\n")
        again.close()


@pytest.mark.parametrize(("newline", "wanted"), [(None, "a\nb"), ("", "a\r\nb"), ("\r\n", "a\r\nb")])
def test_a_file_keeps_how_it_translates_line_ends(newline: str | None, wanted: str) -> None:
    Path("a.txt").write_bytes(b"a\r\nb")
    with open("a.txt", newline=newline) as file, through(file) as again:
        assert again.read() == wanted


@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_a_gzip_file_goes_on_where_it_was_written(mode: str) -> None:
    data: Any = "first" if mode == "wt" else b"first"
    file: Any = gzip.open("a.gz", mode)
    file.write(data)
    again = through(file)
    again.write(data.replace(data[:1], data[:1].upper()))
    again.close()
    assert gzip.decompress(Path("a.gz").read_bytes()) == b"firstFirst"
    assert through(again).closed


def test_a_gzip_file_goes_on_where_it_was_read() -> None:
    Path("a.gz").write_bytes(gzip.compress(b"one\ntwo\nthree\n"))
    text = gzip.open("a.gz", "rt")
    text.readline()
    assert through(text).read() == "two\nthree\n"
    binary = gzip.open("a.gz")
    binary.read(5)
    assert through(binary).read() == b"wo\nthree\n"


def test_text_over_bytes_keeps_sharing_them() -> None:
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, "utf-8", newline="\n")
    text.write("ab")
    names = roundtrip({"raw": raw, "text": text})
    names["text"].write("c")
    names["text"].flush()
    assert names["raw"].getvalue() == b"abc"


@pytest.mark.parametrize("match", [re.match("(a)(b)?", "ac"), re.search(r"(?<=x)\d+", "ax12"), list(re.finditer("a+", "aabaaa"))[1]])
def test_a_match_of_a_regular_expression_is_matched_again(match: re.Match[str]) -> None:
    again = through(match)
    assert (again.regs, again.group(), again.groups(), again.lastindex) == (match.regs, match.group(), match.groups(), match.lastindex)


def test_idle_pools_are_made_again() -> None:
    with concurrent.futures.ThreadPoolExecutor(2, "mine") as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
        while pool._idle_semaphore._value < len(pool._threads):
            pass
        again = through(pool)
        assert again._max_workers == 2 and list(again.map(abs, [-3])) == [3]
        again.shutdown()
    assert through(pool)._shutdown
    with multiprocessing.get_context("fork").Pool(1) as workers, through(workers) as others:
        assert others.map(abs, [-5]) == [5]

# ruff: noqa: SIM115
"""Text files that are stored while they are read: they notice nothing, and go on with exactly the rest when they come back."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.journal import flush_writers
from dartvc.state.adapters.texts import find_offset, look_into, pause_of
from dartvc.state.saving import Refusal
from tests.unit.state.test_state_roundtrip import through as roundtrip

LINES = 900
PLACES = (1, 2, 3, 211, 640, 899)
OPENERS: dict[str, Callable[..., Any]] = {"plain": open, "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
NEWLINES = (None, "", "\n", "\r", "\r\n")
ENDS = {"unix": ("\n",), "dos": ("\r\n",), "mac": ("\r",), "mixed": ("\n", "\r\n", "\r")}
ENCODINGS = [("utf-8", "äß€😀"), ("latin-1", "äß"), ("utf-8-sig", "äx"), ("utf-16", "ä😀"), ("utf-16-be", "ä😀"), ("utf-32", "ä😀")]
ENCODINGS_WITH_STATES = [("gb18030", "中文a"), ("shift_jis", "日本a"), ("euc-kr", "한a"), ("big5", "中a"), ("iso2022_jp", "日本a"), ("utf-7", "ä+日a")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def through(value: Any) -> Any:
    return roundtrip({"value": value})["value"]


def written(path: str, content: bytes, container: str = "plain") -> None:
    with OPENERS[container](path, "wb") as file:
        file.write(content)


def text_of(ends: str, letters: str) -> str:
    return "".join(f"{i} {letters * (i % 40)}{ENDS[ends][i % len(ENDS[ends])]}" for i in range(LINES))


def rest_of(file: Any) -> tuple[list[str], bool]:
    """Reads on to the end, or to the error that is there."""
    lines: list[str] = []
    try:
        lines.extend(file)
    except UnicodeError:
        return lines, False
    return lines, True


def assert_undisturbed(opened: Callable[[], Any], places: tuple[int, ...] = PLACES, *, chunks_differ: bool = False) -> None:
    """Iterates to several places, stores the file there, and reads both on."""
    with opened() as plain:
        wanted, is_whole = rest_of(plain)
    for place in (*places, len(wanted)):
        if place > len(wanted):
            continue
        with opened() as file:
            for _ in range(place):
                next(file)
            with pytest.raises(OSError, match="telling position disabled"):
                file.tell()
            with through(file) as again:
                with pytest.raises(OSError, match="telling position disabled"):
                    file.tell()
                assert rest_of(file) == (wanted[place:], is_whole)
                rest, was_whole = rest_of(again)
                assert was_whole == is_whole
                assert rest == wanted[place:] or (not is_whole and chunks_differ and rest == wanted[place : place + len(rest)] and len(rest) > 400)


@pytest.mark.parametrize("container", OPENERS)
@pytest.mark.parametrize(("encoding", "letters"), ENCODINGS)
@pytest.mark.parametrize("ends", ENDS)
def test_a_text_file_goes_on_in_any_encoding(container: str, encoding: str, letters: str, ends: str) -> None:
    written("a", text_of(ends, letters).encode(encoding), container)
    assert_undisturbed(lambda: OPENERS[container]("a", "rt", encoding=encoding))


@pytest.mark.parametrize("container", ["plain", "gz"])
@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("ends", ENDS)
def test_a_text_file_goes_on_with_any_line_ends(container: str, newline: str | None, ends: str) -> None:
    written("a", text_of(ends, "xä").encode(), container)
    assert_undisturbed(lambda: OPENERS[container]("a", "rt", encoding="utf-8", newline=newline))


@pytest.mark.parametrize("container", OPENERS)
@pytest.mark.parametrize("errors", ["strict", "replace", "ignore", "surrogateescape", "backslashreplace"])
def test_a_text_file_goes_on_where_bytes_cannot_be_decoded(container: str, errors: str) -> None:
    bad = b"".join(b"%d,caf\xe9 \xff\xc3\n" % i if errors != "strict" or i > 2000 else b"%d,abc\n" % i for i in range(3000)) + b"cut off \xf0\x9f"
    written("a", bad, container)
    assert_undisturbed(lambda: OPENERS[container]("a", "rt", encoding="utf-8", errors=errors), (1, 690, 1400, 2999), chunks_differ=container != "plain")


@pytest.mark.parametrize("container", ["plain", "gz"])
@pytest.mark.parametrize(("encoding", "letters"), ENCODINGS_WITH_STATES)
def test_a_text_file_goes_on_in_encodings_with_states(container: str, encoding: str, letters: str) -> None:
    written("a", text_of("unix", letters).encode(encoding), container)
    assert_undisturbed(lambda: OPENERS[container]("a", "rt", encoding=encoding))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_chunk_may_end_anywhere(size: int) -> None:
    for encoding in ("utf-8", "utf-16", "utf-8-sig"):
        content = "ä\r\n€😀\r\r\n\nx\n\r\nende\r".encode(encoding)

        def opened(content: bytes = content, encoding: str = encoding) -> Any:
            file = io.TextIOWrapper(io.BytesIO(content), encoding)
            file._CHUNK_SIZE = size  # type: ignore[attr-defined]
            return file

        assert_undisturbed(opened, tuple(range(1, 9)))


class Shifted(io.RawIOBase):
    """The user's own stream: bytes that are kept in another way."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, len(self.content))[whence]
        return self.place

    def readinto(self, target: Any) -> int:
        piece = bytes(each ^ 1 for each in self.content[self.place : self.place + len(target)])
        target[: len(piece)] = piece
        self.place += len(piece)
        return len(piece)


def test_text_over_the_users_own_stream_goes_on() -> None:
    content = bytes(each ^ 1 for each in text_of("mixed", "äx").encode())
    assert_undisturbed(lambda: io.TextIOWrapper(io.BufferedReader(Shifted(content), 100), "utf-8"))


def test_a_stream_that_cannot_go_back_is_left_alone() -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as out:
        out.write(b"one\ntwo\nthree\n")
    with open(reading, encoding="utf-8") as file:
        next(file)
        with pytest.raises(Refusal):
            through(file)
        assert list(file) == ["two\n", "three\n"]


def test_a_file_that_was_changed_since_it_was_read_has_no_place_and_is_left_alone() -> None:
    written("a", text_of("unix", "x").encode())
    with open("a", encoding="utf-8") as file:
        next(file)
        written("a", text_of("unix", "y").encode())
        with pytest.raises(Refusal, match="leads to what is read next"):
            through(file)
        assert next(file) == "1 x\n"


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_file_that_is_read_and_written_notices_nothing(newline: str | None) -> None:
    written("a", text_of("dos", "x").encode())
    with open("a", "r+", encoding="utf-8", newline=newline) as file, open("a", encoding="utf-8", newline=newline) as plain:
        file.readline(), next(file)
        flush_writers()
        with pytest.raises(OSError, match="telling position disabled"):
            file.tell()
        for _ in range(700):
            next(file)
        with through(file) as again:
            wanted = list(plain)[702:]
            assert list(again) == list(file) == wanted
            file.write("more")
            with through(file) as third:
                assert file.tell() == third.tell() == os.path.getsize("a")


def test_text_over_bytes_that_is_read_and_written_keeps_its_place() -> None:
    file = io.TextIOWrapper(io.BytesIO(b"one\ntwo\nthree\n"), "utf-8")
    next(file)
    again = through(file)
    assert again.read() == file.read() == "two\nthree\n"
    again.write("four\n")
    again.flush()
    assert again.buffer.getvalue().endswith(b"three\nfour\n")


@pytest.mark.parametrize("newline", NEWLINES)
def test_the_line_ends_of_a_file_are_known_wherever_it_stands(newline: str | None) -> None:
    written("a", b"\r\n" * 100)
    with open("a", newline=newline, encoding="utf-8") as file:
        for move in (file.readline, lambda: file.seek(3), file.read, lambda: next(file, None)):
            move()
            inside = look_into(through(file))
            assert inside is not None and inside.newline == newline


@pytest.mark.parametrize("container", OPENERS)
def test_csv_rows_go_on_with_the_next(container: str) -> None:
    written("a", "".join(f'{i},"a\r\nb{i}"\r\n' for i in range(3000)).encode(), container)
    with OPENERS[container]("a", "rt", newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, ["n", "text"])
        for i in range(2000):
            assert next(reader) == {"n": str(i), "text": f"a\r\nb{i}"}
        again = through(reader)
        for each in (again, reader):
            assert [row["n"] for row in each] == [str(i) for i in range(2000, 3000)]


@pytest.mark.parametrize("container", ["bz2", "xz"])
def test_a_compressed_file_goes_on_where_it_was_read(container: str) -> None:
    written("a", b"one\ntwo\nthree\n", container)
    opened = OPENERS[container]
    with opened("a") as file:
        file.read(5)
        assert through(file).read() == file.read() == b"wo\nthree\n"
    assert through(file).closed
    with opened("a", "rt", encoding="utf-8") as text:
        text.readline()
        assert through(text).read() == "two\nthree\n"
    assert through(text).closed
    with open("a", "rb") as source, opened(source) as file:
        file.read(5)
        names = roundtrip({"file": file, "source": source})
        assert names["file"].read() == b"wo\nthree\n" and names["file"]._fp is names["source"]
    packed = io.BytesIO(lzma.compress(b"one two", lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}]))
    raw = lzma.open(packed, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}])
    raw.read(4)
    assert through(raw).read() == b"two"


@pytest.mark.parametrize("container", ["bz2", "xz"])
def test_a_compressed_file_that_is_written_is_named_and_left_alone(container: str) -> None:
    with OPENERS[container]("a", "wt", encoding="utf-8") as file:
        file.write("one")
        with pytest.raises(Refusal, match=r"a (BZ2|LZMA)File that is being written"):
            through(file)
        file.write("two")
    with OPENERS[container]("a", "rt", encoding="utf-8") as again:
        assert again.read() == "onetwo"


def test_a_reader_of_chunks_is_named_and_left_alone() -> None:
    pandas = pytest.importorskip("pandas")
    written("a", b"x\n1\n2\n3\n4\n")
    reader = pandas.read_csv("a", chunksize=1)
    next(reader)
    turns = enumerate(reader)
    with pytest.raises(Refusal, match="a file that pandas reads in chunks is open"):
        through(turns)
    assert [part.x.tolist() for _, part in turns] == [[2], [3], [4]]
    with pytest.raises(Refusal, match="a file that pandas reads in chunks is open"):
        through(pandas.read_json(io.StringIO('{"a":1}\n{"a":2}\n'), lines=True, chunksize=1))


def test_little_is_read_of_a_large_file() -> None:
    written("a", b"".join(b"line %d\n" % i for i in range(300_000)))
    with open("a", encoding="utf-8") as file:
        for _ in range(200_000):
            next(file)
        waiting, asked = look_into(file), []
        assert waiting is not None

        def read_at(start: int, size: int) -> bytes:
            asked.append(size)
            return os.pread(file.fileno(), size, start)

        pause = pause_of(file, waiting)
        assert pause is not None
        found = find_offset(file, waiting.newline, pause, read_at)
        assert found is not None and sum(asked) <= 64 * 1024
        with open("a", encoding="utf-8") as again:
            again.seek(found)
            assert next(again) == next(file) == "line 200000\n"


def test_a_decoder_that_tells_no_state_leads_nowhere() -> None:
    class Decoder(codecs.IncrementalDecoder):
        def decode(self, content: Any, final: bool = False) -> str:
            return bytes(content).decode()

        def getstate(self) -> Any:
            return None

    def search(name: str) -> codecs.CodecInfo | None:
        if name != "stateless_of_mine":
            return None
        return codecs.CodecInfo(codecs.utf_8_encode, codecs.utf_8_decode, incrementaldecoder=Decoder, name=name)

    codecs.register(search)
    try:
        written("a", b"one\ntwo\n")
        with open("a", encoding="stateless_of_mine", newline="\n") as file:
            file._CHUNK_SIZE = 4  # type: ignore[attr-defined]
            next(file)
            inside = look_into(file)
            assert inside is not None and pause_of(file, inside) is None
    finally:
        codecs.unregister(search)

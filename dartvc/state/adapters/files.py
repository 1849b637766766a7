"""Open files, and what the standard library puts around them: text over gzip, csv readers and writers.

An open file is stored as the way to open it again: path, mode, offset. Its content is the business of the run that writes it.
"""

from __future__ import annotations

import gc
import io
import itertools
import os
import sys
import zlib
from collections.abc import Callable
from typing import Any

from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "REDUCERS"]

_REREAD_BYTES = 64 * 1024 * 1024
_NEWLINES = ("", "\n", "\r", "\r\n")
_BUFFERS = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def _reduce_file(file: Any, saving: Any) -> Any:
    for stream in _STREAMS:
        standard = getattr(sys, stream, None)
        if standard is file:
            return door("standard_stream"), (stream,)
        if standard is not None and getattr(standard, "buffer", None) is file:
            return door("standard_buffer"), (stream,)
    if type(file) is io.TextIOWrapper and not _is_over_a_file(file):
        return _reduce_text(file, saving)
    name: Any = getattr(file, "name", None)
    if not isinstance(name, str | bytes) or not os.path.exists(name):
        if file.closed:
            return door("closed_file"), (str(name), getattr(file, "mode", "r"), getattr(file, "encoding", None))
        raise saving.refuse(file, f"the open file {name!r} has no path to open it by")
    path = os.path.abspath(os.fsdecode(name))
    mode = getattr(file, "mode", "r")
    mode = "r+b" if mode == "rb+" else mode
    is_text = hasattr(file, "encoding")
    encoding, errors = (file.encoding, file.errors) if is_text else (None, None)
    if file.closed:
        return door("closed_file"), (path, mode, encoding)
    if file.writable():
        file.flush()
    offset = _offset_of(file, saving)
    newline = _newline_of(file, offset) if is_text else None
    return door("file"), (path, mode, encoding, errors, offset, *(() if newline is None else (newline,)))


def _is_over_a_file(file: Any) -> bool:
    try:
        return type(file.buffer) in _BUFFERS and type(file.buffer.raw) is io.FileIO
    except ValueError:
        return True  # detached or closed


def _offset_of(file: Any, saving: Any) -> int:
    try:
        return int(file.tell())
    except OSError:
        if not isinstance(file, io.TextIOWrapper) or not file.seekable():
            raise saving.refuse(file, f"the open file {file.name!r} has no position") from None
    offset = _offset_while_iterating(file)
    if offset is None:
        raise saving.refuse(file, f"the position in {file.name!r} is unknown while it is read by iteration", "read it with readline()")
    return offset


def _offset_while_iterating(file: Any) -> int | None:
    """Finds where a text file stands between two lines of an iteration, when ``tell`` refuses to say, from what is left to read."""
    end = os.fstat(file.fileno()).st_size
    if end - file.buffer.tell() > _REREAD_BYTES:
        return None
    file.flush()  # lets tell and seek work again
    rest = file.read()
    for text in (rest, rest.replace("\n", "\r\n")):
        offset = end - len(text.encode(file.encoding, file.errors))
        if offset >= 0:
            file.seek(offset)
            if file.read() == rest:
                file.seek(offset)
                return offset
    file.seek(end)
    return None


def _newline_of(file: Any, offset: int) -> str | None:
    """Returns the ``newline`` that a text file was opened with, which only the garbage collector is told.

    Among its strings it stands between the encoding and what is decoded but not yet read.
    """
    strings = [each for each in gc.get_referents(file) if type(each) is str][1:-1]
    if not strings or (len(strings) == 1 and file.readable() and offset):
        return None
    return strings[0] if strings[0] in _NEWLINES else None


def _build_file(
    loading: Any, path: str, mode: str, encoding: str | None, errors: str | None, offset: int, newline: str | None = None
) -> Any:
    path = loading.located(path)
    if loading.is_rehearsal:
        path, mode, offset = os.devnull, "rb" if "b" in mode else "r", 0
    if "b" not in mode:
        errors = None if errors == "strict" else errors  # Python's own word for it, the same object everywhere
        file: Any = open(path, mode, encoding=encoding, errors=errors, newline=newline, opener=_open_as_it_is)  # noqa: SIM115
    else:
        file = open(path, mode, opener=_open_as_it_is)  # noqa: SIM115  (the user's program closes it)
    file.seek(offset)
    return file


def _open_as_it_is(path: str, flags: int) -> int:
    """Opens a file in the mode that it had, without what that mode does to a file at first."""
    return os.open(path, flags & ~(os.O_TRUNC | os.O_EXCL), 0o666)


def _build_closed_file(loading: Any, path: str, mode: str, encoding: str | None) -> Any:
    file = open(os.devnull, "rb" if "b" in mode else "r", encoding=None if "b" in mode else encoding)  # noqa: SIM115
    file.close()
    return file


def _reduce_text(file: Any, saving: Any) -> Any:
    """Text over something that is not a plain file (a gzip file, bytes in memory)."""
    if file.closed:
        return door("closed_file"), (str(getattr(file, "name", "")), "r", file.encoding)
    position = None
    if file.writable():
        before = file.buffer.tell()
        file.flush()
        if file.buffer.tell() != before:
            raise saving.begin_again()
    else:
        position = _offset_of(file, saving)
    layout = (file.encoding, file.errors, _newline_of(file, position or 0), file.line_buffering, file.write_through)
    return door("text_over"), (file.buffer, layout, position)


def _build_text(loading: Any, buffer: Any, layout: tuple[Any, ...], position: int | None) -> Any:
    encoding, errors, newline, line_buffering, write_through = layout
    file = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=line_buffering, write_through=write_through)
    if position is not None:
        file.seek(position)
    return file


def _reduce_gzip(file: Any, saving: Any) -> Any:
    """A gzip file that is written ends at a byte for a moment (a sync flush), where another compressor can go on."""
    if file.closed:
        return door("closed_file"), (str(file.name), "rb", None)
    facts = {name: value for name, value in vars(file).items() if name in ("name", "mode", "crc", "size", "offset", "_write_mtime")}
    if file.writable():
        file.flush(zlib.Z_SYNC_FLUSH)
        facts.update(crc=file.crc, size=file.size, offset=file.offset)
        return door("gzip_writer"), (file.fileobj, file.myfileobj, facts)
    owned = file.myfileobj
    return door("gzip_reader"), (None if owned is not None else file.fileobj, os.path.abspath(os.fsdecode(file.name or b"")), file.tell())


def _build_gzip_writer(loading: Any, target: Any, owned: Any, facts: dict[str, Any]) -> Any:
    file = loading.library("gzip").GzipFile("", "wb", fileobj=io.BytesIO())
    vars(file).update(facts)
    file.fileobj, file.myfileobj = target, owned
    return file


def _build_gzip_reader(loading: Any, source: Any, path: str, offset: int) -> Any:
    gzip = loading.library("gzip")
    if loading.is_rehearsal:
        return gzip.GzipFile("", "rb", fileobj=io.BytesIO(gzip.compress(b"")))
    if source is not None:
        source.seek(0)
    file = gzip.GzipFile(loading.located(path), "rb", fileobj=source)
    file.seek(offset)
    return file


_DIALECT = ("delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting", "skipinitialspace", "strict")


def _dialect_of(one: Any) -> dict[str, Any]:
    return {name: getattr(one.dialect, name) for name in _DIALECT}


def _reduce_csv_writer(writer: Any, saving: Any) -> Any:
    for write in gc.get_referents(writer):
        target = getattr(write, "__self__", None)
        if callable(write) and target is not None and getattr(target, "write", None) == write:
            return door("csv_writer"), (target, _dialect_of(writer))
    raise saving.refuse(writer, "what this csv writer writes to is unknown")


def _build_csv_writer(loading: Any, target: Any, dialect: dict[str, Any]) -> Any:
    return loading.library("csv").writer(target, **dialect)


def _reduce_csv_reader(reader: Any, saving: Any) -> Any:
    for source in gc.get_referents(reader):
        if hasattr(source, "__next__"):
            return door("csv_reader"), (source, reader.line_num, _dialect_of(reader))
    raise saving.refuse(reader, "what this csv reader reads from is unknown")


def _build_csv_reader(loading: Any, source: Any, read: int, dialect: dict[str, Any]) -> Any:
    """Lets the new reader count empty lines until it stands where the other one stood."""
    reader = loading.library("csv").reader(itertools.chain(itertools.repeat("\n", read), source), **dialect)
    for _ in range(read):
        next(reader)
    return reader


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "_io.TextIOWrapper": _reduce_file,
    "_io.BufferedReader": _reduce_file,
    "_io.BufferedWriter": _reduce_file,
    "_io.BufferedRandom": _reduce_file,
    "_io.FileIO": _reduce_file,
    "gzip.GzipFile": _reduce_gzip,
    "_csv.writer": _reduce_csv_writer,
    "_csv.reader": _reduce_csv_reader,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "standard_stream": lambda loading, name: getattr(sys, name),
    "standard_buffer": lambda loading, name: getattr(sys, name).buffer,
    "file": _build_file,
    "closed_file": _build_closed_file,
    "text_over": _build_text,
    "gzip_writer": _build_gzip_writer,
    "gzip_reader": _build_gzip_reader,
    "csv_writer": _build_csv_writer,
    "csv_reader": _build_csv_reader,
}

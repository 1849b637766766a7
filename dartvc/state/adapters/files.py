"""Open files, and what the standard library puts around them: text over gzip, csv readers and writers.

An open file is stored as the way to open it again: path, mode, offset. Its content is the business of the run that writes it.
"""

from __future__ import annotations

import functools
import gc
import io
import itertools
import os
import sys
import zlib
from collections.abc import Callable
from typing import Any

from dartvc.state.adapters.texts import Pause, byte_reader, find_offset, flush_quietly, look_into, pause_of
from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "REDUCERS"]

_BUFFERS = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_MODULE_OF_COMPRESSED = {"BZ2File": "bz2", "LZMAFile": "lzma"}
Place = int | tuple[Any, ...]
"""Where a text file stands: what ``seek`` takes, or the fields of a `Pause` where that is only found when the file is opened again."""
_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def _reduce_file(file: Any, saving: Any) -> Any:
    for stream in _STREAMS:
        standard = getattr(sys, stream, None)
        if standard is file:
            return door("standard_stream"), (stream,)
        if standard is not None and getattr(standard, "buffer", None) is file:
            return door("standard_buffer"), (stream,)
    if isinstance(file, io.TextIOWrapper) and not _is_over_a_file(file):
        return _reduce_text(file, saving)
    if type(file) is io.BufferedReader and type(file.raw) is not io.FileIO:
        return _reduce_buffered(file, saving)
    name = _name_of(file)
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
        flush_quietly(file)
    newline, place = _text_place(file, saving) if isinstance(file, io.TextIOWrapper) else (None, None)
    place = _offset_of(file, saving) if place is None else place
    return door("file"), (path, mode, encoding, errors, place, *(() if newline is None else (newline,)))


def _name_of(file: Any) -> Any:
    try:
        return getattr(file, "name", "")
    except ValueError:
        return ""  # since Python 3.13 a compressed file that is closed does not tell


def _is_over_a_file(file: Any) -> bool:
    try:
        return type(file.buffer) in _BUFFERS and type(file.buffer.raw) is io.FileIO
    except ValueError:
        return True  # detached or closed


def _offset_of(file: Any, saving: Any) -> int:
    """Returns where a file stands that is no text, or text that is only written; what it held back has been written."""
    try:
        return int(file.tell())
    except OSError:
        raise saving.refuse(file, f"the open file {_name_of(file)!r} has no position") from None


def _text_place(file: Any, saving: Any) -> tuple[str | None, Place | None]:
    """Returns the line ends that a text file was told to see, and where it stands: an offset, or what leads to one; None where it only writes."""
    waiting = look_into(file)
    if waiting is None:
        raise saving.refuse(file, "what a text file has read ahead cannot be seen in this version of Python", "close it, or open it in binary mode")
    if waiting.decoder is None:
        return waiting.newline, None
    name = _name_of(file)
    if not file.seekable():
        raise saving.refuse(file, f"the open file {name!r} has no position")
    pause = pause_of(file, waiting)
    read_at = byte_reader(file.buffer)
    place = pause if pause is None or read_at is None else find_offset(file, waiting.newline, pause, read_at)
    if place is None:
        raise saving.refuse(file, f"no position in {name!r} leads to what is read next", "read it whole, or open it in binary mode")
    return waiting.newline, tuple(place) if isinstance(place, Pause) else place


def _go_to(loading: Any, file: Any, newline: str | None, place: Place) -> None:
    """Leads a text file that was opened again to where the other one stood."""
    offset = place if isinstance(place, int) else find_offset(file, newline, Pause(*place), functools.partial(_read_from, file.buffer))
    if offset is None:
        raise loading.refuse(f"{getattr(file, 'name', 'what a text file reads')!r} is not what it was when it was read")
    file.seek(offset)


def _build_file(
    loading: Any, path: str, mode: str, encoding: str | None, errors: str | None, place: Place, newline: str | None = None
) -> Any:
    path = loading.located(path)
    if loading.is_rehearsal:
        path, mode, place = os.devnull, "rb" if "b" in mode else "r", 0
    if "b" not in mode:
        errors = None if errors == "strict" else errors  # Python's own word for it, the same object everywhere
        file: Any = open(path, mode, encoding=encoding, errors=errors, newline=newline, opener=_open_as_it_is)  # noqa: SIM115
        _go_to(loading, file, newline, place)
    else:
        file = open(path, mode, opener=_open_as_it_is)  # noqa: SIM115  (the user's program closes it)
        file.seek(place)
    return file


def _open_as_it_is(path: str, flags: int) -> int:
    """Opens a file in the mode that it had, without what that mode does to a file at first."""
    return os.open(path, flags & ~(os.O_TRUNC | os.O_EXCL), 0o666)


def _build_closed_file(loading: Any, path: str, mode: str, encoding: str | None) -> Any:
    file = open(os.devnull, "rb" if "b" in mode else "r", encoding=None if "b" in mode else encoding)  # noqa: SIM115
    file.close()
    return file


def _reduce_buffered(file: Any, saving: Any) -> Any:
    """A buffer over what is no file (the user's own class): what it has read ahead is read again."""
    if file.closed:
        return door("closed_file"), (str(_name_of(file)), "rb", None)
    if not file.seekable():
        raise saving.refuse(file, f"an open {type(file.raw).__qualname__} cannot go back to where it is read")
    return door("buffered_over"), (file.raw, _offset_of(file, saving))


def _build_buffered(loading: Any, raw: Any, offset: int) -> Any:
    file = io.BufferedReader(raw)
    if not loading.is_rehearsal:
        file.seek(offset)
    return file


def _reduce_text(file: Any, saving: Any) -> Any:
    """Text over something that is not a plain file (a gzip file, bytes in memory)."""
    if file.closed:
        return door("closed_file"), (str(_name_of(file)), "r", file.encoding)
    if file.writable():
        before = file.buffer.tell()
        flush_quietly(file)
        if file.buffer.tell() != before:
            raise saving.begin_again()
    newline, place = _text_place(file, saving)
    layout = (file.encoding, file.errors, newline, file.line_buffering, file.write_through)
    return door("text_over"), (file.buffer, layout, place)


def _build_text(loading: Any, buffer: Any, layout: tuple[Any, ...], place: Place | None) -> Any:
    encoding, errors, newline, line_buffering, write_through = layout
    file = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=line_buffering, write_through=write_through)
    if place is not None and not loading.is_rehearsal:
        _go_to(loading, file, newline, place)
    return file


def _read_from(buffer: Any, start: int, size: int) -> bytes:
    """Reads bytes at an offset of whatever can seek."""
    buffer.seek(start)
    pieces = []
    while size and (piece := buffer.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


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


def _reduce_compressed(file: Any, saving: Any) -> Any:
    """A bz2 or xz file that is read; the compressors of those that are written can neither be copied nor end at a byte and go on."""
    name = next(base.__name__ for base in type(file).__mro__ if base.__name__ in _MODULE_OF_COMPRESSED)
    if file.closed:
        return door("closed_file"), (str(_name_of(file)), "rb", None)
    if file.writable():
        raise saving.refuse(file, f"a {name} that is being written cannot be stored", "write with gzip, or close the file and append to it")
    source, is_owned = file._fp, file._closefp
    path = getattr(source, "name", None) if is_owned else None
    if is_owned and not isinstance(path, str | bytes):
        raise saving.refuse(file, f"the open {name} has no path to open it by")
    options = {"format": int(found["format"]), "filters": found["filters"]} if (found := file._buffer.raw._decomp_args) else {}
    place = (None if is_owned else source, "" if path is None else os.path.abspath(os.fsdecode(path)), file.tell())
    return door("decompressor"), (name, *place, options)


def _build_decompressor(loading: Any, name: str, source: Any, path: str, offset: int, options: dict[str, Any]) -> Any:
    kind = getattr(loading.library(_MODULE_OF_COMPRESSED[name]), name)
    if loading.is_rehearsal:
        return kind(io.BytesIO(), "rb", **options)
    if source is not None:
        source.seek(0)
    file = kind(loading.located(path) if source is None else source, "rb", **options)
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
    "bz2.BZ2File": _reduce_compressed,
    "lzma.LZMAFile": _reduce_compressed,
    "_csv.writer": _reduce_csv_writer,
    "_csv.reader": _reduce_csv_reader,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "standard_stream": lambda loading, name: getattr(sys, name),
    "standard_buffer": lambda loading, name: getattr(sys, name).buffer,
    "file": _build_file,
    "closed_file": _build_closed_file,
    "text_over": _build_text,
    "buffered_over": _build_buffered,
    "decompressor": _build_decompressor,
    "gzip_writer": _build_gzip_writer,
    "gzip_reader": _build_gzip_reader,
    "csv_writer": _build_csv_writer,
    "csv_reader": _build_csv_reader,
}

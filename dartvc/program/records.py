"""The records of a journal of files, so that they survive a kill and a power cut, and say of themselves whether they are what was written.

One record is a line: a checksum and JSON, synced. That something was not there yet is a symbolic link with such a line as its target: a
journaling file system keeps the order of links and new files over a power cut, so that it need not be waited for, and programs make
thousands of files.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dartvc.host.entropy import new_id
from dartvc.store.durable import replace_file, sync_file, write_all

__all__ = ["Records", "add_record", "copy_content", "drop_records", "is_copy_sound", "read_records"]

_LINES = "journal"
_ABSENT = ".absent"
_LINK_BYTES = 4000
_SUM_DIGITS = 8
_PIECE_BYTES = 1 << 20


class Records:
    """What a journal holds.

    Attributes:
        newest: what was at paths before, the newest first.
        written: the lines in the order in which they were written, the last first: those of acts are nowhere else.
        damaged: where it is damaged, and what that means.
    """

    def __init__(self) -> None:
        self.newest: list[Mapping[str, Any]] = []
        self.written: list[Mapping[str, Any]] = []
        self.damaged: list[str] = []


def add_record(journal: Path, record: Mapping[str, object], *, is_ordered: bool = False) -> None:
    """Adds a record; when this returns, what it tells of may change.

    Args:
        journal: the folder.
        record: ``sequence``, ``path``, ``before`` (what was there) and what belongs to that; or ``sequence``, ``act`` and what was done.
        is_ordered: records of one sequence may be about one path, of several processes: a line, whatever was there.

    Raises:
        OSError: the disk refused; the journal is as it was.
    """
    line = _encode(record)
    if record.get("before") == "absent" and not is_ordered and len(line) <= _LINK_BYTES:
        try:
            os.symlink(line, journal / f"{record['sequence']}-{new_id(6)}{_ABSENT}")
            return
        except PermissionError:
            pass  # a file system without links
    _append(journal / _LINES, line + b"\n")


def read_records(journal: Path) -> Records:
    """Returns what a journal holds; of one commit first what was not there yet (what is in a folder before the folder), then the lines."""
    found = Records()
    links: list[Mapping[str, Any]] = []
    for path, record in _read_links(journal):
        if record is None:
            found.damaged.append(f"{path} is damaged: something that the program made stays")
        else:
            links.append(record)
    links.sort(key=lambda record: -len(record["path"]))
    lines: list[Mapping[str, Any]] = []
    for number, record in enumerate(_read_lines(journal), 1):
        if record is None:
            found.damaged.append(f"line {number} of {journal / _LINES} is damaged: what was written then is as the program left it")
        else:
            lines.append(record)
    found.written = lines[::-1]
    found.newest = sorted([*links, *(line for line in found.written if "path" in line)], key=lambda record: -record["sequence"])
    return found


def drop_records(journal: Path, sequence: int) -> None:
    """Removes what came after commit number ``sequence`` and was taken back, with what a kill left of a line: the program goes on from there.

    Acts stay: they were not.

    Raises:
        OSError: the disk refused; taking it back again does no harm.
    """
    lines = _read_lines(journal)
    kept = [record for record in lines if record is not None and (record["sequence"] < sequence or "act" in record)]
    content = b"".join(_encode(record) + b"\n" for record in kept)
    if lines and (len(kept) < len(lines) or (journal / _LINES).stat().st_size != len(content)):
        replace_file(journal / _LINES, content, temporary=journal / f"{_LINES}.{new_id(6)}")
    copies = {record["copy"] for record in kept if "copy" in record}
    gone = {record["copy"] for record in lines if record is not None and "copy" in record} - copies
    for path, record in _read_links(journal):
        if record is None or record["sequence"] >= sequence:
            gone.add(path.name)
    for name in gone:
        (journal / name).unlink(missing_ok=True)


def _read_links(journal: Path) -> list[tuple[Path, dict[str, Any] | None]]:
    return [(path, _decode(os.fsencode(os.readlink(path)))) for path in journal.glob(f"*{_ABSENT}") if path.is_symlink()]


def _read_lines(journal: Path) -> list[dict[str, Any] | None]:
    """Returns the whole lines; behind the last one a kill may have left the beginning of another, and what that tells of was not changed."""
    try:
        lines = (journal / _LINES).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    last = _decode(lines[-1]) or _decode(lines[-1][:-1])  # whole but for its end
    return [_decode(line) for line in lines[:-1]] + ([last] if last is not None else [])


def _encode(record: Mapping[str, object]) -> bytes:
    text = json.dumps(record).encode()
    return b"%08x %s" % (zlib.crc32(text), text)


def _decode(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.partition(b" ")
    if len(checksum) != _SUM_DIGITS or checksum != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, line)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def copy_content(path: str, copy: Path, *, is_durable: bool = True) -> int:
    """Copies a file; returns the checksum of its content.

    Args:
        path: the file.
        copy: its copy; there is none yet.
        is_durable: it would survive a power cut; if not, the checksum tells whether it did.

    Raises:
        OSError: the disk refused; there is no copy.
    """
    checksum = 0
    try:
        with open(path, "rb", buffering=0) as old, open(copy, "xb", buffering=0) as new:
            while piece := old.read(_PIECE_BYTES):
                checksum = zlib.crc32(piece, checksum)
                write_all(new.fileno(), piece)
        if is_durable:
            sync_file(copy)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    return checksum


def is_copy_sound(copy: Path, record: Mapping[str, Any]) -> bool:
    """Whether a copy holds what was copied."""
    size = checksum = 0
    with open(copy, "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    return (size, checksum) == (int(record["size"]), int(record["checksum"]))

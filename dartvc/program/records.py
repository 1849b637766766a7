"""Lines and copies of a journal that say of themselves whether they are what was written."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dartvc.store.durable import sync_file, write_all

__all__ = ["append_record", "copy_content", "decode_record", "encode_record", "is_copy_sound"]

_SUM_DIGITS = 8


def encode_record(record: Mapping[str, object]) -> bytes:
    """Returns a line: the checksum of what follows, and JSON."""
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode_record(line: bytes) -> dict[str, Any] | None:
    """Reads a line; None when it is not what was written."""
    checksum, _, text = line.partition(b" ")
    if len(checksum) != _SUM_DIGITS or checksum != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None


def append_record(path: Path, record: Mapping[str, object], *, is_synced: bool) -> None:
    """Adds a line to a journal; half a line that a kill or a full disk left is no part of the next one.

    Raises:
        OSError: the disk refused; the journal is as it was.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            write_all(descriptor, b"\n" * is_torn + encode_record(record))
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        if is_synced:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def copy_content(path: str, copy: Path) -> int:
    """Copies a small file, durably; returns the checksum of its content.

    Raises:
        OSError: the disk refused; there is no copy.
    """
    content = Path(path).read_bytes()
    try:
        copy.write_bytes(content)
        sync_file(copy)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    return zlib.crc32(content)


def is_copy_sound(content: bytes, record: Mapping[str, Any]) -> bool:
    """Whether a copy holds what was copied."""
    return len(content) == record["size"] and zlib.crc32(content) == record["checksum"]

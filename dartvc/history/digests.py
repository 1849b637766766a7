"""Digests of files outside the repository: xxh3_128 in hexadecimal, as of a chunk."""

from __future__ import annotations

import os
import time

from xxhash import xxh3_128

__all__ = ["digest_of", "digest_of_file"]

_PIECE_BYTES = 1 << 20


def digest_of(content: bytes) -> str:
    """Returns the digest of a content."""
    return xxh3_128(content).hexdigest()


def digest_of_file(path: str, version: tuple[int, int] | None = None, deadline: float = float("inf")) -> str:
    """Returns the digest of a file; empty when it cannot be read, is not that version, or would not be done in time.

    Args:
        path: the file.
        version: its size in bytes and time of change in nanoseconds, before and after; None: whatever it is.
        deadline: of `time.monotonic`.
    """
    running = xxh3_128()
    try:
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if version is not None and (before.st_size, before.st_mtime_ns) != version:
                return ""
            piece = bytearray(_PIECE_BYTES)
            while count := file.readinto(piece):
                running.update(memoryview(piece)[:count])
                if time.monotonic() > deadline:
                    return ""
            after = os.fstat(file.fileno())
    except OSError:
        return ""
    return running.hexdigest() if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) else ""

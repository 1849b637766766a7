"""Our own randomness and clock, so that the program's streams are never drawn from."""

from __future__ import annotations

import os
import time

__all__ = ["local_now", "new_id"]


def new_id(size_bytes: int = 4) -> str:
    """Returns a fresh random hexadecimal id from the kernel's entropy."""
    return os.urandom(size_bytes).hex()


def local_now() -> tuple[float, int]:
    """Returns the time in seconds since the epoch and the local offset from UTC in minutes."""
    now = time.time()
    return now, (time.localtime(now).tm_gmtoff or 0) // 60

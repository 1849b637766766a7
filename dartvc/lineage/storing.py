"""Which results go to the repository, and when: writing them takes a small share of the run, so that a program that repeats nothing does not pay.

Copying, hashing, packing and syncing a result costs a second of CPU for 250 MB. A result is worth that when computing it took twice as long as
writing and reading it back. What is worth it and does not fit into the share yet waits, in memory, and is written when the run has gone on for
long enough, or at its end: what saves most for its size first.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from dartvc.lineage.codekeys import Refused
from dartvc.lineage.holdings import Lost, freeze
from dartvc.lineage.memory import Entry
from dartvc.lineage.shelf import Shelf, Stored

__all__ = ["Storing"]

_WORTH_S = 5e-3
_WORTH_INSIDE_S = 5e-2  # in a call whose own result is stored, more often than not
_READ_BYTES_PER_S = 1.5e9
_WRITE_BYTES_PER_S = 2.5e8
_GAIN = 2.0
_AT_ONCE_BYTES = 32 << 20
_SHARE = 0.04
_WAITING_LIMIT = 64


class Storing:
    """Gives results to the shelf.

    Args:
        shelf: the results of all processes.
        namespace: the program's globals.
    """

    def __init__(self, shelf: Shelf, namespace: dict[str, Any]) -> None:
        self._shelf = shelf
        self._namespace = namespace
        self._written_bytes = 0
        self._waiting: list[tuple[bytes, dict[str, Any], Entry]] = []
        self._lock = threading.Lock()

    def offer(self, key: bytes, entry: Entry, components: list[tuple[str, str]], result: Any, size_bytes: int, *, is_inside: bool) -> None:
        """Stores a result that is worth it, now or later.

        Args:
            size_bytes: of the result alone.
            is_inside: whether another call is being watched that this one is a part of.

        Raises:
            Refused: it cannot be stored.
        """
        transfer_s = size_bytes / _WRITE_BYTES_PER_S + size_bytes / _READ_BYTES_PER_S
        if entry.cost_s < max(_WORTH_INSIDE_S if is_inside else _WORTH_S, _GAIN * transfer_s):
            return
        facts = {
            "name": entry.site, "cost_s": entry.cost_s, "files": entry.files, "streams": [each.hex() for each in entry.streams],
            "output": entry.output, "components": list(components),
        }  # fmt: skip
        with self._lock:
            if self._may_write(size_bytes):
                self._write(key, facts, entry, result)
            elif entry.holding is not None:
                self._waiting.append((key, facts, entry))
                self._write_waiting(_WAITING_LIMIT)

    def close(self) -> None:
        """Stores what had to wait for the end of the run, as far as that is cheap."""
        with self._lock:
            self._write_waiting(0)

    def _may_write(self, size_bytes: int) -> bool:
        allowed = _AT_ONCE_BYTES + _SHARE * _WRITE_BYTES_PER_S * time.process_time()
        if self._written_bytes + size_bytes > allowed:
            return False
        self._written_bytes += size_bytes
        return True

    def _write(self, key: bytes, facts: dict[str, Any], entry: Entry, result: Any) -> None:
        self._shelf.add(Stored(key.hex(), facts, freeze((result, entry.streams_after), self._namespace)))

    def _write_waiting(self, limit: int) -> None:
        """Stores what waits and may be written by now; forgets all the rest but ``limit``."""
        waiting = []
        for key, facts, entry in sorted(self._waiting, key=lambda each: each[2].score, reverse=True):
            if not self._may_write(entry.size_bytes):
                waiting.append((key, facts, entry))
                continue
            try:
                self._write(key, facts, entry, entry.holding.take(is_borrowed=True))
            except (Lost, Refused):
                pass  # somebody changed it
        self._waiting = waiting[:limit]

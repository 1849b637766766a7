"""The results of this process: found by key and by what they depend on, kept under a budget, thrown away by cost and size (LIMA's policy)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Entry", "Memory", "available_bytes"]

_VARIANTS = 4


@dataclass(slots=True)
class Entry:
    """A result: what it depends on besides its key, what is to be done again when it is reused, and what it is worth.

    Attributes:
        files: path to digest of every file that was read.
        streams: the positions of the random streams that it was computed from; empty when it drew from none.
        streams_after: where they stood afterwards.
        output: what was printed: (``stdout`` or ``stderr``, text).
        cost_s: how long it took.
    """

    site: str
    holding: Any
    size_bytes: int
    cost_s: float
    files: dict[str, str] = field(default_factory=dict)
    streams: tuple[bytes, ...] = ()
    streams_after: Any = None
    output: list[tuple[str, str]] = field(default_factory=list)
    uses: int = 0

    @property
    def score(self) -> float:
        """What a byte of it saves: (uses + 1) * cost / size."""
        return (self.uses + 1) * self.cost_s / max(self.size_bytes, 64)


class Memory:
    """The entries in memory, by key. Threads may share one.

    Args:
        budget_bytes: what all results together may take.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self.evicted = 0
        self._entries: dict[bytes, list[Entry]] = {}
        self._lock = threading.Lock()

    def iter_entries(self, key: bytes) -> Iterator[Entry]:
        """Yields the entries of a key; they differ in what else they depend on."""
        yield from tuple(self._entries.get(key, ()))

    def add(self, key: bytes, entry: Entry) -> None:
        """Keeps an entry; others go when the budget is spent."""
        if entry.size_bytes > self.budget_bytes // 2:
            return
        with self._lock:
            entries = self._entries.setdefault(key, [])
            entries.insert(0, entry)
            self.size_bytes += entry.size_bytes
            for surplus in entries[_VARIANTS:]:
                self.size_bytes -= surplus.size_bytes
            del entries[_VARIANTS:]
            if self.size_bytes > self.budget_bytes:
                self._evict(keep=entry)

    def drop(self, key: bytes, entry: Entry) -> None:
        """Forgets an entry."""
        with self._lock:
            entries = self._entries.get(key, [])
            if entry in entries:
                entries.remove(entry)
                self.size_bytes -= entry.size_bytes

    def _evict(self, keep: Entry) -> None:
        """Throws away what saves least for its size, down to 7/8 of the budget."""
        ranked = sorted(((each.score, key, each) for key, entries in self._entries.items() for each in entries), key=lambda item: item[0])
        for _, key, each in ranked:
            if self.size_bytes <= self.budget_bytes * 7 // 8:
                return
            if each is not keep:
                self._entries[key].remove(each)
                self.size_bytes -= each.size_bytes
                self.evicted += 1


def available_bytes() -> int:
    """Returns how much memory this machine can give."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 2 << 30

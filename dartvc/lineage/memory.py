"""The results of this process: found by key and by what they depend on, kept under a budget, thrown away by a policy of LIMA's."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from dartvc.lineage.eviction import Policy, cost_and_size

__all__ = ["Entry", "Memory", "available_bytes"]

_VARIANTS = 4
_REMEMBERED = 10_000
_FIRST_ROOM_BYTES = 64 << 20
_DEAR_S_PER_BYTE = 1e-8  # twice and more what it takes to write and read a byte, or to get it as fresh memory


class Entry:
    """A result: what it depends on besides its key, what is to be done again when it is reused, and what it is worth.

    Attributes:
        files: path to digest of every file that was read.
        streams: the positions of the random streams that it was computed from; empty when it drew from none.
        streams_after: where they stood afterwards.
        output: what was printed: (``stdout`` or ``stderr``, text); an empty text is a flush.
        cost_s: how long it took.
        last_use: when it was wanted last, counted in uses of all results.
        height: how many results stand behind it, itself counted.
        assembled: how many results in it were assembled from parts.
        is_earlier: whether it was computed elsewhere: by an earlier run, or in another process.
    """

    __slots__ = (
        "assembled", "cost_s", "files", "height", "holding", "is_earlier", "last_use", "output", "site", "size_bytes", "streams", "streams_after", "uses",
    )  # fmt: skip

    def __init__(
        self, site: str, holding: Any, size_bytes: int, cost_s: float, files: dict[str, str] | None = None, streams: tuple[bytes, ...] = (),
        streams_after: Any = None, output: Sequence[tuple[str, str]] = (), height: int = 1, assembled: int = 0, *, is_earlier: bool = False,
    ) -> None:  # fmt: skip
        self.site = site
        self.holding = holding
        self.size_bytes = size_bytes
        self.cost_s = cost_s
        self.files = files or {}
        self.streams = streams
        self.streams_after = streams_after
        self.output = output
        self.uses = 0
        self.last_use = 0.0
        self.height = height
        self.assembled = assembled
        self.is_earlier = is_earlier


class Memory:
    """The entries in memory, by key. Threads may share one.

    Memory that is taken for the first time costs the program more than a copy does, and most results are wanted again soon or never: of the budget 64 MB are
    used at first, and twice as much, or four times what is wanted, whenever that was thrown out. So it is at once with a large result that took long for its
    size. One that did not, as the program's data, takes no room for others: it would keep four times its size of what never comes again.

    Args:
        budget_bytes: what all results together may take at most.
        policy: says what goes first.
        pinned: names of calls whose results stay.

    Attributes:
        room_bytes: how much of the budget is used.
        spill: is given what was thrown away; it may be worth its place on the disk.
    """

    def __init__(self, budget_bytes: int, policy: Policy = cost_and_size, pinned: Collection[str] = ()) -> None:
        self.budget_bytes = budget_bytes
        self.room_bytes = min(budget_bytes, _FIRST_ROOM_BYTES)
        self.size_bytes = 0
        self.evicted = 0
        self.spill: Callable[[bytes, Entry], None] | None = None
        self._policy = policy
        self._pinned = pinned
        self._clock = itertools.count(1)
        self._entries: dict[bytes, list[Entry]] = {}
        self._wanted: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        """Takes the results over in a forked child."""
        self._lock = threading.Lock()
        self.limit(self.budget_bytes // 2)
        self.spill = None

    def limit(self, budget_bytes: int) -> None:
        """Takes another budget."""
        self.budget_bytes = budget_bytes
        self.room_bytes = min(self.room_bytes, budget_bytes)

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def iter_entries(self, key: bytes) -> Iterator[Entry]:
        """Yields the entries of a key; they differ in what else they depend on."""
        yield from tuple(self._entries.get(key, ()))

    def note_use(self, entry: Entry) -> None:
        """Counts that an entry was wanted."""
        entry.uses += 1
        entry.last_use = next(self._clock)

    def add(self, key: bytes, entry: Entry) -> None:
        """Keeps an entry; others go when the room is spent."""
        with self._lock:
            gone = self._keep(key, entry) if self._has_room_for(key, entry) else [(key, entry)]
        if self.spill is not None:
            for each in gone:
                self.spill(*each)

    def _has_room_for(self, key: bytes, entry: Entry) -> bool:
        """Makes room for an entry that is worth it, and tells whether it fits; one that does not is remembered, and makes room when it comes again."""
        if entry.size_bytes > self.budget_bytes // 2:
            return False
        former_uses = self._wanted.pop(key, 0)
        is_dear = entry.cost_s > _DEAR_S_PER_BYTE * entry.size_bytes
        if former_uses or (is_dear and entry.size_bytes > self.room_bytes // 4):
            self.room_bytes = min(max(2 * self.room_bytes, 4 * entry.size_bytes), self.budget_bytes)
        entry.uses += former_uses
        if entry.size_bytes > self.room_bytes:
            self._remember(key, 1)
            return False
        return True

    def _keep(self, key: bytes, entry: Entry) -> list[tuple[bytes, Entry]]:
        """Takes an entry in; returns what went for it."""
        entry.last_use = next(self._clock)
        entries = self._entries.setdefault(key, [])
        entries.insert(0, entry)
        self.size_bytes += entry.size_bytes
        for surplus in entries[_VARIANTS:]:
            self.size_bytes -= surplus.size_bytes
        del entries[_VARIANTS:]
        return self._evict(keep=entry) if self.size_bytes > self.room_bytes else []

    def _remember(self, key: bytes, uses: int) -> None:
        """Notes that what is wanted under a key again was thrown out."""
        self._wanted[key] = uses
        while len(self._wanted) > _REMEMBERED:
            self._wanted.pop(next(iter(self._wanted)))

    def drop(self, key: bytes, entry: Entry) -> None:
        """Forgets an entry."""
        with self._lock:
            entries = self._entries.get(key, [])
            if any(each is entry for each in entries):
                entries[:] = [each for each in entries if each is not entry]
                self.size_bytes -= entry.size_bytes

    def _evict(self, keep: Entry) -> list[tuple[bytes, Entry]]:
        """Throws away what the policy gives the lowest scores, down to 7/8 of the room; returns it."""
        held = [(key, each) for key, entries in self._entries.items() for each in entries]
        scores = self._policy([each for _, each in held])
        gone: list[tuple[bytes, Entry]] = []
        for number in sorted(range(len(held)), key=scores.__getitem__):
            if self.size_bytes <= self.room_bytes * 7 // 8:
                break
            key, each = held[number]
            if each is keep or each.site in self._pinned:
                continue
            left = [other for other in self._entries[key] if other is not each]
            if left:
                self._entries[key] = left
            else:
                del self._entries[key]
            self.size_bytes -= each.size_bytes
            self.evicted += 1
            self._remember(key, each.uses + 1)
            gone.append((key, each))
        return gone


def available_bytes() -> int:
    """Returns how much memory this machine can give."""
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 2 << 30

"""Which results leave the process, and when: writing them takes a small share of the run, so that a program that repeats nothing does not pay.

Copying, hashing, packing and syncing a result costs a second of CPU for 250 MB. A result is worth that when computing it took twice as long as
writing and reading it back. What is worth it and does not fit into the share yet waits, in memory, and is written when the run has gone on for
long enough, or at its end: what saves most for its size first. What memory has no room for cannot wait: it is written or gone. One share holds for
all of it, and for what the other processes of the run have handed over. The handover itself is a file that is not synced, and bounded by itself.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from xxhash import xxh3_128_digest

from dartvc.lineage.codekeys import Refused
from dartvc.lineage.eviction import saved_by_byte
from dartvc.lineage.handover import Handover
from dartvc.lineage.holdings import Lost, freeze
from dartvc.lineage.memory import Entry
from dartvc.lineage.shelf import Shelf, Stored
from dartvc.lineage.streams import Streams

__all__ = ["Storing", "entry_of"]

_WORTH_S = 5e-3
_WORTH_INSIDE_S = 5e-2  # in a call whose own result is stored, more often than not
_READ_BYTES_PER_S = 1.5e9
_WRITE_BYTES_PER_S = 2.5e8
_OPENING_S = 1e-3
_GAIN = 2.0
_AT_ONCE_BYTES = 8 << 20
_SHARE = 0.006
_WAITING_LIMIT = 64
_KEY_BYTES = 16

_Waiting = tuple[bytes, dict[str, Any], Entry]


class Storing:
    """Gives results to the shelf, and to the other processes of the run.

    Calls that differ in nothing but where random streams stand have one key. The first result of such a call lies under it and tells which streams it
    moved; each further one lies under the key and the places of these.

    Args:
        shelf: the results of all processes; None keeps everything in memory.
        namespace: the program's globals.
        streams: the random streams of the process.

    Attributes:
        handover: of the processes of the run; None while this is the only one.
        spilled: how many results went to the shelf because memory had no room for them.
    """

    def __init__(self, shelf: Shelf | None, namespace: dict[str, Any], streams: Streams) -> None:
        self._streams = streams
        self.handover: Handover | None = None
        self.spilled = 0
        self._shelf = shelf
        self._namespace = namespace
        self._written_bytes = 0
        self._others_s = 0.0
        self._waiting: list[_Waiting] = []
        self._lock = threading.RLock()  # a finalizer may run, and call what is watched, in the middle of it

    def begin_anew(self) -> None:
        """Leaves to the parent of a forked child what waits there."""
        self._lock = threading.RLock()
        self._waiting = []

    def offer(self, key: bytes, entry: Entry, components: list[tuple[str, str]], result: Any, size_bytes: int, *, is_inside: bool) -> None:
        """Stores a result that is worth it, now or later, and hands it to the other processes of the run.

        Args:
            size_bytes: of the result alone.
            is_inside: whether another call is being watched that this one is a part of.

        Raises:
            Refused: it cannot be stored.
        """
        if entry.streams and self._shelf is not None and self._shelf.has(key):
            key = _key_at(key, entry.streams)
        facts = _facts_of(entry, components)
        stored = None
        if self.handover is not None and entry.cost_s >= max(_WORTH_S, _GAIN * size_bytes / _READ_BYTES_PER_S):
            stored = self._frozen(key, facts, entry, result)
            self.handover.give(stored)
        if self._shelf is None or self._shelf.is_reading_only:
            return
        if entry.cost_s < max(_WORTH_INSIDE_S if is_inside else _WORTH_S, _GAIN * _transfer_s(size_bytes)):
            return
        with self._lock:
            if self._may_write(size_bytes):
                self._shelf.add(stored or self._frozen(key, facts, entry, result))
            elif entry.holding is not None:
                self._waiting.append((key, facts, entry))
                self._write_waiting(self._shelf, _WAITING_LIMIT)

    def find(self, key: bytes) -> Stored | None:
        """Returns the result that the shelf, or another process of the run, has for a key as the random streams stand; None when there is none."""
        stored = self._find(key)
        if stored is not None and stored.facts["streams"]:
            moved = tuple(map(bytes.fromhex, stored.facts["streams"]))
            now = self._streams.now_of(moved)
            if now != moved:
                return self._find(_key_at(key, now))
        return stored

    def _find(self, key: bytes) -> Stored | None:
        stored = self._shelf.find(key) if self._shelf is not None else None
        if stored is None and self.handover is not None:
            stored = self.handover.find(key.hex())
        return stored

    def spill(self, key: bytes, entry: Entry) -> None:
        """Stores what there is no room for in memory, when computing it again costs more than writing and reading it."""
        shelf = self._shelf
        if shelf is None or shelf.is_reading_only or len(key) != _KEY_BYTES:
            return
        with self._lock:
            facts = next((facts for _, facts, each in self._waiting if each is entry), None) or _facts_of(entry, [])
            self._waiting = [each for each in self._waiting if each[2] is not entry]
            is_worth_it = entry.cost_s >= _OPENING_S + _transfer_s(entry.size_bytes)
            if not shelf.has(key) and is_worth_it and self._may_write(entry.size_bytes):
                self.spilled += self._write_held(shelf, key, facts, entry)

    def take_over(self, handover: Handover, cpu_s: float) -> None:
        """Stores what the other processes of the run have handed over.

        Args:
            cpu_s: what these have computed for; it counts as this run's.
        """
        if self._shelf is None or self._shelf.is_reading_only:
            return
        with self._lock:
            self._others_s += cpu_s
            for stored in handover.iter_results():
                if not self._shelf.has(bytes.fromhex(stored.key)) and self._may_write(stored.frozen.size_bytes):
                    self._shelf.add(stored)

    def close(self) -> None:
        """Stores what had to wait for the end of the run, as far as that is cheap."""
        if self._shelf is not None:
            with self._lock:
                self._write_waiting(self._shelf, 0)

    def _may_write(self, size_bytes: int) -> bool:
        allowed = _AT_ONCE_BYTES + _SHARE * _WRITE_BYTES_PER_S * (time.process_time() + self._others_s)
        if self._written_bytes + size_bytes > allowed:
            return False
        self._written_bytes += size_bytes
        return True

    def _frozen(self, key: bytes, facts: dict[str, Any], entry: Entry, result: Any) -> Stored:
        return Stored(key.hex(), facts, freeze((result, entry.streams_after), self._namespace))

    def _write_held(self, shelf: Shelf, key: bytes, facts: dict[str, Any], entry: Entry) -> bool:
        try:
            return shelf.add(self._frozen(key, facts, entry, entry.holding.take(is_borrowed=True)))
        except (Lost, Refused):
            return False  # somebody changed it

    def _write_waiting(self, shelf: Shelf, limit: int) -> None:
        """Stores what waits and may be written by now; forgets all the rest but ``limit``."""
        offered, self._waiting = self._waiting, []
        scores = [saved_by_byte(entry) for _, _, entry in offered]
        waiting: list[_Waiting] = []
        for number in sorted(range(len(scores)), key=scores.__getitem__, reverse=True):
            key, facts, entry = offered[number]
            if self._may_write(entry.size_bytes):
                self._write_held(shelf, key, facts, entry)
            else:
                waiting.append((key, facts, entry))
        self._waiting += waiting[:limit]


def _key_at(key: bytes, places: tuple[bytes, ...]) -> bytes:
    return xxh3_128_digest(key + b"".join(places))


def _transfer_s(size_bytes: int) -> float:
    """Returns what writing and reading a result take."""
    return size_bytes / _WRITE_BYTES_PER_S + size_bytes / _READ_BYTES_PER_S


def entry_of(stored: Stored) -> Entry:
    """Returns what is known of a stored result, without its value."""
    facts = stored.facts
    streams, output = tuple(map(bytes.fromhex, facts["streams"])), [(stream, text) for stream, text in facts["output"]]
    height, assembled = int(facts.get("height", 1)), int(facts.get("assembled", 0))
    return Entry(
        facts["name"], None, stored.frozen.size_bytes, facts["cost_s"], dict(facts["files"]), streams, None, output,
        height=height, assembled=assembled, is_earlier=True,
    )  # fmt: skip


def _facts_of(entry: Entry, components: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "name": entry.site, "cost_s": entry.cost_s, "files": entry.files, "streams": [each.hex() for each in entry.streams],
        "output": entry.output, "components": list(components), "height": entry.height, "assembled": entry.assembled,
    }  # fmt: skip

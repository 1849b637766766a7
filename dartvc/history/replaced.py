"""Old ids of commits that retention wrote anew: they still name the same state.

A text file of lines ``OLD NEW``; NEW is 40 zeros for a commit that was dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dartvc.errors import NotFoundError
from dartvc.host.entropy import new_id
from dartvc.model import Oid, short
from dartvc.store.durable import replace_file, storage_errors

__all__ = ["DROPPED", "Replaced"]

DROPPED = Oid("0" * 40)
_LINE = re.compile(r"([0-9a-f]{40}) ([0-9a-f]{40})")


class Replaced:
    """The map of one repository; read when first needed and when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: dict[Oid, Oid] = {}
        self._damaged = 0
        self._stamp: tuple[int, int] | None = None

    def current(self, oid: Oid) -> Oid:
        """Returns the id under which a commit exists today.

        Raises:
            NotFoundError: retention dropped it.
        """
        known = self._read()
        seen = set()
        while oid in known and oid not in seen:
            seen.add(oid)
            if known[oid] == DROPPED:
                raise NotFoundError(f"the automatic commit {short(oid)} was dropped by retention", kind="thinned", hint="dvc-state log")
            oid = known[oid]
        return oid

    def find(self, prefix: str) -> list[Oid]:
        """Returns what replaced the commits whose old id begins with ``prefix``."""
        return [self.current(old) for old, new in self._read().items() if old.startswith(prefix) and new != DROPPED]

    def is_dropped(self, oid: Oid) -> bool:
        """Whether retention dropped the commit."""
        return self._read().get(oid) == DROPPED

    def damaged_lines(self) -> int:
        """Returns how many lines of the file cannot be read; they are passed over."""
        self._read()
        return self._damaged

    def add(self, replaced: Mapping[Oid, Oid]) -> None:
        """Adds entries, durably."""
        with storage_errors(self._path):
            merged = {**self._read(), **replaced}
            content = "".join(f"{old} {new}\n" for old, new in merged.items()).encode()
            replace_file(self._path, content, temporary=self._path.with_name(f"tmp_replaced.{new_id()}"))

    def _read(self) -> dict[Oid, Oid]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            matches = map(_LINE.fullmatch, self._path.read_text("latin-1").splitlines())
            self._damaged = 0
            self._map = {}
            for match in matches:
                if match is None:
                    self._damaged += 1
                else:
                    self._map[Oid(match[1])] = Oid(match[2])
            self._stamp = stamp
        return self._map

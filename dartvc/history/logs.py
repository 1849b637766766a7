"""The ``logs`` tree of a commit: the log records of one run, in segments that are only ever added.

Segment number n lies at ``logs/<n // 4096>/<n // 64 % 64>/<n % 64>`` (hexadecimal, 4, 2 and 2 digits), so that a commit that adds one
writes three trees of at most 64 entries however long the log is, apart from the top one, which grows by an entry in 4,096 segments. A
segment is a blob of lines; with attachments (values too large for a line) it is a tree of ``records`` and one blob each. ``logs/run``
holds the id of the run that the records belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dartvc.history.namespace import BLOB_MODE, TREE_MODE
from dartvc.model import LogSegment, Oid
from dartvc.store import TreeEntry

if TYPE_CHECKING:
    from dartvc.store import ObjectBatch, ObjectDatabase

__all__ = ["LogTree", "iter_segments", "read_attachment", "read_segment", "run_of_logs"]

_FAN_OUT = 64
_RECORDS = "records"
_RUN = "run"


class LogTree:
    """A ``logs`` tree that grows; copies share what neither has changed since.

    Attributes:
        run: whose records these are.
        count: how many segments there are.
    """

    __slots__ = ("_low", "_middle", "_oid", "_top", "count", "run")

    def __init__(self, run: str = "") -> None:
        self.run = run
        self.count = 0
        self._top: dict[str, TreeEntry] = {}
        self._middle: dict[str, TreeEntry] = {}
        self._low: dict[str, TreeEntry] = {}
        self._oid: Oid | None = None

    @classmethod
    def read(cls, database: ObjectDatabase, tree_oid: Oid) -> LogTree:
        """Reads a tree that is stored, as far as adding to it needs."""
        tree = cls(run_of_logs(database, tree_oid))
        tree._oid = tree_oid
        tree._top = database.read_tree(tree_oid)
        folders = [name for name in tree._top if name != _RUN]
        if folders:
            tree._middle = database.read_tree(tree._top[max(folders)].oid)
            tree._low = database.read_tree(tree._middle[max(tree._middle)].oid)
            high, middle, low = max(folders), max(tree._middle), max(tree._low)
            tree.count = (int(high, 16) * _FAN_OUT + int(middle, 16)) * _FAN_OUT + int(low, 16) + 1
        return tree

    def copy(self) -> LogTree:
        """Returns a copy that can be added to without changing this one."""
        twin = LogTree(self.run)
        twin.count, twin._oid = self.count, self._oid
        twin._top, twin._middle, twin._low = self._top.copy(), self._middle.copy(), self._low.copy()
        return twin

    def append(self, batch: ObjectBatch, segment: LogSegment) -> None:
        """Adds a segment's blobs to a batch, and the segment to this tree."""
        records = TreeEntry(BLOB_MODE, batch.add_blob(segment.lines))
        if segment.attachments:
            entries = {name: TreeEntry(BLOB_MODE, batch.add_blob(content)) for name, content in segment.attachments.items()}
            records = TreeEntry(TREE_MODE, batch.add_tree({_RECORDS: records, **entries}))
        if not self._top:
            self._top[_RUN] = TreeEntry(BLOB_MODE, batch.add_blob(f"{self.run}\n".encode()))
        high, middle, low = _place(self.count)
        if low == 0:
            self._low = {}
            if middle == 0:
                self._middle = {}
        self._low[f"{low:02x}"] = records
        self._middle[f"{middle:02x}"] = TreeEntry(TREE_MODE, batch.add_tree(self._low))
        self._top[f"{high:04x}"] = TreeEntry(TREE_MODE, batch.add_tree(self._middle))
        self.count += 1
        self._oid = None

    def write(self, batch: ObjectBatch) -> Oid | None:
        """Adds what changed to a batch; returns the id of the tree, None when it is empty."""
        if self._oid is None and self._top:
            self._oid = batch.add_tree(self._top)
        return self._oid


def _place(number: int) -> tuple[int, int, int]:
    return number // _FAN_OUT**2, number // _FAN_OUT % _FAN_OUT, number % _FAN_OUT


def run_of_logs(database: ObjectDatabase, tree_oid: Oid) -> str:
    """Returns the run that a ``logs`` tree belongs to, an empty string when it does not say."""
    entry = database.read_tree(tree_oid).get(_RUN)
    return database.read_blob(entry.oid).decode("utf-8", "replace").strip() if entry is not None else ""


def iter_segments(database: ObjectDatabase, tree_oid: Oid) -> Iterator[TreeEntry]:
    """Yields the segments of a ``logs`` tree in their order."""
    top = database.read_tree(tree_oid)
    for high in sorted(name for name in top if name != _RUN):
        middle = database.read_tree(top[high].oid)
        for name in sorted(middle):
            low = database.read_tree(middle[name].oid)
            yield from (low[each] for each in sorted(low))


def read_segment(database: ObjectDatabase, segment: TreeEntry) -> bytes:
    """Returns the lines of a segment."""
    if segment.mode == TREE_MODE:
        segment = database.read_tree(segment.oid)[_RECORDS]
    return database.read_blob(segment.oid)


def read_attachment(database: ObjectDatabase, segment: TreeEntry, name: str) -> bytes | None:
    """Returns an attachment of a segment; None when it has none of this name."""
    entry = database.read_tree(segment.oid).get(name) if segment.mode == TREE_MODE else None
    return database.read_blob(entry.oid) if entry is not None else None

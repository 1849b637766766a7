"""Runs that work through files: which run wrote the version of a file that another one read, and what was made from it.

A version that was read is the one that a run wrote when path, size and time of change agree, or the content (by its digest): under the same path,
or, for files that are not tiny, under another one, as after a copy. Where several runs wrote equal content, the last one before the reading counts.
What a run wrote and then read itself went into what it wrote later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.hindsight.index import Index
from dartvc.sessions.files import FOUND, OWN, READ

__all__ = [
    "Edge",
    "FileVersion",
    "Graph",
    "Node",
    "ancestry",
    "descendants",
    "may_have_gone_into",
    "run_label",
    "uses_of",
    "version_on_disk",
    "versions_at",
    "writer_of",
]

_TELLING_BYTES = 32
"""Content of fewer bytes is equal by chance."""
_COLUMNS = "r.run, f.path, f.access, f.size, f.modified, f.digest, f.place, coalesce(r.started, f.time)"
_NODES_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A version of a file as one run used it; ``place`` is the file, line and function that opened it for writing."""

    run: str
    path: str
    access: str
    size: int
    modified_ns: int
    digest: str
    place: tuple[str, int, str] | None
    time_s: float

    @property
    def is_read(self) -> bool:
        """Whether the run read it; the others it made."""
        return self.access in (READ, OWN)

    @property
    def key(self) -> str:
        """What tells this version: the path, with the content or the time."""
        return f"{self.path}@{self.digest[:12] or self.modified_ns}"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a lineage.

    Attributes:
        kind: ``file`` and ``run``, or ``name``, ``statement``, ``operation`` and ``source`` (a setting, a seedless stream, the clock).
        detail: more, for people.
        opcode, literals: of an operation.
        digest: of what stands behind it: equal ones are the same computation.
    """

    key: str
    kind: str
    label: str
    detail: str = ""
    opcode: str = ""
    literals: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow of a lineage, in the direction in which the data went."""

    source: str
    target: str


class Graph:
    """A lineage: nodes by key, arrows in the order in which they were found.

    Attributes:
        root: the key of what was asked for.
        is_cut: there is more than is shown.
    """

    def __init__(self, root: Node) -> None:
        self.root = root.key
        self.nodes: dict[str, Node] = {root.key: root}
        self.edges: dict[Edge, None] = {}
        self.is_cut = False

    def add(self, node: Node, edge: Edge) -> bool:
        """Adds an arrow, and its new end; returns whether that is new and may be followed."""
        self.edges[edge] = None
        if node.key in self.nodes:
            return False
        if len(self.nodes) >= _NODES_LIMIT:
            self.is_cut = True
        self.nodes[node.key] = node
        return not self.is_cut


def _versions(index: Index, condition: str, given: Sequence[object]) -> Iterator[FileVersion]:
    text = f"SELECT {_COLUMNS} FROM file_ f JOIN run_ r ON r.id = f.run WHERE f.size >= 0 AND ({condition}) ORDER BY f.modified, f.run"
    for run, path, access, size, modified_ns, digest, place, time_s in index.connection.execute(text, given):
        yield FileVersion(run, path, access, size, modified_ns, digest, tuple(json.loads(place)) if place else None, time_s)


def versions_at(index: Index, path: str) -> list[FileVersion]:
    """Returns what runs made of a file, oldest first; by those that only noticed the change, where no other did."""
    made = [each for each in _versions(index, "f.path = ?", (path,)) if not each.is_read]
    return [each for each in made if each.access != FOUND] or made


def version_on_disk(path: str, size: int, modified_ns: int, digest: str) -> FileVersion:
    """Returns the version of a file that lies there now, in the shape of one that a run has read."""
    return FileVersion("", path, READ, size, modified_ns, digest, None, float("inf"))


def writer_of(index: Index, read: FileVersion) -> FileVersion | None:
    """Returns the version that a run wrote and that was read; None when no run is known to have written it."""
    if read.access == OWN:
        own = [each for each in _versions(index, "r.run = ? AND f.path = ?", (read.run, read.path)) if not each.is_read]
        return next((each for each in own if each.modified_ns == read.modified_ns), own[-1] if own else None)
    condition, given = "f.path = ? AND f.size = ? AND f.modified = ?", [read.path, read.size, read.modified_ns]
    if read.digest:
        condition += " OR f.digest = ?"
        given.append(read.digest)
    fits = [
        each
        for each in _versions(index, condition, given)
        if not each.is_read and each.run != read.run and (each.path == read.path or each.size >= _TELLING_BYTES)
    ]

    def rank(each: FileVersion) -> tuple[Any, ...]:
        is_earlier = each.modified_ns <= read.modified_ns
        return each.modified_ns == read.modified_ns, each.path == read.path, is_earlier, each.access != FOUND, each.modified_ns

    return max(fits, key=rank, default=None)


def uses_of(index: Index, run: str, *, is_reading: bool) -> list[FileVersion]:
    """Returns the versions that a run read, its own ones last, or those that it made (of each path the last)."""
    found = sorted((each for each in _versions(index, "r.run = ?", (run,)) if each.is_read == is_reading), key=lambda each: each.access == OWN)
    return found if is_reading else list({each.path: each for each in found}.values())


def run_label(index: Index, run: str) -> tuple[str, str]:
    """Returns a run's name or command, and its arguments, for people."""
    found = index.connection.execute("SELECT name, script, command FROM run_ WHERE run = ?", (run,)).fetchone()
    name, script, command = found or (None, None, None)
    words = [str(each).rpartition("/")[2] if at == 0 else str(each) for at, each in enumerate(json.loads(command or "[]"))]
    rows = index.connection.execute("SELECT name, value FROM args WHERE run = ? ORDER BY name", (run,))
    return name or " ".join(words) or str(script or "").rpartition("/")[2], " ".join(f"{each}={value}" for each, value in rows)


def _file_node(version: FileVersion, note: str = "") -> Node:
    return Node(version.key, "file", version.path, note)


def _run_node(index: Index, run: str) -> Node:
    label, arguments = run_label(index, run)
    return Node(f"run:{run}", "run", f"{run[:8]} {label}".strip(), arguments)


def ancestry(index: Index, version: FileVersion, depth: int) -> Graph:
    """Returns what a version of a file was made from, run by run, back to files that no run wrote."""
    graph = Graph(_file_node(version))
    waiting = [(version, version.key, 0)]
    while waiting:
        read, key, level = waiting.pop(0)
        made = writer_of(index, read) if read.is_read else read
        if made is None:
            continue
        if level >= depth:
            graph.is_cut = True
            continue
        run = _run_node(index, made.run)
        if graph.add(run, Edge(run.key, key)):
            for each in uses_of(index, made.run, is_reading=True):
                is_own = each.access == OWN
                if is_own and not may_have_gone_into(each, made):
                    continue
                origin = writer_of(index, each)
                node = _file_node(origin or each, "which that run wrote itself" if is_own else "" if origin is not None else "no run wrote it")
                if graph.add(node, Edge(node.key, run.key)) and origin is not None and not is_own:
                    waiting.append((origin, node.key, level + 1))
    return graph


def descendants(index: Index, version: FileVersion, depth: int) -> Graph:
    """Returns what was made from a version of a file, run by run."""
    graph = Graph(_file_node(version))
    waiting = [(version, 0)]
    while waiting:
        made, level = waiting.pop(0)
        for read in _versions(index, "f.path = ? OR (f.digest != '' AND f.digest = ?)", (made.path, made.digest)):
            is_own = read.access == OWN
            if not read.is_read or not _is_same(index, read, made) or (is_own and f"run:{read.run}" in graph.nodes):
                continue
            if level >= depth:
                graph.is_cut = True
                continue
            run = _run_node(index, read.run)
            if graph.add(run, Edge(made.key, run.key)):
                for each in uses_of(index, read.run, is_reading=False):
                    if is_own and not may_have_gone_into(read, each):
                        continue
                    if graph.add(_file_node(each), Edge(run.key, each.key)):
                        waiting.append((each, level + 1))
    return graph


def _is_same(index: Index, read: FileVersion, made: FileVersion) -> bool:
    """Whether what a run read is this version."""
    if read.access == OWN:
        return (read.run, read.path) == (made.run, made.path)
    origin = writer_of(index, read)
    if made.run:
        return origin is not None and origin.key == made.key and origin.run == made.run
    return (
        (read.size, read.modified_ns) == (made.size, made.modified_ns) if not made.digest or not read.digest else read.digest == made.digest
    )


def may_have_gone_into(read: FileVersion, made: FileVersion) -> bool:
    """Whether what a run wrote and read again may be in another file that it wrote: one that was written later, as far as that is known."""
    return read.path != made.path and (not made.modified_ns or read.modified_ns <= made.modified_ns)

"""``why`` and ``lineage`` of files: what made one (run, commit, line, arguments), and what that had read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dartvc.errors import NotFoundError
from dartvc.hindsight.index import Index
from dartvc.hindsight.provenance import (
    FileVersion,
    Graph,
    ancestry,
    descendants,
    may_have_gone_into,
    run_label,
    uses_of,
    version_on_disk,
    versions_at,
    writer_of,
)
from dartvc.history import Repository
from dartvc.history.digests import digest_of_file
from dartvc.model import Oid
from dartvc.sessions.files import FOUND, OWN, READ, files_of

__all__ = ["FileOrigin", "Input", "Target", "explain_file", "find_target", "trace_file"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a word on the command line means: ``path`` of a file from the project's folder, or ``name`` at a commit."""

    path: str = ""
    name: str = ""
    oid: Oid | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was read, and the run that wrote it (empty: none is known)."""

    label: str
    run: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """How a file was made.

    Attributes:
        path: from the project's folder.
        run: that wrote it; ``by`` is its command, ``arguments`` those that it logged.
        oid: the run's first commit that holds this version.
        place: file, line and function that opened it for writing, ``text`` that line, where it is the script's.
        is_certain: Python was seen opening it; False: it changed while the run went on.
        is_changed: what lies there now is another version.
        inputs: what the run had read.
    """

    path: str
    run: str
    by: str
    arguments: str
    oid: Oid | None
    time_s: float
    size: int
    digest: str
    place: tuple[str, int, str] | None
    text: str
    is_certain: bool
    is_changed: bool
    inputs: tuple[Input, ...]


def find_target(repository: Repository, index: Index, word: str, here: Path, oid: Oid | None) -> Target:
    """Finds what a word means: a name of the commit, else a file that is there or that a run wrote; ``./word`` is a file.

    Raises:
        NotFoundError: it is neither.
    """
    if oid is not None and not word.startswith("."):
        names = repository.names(oid)
        local = next((each for each in reversed(list(names)) if each.rpartition("().")[2] == word and "._." not in each), None)
        if word in names or local is not None:
            return Target(name=word if word in names else str(local), oid=oid)
    if oid is not None and "()." in word:
        return Target(name=word, oid=oid)  # a local of a function that has returned: its statements are known, its value is not kept
    path = os.path.relpath(here.resolve() / word, repository.root)
    known = index.connection.execute("SELECT 1 FROM file_ WHERE path = ? LIMIT 1", (path,)).fetchone()
    if known is None and not (repository.root / path).is_file():
        raise NotFoundError(
            f"{word!r} is no name of the commit and no file that is there or that a run wrote",
            kind="unknown-target",
            hint="dvc-state ls lists the names; dvc-state query 'SELECT DISTINCT path FROM files' the files",
        )
    return Target(path=path)


# -- files --------------------------------------------------------------------------------------------------------------------


def _version(repository: Repository, index: Index, path: str) -> tuple[FileVersion | None, FileVersion | None]:
    """Returns the version of a file that lies there now, and the one that a run wrote: that same one, else the last one."""
    present = None
    try:
        found = os.stat(repository.root / path)
        present = version_on_disk(path, found.st_size, found.st_mtime_ns, digest_of_file(str(repository.root / path)))
    except OSError:
        pass
    made = writer_of(index, present) if present is not None else None
    if made is None:
        made = next(reversed(versions_at(index, path)), None)
    return present, made


def explain_file(repository: Repository, index: Index, path: str) -> FileOrigin:
    """Tells how a file was made.

    Raises:
        NotFoundError: no run wrote it.
    """
    present, made = _version(repository, index, path)
    if made is None:
        raise NotFoundError(f"no run wrote {path}", kind="no-origin", hint=f"dvc-state lineage --down {path} tells what was made from it")
    by, arguments = run_label(index, made.run)
    commit = _first_commit(repository, made)
    inputs = tuple(_input(index, each) for each in uses_of(index, made.run, is_reading=True) if each.access != OWN or may_have_gone_into(each, made))
    is_same = present is not None and (
        present.digest == made.digest
        if present.digest and made.digest
        else (present.size, present.modified_ns) == (made.size, made.modified_ns)
    )
    return FileOrigin(
        path=path,
        run=made.run,
        by=by,
        arguments=arguments,
        oid=commit,
        time_s=made.modified_ns / 1e9 or made.time_s,
        size=made.size,
        digest=made.digest,
        place=made.place,
        text=_line(repository, index, made, commit),
        is_certain=made.access != FOUND,
        is_changed=present is not None and not is_same,
        inputs=inputs,
    )


def _input(index: Index, read: FileVersion) -> Input:
    origin = writer_of(index, read)
    if origin is None:
        return Input(read.path)
    label = read.path if origin.path == read.path else f"{read.path} (a copy of {origin.path})"
    return Input(label, origin.run, run_label(index, origin.run)[0])


def _commits_of(repository: Repository, run: str) -> Iterator[Oid]:
    """Yields the commits of a run, newest first."""
    oid = repository.database.refs.read(f"refs/runs/{run}")
    while oid is not None:
        commit = repository.commit(oid)
        if commit.run != run:
            return
        yield oid
        oid = commit.parents[0] if commit.parents else None


def _first_commit(repository: Repository, made: FileVersion) -> Oid | None:
    """Returns the oldest commit of its run that holds a version."""
    found: Oid | None = None
    for oid in _commits_of(repository, made.run):
        files = files_of(repository, repository.process(oid))
        if any(
            (each.path, each.size, each.modified_ns) == (made.path, made.size, made.modified_ns) for each in files if each.access not in (READ, OWN)
        ):
            found = oid
        elif found is not None:
            break
    return found


def _line(repository: Repository, index: Index, made: FileVersion, commit: Oid | None) -> str:
    """Returns the line of the script that wrote a version; empty where another file did."""
    if made.place is None or commit is None:
        return ""
    script = index.connection.execute("SELECT script FROM run_ WHERE run = ?", (made.run,)).fetchone()[0] or ""
    lines = repository.code(commit).splitlines()
    file, line, _ = made.place
    return lines[line - 1].strip() if (script == file or script.endswith("/" + file)) and line <= len(lines) else ""


def trace_file(repository: Repository, index: Index, path: str, *, depth: int, is_down: bool) -> Graph:
    """Returns what a file was made from, or what was made from it.

    Raises:
        NotFoundError: no run used it.
    """
    present, made = _version(repository, index, path)
    version = made if made is not None else present
    if version is None:
        raise NotFoundError(f"no run used {path}", kind="no-origin", hint="dvc-state query 'SELECT DISTINCT path FROM files'")
    graph = descendants(index, version, depth) if is_down else ancestry(index, version, depth)
    if made is None:
        graph.nodes[graph.root] = replace(graph.nodes[graph.root], detail="no run wrote it")
    return graph

"""The journal of a run's log records: what no commit holds yet, in files that survive the program.

``runs/<run>/logs/<number of the first record>.jsonl`` is appended to at least twice a second and synced; a new file begins with each commit, and
the files before it go when that commit is durable. Attachments lie beside them under their names until then. What is left behind by a
killed process is the tail of its log; a process that goes on from a commit throws it away, because it makes these records again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Journal", "forget_tail", "is_held", "read_attachments", "read_lines", "read_tail", "tail_sizes", "tails"]

_FOLDER = "logs"
_FACTS = "run.json"
_LOCK = "lock"
_OWN: set[Path] = set()
"""Journals of this process: a POSIX lock does not show to its owner, and is lost when the owner looks."""


class Journal:
    """The journal of one run, for the process that writes it.

    Args:
        folder: of the run, ``runs/<run>`` in the repository.
        facts: what is known of the run, for one that no commit describes.
    """

    def __init__(self, folder: Path, facts: Mapping[str, object] | None = None) -> None:
        self._folder = folder / _FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with contextlib.suppress(OSError):
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _OWN.add(folder)
        self._run_folder = folder
        if facts is not None:
            (self._folder / _FACTS).write_text(json.dumps(facts))
        self._file = -1

    def append(self, first: int, line: bytes) -> None:
        """Writes a line of records, of which the first has this number; `sync` makes it durable."""
        if self._file < 0:
            self._file = os.open(self._folder / f"{first:012d}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        written = os.write(self._file, line)
        if written < len(line):  # the disk is full: half a line must not stand before the next one
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def attach(self, name: str, content: bytes) -> None:
        """Writes an attachment of records that follow."""
        (self._folder / name).write_bytes(content)

    def sync(self) -> None:
        """Makes what was written durable."""
        if self._file >= 0:
            os.fdatasync(self._file)

    def turn(self) -> None:
        """Begins a new file: what follows belongs to the next commit."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def drop_before(self, number: int, attachments: Mapping[str, bytes]) -> None:
        """Removes the files of records before a number, which a durable commit holds, and their attachments."""
        for path in _files(self._folder):
            if int(path.stem) < number:
                path.unlink(missing_ok=True)
        for name in attachments:
            (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the files; an empty journal goes away."""
        _OWN.discard(self._run_folder)
        self.turn()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if not _files(self._folder):
            forget_tail(self._run_folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdecimal())


def forget_tail(folder: Path) -> None:
    """Throws away what an earlier process of a run left in its journal; ``folder`` is the run's."""
    if (folder / _FOLDER).exists():
        import shutil

        shutil.rmtree(folder / _FOLDER, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # when nothing else of the run is in it


def tail_sizes(folder: Path) -> dict[str, int]:
    """Returns the files of a run's journal with their sizes."""
    sizes = {}
    for path in _files(folder / _FOLDER):
        with contextlib.suppress(OSError):
            sizes[path.name] = path.stat().st_size
    return sizes


def read_lines(folder: Path, name: str, start: int) -> bytes:
    """Returns the whole lines that stand in a file of a run's journal behind a place; none when it is gone."""
    try:
        with open(folder / _FOLDER / name, "rb") as file:
            file.seek(start)
            content = file.read()
    except OSError:
        return b""
    return content[: content.rfind(b"\n") + 1]  # the last line may be half written


def read_tail(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Returns the lines of a run's journal and what is known of the run."""
    lines = [read_lines(folder, name, 0) for name in tail_sizes(folder)]
    facts: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads((folder / _FOLDER / _FACTS).read_text())
    return b"".join(lines), facts


def read_attachments(folder: Path) -> dict[str, bytes]:
    """Returns the attachments that lie in a run's journal."""
    names = [path for path in (folder / _FOLDER).iterdir() if path.suffix not in (".jsonl", ".json") and path.name != _LOCK]
    return {path.name: path.read_bytes() for path in names}


def tails(repository_path: Path) -> Iterator[tuple[str, Path]]:
    """Yields the runs that have a journal, with their folders."""
    with contextlib.suppress(OSError):
        for folder in sorted((repository_path / "runs").iterdir()):
            if (folder / _FOLDER).is_dir():
                yield folder.name, folder


def is_held(folder: Path) -> bool:
    """Whether the process that writes a run's journal is alive."""
    if folder in _OWN:
        return True
    try:
        descriptor = os.open(folder / _FOLDER / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)

"""What a program does outside its memory: the files that it writes, and the acts that cannot be undone.

An audit hook (PEP 578) sees files being opened. At each commit the files written so far are read (small ones by content, large ones by
their size), so that a resumed run finds them as they were. What was there before a file is opened for writing is kept in a journal, which
survives a kill: with it the writes that came after the commit are taken back.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dartvc.program.fileuse import FileUse

__all__ = ["CONTENT_LIMIT_BYTES", "Effects", "FileState", "put_back", "take_back"]

CONTENT_LIMIT_BYTES = 16 * 1024 * 1024
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_SQLITE = b"SQLite format 3\0"
_NAMED = {
    "socket.connect": "a network connection",
    "subprocess.Popen": "a child process",
    "os.system": "a shell command",
    "os.exec": "another program",
    "os.posix_spawn": "a child process",
}


@dataclass(frozen=True, slots=True)
class FileState:
    """A file at a commit: ``content`` is None for a large one, of which only the size is known."""

    path: str
    size: int
    content: bytes | None


@dataclass
class Effects:
    """The effects of one run.

    Args:
        journal: a folder of its own for what was there before.
        ignored: paths under these are not the program's (the repository).
        on_fork: called before the program forks.
    """

    journal: Path
    ignored: tuple[str, ...]
    on_fork: Callable[[], None] = lambda: None
    written: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    acts: set[str] = field(default_factory=set)
    sequence: int = 0
    is_paused: bool = False
    """While it is, nothing is taken note of."""
    use: FileUse | None = None
    """Takes note of the versions that are read and written."""
    _kept: set[str] = field(default_factory=set)
    _is_inside: bool = False
    _pid: int = field(default_factory=os.getpid)
    _count: int = 0

    def watch(self) -> None:
        """Begins to watch; an audit hook stays until the process ends."""
        self._ignored = tuple(os.path.join(os.path.abspath(path), "") for path in self.ignored)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and isinstance(path, str | bytes):
                if flags & _WRITING:
                    self._note(os.fsdecode(path), flags)
                elif self.use is not None and not self._is_inside:
                    self.use.note_read(os.fsdecode(path))
        elif event in ("os.remove", "os.rename", "os.truncate"):
            for path in arguments[:2]:
                if isinstance(path, str | bytes):
                    self._note(os.fsdecode(path), os.O_RDWR)
        elif event == "sqlite3.connect" and isinstance(arguments[0], str) and arguments[0] != ":memory:":
            for suffix in ("", "-wal"):
                self._note(arguments[0] + suffix, os.O_RDWR)
        elif event == "os.fork":
            self.on_fork()
        elif event in _NAMED:
            self.acts.add(_NAMED[event])

    def _note(self, path: str, flags: int) -> None:
        if self.is_paused or self._is_inside or os.getpid() != self._pid:
            return
        self._is_inside = True
        try:
            path = os.path.abspath(path)
            if path in self._kept or path.startswith(("/dev/", "/proc/", *self._ignored)):
                return
            self._kept.add(path)
            if self.use is not None:
                self.use.note_write(path, flags)
            self._keep(path, flags)
            self.written.setdefault(path, None)
        except OSError:
            pass
        finally:
            self._is_inside = False

    def _keep(self, path: str, flags: int) -> None:
        """Writes down what is there before the program writes to it for the first time since the last commit."""
        record: dict[str, object] = {"sequence": self.sequence, "path": path}
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            record["before"] = "absent"
        else:
            record.update(before="size", size=size)
            if not flags & os.O_APPEND and size <= CONTENT_LIMIT_BYTES and os.path.isfile(path):
                self._count += 1
                copy = self.journal / f"{self.sequence}-{self._count}"
                shutil.copyfile(path, copy)
                record.update(before="content", copy=copy.name)
        descriptor = os.open(self.journal / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(record).encode() + b"\n")
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Makes the next `stage` return every file that was written."""
        self.written = dict.fromkeys(self.written)

    def stage(self) -> list[FileState]:
        """Returns the files that changed since the last call; from now on writes belong to the next commit."""
        states = []
        self._is_inside = True
        try:
            for path, known in list(self.written.items()):
                try:
                    found = os.stat(path)
                except OSError:
                    self.written[path] = None
                    if known is not None:
                        states.append(FileState(path, -1, None))
                    continue
                stamp = (found.st_size, found.st_mtime_ns)
                if stamp == known or not os.path.isfile(path):
                    continue
                self.written[path] = stamp
                content = Path(path).read_bytes() if found.st_size <= CONTENT_LIMIT_BYTES else None
                states.append(FileState(path, found.st_size if content is None else len(content), content))
        finally:
            self._is_inside = False
        self.advance()
        return states

    def advance(self) -> None:
        """Lets writes from now on belong to the next commit."""
        self.sequence += 1
        self._kept.clear()


def take_back(journal: Path, sequence: int, located: Callable[[str], str | None] = str) -> list[str]:
    """Undoes the writes that came after commit number ``sequence``; returns the paths that were changed.

    ``located`` leads from recorded paths to those that are meant; None: to be left alone.
    """
    try:
        lines = (journal / "journal").read_text().splitlines()
    except OSError:
        return []
    changed = []
    for line in reversed(lines):
        try:
            record: Mapping[str, Any] = json.loads(line)
        except ValueError:
            continue  # torn by the kill: the file was not opened yet
        if record["sequence"] < sequence:
            break
        path = located(record["path"])
        if path is None:
            continue
        try:
            if record["before"] == "absent":
                if os.path.isfile(path):
                    os.unlink(path)
            elif record["before"] == "content":
                shutil.copyfile(journal / record["copy"], path)
            elif os.path.isfile(path) and os.stat(path).st_size > record["size"]:
                os.truncate(path, record["size"])
            changed.append(path)
        except OSError:
            continue
    return changed


def _drop_side_files(path: str, known: frozenset[str]) -> None:
    """Removes what SQLite would roll back into, or replay onto, a database that is now another one."""
    for suffix in ("-journal", "-wal", "-shm"):
        if path + suffix not in known:
            Path(path + suffix).unlink(missing_ok=True)


def put_back(states: list[FileState]) -> list[str]:
    """Makes files what they were at a commit; returns those that could not be."""
    failed = []
    known = frozenset(state.path for state in states if state.size >= 0)
    for state in states:
        try:
            if state.size < 0:
                Path(state.path).unlink(missing_ok=True)
                continue
            if state.content is None:
                if os.stat(state.path).st_size > state.size:
                    os.truncate(state.path, state.size)
                continue
            if state.content.startswith(_SQLITE):
                _drop_side_files(state.path, known)
            target = Path(state.path)
            if not target.is_file() or target.read_bytes() != state.content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(state.content)
        except OSError as error:
            failed.append(f"{state.path}: {error.strerror}")
    return failed

"""What a program does outside its memory: the files that it writes, and the acts that cannot be undone.

An audit hook (PEP 578) sees files being opened. At each commit the files written so far are read (small ones by content, large ones by
their size), so that a resumed run finds them as they were. What was there before a file is opened for writing is kept in a journal, which
survives a kill: with it the writes that came after the commit are taken back.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dartvc.host.entropy import new_id
from dartvc.program.fileuse import FileUse
from dartvc.program.records import add_record, copy_content, is_copy_sound, read_records
from dartvc.store.durable import sync_file, sync_folder

__all__ = ["CONTENT_LIMIT_BYTES", "Effects", "FileState", "put_back", "take_back"]

CONTENT_LIMIT_BYTES = 16 * 1024 * 1024
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_CLOCK_TICK_NS = 20_000_000
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
    unkept: dict[str, str] = field(default_factory=dict)
    """What could not be kept before it was changed, and why: a resume cannot take these changes back."""
    sequence: int = 0
    is_paused: bool = False
    """While it is, nothing is taken note of."""
    use: FileUse | None = None
    """Takes note of the versions that are read and written."""
    _kept: set[str] = field(default_factory=set)
    _is_inside: bool = False
    _pid: int = field(default_factory=os.getpid)

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
            for place, path in enumerate(arguments[:2]):
                if isinstance(path, str | bytes):
                    self._note(os.fsdecode(path), os.O_RDWR, is_replaced=event == "os.remove" or place == 1)
        elif event in ("os.mkdir", "os.rmdir") and isinstance(arguments[0], str | bytes):
            self._note(os.fsdecode(arguments[0]), os.O_RDWR, is_folder=True)
        elif event == "sqlite3.connect" and isinstance(arguments[0], str) and arguments[0] != ":memory:":
            for suffix in ("", "-wal"):
                self._note(arguments[0] + suffix, os.O_RDWR)
        elif event == "os.fork":
            self.on_fork()
        elif event in _NAMED:
            self.acts.add(_NAMED[event])

    def _note(self, path: str, flags: int, *, is_folder: bool = False, is_replaced: bool = False) -> None:
        if self.is_paused or self._is_inside or os.getpid() != self._pid:
            return
        self._is_inside = True
        try:
            path = os.path.abspath(path)
            if path in self._kept or path.startswith(("/dev/", "/proc/", *self._ignored)):
                return
            self._kept.add(path)
            if self.use is not None and not is_folder:
                self.use.note_write(path, is_emptied=is_replaced or bool(flags & os.O_TRUNC))
            self._keep(path, flags)
            if not is_folder:
                self.written.setdefault(path, None)
        except OSError as error:
            self.unkept[path] = error.strerror or str(error)
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
            record.update(before="folder" if os.path.isdir(path) else "size", size=size)
            if not flags & os.O_APPEND and size <= CONTENT_LIMIT_BYTES and os.path.isfile(path):
                copy = self.journal / f"{self.sequence}-{new_id(6)}"  # a process that goes on from the same commit has copies of its own
                record.update(before="content", copy=copy.name, checksum=copy_content(path, copy))
        add_record(self.journal, record)

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
                if (found.st_size, found.st_mtime_ns) == known or not os.path.isfile(path):
                    continue
                self.written[path] = _stamp(found)
                content = Path(path).read_bytes() if found.st_size <= CONTENT_LIMIT_BYTES else None
                states.append(FileState(path, found.st_size if content is None else len(content), content))
        finally:
            self._is_inside = False
        self.advance()
        return states

    def adopt(self, states: Iterable[FileState]) -> None:
        """Takes note of files that the commit has which the program goes on from."""
        for state in states:
            try:
                self.written[state.path] = _stamp(os.stat(state.path))
            except OSError:
                self.written[state.path] = None

    def sync(self) -> None:
        """Makes the files durable of which the last `stage` knew the content: a run that is recorded as ended has written them."""
        folders = set()
        for path, known in self.written.items():
            if known is not None and known[0] <= CONTENT_LIMIT_BYTES:
                folders.add(os.path.dirname(path))
                with contextlib.suppress(OSError):
                    sync_file(Path(path))
        for folder in folders:
            with contextlib.suppress(OSError):
                sync_folder(Path(folder))

    def advance(self) -> None:
        """Lets writes from now on belong to the next commit."""
        self.sequence += 1
        self._kept.clear()


def _stamp(found: os.stat_result) -> tuple[int, int]:
    """Returns (size, time of the last change), by which a file is known as unchanged; a time as young as the kernel's clock is coarse tells nothing."""
    is_young = time.time_ns() - found.st_mtime_ns < _CLOCK_TICK_NS
    return found.st_size, -1 if is_young else found.st_mtime_ns


def take_back(journal: Path, sequence: int, located: Callable[[str], str | None] = str) -> list[str]:
    """Undoes the writes that came after commit number ``sequence``; returns what could not be undone, and why.

    ``located`` leads from recorded paths to those that are meant; None: to be left alone.
    """
    try:
        records = read_records(journal)
    except OSError as error:
        return [f"{journal} cannot be read: {error.strerror}"]
    failed = records.damaged
    for record in records.newest:
        if record["sequence"] < sequence:
            break
        path = located(record["path"])
        if path is not None:
            try:
                _take_back_one(journal, path, record)
            except OSError as error:
                failed.append(f"{path}: {error.strerror or error}")
    return failed


def _take_back_one(journal: Path, path: str, record: Mapping[str, Any]) -> None:
    before = record["before"]
    if before == "absent":
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)
    elif before == "folder":
        os.makedirs(path, exist_ok=True)
    elif before == "content":
        kept = (journal / record["copy"]).read_bytes()
        if not is_copy_sound(kept, record):
            raise OSError("what it held before was kept, and is damaged")
        target = Path(path)
        if not target.is_file() or target.read_bytes() != kept:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(kept)
    elif os.path.isfile(path) and os.stat(path).st_size > record["size"]:
        os.truncate(path, record["size"])


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

"""What a program does outside its memory: the files that it writes, and the acts that cannot be undone.

An audit hook (PEP 578) sees files being opened, removed and renamed, and folders made. At each commit the files written so far are read
(small ones by content, large ones by their size), so that a resumed run finds them as they were. What was there before goes into a
`Journal` first, which survives a kill: with it the writes that came after the commit are taken back.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dartvc.model.records import NamedTuple
from dartvc.program.acts import ACT_EVENTS, Acts
from dartvc.program.fileuse import FileUse
from dartvc.program.foreign import expect_foreign_writer, watch_foreign_writers
from dartvc.program.journal import CONTENT_LIMIT_BYTES, Journal
from dartvc.program.records import add_record
from dartvc.store.durable import sync_file, sync_folder

__all__ = ["WRITING", "Effects", "FileState", "put_back", "watching"]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_CLOCK_TICK_NS = 20_000_000
_SQLITE = b"SQLite format 3\0"
_CHANGES: dict[str, tuple[tuple[int, ...], tuple[int | None, ...]]] = {
    "os.remove": ((0,), (1,)),
    "os.rename": ((0, 1), (2, 3)),
    "os.truncate": ((0,), (None,)),
    "os.mkdir": ((0,), (2,)),
    "os.rmdir": ((0,), (1,)),
    "os.link": ((1,), (3,)),
    "os.symlink": ((1,), (2,)),
    "os.chmod": ((0,), (2,)),
    "os.utime": ((0,), (3,)),
}
"""Changes that need no open file: which arguments are paths, and which is the descriptor of the folder that each starts from."""
_GENTLE = frozenset({"os.chmod", "os.utime"})
_FOLLOWING = frozenset({"os.truncate", "os.chmod", "os.utime"})
_READ_ONLY_MAPS = frozenset({1, 3})
"""``mmap.ACCESS_READ`` and ``ACCESS_COPY``."""
_HEARD = frozenset({"open", "import", "mmap.__new__", "sqlite3.connect", "os.fork", *_CHANGES, *ACT_EVENTS})


class FileState(NamedTuple):
    """A file at a commit: ``content`` is None for a large one, of which only the size is known."""

    path: str
    size: int
    content: bytes | None


class Effects:
    """The effects of one run.

    Args:
        journal: a folder of its own for what was there before.
        ignored: paths under these are not the program's (the repository).
        on_fork: called before the program forks.
        sequence: the number of the commit that follows.
        is_atomic: keep whatever the program overwrites, in its forked children too, and let no write happen that could not be taken back.
    """

    def __init__(
        self,
        journal: Path,
        ignored: tuple[str, ...],
        on_fork: Callable[[], None] = lambda: None,
        *,
        sequence: int = 0,
        is_atomic: bool = False,
    ) -> None:
        self.journal = journal
        self.ignored = ignored
        self.on_fork = on_fork
        self.written: dict[str, tuple[int, int] | None] = {}
        self._mapped: dict[str, int] = {}
        """Files that are written through memory, which leaves no trace in their times, each with a checksum of what the last commit has."""
        self.unkept: dict[str, str] = {}
        """What could not be kept before it was changed, and why: a resume cannot take these changes back."""
        self.sequence = sequence
        self.is_paused = False
        """While it is, nothing is taken note of."""
        self.is_atomic = is_atomic
        self.use: FileUse | None = None
        """Takes note of the versions that are read and written."""
        self.acts = Acts(self._write_down)
        self._keeper: Journal | None = None
        self._lock: Any = threading.RLock()
        self._inside: int | None = None
        """The thread that is keeping or reading files just now: its own files are not the program's."""
        self._pid = os.getpid()

    @property
    def keeper(self) -> Journal:
        """The journal in the present folder."""
        if self._keeper is None or self._keeper.folder != self.journal:
            self._keeper = Journal(self.journal, self.is_atomic)
        return self._keeper

    def watch(self) -> None:
        """Begins to watch; an audit hook stays until the process ends."""
        ignored = (*self.ignored, sys.pycache_prefix)  # compiled modules are Python's, as those in a __pycache__ are
        self._ignored = tuple(os.path.join(os.path.abspath(path), "") for path in ignored if path)
        _WATCHING.append(self)
        os.register_at_fork(after_in_child=self._after_fork)
        if self.written:  # a resumed program has its maps already
            self._mapped.update(dict.fromkeys(_mapped_files() & set(map(os.path.realpath, self.written)), -1))
        watch_foreign_writers()
        hear, heard = self._hook, _HEARD

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in heard:  # importing scikit-learn makes 70,000 events
                hear(event, arguments)

        sys.addaudithook(hook)

    @property
    def is_at_work(self) -> bool:
        """Whether it is this thread's doing, not the program's, that files are opened now: what was there before is kept."""
        return self._inside == threading.get_ident()

    def _after_fork(self) -> None:
        self._lock, self._inside = threading.RLock(), None  # another thread of the parent may have held it

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and isinstance(path, str | bytes):
                if flags & WRITING:
                    is_emptied = bool(flags & os.O_TRUNC)
                    self._note(os.fsdecode(path), is_growing=bool(flags & os.O_APPEND and not is_emptied), is_followed=True, is_emptied=is_emptied)
                elif self.use is not None and not self.is_at_work and not _is_own_thread():
                    self.use.note_read(os.fsdecode(path))
        elif event in _CHANGES:
            self._on_change(event, arguments)
        elif event == "sqlite3.connect" and isinstance(arguments[0], str) and arguments[0] != ":memory:":
            for suffix in ("", "-wal", "-journal", "-shm") if self.is_atomic else ("", "-wal"):
                self._note(arguments[0] + suffix, is_followed=True)
        elif event == "mmap.__new__":
            path = _path_of(arguments[0]) if arguments[0] >= 0 and arguments[2] not in _READ_ONLY_MAPS else None
            if path is not None and not self.is_at_work and not _is_own_thread():
                self._mapped.setdefault(path, -1)
        elif event == "os.fork":
            self.on_fork()
        elif event == "import":
            expect_foreign_writer(arguments[0])
        elif not self.is_paused and os.getpid() == self._pid:
            self.acts.hear(event, arguments)

    def _on_change(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Takes note of a change that needs no open file: of the paths in it, each with the folder that it starts from."""
        if self.is_paused or self.is_at_work:
            return
        paths = self._paths_in(event, arguments)
        for place, path in enumerate(paths):
            is_replaced = event == "os.rename" and place == 1
            self._note(
                path,
                is_growing=event in _GENTLE,
                is_followed=event in _FOLLOWING,
                is_written=event not in _GENTLE,
                is_emptied=event not in ("os.truncate", "os.rename") or is_replaced,
                is_unlinked=event == "os.remove" or is_replaced,
            )
        is_moved = event == "os.rename" and len(paths) == 2 and os.path.isdir(paths[0]) and not os.path.islink(paths[0])
        if is_moved and self.keeper.is_whole and not paths[0].startswith(self._ignored):
            with self.own():
                self.keeper.keep_below(_real_name(paths[0]), _real_name(paths[1]), self.sequence)

    def _paths_in(self, event: str, arguments: tuple[Any, ...]) -> list[str]:
        places, folders = _CHANGES[event]
        found = []
        for place, folder in zip(places, folders, strict=True):
            path = arguments[place]
            if isinstance(path, int):
                path = _path_of(path)
            if isinstance(path, str | bytes):
                start = arguments[folder] if folder is not None and len(arguments) > folder else -1
                inside = _path_of(start) if isinstance(start, int) and start >= 0 else None
                found.append(os.path.abspath(os.path.join(inside or "", os.fsdecode(path))))
        return found

    def _note(
        self,
        path: str,
        *,
        is_growing: bool = False,
        is_followed: bool = False,
        is_written: bool = True,
        is_emptied: bool = False,
        is_unlinked: bool = False,
    ) -> None:
        """Keeps what is at a path before it changes.

        Args:
            path: as the program says it.
            is_growing: what is there stays.
            is_followed: the change goes to what a symbolic link names.
            is_written: its content may be another one afterwards.
            is_emptied: what is there does not go into that.
            is_unlinked: what is there stays as it is, under another name or none.

        Raises:
            OSError: it could not be kept, and may not be lost.
        """
        if self.is_paused or self.is_at_work or (os.getpid() != self._pid and not self.is_atomic):
            return
        path = os.path.abspath(path)
        if path.startswith(("/dev/", "/proc/", *self._ignored)) or "__pycache__" in path or _is_own_thread():
            return
        with self._lock:
            self._inside = threading.get_ident()
            try:
                self.keeper.keep(
                    os.path.realpath(path) if is_followed else _real_name(path),
                    self.sequence,
                    is_growing=is_growing,
                    is_committed=self._is_committed(path),
                    is_unlinked=is_unlinked,
                )
                if is_written and not os.path.isdir(path):
                    if self.use is not None:
                        self.use.note_write(path, is_emptied=is_emptied)
                    self.written.setdefault(path, None)
            except OSError as error:
                if self.keeper.is_whole:
                    raise OSError(error.errno, f"dartvc cannot keep what is there before it is changed: {error.strerror}", path) from None
                self.unkept[path] = error.strerror or str(error)
            finally:
                self._inside = None

    def _is_committed(self, path: str) -> bool:
        """Whether the last commit has the content of a file."""
        known = self.written.get(path)
        if known is None or known[0] > CONTENT_LIMIT_BYTES or self._is_mapped(path):
            return False
        try:
            found = os.stat(path)
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == known

    def _is_mapped(self, path: str) -> bool:
        return bool(self._mapped) and os.path.realpath(path) in self._mapped

    def keep_before(self, paths: Iterable[str]) -> None:
        """Keeps what is at these paths: somebody else (a resume) is about to change them."""
        with self.own():
            for path in paths:
                self.keeper.keep(os.path.realpath(path), self.sequence, is_growing=False)

    @contextlib.contextmanager
    def own(self) -> Iterator[None]:
        """While files are read or put back for the program: what this thread does is not the program's."""
        with self._lock:
            before, self._inside = self._inside, threading.get_ident()
            try:
                yield
            finally:
                self._inside = before

    def forget(self) -> None:
        """Makes the next `stage` return every file that was written."""
        self.written = dict.fromkeys(self.written)

    def stage(self) -> list[FileState]:
        """Returns the files that changed since the last call; from now on writes belong to the next commit."""
        states = []
        with self.own():
            for path, known in list(self.written.items()):
                try:
                    found = os.stat(path)
                except OSError:
                    self.written[path] = None
                    if known is not None:
                        states.append(FileState(path, -1, None))
                    continue
                if ((found.st_size, found.st_mtime_ns) == known and not self._is_mapped(path)) or not os.path.isfile(path):
                    continue
                self.written[path] = _stamp(found)
                content = Path(path).read_bytes() if found.st_size <= CONTENT_LIMIT_BYTES else None
                if content is not None and self._is_mapped(path):
                    real, checksum = os.path.realpath(path), zlib.crc32(content)
                    if known is not None and self._mapped[real] == checksum:
                        continue
                    self._mapped[real] = checksum
                states.append(FileState(path, found.st_size if content is None else len(content), content))
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
        paths = [path for path, known in self.written.items() if known is not None and known[0] <= CONTENT_LIMIT_BYTES]
        with self.own():
            for path in paths:
                with contextlib.suppress(OSError):
                    sync_file(Path(path))
            for folder in dict.fromkeys(map(os.path.dirname, paths)):
                with contextlib.suppress(OSError):
                    sync_folder(Path(folder))

    def advance(self) -> None:
        """Gives writes from now on a sequence of their own; what they change is kept anew, whatever was kept before."""
        self.sequence += 1
        self.keeper.advance()
        self.acts.advance()

    def _write_down(self, record: Mapping[str, object]) -> None:
        """Adds an act to the journal; a full disk costs the record only."""
        with self.own(), contextlib.suppress(OSError):
            add_record(self.journal, {"sequence": self.sequence, **record}, is_ordered=True)


def _stamp(found: os.stat_result) -> tuple[int, int]:
    """Returns (size, time of the last change), by which a file is known as unchanged; a time as young as the kernel's clock is coarse tells nothing."""
    is_young = time.time_ns() - found.st_mtime_ns < _CLOCK_TICK_NS
    return found.st_size, -1 if is_young else found.st_mtime_ns


_WATCHING: list[Effects] = []


def watching() -> Effects | None:
    """Returns the effects that are watched in this process, the latest; None when none are."""
    return _WATCHING[-1] if _WATCHING else None


def _real_name(path: str) -> str:
    """Returns a path whose folder has no symbolic links in it; what the path itself names may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _is_own_thread() -> bool:
    """Whether one of our threads (the writer's) runs: what it does is not the program's."""
    return threading.current_thread().name.startswith("dartvc")


def _path_of(descriptor: int) -> str | None:
    """Returns the path of an open file or folder."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


def _mapped_files() -> set[str]:
    """Returns the files that this process can write to through its memory."""
    try:
        with open("/proc/self/maps") as file:
            rows = (line.split(maxsplit=5) for line in file)
            return {row[5].rstrip("\n") for row in rows if len(row) > 5 and row[1].startswith("rw") and row[1].endswith("s")}
    except OSError:
        return set()


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

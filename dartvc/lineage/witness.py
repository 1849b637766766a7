"""What a call does besides returning: seen as it happens, by audit hook, wrapped streams, and a look at the random streams before and after.

A `Record` is open while a call runs. Files that are read become part of what the result depends on, by content; text that is printed is
kept, to be printed again; the position of the random streams is an input and an output. Files written, sockets, child processes, the
kernel's entropy: the call cannot be answered from the store, and the record says why.
"""

from __future__ import annotations

import io
import os
import random
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import sub
from typing import Any

from xxhash import xxh3_128

from dartvc.lineage.codekeys import Refused
from dartvc.lineage.entropy import is_harmless
from dartvc.lineage.notices import Notices
from dartvc.lineage.observing import Observation
from dartvc.lineage.printing import WatchedStream
from dartvc.lineage.streams import Streams
from dartvc.lineage.traffic import Traffic
from dartvc.program.effects import WRITING, watching
from dartvc.program.foreign import expect_foreign_writer, watch_foreign_writers

__all__ = ["Record", "Witness", "digest_of_file", "digest_of_read", "joined"]

_ACTS = {
    "subprocess.Popen": "starts a child process",
    "os.system": "runs a shell command",
    "os.exec": "runs another program",
    "os.fork": "forks",
    "os.posix_spawn": "starts a child process",
    "os.chdir": "changes the working directory",
    "os.putenv": "changes the environment",
    "os.unsetenv": "changes the environment",
    "sqlite3.connect": "opens a database",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.mkdir": "makes a folder",
    "os.rmdir": "removes a folder",
    "os.truncate": "truncates a file",
    "os.utime": "changes a file",
    "os.chmod": "changes a file",
    "os.chown": "changes a file",
    "os.setxattr": "changes a file",
    "os.removexattr": "changes a file",
    "os.link": "makes a link",
    "os.symlink": "makes a link",
    "os.kill": "sends a signal",
    "builtins.input": "reads the terminal",
    "webbrowser.open": "opens a browser",
    "glob.glob": "looks at the file system",
    "mmap.__new__": "maps a file",
    "signal.pthread_kill": "sends a signal",
    "sys.settrace": "traces itself",
    "sys.setprofile": "traces itself",
}
_WITHIN_THE_PROCESS = frozenset({"os.chdir", "os.putenv", "os.unsetenv", "signal.pthread_kill", "sys.settrace", "sys.setprofile"})
"""What ends with the process."""
_NETWORK = frozenset(
    f"socket.{each}"
    for each in (
        "__new__", "bind", "connect", "getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo", "getservbyname", "getservbyport",
        "sendmsg", "sendto", "sethostname",
    )
)  # fmt: skip
_STREAMS = frozenset({"_io", "io", "codecs", "ipykernel", "IPython", "_pytest"})
_LISTING = frozenset({"os.listdir", "os.scandir"})
_HEARD = frozenset({"open", "import", "sys.addaudithook"} | _NETWORK | _LISTING | _ACTS.keys())
_TEXT_LIMIT = 1 << 20
_UNSEEN_BYTES = 8 << 10  # the C library reads the time zone, and what processors there are
_BYTES_OF_IMPORT = 64 << 10  # of the shared libraries behind a module, the loader reads the heads
_BYTES_OF_KERNEL = 4 << 20  # its files have no size; threadpoolctl reads which libraries are mapped
_READ_AGAIN = 2


def digest_of_file(path: str) -> str:
    """Returns a digest of a file's content; an empty string when there is none to read."""
    state = xxh3_128()
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(1 << 20):
                state.update(block)
    except OSError:
        return ""
    return state.hexdigest()


class Record:
    """What one call did so far; ``inner_s`` is what the calls in it take that can be answered themselves, ``assembled`` how many results it assembled.

    ``traffic_before`` is what its thread had read and written when it began, ``file_bytes`` the size of the files that Python has opened since;
    ``is_writing``: it has opened some for writing; ``filters`` stands for the filters of warnings at its beginning.
    """

    def __init__(self, streams: tuple[bytes, ...] = (), threads: int = 0, traffic_before: tuple[int, int] = (0, 0), filters: str = "") -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self.output: list[tuple[str, str]] = []
        self.output_size = 0
        self.refusal = ""
        self.saved_s = self.saved_here_s = self.inner_s = 0.0
        self.streams = streams
        self.threads = threads
        self.assembled = 0
        self.traffic_before = traffic_before
        self.filters = filters
        self.file_bytes = 0
        self.is_writing = False

    def absorb(self, inner: Record) -> None:
        """Takes over what a call inside this one did."""
        self.files.update(inner.files)
        self.output += inner.output
        self.output_size += inner.output_size
        self.refusal = self.refusal or inner.refusal
        self.saved_s += inner.saved_s
        self.saved_here_s += inner.saved_here_s
        self.file_bytes += inner.file_bytes
        self.is_writing |= inner.is_writing


def digest_of_read(path: str, stamp: tuple[int, int]) -> str:
    """Returns the digest of a file that a call read, whose size and time were ``stamp`` then.

    Raises:
        Refused: it changed meanwhile.
    """
    try:
        found = os.stat(path)
    except OSError:
        raise Refused(f"{os.path.basename(path)} went away while it was read") from None
    if stamp[0] >= 0 and (found.st_size, found.st_mtime_ns) != stamp:
        raise Refused(f"{os.path.basename(path)} changed while it was read")
    return digest_of_file(path)


class Witness:
    """Watches this process for the calls that are being recorded.

    Args:
        library_folders: files under these are code, not data.
    """

    def __init__(self, library_folders: tuple[str, ...]) -> None:
        self._folders = library_folders
        self._local = threading.local()
        self.open_records = 0
        self.observation: Observation | None = None
        """What the run as a whole does; None where nobody wants to know, or it is clear that it cannot be answered."""
        self.note_seed: Callable[[random.Random, object], Callable[[], None] | None] | None = None
        """Is told of a generator that is about to be seeded; what it returns is called when that is done."""
        self._watched: dict[Any, tuple[Any, Any]] = {}
        self._threads_of_others: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Threads that were there before the program: those of a shell."""
        self.note_listener: Callable[[], None] = lambda: None
        """Is called when the program is about to hear all that the interpreter does: what reuse does, and what it leaves out."""
        self.has_moved = False
        """Whether the working directory was ever changed."""
        self.streams = Streams()
        self.notices = Notices(self._refuse_calls)
        self._traffic = Traffic()

    @property
    def stack(self) -> list[Record]:
        """The open records of this thread, outermost first."""
        try:
            return self._local.stack  # type: ignore[no-any-return]
        except AttributeError:
            self._local.stack = []
            return self._local.stack  # type: ignore[no-any-return]

    def begin_anew(self) -> None:
        """Forgets the calls that were running in the parent of a forked child."""
        self._local = threading.local()
        self.close()
        self._traffic = Traffic()
        self.open_records = 0
        self.observation = None

    def close(self) -> None:
        """Lets go of what it asks the kernel with; calls are recorded no longer."""
        self._traffic.close()

    def install(self, *, is_shell: bool = False) -> None:
        """Begins to watch; stays until the process ends.

        Args:
            is_shell: others hold the standard streams, which are left where they are.
        """
        hear, heard = self._hook, _HEARD

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in heard:  # importing scikit-learn makes 70,000 events
                hear(event, arguments)

        watch_foreign_writers()
        self.notices.install()
        sys.addaudithook(hook)
        urandom, seed = os.urandom, random.Random.seed

        def watched_urandom(size: int, /) -> bytes:
            if self.is_watching and not is_harmless(sys._getframe(1), self._folders):
                self.refuse("draws entropy")
            return urandom(size)

        def watched_seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
            if a is None and self.is_watching and not is_harmless(sys._getframe(1), self._folders):
                self.refuse("draws entropy")
            noted = self.note_seed(generator, a) if self.note_seed is not None else None
            seed(generator, a, version)
            if noted is not None:
                noted()

        for watched, plain in ((watched_urandom, urandom), (watched_seed, seed)):
            for name in ("__name__", "__qualname__", "__module__", "__doc__"):
                setattr(watched, name, getattr(plain, name))
        os.urandom = watched_urandom
        random._urandom = watched_urandom  # type: ignore[attr-defined]
        random.Random.seed = watched_seed  # type: ignore[method-assign, assignment]
        random.seed = random._inst.seed
        self._threads_of_others.update(threading.enumerate())
        if is_shell:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if type(stream) is io.TextIOWrapper:
                wrapped = WatchedStream(stream, name, self)
                setattr(sys, name, wrapped)
                setattr(sys, f"__{name}__", wrapped)

    def _watch_streams(self) -> None:
        """Notes what is written to the present standard streams while a call runs: they may be a shell's, or what ``redirect_stdout`` put in their place."""
        for label in ("stdout", "stderr"):
            stream = getattr(sys, label)
            write = getattr(stream, "write", None)
            if write is None or type(stream) is WatchedStream or stream in self._watched:
                continue

            is_own = type(stream).__module__.split(".")[0] not in _STREAMS

            def watched(
                text: str, *, label: str = label, write: Callable[[str], int | None] = write, is_own: bool = is_own
            ) -> int | None:
                if is_own:
                    self.refuse("prints to a stream of the program's own")
                else:
                    self.printed(label, text)
                return write(text)

            own = getattr(stream, "__dict__", {}).get("write")
            try:
                stream.write = watched
            except AttributeError:
                self.refuse("prints to a stream that cannot be watched")
            else:
                self._watched[stream] = own, watched

    def _leave_streams(self) -> None:
        """Gives the streams their own ``write`` back, unless somebody else has put another one in its place."""
        while self._watched:
            stream, (own, watched) = self._watched.popitem()
            if vars(stream).get("write") is watched:
                if own is None:
                    del stream.write
                else:
                    stream.write = own

    def has_other_threads(self) -> bool:
        """Whether threads of the program run besides this one."""
        return self._foreign_threads() > 0

    def _foreign_threads(self) -> int:
        own = threading.current_thread()
        others = self._threads_of_others
        return sum(each is not own and not each.name.startswith("dartvc") and each not in others for each in threading.enumerate())

    def begin(self) -> Record:
        """Opens a record for a call that is about to run in this thread."""
        record = Record(self.streams.digests(), self._foreign_threads(), self._bytes_moved(), self.notices.filters())
        self.open_records += 1
        self.stack.append(record)
        self._watch_streams()
        return record

    def end(self, record: Record) -> None:
        """Closes the innermost record; the one around it takes over what was seen."""
        read, written = map(sub, self._bytes_moved(), record.traffic_before)
        if read > _READ_AGAIN * record.file_bytes + _UNSEEN_BYTES:
            self.refuse("reads files past Python")
        elif written and not record.output and not record.file_bytes and not record.is_writing:
            self.refuse("writes past Python")
        if self.notices.filters() != record.filters:
            self._refuse_calls("changes the filters of warnings")
        self.open_records -= 1
        self.stack.pop()
        if self.stack:
            self.stack[-1].absorb(record)
        elif self._watched and not self.open_records:
            self._leave_streams()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Does not take what this thread does for the program's doing: the engine reads files of its own."""
        if getattr(self._local, "is_away", False):
            yield
            return
        self._local.is_away = True
        start = self._traffic.now() if self.open_records else None
        try:
            yield
        finally:
            if start is not None:
                read, written = self._bytes_away()
                now = self._traffic.now()
                self._local.bytes_away = read + now[0] - start[0], written + now[1] - start[1]
            self._local.is_away = False

    def _bytes_away(self) -> tuple[int, int]:
        """Returns what this thread has read and written for the engine while calls ran."""
        return getattr(self._local, "bytes_away", (0, 0))

    def _bytes_moved(self) -> tuple[int, int]:
        """Returns what this thread has read and written for the program."""
        before = getattr(self._local, "is_away", False)
        self._local.is_away = True
        try:
            now, away = self._traffic.now(), self._bytes_away()
        finally:
            self._local.is_away = before
        return now[0] - away[0], now[1] - away[1]

    @property
    def is_watching(self) -> bool:
        """Whether anybody wants to know what happens."""
        return self.open_records > 0 or self.observation is not None

    def refuse(self, reason: str) -> None:
        """Makes the calls that run now, and the run, unfit for reuse."""
        self._refuse_calls(reason)
        if (whole := self._observed()) is not None:
            whole.refuse(reason)

    def _refuse_calls(self, reason: str) -> None:
        if self.open_records and not self._is_ours():
            for record in self.stack:
                record.refusal = record.refusal or reason

    def _is_ours(self) -> bool:
        """Whether what this thread does is the engine's doing: a look at the store, or a note of what was there before the program changes it."""
        effects = watching()
        return getattr(self._local, "is_away", False) or (effects is not None and effects.is_at_work)

    def _observed(self) -> Observation | None:
        """Returns what has to hear of what this thread does for the run as a whole; None when it is the engine's doing, or a temporary file's."""
        whole = self.observation
        if whole is None or self._is_ours() or threading.current_thread().name.startswith("dartvc"):
            return None
        return whole if _frame_outside().f_globals.get("__name__") != "tempfile" else None

    def note_files(self, paths: Iterable[str]) -> None:
        """Notes the files that a call read which was answered from the store."""
        if self.stack:
            self.stack[-1].files.update(dict.fromkeys(paths, (-1, -1)))
        if (whole := self._observed()) is not None:
            for path in paths:
                whole.opened(path, os.O_RDONLY)

    def printed(self, stream: str, text: str) -> None:
        """Notes text that was written."""
        if not text and getattr(self._local, "is_away", False):
            return  # a commit hands on what was written before
        if self.observation is not None:
            self.observation.printed(stream, text)
        if self.open_records and self.stack:
            record = self.stack[-1]
            record.output.append((stream, text))
            record.output_size += len(text)
            if record.output_size > _TEXT_LIMIT:
                self.refuse("prints a great deal")

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import":
            expect_foreign_writer(arguments[0])
        elif event == "os.chdir":
            self.has_moved = True
        elif event == "sys.addaudithook" and not str(_frame_outside().f_globals.get("__name__")).startswith("dartvc."):
            self.note_listener()
        if not self.is_watching or self._is_ours():
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                self.refuse("opens a file by its descriptor")
            elif isinstance(path, str | bytes):
                self._note_file(os.path.abspath(os.fsdecode(path)), flags if isinstance(flags, int) else 0)
        elif event == "import":
            if self.stack:
                self.stack[-1].file_bytes += _BYTES_OF_IMPORT
        elif event in _NETWORK:
            self.refuse("uses the network")
        elif event in _LISTING:
            path = os.path.join(os.path.abspath(os.fsdecode(arguments[0] or ".")), "") if not isinstance(arguments[0], int) else ""
            if not path.startswith(self._folders) and not str(_frame_outside().f_globals.get("__name__")).startswith("importlib"):
                self.refuse("looks at the file system")
        elif event in _ACTS and not (event == "os.rename" and _is_compiled(arguments[1])) and not _is_a_stop(event):
            self._refuse_calls(_ACTS[event])
            if (whole := self._observed()) is not None:
                if event == "os.mkdir":
                    whole.makes_folder(os.fsdecode(arguments[0]), _frame_outside())
                elif event not in _WITHIN_THE_PROCESS:
                    whole.refuse(_ACTS[event])

    def _note_file(self, path: str, flags: int) -> None:
        is_written = bool(flags & WRITING)
        found = _stat_of(path) if self.stack and not is_written else None
        if found is not None:
            self.stack[-1].file_bytes += found.st_size or _BYTES_OF_KERNEL
        if path.startswith((*self._folders, "/usr/share/zoneinfo")) or _is_compiled(path) or path == os.devnull:
            return
        if path.startswith(("/proc/", "/sys/")) and _frame_outside().f_code.co_filename.startswith((*self._folders, "<frozen")):
            return  # libraries ask what machine they run on
        if path.startswith(("/dev/", "/proc/", "/sys/")):
            self.refuse(f"reads {path}")
            return
        if (whole := self._observed()) is not None:
            whole.opened(path, flags)
        if not self.stack or (path.endswith(".py") and not is_written):
            return
        if is_written:
            self.stack[-1].is_writing = True
            self._refuse_calls(f"writes {os.path.basename(path)}")
            return
        if found is None:
            self._refuse_calls(f"looks for {os.path.basename(path)}")
            return
        self.stack[-1].files[path] = (found.st_size, found.st_mtime_ns)


def _stat_of(path: str) -> os.stat_result | None:
    """Returns what is known of a file; None when it is not there."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _frame_outside() -> types.FrameType:
    """Returns the frame whose doing an audit hook of ours was told."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("dartvc.lineage."):
        frame = frame.f_back
    return frame


def _is_a_stop(event: str) -> bool:
    """Whether an event tells that the program is being stopped for a commit, and not that it traces itself."""
    return event == "sys.settrace" and _frame_outside().f_globals.get("__name__") == "dartvc.program.stopping"


def _is_compiled(path: object) -> bool:
    """Whether a file is a compiled module, or on its way to be one."""
    return isinstance(path, str) and ".pyc" in os.path.basename(path)


def joined(output: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Joins neighbouring texts of one stream; an empty one stands for a flush."""
    texts: list[tuple[str, str]] = []
    for stream, text in output:
        if texts and texts[-1][0] == stream and text and texts[-1][1]:
            texts[-1] = (stream, texts[-1][1] + text)
        else:
            texts.append((stream, text))
    return texts

"""Which way a run takes through its code, recorded: one stream of bytes for each function, given up where that would cost the program too much.

After the path bytes of LIMA's loops. A thread looks now and then how the streams grow: a decision costs some 30 ns, and all together may take
60 ms and 0.3 % of the run, 16 MB, and 4 MB each. What would take more is dropped, the fastest first; a mark of a dropped stream costs 3 ns.
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping

from xxhash import xxh3_128_hexdigest

from dartvc.program.decisions import ScopePlace
from dartvc.sessions.relocation import relative_path

__all__ = ["PATHS", "PathRecorder", "Stream", "digest_of_scope"]

PATHS = "paths"
"""The entry of a commit's process."""
_DECISION_S = 30e-9
_FREE_S = 0.06
_SHARE = 0.003
_STREAM_BYTES = 4 << 20
_ALL_BYTES = 16 << 20
_SHORT_S, _LONG_S = 0.05, 0.25
_FEW = 10_000
_BEGINNING_S = 2.0
_LEVEL = 1


class Stream:
    """The decisions of one function, class or module.

    Attributes:
        switch: the builtin that appends to it, or is None.
        file: number of the file.
        seen: how many decisions it had when it was looked at last.
        is_dropped: whether it was given up; ``data`` is empty then.
    """

    def __init__(self, switch: str, file: int, scope: ScopePlace) -> None:
        self.switch = switch
        self.file = file
        self.scope = scope
        self.data = bytearray()
        self.seen = 0
        self.is_dropped = False

    @property
    def count(self) -> int:
        """How many decisions it holds."""
        return len(self.data) // self.scope.width


class PathRecorder:
    """The decisions of one process.

    Args:
        is_user: whether a file is the user's own.
        besides: what else is done now and then while the program runs.

    Attributes:
        is_split: the program forked itself: what the rest of it did elsewhere is not known.
        is_resumed: it began in the middle of the program.
    """

    def __init__(self, is_user: Callable[[str], bool], besides: Callable[[], object]) -> None:
        self._is_user = is_user
        self._besides = besides
        self._files: dict[tuple[str, str], int] = {}
        self.streams: dict[tuple[int, int], Stream] = {}
        self._is_closed = False
        self._begun = time.monotonic()
        self._looked_at = self._begun
        self._decisions = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.is_split = False
        self.is_resumed = False

    def install(self) -> None:
        """Looks out for forks; stays until the process ends."""
        os.register_at_fork(before=self._before_fork, after_in_parent=self._start, after_in_child=self.close)
        self._start()

    def next_stream(self, filename: str, text: str, scope: ScopePlace) -> str:
        """Returns the builtin that appends to the stream of a scope; see `dartvc.program.decisions.NextStream`."""
        file = self._files.setdefault((filename, text), len(self._files))
        stream = self.streams.get((file, scope.number))
        if stream is None:
            stream = Stream(f"__dvc_p{len(self.streams)}__", file, scope)
            self.streams[file, scope.number] = stream
            append = stream.data.append if scope.width == 1 else stream.data.extend
            setattr(builtins, stream.switch, None if self._is_closed else append)
        return stream.switch

    # -- the budget -----------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._is_closed:
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._watch, args=(self._stopping,), name="dartvc-paths", daemon=True)
            self._thread.start()

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        self._thread = None

    def _watch(self, stopping: threading.Event) -> None:
        pause_s = _SHORT_S
        while not stopping.wait(pause_s):
            now = time.monotonic()
            self._besides()
            pause_s = _SHORT_S if self.look(now) > _FEW or now - self._begun < _BEGINNING_S else _LONG_S

    def look(self, now: float) -> int:
        """Drops what takes too much; returns how many decisions came since the last look."""
        grown: list[tuple[int, Stream]] = []
        size_bytes = 0
        for stream in list(self.streams.values()):
            size_bytes += len(stream.data)
            count = stream.count
            if count > stream.seen:
                grown.append((count - stream.seen, stream))
                stream.seen = count
        came = remaining = sum(count for count, _ in grown)
        self._decisions += came
        elapsed_s, since_s = now - self._begun, now - self._looked_at
        self._looked_at = now
        is_dear = self._decisions * _DECISION_S > _FREE_S + _SHARE * elapsed_s
        for count, stream in sorted(grown, key=lambda each: -each[0]):
            is_slowing = is_dear and remaining * _DECISION_S > _SHARE * since_s
            if len(stream.data) > _STREAM_BYTES or size_bytes > _ALL_BYTES or is_slowing:
                remaining -= count
                size_bytes -= len(stream.data)
                self._drop(stream)
        return came

    def _drop(self, stream: Stream) -> None:
        setattr(builtins, stream.switch, None)
        stream.is_dropped = True
        stream.data.clear()

    # -- forks and the end ----------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        """A process with threads is not forked well."""
        if not self._is_closed:
            self._stop()
            self.is_split = self.is_split or self._is_user(sys._getframe(1).f_code.co_filename)

    def close(self) -> None:
        """Records nothing any more, as in a forked child."""
        if not self._is_closed:
            self._is_closed = True
            self._stop()
            for stream in self.streams.values():
                setattr(builtins, stream.switch, None)

    def entry(
        self, project: str, run: str, facts: Mapping[str, object], loops: Iterable[tuple[str, int]]
    ) -> dict[str, tuple[object, dict[str, object]]]:
        """Returns what a commit records of it: the streams as the value, the rest in the summary; nothing where nothing could decide.

        Args:
            facts: what else limits what the streams tell.
            loops: file and line of the loops that were answered from an earlier run.
        """
        if not self.streams:
            return {}
        texts = list(self._files)
        rows, values = [], []
        for stream in self.streams.values():
            if stream.data or stream.is_dropped:
                scope, data = stream.scope, bytes(stream.data)
                digest = digest_of_scope(texts[stream.file][1], scope)
                count = len(data) // scope.width if data else stream.seen
                rows.append([stream.file, scope.number, scope.qualname, scope.line, digest, scope.width, stream.is_dropped, count])
                values.append(zlib.compress(data, _LEVEL))
        files = [[relative_path(name, project), xxh3_128_hexdigest(text.encode("utf-8", "replace"))] for name, text in texts]
        limits = {**facts, "is_split": self.is_split, "is_resumed": self.is_resumed}
        answered = [[relative_path(name, project), line] for name, line in loops]
        return {PATHS: (values, {"type": PATHS, "run": run, **limits, "answered_loops": answered, "files": files, "streams": rows})}


def digest_of_scope(text: str, scope: ScopePlace) -> str:
    """Returns xxh3_128 of the lines of a function, class or module, without their common indentation, in hexadecimal."""
    lines = [line[scope.indentation :] for line in text.split("\n")[scope.line - 1 : scope.end_line]]
    return xxh3_128_hexdigest("\n".join(lines).encode("utf-8", "replace"))

"""``dartvc.log``: one record a call, at the price of a few attribute reads; encoding and writing are a thread's.

The recorder of a process belongs to its session and gives its records to the session's next commit. Without a session the records are a run
of their own in the repository of the working directory, committed when the process ends. Nothing here raises into the user's program.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from sys import _getframe
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

from dartvc.hindsight.contexts import Context, LoopReader
from dartvc.hindsight.journal import Journal, forget_tail
from dartvc.hindsight.loops import Loop
from dartvc.hindsight.records import encode_chunk, open_state
from dartvc.hindsight.values import SCALARS, stored_value
from dartvc.host.entropy import new_id
from dartvc.model import LogSegment

if TYPE_CHECKING:
    from dartvc.sessions import Session

__all__ = ["Capture", "Recorder", "capture_records", "end_run", "flush", "log", "log_argument", "replayed_arguments"]

_T = TypeVar("_T")
_FLUSH_S = 0.4
_TEXT_LIMIT = 4096
_FOLDER = ".dvc-state"


class Recorder:
    """Takes the records of one process; a `dartvc.model.LogSource`.

    Args:
        run: the run that they belong to.
        folder: of that run in the repository.
        session: whose commits take them; None: they are committed at the end of the process.
        facts: what is known of a run that no session commits.
        first: the number of the next record.
        reader: knows the loops.
    """

    def __init__(
        self,
        run: str,
        folder: Path,
        session: Session | None,
        *,
        facts: Mapping[str, object] | None = None,
        first: int = 0,
        reader: LoopReader,
    ) -> None:
        self.run = run
        self.session = session
        self.reader = reader
        self.context_of = reader.context_of
        self.pending: list[tuple[Any, ...]] = []
        self.is_armed = False
        self._folder = folder
        self._number = first
        self._lock = threading.RLock()
        self._journal = Journal(folder, facts)
        self._lines: list[bytes] = []
        self._unwritten: list[tuple[int, bytes]] = []
        self._attachments: dict[str, bytes] = {}
        self._handed: list[tuple[LogSegment, int, Any]] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self.problem = ""

    def arm(self) -> None:
        """Makes the thread write what is pending, soon."""
        self.is_armed = True
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="dartvc-log", daemon=True)
                    self._thread.start()
        self._wake.set()

    def attach(self, name: str, content: bytes) -> None:
        """Takes a value that is too large for a line."""
        with self._lock:
            if name not in self._attachments:
                self._attachments[name] = content
                with contextlib.suppress(OSError):
                    self._journal.attach(name, content)

    def _run(self) -> None:
        while not self._is_over:
            self._wake.wait()
            clock.sleep(_FLUSH_S)
            self._wake.clear()
            self.is_armed = False
            self.flush()

    def flush(self) -> None:
        """Writes what is pending to the journal, durably."""
        with self._lock:
            self._write_pending()
            try:
                self._journal.sync()
            except OSError as error:
                self._complain(error)
            self._drop_durable()

    def _write_pending(self) -> None:
        count = len(self.pending)
        if count:
            batch = self.pending[:count]
            del self.pending[:count]
            try:
                line = encode_chunk(self._number, batch, root_entries=self.reader.entries)
            except (TypeError, ValueError) as error:
                self._complain(error)
                return
            if self.session is not None:
                self._lines.append(line)
            self._unwritten.append((self._number, line))
            self._number += count
        while self._unwritten:
            try:
                self._journal.append(*self._unwritten[0])
            except OSError as error:
                self._complain(error)
                return
            del self._unwritten[0]

    def _complain(self, error: Exception) -> None:
        """Tells once that the journal is not written; the records are kept for the next commit."""
        if not self.problem:
            self.problem = str(error)
            print(f"dartvc: log records are kept in memory for the time being: {error}", file=sys.stderr)

    # -- commits --------------------------------------------------------------------------------------------------------------

    def cut(self) -> LogSegment | None:
        """Returns the records that no commit has yet; None when there are none."""
        with self._lock:
            self._write_pending()
            self._drop_durable()
            lost = [segment for segment, _, ticket in self._handed if ticket is None or ticket.error is not None]
            if not self._lines and not lost:
                return None
            self._handed = [each for each in self._handed if not any(each[0] is segment for segment in lost)]
            attachments = dict(self._attachments)
            for segment in lost:
                attachments.update(segment.attachments)
            segment = LogSegment(self.run, b"".join([*(each.lines for each in lost), *self._lines]), attachments)
            self._lines.clear()
            self._unwritten.clear()
            self._attachments.clear()
            self._handed.append((segment, self._number, None))
            self._journal.turn()
            return segment

    def handed_over(self, ticket: Any) -> None:
        """Takes note of the commit that holds the last cut."""
        with self._lock:
            segment, number, _ = self._handed[-1]
            self._handed[-1] = segment, number, ticket

    def _drop_durable(self) -> None:
        while self._handed:
            segment, number, ticket = self._handed[0]
            if ticket is None or not ticket.durable.is_set() or ticket.error is not None:
                return
            del self._handed[0]
            with contextlib.suppress(OSError):
                self._journal.drop_before(number, segment.attachments)

    def close(self) -> None:
        """Writes everything; a run without a session is committed."""
        self._is_over = True
        self._wake.set()
        with self._lock:
            self.flush()
            if self.session is None:
                from dartvc.hindsight.segments import commit_journal  # needed once, at the end
                from dartvc.history import Repository

                self._journal.turn()
                with contextlib.suppress(Exception):
                    commit_journal(Repository.open(self._folder.parent.parent), self.run)
            with contextlib.suppress(OSError):
                self._journal.close()


class _Nowhere:
    """Takes the records of a process for which there is no repository: none."""

    session = None
    is_armed = False

    def __init__(self) -> None:
        self.is_told = False

    def close(self) -> None:
        """Nothing to do."""


class Capture:
    """Takes the records of a process that executes a past run again, and keeps them in memory.

    Args:
        reader: knows the loops.
        arguments: what ``dartvc.arg`` is to give, by name, as the run was given it.
    """

    session = None
    is_armed = True

    def __init__(self, reader: LoopReader, arguments: Mapping[str, str]) -> None:
        self.reader = reader
        self.context_of = reader.context_of
        self.arguments = arguments
        self.pending: list[Any] = []
        self.attachments: dict[str, bytes] = {}

    def attach(self, name: str, content: bytes) -> None:
        """Takes a value that is too large for a line."""
        self.attachments[name] = content

    def arm(self) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class _Process:
    """The recorder of this process."""

    def __init__(self) -> None:
        self.recorder: Any = None
        self.sessions: Sequence[Any] = ()
        self.is_child = False
        self._lock = threading.RLock()

    def current(self) -> Any:
        """Returns the recorder, made anew when the session has changed."""
        with self._lock:
            return self._current()

    def _current(self) -> Any:
        module = sys.modules.get("dartvc.sessions.session")
        self.sessions = module._OPEN if module is not None and not self.is_child else ()
        session = self.sessions[-1] if self.sessions else None
        old = self.recorder
        if old is not None and type(old) is not _Nowhere:
            if old.session is session:
                return old
            with contextlib.suppress(Exception):
                old.close()
        try:
            made = _recorder_of(session) if session is not None else _recorder_alone()
        except Exception as error:
            print(f"dartvc: log records are not kept: {error}", file=sys.stderr)
            made = None
        if made is None:
            self.recorder = old if type(old) is _Nowhere else _Nowhere()
        else:
            self.recorder = made
            if session is not None:
                session.log_source = made
        return self.recorder

    def forked(self) -> None:
        """In a forked child: its records are a run of its own, its parent's session takes none of them."""
        self.recorder = None
        self.is_child = True
        self.sessions = ()
        self._lock = threading.RLock()

    def close(self) -> None:
        """At the end of the process, or of a run within it: what is logged from now on is another run."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close()


_PROCESS = _Process()
os.register_at_fork(after_in_child=_PROCESS.forked)
atexit.register(_PROCESS.close)


def log(name: str, value: _T) -> _T:
    """Records a value under a name, with the loops that the program stands in, and returns the value.

    Scalars (numpy's and tensors of no dimension too), small lists and dicts are kept as they are; texts, arrays, frames and figures as they
    are now, beside a summary. Durable with the next commit, at the latest within a second.
    """
    process = _PROCESS
    recorder = process.recorder
    sessions = process.sessions
    if recorder is None or recorder.session is not (sessions[-1] if sessions else None) or not recorder.is_armed:
        recorder = process.current()
        if type(recorder) is _Nowhere:
            _tell(recorder)
            return value
        recorder.arm()
    try:
        context = recorder.context_of(_getframe(1))
    except Exception:
        context = None
    kind = type(value)
    if kind is float or (kind in SCALARS and (kind is not str or len(value) <= _TEXT_LIMIT)):  # type: ignore[arg-type]
        recorder.pending.append((name, value, time(), context))
    else:
        recorder.pending.append((name, stored_value(value, recorder.attach), time(), context))
    return value


def log_argument(name: str, value: object, default: object, is_given: bool) -> None:
    """Records a parameter of the program."""
    recorder = _PROCESS.current()
    if type(recorder) is not _Nowhere:
        recorder.arm()
        stored, standard = stored_value(value, recorder.attach), stored_value(default, recorder.attach)
        recorder.pending.append((name, stored, time(), None, (standard, is_given)))


def capture_records(capture: Capture) -> None:
    """Gives everything that this process logs from now on to ``capture``."""
    _PROCESS.close()
    _PROCESS.recorder = capture


def replayed_arguments() -> Mapping[str, str]:
    """Returns what the run that this process executes again was given; empty in any other process."""
    recorder = _PROCESS.recorder
    return recorder.arguments if type(recorder) is Capture else {}


def flush() -> None:
    """Writes what this process has logged so far, so that queries see it."""
    if _PROCESS.recorder is not None and type(_PROCESS.recorder) is not _Nowhere:
        _PROCESS.recorder.flush()


def end_run() -> None:
    """Ends the run of a process that has no session and commits its records; what is logged from now on is another run."""
    if _PROCESS.recorder is not None and _PROCESS.recorder.session is None:
        _PROCESS.close()


def _tell(nowhere: _Nowhere) -> None:
    if not nowhere.is_told:
        nowhere.is_told = True
        print("dartvc: what is logged is not kept, there is no repository here or above: dvc-state init", file=sys.stderr)


def _recorder_of(session: Session) -> Recorder:
    """Makes the recorder of a session; one that goes on from a commit counts on from there."""
    from dartvc.hindsight.segments import last_lines

    run = session.run_id or session.session_id
    folder = session.repository.path / "runs" / run
    forget_tail(folder)
    first, chain, entered = 0, list[Context](), dict[Loop, int]()
    if session.run_id:
        with contextlib.suppress(Exception):
            session.flush()
        head = session.head
        lines = last_lines(session.repository, head, run) if head is not None else b""
        if lines:
            first, chain, entered = open_state(lines)
    return Recorder(run, folder, session, first=first, reader=LoopReader(chain, entered))


def _recorder_alone() -> Recorder | None:
    """Makes the recorder of a process without a session; None when there is no repository."""
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / _FOLDER / "HEAD").exists():
            run = new_id()
            argv = [str(each) for each in sys.argv]
            script = os.path.abspath(argv[0]) if argv and argv[0] else ""
            facts = {"type": "run", "id": run, "script": script, "argv": argv, "cwd": str(here), "started": time(), "exit_code": None}
            return Recorder(run, place / _FOLDER / "runs" / run, None, facts=facts, reader=LoopReader())
    return None

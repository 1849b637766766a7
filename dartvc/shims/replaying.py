"""A past run executed again in this process, patched, in a scratch copy of its project; what it logs goes into an answer for the process that asked.

Started as ``python -c "from dartvc.shims.replaying import main; main()" JOB``. There is no session, and nothing is committed.
"""

from __future__ import annotations

import ctypes
import linecache
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dartvc.hindsight.contexts import LoopReader
from dartvc.hindsight.recording import Capture, capture_records
from dartvc.hindsight.records import encode_chunk
from dartvc.hindsight.replay.jobs import Answer, Job
from dartvc.hindsight.replay.scratch import guard_folder
from dartvc.history import Repository
from dartvc.model import Oid
from dartvc.program.sources import Sources
from dartvc.sessions.runs import Run, run_here
from dartvc.shims.script import main_module
from dartvc.state.loading import Loading, load
from dartvc.state.process import apply_process

__all__ = ["main"]

_OF_THE_START = ("random", "numpy.random", "torch.random")
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG


class _Replayer:
    """Executes one job."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.folder = folder
        self.repository = Repository.open(job.repository, walk_up=False)
        self.oid = Oid(job.commit)
        self.run: Run = run_here(self.repository.summary(self.repository.process(self.oid)["run"]), job.project)
        self.capture = Capture(LoopReader(), self.run.arguments)
        self.refused: list[str] = []
        self.began = time.perf_counter()

    def execute(self) -> int:
        """Runs the program to its end and answers; returns its exit code."""
        os.makedirs(self.run.cwd, exist_ok=True)
        os.chdir(self.run.cwd)
        main = main_module(self.run)
        sources = Sources()
        text = self.job.sources[self.run.script]
        unit = sources.add(self.run.script, text)
        linecache.cache[self.run.script] = (len(text), None, text.splitlines(keepends=True), self.run.script)
        capture_records(self.capture)
        guard_folder(self.job.repository, self.job.project, self.refused.append)
        self._seed()
        self.began = time.perf_counter()
        code, error = _ended(lambda: exec(unit.code, main.__dict__))
        self.answer(code, error)
        return code

    def _seed(self) -> None:
        """Gives the random streams that the program began with."""
        values: dict[str, object] = {}
        for name, entry in self.repository.process(self.oid).items():
            if name in _OF_THE_START and entry.payload_oid is not None:
                payload = self.repository.payload(entry.payload_oid)
                values.update(load(payload.read_stream(), Loading({}, payload)))
        apply_process(values)

    def answer(self, code: int, error: str) -> None:
        """Writes what was logged and how it ended."""
        records = list(self.capture.pending)
        lines = encode_chunk(0, records) if records else b""
        seconds = time.perf_counter() - self.began
        Answer(code, error, tuple(dict.fromkeys(self.refused)), seconds, lines, self.capture.attachments).write(self.folder)


def _ended(body: Callable[[], None]) -> tuple[int, str]:
    """Runs a program; returns its exit code and the exception that ended it."""
    try:
        body()
    except SystemExit as stop:
        return (stop.code & 0xFF if isinstance(stop.code, int) else int(stop.code is not None)), ""
    except KeyboardInterrupt:
        return 128 + signal.SIGINT, "KeyboardInterrupt"
    except BaseException as raised:
        place = raised.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})" if place is not None else ""
        return 1, f"{type(raised).__name__}: {raised}".split("\n", 1)[0] + where
    return 0, ""


def main() -> None:
    """Executes the job named by the first argument."""
    path = Path(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
    sys.exit(_Replayer(Job.read(path), path.parent).execute())

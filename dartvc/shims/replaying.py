"""A past run executed again in this process, patched, in a scratch copy of its project; what it logs goes into an answer for the process that asked.

Started as ``python -c "from dartvc.shims.replaying import main; main()" JOB``. There is no session, and nothing is committed.
"""

from __future__ import annotations

import ast
import ctypes
import gc
import linecache
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dartvc.hindsight.contexts import LoopReader
from dartvc.hindsight.loops import CodeLoops
from dartvc.hindsight.propagation.sourcetext import Insertion
from dartvc.hindsight.recording import Capture, capture_records
from dartvc.hindsight.records import encode_chunk
from dartvc.hindsight.replay.jobs import Answer, Begun, Job
from dartvc.hindsight.replay.places import Boundary, PatchedFile, boundary_of, is_behind
from dartvc.hindsight.replay.scratch import guard_folder
from dartvc.history import Repository
from dartvc.host.places import is_library_file
from dartvc.model import Oid
from dartvc.program.capture import Reader
from dartvc.program.coroutines import run_module
from dartvc.program.generators import GeneratorCodec, frame_at
from dartvc.program.places import NotResumable
from dartvc.program.resuming import Resumption
from dartvc.program.sources import MODULE_SCOPE, Sources, digest_of_code
from dartvc.sessions.recorded import load_run, read_modules, read_sources
from dartvc.sessions.relocation import Relocation, follow_process
from dartvc.sessions.runs import Run, run_here
from dartvc.shims.script import main_module
from dartvc.state.hooks import restore_hooks
from dartvc.state.loading import Loading, Unloadable, load
from dartvc.state.process import apply_process, is_process_entry

__all__ = ["PatchedGenerators", "Replayer", "main"]

_OF_THE_START = ("random", "numpy.random", "torch.random")
_POLL_S = 0.005
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG


class Replayer:
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
        text = job.sources[self.run.script]
        self.main = main_module(self.run, text)
        self.sources = Sources()
        self.unit = self.sources.add(self.run.script, text)
        linecache.cache[self.run.script] = (len(text), None, text.splitlines(keepends=True), self.run.script)

    def execute(self) -> int:
        """Runs the program and answers; returns its exit code."""
        os.makedirs(self.run.cwd, exist_ok=True)
        os.chdir(self.run.cwd)
        if self.job.following or self.job.until:
            self.capture.pending = _Stretch(self)
        program = self._watched() if self.job.is_beginning and self.run.reuse else self.unit.code
        body: Callable[[], object] = lambda: run_module(program, self.main.__dict__)  # noqa: E731
        if self.job.is_beginning:
            self.apply(_OF_THE_START)
            Begun().write(self.folder)
        else:
            try:
                body = self._enter().run
            except (NotResumable, Unloadable, ImportError, ValueError, KeyError) as reason:
                Begun(problem=f"{type(reason).__name__}: {reason}").write(self.folder)
                self.answer(0, "", problem="it could not begin")
                return 0
        capture_records(self.capture)
        guard_folder(self.job.repository, self.job.project, self.refused.append)
        self.began = time.perf_counter()
        code, error = _ended(body)
        self.answer(code, error)
        return code

    def _watched(self) -> types.CodeType:
        """Lets calls be answered whose results a run with reuse has stored; returns the program with its switches."""
        from dartvc.lineage.reusing import Reuse

        recorded = run_here(self.repository.summary(self.repository.process(self.oid)["run"]), str(self.repository.root))
        reuse = Reuse(self.repository, self.sources, self.main.__dict__, self.run.folder, self.run.script, stands_in=recorded.cwd)
        reuse.install()
        return reuse.compile(self.run.script, self.unit.text)

    def apply(self, names: Collection[str] | None = None) -> None:
        """Puts back what was recorded of the process: the random streams, and, without ``names``, all else."""
        values: dict[str, object] = {}
        for name, entry in self.repository.process(self.oid).items():
            if entry.payload_oid is not None and (is_process_entry(name) if names is None else name in names):
                payload = self.repository.payload(entry.payload_oid)
                values.update(load(payload.read_stream(), Loading(self.main.__dict__, payload)))
        apply_process(values)

    def _enter(self) -> Resumption:
        """Loads the commit into the patched program, and says where that stands.

        Raises:
            NotResumable: the patched program cannot be entered there.
            Unloadable: a value cannot be made here.
        """
        repository, run = self.repository, self.run
        files = self.patched_files()
        for name in read_modules(repository, self.oid):
            __import__(name)
        codec = PatchedGenerators(Reader(self.sources), files)
        loaded = load_run(repository, self.oid, run, self.main.__dict__, codec, lambda *_: None)
        self.sources.supply({path: file.new_unit.text for path, file in files.items()})
        loaded.give_globals(self.main.__dict__)
        self.rebind(files)
        setup = ast.Module(list(files[run.script].setup()), [])
        exec(compile(setup, run.script, "exec"), self.main.__dict__)
        frames = [frame_at(files[each.filename].place(each.described()), each.values, each.cells, each.stack) for each in loaded.frames]
        boundary = boundary_of(frames, files, self.namespace_of)
        resumption = Resumption(frames, codec.reader, lambda module, recorded: recorded, self.namespace_of)
        self.apply()
        restore_hooks(loaded.values)
        follow_process(repository, self.oid, run.relocation)
        Begun(tuple(replace(each, file=os.path.relpath(each.file, self.job.project)) for each in boundary)).write(self.folder)
        return resumption

    def patched_files(self) -> dict[str, PatchedFile]:
        """Returns the files of the program, recorded and patched, by path."""
        tip = self.repository.database.refs.read(f"refs/runs/{self.run.run_id}") or self.oid
        moved = Relocation(str(self.repository.root), self.job.project)
        old = {moved.path(path): text for path, text in read_sources(self.repository, tip).items()}
        passes = {path: [[Insertion(*each) for each in insertions] for insertions in edits] for path, edits in self.job.edits.items()}
        return {path: PatchedFile(path, old[path], text, passes.get(path, ())) for path, text in self.job.sources.items()}

    def rebind(self, files: Mapping[str, PatchedFile]) -> None:
        """Gives functions that came out of the commit the patched code.

        Raises:
            NotResumable: one of them closes over something else there.
        """
        codes = {path: file.codes() for path, file in files.items()}
        for function in [each for each in gc.get_objects() if type(each) is types.FunctionType]:  # without those that are frozen
            code = function.__code__
            known = codes.get(self.run.relocation.path(code.co_filename), {}).get((code.co_qualname, code.co_firstlineno))
            if known is None or code is known[1] or digest_of_code(known[0]) != digest_of_code(code):
                continue
            if known[1].co_freevars != code.co_freevars:
                raise NotResumable(f"{code.co_qualname} closes over something else in the patched program")
            function.__code__ = known[1]

    def namespace_of(self, module: str) -> dict[str, Any]:
        """Returns the globals of a module."""
        return self.main.__dict__ if module == "__main__" else vars(sys.modules[module])

    def answer(self, code: int, error: str, *, is_stopped: bool = False, problem: str = "") -> None:
        """Writes what was logged and how it ended."""
        records = list(self.capture.pending)
        lines = encode_chunk(0, records, root_entries=self.reader.entries) if records else b""
        seconds = time.perf_counter() - self.began
        refused = tuple(dict.fromkeys(self.refused))
        Answer(code, error, refused, seconds, is_stopped, problem, lines, self.capture.attachments).write(self.folder)

    @property
    def reader(self) -> LoopReader:
        """Knows the loops."""
        return self.capture.reader


class _Stretch(list[Any]):
    """The records of a stretch, which ends this process at the first one behind the place where the next stretch began."""

    def __init__(self, replayer: Replayer) -> None:
        super().__init__()
        self._replayer = replayer
        own = replayer.job.project
        self._boundary: Boundary | None = tuple(replace(each, file=os.path.join(own, each.file)) for each in replayer.job.until) or None
        self._codes: dict[int, CodeLoops] = {}

    def append(self, record: Any) -> None:
        """Takes a record."""
        super().append(record)
        if self._boundary is None:
            self._boundary = self._await_boundary()
        if not self._boundary:
            return
        frames = [each for each in _stack(sys._getframe(2), self._replayer.main.__dict__) if not is_library_file(each.f_code.co_filename)]
        verdict = is_behind(frames[::-1], record[3], self._boundary, self._codes)
        if verdict is not False:
            self._replayer.answer(0, "", is_stopped=bool(verdict), problem="" if verdict else "it cannot be told where to end")
            os._exit(0)

    def _await_boundary(self) -> Boundary:
        """Waits until the next stretch that can has begun; empty when there is none."""
        for folder in self._replayer.job.following:
            while (begun := Begun.find(Path(folder))) is None:
                time.sleep(_POLL_S)
            if not begun.problem:
                project = self._replayer.job.project
                return tuple(replace(each, file=os.path.join(project, each.file)) for each in begun.boundary)
        return ()


def _stack(frame: types.FrameType | None, main: dict[str, Any]) -> Iterator[types.FrameType]:
    """Yields a frame and those that called it, out to the script's own."""
    while frame is not None:
        yield frame
        if frame.f_globals is main and frame.f_code.co_name == MODULE_SCOPE:
            return
        frame = frame.f_back


class PatchedGenerators(GeneratorCodec):
    """Makes suspended generators again in the patched program."""

    def __init__(self, reader: Reader, files: Mapping[str, PatchedFile]) -> None:
        super().__init__(reader)
        self.reader = reader
        self._files = files

    def make(
        self, names: dict[str, object], place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]
    ) -> Any:
        """Makes a generator that goes on from a recorded place."""
        file = self._files.get(self.located(str(place["file"])))
        try:
            moved = file.place(place) if file is not None else place
        except NotResumable as reason:
            raise ValueError(str(reason)) from None
        return super().make(names, moved, values, cells, stack)


def _ended(body: Callable[[], object]) -> tuple[int, str]:
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
    job = Job.read(path)
    if job.heads:
        from dartvc.shims.evaluating import Evaluator

        code = Evaluator(job, path.parent).execute()
        sys.stderr.flush()
        os._exit(code)  # the answer is written, and the program is none that could end
    sys.exit(Replayer(job, path.parent).execute())

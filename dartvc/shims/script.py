"""An ordinary script as ``__main__`` of this process, committed as it runs; and the same script continued from a commit."""

from __future__ import annotations

import builtins
import importlib.util
import linecache
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dartvc.errors import RefusedError
from dartvc.hindsight.journal import forget_tail
from dartvc.history import Repository
from dartvc.host.entropy import new_id
from dartvc.host.places import config_folder
from dartvc.model import CommitKind, Oid
from dartvc.program.capture import Reader
from dartvc.program.effects import Effects, put_back, take_back
from dartvc.program.frames import is_supported
from dartvc.program.generators import GeneratorCodec
from dartvc.program.places import NotResumable
from dartvc.program.resuming import Resumption
from dartvc.program.sources import MODULE_SCOPE, Sources
from dartvc.program.stopping import iter_stack
from dartvc.program.trampolines import is_trampoline
from dartvc.sessions import Session
from dartvc.sessions.pacing import Pace
from dartvc.sessions.relocation import follow_process
from dartvc.sessions.restoring import version_of
from dartvc.sessions.runs import LoadedRun, Run, RunRecorder, load_run, read_files, read_modules, read_sequence
from dartvc.sessions.tally import describe_tally
from dartvc.shims.safepoints import SafePoints, is_below
from dartvc.shims.signals import SIGNALLED, Signals
from dartvc.shims.texts import read_program
from dartvc.state import strings
from dartvc.state.adapters.loaders import watch_workers
from dartvc.state.hooks import restore_hooks, watch_exits
from dartvc.state.loading import Unloadable
from dartvc.state.strings import with_interned_keys

if TYPE_CHECKING:
    from dartvc.lineage.reusing import Reuse

__all__ = ["RunOptions", "main_module", "resume_script", "run_script"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run commits."""

    max_overhead: float = 0.01
    every_s: float = 0.0
    arguments: dict[str, str] = field(default_factory=dict)
    reuse: str = ""
    """``full`` or ``partial``: work already done is not done again; such a run commits at its start and end only."""


class _Runner:
    """Runs one script in this process."""

    def __init__(self, repository: Repository, run: Run, options: RunOptions, text: str) -> None:
        self.repository = repository
        self.run = run
        self.main = main_module(run)
        self.sources = Sources()
        self.unit = self.sources.add(run.script, text)
        linecache.cache[run.script] = (len(text), None, text.splitlines(keepends=True), run.script)
        self.reader = Reader(self.sources)
        self.session = Session(repository, self.main.__dict__)
        self.session.arguments = run.arguments
        self.session.run_id = run.run_id
        self.session.working.generators = GeneratorCodec(self.reader)
        self.session.working.keeps_strings = strings.is_supported()
        journal = repository.path / "runs" / run.run_id
        journal.mkdir(parents=True, exist_ok=True)
        self.effects = Effects(journal, (str(repository.path), str(config_folder())), on_fork=watch_workers)
        self.recorder = RunRecorder(self.session, run, {run.script: text}, self.effects)
        self._folder = os.path.join(run.folder, "")
        pace = Pace(options.max_overhead, options.every_s)
        self.points = SafePoints(self.reader, self.recorder, pace, self._is_user, self._stack_of, self._around_commit)
        self.signals = Signals(self.points.request_anew, self.session.close)
        self.reuse = _reuse_of(self, options.reuse)

    def _is_user(self, code: types.CodeType) -> bool:
        return code.co_filename == self.run.script or is_below(self._folder, code.co_filename)

    def _around_commit(self) -> AbstractContextManager[None]:
        return self.signals.held_back()

    def _stack_of(self, frame: types.FrameType) -> list[types.FrameType]:
        stack = list(iter_stack(frame))
        while stack and not (stack[-1].f_globals is self.main.__dict__ and stack[-1].f_code.co_name == MODULE_SCOPE):
            stack.pop()
        if not stack:
            raise NotResumable("the script's own frame is not on the stack")
        return stack

    # -- running --------------------------------------------------------------------------------------------------------------

    def execute(self, body: Callable[[], None]) -> int:
        """Runs the program and returns its exit code, as Python would."""
        forget_tail(self.repository.path / "runs" / self.run.run_id)
        if is_supported() and self.reuse is None:
            self.signals.install()
            self.points.pacer.start()
        try:
            body()
        except SystemExit as stop:
            code, error = _exit_code(stop), ""
        except KeyboardInterrupt as interrupt:
            code, error = SIGNALLED + signal.SIGINT, "KeyboardInterrupt"
            _print_exception(interrupt)
        except BaseException as raised:
            code, error = 1, f"{type(raised).__name__}: {raised}".split("\n", 1)[0]
            _print_exception(raised)
        else:
            code, error = 0, ""
        self.points.pacer.stop()
        self.points.stopper.cancel()
        self._finish(code, error)
        return code

    def _finish(self, code: int, error: str) -> None:
        try:
            remark = ""
            if self.reuse is not None:
                self.reuse.close()
                remark = self.reuse.remark
            kind = CommitKind.EXCEPTION if error else CommitKind.END
            self.recorder.commit((), (error or f"exit {code}") + remark, kind, error=error, exit_code=code)
            self.session.close()
        except Exception as failure:
            print(f"dartvc: the end of the run was not committed: {failure}", file=sys.stderr)
        tally = self.recorder.tally
        if (tally.commits and (code or sys.stderr.isatty())) or (tally.refused and not tally.commits):
            self._tell(error)

    def _tell(self, error: str) -> None:
        """Says what the commits of the run have cost, and where an interrupted one goes on."""
        tally = self.recorder.tally
        print(f"dartvc: {describe_tally(tally.described())}", file=sys.stderr)
        if error and tally.commits:
            print("dartvc: dvc-state resume goes on from the last commit", file=sys.stderr)

    def start(self) -> int:
        """Runs the script from its beginning."""
        watch_exits(self._is_user)
        self.recorder.commit((), f"run {os.path.basename(self.run.script)}", CommitKind.START)
        self.effects.watch()
        code = self.unit.code
        if self.reuse is not None:
            self.reuse.install()
            code = self.reuse.compile(self.run.script, self.unit.text)
        return self.execute(lambda: exec(code, self.main.__dict__))

    def go_on(self, oid: Oid, sets: dict[str, str]) -> int:
        """Continues from a commit."""
        with _silence():  # what they print was printed when they were first imported
            for name in read_modules(self.repository, oid):
                __import__(name)
        self._restore_files(oid)
        loaded = load_run(self.repository, oid, self.run, self.main.__dict__, self.session.working.generators, version_of)
        watch_exits(self._is_user)
        self._give_data(loaded)
        _set_values(loaded, sets)
        self.main.__dict__.update(with_interned_keys(loaded.namespace))
        resumption = Resumption(loaded.frames, self.reader, self._file_of, self._namespace_of)
        self.session.adopt_run(oid, loaded.versions, loaded.values)
        restore_hooks(loaded.values)
        follow_process(self.repository, oid, self.run.relocation)
        self.effects.watch()
        return self.execute(resumption.run)

    def _restore_files(self, oid: Oid) -> None:
        """Makes the files that the program wrote what they were; before anything that holds one of them open is loaded."""
        self.effects.sequence = read_sequence(self.repository, oid)
        take_back(self.effects.journal, self.effects.sequence)
        files = read_files(self.repository, oid)
        for problem in put_back(files):
            print(f"dartvc: a file is not as it was: {problem}", file=sys.stderr)
        self.effects.written.update((state.path, None) for state in files)

    def _give_data(self, loaded: LoadedRun) -> None:
        """Gives the user's modules the data that they had."""
        for path, text in loaded.sources.items():
            if self.sources.find(path) is None:
                self.sources.add(path, text)
        for name, data in loaded.module_data.items():
            if name in sys.modules:
                vars(sys.modules[name]).update(with_interned_keys(data))

    def _file_of(self, module: str, recorded: str) -> str:
        if module == "__main__":
            return self.run.script
        if self.sources.find(recorded) is not None:
            return recorded
        __import__(module)
        return str(getattr(sys.modules[module], "__file__", recorded))

    def _namespace_of(self, module: str) -> dict[str, Any]:
        if module == "__main__":
            return self.main.__dict__
        __import__(module)
        return vars(sys.modules[module])


def _reuse_of(runner: _Runner, mode: str) -> Reuse | None:
    if not mode:
        return None
    from dartvc.lineage.reusing import Reuse

    return Reuse(runner.repository, runner.sources, runner.main.__dict__, runner.run.folder, is_partial=mode == "partial")


def run_script(repository: Repository, script: str, argv: Sequence[str], options: RunOptions, *, module: str = "") -> int:
    """Runs a script, a notebook or a module from its beginning; returns its exit code.

    Args:
        script: the path of its source.
        argv: the program's arguments, itself first.
        module: its dotted name, where it is run as ``python -m`` does.
    """
    path = os.path.abspath(script)
    root = str(repository.root)
    seed = os.environ.get("PYTHONHASHSEED", "")
    run = Run(new_id(), path, tuple(argv), os.getcwd(), module, seed, arguments=options.arguments, project=root, moved_from=root)
    return _Runner(repository, run, options, read_program(path)).start()


def resume_script(
    repository: Repository, run: Run, oid: Oid, text: str, options: RunOptions, *, from_start: bool, sets: dict[str, str]
) -> int:
    """Continues a run from a commit, or begins it again when that commit is its start; returns its exit code."""
    if run.moved_from != run.project and run.cwd.startswith(run.project):
        os.makedirs(run.cwd, exist_ok=True)
    os.chdir(run.cwd) if os.path.isdir(run.cwd) else None
    runner = _Runner(repository, run, options, text)
    if from_start:
        take_back(repository.path / "runs" / run.run_id, 0)
        return runner.start()
    try:
        return runner.go_on(oid, sets)
    except (NotResumable, Unloadable) as reason:
        runner.session.close()
        raise RefusedError(
            f"{oid[:8]} cannot be continued here: {reason}", kind="not-resumable", hint="dvc-state runs; dvc-state resume REV"
        ) from reason


def main_module(run: Run) -> types.ModuleType:
    """Makes this process look as if Python had been started with the script."""
    main = types.ModuleType("__main__")
    main.__file__ = run.script
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    main.__annotations__ = {}
    vars(main)["__cached__"] = None
    sys.modules["__main__"] = main
    sys.argv[:] = [run.script if run.module or not run.argv else run.argv[0], *run.argv[1:]]
    sys.path[0:1] = [run.cwd if run.module else os.path.dirname(run.script)]
    if run.module:
        main.__package__ = run.module.rpartition(".")[0]
        main.__spec__ = importlib.util.find_spec(run.module)
    return main


def _set_values(loaded: LoadedRun, sets: dict[str, str]) -> None:
    import ast

    for name, text in sets.items():
        try:
            value: object = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if name in loaded.namespace:
            loaded.namespace[name] = value
        for frame in loaded.frames:
            if name in frame.values:
                frame.values[name] = value
            if name in frame.cells:
                frame.cells[name].cell_contents = value


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


def _is_ours(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("dartvc.") or is_trampoline(frame.f_code)


def _print_exception(error: BaseException) -> None:
    """Shows a traceback of the user's own frames."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    before = trace
    while before is not None and before.tb_next is not None:
        if _is_ours(before.tb_next.tb_frame):
            before.tb_next = before.tb_next.tb_next
        else:
            before = before.tb_next
    error.__traceback__ = trace
    sys.excepthook(type(error), error, trace)


@contextmanager
def _silence() -> Iterator[None]:
    out, err = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err

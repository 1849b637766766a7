"""An ordinary script as ``__main__`` of this process, committed as it runs; and the same script continued from a commit."""

from __future__ import annotations

import builtins
import gc
import importlib.util
import itertools
import linecache
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dartvc.errors import DartvcError, RefusedError
from dartvc.hindsight.journal import forget_tail
from dartvc.history import Repository
from dartvc.host.entropy import new_id
from dartvc.host.places import config_folder
from dartvc.model import CommitKind, Oid
from dartvc.model.records import NamedTuple
from dartvc.program.capture import Reader
from dartvc.program.coroutines import COROUTINES, is_loop_pass, run_module, runs_module, why_not_at_loop
from dartvc.program.effects import Effects, put_back
from dartvc.program.frames import is_supported
from dartvc.program.generators import GeneratorCodec
from dartvc.program.places import NotResumable
from dartvc.program.sources import MODULE_SCOPE, Sources, SourceUnit
from dartvc.program.stopping import iter_stack
from dartvc.program.watched import written_stack
from dartvc.sessions import Session
from dartvc.sessions.pacing import Pace
from dartvc.sessions.runs import Run, RunRecorder
from dartvc.sessions.tally import describe_tally
from dartvc.sessions.traces import Trace, headline_of
from dartvc.shims.preamble import Preamble
from dartvc.shims.safepoints import SafePoints
from dartvc.shims.signals import SIGNALLED, Signals
from dartvc.shims.texts import is_archive, needs_shell, read_program
from dartvc.state import strings
from dartvc.state.adapters.loaders import watch_workers
from dartvc.state.hooks import restore_hooks, watch_exits
from dartvc.state.loading import Unloadable
from dartvc.store.durable import storage_errors

if TYPE_CHECKING:
    from dartvc.lineage.reusing import Reuse
    from dartvc.program.capture import CapturedFrame
    from dartvc.shims.endings import AtomicEnding

__all__ = ["RunOptions", "main_module", "resume_script", "run_script"]

_EDITED_SHOWN = 3
_UNKEPT_SHOWN = 5


class RunOptions(NamedTuple):
    """How a run commits."""

    max_overhead: float = 0.01
    every_s: float = 0.0
    grace_s: float = 5.0
    """How long SIGTERM waits for a safe point."""
    arguments: Mapping[str, str] = types.MappingProxyType({})
    is_atomic: bool = False
    """Its effects stand as a whole or not at all."""
    reuse: str = ""
    """``full`` or ``partial``: work already done is not done again."""
    fixed: Mapping[str, str] = types.MappingProxyType({})
    """Texts of modules that a resumed program imports in place of what their files hold, by path."""
    replaced: Mapping[str, str] = types.MappingProxyType({})
    """Texts that ran, of files that were edited and go on as they are now."""


class _Arguments(dict[str, str]):
    """What a run was given for ``dartvc.arg``; knows what was asked for."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


class _Runner:
    """Runs one script in this process."""

    def __init__(self, repository: Repository, run: Run, options: RunOptions, unit: SourceUnit, parent: Oid | None = None) -> None:
        text = unit.text
        self.repository = repository
        self.options = options
        self.run = run
        self.main = main_module(run, text)
        self.sources = Sources()
        self.unit = self.sources.put(unit)
        linecache.cache[run.script] = (len(text), None, text.splitlines(keepends=True), run.script)
        self.reader = Reader(self.sources)
        self.ending: AtomicEnding | None = None
        if options.is_atomic:
            from dartvc.sessions.atomic import AtomicSession
            from dartvc.shims.endings import AtomicEnding

            self.ending = AtomicEnding(repository, run.run_id)
            self.session: Session = AtomicSession(repository, self.main.__dict__, run.run_id, parent)
        else:
            self.session = Session(repository, self.main.__dict__)
        self.session.arguments = self.arguments = _Arguments(run.arguments)
        self.session.run_id = run.run_id
        self.session.register()
        self.session.working.generators = GeneratorCodec(self.reader)
        self.session.working.keeps_strings = strings.is_supported()
        journal = repository.path / "runs" / run.run_id
        with storage_errors(journal):
            journal.mkdir(parents=True, exist_ok=True)
        ignored = (str(repository.path), str(config_folder()))
        self.effects = Effects(journal, ignored, on_fork=watch_workers, is_atomic=options.is_atomic)
        self.recorder = RunRecorder(self.session, run, {run.script: text}, self.effects)
        pace = Pace(options.max_overhead, options.every_s)
        self.preamble = Preamble(self.unit, self.recorder.files.is_own)
        self.points = SafePoints(self.reader, self.recorder, pace, self._is_user, self._stack_of, self._around_commit, self.preamble.look)
        self.signals = Signals(self.points.request_anew, self.session.close, self.recorder.standing, options.grace_s)
        self.reuse = _reuse_of(self, options.reuse)
        self._assembled_before = 0
        self._is_resumed = parent is not None
        if self.reuse is not None:
            self.session.working.plain_code = self.reuse.compiler.plain
            self.reader.written = self.reuse.compiler.written
            self.points.aside = self.reuse.witness.looking_away
        gc.freeze()  # what is ours is not walked again by each collection of the program's
        gc.enable()

    def _is_user(self, code: types.CodeType) -> bool:
        return code.co_filename == self.run.script or self.recorder.files.is_own(code.co_filename) or is_loop_pass(code)

    def _around_commit(self) -> AbstractContextManager[None]:
        self._count_assembled()
        self.recorder.tally.is_preempted = self.signals.is_ending
        return self.signals.held_back()

    def _count_assembled(self) -> None:
        if self.reuse is not None:
            self.session.approximate = self._assembled_before + self.reuse.approximate

    def _stack_of(self, frame: types.FrameType) -> list[types.FrameType]:
        stack = written_stack(iter_stack(frame))
        while stack and not self._is_outermost(stack[-1]):
            stack.pop()
        if not stack:
            raise NotResumable("the script's own frame is not on the stack")
        reason = why_not_at_loop(stack, self.reader)
        if reason:
            raise NotResumable(reason)
        return stack

    def _is_outermost(self, frame: types.FrameType) -> bool:
        if frame.f_globals is self.main.__dict__ and frame.f_code.co_name == MODULE_SCOPE:
            return not frame.f_code.co_flags & COROUTINES
        return runs_module(frame)

    # -- running --------------------------------------------------------------------------------------------------------------

    def execute(self, body: Callable[[], None]) -> int:
        """Runs the program and returns its exit code, as Python would."""
        forget_tail(self.repository.path / "runs" / self.run.run_id)
        if is_supported():
            self.signals.install()
            self.points.pacer.start()
        failure: BaseException | None = None
        try:
            body()
        except SystemExit as stop:
            code = _exit_code(stop)
        except KeyboardInterrupt as interrupt:
            code, failure = SIGNALLED + signal.SIGINT, interrupt
        except BaseException as raised:
            code, failure = 1, raised
        else:
            code = 0
        failure, code = self.signals.end(failure, code)
        if failure is not None:
            _print_failure(failure, self.run.script, self.unit.text)
        self.points.pacer.stop()
        self.points.stopper.cancel()
        self.preamble.end()
        if self.reuse is not None and self.reuse.program is not None:
            self.reuse.program.end(self._why_not_again(code, failure))
        self._finish(code, failure)
        if self.ending is not None:
            self.ending.code, self.ending.effects = code, self.effects
        return code

    def _finish(self, code: int, failure: BaseException | None) -> None:
        error = headline_of(failure) if failure is not None else ""
        try:
            remark = ""
            if self.reuse is not None:
                self.reuse.leave()
                self.recorder.further.update(self.reuse.recorded_paths(self.run))
                self._count_assembled()
                if self.session.approximate:
                    remark = f" (approximate: {self.session.approximate} results assembled from parts)"
            if not (self.recorder.tally.commits or self._is_resumed):
                self.session.working.keeps_strings = False  # nothing goes on from the last commit, and no other has these values
            kind = CommitKind.EXCEPTION if error else CommitKind.END
            trace = Trace.of(failure, self._is_user, self.main.__dict__) if failure is not None else None
            ticket = self.recorder.commit((), (error or f"exit {code}") + remark, kind, error=error, exit_code=code, trace=trace)
            self.session.close()
            self.recorder.report_failures()
            if ticket is not None and ticket.error is not None:
                print(f"dartvc: the end of the run was not committed: {ticket.error}", file=sys.stderr)
            if self.reuse is not None:
                self.reuse.finish(ticket.oid if ticket is not None else None)
        except Exception as failure:
            print(f"dartvc: the end of the run was not committed: {failure}", file=sys.stderr)
        for path, reason in itertools.islice(self.effects.unkept.items(), _UNKEPT_SHOWN):
            print(f"dartvc: {path} was changed, and what it held before could not be kept ({reason}): no resume brings it back", file=sys.stderr)
        tally = self.recorder.tally
        if (tally.commits and (code or sys.stderr.isatty())) or (tally.refusal and not tally.commits):
            self._tell(error)

    def _why_not_again(self, code: int, failure: BaseException | None) -> str:
        """Returns why a run that ends like this is never answered by it; empty when nothing speaks against that."""
        if failure is not None:
            return "it raised an exception"
        if code:
            return f"it ended with exit code {code}"
        return "it logs values" if self.session.log_source is not None else ""

    def _tell(self, error: str) -> None:
        """Says what the commits of the run have cost, and where an interrupted one goes on."""
        tally = self.recorder.tally
        print(f"dartvc: {describe_tally(tally.described())}", file=sys.stderr)
        if error and tally.commits:
            print("dartvc: dvc-state resume goes on from the last commit", file=sys.stderr)

    def start(self) -> int:
        """Runs the script from its beginning."""
        watch_exits(self._is_user)
        if self.ending is not None:
            self.ending.begin(self.session)
        self.recorder.commit((), f"run {os.path.basename(self.run.script)}", CommitKind.START)
        with suppress(DartvcError):  # the next commit stores everything then
            self.session.flush()  # before the program does anything that could not be taken back without it
        self.effects.watch()
        code = self.unit.code
        if self.reuse is not None:
            if self.ending is None:
                self.reuse.observe(self.run, self.unit.text)
            self.reuse.install()
            code = self.reuse.compile(self.run.script, self.unit.text)
        if is_supported():
            self.preamble.begin(code)
        status = self.execute(lambda: run_module(code, self.main.__dict__))
        if not status:
            self._tell_unasked()
        return status

    def _tell_unasked(self) -> None:
        """Says which settings changed nothing, because the program has no ``dartvc.arg`` of their names."""
        for name in self.arguments:
            if name not in self.arguments.asked:
                others = ", ".join(sorted(self.arguments.asked)) or "nothing"
                print(f"dartvc: --set {name} changed nothing: no dartvc.arg({name!r}) was asked for, but {others}", file=sys.stderr)

    def go_on(self, oid: Oid, sets: dict[str, str], map_device: str) -> int:
        """Continues from a commit."""
        from dartvc.sessions.recorded import read_modules
        from dartvc.sessions.relocation import follow_imports, follow_process

        self.session.approximate = self._assembled_before = self.repository.commit(oid, with_refs=False).approximate
        if self.reuse is not None:
            self.reuse.begin_in_the_middle()
            self.reuse.compile(self.run.script, self.unit.text)
        follow_imports(self.repository, oid, self.run.relocation)
        self.preamble.begin()
        if self.options.fixed:
            from dartvc.shims.fixing import import_as_recorded

            import_as_recorded(self.options.fixed)
        with _silence():  # what they print was printed when they were first imported
            for name in read_modules(self.repository, oid):
                __import__(name)
        if not self.recorder.user_modules():
            gc.freeze()  # libraries' objects alone: none of the program's is there yet
        self.preamble.end()
        if self.ending is not None:
            self.ending.begin(self.session)
        self._restore_files(oid)
        body = self._load(oid, sets, map_device)
        follow_process(self.repository, oid, self.run.relocation)
        self.effects.watch()
        return self.execute(body)

    def _load(self, oid: Oid, sets: dict[str, str], map_device: str) -> Callable[[], None]:
        """Gives the program what it held at a commit; returns its rest. Nobody but the program holds its values afterwards."""
        from dartvc.program.resuming import Resumption
        from dartvc.sessions.recorded import load_run
        from dartvc.sessions.restoring import version_of

        self.sources.note_recorded(self.options.replaced)
        generators = self.session.working.generators
        loaded = load_run(self.repository, oid, self.run, self.main.__dict__, generators, version_of, map_device)
        for note in loaded.notes:
            print(f"dartvc: {note}", file=sys.stderr)
        if needs_shell(self.run.script, self.unit.text):
            own = next((each for each in loaded.frames if each.qualname == MODULE_SCOPE), None)
            self._set_up_shell(own.line if own is not None else None)
        watch_exits(self._is_user)
        self.sources.supply(loaded.sources)
        loaded.set_values(sets)
        loaded.give_globals(self.main.__dict__)
        edits = self.sources.edited()
        if edits:
            from dartvc.program.edits import renew_functions

            renew_functions(edits)
        if self.reuse is not None:
            self.reuse.adopt_all(self.main.__dict__)
        resumption = Resumption(loaded.frames, self.reader, self._file_of, self._namespace_of)
        self._define_new(loaded.frames[0])
        self.session.adopt_run(oid, loaded.versions, loaded.values)
        restore_hooks(loaded.values)
        return resumption.run

    def _define_new(self, outermost: CapturedFrame) -> None:
        """Makes what an edited script defines anew before the place where it goes on; says what else was edited there."""
        old = self.sources.recorded(self.run.script)
        if old is None:
            return
        from dartvc.program.edits import define_new

        for line in define_new(old, self.unit, outermost.path[0][1], self.main.__dict__)[:_EDITED_SHOWN]:
            print(f"dartvc: line {line} of {os.path.basename(self.run.script)} was edited, and has run already: --set NAME=VALUE changes a variable", file=sys.stderr)

    def _set_up_shell(self, line: int | None) -> None:
        with suppress(ImportError), _silence():
            from dartvc.shims.notebook import set_up_figures

            set_up_figures("\n".join(self.unit.text.split("\n")[:line]))

    def _restore_files(self, oid: Oid) -> None:
        """Makes the files that the program wrote what they were; before anything that holds one of them open is loaded."""
        from dartvc.program.rollback import go_back
        from dartvc.sessions.recorded import read_effects, read_files, read_sequence

        self.effects.sequence = read_sequence(self.repository, oid)
        self.effects.acts.begin(read_effects(self.repository, oid))
        files = read_files(self.repository, oid)
        problems = go_back(self.effects.journal, self.effects.sequence, {state.path: state.content for state in files})
        if self.ending is not None:
            self.effects.keep_before(state.path for state in files)
        for problem in (*problems, *put_back(files)):
            print(f"dartvc: a file is not as it was: {problem}", file=sys.stderr)
        self.effects.adopt(files)
        assert self.recorder.ledger is not None
        self.recorder.ledger.adopt(self.repository, self.repository.process(oid))

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

    return Reuse(runner.repository, runner.sources, runner.main.__dict__, runner.run.folder, runner.run.script, is_partial=mode == "partial")


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
    run = Run(new_id(), path, tuple(argv), os.getcwd(), module, seed, arguments=options.arguments, project=root, reuse=options.reuse, moved_from=root)
    try:
        text = read_program(path)
    except (SyntaxError, UnicodeDecodeError) as error:
        _print_refusal(error, path, "")
        return 1
    if options.reuse and not options.is_atomic:
        from dartvc.shims.answering import answer_run

        if answer_run(repository, run, text):
            return 0
    unit = _compiled(path, text)
    return _Runner(repository, run, options, unit).start() if unit is not None else 1


def resume_script(
    repository: Repository, run: Run, oid: Oid, text: str, options: RunOptions, *, from_start: bool, sets: dict[str, str], map_device: str
) -> int:
    """Continues a run from a commit, or begins it again when that commit is its start; returns its exit code."""
    if run.moved_from != run.project and run.cwd.startswith(run.project):
        os.makedirs(run.cwd, exist_ok=True)
    os.chdir(run.cwd) if os.path.isdir(run.cwd) else None
    unit = _compiled(run.script, text)
    if unit is None:
        return 1
    runner = _Runner(repository, run, options, unit, oid)
    if from_start:
        from dartvc.program.rollback import take_back

        for problem in take_back(repository.path / "runs" / run.run_id, 0).problems:
            print(f"dartvc: a file is not as it was: {problem}", file=sys.stderr)
        return runner.start()
    try:
        return runner.go_on(oid, sets, map_device)
    except (NotResumable, Unloadable) as reason:
        runner.session.close()
        raise RefusedError(
            f"{oid[:8]} cannot be continued here: {reason}",
            kind="not-resumable",
            hint="dvc-state resume --code recorded" if runner.sources.edited() else "dvc-state runs; dvc-state resume REV",
        ) from reason


def main_module(run: Run, text: str) -> types.ModuleType:
    """Makes this process look as if Python had been started with the script, or IPython with the notebook."""
    main = types.ModuleType("__main__")
    is_in_archive = is_archive(run.script)
    main.__file__ = os.path.join(run.script, "__main__.py") if is_in_archive else run.script
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    main.__annotations__ = {}
    vars(main)["__cached__"] = None
    sys.modules["__main__"] = main
    sys.argv[:] = [run.script if run.module or not run.argv else run.argv[0], *run.argv[1:]]
    sys.path[0:1] = [run.cwd if run.module else run.script if is_in_archive else os.path.dirname(run.script)]
    if run.module:
        main.__package__ = run.module.rpartition(".")[0]
        main.__spec__ = importlib.util.find_spec(run.module)
    if needs_shell(run.script, text):
        with suppress(ImportError):  # magics have been refused; the program may have a `display` of its own
            from dartvc.shims.notebook import open_shell

            open_shell(main)
    return main


def _compiled(script: str, text: str) -> SourceUnit | None:
    """Returns what a program's text compiles to; None when it does not, which has been said as Python says it."""
    try:
        return SourceUnit(script, text)
    except (SyntaxError, ValueError) as error:  # null bytes are no syntax error before Python 3.12
        _print_refusal(error, script, text)
        return None


def _print_refusal(error: BaseException, script: str, text: str) -> None:
    """Shows what the compiler says, without what led to the compiler."""
    error.__context__ = None
    _print_failure(error.with_traceback(None), script, text)


def _print_failure(error: BaseException, script: str, text: str) -> None:
    from dartvc.shims.failures import print_failure  # most programs end well

    print_failure(error, script, text)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


@contextmanager
def _silence() -> Iterator[None]:
    out, err = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err

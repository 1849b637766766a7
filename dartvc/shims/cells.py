"""Cells that take long: committed while they run, and continued inside after the kernel was killed.

IPython compiles a cell statement by statement under a file name of its own. Here its frames are found on the stack, and a cell that goes
on is given back to IPython as the statements that it has still to run: output, Ctrl-C and tracebacks are those of any cell.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import shlex
import shutil
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dartvc.errors import DartvcError, RefusedError, UsageError
from dartvc.model import Commit, Oid, short
from dartvc.porcelain.moves import checkout
from dartvc.program.capture import CaptureError, Reader
from dartvc.program.cells import FEATURES, add_cell, announce, continuation
from dartvc.program.frames import is_supported
from dartvc.program.generators import GeneratorCodec
from dartvc.program.places import NotResumable
from dartvc.program.resuming import Resumption
from dartvc.program.rollback import go_back
from dartvc.program.sources import MODULE_SCOPE, Sources
from dartvc.program.stopping import iter_stack
from dartvc.program.watched import written_stack
from dartvc.sessions import Session
from dartvc.sessions.cells import (
    Cell,
    CellRecorder,
    CellText,
    find_cell,
    find_interrupted,
    journal_of,
    load_cell,
    missing_locals,
    read_cell_texts,
)
from dartvc.sessions.pacing import Pace
from dartvc.sessions.recorded import LoadedRun, read_modules, read_sequence
from dartvc.shims.safepoints import SafePoints
from dartvc.state.loading import Unloadable

if TYPE_CHECKING:
    from dartvc.lineage.reusing import Reuse

__all__ = ["Cells", "is_resume"]

_RESUME = re.compile(r"\s*%dvc[_-]state\s+resume\b")
_CELL_FILE = re.compile(r"<ipython-input-\d+-|.*[/\\]ipykernel_\d+[/\\][^/\\]+$")
_LOOKED_AT = 50
"""How many commits back a cell is looked for that was interrupted."""
_DEFINES = re.compile(r"\b(?:def|lambda|class)\b")
_SHELL = ("IPython", "ipykernel", "traitlets")


def is_resume(code: str) -> bool:
    """Whether a cell is the command that goes on with another."""
    return _RESUME.match(code) is not None


class Cells:
    """The safe points of one shell.

    Args:
        shell: IPython's.
        session: attached to its namespace.
    """

    def __init__(self, shell: Any, session: Session) -> None:
        self._shell = shell
        self._session = session
        self._reader = Reader(Sources())
        self._generators = GeneratorCodec(self._reader)
        self._recorder = CellRecorder(session, os.getcwd(), self._generators)
        self._points = SafePoints(self._reader, self._recorder, Pace(), self._is_user, self._stack_of)
        self._reuse: Reuse | None = None
        self._seen = 0
        self._info: Any = None
        self._cell: Cell | None = None
        self._begun: Sequence[types.CodeType] = ()
        self._refusal: DartvcError | None = None
        self._is_watching = False

    @property
    def sources(self) -> Sources:
        """The texts of the cells that may be on a stack, and of files."""
        return self._reader.sources

    def watched_by(self, reuse: Reuse) -> None:
        """Takes note of who instruments cells from now on."""
        self._reuse = reuse
        self._reader.written = reuse.compiler.written
        self._points.aside = reuse.witness.looking_away

    # -- a cell runs --------------------------------------------------------------------------------------------------------

    def begin(self, info: Any) -> None:
        """A cell begins; costs microseconds."""
        if not is_supported() or threading.current_thread() is not threading.main_thread():
            return
        self._info = info
        self._begun = ()
        self._refusal = None
        if is_resume(info.raw_cell or ""):
            self._shell.ast_transformers.append(self)
        self._points.pacer.begin()

    def end(self) -> str | None:
        """A cell ended; returns the text of the cell that went on in it, None when it was one of its own."""
        if self._info is None:
            return None
        self._points.pacer.pause()
        self._points.stopper.cancel()
        self._recorder.effects.is_paused = True
        if self in self._shell.ast_transformers:  # it could not be compiled
            self._shell.ast_transformers.remove(self)
        cell, self._cell, self._info = self._cell, None, None
        if cell is not None:
            shutil.rmtree(journal_of(self._session.repository, cell.cell_id), ignore_errors=True)
        return cell.code if cell is not None and self._begun else None

    def close(self) -> None:
        """Ends the thread."""
        self._points.pacer.stop()

    def request(self) -> None:
        """Asks for a commit at the next safe point."""
        self._points.request_anew()

    # -- safe points --------------------------------------------------------------------------------------------------------

    def is_cell(self, filename: str) -> bool:
        """Whether a file name is that of a cell."""
        return filename in getattr(self._shell.compile, "_filename_map", ()) or _CELL_FILE.match(filename) is not None

    def shown_file(self, filename: str) -> str:
        """Returns ``In[3]`` for a cell, else the end of the path."""
        number = getattr(self._shell.compile, "_filename_map", {}).get(filename)
        return f"In[{number}]" if number is not None else os.path.basename(filename)

    def _is_user(self, code: types.CodeType) -> bool:
        return self.is_cell(code.co_filename) or self._recorder.files.is_own(code.co_filename)

    def _stack_of(self, frame: types.FrameType) -> list[types.FrameType]:
        if self._info is None:
            raise NotResumable("no cell is running")
        stack = written_stack(iter_stack(frame))
        while stack and not self._is_outermost(stack[-1]):
            stack.pop()
        if not stack:
            raise NotResumable("the cell's own frame is not on the stack")
        outermost = stack[-1]
        if any(str(each.f_globals.get("__name__", "")).partition(".")[0] in _SHELL for each in stack):
            raise CaptureError("a magic is running", outermost)
        filename = outermost.f_code.co_filename
        self._learn()
        text = self._recorder.texts.get(filename) or self._learn_cell(filename)
        unit = add_cell(self.sources, filename, text.text, text.flags)
        if unit is None:
            raise NotResumable("the cell is no plain Python")
        watched = self._reuse.compiler.statements(filename) if self._reuse is not None else ()
        try:
            announce(self._reader, unit, outermost.f_code, (*self._begun, *watched))
        except NotResumable as reason:
            raise CaptureError(str(reason), outermost) from None
        self._enter(filename, text)
        return stack

    def _is_outermost(self, frame: types.FrameType) -> bool:
        code = frame.f_code
        return frame.f_globals is self._session.namespace and code.co_name == MODULE_SCOPE and self.is_cell(code.co_filename)

    def _enter(self, filename: str, text: CellText) -> None:
        """Prepares the first commit of the cell."""
        if self._cell is None:
            root = str(self._session.repository.root)
            self._cell = Cell.begun(text.number, filename, self._info.raw_cell or text.text, self._session.head, root)
            self._recorder.begin(self._cell)
            self._watch()

    def _watch(self) -> None:
        effects = self._recorder.effects
        effects.sequence = 0
        effects.is_paused = False
        if not self._is_watching:
            self._is_watching = True
            folders = (str(self._session.repository.path), str(getattr(self._shell, "ipython_dir", "")))
            effects.ignored = tuple(each for each in folders if each)
            effects.watch()

    def _learn(self) -> None:
        """Takes note of the cells that ran since the last look and define what may be on a stack later."""
        names: dict[str, int] = getattr(self._shell.compile, "_filename_map", {})
        for filename in list(names)[self._seen :]:
            entry = linecache.cache.get(filename)
            if entry is not None and len(entry) == 4 and any(_DEFINES.search(line) for line in entry[2]):
                self._learn_cell(filename)
        self._seen = len(names)

    def _learn_cell(self, filename: str) -> CellText:
        text = "".join(linecache.getlines(filename))
        number = getattr(self._shell.compile, "_filename_map", {}).get(filename, self._shell.execution_count)
        learned = CellText(text, self._shell.compile.flags & FEATURES, number)
        self._recorder.learn(filename, learned)
        add_cell(self.sources, filename, learned.text, learned.flags)
        return learned

    # -- going on -----------------------------------------------------------------------------------------------------------

    def interrupted(self, *, is_before: bool = False) -> str:
        """Returns a line about the cell that HEAD stands in, or, if asked for, one that was interrupted shortly before it; empty when there is none."""
        head = self._session.head
        commit = find_interrupted(self._session.repository, head, _LOOKED_AT if is_before else 1) if head is not None else None
        if commit is None or commit.position is None:
            return ""
        place = commit.position
        where = f", in {place.function}" if place.function != MODULE_SCOPE else ""
        command = "%dvc_state resume" if commit.oid == head else f"%dvc_state resume {short(commit.oid)}"
        return f"a cell was interrupted at {os.path.basename(place.file)}:{place.line}{where}; {command} goes on inside it"

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """While HEAD's state is loaded: makes the code of its cells known, and its generators."""
        head = self._session.head
        if head is not None and self._session.repository.is_trusted(head):
            self._learn_recorded(head)
        self._session.working.generators = self._generators
        try:
            yield
        finally:
            self._session.working.generators = None

    def _learn_recorded(self, oid: Oid) -> None:
        for filename, text in read_cell_texts(self._session.repository, oid).items():
            if filename not in self._recorder.texts and add_cell(self.sources, filename, text.text, text.flags) is not None:
                self._recorder.learn(filename, text)
                linecache.cache[filename] = (len(text.text), None, text.text.splitlines(keepends=True), filename)

    def refused(self) -> tuple[int, str, str]:
        """Returns (exit code, output, messages) of the command where no cell took its place."""
        error = self._refusal or UsageError(
            "a cell goes on in a cell of its own", kind="bad-resume", hint="%dvc_state resume, alone, at the prompt or in a cell"
        )
        return error.exit_code, "", f"error: {error.message}\n" + (f"  {error.hint}\n" if error.hint else "")

    def visit(self, tree: ast.Module) -> ast.Module:
        """Puts the rest of the interrupted cell in place of the command; IPython calls it as a transformer of syntax trees."""
        self._shell.ast_transformers.remove(self)
        self._points.pacer.pause()
        try:
            words = shlex.split(self._info.raw_cell)[2:]
            return ast.Module(self._resume(words), [])
        except (NotResumable, Unloadable) as reason:
            self._refusal = RefusedError(f"the cell cannot go on here: {reason}", kind="not-resumable", hint="dvc-state log; resume REV")
        except DartvcError as error:
            self._refusal = error
        except Exception as error:  # IPython would drop the transformer and run the command as if nothing had been
            self._refusal = RefusedError(
                f"the cell cannot go on here: {type(error).__name__}: {error}", kind="not-resumable", hint="dvc-state log"
            )
        finally:
            self._points.pacer.begin()
        return tree

    def _resume(self, words: Sequence[str]) -> list[ast.stmt]:
        trust = "--trust" in words
        revisions = [word for word in words if word != "--trust"]
        if len(revisions) > 1 or any(word.startswith("-") for word in revisions):
            raise UsageError("a cell is resumed with nothing but a revision and --trust", kind="bad-resume", hint="%dvc_state resume [REV]")
        session = self._session
        repository = session.repository
        session.flush()
        head = session.head
        if head is None:
            raise RefusedError("there is no commit to go on from", kind="nothing-to-resume", hint="run a cell first")
        oid = repository.resolve(revisions[0], head=head) if revisions else head
        found = find_cell(repository, oid)
        commit = found[0] if found is not None else repository.commit(oid)
        if repository.is_trusted(commit.oid) or trust:
            self._learn_recorded(commit.oid)
        self._go_to(commit.oid, trust, is_head=oid == head)
        if found is None:
            missing = missing_locals(repository, oid)
            why = f"could not store {', '.join(missing)}, so that its cell cannot go on" if missing else "stands at the end of a cell"
            print(f"dartvc: {short(oid)} {why}; its variables are restored", file=sys.stderr)
            if not revisions and not missing and (interrupted := self.interrupted(is_before=True)):
                print(f"dartvc: {interrupted}", file=sys.stderr)
            return []
        return self._continue(*found)

    def _go_to(self, oid: Oid, trust: bool, *, is_head: bool) -> None:
        """Brings the namespace and HEAD to a commit; from HEAD on, the branch goes with them."""
        session = self._session
        with self.restoring():
            if is_head and (session.working.known() or not session.working.names()):  # what ran since would have moved HEAD
                session.restore(oid, trust=trust)
                if oid != session.head:
                    session.set_head(oid, session.branch, operation="resume", description=f"resume {short(oid)}")
            else:
                checkout(session.repository, session, oid, trust=trust)

    def _continue(self, commit: Commit, cell: Cell) -> list[ast.stmt]:
        session = self._session
        for name in read_modules(session.repository, commit.oid):
            __import__(name)
        sequence = read_sequence(session.repository, commit.oid)
        journal = journal_of(session.repository, cell.cell_id)
        for problem in go_back(journal, sequence):
            print(f"dartvc: a file is not as it was: {problem}", file=sys.stderr)
        with self.restoring():
            loaded = load_cell(session, commit, cell, self._generators)
            filename, text = self._own_file(loaded, cell)
            resumption = Resumption(loaded.frames, self._reader, self._file_of, self._namespace_of)
            statements, self._begun = continuation(loaded.frames[0], self._reader, filename)
            self._reader.sources.supply(loaded.sources)
            loaded.give_globals(session.namespace)
            session.adopt_run(commit.oid, loaded.versions, loaded.values, Oid(cell.base))
        resumption.install()
        self._shell.compile.flags |= text.flags
        self._cell = Cell(cell.cell_id, text.number, filename, cell.code, cell.base, str(session.repository.root))
        self._recorder.begin(self._cell)
        self._watch()
        self._recorder.effects.sequence = sequence
        if text.text.rstrip().endswith(";"):
            statements.append(ast.copy_location(ast.Pass(), statements[-1]))  # its last value was not to be shown
        return statements

    def _own_file(self, loaded: LoadedRun, cell: Cell) -> tuple[str, CellText]:
        """Gives the text of the cell that goes on to the file name of this one."""
        recorded = self._recorder.texts.get(cell.filename)
        if recorded is None:
            raise NotResumable("the text of the cell is not in the commit")
        info = self._info
        number = self._shell.execution_count - bool(info.store_history)
        transformed = getattr(info, "transformed_cell", None) or self._shell.transform_cell(info.raw_cell)
        filename = self._shell.compile.get_code_name(info.raw_cell, transformed, number)
        linecache.cache[filename] = (len(recorded.text), None, recorded.text.splitlines(keepends=True), filename)
        text = CellText(recorded.text, recorded.flags, number)
        self._recorder.learn(filename, text)
        if add_cell(self.sources, filename, text.text, text.flags) is None:
            raise NotResumable("the text of the cell is no Python")
        return filename, text

    def _file_of(self, module: str, recorded: str) -> str:
        if self._reader.sources.find(recorded) is not None:
            return recorded
        return str(getattr(sys.modules.get(module), "__file__", recorded))

    def _namespace_of(self, module: str) -> dict[str, Any]:
        if module == self._session.working.main_name:
            return self._session.namespace
        __import__(module)
        return vars(sys.modules[module])

"""The IPython extension: ``%load_ext dartvc`` commits after every cell, in plain IPython, Jupyter and VS Code kernels alike."""

from __future__ import annotations

import re
import shlex
import sys
import time
from typing import Any

from dartvc.errors import DartvcError
from dartvc.history import Repository
from dartvc.sessions import Session, open_sessions
from dartvc.sessions.outages import Outage
from dartvc.shims.cells import Cells
from dartvc.shims.prompt import answer, parting
from dartvc.shims.reusing import CellReuse
from dartvc.state.candidates import names_in_source

__all__ = ["load_extension", "unload_extension"]

_ATTRIBUTE = "_dartvc_shim"
_ERROR = "error: "
_BRACED = re.compile(r"([@^])\{([^{}]*)\}")
_CALLERS = 4
"""Frames between where variables are put in and the code that the magic stands in."""


class _Shim:
    """Joins one IPython shell to one session."""

    def __init__(self, shell: Any, session: Session) -> None:
        self.shell = shell
        self.session = session
        self.cells = Cells(shell, session)
        self.reuse = CellReuse(shell, session, self.cells)
        self._cell: Any = None
        self._began = 0.0
        self._reported: set[str] = set()
        self._outage = Outage(session)

    def attach(self) -> None:
        events = self.shell.events
        events.register("pre_run_cell", self.pre_run_cell)
        events.register("post_run_cell", self.post_run_cell)
        events.register("post_execute", self.post_execute)
        self.add_magics()
        self.session.serve(lambda argv, color: answer(self.session, argv, color))

    def add_magics(self) -> None:
        from IPython.core.magic import no_var_expand

        for name in ("dvc_state", "dvc-state"):
            self.shell.register_magic_function(no_var_expand(lambda line: self.magic(line)), "line", name)

    def detach(self) -> None:
        if self.session.run_id:
            return
        events = self.shell.events
        for name in ("pre_run_cell", "post_run_cell", "post_execute"):
            try:
                events.unregister(name, getattr(self, name))
            except ValueError:
                continue
        self.cells.close()
        self.reuse.close()
        self.session.close()

    def pre_run_cell(self, info: Any) -> None:
        """A cell begins."""
        if self._cell is None:
            self.session.begin_unit()
        else:
            self.session.is_dirty = True  # an interrupt kept the cell before from being committed
        self._cell = info
        self._began = time.perf_counter()
        self.cells.begin(info)
        self.reuse.begin(info)

    def post_run_cell(self, result: Any) -> None:
        """A cell ended: commit what it did."""
        if self._cell is None:
            return  # the cell that loaded the extension
        info, self._cell = self._cell, None
        resumed = self.cells.end()
        code = info.raw_cell or "" if resumed is None else resumed
        error = result.error_before_exec or result.error_in_exec
        line = f"{type(error).__name__}: {error}".rstrip(": ") if error is not None else ""
        quiet = not info.store_history or code.lstrip().startswith(("%dvc_state", "%dvc-state"))
        try:
            self.session.end_unit(
                code,
                source=self._source_of(info, code) if resumed is None else None,
                execution=result.execution_count if info.store_history else None,
                error=line[:500],
                duration_s=time.perf_counter() - self._began,
                quiet=quiet,
            )
            self._report()
        except Exception as error:  # nothing of ours reaches the user's program
            self._say(f"dartvc: this cell was not committed: {error}")

    def _source_of(self, info: Any, code: str) -> str | None:
        """Returns what Python ran; a line of our own magic touches nothing by itself."""
        stripped = code.strip()
        if stripped.startswith(("%dvc_state", "%dvc-state")) and "\n" not in stripped:
            return ""
        transformed = getattr(info, "transformed_cell", None)
        if isinstance(transformed, str):
            return transformed
        try:
            return str(self.shell.transform_cell(code))
        except Exception:
            return None

    def post_execute(self) -> None:
        """Silent code ran (a widget, an inspector): nothing is known of it, so the next commit looks at everything."""
        if self._cell is None:
            self.session.is_dirty = True

    def _report(self) -> None:
        """Tells once about each name that could not be stored, once when commits begin to fail, and when they go to another branch."""
        error = self._outage.begun()
        if error is not None:
            self._say(f"dartvc: nothing is being recorded: {error} (the variables are unharmed; %reload_ext dartvc begins anew)")
        if told := parting(self.session):
            self._say(told)
        for omission in self.session.last_report.omissions:
            if omission.name not in self._reported:
                self._reported.add(omission.name)
                how = "will be made again by re-running its cell" if omission.recomputable else "not stored"
                self._say(f"dartvc: {omission.path} {how}: {omission.reason}" + (f" ({omission.remedy})" if omission.remedy else ""))

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr)

    def magic(self, line: str) -> None:
        """Runs a dvc-state command line on this session; what it cannot do is raised, so that a cell stops there."""
        from IPython.core.error import UsageError

        try:
            words = shlex.split(self._expanded(line))
        except ValueError as error:
            raise UsageError(f"{error}: quote the words as in a shell") from None
        if words[:1] == ["resume"]:
            code, out, err = self.cells.refused()
        elif words[:1] == ["reuse"] and "--help" not in words:
            code, out, err = self.reuse.command(words[1:])
        else:
            if words[:1] == ["cache"]:
                self.reuse.settle()
            self._note_beside()
            code, out, err = answer(self.session, words, False)
        messages, marker, failure = err.partition(_ERROR if err.startswith(_ERROR) else f"\n{_ERROR}")
        print(out, end="")
        print(messages + "\n" * (bool(messages) and not messages.endswith("\n")), end="", file=sys.stderr)
        if marker:
            raise UsageError(failure.rstrip())
        if code not in (0, 1):
            raise UsageError(f"dvc-state exited with code {code}")

    def _note_beside(self) -> None:
        """Lets a command see what the statements before it in its cell may have changed."""
        source = self._source_of(self._cell, self._cell.raw_cell or "") if self._cell is not None else ""
        if source != "":
            self.session.working.touch_mentioned(names_in_source(source) if source is not None else None)

    def _expanded(self, line: str) -> str:
        """Returns a line with variables of the cell put in, as IPython does (``{commit}``, ``$commit``), but for git's ``@{1}`` and ``^{/text}``."""
        guarded = _BRACED.sub(lambda found: f"{found[1]}{{{{{found[2]}}}}}", line)
        expanded = str(self.shell.var_expand(guarded, depth=_CALLERS))
        return line if expanded == guarded else expanded


def load_extension(shell: Any) -> None:
    """Attaches the shell's user namespace to the repository of the working directory, made if there is none; a run commits its own already."""
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    run = next((each for each in open_sessions() if each.run_id and each.namespace is shell.user_ns), None)
    if run is not None:
        shim = _Shim(shell, run)
        setattr(shell, _ATTRIBUTE, shim)
        shim.add_magics()
        return
    try:
        try:
            repository = Repository.open()
        except DartvcError:
            repository = Repository.init()
        session = Session(repository, shell.user_ns)
        shim = _Shim(shell, session)
        setattr(shell, _ATTRIBUTE, shim)
        with shim.cells.restoring():
            report = session.restore_after_crash()
        shim.attach()
    except DartvcError as error:
        print(f"dartvc: not recording: {error.message}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return
    head = session.head
    where = f"{repository.path}, branch {session.branch or 'detached'}"
    if report is not None and head is not None:
        lost = f", {len(report.omissions)} not as they were (dvc-state status)" if report.omissions else ""
        count = len(report.written) + len(report.recomputed)
        print(f"dartvc: continued at {head[:8]}: {count} name{'s' * (count != 1)} restored{lost} ({where})", file=sys.stderr)
        for omission in report.omissions:
            print(f"dartvc: {omission.path}: {omission.reason}", file=sys.stderr)
    elif head is not None and not repository.names(head).keys() <= set(session.working.names()):
        print(f"dartvc: recording in {where}. Bring back the last state: %dvc_state checkout {head[:8]}", file=sys.stderr)
    else:
        print(f"dartvc: recording in {where}", file=sys.stderr)
    interrupted = shim.cells.interrupted()
    if interrupted:
        print(f"dartvc: {interrupted}", file=sys.stderr)


def unload_extension(shell: Any) -> None:
    """Detaches the shell; what was committed stays."""
    shim = getattr(shell, _ATTRIBUTE, None)
    if shim is not None:
        shim.detach()
        setattr(shell, _ATTRIBUTE, None)

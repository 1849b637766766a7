"""The end of an atomic run, in its own process: after the program's last word, its effects stand or are taken back."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError
from dartvc.model import short
from dartvc.program.journal import flush_writers
from dartvc.sessions.atomic import AtomicSession, Settled, begin_atomic, find_atomic, settle

if TYPE_CHECKING:
    from dartvc.history import Repository
    from dartvc.program.effects import Effects
    from dartvc.sessions import Session

__all__ = ["AtomicEnding", "describe_settled"]


class AtomicEnding:
    """Settles a run when the interpreter ends: made before the program could register anything of its own, it is the last to be called.

    Args:
        repository: where the run is recorded.
        run_id: the run.
    """

    def __init__(self, repository: Repository, run_id: str) -> None:
        self._repository = repository
        self._run_id = run_id
        self._pid = os.getpid()
        self.code: int | None = None
        self.effects: Effects | None = None
        atexit.register(self._end)

    def begin(self, session: Session) -> None:
        """Records that the run is open; one that is open already (it was killed, and goes on) is taken over."""
        assert isinstance(session, AtomicSession)
        present = find_atomic(self._repository, self._run_id)
        if present is not None and present.state == "open":
            begin_atomic(self._repository, replace(present, session_id=session.session_id), is_again=True)
        else:
            begin_atomic(self._repository, session.described((os.path.basename(sys.argv[0]), *sys.argv[1:])))

    def _end(self) -> None:
        if os.getpid() != self._pid or self.code is None:
            return
        if self.effects is not None:
            self.effects.is_paused = True
        flush_writers()
        run = find_atomic(self._repository, self._run_id)
        if run is None:
            return
        try:
            settled = settle(self._repository, run, is_own=True)
        except DartvcError as error:
            print(f"dartvc: {error.message}\n  dvc-state abort {self._run_id}", file=sys.stderr)
            is_over = False
        else:
            is_over = settled.run.state == "stands"
            for line in describe_settled(settled) if not is_over or sys.stderr.isatty() else ():
                print(f"dartvc: {line}", file=sys.stderr)
        if not is_over and self.code == 0:  # the program believes that it succeeded, and its work does not stand
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def describe_settled(settled: Settled) -> list[str]:
    """Returns what became of a run, a line each."""
    run, files = settled.run, settled.files
    if run.state == "open":
        lines = [f"{len(files.refused)} files of run {run.run_id} could not be put back yet: dvc-state abort {run.run_id} tries again"]
        return [*lines, *(f"  {problem}" for problem in files.refused)]
    if run.state == "left":
        return [f"run {run.run_id} was given up; its files are as they are"]
    if run.state == "stands":
        return (
            []
            if settled.tip is None
            else [f"run {run.run_id} stands as a whole: {run.ref.removeprefix('refs/heads/')} at {short(settled.tip)}"]
        )
    kept = f"; its commits are kept: dvc-state log {short(settled.tip)}" if settled.tip is not None else ""
    lines = [f"run {run.run_id} was rolled back, {len(files.changed)} files are as they were before it{kept}"]
    lines += [f"  lost: {problem}" for problem in files.lost]
    if settled.unseen:
        lines.append("  not covered (written by a child process, or past Python): " + ", ".join(settled.unseen[:10]))
        if len(settled.unseen) > 10:
            lines.append(f"  and {len(settled.unseen) - 10} more")
    return lines

"""Any namespace: `dartvc.attach`, and at the plain ``>>>`` prompt a commit after every statement."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from dartvc.cli.entry import run
from dartvc.errors import DartvcError, NotFoundError
from dartvc.history import Repository
from dartvc.sessions import Session

__all__ = ["answer", "attach", "parting"]


def attach(namespace: dict[str, object], path: str | Path = ".") -> Session:
    """Attaches a namespace to the repository of a folder (made if there is none) and returns its session.

    At the plain ``>>>`` prompt every statement is committed from now on; any other program calls ``session.checkpoint(message)``.
    """
    try:
        history = Repository.open(path)
    except NotFoundError:
        history = Repository.init(path)
    made = Session(history, namespace)
    made.restore_after_crash()
    made.serve(lambda argv, color: answer(made, argv, color))
    if hasattr(sys, "ps1"):
        sys.ps1 = _Prompt(made, str(sys.ps1))
    return made


def answer(living: Session, argv: list[str], color: bool) -> tuple[int, str, str]:
    """Runs a command line on a session, everything before it durable; returns (exit code, output, messages)."""
    out, err = io.StringIO(), io.StringIO()
    try:
        living.flush()
    except DartvcError as error:
        return error.exit_code, "", f"error: what came before could not be committed: {error.message}\n" + (f"  {error.hint}\n" if error.hint else "")
    code = run(argv, stdout=out, stderr=err, workspace=living, repository=living.repository, color=color)
    return code, out.getvalue(), err.getvalue()


def parting(living: Session) -> str:
    """Returns, once, what to tell a session whose branch somebody else moved; empty where nobody did."""
    left, living.left_branch = living.left_branch, ""
    return f"dartvc: {left} was moved by another session: the commits of this one go to {living.branch}" if left else ""


class _Prompt:
    """A primary prompt that commits what the last statement did: Python asks for its text before each statement."""

    def __init__(self, living: Session, text: str) -> None:
        self._living = living
        self._text = text

    def __str__(self) -> str:
        try:
            self._living.is_dirty = True
            self._living.begin_unit()
            self._living.end_unit("", source=None, execution=None, error="", duration_s=0.0, quiet=True)
            if told := parting(self._living):
                sys.stderr.write(f"{told}\n")
        except Exception as error:
            sys.stderr.write(f"dartvc: not committed: {error}\n")
        return self._text

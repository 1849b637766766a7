"""Where command lines come in: the console script, the magics, and the control socket of a session."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

TYPE_CHECKING = False  # not typing's: a process that begins again at once should not import it
if TYPE_CHECKING:
    from typing import TextIO

    from dartvc.history import Repository
    from dartvc.model import Workspace

__all__ = ["main", "run"]

_PROGRESS_DELAY_S = 0.5


def run(
    argv: Sequence[str],
    *,
    stdout: TextIO,
    stderr: TextIO,
    workspace: Workspace | None = None,
    repository: Repository | None = None,
    color: bool = False,
    directory: str = ".",
    progress_after_s: float | None = None,
) -> int:
    """Runs one command line and returns its exit code; never exits the process and writes only to the given streams.

    Args:
        argv: the words after ``dvc-state``.
        stdout: results.
        stderr: messages, hints, errors.
        workspace: the living session that the verbs act on; None: HEAD alone.
        repository: the repository; None: found from ``directory``.
        color: whether to colour.
        directory: where the command was given.
        progress_after_s: when work counts as long, so that ``stderr``, a terminal, shows how far it has come; None: never.
    """
    from dartvc.cli.context import Context, report

    context = Context(stdout, stderr, workspace, repository, color, directory)
    context.progress_after_s = progress_after_s
    if argv and argv[0] == "--no-pager":
        argv = argv[1:]
    if argv and argv[0] == "log":
        from dartvc.cli.loglines import parse_plainly, print_log
        from dartvc.errors import DartvcError

        options = parse_plainly(argv[1:])
        if options is not None:
            context.is_json = options.is_json
            try:
                print_log(context, options)
            except DartvcError as error:
                return report(error, context)
            return 0
    if argv and argv[0] == "query":
        from dartvc.cli.querying import answer_query
        from dartvc.cli.querying import parse_plainly as parse_query
        from dartvc.errors import DartvcError

        question = parse_query(argv[1:])
        if question is not None:
            context.is_json = question.format == "json"
            try:
                answer_query(context, question)
            except DartvcError as error:
                return report(error, context)
            return 0
    from dartvc.cli.app import dispatch

    return dispatch(list(argv), context)


def main() -> int:
    """Runs the console script ``dvc-state``."""
    argv = sys.argv[1:]
    if argv[:1] and argv[0].startswith("-"):
        from dartvc.cli.words import enter_folder
        from dartvc.errors import UsageError

        try:
            argv = enter_folder(argv)
        except UsageError as error:
            sys.stderr.write(f"error: {error.message}\n  {error.hint}\n")
            return error.exit_code
    if argv in (["--version"], ["version"]):
        from dartvc import __version__

        sys.stdout.write(f"dvc-state {__version__}\n")
        return 0
    if argv and argv[0] == "__complete":
        from dartvc.cli.completion import complete

        sys.stdout.write(complete(argv[1:]))
        return 0
    if argv and argv[0] in ("run", "resume"):
        from dartvc.cli.seed import begin_again_early

        begin_again_early(argv)
        gc.disable()  # nothing that is imported goes again
        from dartvc.cli.running import parse_plainly, start

        options = parse_plainly(argv)
        if options is not None:
            return start(options)
        gc.enable()
    is_terminal = sys.stdout.isatty()
    color = is_terminal and not os.environ.get("NO_COLOR")
    if is_terminal:
        from dartvc.cli.pager import paged

        try:
            return paged(argv, lambda stdout, stderr: _run(argv, stdout, stderr, color))
        except KeyboardInterrupt:  # between the command and the pager
            return 130
    return _run(argv, sys.stdout, sys.stderr, color)


def _run(argv: Sequence[str], stdout: TextIO, stderr: TextIO, color: bool) -> int:
    try:
        code = run(argv, stdout=stdout, stderr=stderr, color=color, progress_after_s=_progress_delay())
        stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        if stdout is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _progress_delay() -> float | None:
    """Returns when work counts as long: after half a second, or as ``DVC_STATE_PROGRESS_DELAY`` says; None where nothing can be redrawn."""
    environment = os.environ
    if not sys.stderr.isatty() or environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return None
    try:
        return max(0.0, float(environment.get("DVC_STATE_PROGRESS_DELAY", _PROGRESS_DELAY_S)))
    except ValueError:
        return _PROGRESS_DELAY_S

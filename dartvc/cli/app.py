"""The verbs of ``dvc-state`` as a Typer application."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from dartvc.cli.context import Context, as_current, report
from dartvc.cli.gitwords import translate
from dartvc.cli.live import FORWARDED, choose_session, send, sessions_elsewhere
from dartvc.cli.progress import ProgressLine
from dartvc.cli.words import split_common, verb_of
from dartvc.errors import DartvcError, UsageError
from dartvc.host.progress import watched_by

__all__ = ["application", "dispatch", "label_of"]

_CLICK_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
_ROOMS = {
    "reading": ("init", "status", "log", "show", "diff", "ls", "blame", "bisect"),
    "moving": ("checkout", "restore", "switch", "branch", "tag", "reset", "revert", "cherry-pick", "undo", "redo", "commit", "stash", "op"),
    "programs": ("run", "resume", "runs", "abort", "query"),
    "propagating": ("propagate",),
    "replaying": ("replay",),
    "exchanging": ("clone", "fetch", "push", "pull", "remote", "bundle"),
    "importing": ("import",),
    "exporting": ("export",),
    "tracing": ("why", "lineage"),
    "upkeep": ("gc", "fsck", "du", "doctor", "config", "trust", "jupyter", "completion"),
    "postmortem": ("shell",),
    "caching": ("cache", "reuse"),
}
_ROOM_OF = {verb: room for room, verbs in _ROOMS.items() for verb in verbs}
_TAKE_THE_PROCESS = frozenset({"run", "resume", "shell"})
"""Verbs that start the interpreter anew or load a past state into it: never in the process of a living session."""


@functools.cache
def application(room: str = "") -> Any:
    """Builds the application; commands find their `Context` with `dartvc.cli.context.current`.

    Args:
        room: only the verbs of this module, which takes a few milliseconds instead of forty; all when empty.
    """
    app = typer.Typer(
        name="dvc-state",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        help="git for the state of running Python programs",
    )

    @app.callback()
    def common(
        directory: Annotated[str, typer.Option("-C", metavar="DIR", help="run as if started there")] = ".",
        session: Annotated[str, typer.Option("--session", metavar="ID", help="the living session to act on")] = "",
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="show no progress of long work")] = False,
        no_pager: Annotated[bool, typer.Option("--no-pager", help="print long output on the terminal as it comes")] = False,
    ) -> None:
        """git for the state of running Python programs"""

    for module in (room,) if room else _ROOMS:
        importlib.import_module(f"dartvc.cli.{module}").register(app)
    return get_command(app)


def dispatch(argv: list[str], context: Context) -> int:
    """Parses and runs one command line; returns the exit code."""
    context.is_json = "--json" in argv
    common = split_common(argv)
    session = common.session
    if common.directory:
        context.move_to(common.directory)
    if common.is_quiet or context.is_json:
        context.progress_after_s = None
    try:
        words = translate(common.words)
        if context.is_inside and verb_of(words) in _TAKE_THE_PROCESS and words[1:] != ["--help"]:
            typed = f"dvc-state {shlex.join(words)}"
            hint = f"{typed}, in a terminal" if words[0] == "shell" and "-c" not in words else f"!{typed}"
            raise UsageError("a program is run from a terminal", kind="inside-session", hint=hint)
        if "--help" not in words and (session or not context.is_inside):
            code = _forward(words, context, session)
            if code is not None:
                return code
        return _invoke(words, context)
    except DartvcError as error:
        return report(error, context)


def _forward(words: Sequence[str], context: Context, session: str) -> int | None:
    """Has a living session of another process run a command that moves state; returns its exit code, None when the command is this process's.

    Raises:
        NotFoundError: the session that was asked for does not live.
    """
    is_moving = verb_of(words) in FORWARDED
    if not (is_moving or session) or (session and context.is_inside and context.workspace.session_id.startswith(session)):
        return None
    sessions = sessions_elsewhere(context.repository.path)
    living = choose_session(sessions, session)
    if living is None or not is_moving:
        context.meant_session = living.session_id if living is not None else ""
        return None
    code, out, err = send(living, words, context.color)
    if len(sessions) > 1:
        context.say(f"session {living.session_id} (process {living.pid}):")
    context.stdout.write(out)
    context.stderr.write(err)
    return code


def _invoke(words: Sequence[str], context: Context) -> int:
    command = application(_ROOM_OF.get(verb_of(words).partition(" ")[0], ""))
    shown = io.StringIO()
    watched: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if context.progress_after_s is not None:
        context.progress = ProgressLine(context.stderr, delay_s=context.progress_after_s)
        watched = watched_by(context.progress)
    try:
        with (
            contextlib.redirect_stdout(shown)
            if not words or "--help" in words
            else contextlib.nullcontext(), as_current(context), watched
        ):
            result = command.main(list(words), prog_name="dvc-state", standalone_mode=False)
        context.stdout.write(shown.getvalue())
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.Abort:
        return 130
    except _CLICK_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            context.say(error.ctx.get_help())
        elif context.is_json:
            context.out(json.dumps({"error": {"code": "usage", "message": _message(error)}}))
        else:
            context.say(f"error: {_message(error)}")
            failed = getattr(error, "ctx", None)
            context.say(f"  {failed.command_path if failed is not None else 'dvc-state'} --help")
        return 2


def label_of(argument: Any) -> str:
    """Returns what an argument is called: in messages and in the reference alike."""
    label = str(argument.metavar or argument.name.upper())
    return f"{label}..." if argument.nargs == -1 and not label.endswith("...") else label


def _message(error: Any) -> str:
    argument = getattr(error, "param", None)
    if type(error).__name__ == "MissingParameter" and getattr(argument, "param_type_name", "") == "argument":
        return f"{label_of(argument)} is missing"
    return str(error.format_message())

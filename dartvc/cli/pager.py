"""Long output through a pager, as git does it: on a terminal only, chosen by the environment or the settings, left at any time."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TextIO, cast

from dartvc.cli.words import split_common, verb_of
from dartvc.errors import DartvcError, UntrustedError

__all__ = ["Pager", "choose_pager", "paged"]

PAGED = frozenset(
    {"blame", "branch", "bundle list", "cache explain", "cache stats", "diff", "lineage", "log", "ls", "op log", "query", "runs", "show", "tag", "why"}
)
_SHELL_LETTERS = frozenset("|&;<>()$`\\\"' \t\n*?[#~=%")


def paged(argv: Sequence[str], command: Callable[[TextIO, TextIO], int]) -> int:
    """Runs a command whose output goes through a pager when its verb is one that lists; returns its exit code.

    Args:
        argv: the words after ``dvc-state``.
        command: takes the streams for results and for messages.
    """
    directory, _, _, words = split_common(argv)
    if verb_of(words) not in PAGED or "--no-pager" in argv or "--help" in words:
        return command(sys.stdout, sys.stderr)
    pager = Pager(lambda: choose_pager(os.environ, directory or "."), sys.stdout)
    messages = cast(TextIO, _Messages(pager, sys.stderr)) if sys.stderr.isatty() else sys.stderr
    try:
        return command(cast(TextIO, pager), messages)
    except ReaderLeft:
        return 0
    finally:
        pager.close()


def choose_pager(environment: os._Environ[str] | dict[str, str], directory: str) -> str:
    """Returns the user's pager, ``less`` when nothing was chosen; an empty text: none is wanted.

    In git's order: ``DVC_STATE_PAGER``, the setting ``core.pager``, ``PAGER``.
    """
    chosen = environment.get("DVC_STATE_PAGER")
    if chosen is None:
        chosen = _configured(directory) or environment.get("PAGER", "less")
    return "" if chosen.strip() == "cat" else chosen.strip()


def _configured(directory: str) -> str:
    from dartvc.history.repository import Repository

    try:
        return Repository.open(directory).program("core.pager")
    except UntrustedError as error:
        sys.stderr.write(f"dvc-state: {error.message}\n")
    except DartvcError:
        pass  # the command itself says what is wrong with the repository
    return ""


class ReaderLeft(Exception):
    """The pager was left before everything was written: the command has nothing more to do. (As an OSError, Click would make it a failure.)"""


class Pager(io.TextIOBase):
    """A stream into a pager, which starts with the first text; without one that can be run, text goes to the terminal.

    Args:
        choose: returns the command of the pager, an empty text for none.
        terminal: where text goes without one.
    """

    def __init__(self, choose: Callable[[], str], terminal: TextIO) -> None:
        self._choose = choose
        self._terminal = terminal
        self._process: subprocess.Popen[str] | None = None
        self._sink: IO[str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a pager shows what is written."""
        return self._process is not None

    def isatty(self) -> bool:
        """Always: somebody is reading."""
        return True

    def write(self, text: str) -> int:
        """Passes text on at once.

        Raises:
            ReaderLeft: nobody reads any more.
        """
        if self._sink is None:
            self._sink = self._start() or self._terminal
        try:
            self._sink.write(text)
            if self._process is not None:
                self._sink.flush()
        except BrokenPipeError as error:
            raise ReaderLeft from error
        return len(text)

    def flush(self) -> None:
        """Passes on what a terminal without a pager holds back."""
        if self._sink is not None:
            self._sink.flush()

    def close(self) -> None:
        """Waits until the reader has left the pager; an interrupt is the pager's own affair."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        while True:
            try:
                with suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait()
                return
            except KeyboardInterrupt:
                continue

    def _start(self) -> IO[str] | None:
        command = self._choose()
        if not command:
            return None
        environment = {"LESS": "FRX", "LV": "-c", **os.environ}
        argv = [command] if _SHELL_LETTERS.isdisjoint(command) else ["/bin/sh", "-c", command]
        try:
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            if command != "less":
                sys.stderr.write(f"dvc-state: the pager {shlex.quote(command)} cannot be run: {error.strerror}\n")
            return None
        return self._process.stdin


class _Messages(io.TextIOBase):
    """Messages beside results: inside the pager once it is open, as git does it, so that they do not disturb its screen."""

    def __init__(self, pager: Pager, terminal: TextIO) -> None:
        self._pager = pager
        self._terminal = terminal

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return self._pager.write(text) if self._pager.is_open else self._terminal.write(text)

    def flush(self) -> None:
        if not self._pager.is_open:
            self._terminal.flush()

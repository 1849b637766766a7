"""An interactive shell in the state of a commit: IPython, or Python's own prompt where that is not installed.

The prompt stands in one frame: it sees the globals of that frame's code with the frame's variables over them, and what it binds goes
where it belongs: a variable of the frame stays one, any other name becomes a global, which the program's functions see. Nothing of this
leaves the process.
"""

from __future__ import annotations

import code
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

from dartvc.porcelain.postmortem import LoadedFrame, LoadedState
from dartvc.state.candidates import is_hidden

__all__ = ["Stand", "interact", "run_code"]

_HINT = "dartvc: IPython is not installed, so this is Python's own prompt: pip install dartvc[notebook]"


class Stand:
    """Where a prompt stands in a loaded commit.

    Args:
        state: the commit.
        number: of the frame, as `frames` lists it; None: the innermost one of the uncaught exception, or of the stack.
        say: prints a line.

    Attributes:
        names: what the prompt sees: the same dict in every frame.
    """

    def __init__(self, state: LoadedState, number: int | None = None, say: Callable[[str], None] = print) -> None:
        self.names: dict[str, object] = {}
        self._state = state
        self._say = say
        self._seen: dict[str, object] = {}
        self._commands: dict[str, object] = {each.__name__: each for each in (self.frames, self.frame, self.up, self.down)}
        self._number = number if number is not None else max((each.frame.index for each in state.frames if not each.frame.error), default=0)
        self._enter()

    @property
    def _frame(self) -> LoadedFrame | None:
        return self._state.frames[self._number] if self._state.frames else None

    def frames(self) -> None:
        """Lists the frames, outermost first, and marks the one where the prompt stands."""
        error = ""
        for each in self._state.frames:
            if each.frame.error != error:
                error = each.frame.error
                self._say(f"  raised before it: {error}")
            self._say(f"{'>' if each is self._frame else ' '} {each.frame}")
        if not self._state.frames:
            self._say("this commit has no frames: the prompt stands in its namespace")

    def frame(self, number: int) -> None:
        """Goes to a frame."""
        if not 0 <= number < len(self._state.frames):
            self._say(f"there is no frame {number}: frames() lists them")
            return
        self.keep()
        self._number = number
        self._enter()
        frame = self._frame
        if frame is not None:
            self._say(f"> {frame.frame}")

    def up(self) -> None:
        """Goes to the frame that called this one."""
        self.frame(self._number - 1)

    def down(self) -> None:
        """Goes to the frame that this one called."""
        self.frame(self._number + 1)

    def _enter(self) -> None:
        frame = self._frame
        seen = {**frame.module, **frame.locals} if frame is not None else dict(self._state.namespace)
        for name in self._seen:
            self.names.pop(name, None)
        self._seen = {name: value for name, value in seen.items() if name != "__builtins__"}
        self.names.update({**{name: value for name, value in self._commands.items() if name not in self._seen}, **self._seen})

    def keep(self) -> None:
        """Takes what was bound at the prompt to where it belongs."""
        frame = self._frame
        target = frame.module if frame is not None else self._state.namespace
        own = frame.locals if frame is not None else {}
        for name, value in list(self.names.items()):
            if (name in self._seen and self._seen[name] is value) or is_hidden(name) or name == "open":
                continue
            if self._commands.get(name) == value:
                continue
            (own if name in own else target)[name] = self._seen[name] = value
        for name in [name for name in self._seen if name not in self.names]:
            (own if name in own else target).pop(name, None)
            del self._seen[name]

    def banner(self) -> Iterator[str]:
        """Yields what is said at the beginning."""
        state = self._state
        yield f"the state of {state.title}"
        for omission in state.omissions:
            yield f"not there: {omission.path}: {omission.reason}"
        yield from state.notes
        frame = self._frame
        if frame is not None:
            yield f"> {frame.frame}"
            yield "frames() lists the frames; frame(N), up() and down() go to them"


def interact(state: LoadedState, number: int | None = None) -> None:
    """Opens a shell in a loaded commit, in a frame of it; returns when the user leaves."""
    stand = Stand(state, number)
    banner = "\n".join(stand.banner())
    try:
        from IPython.terminal.ipapp import TerminalIPythonApp
    except ImportError:
        sys.stderr.write(f"{_HINT}\n")
        _Console(stand).interact(banner=banner, exitmsg="")
        return

    class Application(TerminalIPythonApp):  # type: ignore[misc]
        """IPython as the user has set it up, but for our extension: it would commit this past as if it were the present."""

        def init_extensions(self) -> None:
            self.extensions: list[str] = [each for each in self.extensions if each != "dartvc"]
            super().init_extensions()

    application = Application.instance(user_ns=stand.names)
    application.initialize(["--no-banner"])
    shell = application.shell
    shell.events.register("post_run_cell", lambda result: stand.keep())
    for name in ("frames", "frame", "up", "down"):
        shell.register_magic_function(_magic(getattr(stand, name)), "line", name)
    print(banner)
    application.start()


def _magic(command: Callable[..., None]) -> Callable[[str], None]:
    return lambda line: command(*map(int, line.split()))


def run_code(state: LoadedState, number: int | None, text: str) -> int:
    """Runs a piece of code in a frame of a loaded commit; returns its exit code, as ``python -c`` does."""
    try:
        exec(compile(text, "<command>", "exec"), Stand(state, number).names)
    except Exception as error:
        trace = error.__traceback__
        traceback.print_exception(error.with_traceback(trace.tb_next if trace is not None else None))
        return 1
    return 0


class _Console(code.InteractiveConsole):
    """Python's own prompt."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(stand.names)
        self._stand = stand

    def runcode(self, code: types.CodeType) -> Any:
        """Runs what was typed, and keeps what it bound."""
        try:
            super().runcode(code)
        finally:
            self._stand.keep()

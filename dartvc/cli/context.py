"""What every command needs: where output goes, which repository, which session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from dartvc.cli.progress import ProgressLine
    from dartvc.errors import DartvcError
    from dartvc.history import Repository
    from dartvc.model import Workspace

__all__ = ["Context", "as_current", "current", "jsonable", "report"]

_CURRENT: ContextVar[Context] = ContextVar("dartvc_command")


def current() -> Context:
    """Returns the surroundings of the command that runs."""
    return _CURRENT.get()


@contextmanager
def as_current(context: Context) -> Iterator[None]:
    """Makes ``context`` the one that commands see."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


class Context:
    """One command's surroundings."""

    def __init__(
        self, stdout: TextIO, stderr: TextIO, workspace: Workspace | None, repository: Repository | None, color: bool, directory: str
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.color = color
        self.directory = directory
        self.is_json = False
        self.progress_after_s: float | None = None
        self.meant_session = ""
        self.progress: ProgressLine | None = None
        self._workspace = workspace
        self._repository = repository

    @property
    def is_inside(self) -> bool:
        """Whether the command runs inside the process of a living session."""
        return self._workspace is not None and self._workspace.is_live

    @property
    def repository(self) -> Repository:
        """The repository, found from the directory of the command."""
        if self._repository is None:
            from dartvc.history import Repository

            self._repository = Repository.open(self.directory)
        return self._repository

    @property
    def workspace(self) -> Workspace:
        """The living session, or HEAD alone."""
        if self._workspace is None:
            from dartvc.porcelain.workspaces import HeadWorkspace

            self._workspace = HeadWorkspace(self.repository)
        return self._workspace

    def move_to(self, directory: str) -> None:
        """Lets the command act as if it had been given in another directory: where another repository is found, on that and no session."""
        self.directory = directory
        if self._repository is None:
            return
        from dartvc.errors import DartvcError
        from dartvc.history import Repository

        try:
            found = Repository.open(directory)
        except DartvcError:  # told when the command asks for it; `init` does not
            self._repository = self._workspace = None
            return
        if found.path != self._repository.path:
            self._repository, self._workspace = found, None

    def out(self, text: str) -> None:
        """Writes a line of result."""
        if self.progress is not None:
            self.progress.hide()
        self.stdout.write(f"{text}\n")

    def say(self, text: str) -> None:
        """Writes a line of message."""
        if self.progress is not None:
            self.progress.hide()
        self.stderr.write(f"{text}\n")

    def json(self, verb: str, body: dict[str, Any]) -> None:
        """Writes a result as JSON under its schema."""
        import json

        self.out(json.dumps(jsonable({"schema": f"dvc-state/{verb}/1", **body}), ensure_ascii=False))

    def paint(self, text: str, code: str) -> str:
        """Colours a text with an ANSI code when colours are wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text


def report(error: DartvcError, context: Context) -> int:
    """Writes an error for people, or as JSON, and returns its exit code."""
    if context.is_json:
        import json

        context.out(json.dumps({"error": {"code": error.kind, "message": error.message, "hint": error.hint}}))
    else:
        context.say(f"error: {error.message}")
        if error.hint:
            context.say(f"  {error.hint}")
    return error.exit_code


def jsonable(value: object) -> object:
    """Turns values of ours into what JSON has: named tuples and dataclasses into objects, times into ISO 8601 UTC."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: jsonable(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)

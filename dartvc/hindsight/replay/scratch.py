"""A folder in which a past run can be executed again: a copy of the project with its files as they were, and nothing of it the user's.

Large files that are older than the run are linked, since the run did not write them; all others are copied. What the journals of this run and of
those after it know of files before they were written is put back. A folder that a killed replay left behind is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dartvc.errors import StorageError
from dartvc.history import Repository
from dartvc.history.repository import FOLDER
from dartvc.model import Oid
from dartvc.program.effects import put_back
from dartvc.program.rollback import take_back
from dartvc.sessions.recorded import read_files, read_sequence
from dartvc.sessions.relocation import Relocation
from dartvc.sessions.runs import Run

__all__ = ["Scratch", "guard_folder", "open_scratch"]

_PREFIX = "dartvc-replay-"
_LINKED_BYTES = 8 << 20
_FRESH_S = 5.0
"""A folder that is younger may not be locked yet by whoever is making it."""
_LEFT_OUT = frozenset({FOLDER, "__pycache__"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_CHANGES = frozenset(
    {"os.remove", "os.rename", "os.truncate", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "shutil.rmtree", "sqlite3.connect"}
)


class Scratch:
    """One such folder.

    Attributes:
        base: the folder; beside the project it has room for what the replaying process writes.
        project: the copy of the project.
    """

    def __init__(self, base: Path, project: Path) -> None:
        self.base = base
        self.project = project

    def lay_out(self, root: Path, started_s: float, tmp_free: Callable[[], int]) -> None:
        """Copies a project.

        Args:
            root: the project.
            started_s: when the run began: large files that are older are linked.
            tmp_free: returns how many bytes are free where the copy goes.

        Raises:
            StorageError: there is no room, or a file cannot be read.
        """
        needed = sum(size for _, size, is_linked in _files(root, started_s) if not is_linked)
        if needed > tmp_free():
            raise StorageError(
                f"{root} holds {needed >> 20} MiB, for which {self.base} has no room", kind="no-room", hint="set TMPDIR to a larger disk"
            )
        self.project.mkdir(parents=True, exist_ok=True)
        try:
            for path, _, is_linked in _files(root, started_s):
                target = self.project / path.relative_to(root)
                if path.is_dir() and not path.is_symlink() and not is_linked:
                    target.mkdir(exist_ok=True)
                elif path.is_symlink():
                    target.symlink_to(_outside(path, root))
                elif is_linked:
                    target.symlink_to(path)
                elif path.is_file():
                    shutil.copy2(path, target)
        except OSError as error:
            raise StorageError(f"{root} cannot be copied: {error}", kind="copy", hint="set TMPDIR to a larger disk") from error

    def set_back(self, repository: Repository, runs: Sequence[Run], at: Oid | None) -> None:
        """Makes the files what they were when a run began, or at one of its commits.

        Args:
            repository: where.
            runs: that run first, then those that began after it, in their order.
            at: the commit; None: the run's beginning.
        """
        first = runs[0]
        files = read_files(repository, at) if at is not None else []
        committed = {state.path: state.content for state in files}
        for run in reversed(runs):
            journal = repository.path / "runs" / run.run_id
            sequence = read_sequence(repository, at) if at is not None and run is first else 0
            take_back(journal, sequence, self._located(run), committed=committed if run is first else {})
        if at is not None:
            moved = Relocation(str(repository.root), str(self.project))
            states = [state._replace(path=moved.path(state.path)) for state in files]
            put_back([state for state in states if self._holds(state.path)])

    def write(self, sources: Mapping[str, str], root: str) -> None:
        """Writes the sources of a program in place of the present ones; what lies outside of the project is left out."""
        moved = Relocation(root, str(self.project))
        for path, text in sources.items():
            target = Path(moved.path(path))
            if self._holds(str(target)) and not path.endswith(".ipynb"):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.write_text(text, encoding=_encoding_of(text), errors="surrogateescape", newline="")

    def _located(self, run: Run) -> Callable[[str], str | None]:
        moved = Relocation(run.moved_from or run.project, str(self.project))

        def located(path: str) -> str | None:
            there = moved.path(path)
            return there if self._holds(there) else None

        return located

    def _holds(self, path: str) -> bool:
        return os.path.realpath(path).startswith(os.path.join(os.path.realpath(self.project), ""))


@contextmanager
def open_scratch(name: str) -> Iterator[Scratch]:
    """Makes an empty scratch folder, in which the project will have the given name; removes it in the end."""
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    base = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Scratch(base, base / "project" / (name or "root"))
    finally:
        shutil.rmtree(base, ignore_errors=True)
        os.close(lock)


def guard_folder(folder: str, scratch: str, told: Callable[[str], None]) -> None:
    """Refuses this process every change below a folder, the user's, that Python itself would make; a hook that stays.

    Args:
        folder: the project.
        scratch: changes below this are the program's own.
        told: is given each path that was refused.
    """
    inside, own = os.path.join(os.path.realpath(folder), ""), os.path.join(os.path.realpath(scratch), "")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & _WRITING:
                return
            paths = arguments[:1]
        elif event in _CHANGES:
            paths = arguments[:2]
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes) and path != ":memory:":
                real = os.path.realpath(os.fsdecode(path))
                if real.startswith(inside) and not real.startswith(own):
                    told(real)
                    raise PermissionError(f"a replay does not change {real}")

    sys.addaudithook(hook)


def _files(root: Path, started_s: float) -> Iterator[tuple[Path, int, bool]]:
    """Yields the folders and files to lay out, with what each takes and whether it is to be linked."""
    temporary = os.path.realpath(tempfile.gettempdir())
    for here, folders, names in os.walk(root):
        for name in list(folders):
            path = Path(here, name)
            is_link = path.is_symlink()
            if name in _LEFT_OUT or name.startswith(_PREFIX) or os.path.realpath(path) == temporary:
                folders.remove(name)
                continue
            is_environment = (path / "pyvenv.cfg").exists()
            if is_link or is_environment:
                folders.remove(name)
            yield path, 0, is_environment
        for name in names:
            path = Path(here, name)
            try:
                found = path.lstat()
            except OSError:
                continue
            is_linked = found.st_size > _LINKED_BYTES and found.st_mtime < started_s
            yield path, found.st_size, is_linked


def _outside(link: Path, root: Path) -> str:
    """Returns what a copied link points at: the copy when it is relative and stays inside, else the same file as before."""
    target = os.readlink(link)
    if os.path.isabs(target):
        return target
    absolute = os.path.normpath(os.path.join(link.parent, target))
    return target if absolute.startswith(os.path.join(root, "")) else absolute


def _sweep(parent: Path) -> None:
    """Removes the scratch folders of replays that were killed."""
    for base in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = base.stat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _FRESH_S:
                continue
            lock = os.open(base / "lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(base, ignore_errors=True)
            finally:
                os.close(lock)


def _encoding_of(text: str) -> str:
    import io
    import tokenize

    try:
        return tokenize.detect_encoding(io.BytesIO(text.encode("utf-8", "surrogatepass")).readline)[0]
    except SyntaxError:
        return "utf-8"

"""Atomic runs: what a run did becomes visible as a whole, or is taken back as a whole.

While it goes on, its commits stand under ``refs/runs/<id>`` alone and a record in ``atomic/`` says that it is open. The moment that decides
is the durable commit of its end with exit code 0: before it whoever finds the run dead takes its files back, after it whoever finds it
moves the branch. Both can be killed anywhere and done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dartvc.errors import LockedError, RefConflictError
from dartvc.history import RefMove, Repository
from dartvc.host.entropy import new_id
from dartvc.model import CommitKind, Oid, StagedCommit
from dartvc.program.journal import CONTENT_LIMIT_BYTES
from dartvc.program.rollback import TakenBack, drop_copies, take_back
from dartvc.sessions import registry
from dartvc.sessions.runs import run_facts
from dartvc.sessions.session import Session
from dartvc.store import Head
from dartvc.store.durable import replace_file, storage_errors, sync_folder

__all__ = ["AtomicRun", "AtomicSession", "Settled", "begin_atomic", "find_atomic", "is_alive", "leave", "open_runs", "settle"]

OPEN, STANDS, ROLLED_BACK, LEFT = "open", "stands", "rolled back", "left"
_MANIFEST_LIMIT = 50_000
_NOT_LOOKED_INTO = frozenset({".git", ".dvc-state", "__pycache__", "node_modules", ".ipynb_checkpoints", ".venv"})


@dataclass(frozen=True, slots=True)
class AtomicRun:
    """The record of an atomic run.

    Attributes:
        run_id: of the run.
        session_id: of the process that executes it.
        ref: the branch that it will move.
        tip: where that branch was; None: it had no commit.
        is_head: whether HEAD goes to that branch.
        since: the run's newest commit when this began: of an earlier time that it was run.
        command: what was run.
        state: open, stands, rolled back, or left (given up as it was).
    """

    run_id: str
    session_id: str
    ref: str
    tip: Oid | None
    is_head: bool
    since: Oid | None
    command: tuple[str, ...]
    state: str = OPEN


@dataclass(frozen=True, slots=True)
class Settled:
    """How an atomic run ended: the record, the files that were taken back, and those that changed without dartvc seeing it."""

    run: AtomicRun
    tip: Oid | None
    files: TakenBack
    unseen: tuple[str, ...] = ()


class AtomicSession(Session):
    """A session whose commits stand under its run alone until that is settled.

    Args:
        repository: where commits go.
        namespace: the living namespace.
        run_id: the run.
        parent: the commit to go on from; None: HEAD.
    """

    def __init__(self, repository: Repository, namespace: dict[str, object], run_id: str, parent: Oid | None = None) -> None:
        super().__init__(repository, namespace)
        self.run_id = run_id
        if parent is not None:
            self.follow_head(parent, self.branch)

    def _publish(self, before: Oid | None, after: Oid, staged: Sequence[StagedCommit]) -> None:
        """Moves the run's own ref; the branch waits."""
        refs = self.repository.database.refs
        with self.repository.database.lock():
            refs.move(_run_ref(self.run_id), after, expected=refs.read(_run_ref(self.run_id)))

    def described(self, command: tuple[str, ...]) -> AtomicRun:
        """Returns the record to begin with."""
        refs = self.repository.database.refs
        branch = self.branch if self.branch is not None else f"detached-{new_id(4)}"
        ref = f"refs/heads/{branch}"
        since = refs.read(_run_ref(self.run_id))
        return AtomicRun(self.run_id, self.session_id, ref, refs.read(ref), self._owns_head(), since, command)


def begin_atomic(repository: Repository, run: AtomicRun, *, is_again: bool = False) -> None:
    """Records durably that a run is open, and what files the project has.

    Args:
        repository: where.
        run: its record.
        is_again: it was killed and goes on: what it changed since its beginning is its own.

    Raises:
        StorageError: the disk refused; there is no such run.
    """
    folder = _folder(repository, run.run_id)
    with storage_errors(folder):
        (repository.path / "atomic").mkdir(exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        if not is_again:
            drop_copies(folder)
            (folder / "files.json").write_text(json.dumps(_files_of(repository.root)))
        sync_folder(folder)
        sync_folder(folder.parent)
    _write(repository, run)


def find_atomic(repository: Repository, run_id: str) -> AtomicRun | None:
    """Returns the record of a run; None when it was not atomic."""
    for path in (_open_path(repository, run_id), _folder(repository, run_id) / "atomic.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            facts = json.loads(path.read_text())
            return AtomicRun(**{**facts, "command": tuple(facts["command"])})
    return None


def is_alive(repository: Repository, run: AtomicRun) -> bool:
    """Whether the process of a run still executes it."""
    return registry.is_alive(repository.path, run.session_id)


def open_runs(repository: Repository) -> list[AtomicRun]:
    """Returns the runs that are not settled though their process is dead, oldest first."""
    try:
        paths = sorted((repository.path / "atomic").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    except OSError:
        return []
    found = [run for path in paths if (run := find_atomic(repository, path.stem)) is not None]
    return [run for run in found if not is_alive(repository, run)] if found else []


def settle(repository: Repository, run: AtomicRun, *, is_own: bool = False) -> Settled:
    """Ends a run: moves its branch when it reached its end with exit code 0, else takes its files back.

    The record says so only when that is done: until then the run stays open, and this can be called again.

    Args:
        repository: where it was.
        run: its record.
        is_own: this is its process.

    Raises:
        LockedError: its process lives, or somebody else settles it.
        StorageError: the disk refused.
    """
    if not is_own and is_alive(repository, run):
        raise LockedError(f"run {run.run_id} is still running", kind="run-alive", hint="dvc-state runs")
    with _only_one(repository, run.run_id):
        present = find_atomic(repository, run.run_id) or run
        tip = repository.database.refs.read(_run_ref(run.run_id))
        if present.state != OPEN:
            _put_away(repository, present)
            return Settled(present, tip, TakenBack())
        if tip != present.since and _reached_its_end(repository, tip):
            _move_branch(repository, present, tip)
            done = Settled(replace(present, state=STANDS), tip, TakenBack())
        else:
            files = take_back(_folder(repository, run.run_id), 0, is_durable=True)
            if files.refused:
                return Settled(present, tip, files)
            done = Settled(replace(present, state=ROLLED_BACK), tip, files, _unseen(repository, present, files))
        _write(repository, done.run)
        _put_away(repository, done.run)
        return done


def leave(repository: Repository, run: AtomicRun) -> Settled:
    """Gives a run up and leaves its files as they are.

    Raises:
        LockedError: its process lives.
    """
    if is_alive(repository, run):
        raise LockedError(f"run {run.run_id} is still running", kind="run-alive", hint="dvc-state runs")
    with _only_one(repository, run.run_id):
        done = replace(run, state=LEFT)
        _write(repository, done)
        _put_away(repository, done)
    return Settled(done, repository.database.refs.read(_run_ref(run.run_id)), TakenBack())


def _run_ref(run_id: str) -> str:
    return f"refs/runs/{run_id}"


def _folder(repository: Repository, run_id: str) -> Path:
    return repository.path / "runs" / run_id


def _open_path(repository: Repository, run_id: str) -> Path:
    return repository.path / "atomic" / f"{run_id}.json"


def _write(repository: Repository, run: AtomicRun) -> None:
    path = _open_path(repository, run.run_id)
    with storage_errors(path):
        replace_file(path, json.dumps(asdict(run)).encode(), temporary=path.with_suffix(f".{new_id()}"))


def _put_away(repository: Repository, run: AtomicRun) -> None:
    """Throws away what only an open run needs; where it was taken back, the journal too: it must not be taken back again."""
    folder = _folder(repository, run.run_id)
    with storage_errors(folder):
        drop_copies(folder, above_bytes=CONTENT_LIMIT_BYTES if run.state == STANDS else -1)
        (folder / "files.json").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(_open_path(repository, run.run_id), folder / "atomic.json")
        sync_folder(folder)


@contextlib.contextmanager
def _only_one(repository: Repository, run_id: str) -> Iterator[None]:
    path = _folder(repository, run_id) / "settling"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(f"run {run_id} is being settled", kind="locked", hint="try again") from error
        yield
    finally:
        os.close(descriptor)


def _reached_its_end(repository: Repository, tip: Oid | None) -> bool:
    if tip is None:
        return False
    commit = repository.commit(tip)
    return commit.kind is CommitKind.END and not run_facts(repository.summary(repository.process(tip)["run"])).exit_code


def _move_branch(repository: Repository, run: AtomicRun, tip: Oid | None) -> None:
    """Moves the branch to the end of the run; where it went elsewhere meanwhile, a branch of the run's own is made."""
    refs = repository.database.refs
    goes_there = run.is_head and refs.head().ref in (None, run.ref)
    for ref in (run.ref, f"{run.ref}-{run.run_id}"):
        present = refs.read(ref)
        if present == tip:
            return
        if tip is None or (present is not None and all(oid != present for oid in repository.database.iter_commits([tip]))):
            continue  # commits that only the branch has would be lost
        with contextlib.suppress(RefConflictError):
            repository.move_refs(
                [RefMove(ref, present, tip)],
                operation="run",
                description=f"run {' '.join(run.command)}"[:80],
                session=run.session_id,
                head=Head(ref, tip) if goes_there else None,
            )
            return
    raise RefConflictError(f"{run.ref} was moved by somebody else", kind="ref-moved", hint=f"dvc-state abort {run.run_id}")


def _files_of(root: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of the project's files; none when there are too many to look at."""
    found: dict[str, tuple[int, int]] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [
            each for each in folders if each not in _NOT_LOOKED_INTO and not os.path.exists(os.path.join(folder, each, "pyvenv.cfg"))
        ]
        for name in files:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                facts = os.lstat(path)
                found[path] = (facts.st_size, facts.st_mtime_ns)
        if len(found) > _MANIFEST_LIMIT:
            return {}
    return found


def _unseen(repository: Repository, run: AtomicRun, files: TakenBack) -> tuple[str, ...]:
    """Returns the project's files that changed since the run began, and that the journal does not know."""
    try:
        before = {path: tuple(facts) for path, facts in json.loads((_folder(repository, run.run_id) / "files.json").read_text()).items()}
    except (OSError, ValueError):
        return ()
    if not before:
        return ()
    now = _files_of(repository.root)
    changed = (path for path in sorted(before.keys() | now.keys()) if before.get(path) != now.get(path))
    return tuple(os.path.relpath(path, repository.root) for path in changed if os.path.realpath(path) not in files.paths)

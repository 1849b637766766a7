"""A repository on this machine: read and written by ourselves, at the speed of the disk; none of its hooks is run."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dartvc.errors import CorruptError, LockedError, NotFoundError, RefConflictError, RefusedError, RemoteError
from dartvc.history import RefMove, Repository
from dartvc.history.epoch import read_epoch
from dartvc.history.repository import FOLDER
from dartvc.host.progress import track
from dartvc.model import Oid
from dartvc.remotes.exchange import TRAVELLING, Advertisement, Sent
from dartvc.remotes.negotiation import iter_missing, missing_commits
from dartvc.remotes.sharing import PackShare, can_share
from dartvc.sessions.registry import living_sessions
from dartvc.store import ObjectDatabase
from dartvc.store.copying import ObjectCopy, RecentReader
from dartvc.store.durable import storage_errors
from dartvc.store.objects import COMMIT, TAG
from dartvc.store.packwriter import PackWriter

__all__ = ["LocalPeer", "Staged", "stage_objects"]

_TRIES = 5
_TAG_CHAIN = 10
_UNREADABLE = re.compile(r"^\s*(objectformat\s*=\s*sha256|refstorage\s*=\s*reftable)", re.MULTILINE | re.IGNORECASE)


@dataclass(slots=True)
class Staged:
    """Objects in a pack of the target that is durable and not visible yet."""

    refs: Mapping[str, Oid] = field(default_factory=dict)
    objects: int = 0
    size_bytes: int = 0
    _target: ObjectDatabase | None = None
    _writer: PackWriter | PackShare | None = None

    def admit(self) -> None:
        """Makes them visible, durably."""
        writer, self._writer = self._writer, None
        if writer is not None and self._target is not None:
            with storage_errors(self._target.pack_folder):
                indexes = writer.publish()
            self._target.adopt_packs(indexes)

    def abandon(self) -> None:
        """Throws away what was not admitted."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()


def stage_objects(source: ObjectDatabase, target: ObjectDatabase, wants: Iterable[Oid], *, is_everything: bool = False) -> Staged:
    """Copies what commits need and a database lacks into a pack of it that is not visible yet.

    Args:
        source: has it.
        target: gets it.
        wants: the commits.
        is_everything: these are all that the source offers; an empty target may have its packs whole.

    Raises:
        CorruptError: something is gone or damaged in the source.
        StorageError: the disk refused; nothing was left behind.
    """
    haves = [oid for _, oid in target.refs.iter_refs() if _is_commit(target, oid)]
    commits = missing_commits(source, wants, target, haves)
    if is_everything and not haves and can_share(source, target):
        with contextlib.suppress(OSError):  # the other one is being cleaned up: object by object, then
            share = PackShare(source.iter_packs(), target.pack_folder)
            return Staged({}, share.objects, share.size_bytes, target, share)
    reader = RecentReader(source)
    with storage_errors(target.pack_folder):
        writer = PackWriter(target.pack_folder, roll_bytes=None)
        copy = ObjectCopy(reader, writer)
        try:
            for oid in track("copying objects", iter_missing(reader, commits, target.vouches_for)):
                copy.add(oid)
            if not len(writer):
                writer.abandon()
                return Staged()
            writer.complete()
        except BaseException:
            writer.abandon()
            raise
    return Staged({}, len(writer), writer.next_offset(), target, writer)


class LocalPeer:
    """A project's folder (its states are in ``.dvc-state``), or a bare git repository.

    Raises:
        RemoteError: there is no repository.
    """

    def __init__(self, path: Path) -> None:
        self.path = _locate(path)
        try:
            self._repository = Repository(self.path.parent) if self.path.name == FOLDER else None
            self.database = self._repository.database if self._repository is not None else ObjectDatabase.open(self.path)
            config = (self.path / "config").read_bytes() if (self.path / "config").exists() else b""
        except (NotFoundError, OSError) as error:
            raise RemoteError(
                f"{path} cannot be read: {error}", kind="remote-unreadable", hint="check the path and who may read it"
            ) from error
        if _UNREADABLE.search(config.decode("utf-8", "replace")):
            raise RemoteError(
                f"{self.path} is kept in a format of git's that is not supported", kind="remote-format", hint="git init --bare"
            )

    def advertise(self) -> Advertisement:
        """Reads its refs."""
        refs = {}
        with _as_remote(self.path):
            for prefix in TRAVELLING:
                for name, oid in self.database.refs.iter_refs(prefix):
                    commit = _peel(self.database, oid)
                    if commit is not None:
                        refs[name] = commit
            return Advertisement(refs, self.database.refs.head().ref)

    @contextlib.contextmanager
    def receive(self, into: Repository, names: Sequence[str] | None) -> Iterator[Staged]:
        """Copies what refs need into a pack of the receiver."""
        offered = self.advertise().refs
        for name in names or ():
            if name not in offered:
                raise NotFoundError(f"{self.path} has no {name}", kind="unknown-ref", hint="dvc-state fetch without a branch brings all")
        refs = offered if names is None else {name: offered[name] for name in names}
        with _as_remote(self.path):
            staged = stage_objects(self.database, into.database, refs.values(), is_everything=names is None)
        staged.refs = refs
        try:
            yield staged
        finally:
            staged.abandon()

    def send(self, source: Repository, moves: Sequence[RefMove]) -> Sent:
        """Copies what commits need into it, then moves its refs, all or none."""
        if not (self.path / "objects" / "pack").is_dir():
            with storage_errors(self.path):
                (self.path / "objects" / "pack").mkdir(parents=True)
        self._refuse_living(moves)
        for _ in range(_TRIES):
            epoch = read_epoch(self.path)
            staged = stage_objects(source.database, self.database, [move.new for move in moves if move.new is not None])
            try:
                with self.database.lock():
                    if read_epoch(self.path) != epoch:
                        continue  # objects that were counted on may have been thrown away meanwhile
                    staged.admit()
                    self._move(moves)
                if self._repository is not None:
                    self.database.tidy()
                return Sent(staged.objects, staged.size_bytes)
            finally:
                staged.abandon()
        raise LockedError(f"{self.path} is being cleaned up", kind="locked", hint="try again")

    def _move(self, moves: Sequence[RefMove]) -> None:
        if self._repository is not None:
            self._repository.move_refs(moves, operation="receive", description=f"push from {platform.node() or 'elsewhere'}")
            return
        refs = self.database.refs
        done: list[RefMove] = []
        try:
            for move in moves:
                refs.move(move.name, move.new, expected=move.old)
                done.append(move)
        except BaseException:
            for move in reversed(done):
                with contextlib.suppress(RefConflictError):
                    refs.move(move.name, move.old, expected=move.new)
            raise

    def _refuse_living(self, moves: Sequence[RefMove]) -> None:
        """A living session's variables would be left behind their branch."""
        living = {f"refs/heads/{each.branch}": each.pid for each in living_sessions(self.path)} if self.path.name == FOLDER else {}
        for move in moves:
            if move.name in living:
                branch = move.name.removeprefix("refs/heads/")
                raise RefusedError(
                    f"a session lives on branch {branch!r} of {self.path.parent} (process {living[move.name]})",
                    kind="branch-in-use",
                    hint=f"dvc-state push REMOTE {branch}:ANOTHER-NAME",
                )


def _locate(path: Path) -> Path:
    for candidate in (path / FOLDER, path, path.with_name(path.name + ".git")):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    if (path / ".git").exists():
        message = f"{path} has a git repository of files, and no states of a program"
    elif path.exists():
        message = f"there is no repository at {path}"
    else:
        message = f"there is nothing at {path}"
    raise RemoteError(
        message, kind="no-remote-repository", hint="dvc-state remote -v shows the addresses; git init --bare makes a place to push to"
    )


@contextlib.contextmanager
def _as_remote(path: Path) -> Iterator[None]:
    """Says of damage that it is the other side's."""
    try:
        yield
    except CorruptError as error:
        raise RemoteError(f"{path} is damaged: {error.message}", kind="remote-damaged", hint=f"dvc-state -C {path.parent} fsck") from error


def _is_commit(database: ObjectDatabase, oid: Oid) -> bool:
    return _peel(database, oid) == oid


def _peel(database: ObjectDatabase, oid: Oid) -> Oid | None:
    """Returns the commit that a ref stands for, through tag objects; None when it stands for something else."""
    for _ in range(_TAG_CHAIN):
        kind, data = database.read(oid)
        if kind == COMMIT:
            return oid
        if kind != TAG or not re.match(rb"object [0-9a-f]{40}\n", data):
            return None
        oid = Oid(data[7:47].decode())
    return None

"""Clone: a new repository with all that another one has; it is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import NotFoundError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.history.repository import FOLDER
from dartvc.host.entropy import new_id
from dartvc.model import Oid
from dartvc.remotes.addresses import Address
from dartvc.remotes.exchange import Exchange
from dartvc.remotes.fetching import fetch
from dartvc.remotes.peers import peer_at
from dartvc.remotes.registry import Remotes, Upstream
from dartvc.store import Head
from dartvc.store.durable import is_abandoned, storage_errors, sync_folder

__all__ = ["Clone", "clone"]

_PREFIX = ".dvc-state-clone-"


@dataclass(frozen=True, slots=True)
class Clone:
    """A repository that was just cloned: its project's folder, the branch that HEAD is on, what travelled."""

    root: Path
    branch: str | None
    head: Oid | None
    exchange: Exchange


def clone(address: Address, directory: Path, *, origin: str = "origin", branch: str | None = None, trust: bool = False) -> Clone:
    """Makes ``directory/.dvc-state`` with all that the repository at an address has, and HEAD where its HEAD is.

    Args:
        address: where the other one is.
        directory: the project's folder; made when it is absent, and may hold files (a clone of the code, say).
        origin: what the remote is called.
        branch: go to this branch instead.
        trust: the commits may be restored here; their author is known.

    Raises:
        UsageError: there is a repository already.
        RemoteError: the other one cannot be reached.
        NotFoundError: it has no such branch.
    """
    if (directory / FOLDER / "HEAD").exists():
        raise UsageError(f"there is a repository in {directory} already", kind="repository-exists", hint="dvc-state remote add, then fetch")
    is_new = not directory.exists()
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)
    try:
        with _building_site(directory) as site:
            made = _fill(site, directory, address, origin, branch, trust)
            with storage_errors(directory):
                os.rename(site / FOLDER, directory / FOLDER)
                sync_folder(directory)
        return made
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


def _fill(site: Path, directory: Path, address: Address, origin: str, branch: str | None, trust: bool) -> Clone:
    repository = Repository.init(site)
    remotes = Remotes(repository)
    remote = remotes.add(origin, str(address.path) if address.path is not None else address.url)
    advertised = peer_at(address, repository).advertise()
    exchange = fetch(repository, remote, address, trust=trust)
    ref = _choose_branch(advertised.refs, advertised.head, branch)
    oid = repository.database.refs.read(remote.tracking(ref.removeprefix("refs/heads/")))
    name = ref.removeprefix("refs/heads/")
    moves = [RefMove(ref, None, oid)] if oid is not None else []
    repository.move_refs(moves, operation="clone", description=f"clone {address.shown}", head=Head(ref, oid))
    remotes.follow(name, Upstream(origin, name))
    if oid is not None and advertised.head == ref:
        repository.database.refs.link(f"refs/remotes/{origin}/HEAD", remote.tracking(name))
    return Clone(directory, name, oid, exchange)


def _choose_branch(refs: Mapping[str, Oid], head: str | None, wanted: str | None) -> str:
    if wanted is not None:
        if f"refs/heads/{wanted}" not in refs:
            raise NotFoundError(
                f"the remote has no branch {wanted!r}", kind="unknown-ref", hint="clone without it, then dvc-state branch -a"
            )
        return f"refs/heads/{wanted}"
    branches = [name for name in sorted(refs) if name.startswith("refs/heads/")]
    for candidate in (head, "refs/heads/main", *branches):
        if candidate is not None and (candidate in refs or not branches):
            return candidate
    return "refs/heads/main"


@contextlib.contextmanager
def _building_site(directory: Path) -> Iterator[Path]:
    """Yields a folder inside ``directory`` to build in; it is taken away afterwards, or by the next clone if this process dies."""
    site = directory / f"{_PREFIX}{os.getpid()}-{new_id()}"
    with storage_errors(site):
        site.mkdir()
        lock = os.open(site / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield site
    finally:
        shutil.rmtree(site, ignore_errors=True)
        os.close(lock)


def _sweep(directory: Path) -> None:
    for site in directory.glob(f"{_PREFIX}*"):
        if is_abandoned(site / "lock"):
            shutil.rmtree(site, ignore_errors=True)

"""Fetch: what a remote has and we lack, and the refs that remember where its branches are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dartvc.errors import LockedError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.history.epoch import read_epoch
from dartvc.model import Oid
from dartvc.remotes.addresses import Address
from dartvc.remotes.exchange import WENT_APART, Exchange, RefUpdate, UpdateKind
from dartvc.remotes.negotiation import is_ancestor
from dartvc.remotes.peers import peer_at
from dartvc.remotes.registry import Remote
from dartvc.store.refs import check_ref_name

__all__ = ["fetch"]

_TRIES = 5


def fetch(
    repository: Repository,
    remote: Remote,
    address: Address,
    branches: Sequence[str] = (),
    *,
    prune: bool = False,
    force: bool = False,
    trust: bool = False,
) -> Exchange:
    """Brings what a remote has: its branches become ``refs/remotes/<remote>/*``, its tags and runs keep their names.

    Args:
        repository: ours.
        remote: the remote, which has a name.
        address: where it is.
        branches: only these; none: all branches, tags and runs.
        prune: forget branches that the remote no longer has.
        force: replace tags and runs of ours that are not the remote's.
        trust: the commits may be restored here; their author is known.

    Raises:
        RemoteError: it cannot be reached, or what it sends is damaged.
        NotFoundError: it has no such branch.
        UsageError: the remote has no name.
    """
    if not remote.name:
        raise UsageError(
            "what is fetched needs a name to be remembered by", kind="nameless-remote", hint=f"dvc-state remote add NAME {remote.url}"
        )
    names = [f"refs/heads/{check_ref_name(branch)}" for branch in branches] or None
    peer = peer_at(address, repository)
    for _ in range(_TRIES):
        epoch = read_epoch(repository.path)
        with peer.receive(repository, names) as incoming, repository.database.lock():
            if read_epoch(repository.path) != epoch:
                continue  # objects that were counted on may have been thrown away meanwhile
            incoming.admit()
            updates = (
                list(_pruned(repository, remote, incoming.refs)) if prune and names is None else []
            )  # first: they may stand in the way
            updates += [
                _update(repository, remote, name, oid, force=force) for name, oid in sorted(incoming.refs.items()) if _is_plain(name)
            ]
            moves = [RefMove(update.target, update.old, update.new) for update in updates if update.is_change]
            if moves:
                repository.move_refs(moves, operation="fetch", description=f"fetch {remote.name}")
            if trust:
                repository.trust_all(repository.database.iter_commits(incoming.refs.values()))
            repository.database.tidy()
            return Exchange(remote.name, address.shown, tuple(updates), incoming.objects, incoming.size_bytes)
    raise LockedError("the repository is being cleaned up", kind="locked", hint="try again")


def _is_plain(name: str) -> bool:
    """Whether a ref of the remote can have its name here: git forbids it otherwise, or it would hide the remote's HEAD."""
    try:
        return bool(check_ref_name(name)) and name != "refs/heads/HEAD"
    except UsageError:
        return False


def _update(repository: Repository, remote: Remote, name: str, new: Oid, *, force: bool) -> RefUpdate:
    """Returns what one ref of the remote does to ours. Tracking refs go where the remote is; tags and runs never lose anything."""
    is_branch = name.startswith("refs/heads/")
    target = remote.tracking(name.removeprefix("refs/heads/")) if is_branch else name
    old = repository.database.refs.read(target)
    database = repository.database
    if old == new:
        return RefUpdate(UpdateKind.UP_TO_DATE, name, target, old, new)
    if old is None:
        return RefUpdate(UpdateKind.NEW, name, target, old, new)
    if not name.startswith("refs/tags/") and is_ancestor(database, old, new):
        return RefUpdate(UpdateKind.FAST_FORWARD, name, target, old, new)
    if is_branch or force:
        return RefUpdate(UpdateKind.FORCED, name, target, old, new)
    if not name.startswith("refs/tags/") and is_ancestor(database, new, old):
        return RefUpdate(UpdateKind.UP_TO_DATE, name, target, old, old)
    if name.startswith("refs/tags/"):
        return RefUpdate(UpdateKind.REJECTED, name, target, old, new, "a tag of this name is elsewhere here")
    return RefUpdate(UpdateKind.KEPT, name, target, old, new, WENT_APART)


def _pruned(repository: Repository, remote: Remote, refs: Mapping[str, Oid]) -> Iterator[RefUpdate]:
    start = remote.tracking("")
    for name, oid in repository.database.refs.iter_refs(start):
        branch = name.removeprefix(start)
        if branch != "HEAD" and f"refs/heads/{branch}" not in refs:
            yield RefUpdate(UpdateKind.DELETED, f"refs/heads/{branch}", name, oid, None)

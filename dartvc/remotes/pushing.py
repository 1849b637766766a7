"""Push: branches, tags and runs of ours go to a remote; nothing there is lost unless asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dartvc.errors import NotFoundError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.model import Oid
from dartvc.remotes.addresses import Address
from dartvc.remotes.exchange import TRAVELLING, WENT_APART, Exchange, RefUpdate, Sent, UpdateKind
from dartvc.remotes.negotiation import is_ancestor
from dartvc.remotes.peers import peer_at
from dartvc.remotes.registry import Remote
from dartvc.store.refs import check_ref_name

__all__ = ["RefSpec", "parse_refspec", "push"]


@dataclass(frozen=True, slots=True)
class RefSpec:
    """One ref to push: ``source`` is a ref of ours (None: delete), ``target`` one of the remote's, ``is_along``: nobody named it."""

    source: str | None
    target: str
    force: bool = False
    is_along: bool = False


def parse_refspec(repository: Repository, text: str) -> RefSpec:
    """Reads ``NAME``, ``NAME:OTHER``, ``+NAME`` (force) and ``:OTHER`` (delete), as git-push does.

    Raises:
        NotFoundError: there is no such branch, tag or run here.
        UsageError: it is malformed.
    """
    force, text = text.startswith("+"), text.removeprefix("+")
    left, colon, right = text.partition(":")
    if not text or (colon and not right):
        raise UsageError(f"{text!r} is not a ref to push", kind="bad-refspec", hint="dvc-state push REMOTE BRANCH, or BRANCH:NAME-THERE")
    if not left:
        return RefSpec(None, _full(right, "refs/heads/"), force)
    refs = repository.database.refs
    spelled = [left] if left.startswith("refs/") else [prefix + left for prefix in (*TRAVELLING, "refs/")]
    source = next((name for name in spelled if ".." not in name and refs.read(name) is not None), None)
    if source is None or not source.startswith(TRAVELLING):
        raise NotFoundError(f"there is no branch, tag or run {left!r} to push", kind="unknown-ref", hint="dvc-state branch; dvc-state tag")
    prefix = next(each for each in TRAVELLING if source.startswith(each))
    return RefSpec(source, _full(right, prefix) if right else source, force)


def _full(name: str, prefix: str) -> str:
    full = name if name.startswith("refs/") else prefix + name
    check_ref_name(full)
    if not full.startswith(TRAVELLING):
        raise UsageError(f"{full} does not travel", kind="bad-refspec", hint="branches, tags and runs do")
    return full


def push(
    repository: Repository,
    remote: Remote,
    address: Address,
    specs: Sequence[RefSpec],
    *,
    force: bool = False,
    followed: bool = True,
    prune: bool = False,
) -> Exchange:
    """Gives a remote what refs of ours need and it lacks, then moves its refs, all or none.

    Args:
        repository: ours.
        remote: the remote.
        address: where it is.
        specs: what to push.
        force: move refs there that would lose commits.
        followed: take along the tags and runs whose commits are pushed.
        prune: delete the remote's branches that we do not have.

    Raises:
        RemoteError: it cannot be reached, or refused.
        RefConflictError: the remote's refs moved meanwhile.
        RefusedError: a session lives on a branch there.
    """
    peer = peer_at(address, repository)
    offered = peer.advertise().refs
    wanted = list(specs)
    if followed:
        wanted += _followers(repository, wanted, offered)
    if prune:
        ours = {name for name, _ in repository.database.refs.iter_refs("refs/heads/")}
        wanted += [RefSpec(None, name) for name in offered if name.startswith("refs/heads/") and name not in ours]
    updates = [_update(repository, spec, offered, force=force or spec.force) for spec in dict.fromkeys(wanted)]
    moves = [RefMove(update.target, update.old, update.new) for update in updates if update.is_change]
    sent = peer.send(repository, moves) if moves else Sent(0, 0)
    _remember(repository, remote, updates)
    return Exchange(remote.name, address.shown, tuple(updates), sent.objects, sent.size_bytes, sent.messages)


def _update(repository: Repository, spec: RefSpec, offered: Mapping[str, Oid], *, force: bool) -> RefUpdate:
    database = repository.database
    old = offered.get(spec.target)
    if spec.source is None:
        kind = UpdateKind.DELETED if old is not None else UpdateKind.REJECTED
        return RefUpdate(kind, "", spec.target, old, None, "" if old is not None else "the remote has none of this name")
    new = database.refs.read(spec.source)
    update = RefUpdate(UpdateKind.NEW, spec.source, spec.target, old, new)
    if old is None or new is None:
        return update
    if old == new:
        return replace(update, kind=UpdateKind.UP_TO_DATE)
    is_tag = spec.target.startswith("refs/tags/")
    is_known = database.contains(old)
    if not is_tag and is_known and is_ancestor(database, old, new):
        return replace(update, kind=UpdateKind.FAST_FORWARD)
    if force:
        return replace(update, kind=UpdateKind.FORCED)
    if not is_tag and is_known and is_ancestor(database, new, old) and spec.target.startswith(("refs/runs/", "refs/logs/")):
        return replace(update, kind=UpdateKind.UP_TO_DATE)
    if spec.is_along and not is_tag:
        return replace(update, kind=UpdateKind.KEPT, reason=WENT_APART)
    reason = (
        "a tag of this name is elsewhere there"
        if is_tag
        else "it is not a fast-forward"
        if is_known
        else "the remote has commits that are not here"
    )
    return replace(update, kind=UpdateKind.REJECTED, reason=reason)


def _followers(repository: Repository, specs: Iterable[RefSpec], offered: Mapping[str, Oid]) -> list[RefSpec]:
    """Returns the tags and runs that the remote lacks (or has behind ours) and whose commits are in what is pushed, and all logs."""
    refs = repository.database.refs
    known = {spec.target for spec in specs}
    tips = [oid for spec in specs if spec.source is not None and (oid := refs.read(spec.source)) is not None]
    candidates = [
        (name, oid)
        for prefix in ("refs/tags/", "refs/runs/", "refs/logs/")
        for name, oid in refs.iter_refs(prefix)
        if name not in known and (name not in offered or (prefix != "refs/tags/" and offered[name] != oid))
    ]
    if not candidates or not tips:
        return []
    pushed = set(repository.database.iter_commits(tips))
    return [RefSpec(name, name, is_along=True) for name, oid in candidates if oid in pushed or name.startswith("refs/logs/")]  # these stand on no branch


def _remember(repository: Repository, remote: Remote, updates: Iterable[RefUpdate]) -> None:
    """Moves our tracking refs to where the remote's branches are now."""
    if not remote.name:
        return
    refs = repository.database.refs
    moves = []
    for update in updates:
        if update.kind is not UpdateKind.REJECTED and update.target.startswith("refs/heads/"):
            name = remote.tracking(update.target.removeprefix("refs/heads/"))
            present = refs.read(name)
            if present != update.new:
                moves.append(RefMove(name, present, update.new))
    if moves:
        repository.move_refs(moves, operation="push", description=f"push {remote.name}")

"""The verbs that exchange with other repositories: clone, remote, fetch, push, pull, bundle; and how a branch stands to the one it follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import NotFoundError, RefusedError, UsageError
from dartvc.history import Repository
from dartvc.model import CommitKind, Oid, Workspace
from dartvc.porcelain.moves import Moved
from dartvc.remotes import (
    Divergence,
    Exchange,
    Remote,
    Remotes,
    bundles,
    divergence_of,
    is_ancestor,
    parse_address,
)
from dartvc.remotes import clone as clone_from
from dartvc.remotes import fetch as fetch_from
from dartvc.remotes import push as push_to
from dartvc.remotes.cloning import Clone
from dartvc.remotes.pushing import RefSpec, parse_refspec
from dartvc.remotes.registry import Upstream

__all__ = ["Pulled", "bundle_create", "bundle_verify", "clone", "divergence", "fetch", "fetch_all", "pull", "push"]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did: the fetch before it, and where the branch and the namespace went (None: they were up to date)."""

    exchange: Exchange | None
    upstream: str
    moved: Moved | None
    divergence: Divergence


def clone(url: str, directory: str = "", *, base: Path, origin: str = "origin", branch: str | None = None, trust: bool = False) -> Clone:
    """Makes a new repository with all that the one at ``url`` has.

    Args:
        url: a path, ``HOST:PATH``, a URL or a bundle file.
        directory: the new project's folder; empty: named like the other one.
        base: what relative paths start from.
        origin: what the remote is called.
        branch: go to this branch.
        trust: the commits may be restored here.
    """
    address = parse_address(url, base)
    if not directory and not address.stem:
        raise UsageError(f"{url!r} does not say what the folder should be called", kind="no-directory", hint=f"dvc-state clone {url} DIR")
    folder = base / (directory or address.stem)
    if not directory and folder.exists() and any(folder.iterdir()):
        raise UsageError(f"the folder {folder.name} exists and is not empty", kind="folder-exists", hint=f"dvc-state clone {url} DIR")
    return clone_from(address, folder.resolve(), origin=origin, branch=branch, trust=trust)


def fetch(
    repository: Repository,
    remote: str = "",
    branches: Sequence[str] = (),
    *,
    head: str | None = None,
    prune: bool = False,
    force: bool = False,
    trust: bool = False,
) -> Exchange:
    """Brings what a remote has; ``head`` is the branch whose remote is taken when none is named."""
    remotes = Remotes(repository)
    source = remotes.find(remote) if remote else remotes.default(head)
    return fetch_from(repository, source, remotes.address(source), branches, prune=prune, force=force, trust=trust)


def fetch_all(repository: Repository, *, prune: bool = False, force: bool = False, trust: bool = False) -> list[Exchange]:
    """Fetches from every remote."""
    remotes = Remotes(repository)
    return [fetch_from(repository, each, remotes.address(each), prune=prune, force=force, trust=trust) for each in remotes.known()]


def push(
    repository: Repository,
    remote: str = "",
    refs: Sequence[str] = (),
    *,
    head: str | None = None,
    everything: bool = False,
    tags: bool = False,
    delete: bool = False,
    force: bool = False,
    prune: bool = False,
    follow: bool = False,
) -> Exchange:
    """Gives a remote what it lacks.

    Args:
        repository: ours.
        remote: a remote or an address; empty: the one that the branch follows.
        refs: what to push, as `parse_refspec` reads it; none: the branch that is checked out.
        head: the branch that is checked out.
        everything: all branches, tags and runs.
        tags: all tags.
        delete: delete ``refs`` there.
        force: even where commits are lost there.
        prune: delete branches there that are not here.
        follow: make the branch follow the one that it was pushed to; done by itself when it follows none yet.
    """
    remotes = Remotes(repository)
    target = remotes.find(remote) if remote else remotes.default(head)
    specs = _specs(repository, remotes, target, refs, head, everything, tags, delete)
    address = remotes.address(target, is_push=True)
    done = push_to(repository, target, address, specs, force=force, followed=not delete, prune=prune)
    if target.name and head is not None:
        _follow(repository, remotes, target, specs, head, is_asked=follow)
    return done


def _specs(
    repository: Repository,
    remotes: Remotes,
    target: Remote,
    refs: Sequence[str],
    head: str | None,
    everything: bool,
    tags: bool,
    delete: bool,
) -> list[RefSpec]:
    if delete:
        if not refs:
            raise UsageError("nothing was named to delete", kind="nothing-to-push", hint="dvc-state push --delete REMOTE BRANCH")
        return [parse_refspec(repository, f":{each}") for each in refs]
    specs = [parse_refspec(repository, each) for each in refs]
    kinds = (("refs/heads/", everything), ("refs/tags/", everything or tags), ("refs/runs/", everything), ("refs/logs/", everything))
    for prefix, is_wanted in kinds:
        if is_wanted:
            is_along = prefix in ("refs/runs/", "refs/logs/")
            specs += [RefSpec(name, name, is_along=is_along) for name, _ in repository.database.refs.iter_refs(prefix)]
    if specs or everything or tags:
        return specs
    if head is None:
        raise UsageError("HEAD is detached: no branch is checked out", kind="detached", hint="dvc-state push REMOTE BRANCH")
    if repository.database.refs.read(f"refs/heads/{head}") is None:
        raise NotFoundError(
            f"branch {head!r} has no commit yet", kind="no-commits", hint="dvc-state run SCRIPT, or %load_ext dartvc in a notebook"
        )
    upstream = remotes.upstream(head)
    there = upstream.branch if upstream is not None and upstream.remote == target.name else head
    return [RefSpec(f"refs/heads/{head}", f"refs/heads/{there}")]


def _follow(repository: Repository, remotes: Remotes, target: Remote, specs: Sequence[RefSpec], head: str, *, is_asked: bool) -> None:
    for spec in specs:
        if spec.source == f"refs/heads/{head}" and (is_asked or not repository.config.get(f"branch.{head}.remote", "")):
            remotes.follow(head, Upstream(target.name, spec.target.removeprefix("refs/heads/")))


def pull(
    repository: Repository, workspace: Workspace, remote: str = "", branch: str = "", *, is_fetching: bool = True, trust: bool = False
) -> Pulled:
    """Fetches, then brings the checked-out branch and the namespace forward to where the remote's branch is.

    Raises:
        RefusedError: both went on since; histories of states do not merge.
        UsageError: no branch is checked out.
        NotFoundError: the remote has no such branch.
    """
    present = workspace.branch
    if present is None:
        raise UsageError("HEAD is detached: there is no branch to bring forward", kind="detached", hint="dvc-state switch main")
    remotes = Remotes(repository)
    upstream = remotes.upstream(present)
    source = remotes.find(remote) if remote else remotes.get(upstream.remote) if upstream is not None else remotes.default(present)
    there = branch or (upstream.branch if upstream is not None and upstream.remote == source.name else present)
    exchange = fetch(repository, source.name or source.url, trust=trust) if is_fetching else None
    name = f"{source.name}/{there}"
    target = repository.database.refs.read(source.tracking(there))
    if target is None:
        raise NotFoundError(f"the remote {source.name!r} has no branch {there!r}", kind="unknown-ref", hint="dvc-state branch -a")
    head = workspace.head
    if head is not None and is_ancestor(repository.database, target, head):
        return Pulled(exchange, name, None, divergence_of(repository.database, head, target, name))
    if head is not None and not is_ancestor(repository.database, head, target):
        apart = divergence_of(repository.database, head, target, name)
        raise RefusedError(
            f"{present} and {name} went apart: {apart.ahead} commits are only here, {apart.behind} only there; states do not merge",
            kind="diverged",
            hint=f"dvc-state checkout {name} -b NAME keeps both; dvc-state cherry-pick takes names over; dvc-state reset {name} gives up what is only here",
        )
    behind = Divergence(name, 0, 0 if head is None else divergence_of(repository.database, head, target, name).behind)
    saved = workspace.checkpoint("before pull", CommitKind.AUTO)
    report = workspace.restore(target, trust=trust)
    workspace.set_head(target, present, operation="pull", description=f"pull {name}")
    moved = Moved("pull", target, present, report, saved, f"pull {name}", workspace.is_live)
    return Pulled(exchange, name, moved, behind)


def divergence(repository: Repository, branch: str | None, head: Oid | None) -> Divergence | None:
    """Returns how a branch stands to the one that it follows, as far as the last fetch or push saw; None when it follows none."""
    if branch is None or head is None:
        return None
    upstream = Remotes(repository).upstream(branch)
    there = repository.database.refs.read(upstream.ref) if upstream is not None else None
    return divergence_of(repository.database, head, there, upstream.name) if upstream is not None and there is not None else None


def bundle_create(
    repository: Repository,
    file: Path,
    revisions: Sequence[str],
    *,
    head: str | None = None,
    lighten: Callable[[Oid, Sequence[Oid]], Oid] | None = None,
) -> bundles.Bundle:
    """Writes branches, tags and runs, with all that they need, into one file; see `bundles.create_bundle`."""
    return bundles.create_bundle(repository, file, revisions, head=head, lighten=lighten)


def bundle_verify(repository: Repository, file: Path) -> bundles.Bundle:
    """Reads a bundle wholly: each object is what its id says, and with what is here nothing is missing."""
    return bundles.verify_bundle(repository, file)

"""Setting a state aside and bringing it back on top of what the program is then; several lie on each other, as git's do."""

from __future__ import annotations

from dataclasses import dataclass

from dartvc.errors import NotFoundError, RefusedError
from dartvc.history import RefMove, Repository
from dartvc.model import Commit, CommitKind, Oid, Workspace, short
from dartvc.porcelain.moves import Moved, need_session

__all__ = ["Stash", "stash", "stash_drop", "stash_list", "stash_pop"]

_PREFIX = "refs/dartvc/stash"


@dataclass(frozen=True, slots=True)
class Stash:
    """A state that was set aside: its commit, and the one that the session went back to then."""

    ref: str
    commit: Commit
    base: Commit


def stash(repository: Repository, workspace: Workspace) -> Moved:
    """Sets aside what came after the last named commit (before the last one where none is named) and goes back to that.

    Raises:
        RefusedError: nothing came after it, or nothing is before.
    """
    need_session(workspace)
    workspace.checkpoint("stash", CommitKind.STASH)
    top = workspace.head
    if top is None:
        raise RefusedError("there is no earlier state to go back to", kind="nothing-before", hint="dvc-state log")
    if repository.commit(top).kind is CommitKind.MANUAL:
        raise RefusedError(f"nothing came after {short(top)}: there is nothing to set aside", kind="nothing-to-stash", hint="dvc-state log")
    base = _base_of(repository, top)
    number = 1 + max((_number(each.ref) for each in stash_list(repository)), default=-1)
    ref = f"{_PREFIX}-{number}" if number else _PREFIX
    repository.move_refs([RefMove(ref, None, top)], operation="stash", description="stash")
    report = workspace.restore(base.oid)
    workspace.set_head(base.oid, workspace.branch, operation="reset", description="stash: go back")
    return Moved("stash", base.oid, workspace.branch, report, top, "stash", True)


def stash_pop(repository: Repository, workspace: Workspace) -> Moved:
    """Brings back what was set aside last, on top of what there is now, and commits.

    Raises:
        NotFoundError: nothing is set aside.
        RefusedError: names of it changed since, too.
    """
    need_session(workspace)
    found = _newest(repository)
    saved = workspace.checkpoint("before stash pop", CommitKind.AUTO)
    present = workspace.head
    assert present is not None
    if present == found.base.oid:  # nothing happened since: its commits are the branch again
        report = workspace.restore(found.commit.oid)
        workspace.set_head(found.commit.oid, workspace.branch, operation="stash pop", description="stash pop")
    else:
        wanted, ours = (_changed(repository, found.base.oid, oid) for oid in (found.commit.oid, present))
        both = sorted(wanted & ours)
        if both:
            raise RefusedError(
                f"{', '.join(both)} changed since the stash, too",
                kind="stash-conflict",
                hint=f"dvc-state restore NAMES --from {short(found.commit.oid)} takes single names; dvc-state checkout {short(found.commit.oid)}",
            )
        held = repository.names(found.commit.oid)
        report = workspace.restore(found.commit.oid, sorted(name for name in wanted if name in held))
        workspace.checkpoint("stash pop", CommitKind.STASH, force=True)
    repository.move_refs([RefMove(found.ref, found.commit.oid, None)], operation="stash drop", description="stash pop: drop")
    return Moved("stash pop", workspace.head, workspace.branch, report, saved, "stash pop", True)


def stash_list(repository: Repository) -> list[Stash]:
    """Returns the states that are set aside, the newest first."""
    refs = sorted(repository.database.refs.iter_refs(_PREFIX), key=lambda pair: -_number(pair[0]))
    return [Stash(ref, repository.commit(oid), _base_of(repository, oid)) for ref, oid in refs]


def stash_drop(repository: Repository) -> Stash:
    """Forgets what was set aside last; `undo` brings it back.

    Raises:
        NotFoundError: nothing is set aside.
    """
    found = _newest(repository)
    repository.move_refs([RefMove(found.ref, found.commit.oid, None)], operation="stash drop", description="stash drop")
    return found


def _newest(repository: Repository) -> Stash:
    stashes = stash_list(repository)
    if not stashes:
        raise NotFoundError("nothing is stashed", kind="no-stash", hint="dvc-state stash")
    return stashes[0]


def _number(ref: str) -> int:
    return int(ref.removeprefix(_PREFIX).removeprefix("-") or 0)


def _base_of(repository: Repository, top: Oid) -> Commit:
    """Returns where a stash goes back to: the last named commit before it, the one before it where none is named."""
    commits = [commit for commit in repository.iter_log([top]) if commit.oid != top]
    if not commits:
        raise RefusedError("there is no earlier state to go back to", kind="nothing-before", hint="dvc-state log")
    return next((commit for commit in commits if commit.kind is CommitKind.MANUAL), commits[0])


def _changed(repository: Repository, before: Oid, after: Oid) -> set[str]:
    """Returns the names that two commits hold differently."""
    old, new = repository.names(before), repository.names(after)
    return {
        name
        for name in old.keys() | new.keys()
        if name not in old or name not in new or (old[name].payload_oid, old[name].recipe_oid) != (new[name].payload_oid, new[name].recipe_oid)
    }

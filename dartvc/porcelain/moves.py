"""The verbs that move state: checkout, restore, switch, branch, tag, reset, revert, cherry-pick, undo, redo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dartvc.errors import NotFoundError, RefusedError, UsageError
from dartvc.history import RefMove, Repository, Standing, UndoPlan
from dartvc.model import CommitKind, Oid, RestoreReport, Workspace, short
from dartvc.store import Head
from dartvc.store.refs import check_ref_name

if TYPE_CHECKING:
    from dartvc.sessions.registry import LiveSession

__all__ = [
    "Moved",
    "branch",
    "checkout",
    "cherry_pick",
    "delete_ref",
    "need_session",
    "redo",
    "rename_branch",
    "reset",
    "restore",
    "restore_operation",
    "revert",
    "tag",
    "undo",
]



@dataclass(frozen=True, slots=True)
class Moved:
    """What a verb did: where HEAD is now, what was restored, what was committed first so that nothing is lost."""

    verb: str
    head: Oid | None
    branch: str | None
    report: RestoreReport = RestoreReport()  # noqa: RUF009  (frozen and empty)
    saved: Oid | None = None
    description: str = ""
    is_live: bool = False
    has_moved_head: bool = True


def checkout(
    repository: Repository,
    workspace: Workspace,
    revision: str,
    *,
    names: Sequence[str] | None = None,
    new_branch: str | None = None,
    trust: bool = False,
    map_device: str = "",
) -> Moved:
    """Goes to a revision; with ``names`` only brings these back and leaves HEAD where it is.

    ``map_device`` tells where tensors go that were on a graphics processor; empty: where they were, or on the CPU when that is not here.
    """
    if map_device and not workspace.is_live:
        raise NotFoundError("no session is alive whose tensors could go to a device", kind="no-session", hint="dvc-state shell REV --map-device cpu")
    if names:
        return restore(repository, workspace, names, revision, trust=trust, map_device=map_device)
    oid = repository.resolve(revision, head=workspace.head)
    if new_branch is not None:
        _check_absent(repository, new_branch)
    saved = workspace.checkpoint("before checkout", CommitKind.AUTO)
    if new_branch is not None and revision in ("HEAD", "@"):
        oid = saved or oid  # as in git, a new branch begins with what was not committed yet
    target = new_branch
    if new_branch is None and repository.database.refs.read(f"refs/heads/{revision}") is not None:
        target = revision
    report = workspace.restore(oid, trust=trust, map_device=map_device)
    description = f"checkout {revision}"
    workspace.set_head(oid, target, operation="checkout", description=description)
    return Moved("checkout", oid, target, report, saved, description, workspace.is_live)


def restore(
    repository: Repository, workspace: Workspace, names: Sequence[str], revision: str, *, trust: bool = False, map_device: str = ""
) -> Moved:
    """Brings names back from a revision; HEAD does not move, the change is committed."""
    oid = repository.resolve(revision, head=workspace.head)
    saved = workspace.checkpoint("before restore", CommitKind.AUTO)
    if not workspace.is_live:
        raise NotFoundError(
            "no session is alive whose names could be restored", kind="no-session", hint="start one, or dvc-state checkout REV"
        )
    report = workspace.restore(oid, names, trust=trust, map_device=map_device)
    workspace.checkpoint(f"restore {', '.join(names)} from {short(oid)}", CommitKind.MANUAL)
    return Moved("restore", workspace.head, workspace.branch, report, saved, f"restore {' '.join(names)}", workspace.is_live)


def _check_absent(repository: Repository, name: str) -> None:
    check_ref_name(name)
    if repository.database.refs.read(f"refs/heads/{name}") is not None:
        raise UsageError(f"a branch {name!r} exists already", kind="branch-exists", hint=f"dvc-state switch {name}")


def branch(repository: Repository, name: str, revision: str = "HEAD", head: Oid | None = None) -> Oid:
    """Makes a branch at a revision."""
    _check_absent(repository, name)
    oid = repository.resolve(revision, head=head)
    repository.move_refs([RefMove(f"refs/heads/{name}", None, oid)], operation="branch", description=f"branch {name}")
    return oid


def tag(repository: Repository, name: str, revision: str = "HEAD", head: Oid | None = None) -> Oid:
    """Makes a tag at a revision."""
    check_ref_name(name)
    oid = repository.resolve(revision, head=head)
    present = repository.database.refs.read(f"refs/tags/{name}")
    if present is not None and present != oid:
        raise UsageError(f"a tag {name!r} exists already, at {short(present)}", kind="tag-exists", hint=f"dvc-state tag -d {name}")
    if present is None:
        repository.move_refs([RefMove(f"refs/tags/{name}", None, oid)], operation="tag", description=f"tag {name}")
    return oid


def delete_ref(repository: Repository, kind: str, name: str, current: str | None = None) -> Oid:
    """Deletes a branch or a tag (``kind``: heads or tags); `undo` brings it back."""
    ref = f"refs/{kind}/{name}"
    oid = repository.database.refs.read(ref)
    word = "branch" if kind == "heads" else "tag"
    if oid is None:
        raise NotFoundError(f"there is no {word} {name!r}", kind="unknown-ref", hint=f"dvc-state {word}")
    if kind == "heads" and name == current:
        raise RefusedError(f"{name!r} is checked out", kind="branch-in-use", hint="dvc-state switch to another first")
    repository.move_refs([RefMove(ref, oid, None)], operation=f"delete {word}", description=f"{word} -d {name}")
    return oid


def rename_branch(repository: Repository, old: str, new: str) -> Oid:
    """Gives a branch another name, and what it follows with it; HEAD goes along.

    Raises:
        NotFoundError: there is no such branch.
        RefusedError: a session lives on it.
        UsageError: there is one of the new name.
    """
    _check_absent(repository, new)
    source, target = f"refs/heads/{old}", f"refs/heads/{new}"
    oid = repository.database.refs.read(source)
    if oid is None:
        raise NotFoundError(f"there is no branch {old!r}", kind="unknown-ref", hint="dvc-state branch")
    if any(each.branch == old for each in _living(repository)):
        raise RefusedError(f"a session lives on {old!r}", kind="branch-in-use", hint=f"dvc-state branch {new} {old} makes another one")
    settings = {key: repository.config.get(key) for key in repository.config.keys(f"branch.{old}.")}
    head = Head(target, oid) if repository.database.refs.head().ref == source else None
    moves = [RefMove(source, oid, None), RefMove(target, None, oid)]
    repository.move_refs(moves, operation="rename branch", description=f"branch -m {old} {new}", head=head)
    moved = {key.replace(f".{old}.", f".{new}.", 1): value for key, value in settings.items()}
    repository.config.update({**dict.fromkeys(settings), **moved})
    return oid


def reset(repository: Repository, workspace: Workspace, revision: str, *, trust: bool = False) -> Moved:
    """Moves the branch (and the namespace) to a revision."""
    oid = repository.resolve(revision, head=workspace.head)
    saved = workspace.checkpoint("before reset", CommitKind.AUTO)
    report = workspace.restore(oid, trust=trust)
    workspace.set_head(oid, workspace.branch, operation="reset", description=f"reset {revision}")
    return Moved("reset", oid, workspace.branch, report, saved, f"reset {revision}", workspace.is_live)


def cherry_pick(
    repository: Repository, workspace: Workspace, revision: str, names: Sequence[str] | None = None, *, trust: bool = False
) -> Moved:
    """Brings the names that a commit wrote into the present namespace, and commits."""
    oid = repository.resolve(revision, head=workspace.head)
    saved = workspace.checkpoint("before cherry-pick", CommitKind.AUTO)
    commit = repository.commit(oid)
    wanted = list(names or (*commit.added, *commit.modified))
    if not wanted:
        raise UsageError(f"{short(oid)} wrote no name", kind="nothing-to-pick", hint=f"dvc-state show {short(oid)}")
    need_session(workspace)
    report = workspace.restore(oid, wanted, trust=trust)
    workspace.checkpoint(commit.subject, CommitKind.CHERRY_PICK, force=True)
    return Moved("cherry-pick", workspace.head, workspace.branch, report, saved, f"cherry-pick {short(oid)}", workspace.is_live)


def revert(repository: Repository, workspace: Workspace, revision: str, *, trust: bool = False) -> Moved:
    """Gives the names that a commit wrote the values they had before it, and commits."""
    oid = repository.resolve(revision, head=workspace.head)
    saved = workspace.checkpoint("before revert", CommitKind.AUTO)
    commit = repository.commit(oid)
    if not commit.parents:
        raise UsageError(f"{short(oid)} is the first commit", kind="no-parent", hint="dvc-state log")
    need_session(workspace)
    parent = commit.parents[0]
    held = repository.names(parent)
    wanted = [name for name in (*commit.modified, *commit.removed, *commit.added) if name in held]
    report = workspace.restore(parent, wanted, removed=[name for name in commit.added if name not in held], trust=trust)
    workspace.checkpoint(f"revert {commit.subject}", CommitKind.REVERT, force=True)
    return Moved("revert", workspace.head, workspace.branch, report, saved, f"revert {short(oid)}", workspace.is_live)


def need_session(workspace: Workspace) -> None:
    """Refuses what only makes sense while a program runs whose names could change."""
    if not workspace.is_live:
        raise NotFoundError(
            "no session is alive whose names could change", kind="no-session", hint="%load_ext dartvc in a notebook, or dartvc.attach(globals())"
        )


def undo(repository: Repository, workspace: Workspace) -> Moved:
    """Takes back the last operation; twice takes back two. What no commit has yet is committed first, and is what is taken back.

    What others do beside this session is theirs to take back, and is passed over.
    """
    saved = workspace.checkpoint("before undo", CommitKind.AUTO)
    plan = repository.operations.plan_undo(_standing(repository, workspace))
    return _carry_out(repository, workspace, plan, "undo", saved)


def redo(repository: Repository, workspace: Workspace) -> Moved:
    """Does again what the last undo took back."""
    return _carry_out(repository, workspace, repository.operations.plan_redo(_standing(repository, workspace)), "redo", None)


def restore_operation(repository: Repository, workspace: Workspace, operation_id: str) -> Moved:
    """Brings refs, HEAD and namespace to where they were after an operation."""
    saved = workspace.checkpoint("before op restore", CommitKind.AUTO)
    return _carry_out(repository, workspace, repository.operations.plan_restore(operation_id), "op restore", saved)


def _standing(repository: Repository, workspace: Workspace) -> Standing:
    others = frozenset(each.session_id for each in _living(repository) if each.session_id != workspace.session_id)
    return Standing(workspace.session_id, _head_of(workspace), others)


def _head_of(workspace: Workspace) -> Head:
    return Head(f"refs/heads/{workspace.branch}" if workspace.branch is not None else None, workspace.head)


def _living(repository: Repository) -> Sequence[LiveSession]:
    from dartvc.sessions.registry import living_sessions  # what only moves refs needs no sockets

    return living_sessions(repository.path)


def _under_present_ids(repository: Repository, plan: UndoPlan) -> UndoPlan:
    """Returns a plan with the ids that its commits have since automatic ones between them were dropped.

    Raises:
        NotFoundError: one of them was dropped itself.
    """

    def present(oid: Oid | None) -> Oid | None:
        return repository.current_id(oid) if oid is not None else None

    moves = [RefMove(move.name, present(move.old), present(move.new)) for move in plan.moves]
    head = Head(plan.head.ref, present(plan.head.oid))
    return plan._replace(moves=tuple(move for move in moves if move.old != move.new), head=head)


def _carry_out(repository: Repository, workspace: Workspace, plan: UndoPlan, verb: str, saved: Oid | None) -> Moved:
    plan = _under_present_ids(repository, plan)
    target = plan.head_oid
    if target is None:
        raise RefusedError("there is no state before the first commit", kind="nothing-before", hint="dvc-state log")
    before = _head_of(workspace)
    report = workspace.restore(target) if target != before.oid else RestoreReport()
    sessions = [each.session_id for each in _living(repository)]
    keeps_own = workspace.session_id in sessions[1:]  # the repository's HEAD is that of the oldest
    repository.carry_out(plan, session=workspace.session_id, head_before=before if keeps_own else None)
    branch_name = plan.head.ref.removeprefix("refs/heads/") if plan.head.ref else None
    workspace.follow_head(target, branch_name)
    return Moved(verb, target, branch_name, report, saved, plan.description, workspace.is_live, plan.head != before)

"""Where HEAD was before, and who else stands where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.errors import NotFoundError

if TYPE_CHECKING:
    from dartvc.history import Repository
    from dartvc.model import Workspace
    from dartvc.sessions.registry import LiveSession

__all__ = ["previous_place", "sharer_of"]


def previous_place(repository: Repository, workspace: Workspace) -> str:
    """Returns what ``-`` means, as in git: the branch that HEAD was on before it came to the present one, or the commit when it was on none.

    Raises:
        NotFoundError: HEAD has been nowhere else.
    """
    present = f"refs/heads/{workspace.branch}" if workspace.branch is not None else None
    refs = repository.database.refs
    for entry in repository.operations.iter_newest():
        before, after = entry.head_before, entry.head_after
        if after.ref != present or before.oid is None or (before.ref == after.ref and (present is not None or before.oid == after.oid)):
            continue
        if before.ref is not None and refs.read(before.ref) is not None:
            return before.ref.removeprefix("refs/heads/")
        return repository.current_id(before.oid)
    raise NotFoundError("HEAD has been nowhere else yet", kind="no-previous-place", hint="dvc-state branch")


def sharer_of(repository: Repository, workspace: Workspace, branch: str | None) -> LiveSession | None:
    """Returns another living session that commits to a branch; None when nobody does."""
    from dartvc.sessions.registry import living_sessions

    if branch is None or not workspace.is_live:
        return None
    others = (each for each in living_sessions(repository.path) if each.session_id != workspace.session_id)
    return next((each for each in others if each.branch == branch), None)

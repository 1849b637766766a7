"""HEAD alone: what moves when no session is alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dartvc.history import Repository
    from dartvc.model import CommitKind, Oid, RestoreReport

__all__ = ["HeadWorkspace"]


class HeadWorkspace:
    """A `Workspace` without a namespace: checkouts move HEAD, and the next session starts there."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.session_id = ""
        self.is_live = False

    @property
    def head(self) -> Oid | None:
        """The commit that HEAD points at."""
        return self._repository.database.refs.head().oid

    @property
    def branch(self) -> str | None:
        """The checked-out branch, None when HEAD is detached."""
        ref = self._repository.database.refs.head().ref
        return ref.removeprefix("refs/heads/") if ref else None

    def checkpoint(self, message: str, kind: CommitKind, *, force: bool = False) -> Oid | None:
        """Nothing lives, so there is nothing to commit."""
        return None

    def restore(
        self, oid: Oid, names: Sequence[str] | None = None, *, removed: Sequence[str] = (), trust: bool = False, map_device: str = ""
    ) -> RestoreReport:
        """Nothing lives, so there is nothing to restore; the next session begins at HEAD."""
        from dartvc.model import RestoreReport
        from dartvc.store.durable import storage_errors

        marker = self._repository.path / "restore-next"
        with storage_errors(marker):
            marker.write_text(f"{oid}\n")
        return RestoreReport()

    def set_head(self, oid: Oid | None, branch: str | None, *, operation: str, description: str) -> None:
        """Moves HEAD."""
        from dartvc.history import RefMove
        from dartvc.store import Head

        moves = []
        ref = None
        if branch is not None:
            ref = f"refs/heads/{branch}"
            present = self._repository.database.refs.read(ref)
            if present != oid:
                moves.append(RefMove(ref, present, oid))
        self._repository.move_refs(moves, operation=operation, description=description, head=Head(ref, oid))

    def follow_head(self, oid: Oid | None, branch: str | None) -> None:
        """Nothing to do: HEAD itself is all there is."""

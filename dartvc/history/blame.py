"""Which commit wrote each name last; read from commit objects alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dartvc.model import Commit, Oid

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["blame"]


def blame(repository: Repository, tip: Oid, names: Iterable[str] | None = None) -> dict[str, Commit]:
    """Returns for each name of a commit the commit that last added or modified it, along first parents.

    Args:
        repository: where.
        tip: the commit whose names are asked for.
        names: only these; None: all that ``tip`` has. A name that it does not have is left out.
    """
    present = repository.names(tip)
    order = list(present) if names is None else [name for name in names if name in present]
    open_names = set(order)
    found: dict[str, Commit] = {}
    oid: Oid | None = tip
    while oid is not None and open_names:
        commit = repository.commit(oid)
        for name in open_names.intersection((*commit.added, *commit.modified)):
            found[name] = commit
        open_names.difference_update(found)
        if not commit.parents:
            found.update(dict.fromkeys(open_names, commit))
        oid = commit.parents[0] if commit.parents else None
    return {name: found[name] for name in order if name in found}

"""One executed piece of code, as a session commits it: what it made anew, and what kind of operation it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.history.operations import CELL_END, INSIDE, LOOK
from dartvc.model import CommitKind, Omission, StagedCommit, StagedName
from dartvc.model.records import NamedTuple

if TYPE_CHECKING:
    from dartvc.state.working import NamespaceDelta

__all__ = ["Unit", "operation_of", "with_freshness"]

_PASSING = frozenset({"random", "numpy.random", "torch.random", "warnings", "imports"})
"""What of the process changes when somebody looks: a sample is drawn, a library loaded."""


class Unit(NamedTuple):
    """A cell, or a statement at a prompt.

    Attributes:
        code: what the user typed.
        mentioned: the names in it; None when it may have touched any.
        execution: IPython's execution count.
        error: the exception that ended it, as one line.
        duration_ms: how long it ran.
        is_idle: nothing of the program ran: a line of our own.
    """

    code: str
    mentioned: frozenset[str] | None
    execution: int | None = None
    error: str = ""
    duration_ms: float = 0.0
    is_idle: bool = False


def with_freshness(delta: NamespaceDelta) -> tuple[StagedName, ...]:
    """Tells for each omitted name whether this unit made it anew or only touched it."""
    if not any(isinstance(name.omission, Omission) for name in delta.changed):
        return delta.changed
    marked = []
    for name in delta.changed:
        if name.omission is None:
            marked.append(name)
        else:
            recipe = name.recipe or {"fresh": name.name in delta.rebound}
            marked.append(StagedName(name.name, name.summary, None, name.omission, recipe))
    return tuple(marked)


def operation_of(commit: StagedCommit, *, was_inside: bool) -> str:
    """Returns what the operation log calls a commit; ``was_inside``: the one before stood in the middle of a cell."""
    if commit.is_inside_cell or was_inside:
        return INSIDE if commit.is_inside_cell else CELL_END
    is_cell = commit.kind in (CommitKind.CELL, CommitKind.EXCEPTION) and commit.keep_names and not commit.run
    gone = any("." not in name for name in commit.removed)  # locals of frames are over whenever code is
    is_changed = bool(commit.changed) or gone or any(not each.is_same and each.name not in _PASSING for each in commit.process)
    return LOOK if is_cell and not is_changed else "commit"

"""The journals of runs and cells: ``runs/<run>`` and ``cells/<cell>`` of a repository, and which of them nobody will read again.

A journal takes back what a program wrote after one of its commits. When none of its commits exists any more, nothing can go on there, and
the journal goes, too. That of a cell that ended goes with the cell, if its kernel lived to see it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError
from dartvc.history.config import parse_duration_s
from dartvc.history.reachability import logged_commits, named_commits

if TYPE_CHECKING:
    from dartvc.history import Repository

__all__ = ["sweep_journals"]


def sweep_journals(
    repository: Repository, *, dry_run: bool = False, grace_s: float | None = None, now_s: float | None = None
) -> tuple[str, ...]:
    """Removes the journals of runs and cells of which no commit is left; returns which, as ``runs/<run>``.

    Args:
        repository: where.
        dry_run: only tell.
        grace_s: a younger one stays: its first commit may be on its way; None: the setting ``dartvc.gracePeriod``.
        now_s: the time in seconds since the epoch; None: now.
    """
    grace_s = parse_duration_s(repository.config.get("dartvc.gracePeriod")) if grace_s is None else grace_s
    now_s = time.time() if now_s is None else now_s
    old = [folder for folder in _folders(repository.path) if _changed_s(folder) < now_s - grace_s]
    if not old:
        return ()
    needed = set(_needed(repository, any(folder.parent.name == "cells" for folder in old)))
    swept = [folder for folder in old if f"{folder.parent.name}/{folder.name}" not in needed]
    if not dry_run:
        for folder in swept:
            shutil.rmtree(folder, ignore_errors=True)
    return tuple(f"{folder.parent.name}/{folder.name}" for folder in swept)


def _folders(path: Path) -> Iterator[Path]:
    for kind in ("runs", "cells"):
        with contextlib.suppress(FileNotFoundError):
            yield from sorted(folder for folder in (path / kind).iterdir() if folder.is_dir())


def _changed_s(folder: Path) -> float:
    """Returns when a journal was last written to."""
    found = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found.append(path.stat().st_mtime)
    return max(found)


def _needed(repository: Repository, with_cells: bool) -> Iterator[str]:
    """Yields the journals that a commit may need, also one that an undo can bring back, and those that wait to be committed."""
    window_s = parse_duration_s(repository.config.get("dartvc.undoWindow"))
    for commit in repository.iter_log([*named_commits(repository).values(), *logged_commits(repository, window_s)]):
        if commit.run:
            yield f"runs/{commit.run}"
        elif commit.position is not None and with_cells:
            with contextlib.suppress(DartvcError, KeyError, TypeError):
                entry = repository.process(commit.oid)["position"]
                cell = repository.summary(entry)["cell"]
                yield f"cells/{cell['id']}"  # type: ignore[index]
    for folder in (repository.path / "runs").glob("*/logs"):
        yield f"runs/{folder.parent.name}"  # records that no commit holds yet

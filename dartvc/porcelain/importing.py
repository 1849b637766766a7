"""Importing the runs of other tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dartvc.errors import NotFoundError, UsageError
from dartvc.hindsight.importing.flordb import find_flordb
from dartvc.hindsight.importing.mlflow import find_mlflow
from dartvc.hindsight.importing.wandb import find_wandb
from dartvc.hindsight.importing.writing import Failure, ImportedRun, import_runs
from dartvc.history import Repository

__all__ = ["TOOLS", "Failure", "ImportedRun", "import_from"]

_FINDERS = {"flordb": find_flordb, "mlflow": find_mlflow, "wandb": find_wandb}
TOOLS = tuple(_FINDERS)


def import_from(repository: Repository, tool: str, path: Path) -> Iterator[ImportedRun | Failure]:
    """Imports the runs that a tool keeps at a path, and yields each; a run that was imported before gets what is new of it.

    Raises:
        NotFoundError: there is nothing of this tool there.
        UsageError: the tool is not known.
        StorageError: the disk refused; what was yielded before is there.
    """
    if tool not in _FINDERS:
        raise UsageError(f"nothing is known of {tool!r}", kind="unknown-tool", hint=f"one of {', '.join(TOOLS)}")
    if not path.exists():
        raise NotFoundError(f"there is no {path}", kind="no-store", hint=f"dvc-state import {tool} PATH")
    yield from import_runs(repository, _FINDERS[tool](path), str(path.resolve()))

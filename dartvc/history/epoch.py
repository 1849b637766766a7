"""A mark that changes whenever objects are thrown away, so that a writer with an open batch notices."""

from __future__ import annotations

import os
from pathlib import Path

from dartvc.host.entropy import new_id
from dartvc.store.durable import read_file, storage_errors

__all__ = ["advance_epoch", "read_epoch"]

_FILE = "gc-epoch"


def read_epoch(repository_path: Path) -> str:
    """Returns the present mark; empty before the first collection."""
    try:
        return read_file(repository_path / _FILE).decode("latin-1")
    except FileNotFoundError:
        return ""


def advance_epoch(repository_path: Path) -> None:
    """Changes the mark; called under the repository's lock before anything is thrown away."""
    with storage_errors(repository_path):
        temporary = repository_path / f"tmp_{_FILE}.{os.getpid()}"
        temporary.write_text(new_id(8))
        temporary.rename(repository_path / _FILE)

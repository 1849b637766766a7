"""Stretches that are finished stay, so that a replay which is killed goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dartvc.host.entropy import new_id

__all__ = ["Finished"]

_FOLDER = "replay"
_LEFT_OUT = frozenset({"project", "job.json", "lock"})


class Finished:
    """The finished stretches of one program's replay.

    Args:
        run_folder: of the run in the repository.
        program: what tells the patched program.
    """

    def __init__(self, run_folder: Path, program: str) -> None:
        self._all = run_folder / _FOLDER
        self._own = self._all / program[:32]

    def folder(self, job: Sequence[object]) -> Path:
        """Returns where a stretch is kept, whether it is there or not."""
        return self._own / hashlib.sha256(json.dumps(job).encode()).hexdigest()[:32]

    def keep(self, base: Path, folder: Path) -> None:
        """Keeps what a stretch answered, wholly or not at all; a full disk only costs time later."""
        made = self._own / new_id()
        with contextlib.suppress(OSError):
            made.mkdir(parents=True, exist_ok=True)
            for path in base.iterdir():
                if path.name not in _LEFT_OUT:
                    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, made / path.name)
            for path in (*made.rglob("*"), made):
                self._sync(path)
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)

    def _sync(self, path: Path) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def clear(self) -> None:
        """Forgets the stretches of this run: the replay is over."""
        shutil.rmtree(self._all, ignore_errors=True)

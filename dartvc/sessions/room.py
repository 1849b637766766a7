"""Room on the disk: the automatic commits of a program stop before the program itself finds the disk full."""

from __future__ import annotations

import os
import sys

from dartvc.history import Repository
from dartvc.history.config import parse_size

__all__ = ["Room"]

_LARGEST_SHARE = 0.05
"""Of a small disk not the whole setting is left free."""
_HINT = "dvc-state gc --keep-last 10 --keep-within 1h drops older ones"


class Room:
    """Looks at the disk of a repository.

    Args:
        repository: where the commits go.
    """

    def __init__(self, repository: Repository) -> None:
        self._path = repository.path
        self._least_bytes = parse_size(repository.config.get("dartvc.minFree"))
        self._is_told = False

    def lack(self) -> str:
        """Returns why a commit should wait, empty while there is room; said on stderr when it begins."""
        try:
            disk = os.statvfs(self._path)
        except OSError:
            return ""
        free, least = disk.f_bavail * disk.f_frsize, min(self._least_bytes, int(_LARGEST_SHARE * disk.f_blocks * disk.f_frsize))
        if free >= least:
            self._is_told = False
            return ""
        reason = f"only {free / 1e6:,.0f} MB of the disk are free, and {least / 1e6:,.0f} MB stay so (dartvc.minFree)"
        if not self._is_told:
            self._is_told = True
            print(f"dartvc: no commits for now: {reason}; {_HINT}", file=sys.stderr)
        return reason

"""Which foreign commits the user trusts. The list lies in the user's own folder: a copied repository cannot bring its own trust."""

from __future__ import annotations

import os
from pathlib import Path

from dartvc.host import places
from dartvc.model import Oid
from dartvc.store.durable import storage_errors, write_all

__all__ = ["TrustList", "default_key_path", "default_trust_path"]


def default_key_path() -> Path:
    """Returns where this user's key for seals lies."""
    return places.config_folder() / "seal.key"


def default_trust_path() -> Path:
    """Returns where this user's list of trusted commits lies."""
    return places.config_folder() / "trusted"


class TrustList:
    """Ids of commits that the user trusts, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, oid: Oid) -> bool:
        try:
            return oid in self._path.read_text().split()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def add(self, oid: Oid) -> None:
        """Adds a commit, durably."""
        if oid in self:
            return
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_all(descriptor, f"{oid}\n".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

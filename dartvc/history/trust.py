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
        return oid in self.known()

    def known(self) -> frozenset[Oid]:
        """Returns all of them."""
        try:
            return frozenset(map(Oid, self._path.read_text().split()))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    def add(self, *oids: Oid) -> None:
        """Adds commits, durably."""
        known = self.known()
        fresh = [oid for oid in dict.fromkeys(oids) if oid not in known]
        if not fresh:
            return
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_all(descriptor, "".join(f"{oid}\n" for oid in fresh).encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

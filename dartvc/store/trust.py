"""Seals: which commits were made with this machine's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

__all__ = ["Seals"]

_KEY_BYTES = 32
_SEAL_BYTES = 16


class Seals:
    """HMAC-SHA256 (RFC 2104), truncated to 128 bits, with a key that is made on first need and never leaves the machine."""

    def __init__(self, key_path: Path) -> None:
        self._path = key_path
        self._key: bytes | None = None

    def _load(self) -> bytes:
        if self._key is None:
            try:
                self._key = self._path.read_bytes()
            except FileNotFoundError:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                fresh = os.urandom(_KEY_BYTES)
                temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    os.write(descriptor, fresh)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                try:
                    os.link(temporary, self._path)  # the first of two processes wins
                except FileExistsError:
                    pass
                temporary.unlink()
                self._key = self._path.read_bytes()
        return self._key

    def seal(self, payload: bytes) -> str:
        """Returns the seal of ``payload``."""
        return base64.b64encode(hmac.digest(self._load(), payload, hashlib.sha256)[:_SEAL_BYTES]).decode().rstrip("=")

    def is_ours(self, payload: bytes, seal: str) -> bool:
        """Whether ``seal`` was made for ``payload`` with this machine's key."""
        return bool(seal) and hmac.compare_digest(self.seal(payload), seal)

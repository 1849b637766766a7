"""Seals: which commits were made with this machine's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

from dartvc.errors import CorruptError
from dartvc.store.durable import storage_errors, sync_folder, write_all

__all__ = ["Seals"]

_KEY_BYTES = 32
_SEAL_BYTES = 16


class Seals:
    """HMAC-SHA256 (RFC 2104), truncated to 128 bits, with a key that is made on first need and never leaves the machine."""

    def __init__(self, key_path: Path) -> None:
        self._path = key_path
        self._key: bytes | None = None

    def seal(self, payload: bytes) -> str:
        """Returns the seal of ``payload``: 22 characters of base64. Makes the key when there is none.

        Raises:
            StorageError: the key cannot be made.
            CorruptError: the key's file is not a key.
        """
        key = self._read()
        if key is None:
            with storage_errors(self._path):
                self._create()
            key = self._read() or b""
        return _seal(key, payload)

    def is_ours(self, payload: bytes, seal: str) -> bool:
        """Whether ``seal`` was made for ``payload`` with this machine's key. Makes no key: without one nothing is ours."""
        key = self._read()
        return key is not None and bool(seal) and hmac.compare_digest(_seal(key, payload).encode(), seal.encode("utf-8", "replace"))

    def _read(self) -> bytes | None:
        if self._key is None:
            try:
                key = self._path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if len(key) < _KEY_BYTES:
                raise CorruptError(f"{self._path} is not a key", kind="key", hint=f"rm {self._path}; commits sealed with it need --trust")
            self._key = key
        return self._key

    def _create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                write_all(descriptor, os.urandom(_KEY_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(temporary, self._path)  # the first of two processes wins
            except FileExistsError:
                pass
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self._path.parent)


def _seal(key: bytes, payload: bytes) -> str:
    return base64.b64encode(hmac.digest(key, payload, hashlib.sha256)[:_SEAL_BYTES]).decode().rstrip("=")

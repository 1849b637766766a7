"""Claims on results: which process of a run computes what, so that the others await it.

A claim is a POSIX record lock on one byte of a file, the byte's position made from the result's key. The kernel gives it back when its process
dies, however that dies; a forked child does not inherit it. Beside it lies the number of the thread, so that those who wait can
see whether it works.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from pathlib import Path

__all__ = ["Claims"]

_SLOTS = 4096
_SLOT = struct.Struct("<QQ")
_FIRST_BYTE = _SLOTS * _SLOT.size
_POSITIONS = 1 << 60


class Claims:
    """The claims of the processes that share one file.

    Args:
        path: the file; made when it is missing, never closed (closing would give back every claim of the process).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self, key: bytes) -> bool:
        """Claims a result; false when another process has. Where the file system knows no locks everything is granted."""
        try:
            fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _position(key))
            os.pwrite(self._descriptor, _SLOT.pack(os.getpid(), threading.get_native_id()), _slot(key))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def give_back(self, key: bytes) -> None:
        """Ends a claim."""
        try:
            fcntl.lockf(self._file(), fcntl.LOCK_UN, 1, _position(key))
        except OSError:
            pass

    def holder(self, key: bytes) -> tuple[int, int]:
        """Returns the process and thread that claimed a result last; another one's when two keys share a slot."""
        try:
            process, thread = _SLOT.unpack(os.pread(self._file(), _SLOT.size, _slot(key)))
        except (OSError, struct.error):
            return 0, 0
        return int(process), int(thread)

    def _file(self) -> int:
        if self._descriptor < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor


def _position(key: bytes) -> int:
    return _FIRST_BYTE + int.from_bytes(key[:8], "little") % _POSITIONS


def _slot(key: bytes) -> int:
    return int.from_bytes(key[8:16], "little") % _SLOTS * _SLOT.size

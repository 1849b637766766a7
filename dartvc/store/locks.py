"""One writer of refs and packs at a time, and no lock that outlives its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dartvc.errors import LockedError, StorageError

__all__ = ["RepositoryLock", "storage_errors"]

_POLL_S = 0.005


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the disk says into a `StorageError` that names the path and the way out."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free some space, or dvc-state gc",
            errno.EDQUOT: "free some of your quota, or dvc-state gc",
            errno.EROFS: "the file system is mounted read-only",
            errno.EACCES: "check who owns the repository",
        }.get(error.errno or 0, "dvc-state fsck")
        raise StorageError(f"cannot write to {path}: {error.strerror or error}", kind="write-failed", hint=remedy) from error


class RepositoryLock:
    """An flock on a file of the repository, re-entrant within a thread. The kernel releases it when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    @contextlib.contextmanager
    def hold(self, timeout_s: float) -> Iterator[None]:
        """Holds the lock.

        Raises:
            LockedError: somebody else held it for ``timeout_s``.
        """
        if not self._thread_lock.acquire(timeout=timeout_s):
            raise LockedError("another thread is writing to the repository", kind="locked", hint="try again")
        try:
            if self._depth == 0:
                self._acquire(timeout_s)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    os.close(self._descriptor)
        finally:
            self._thread_lock.release()

    def _acquire(self, timeout_s: float) -> None:
        with storage_errors(self._path):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._descriptor)
                    raise LockedError(
                        f"another process has held {self._path} for {timeout_s:g} s", kind="locked", hint="try again, or dvc-state doctor"
                    ) from None
                time.sleep(_POLL_S)

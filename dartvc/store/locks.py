"""One writer of refs and packs at a time, and no lock that outlives its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dartvc.errors import LockedError
from dartvc.store.durable import storage_errors

__all__ = ["RepositoryLock"]

_POLL_S = 0.002
_STALE_S = 60.0


class RepositoryLock:
    """An flock on a file of the repository, re-entrant within a thread. The kernel releases it when its holder dies.

    A link beside the file names the git lock (``refs/heads/main.lock``) that its holder is about to make: when the holder dies with it,
    the next one takes it away. It is a link because a journaling file system keeps the order of links and files over a power cut, but not
    that of bytes and files. A git lock of somebody else is taken away when it is older than a minute.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._announcement = path.with_suffix(".announced")
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    @contextlib.contextmanager
    def hold(self, timeout_s: float) -> Iterator[None]:
        """Holds the lock.

        Raises:
            LockedError: somebody else held it for ``timeout_s``.
            StorageError: the lock's file cannot be made.
        """
        if self._process != os.getpid():  # a forked child: its parent's lock is not its own
            self._reset()
        if not self._thread_lock.acquire(timeout=max(timeout_s, 0)):
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
                    self._release()
        finally:
            self._thread_lock.release()

    def _acquire(self, timeout_s: float) -> None:
        with storage_errors(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        message = f"another process has held {self._path} for {timeout_s:g} s"
                        raise LockedError(message, kind="locked", hint="try again, or dvc-state doctor") from None
                    time.sleep(_POLL_S)
            self._descriptor = descriptor
            self._sweep_announced()
        except BaseException:
            os.close(descriptor)
            self._descriptor = -1
            raise

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough when a child was forked meanwhile
        os.close(descriptor)

    def _sweep_announced(self) -> None:
        try:
            announced = os.readlink(self._announcement)
        except OSError:
            return
        with storage_errors(self._path):
            if announced.endswith(".lock") and not os.path.isabs(announced) and ".." not in announced.split("/"):
                (self._path.parent / announced).unlink(missing_ok=True)
            self._announcement.unlink(missing_ok=True)

    @contextlib.contextmanager
    def git_lock(self, path: Path, timeout_s: float = 10.0) -> Iterator[Path]:
        """Announces git's own lock of a file, waits until it is free, and yields its path; it does not exist then.

        Raises:
            LockedError: a git process held it for ``timeout_s``.
        """
        lock = path.with_name(path.name + ".lock")
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                age_s = time.time() - lock.stat().st_mtime
            except (FileNotFoundError, NotADirectoryError):
                break
            if age_s > _STALE_S:
                with storage_errors(lock):
                    lock.unlink(missing_ok=True)
            elif time.monotonic() >= deadline:
                raise LockedError(f"a git process holds {lock}", kind="git-locked", hint=f"try again; rm {lock} if no git is running")
            else:
                time.sleep(_POLL_S)
        self._announce(lock)
        try:
            yield lock
        finally:
            with contextlib.suppress(OSError):
                self._announcement.unlink()

    def _announce(self, lock: Path) -> None:
        with storage_errors(self._announcement):
            self._announcement.unlink(missing_ok=True)
            try:
                os.symlink(os.path.relpath(lock, self._path.parent), self._announcement)
            except PermissionError:
                pass  # a file system without links: only its age tells that the lock is stale

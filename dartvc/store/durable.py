"""Writing so that it stays written: whole writes, synced folders, errors that name the path and the way out."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dartvc.errors import StorageError

__all__ = ["is_abandoned", "passing_errors", "read_file", "replace_file", "storage_errors", "sync_file", "sync_folder", "write_all"]

_SMALL_BYTES = 1 << 16
_REMEDIES = {
    errno.ENOSPC: "free some space, or dvc-state gc",
    errno.EDQUOT: "free some of your quota, or dvc-state gc",
    errno.EROFS: "the file system is mounted read-only: mount it writable, or clone the repository elsewhere",
    errno.EACCES: "check who owns the repository and may write to it",
    errno.EPERM: "check who owns the repository and may write to it",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or close some",
    errno.ENFILE: "close files: the machine has no room for more open ones",
    errno.EIO: "the disk fails: check the kernel's log, then dvc-state fsck",
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the disk says into a `StorageError` that names the path and the way out."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        remedy = _REMEDIES.get(error.errno or 0, "dvc-state fsck")
        raise StorageError(f"cannot write to {where}: {error.strerror or error}", kind="write-failed", hint=remedy) from error


@contextlib.contextmanager
def passing_errors(path: Path) -> Iterator[None]:
    """Raises a `StorageError` when a file cannot be opened for a reason that tells nothing of the file and may pass: no descriptor, no memory."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        remedy = _REMEDIES.get(error.errno, "try again")
        raise StorageError(f"cannot open {error.filename or path}: {error.strerror}", kind="open-failed", hint=remedy) from error


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of ``data``; a short write goes on, so that what stopped it is raised."""
    written = os.write(descriptor, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            step = os.write(descriptor, view[written:])
            if step == 0:
                raise OSError(errno.EIO, "the disk takes no more bytes")
            written += step


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Makes durable what was written to a file that is closed by now."""
    _sync(path, os.O_CLOEXEC)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path | str) -> bytes:
    """Returns the content of a file that is small as a rule, in three calls of the system.

    Fast path: ``read_bytes`` makes nine, and after each the thread waits for the interpreter, which a program of pure Python holds for 5 ms.

    Raises:
        OSError: there is none to read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = [os.read(descriptor, _SMALL_BYTES)]
        while len(pieces[-1]) == _SMALL_BYTES:
            pieces.append(os.read(descriptor, _SMALL_BYTES))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, temporary: Path, is_synced: bool = True) -> None:
    """Replaces a file durably: all of the new content or all of the old. ``temporary`` must not exist (it is git's lock for refs).

    Args:
        is_synced: false leaves it to the kernel when the disk hears of the name; a power cut may then bring back the old content, or no file.

    Raises:
        FileExistsError: ``temporary`` exists.
        OSError: the disk refused; the file is as it was.
    """
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if is_synced:
        sync_folder(path.parent)


def is_abandoned(path: Path, *, remove: bool = False) -> bool:
    """Whether nobody holds a temporary file open: its writer keeps an flock on it for as long as it lives.

    Args:
        path: the file.
        remove: takes it away, before a writer that has just made it can take it for its own.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True

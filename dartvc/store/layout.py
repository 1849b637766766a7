"""The files of a repository: how it is made, durably, and which formats are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dartvc.errors import CorruptError, NotFoundError, RefusedError
from dartvc.store.durable import replace_file, storage_errors, sync_folder, write_all

__all__ = ["FORMAT_VERSION", "check_format", "create_layout"]

FORMAT_VERSION = 1
_CONFIG = f"""[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tfsync = all
\tlogAllRefUpdates = false
\tbigFileThreshold = 64k
[gc]
\tauto = 0
\tpruneExpire = never
[receive]
\tautogc = false
[transfer]
\tunpackLimit = 1
[pack]
\twriteReverseIndex = false
\twindow = 0
[maintenance]
\tauto = false
[dartvc]
\tformatversion = {FORMAT_VERSION}
"""
_FOLDERS = ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info")
_VERSION = re.compile(r"^\s*formatversion\s*=\s*(\d+)", re.MULTILINE | re.IGNORECASE)


def create_layout(path: Path) -> None:
    """Makes an empty bare repository, durably; HEAD comes last, so that a half-made one is none.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(path):
        for folder in _FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
        for name, content in (("config", _CONFIG), ("description", "states of a Python program (dartvc)\n")):
            descriptor = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                write_all(descriptor, content.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for folder in ("refs", "objects", ""):
            sync_folder(path / folder)
        (path / "HEAD.tmp").unlink(missing_ok=True)
        replace_file(path / "HEAD", b"ref: refs/heads/main\n", temporary=path / "HEAD.tmp")
        sync_folder(path.parent)
        _sync_file_system(path)


def _sync_file_system(path: Path) -> None:
    """Makes every file system buffer of the repository durable: one call instead of one for every folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        import ctypes  # only where a repository is made

        libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "syncfs"):
            if libc.syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        else:
            os.sync()
    finally:
        os.close(descriptor)


def check_format(path: Path) -> None:
    """Checks that there is a repository that this version reads.

    Raises:
        NotFoundError: there is none.
        RefusedError: a newer dartvc made it.
        CorruptError: its config cannot be read.
    """
    if not (path / "HEAD").exists() and not (path / "objects").is_dir():
        raise NotFoundError(f"there is no repository at {path}", kind="no-repository", hint="dvc-state init")
    try:
        config = (path / "config").read_text("utf-8")
    except FileNotFoundError:
        config = ""
    except UnicodeDecodeError as error:
        raise CorruptError(f"{path / 'config'} is damaged", kind="config", hint="dvc-state fsck") from error
    found = _VERSION.search(config)
    if found and int(found[1]) > FORMAT_VERSION:
        raise RefusedError(
            f"{path} has format {found[1]}, this dartvc reads up to {FORMAT_VERSION}", kind="newer-format", hint="pip install -U dartvc"
        )

"""What was there before a program wrote to it: enough to take its writes back, after a kill or a power cut too.

A record is written (`dartvc.program.records`), and a copy made where one is needed, before the call that changes something goes on. Of
all records about one path the oldest counts, so taking back (`dartvc.program.rollback`) can be killed anywhere and simply be done again: what it reads does not
change until it is through.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import os
import stat
import time
from pathlib import Path

from dartvc.host.entropy import new_id
from dartvc.program.records import add_record, copy_content
from dartvc.state.adapters.texts import flush_quietly
from dartvc.store.durable import sync_file, write_all

__all__ = ["CONTENT_LIMIT_BYTES", "Journal", "copy_file", "flush_writers"]

CONTENT_LIMIT_BYTES = 16 * 1024 * 1024
_FICLONE = 0x40049409
_PIECE_BYTES = 16 * 1024 * 1024
_ROOM = 2
"""A large file is kept beside the next version of it while the disk has so many times its size free,"""
_VERSIONS = 2
"""and so many of them at a time: a program goes on from its last commit, or from the one before, which is durable."""
_COPYING_SHARE = 0.01
"""A large file is copied while that takes no more than this share of the run time; what would take more is named when it is missing."""
_COPYING_BYTES_PER_S = 1e9


class Journal:
    """The journal of one run.

    Args:
        folder: a folder of its own.
        is_whole: keep every file whatever its size, and in order, and say so with an `OSError` when that fails: nothing may be lost.
    """

    def __init__(self, folder: Path, is_whole: bool = False) -> None:
        self.folder = folder
        self.is_whole = is_whole
        self._kept: dict[str, bool] = {}
        """Paths of which the present sequence has a line; whether that line stands whatever happens to the path."""
        self._copied: set[str] = set()
        self._large: dict[str, list[Path]] = {}
        self._began = time.monotonic()
        self._copied_s = 0.0

    def keep(self, path: str, sequence: int, *, is_growing: bool, is_committed: bool = False, is_unlinked: bool = False) -> bool:
        """Writes down what is at a path; returns whether this is the first line about it since `advance`.

        Args:
            path: absolute, its folder without symbolic links.
            sequence: the number of the commit that follows.
            is_growing: what is there stays, and more comes behind it: its size is enough.
            is_committed: the commit before has its content.
            is_unlinked: it is about to lose this name, and stays as it is under another one.

        Raises:
            OSError: it could not be kept.
        """
        known = self._kept.get(path)
        if known or (known is False and is_growing):
            return False
        record: dict[str, object] = {"sequence": sequence, "path": path}
        is_settled = True
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            record["before"] = "absent"
        else:
            record["mode"] = stat.S_IMODE(found.st_mode)
            if stat.S_ISLNK(found.st_mode):
                record.update(before="link", target=os.readlink(path))
            elif stat.S_ISDIR(found.st_mode):
                record["before"] = "folder"
            elif not stat.S_ISREG(found.st_mode):
                return False  # a pipe, a terminal
            else:
                record.update(before="size", size=found.st_size, modified=found.st_mtime_ns)
                if is_committed and not (is_growing or self.is_whole):
                    record["before"] = "committed"
                elif not is_growing:
                    record.update(self._keep_content(path, found.st_size, f"{sequence}-{new_id(6)}", is_unlinked))
                is_settled = not is_growing
        add_record(self.folder, record, is_ordered=self.is_whole)
        self._kept[path] = is_settled
        return known is None

    def keep_below(self, folder: str, target: str, sequence: int) -> None:
        """Keeps a folder that is about to get another name, with everything in it, and that nothing of this has the new name yet."""
        for where, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = os.path.join(where, name)
                self.keep(path, sequence, is_growing=False)
                self.keep(target + path[len(folder) :], sequence, is_growing=False)

    def advance(self) -> None:
        """Lets what comes now belong to the next commit."""
        self._kept.clear()

    def _keep_content(self, path: str, size: int, name: str, is_unlinked: bool) -> dict[str, object]:
        """Keeps the content of a file that is about to be another one, under a name; returns what the record says of it."""
        is_small = size <= CONTENT_LIMIT_BYTES
        if is_small or (self.is_whole and path not in self._copied):
            kept = self._copied_to(name, path, is_small=is_small)
            self._copied.add(path)
            return {"before": "content", **kept}
        if self.is_whole:
            return {}
        return self._keep_large(path, size, name, is_unlinked) or {"is_overwritten": True}

    def _keep_large(self, path: str, size: int, name: str, is_unlinked: bool) -> dict[str, object]:
        """Keeps a large file where that costs little: it is about to lose its name, the file system shares blocks, or it is copied seldom enough."""
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < _ROOM * size:
            return {}
        copy = self.folder / name
        kept: dict[str, object] = {"before": "content", "copy": name}
        try:
            if is_unlinked:
                os.link(path, copy)
            elif not _shares_blocks(path, copy):
                if self._copied_s + size / _COPYING_BYTES_PER_S > _COPYING_SHARE * (time.monotonic() - self._began):
                    return {}
                began = time.monotonic()
                kept["checksum"] = copy_content(path, copy, is_durable=False)
                self._copied_s += time.monotonic() - began
        except OSError:
            return {}
        versions = self._large.setdefault(path, [])
        versions.append(copy)
        if len(versions) > _VERSIONS:
            versions.pop(0).unlink(missing_ok=True)
        return kept

    def _copied_to(self, name: str, path: str, *, is_small: bool) -> dict[str, object]:
        """Copies a file, durably; returns what the record says of the copy."""
        copy = self.folder / name  # a process that goes on from the same commit has copies of its own
        if is_small:
            return {"copy": name, "checksum": copy_content(path, copy)}
        try:
            copy_file(path, copy)
            sync_file(copy)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        return {"copy": name}


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copies a file's content; where the file system can, both share their blocks until one of them changes."""
    with open(source, "rb", buffering=0) as old, open(target, "xb", buffering=0) as new:
        if _clone(old, new):
            return
        while piece := old.read(_PIECE_BYTES):
            write_all(new.fileno(), piece)


def _clone(old: io.FileIO, new: io.FileIO) -> bool:
    """Lets a file share the blocks of another one; returns whether the file system can do that."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        return True
    return False


def _shares_blocks(path: str, copy: Path) -> bool:
    """Copies a file where that costs nothing; returns whether."""
    with open(path, "rb", buffering=0) as old, open(copy, "xb", buffering=0) as new:
        if _clone(old, new):
            return True
    copy.unlink()
    return False


def flush_writers() -> list[io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom]:
    """Lets go what the open files of this process hold back: written later, it would come after what is put back. Returns these files."""
    flushed = []
    for value in gc.get_objects():
        if type(value) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if not value.closed and value.writable():
                    flush_quietly(value)
                    flushed.append(value)
    return flushed

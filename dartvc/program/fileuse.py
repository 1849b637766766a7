"""Which files of the project a program reads and writes, with the version of each: what links runs that work through files.

`Effects` tells of every opening. A version is (size, time of change): to learn it costs one look at the file, its content is hashed later and within bounds
(`dartvc.sessions.files`). Python's own files, caches, libraries and repositories below the project are no data and left out.
"""

from __future__ import annotations

import os
import stat
import sys

__all__ = ["USES_LIMIT", "FileUse", "Place", "Version"]

USES_LIMIT = 2_000
"""Files read beyond so many are counted, no more."""
_NO_DATA = ("/__pycache__/", "/site-packages/", "/.git/", "/.dvc-state/")
_SOURCES = (".py", ".pyc", ".pyi", ".so")
_FRAMES_LIMIT = 60
Version = tuple[int, int]
"""Size in bytes, and time of the last change in nanoseconds since the epoch."""
Place = tuple[str, int, str]
"""File, line and function of the user's code."""


class FileUse:
    """The uses of one run.

    Args:
        folder: the project's; files elsewhere are not looked at.

    Attributes:
        read: versions that were there when they were opened for reading, or for writing behind what they held.
        reread: the last version of each file that the program wrote itself and then opened for reading.
        places: where each file was first opened for writing.
        further: openings for reading beyond the limit.
        is_paused: while it is, nothing is taken note of.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.read: dict[tuple[str, Version], None] = {}
        self.reread: dict[str, Version] = {}
        self.written: set[str] = set()
        self.places: dict[str, Place] = {}
        self.further = 0
        self.is_paused = False
        self._prefix = os.path.join(folder, "")

    def note_read(self, path: str) -> None:
        """Takes note that the program opens a file for reading."""
        if self.is_paused or (path[:1] == "/" and not path.startswith(self._prefix)):
            return
        path = os.path.abspath(path)
        if not self.is_data(path):
            return
        try:
            found = os.stat(path)
        except OSError:
            return
        if not stat.S_ISREG(found.st_mode):
            return
        key = path, (found.st_size, found.st_mtime_ns)
        if path in self.written:
            self.reread[path] = key[1]
        elif key not in self.read:
            if len(self.read) >= USES_LIMIT:
                self.further += 1
            else:
                self.read[key] = None

    def note_write(self, path: str, *, is_emptied: bool) -> None:
        """Takes note that the program opens a file for writing, moves or removes it; one that is not emptied or replaced by that counts as read, too."""
        if self.is_paused or not self.is_data(path):
            return
        if not is_emptied and path not in self.written:
            self.note_read(path)
        self.written.add(path)
        if path not in self.places:
            place = self._place()
            if place is not None:
                self.places[path] = place

    def is_data(self, path: str) -> bool:
        """Whether a path (absolute) is one of the project's files that are no code and no caches."""
        return path.startswith(self._prefix) and not path.endswith(_SOURCES) and not any(part in path for part in _NO_DATA)

    def _place(self) -> Place | None:
        """Returns the innermost line of the user's code on the stack."""
        frame = sys._getframe(2)
        for _ in range(_FRAMES_LIMIT):
            file = frame.f_code.co_filename
            if file.startswith(self._prefix) and not any(part in file for part in _NO_DATA):
                return file, frame.f_lineno, frame.f_code.co_qualname
            if frame.f_back is None:
                return None
            frame = frame.f_back
        return None

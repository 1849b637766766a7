"""What a whole run depends on and does, seen while it runs: files that it reads, writes and misses, text that it prints, and what speaks against answering its like.

A call of a function is recorded by `dartvc.lineage.witness.Record`. A run may do more than a call: it may write files, as long as writing them again would give the same.
"""

from __future__ import annotations

import os
import types

from dartvc.program.effects import WRITING

__all__ = ["Observation"]

_TEXT_LIMIT = 1 << 20
_PIECES_LIMIT = 4096
_FILES_LIMIT = 1000


class Observation:
    """What one run did so far.

    Attributes:
        files: what it read before it wrote it: path to size and time of change; `ABSENT` for what was not there.
        written: the files that it wrote from their beginning.
        folders: those that it made unless they were there.
        refusal: why its like cannot be answered; empty while nothing speaks against it.
    """

    ABSENT = (-1, -1)

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self.written: set[str] = set()
        self.folders: set[str] = set()
        self.refusal = ""
        self._texts: list[tuple[str, list[str]]] = []
        self._text_size = 0

    def refuse(self, reason: str) -> None:
        """Takes note of what speaks against answering it; nothing more is kept then."""
        if not self.refusal:
            self.refusal = reason
            self._texts.clear()
            self.files.clear()

    def printed(self, stream: str, text: str) -> None:
        """Takes note of text that was written to a standard stream."""
        self._text_size += len(text)
        if self._text_size > _TEXT_LIMIT:
            self.refuse("it prints a great deal")
        if self.refusal or not text:
            return
        if not self._texts or self._texts[-1][0] != stream:
            self._texts.append((stream, []))
        pieces = self._texts[-1][1]
        pieces.append(text)
        if len(pieces) > _PIECES_LIMIT:
            pieces[:] = ["".join(pieces)]

    def output(self) -> list[tuple[str, str]]:
        """Returns what was printed: stream and text, in order."""
        return [(stream, "".join(pieces)) for stream, pieces in self._texts]

    def opened(self, path: str, flags: int) -> None:
        """Takes note of a file that the program opens, before that happens."""
        name = os.path.basename(path)
        if not flags & WRITING:
            self._opened_for_reading(path)
        elif flags & os.O_EXCL:
            self.refuse(f"it makes {name} only once")
        elif not flags & os.O_TRUNC:
            self.refuse(f"it changes {name}, which was there before")
        elif path in self.files:
            self.refuse(f"it reads {name}, and writes it")
        else:
            self.written.add(path)

    def _opened_for_reading(self, path: str) -> None:
        if path in self.written or path in self.files:
            return
        try:
            found = os.stat(path)
        except OSError:
            self.files[path] = self.ABSENT
        else:
            self.files[path] = (found.st_size, found.st_mtime_ns)
        if len(self.files) > _FILES_LIMIT:
            self.refuse("it reads a great many files")

    def makes_folder(self, path: str, frame: types.FrameType) -> None:
        """Takes note of a folder that ``frame`` makes; only ``exist_ok`` gives the same where it is there already."""
        if frame.f_code.co_name in ("makedirs", "mkdir") and frame.f_locals.get("exist_ok") is True:
            self.folders.add(os.path.abspath(path))
        else:
            self.refuse("it makes a folder")

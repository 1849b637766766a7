"""Taking back what a program wrote, by what its journal kept of it (`dartvc.program.journal`); doing it twice is doing it once."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartvc.program.journal import copy_file
from dartvc.program.records import drop_records, is_copy_sound, read_records
from dartvc.store.durable import sync_file, sync_folder, write_all

__all__ = ["TakenBack", "drop_copies", "go_back", "take_back"]

_PIECE_BYTES = 16 * 1024 * 1024
_NO_FILES: Mapping[str, bytes | None] = types.MappingProxyType({})


class TakenBack:
    """What `take_back` did: paths that changed; what cannot be brought back; what the disk refused, which may work another time."""

    def __init__(self, refused: Iterable[str] = ()) -> None:
        self.changed: list[str] = []
        self.lost: list[str] = []
        self.refused = list(refused)
        self.paths: set[str] = set()

    @property
    def problems(self) -> list[str]:
        """What is not as it was."""
        return [*self.lost, *self.refused]


def take_back(
    folder: Path,
    sequence: int,
    located: Callable[[str], str | None] = str,
    *,
    committed: Mapping[str, bytes | None] = _NO_FILES,
    is_durable: bool = False,
) -> TakenBack:
    """Undoes the writes that came after commit number ``sequence``; doing it twice is doing it once.

    Args:
        folder: the journal's.
        sequence: 0: all of them.
        located: leads from recorded paths to those that are meant; None: to be left alone.
        committed: the contents of the files that the commit has, by recorded path.
        is_durable: what is put back would survive a power cut; no living process has the files open.
    """
    done = TakenBack()
    try:
        records = read_records(folder)
    except OSError as error:
        return TakenBack(refused=[f"{folder} cannot be read: {error.strerror}"])
    done.lost.extend(records.damaged)
    first, whole = _oldest(records.newest, sequence)
    wanted = [(path, record, whole[recorded]) for recorded, record in first.items() if (path := located(recorded)) is not None]
    done.paths.update(path for path, _, _ in wanted)
    wanted.sort(key=lambda row: row[0])
    restorer = _Restorer(folder, done, committed, is_durable)
    for path, record, _ in reversed(wanted):  # what is in a folder, then the folder; and it makes room
        if record["before"] == "absent":
            restorer.attempt(path, restorer.remove, path)
    for path, record, later in wanted:
        if record["before"] != "absent":
            restorer.attempt(path, restorer.put, path, record, later)
    for path, record, _ in reversed(wanted):
        if record["before"] == "folder":
            restorer.attempt(path, restorer.set_mode, path, record)
    restorer.sync()
    return done


def go_back(folder: Path, sequence: int, committed: Mapping[str, bytes | None] = _NO_FILES) -> list[str]:
    """Takes back what came after commit number ``sequence``, for a program that goes on from there; returns what is not as it was.

    Its records go when all of it was taken back: what the program writes now is recorded anew.
    """
    problems = take_back(folder, sequence, committed=committed).problems
    if not problems:
        with contextlib.suppress(OSError):
            drop_records(folder, sequence)
    return problems


def _oldest(newest: Sequence[Mapping[str, Any]], sequence: int) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any] | None]]:
    """Returns by path the first record, and the first that has a content, or says that there is none any more, None where all is there.

    Of a file that grew, what it was is the beginning of a later content.
    """
    first: dict[str, Mapping[str, Any]] = {}
    whole: dict[str, Mapping[str, Any] | None] = {}
    for record in reversed(newest):
        if record["sequence"] >= sequence:
            path = record["path"]
            first.setdefault(path, record)
            if whole.setdefault(path, None) is None and (record["before"] in ("content", "committed") or "is_overwritten" in record):
                whole[path] = record
    return first, whole


class _Restorer:
    """Puts one path after another back."""

    def __init__(self, folder: Path, done: TakenBack, committed: Mapping[str, bytes | None], is_durable: bool) -> None:
        self._folder = folder
        self._done = done
        self._committed = committed
        self._is_durable = is_durable
        self._folders: set[str] = set()

    def attempt(self, path: str, act: Callable[..., None], *arguments: object) -> None:
        """Does one thing; what the disk refuses is taken note of, and the rest goes on."""
        try:
            act(*arguments)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                self._done.lost.append(f"{path}: there are other files in it")
            else:
                self._done.refused.append(f"{path}: {error.strerror or error}")

    def remove(self, path: str) -> None:
        """Takes away what was not there."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(path)
        else:
            os.unlink(path)
        self._changed(path)

    def put(self, path: str, record: Mapping[str, Any], later: Mapping[str, Any] | None) -> None:
        """Brings a folder, a link or a file back."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        kind = _kind(path)
        if record["before"] == "folder":
            if kind != "folder":
                self._clear(path, kind)
                os.mkdir(path)
                self._changed(path)
        elif record["before"] == "link":
            if kind != "link" or os.readlink(path) != record["target"]:
                self._clear(path, kind)
                os.symlink(record["target"], path)
                self._changed(path)
        else:
            self._put_file(path, kind, record, later)

    def _put_file(self, path: str, kind: str, record: Mapping[str, Any], whole: Mapping[str, Any] | None) -> None:
        size = int(record["size"])
        content = self._content_of(whole) if whole is not None else None
        if whole is not None and whole["before"] == "committed" and content is None:
            return  # of another name for it: whoever has the commit puts that back
        if isinstance(content, str):
            self._done.lost.append(f"{path}: {content}")
            return
        if content is not None:
            if not (kind == "file" and _is_beginning(path, content, size)):
                self._clear(path, kind) if kind == "folder" else None
                self._replace(path, content, size, record)
                self._changed(path)
        elif kind == "file" and (_stamp(path) == (size, record.get("modified")) if whole is not None else os.stat(path).st_size >= size):
            if os.stat(path).st_size > size:
                os.truncate(path, size)
                self._changed(path)
        elif kind == "file":
            self._done.lost.append(f"{path}: it was overwritten, and is too large to be kept ({size / 1e6:,.0f} MB)")
            return
        else:
            self._done.lost.append(f"{path}: its content was not kept")
            return
        self.set_mode(path, record)
        if "modified" in record:
            os.utime(path, ns=(os.stat(path).st_atime_ns, int(record["modified"])))

    def _content_of(self, whole: Mapping[str, Any]) -> Path | bytes | str | None:
        """Returns the content that a record speaks of, or where it lies; None when there is none any more, a text that says why when it is damaged."""
        if whole["before"] == "committed":
            return self._committed.get(whole["path"])
        if "copy" not in whole or not (copy := self._folder / str(whole["copy"])).exists():
            return None
        if "checksum" in whole and not is_copy_sound(copy, whole):
            return "what it held before was kept, and is damaged"
        return copy

    def _replace(self, path: str, content: Path | bytes, size: int, record: Mapping[str, Any]) -> None:
        """Makes a file what a copy says: durably as a whole or not at all, else in place, where the program may still hold it open."""
        if isinstance(content, bytes):
            Path(path).write_bytes(content[:size])
            return
        if not self._is_durable and _kind(path) == "file":
            with open(content, "rb", buffering=0) as old, open(path, "r+b", buffering=0) as new:
                while piece := old.read(_PIECE_BYTES):
                    write_all(new.fileno(), piece)
                new.truncate(size)
            return
        draft = f"{path}.dartvc-draft"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)  # of an attempt that was killed
        try:
            copy_file(content, draft)
            os.truncate(draft, size)
            os.chmod(draft, int(record.get("mode", 0o644)))
            if self._is_durable:
                sync_file(Path(draft))
            os.rename(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise

    def set_mode(self, path: str, record: Mapping[str, Any]) -> None:
        """Gives a path the permissions that it had."""
        if "mode" in record and os.path.lexists(path) and stat.S_IMODE(os.stat(path).st_mode) != record["mode"]:
            os.chmod(path, int(record["mode"]))
            self._changed(path)

    def _clear(self, path: str, kind: str) -> None:
        """Takes away what stands where something else was; the journal knows whatever it holds."""
        if kind == "folder":
            os.rmdir(path)
        elif kind:
            os.unlink(path)

    def _changed(self, path: str) -> None:
        if path not in self._done.changed:
            self._done.changed.append(path)
        self._folders.add(os.path.dirname(path))

    def sync(self) -> None:
        """Makes the names durable, and what was truncated."""
        if self._is_durable:
            for path in self._done.changed:
                if _kind(path) == "file":
                    self.attempt(path, sync_file, Path(path))
            for folder in self._folders:
                if os.path.isdir(folder):
                    self.attempt(folder, sync_folder, Path(folder))


def _kind(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ""
    return "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"


def _stamp(path: str) -> tuple[int, int]:
    """Returns (size, time of the last change)."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _is_beginning(path: str, content: Path | bytes, size: int) -> bool:
    """Whether a file is the first ``size`` bytes of a content already, and no more."""
    if os.stat(path).st_size != size:
        return False
    if isinstance(content, bytes):
        return Path(path).read_bytes() == content[:size]
    with open(path, "rb", buffering=0) as present, open(content, "rb", buffering=0) as before:
        left = size
        while left:
            piece = before.read(min(left, _PIECE_BYTES))
            if not piece or present.read(len(piece)) != piece:
                return False
            left -= len(piece)
    return True


def drop_copies(folder: Path, *, above_bytes: int = -1) -> None:
    """Takes away the copies larger than ``above_bytes``; when it is negative, all records and copies: nothing can be taken back then."""
    if above_bytes < 0:
        drop_records(folder, 0)
        (folder / "journal").unlink(missing_ok=True)
    for copy in folder.glob("[0-9]*-*"):
        if copy.lstat().st_size > above_bytes:
            copy.unlink(missing_ok=True)

"""What was there before a program wrote to it: enough to take its writes back, after a kill or a power cut too.

A record is written (`dartvc.program.records`), and a copy made where one is needed, before the call that changes something goes on. Of
all records about one path the oldest counts, so `take_back` can be killed anywhere and simply be done again: what it reads does not
change until it is through.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import io
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartvc.host.entropy import new_id
from dartvc.program.records import add_record, copy_content, drop_records, is_copy_sound, read_records
from dartvc.store.durable import sync_file, sync_folder, write_all

__all__ = ["CONTENT_LIMIT_BYTES", "Journal", "TakenBack", "drop_copies", "flush_writers", "go_back", "take_back"]

CONTENT_LIMIT_BYTES = 16 * 1024 * 1024
_FICLONE = 0x40049409
_PIECE_BYTES = 16 * 1024 * 1024


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

    def keep(self, path: str, sequence: int, *, is_growing: bool) -> bool:
        """Writes down what is at a path; returns whether this is the first line about it since `advance`.

        Args:
            path: absolute, its folder without symbolic links.
            sequence: the number of the commit that follows.
            is_growing: what is there stays, and more comes behind it: its size is enough.

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
                is_small = found.st_size <= CONTENT_LIMIT_BYTES
                if not is_growing and (is_small or (self.is_whole and path not in self._copied)):
                    record.update(before="content", **self._copied_to(f"{sequence}-{new_id(6)}", path, is_small=is_small))
                    self._copied.add(path)
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
        with contextlib.suppress(OSError):
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            return
        while piece := old.read(_PIECE_BYTES):
            write_all(new.fileno(), piece)


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
    folder: Path, sequence: int, located: Callable[[str], str | None] = str, *, is_durable: bool = False
) -> TakenBack:
    """Undoes the writes that came after commit number ``sequence``; doing it twice is doing it once.

    Args:
        folder: the journal's.
        sequence: 0: all of them.
        located: leads from recorded paths to those that are meant; None: to be left alone.
        is_durable: what is put back would survive a power cut; no living process has the files open.
    """
    done = TakenBack()
    try:
        records = read_records(folder)
    except OSError as error:
        return TakenBack(refused=[f"{folder} cannot be read: {error.strerror}"])
    done.lost.extend(records.damaged)
    first, whole = _oldest(records.newest, sequence)
    wanted = [(path, record, whole.get(recorded)) for recorded, record in first.items() if (path := located(recorded)) is not None]
    done.paths.update(path for path, _, _ in wanted)
    wanted.sort(key=lambda row: row[0])
    restorer = _Restorer(folder, done, is_durable)
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


def go_back(folder: Path, sequence: int) -> list[str]:
    """Takes back what came after commit number ``sequence``, for a program that goes on from there; returns what is not as it was.

    Its records go when all of it was taken back: what the program writes now is recorded anew.
    """
    problems = take_back(folder, sequence).problems
    if not problems:
        with contextlib.suppress(OSError):
            drop_records(folder, sequence)
    return problems


def _oldest(newest: Sequence[Mapping[str, Any]], sequence: int) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """Returns by path the first record, and the first with a copy: of a file that grew, what it was is the beginning of that."""
    first: dict[str, Mapping[str, Any]] = {}
    whole: dict[str, Mapping[str, Any]] = {}
    for record in reversed(newest):
        if record["sequence"] >= sequence:
            first.setdefault(record["path"], record)
            if record["before"] == "content":
                whole.setdefault(record["path"], record)
    return first, whole


class _Restorer:
    """Puts one path after another back."""

    def __init__(self, folder: Path, done: TakenBack, is_durable: bool) -> None:
        self._folder = folder
        self._done = done
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

    def _put_file(self, path: str, kind: str, record: Mapping[str, Any], later: Mapping[str, Any] | None) -> None:
        size = int(record["size"])
        copy = self._folder / str(later["copy"]) if later is not None else None
        if later is not None and copy is not None and copy.exists():
            if "checksum" in later and not is_copy_sound(copy.read_bytes(), later):
                self._done.lost.append(f"{path}: what it held before was kept, and is damaged")
                return
            if not (kind == "file" and _is_beginning(path, copy, size)):
                self._clear(path, kind) if kind == "folder" else None
                self._replace(path, copy, size, record)
                self._changed(path)
        elif kind == "file" and os.stat(path).st_size >= size:
            if os.stat(path).st_size > size:
                os.truncate(path, size)
                self._changed(path)
        else:
            self._done.lost.append(f"{path}: its content was not kept")
            return
        self.set_mode(path, record)
        if "modified" in record:
            os.utime(path, ns=(os.stat(path).st_atime_ns, int(record["modified"])))

    def _replace(self, path: str, copy: Path, size: int, record: Mapping[str, Any]) -> None:
        """Makes a file what a copy says: durably as a whole or not at all, else in place, where the program may still hold it open."""
        if not self._is_durable and _kind(path) == "file":
            with open(copy, "rb", buffering=0) as old, open(path, "r+b", buffering=0) as new:
                while piece := old.read(_PIECE_BYTES):
                    write_all(new.fileno(), piece)
                new.truncate(size)
            return
        draft = f"{path}.dartvc-draft"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)  # of an attempt that was killed
        try:
            copy_file(copy, draft)
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


def _is_beginning(path: str, copy: Path, size: int) -> bool:
    """Whether a file is the first ``size`` bytes of a copy already, and no more."""
    if os.stat(path).st_size != size:
        return False
    with open(path, "rb", buffering=0) as present, open(copy, "rb", buffering=0) as before:
        left = size
        while left:
            piece = before.read(min(left, _PIECE_BYTES))
            if not piece or present.read(len(piece)) != piece:
                return False
            left -= len(piece)
    return True


def flush_writers() -> list[io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom]:
    """Lets go what the open files of this process hold back: written later, it would come after what is put back. Returns these files."""
    flushed = []
    for value in gc.get_objects():
        if type(value) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if not value.closed and value.writable():
                    value.flush()
                    flushed.append(value)
    return flushed


def drop_copies(folder: Path, *, above_bytes: int = -1) -> None:
    """Takes away the copies larger than ``above_bytes``; when it is negative, all records and copies: nothing can be taken back then."""
    if above_bytes < 0:
        drop_records(folder, 0)
        (folder / "journal").unlink(missing_ok=True)
    for copy in folder.glob("[0-9]*-*"):
        if copy.lstat().st_size > above_bytes:
            copy.unlink(missing_ok=True)

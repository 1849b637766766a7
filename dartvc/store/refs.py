"""Refs: names for commits, moved by durable compare-and-swap.

A ref is written the way git does: ``<ref>.lock`` is made, synced and renamed, so that git processes and we exclude each other.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from dartvc.errors import CorruptError, RefConflictError, StorageError, UsageError
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store.durable import read_file, replace_file, storage_errors, sync_folder
from dartvc.store.locks import RepositoryLock

__all__ = ["Head", "Refs", "check_ref_name"]

_OID = re.compile(r"[0-9a-f]{40}\Z")
_BAD_REF = re.compile(r"[\x00-\x20~^:?*\[\\\x7f]|\.\.|@\{|//|\.lock(/|\Z)|\.\Z|(\A|/)\.|/\Z|\A/|\A(@|HEAD)\Z|\A-")
_LINK_MAX = 5


class Head(NamedTuple):
    """Where HEAD points: at a ref (``refs/heads/main``) or, detached, at a commit."""

    ref: str | None
    oid: Oid | None


def check_ref_name(name: str) -> str:
    """Returns the name of a ref if git allows it (git-check-ref-format).

    Raises:
        UsageError: git does not.
    """
    if not name or _BAD_REF.search(name):
        raise UsageError(f"{name!r} is not a valid name for a branch or tag", kind="bad-ref-name", hint="letters, digits, - _ . / only")
    return name


class Refs:
    """The refs of one repository: a file each under ``refs/``, ``packed-refs`` read as git wrote it, HEAD."""

    def __init__(self, path: Path, lock: RepositoryLock) -> None:
        self._path = path
        self._lock = lock

    def read(self, name: str) -> Oid | None:
        """Returns the commit of a ref, None when there is no such ref.

        Raises:
            CorruptError: the ref's file holds something else.
        """
        for _ in range(_LINK_MAX):
            text = self._text(name)
            if text is None:
                return self._packed().get(name)
            if _OID.match(text):
                return Oid(text)
            if not text.startswith("ref: refs/"):
                break
            name = text[5:]
        raise CorruptError(f"the ref {name} is damaged", kind="ref", hint="dvc-state fsck --repair")

    def _text(self, name: str) -> str | None:
        try:
            return read_file(self._path / name).decode("utf-8", "replace").strip()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def _packed(self) -> dict[str, Oid]:
        try:
            lines = read_file(self._path / "packed-refs").decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.split(" ", 1) for line in lines if line and line[0] not in "#^")
        return {pair[1]: Oid(pair[0]) for pair in pairs if len(pair) == 2 and _OID.match(pair[0])}

    def iter_refs(self, prefix: str = "refs/") -> Iterator[tuple[str, Oid]]:
        """Yields (name, commit) of the refs under a prefix, sorted; a damaged one is passed over (fsck names it)."""
        found: dict[str, Oid | None] = {}
        for name in self.iter_files(prefix.rpartition("/")[0]):
            if name.startswith(prefix):
                try:
                    found[name] = self.read(name)
                except CorruptError:
                    found[name] = None
        for name, oid in self._packed().items():  # last: git may move a ref from its file into this one at any moment
            if name.startswith(prefix):
                found.setdefault(name, oid)
        yield from sorted((name, oid) for name, oid in found.items() if oid is not None)

    def iter_files(self, below: str = "refs") -> Iterator[str]:
        """Yields the names of the refs that have a file of their own, below a folder of theirs."""
        root = os.path.join(self._path, "")
        for folder, _, files in os.walk(root + below):
            for file in files:
                if not file.endswith(".lock"):
                    yield os.path.join(folder, file).removeprefix(root)

    def move(self, name: str, new: Oid | None, *, expected: Oid | None) -> None:
        """Moves a ref from ``expected`` to ``new`` (None: absent), durably.

        Raises:
            RefConflictError: it is not at ``expected``.
            LockedError: somebody else is writing.
            StorageError: the disk refused; the ref is where it was.
        """
        check_ref_name(name)
        with self._lock.hold(10.0):
            if new is None:
                self._compare(name, expected)
                if expected is not None:
                    self._delete(name, expected)
            else:
                if not _OID.match(new):
                    raise UsageError(f"{new!r} is not an object id", kind="bad-oid", hint="40 hexadecimal digits")
                self._write(name, f"{new}\n", lambda: self._compare(name, expected), is_same=new == expected)

    def note(self, name: str, new: Oid, *, is_synced: bool = False) -> None:
        """Points a ref that history can tell again (the tip of a run) at a commit, whatever it said; waits for the disk only when told to.

        Raises:
            LockedError: somebody else is writing.
            StorageError: the disk refused; the ref is where it was.
        """
        with self._lock.hold(10.0):
            self._write(check_ref_name(name), f"{new}\n", is_synced=is_synced)

    def _compare(self, name: str, expected: Oid | None) -> None:
        present = self.read(name)
        if present != expected:
            raise RefConflictError(f"{name} was moved by somebody else", kind="ref-moved", hint="try again")

    def _delete(self, name: str, expected: Oid) -> None:
        path = self._path / name
        if name in self._packed():

            def drop() -> str:
                kept = [f"{oid} {each}\n" for each, oid in sorted(self._packed().items()) if each != name]
                return "# pack-refs with: sorted \n" + "".join(kept)

            self._write("packed-refs", drop)
        with self._lock.git_lock(path), storage_errors(path):
            self._compare_after_unpack(name, expected)
            path.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                sync_folder(path.parent)

    def _compare_after_unpack(self, name: str, expected: Oid) -> None:
        if self._text(name) is not None:
            self._compare(name, expected)

    def _write(
        self,
        name: str,
        content: str | Callable[[], str],
        check: Callable[[], None] | None = None,
        *,
        is_same: bool = False,
        is_synced: bool = True,
    ) -> None:
        """Writes a file under git's lock for it; ``check`` is called while nobody else can change it."""
        path = self._path / name
        with self._lock.git_lock(path) as lock, storage_errors(path):
            if check is not None:
                check()
            if is_same:
                return
            text = content if isinstance(content, str) else content()
            for _ in range(2):
                try:
                    replace_file(path, text.encode("utf-8", "surrogateescape"), temporary=lock, is_synced=is_synced)
                    break
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                    self._make_room(path, error)
            else:
                raise StorageError(f"cannot write to {path}", kind="write-failed", hint="dvc-state fsck")
        if read_file(path) != text.encode("utf-8", "surrogateescape"):
            raise StorageError(f"{path} does not hold what was written to it", kind="write-failed", hint="dvc-state fsck")

    def _make_room(self, path: Path, error: OSError) -> None:
        """Makes the folders of a new ref, durably, and takes away empty ones that stand in its place."""
        if path.is_dir():
            for inner, _, _ in os.walk(path, topdown=False):
                try:
                    os.rmdir(inner)
                except OSError:
                    raise UsageError(f"there are refs below {path.name}", kind="ref-in-the-way", hint="choose another name") from error
            return
        missing = []
        parent = path.parent
        while not parent.is_dir():
            if parent.exists():
                raise UsageError(
                    f"there is a ref named {parent.name} already", kind="ref-in-the-way", hint="choose another name"
                ) from error
            missing.append(parent)
            parent = parent.parent
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)

    def head(self) -> Head:
        """Returns where HEAD points; its commit is None before the first one.

        Raises:
            CorruptError: HEAD holds something else, or is gone.
        """
        text = self._text("HEAD") or ""
        if text.startswith("ref: refs/"):
            return Head(text[5:], self.read(text[5:]))
        if not _OID.match(text):
            raise CorruptError("HEAD is damaged", kind="head", hint="dvc-state fsck --repair")
        return Head(None, Oid(text))

    def link(self, name: str, target: str | None) -> None:
        """Makes a ref stand for another one (``refs/remotes/origin/HEAD`` for the remote's branch), durably; None takes it away.

        Raises:
            LockedError: somebody else is writing.
            StorageError: the disk refused; the ref is where it was.
        """
        path = self._path / check_ref_name(name)
        with self._lock.hold(10.0):
            if target is not None:
                self._write(name, f"ref: {check_ref_name(target)}\n")
            elif path.exists():
                with self._lock.git_lock(path), storage_errors(path):
                    path.unlink(missing_ok=True)
                    sync_folder(path.parent)

    def set_head(self, ref_or_oid: str) -> None:
        """Points HEAD at a ref (``refs/heads/main``) or a commit, durably.

        Raises:
            LockedError: somebody else is writing.
            StorageError: the disk refused; HEAD is where it was.
        """
        content = f"{ref_or_oid}\n" if _OID.match(ref_or_oid) else f"ref: {check_ref_name(ref_or_oid)}\n"
        with self._lock.hold(10.0):
            self._write("HEAD", content)

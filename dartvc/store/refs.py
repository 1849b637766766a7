"""Refs: names for commits, moved by durable compare-and-swap."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import CorruptError, RefConflictError, UsageError
from dartvc.model import Oid
from dartvc.store.locks import RepositoryLock, storage_errors

__all__ = ["Head", "Refs", "check_ref_name"]

_OID = re.compile(r"[0-9a-f]{40}\Z")
_BAD_REF = re.compile(r"[\x00-\x20~^:?*\[\\\x7f]|\.\.|@\{|//|\.lock(/|\Z)|\.\Z|(\A|/)\.|/\Z|\A/|\A@\Z|\A-")


@dataclass(frozen=True, slots=True)
class Head:
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
        try:
            text = (self._path / name).read_text().strip()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return self._packed().get(name)
        if not _OID.match(text):
            raise CorruptError(f"the ref {name} is damaged", kind="ref", hint="dvc-state op log shows where it pointed")
        return Oid(text)

    def _packed(self) -> dict[str, Oid]:
        try:
            lines = (self._path / "packed-refs").read_text().splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.split(" ", 1) for line in lines if line and line[0] not in "#^")
        return {pair[1]: Oid(pair[0]) for pair in pairs if len(pair) == 2 and _OID.match(pair[0])}

    def iter_refs(self, prefix: str = "refs/") -> Iterator[tuple[str, Oid]]:
        """Yields (name, commit) of the refs under a prefix, sorted; a damaged one is passed over (fsck names it)."""
        found = {name: oid for name, oid in self._packed().items() if name.startswith(prefix)}
        for folder, _, files in os.walk(self._path / "refs"):
            for file in files:
                name = os.path.relpath(os.path.join(folder, file), self._path)
                if name.startswith(prefix) and not file.endswith(".lock") and not file.startswith("tmp_"):
                    try:
                        oid = self.read(name)
                    except CorruptError:
                        continue
                    if oid is not None:
                        found[name] = oid
        yield from sorted(found.items())

    def move(self, name: str, new: Oid | None, *, expected: Oid | None) -> None:
        """Moves a ref from ``expected`` to ``new`` (None: absent), durably.

        Raises:
            RefConflictError: it is not at ``expected``.
            StorageError: the disk refused; the ref is where it was.
        """
        check_ref_name(name)
        with self._lock.hold(10.0):
            present = self.read(name)
            if present != expected:
                raise RefConflictError(f"{name} was moved by somebody else", kind="ref-moved", hint="try again")
            if new is None:
                self._delete(name)
            elif new != present:
                self._write(self._path / name, f"{new}\n")

    def _delete(self, name: str) -> None:
        with storage_errors(self._path / name):
            packed = self._packed()
            if name in packed:
                rest = "".join(f"{oid} {each}\n" for each, oid in sorted(packed.items()) if each != name)
                self._write(self._path / "packed-refs", "# pack-refs with: sorted\n" + rest)
            (self._path / name).unlink(missing_ok=True)
            _sync_folder((self._path / name).parent)

    def _write(self, path: Path, text: str) -> None:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"tmp_{path.name}.{os.getpid()}")
            try:
                with open(temporary, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def head(self) -> Head:
        """Returns where HEAD points; its commit is None before the first one."""
        text = (self._path / "HEAD").read_text().strip()
        if text.startswith("ref: "):
            return Head(text[5:], self.read(text[5:]))
        if not _OID.match(text):
            raise CorruptError("HEAD is damaged", kind="head", hint="dvc-state switch main")
        return Head(None, Oid(text))

    def set_head(self, ref_or_oid: str) -> None:
        """Points HEAD at a ref or a commit, durably."""
        with self._lock.hold(10.0):
            self._write(self._path / "HEAD", f"{ref_or_oid}\n" if _OID.match(ref_or_oid) else f"ref: {check_ref_name(ref_or_oid)}\n")


def _sync_folder(folder: Path) -> None:
    if not folder.is_dir():
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

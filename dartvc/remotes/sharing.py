"""A first clone on one machine: the packs of the other repository taken whole, as links where both lie on one file system.

Like ``git clone --local``: nothing is copied, so what nothing names any more comes along, too, until the next gc. Each pack is hashed once
against its own checksum, so that damage is not inherited.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dartvc.host.entropy import new_id
from dartvc.store import ObjectDatabase
from dartvc.store.durable import sync_folder, write_all
from dartvc.store.packs import Pack
from dartvc.store.packwriter import TEMPORARY_PREFIX

__all__ = ["PackShare", "can_share"]

_PIECE_BYTES = 8 * 1024 * 1024


def can_share(source: ObjectDatabase, target: ObjectDatabase) -> bool:
    """Whether all of a repository's packs may be taken as they are: into an empty repository, from one of the same user, undamaged and complete."""
    objects = source.path / "objects"
    packs = list(source.iter_packs())
    return (
        bool(packs)
        and next(target.iter_packs(), None) is None
        and not (objects / "info" / "alternates").exists()
        and not any(len(entry.name) == 2 for entry in os.scandir(objects))  # loose objects
        and len(packs) == sum(entry.name.endswith(".idx") for entry in os.scandir(source.pack_folder))
        and all(map(_is_own, packs))
        and all(map(_is_sound, packs))
    )


def _is_own(pack: Pack) -> bool:
    facts = [os.lstat(path) for path in (pack.path, pack.index_path)]
    return all(stat.S_ISREG(each.st_mode) and each.st_uid == os.geteuid() for each in facts)


def _is_sound(pack: Pack) -> bool:
    return pack.is_whole and hashlib.sha1(pack.content[:-20], usedforsecurity=False).digest() == pack.index.pack_checksum


class PackShare:
    """Packs of another repository on their way into this one; nothing is visible before `publish`.

    Raises:
        OSError: the disk refused, or the other repository was cleaned up meanwhile; nothing was left behind.
    """

    def __init__(self, packs: Iterable[Pack], folder: Path) -> None:
        self._folder = folder
        self._taken: list[tuple[int, Path, Path]] = []
        self.objects = self.size_bytes = 0
        try:
            for pack in packs:
                for path in (pack.path, pack.index_path):  # the pack first: one without an index is nothing to git
                    self._take(path)
                self.objects += pack.index.count
                self.size_bytes += pack.size_bytes
        except BaseException:
            self.abandon()
            raise

    def _take(self, path: Path) -> None:
        temporary = self._folder / f"{TEMPORARY_PREFIX}{os.getpid()}_{new_id(6)}{'.index' if path.suffix == '.idx' else '.pack'}"
        try:
            os.link(path, temporary, follow_symlinks=False)
        except OSError:
            _copy(path, temporary)
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        self._taken.append((descriptor, temporary, self._folder / path.name))
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a sweep sees that somebody still works on it
        os.fsync(descriptor)

    def publish(self) -> list[Path]:
        """Makes them visible, durably; returns the paths of the indexes."""
        for _, temporary, final in self._taken:
            os.rename(temporary, final)
        sync_folder(self._folder)
        indexes = [final for _, _, final in self._taken if final.suffix == ".idx"]
        self._close()
        return indexes

    def abandon(self) -> None:
        """Throws away what was not published."""
        for _, temporary, _ in self._taken:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        for descriptor, _, _ in self._taken:
            os.close(descriptor)
        self._taken.clear()


def _copy(path: Path, target: Path) -> None:
    try:
        with open(path, "rb", buffering=0) as source, open(target, "xb", buffering=0) as copy:
            os.fchmod(copy.fileno(), 0o444)
            while piece := source.read(_PIECE_BYTES):
                write_all(copy.fileno(), piece)
    except BaseException:
        target.unlink(missing_ok=True)
        raise

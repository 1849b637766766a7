"""The object database: packs of our own, read through a map; libgit2 for all else that git may have put there."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pygit2
from pygit2.enums import ObjectType, SortMode

from dartvc.errors import CorruptError, DartvcError, MissingObjectError, NotFoundError, RefusedError
from dartvc.model import Oid
from dartvc.store.locks import RepositoryLock, storage_errors
from dartvc.store.packs import BLOB, COMMIT, TREE, Pack, PackBuilder, TreeEntry, encode_tree, merge_packs, object_id
from dartvc.store.refs import Refs

__all__ = ["FORMAT_VERSION", "ObjectBatch", "ObjectDatabase", "RawCommit"]

FORMAT_VERSION = 1
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tfsync = all
[gc]
\tauto = 0
\tpruneExpire = never
[receive]
\tautogc = false
[dartvc]
\tformatversion = {version}
"""
_CONSOLIDATE_COUNT = 8
_CONSOLIDATE_CLASS = 8
_LARGE_PACK_BYTES = 32 * 1024 * 1024
_COMMIT_TIME = re.compile(rb"^author .*> (\d+) ([+-])(\d\d)(\d\d)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RawCommit:
    """A commit object as git has it; ``time_s`` in seconds since the epoch."""

    oid: Oid
    tree: Oid
    parents: tuple[Oid, ...]
    time_s: int
    utc_offset_min: int
    message: str


class ObjectBatch:
    """Objects of one or more commits: nothing is visible before `publish`."""

    def __init__(self, database: ObjectDatabase) -> None:
        self._database = database
        self._builder: PackBuilder | None = None
        self._number = 0

    def _add(self, kind: int, data: bytes | memoryview, compress: bool) -> Oid:
        raw = object_id(kind, data)
        builder = self._builder
        if builder is not None and raw in builder:
            return Oid(raw.hex())
        if not self._database.vouches_for(raw):
            if builder is None:
                self._number += 1
                builder = self._builder = PackBuilder(self._database.pack_folder, f"{os.getpid()}_{id(self):x}_{self._number}")
            with storage_errors(self._database.path):
                builder.add(kind, raw, data, compress)
        return Oid(raw.hex())

    def add_blob(self, data: bytes | memoryview, *, compress: bool = True) -> Oid:
        """Adds a blob; ``compress`` False stores it so that reading is a copy out of the mapped pack."""
        return self._add(BLOB, data, compress)

    def add_tree(self, entries: Mapping[str, TreeEntry]) -> Oid:
        """Adds a tree."""
        return self._add(TREE, encode_tree(entries), True)

    def add_commit(self, tree: Oid, parents: Iterable[Oid], message: str, time_s: float, utc_offset_min: int, author: str) -> Oid:
        """Adds a commit; author and committer are the same."""
        sign = "-" if utc_offset_min < 0 else "+"
        hours, minutes = divmod(abs(utc_offset_min), 60)
        stamp = f"{author} {int(time_s)} {sign}{hours:02d}{minutes:02d}"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {stamp}", f"committer {stamp}", "", message]
        return self._add(COMMIT, "\n".join(lines).encode("utf-8", "surrogatepass"), True)

    def publish(self) -> None:
        """Makes everything added durable and visible, as one pack.

        Raises:
            StorageError: the disk refused; nothing became visible.
        """
        builder, self._builder = self._builder, None
        if builder is None or not len(builder):
            return
        try:
            with storage_errors(self._database.path):
                checksum = builder.finish()
        except BaseException:
            with contextlib.suppress(OSError):
                builder.abandon()
            raise
        self._database.adopt_pack(checksum)

    def abandon(self) -> None:
        """Throws away what was not published."""
        if self._builder is not None:
            self._builder.abandon()
            self._builder = None


class ObjectDatabase:
    """Reads and writes the objects of one bare repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pack_folder = path / "objects" / "pack"
        self._lock = RepositoryLock(path / "dartvc.lock")
        self.refs = Refs(path, self._lock)
        self._packs: dict[str, Pack] = {}
        self._distrusted: set[bytes] = set()
        self._git: pygit2.Repository | None = None
        self._scan()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Makes a bare repository, durably; one that exists is opened."""
        if (path / "HEAD").exists():
            return cls.open(path)
        with storage_errors(path):
            for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
                (path / folder).mkdir(parents=True, exist_ok=True)
            (path / "config").write_text(_CONFIG.format(version=FORMAT_VERSION))
            (path / "description").write_text("states of a Python program (dartvc)\n")
            (path / "HEAD.tmp").write_text("ref: refs/heads/main\n")
            os.sync()
            os.rename(path / "HEAD.tmp", path / "HEAD")
            for folder in (path, path.parent):
                descriptor = os.open(folder, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a repository.

        Raises:
            NotFoundError: there is none.
            RefusedError: a newer dartvc made it.
        """
        if not (path / "HEAD").exists():
            raise NotFoundError(f"there is no repository at {path}", kind="no-repository", hint="dvc-state init")
        config = (path / "config").read_text() if (path / "config").exists() else ""
        found = re.search(r"^\s*formatversion\s*=\s*(\d+)", config, re.MULTILINE)
        if found and int(found.group(1)) > FORMAT_VERSION:
            raise RefusedError(
                f"{path} has format {found.group(1)}, this dartvc reads up to {FORMAT_VERSION}", kind="newer-format", hint="pip install -U dartvc"
            )
        return cls(path)

    def lock(self, timeout_s: float = 10.0) -> contextlib.AbstractContextManager[None]:
        """Holds the repository's lock: one writer of refs, one consolidation at a time."""
        return self._lock.hold(timeout_s)

    @property
    def git(self) -> pygit2.Repository:
        """The repository as libgit2 sees it, for what we do not read ourselves."""
        if self._git is None:
            self._git = pygit2.Repository(str(self.path))
        return self._git

    def batch(self) -> ObjectBatch:
        """Begins a batch of objects."""
        return ObjectBatch(self)

    def _scan(self) -> bool:
        """Looks for packs that others wrote; returns whether any was found or went away."""
        present = {entry.name for entry in os.scandir(self.pack_folder) if entry.name.endswith(".idx") and not entry.name.startswith("tmp_")}
        changed = present != self._packs.keys()
        self._packs = {name: pack for name, pack in self._packs.items() if name in present}
        for name in present - self._packs.keys():
            with contextlib.suppress(CorruptError, OSError):  # fsck names it; its objects are missing until then
                self._packs[name] = Pack(self.pack_folder / name)
        return changed

    def adopt_pack(self, checksum: bytes) -> None:
        """Takes note of a pack that this process just wrote."""
        name = f"pack-{checksum.hex()}.idx"
        self._packs[name] = Pack(self.pack_folder / name)

    def vouches_for(self, oid: bytes) -> bool:
        """Whether an object is in a pack whose index is sound and was not found damaged."""
        return oid not in self._distrusted and any(pack.find(oid) is not None for pack in self._packs.values())

    def distrust(self, oids: Iterable[Oid]) -> None:
        """Takes note that these objects are damaged: adding one of them writes it again."""
        self._distrusted.update(bytes.fromhex(oid) for oid in oids)

    def _find(self, oid: str) -> tuple[Pack, int] | None:
        raw = bytes.fromhex(oid)
        for _ in range(2):
            for pack in self._packs.values():
                offset = pack.find(raw)
                if offset is not None:
                    return pack, offset
            if not self._scan():
                return None
        return None

    def contains(self, oid: Oid) -> bool:
        """Whether the object is here."""
        return self._find(oid) is not None or oid in self.git

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Returns (kind, data) of an object, verified against its id.

        Raises:
            MissingObjectError: it is not here.
            CorruptError: its bytes are not what was written.
        """
        place = self._find(oid)
        if place is not None:
            kind, data = place[0].read(place[1])
            if object_id(kind, data).hex() != oid:
                raise CorruptError(f"object {oid} in {place[0].path.name} is damaged", kind="object", hint="dvc-state fsck")
            return kind, data
        try:
            found, data = self.git.odb.read(oid)
        except (KeyError, pygit2.GitError) as error:
            raise MissingObjectError(f"object {oid} is not in the repository", kind="missing-object", hint="dvc-state fsck") from error
        return int(found), data

    def read_blob(self, oid: Oid) -> bytes:
        """Returns a blob's bytes, verified against its id."""
        return self.read(oid)[1]

    def blob_size(self, oid: Oid) -> int:
        """Returns a blob's size in bytes without reading it."""
        place = self._find(oid)
        if place is not None:
            kind, size, _ = place[0].entry(place[1])
            if kind == BLOB:
                return size
        return len(self.read_blob(oid))

    def map_blob(self, oid: Oid) -> memoryview:
        """Returns a blob's bytes, out of the map where they lie in one piece; NOT verified."""
        place = self._find(oid)
        pieces = place[0].stored_blocks(place[1]) if place is not None else None
        if pieces is None:
            return memoryview(self.read_blob(oid))
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def read_blob_into(self, oid: Oid, target: memoryview) -> None:
        """Copies a blob's bytes into ``target``, which has its size; NOT verified.

        Raises:
            CorruptError: the blob has another size.
        """
        place = self._find(oid)
        pieces = place[0].stored_blocks(place[1]) if place is not None else None
        if pieces is None:
            pieces = [memoryview(self.read_blob(oid))]
        at = 0
        for piece in pieces:
            end = at + len(piece)
            if end > len(target):
                break
            target[at:end] = piece
            at = end
        if at != len(target):
            raise CorruptError(f"object {oid} has another size than expected", kind="object-size", hint="dvc-state fsck")

    def read_tree(self, oid: Oid) -> dict[str, TreeEntry]:
        """Returns the entries of a tree."""
        data = self.read(oid)[1]
        entries = {}
        at, end = 0, len(data)
        while at < end:
            space = data.index(b" ", at)
            zero = data.index(b"\0", space)
            name = data[space + 1 : zero].decode("utf-8", "surrogateescape")
            entries[name] = TreeEntry(int(data[at:space], 8), Oid(data[zero + 1 : zero + 21].hex()))
            at = zero + 21
        return entries

    def read_commit(self, oid: Oid) -> RawCommit:
        """Returns a commit."""
        kind, data = self.read(oid)
        if kind != COMMIT:
            raise NotFoundError(f"{oid} is not a commit", kind="not-a-commit", hint="dvc-state log")
        head, _, message = data.partition(b"\n\n")
        lines = head.split(b"\n")
        parents = tuple(Oid(line[7:].decode()) for line in lines if line.startswith(b"parent "))
        stamp = _COMMIT_TIME.search(head)
        time_s, offset = 0, 0
        if stamp is not None:
            time_s = int(stamp.group(1))
            offset = (int(stamp.group(3)) * 60 + int(stamp.group(4))) * (-1 if stamp.group(2) == b"-" else 1)
        return RawCommit(oid, Oid(lines[0][5:].decode()), parents, time_s, offset, message.decode("utf-8", "surrogatepass"))

    def iter_commits(self, tips: Iterable[Oid], hide: Iterable[Oid] = ()) -> Iterator[Oid]:
        """Yields commits reachable from ``tips`` and not from ``hide``, newest first, children before parents."""
        tips = list(dict.fromkeys(tips))
        if not tips:
            return
        try:
            walker = self.git.walk(pygit2.Oid(hex=tips[0]), SortMode.TOPOLOGICAL)
            for tip in tips[1:]:
                walker.push(pygit2.Oid(hex=tip))
            for oid in hide:
                walker.hide(pygit2.Oid(hex=oid))
            for commit in walker:
                yield Oid(str(commit.id))
        except (KeyError, pygit2.GitError) as error:
            raise CorruptError(f"the history is damaged: {error}", kind="history", hint="dvc-state fsck") from error

    def find_commits(self, prefix: str) -> list[Oid]:
        """Returns the commits whose id begins with ``prefix`` (4 to 40 hexadecimal digits)."""
        if not re.fullmatch(r"[0-9a-f]{4,40}", prefix):
            return []
        if len(prefix) == 40:
            return [Oid(prefix)] if self.contains(Oid(prefix)) and self.read(Oid(prefix))[0] == COMMIT else []
        self._scan()
        low, high = bytes.fromhex(prefix.ljust(40, "0")), bytes.fromhex(prefix.ljust(40, "f"))
        found = {oid for pack in self._packs.values() for oid, offset, _ in pack.iter_range(low, high) if pack.read(offset)[0] == COMMIT}
        try:
            match = self.git.get(prefix)
            if match is not None and match.type == ObjectType.COMMIT:
                found.add(bytes(match.id.raw))
        except (KeyError, ValueError, pygit2.GitError):
            pass
        return [Oid(raw.hex()) for raw in sorted(found)]

    def consolidate(self) -> None:
        """Joins small packs of about one size, so that many small commits end in few files; cheap when nothing is due."""
        if self._due() is None:
            return
        with self.lock():
            self._scan()
            while (group := self._due()) is not None:
                with storage_errors(self.path):
                    joined = merge_packs(self.pack_folder, group, f"{os.getpid()}_merge")
                self._scan()
                for pack in joined:
                    with contextlib.suppress(OSError):
                        pack.index_path.unlink()
                        pack.path.unlink()
                    self._packs.pop(pack.index_path.name, None)
                if len(joined) < 2:
                    break
            self._git = None

    def _due(self) -> list[Pack] | None:
        classes: dict[int, list[Pack]] = {}
        for pack in self._packs.values():
            if pack.size_bytes < _LARGE_PACK_BYTES:
                level, size = 0, max(pack.size_bytes, 1) // 8192
                while size:
                    level, size = level + 1, size // _CONSOLIDATE_CLASS
                classes.setdefault(level, []).append(pack)
        for packs in classes.values():
            if len(packs) >= _CONSOLIDATE_COUNT:
                return packs
        return None

    def iter_packs(self) -> Iterator[Pack]:
        """Yields the packs, after looking for new ones."""
        self._scan()
        yield from list(self._packs.values())

    def verify(self) -> Iterator[tuple[str, str]]:
        """Yields (where, what is wrong) for every damaged object, pack or index; reads everything."""
        for entry in sorted(self.pack_folder.glob("pack-*.pack")):
            index = entry.with_suffix(".idx")
            try:
                pack = Pack(index)
            except (DartvcError, OSError) as error:
                yield entry.name, f"its index cannot be read: {error}"
                continue
            for oid, offset, _ in pack.iter_entries():
                try:
                    kind, data = pack.read(offset)
                    good = object_id(kind, data) == oid
                except (DartvcError, IndexError, ValueError, RecursionError) as error:
                    yield f"{entry.name}:{oid.hex()}", str(error)
                    self._distrusted.add(oid)
                    continue
                if not good:
                    self._distrusted.add(oid)
                    yield f"{entry.name}:{oid.hex()}", "its bytes are not what was written"

"""The object database: packs read through a map, loose objects of git's, and the way to write more."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dartvc.errors import CorruptError, DartvcError, MissingObjectError, NotFoundError, StorageError, UsageError
from dartvc.model import Oid
from dartvc.store.durable import is_abandoned, passing_errors, storage_errors
from dartvc.store.layout import FORMAT_VERSION, check_format, create_layout
from dartvc.store.locks import RepositoryLock
from dartvc.store.loose import iter_loose, read_loose
from dartvc.store.objects import BLOB, COMMIT, TREE, RawCommit, TreeEntry, decode_commit, decode_links, decode_tree, object_id
from dartvc.store.packs import Pack
from dartvc.store.refs import Refs

if TYPE_CHECKING:
    from dartvc.store.batch import ObjectBatch
    from dartvc.store.checking import Problem

__all__ = ["FORMAT_VERSION", "ObjectDatabase"]

_OID = re.compile(r"[0-9a-f]{40}\Z")


class ObjectDatabase:
    """Reads and writes the objects of one bare repository. Threads may share one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pack_folder = path / "objects" / "pack"
        self._lock = RepositoryLock(path / "dartvc.lock")
        self.refs = Refs(path, self._lock)
        self._packs: dict[str, Pack] = {}
        self._unreadable: dict[str, str] = {}
        self._distrusted: set[bytes] = set()
        self._damaged: set[tuple[str, bytes]] = set()
        self._scan_lock = threading.Lock()
        self._unmergeable: set[Path] = set()
        self._is_swept = False
        self._scan()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Makes a bare repository, durably; one that exists is opened."""
        if not (path / "HEAD").exists():
            create_layout(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a repository.

        Raises:
            NotFoundError: there is none.
            RefusedError: a newer dartvc made it.
            StorageError: it cannot be read now.
        """
        with passing_errors(path):
            check_format(path)
        return cls(path)

    def lock(self, timeout_s: float = 10.0) -> contextlib.AbstractContextManager[None]:
        """Holds the repository's lock: one writer of refs, one consolidation at a time. A thread may take it again."""
        return self._lock.hold(timeout_s)

    def batch(self) -> ObjectBatch:
        """Begins a batch of objects; whoever names what it holds does so only while nothing that it counts on was thrown away (`gc`)."""
        from dartvc.store.batch import ObjectBatch  # what only looks does not wait for what writes

        self._scan()  # packs that others threw away vouch for nothing
        return ObjectBatch(self)

    # Packs

    def _scan(self) -> None:
        """Looks for packs that came or went since the last time; ``_packs`` stays the same dict when none did.

        Raises:
            StorageError: one cannot be opened now; nothing is known of it, and it is tried again the next time.
        """
        with self._scan_lock, passing_errors(self.pack_folder):
            present = self._list_indexes()
            if present == self._packs.keys() | self._unreadable.keys():
                return
            # a pack that is gone by now was joined with others into one that only a later look can find
            while not self._open_packs(present) and (later := self._list_indexes()) != present:
                present = later

    def _list_indexes(self) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(self.pack_folder) if entry.name.startswith("pack-") and entry.name.endswith(".idx")}
        except FileNotFoundError:
            return set()

    def _open_packs(self, present: set[str]) -> bool:
        """Opens the packs that are new, forgets those that are not present; returns whether all of them were still there."""
        packs = {name: pack for name, pack in self._packs.items() if name in present}
        unreadable = {}
        are_there = True
        for name in present - packs.keys():
            try:
                with passing_errors(self.pack_folder / name):
                    packs[name] = Pack(self.pack_folder / name)
            except FileNotFoundError:
                are_there = False
            except (CorruptError, OSError, ValueError) as error:
                unreadable[name] = str(error)
        self._unreadable = unreadable
        if packs.keys() != self._packs.keys():
            self._packs = _newest_first(packs)
        return are_there

    def adopt_packs(self, indexes: Iterable[Path]) -> None:
        """Takes note of packs that this process just wrote."""
        fresh: dict[str, Pack] = {}
        for index in indexes:
            # another process has joined it with others already, or no descriptor is free: a scan finds what is there
            with contextlib.suppress(FileNotFoundError, StorageError), passing_errors(index):
                fresh[index.name] = Pack(index)
        with self._scan_lock:
            for name in fresh:
                self._unreadable.pop(name, None)
            self._packs = {**fresh, **{name: pack for name, pack in self._packs.items() if name not in fresh}}
            if self._distrusted:
                self._distrusted = {oid for oid in self._distrusted if not any(pack.find(oid) is not None for pack in fresh.values())}

    def iter_packs(self) -> Iterator[Pack]:
        """Yields the packs that can be read, newest first."""
        self._scan()
        yield from self._packs.values()

    def vouches_for(self, oid: bytes) -> bool:
        """Whether an object is in a pack whose index is sound, and was not found damaged."""
        return oid not in self._distrusted and any(pack.is_whole and pack.find(oid) is not None for pack in self._packs.values())

    def distrust(self, oids: Iterable[Oid]) -> None:
        """Takes note that these objects are damaged or gone: adding one of them writes it again."""
        self._distrusted.update(bytes.fromhex(oid) for oid in oids)

    # Reading

    def _raw(self, oid: str) -> bytes:
        if not _OID.match(oid):
            raise UsageError(f"{oid!r} is not an object id", kind="bad-oid", hint="40 hexadecimal digits")
        return bytes.fromhex(oid)

    def _places(self, raw: bytes) -> Iterator[tuple[Pack, int]]:
        """Yields where an object lies, newest pack first; looks for new packs when it lies nowhere, or nowhere soundly."""
        seen: set[Pack] = set()
        packs: dict[str, Pack] | None = None
        while packs is not self._packs:  # another thread or process may join packs with every look
            packs = self._packs
            for pack in packs.values():
                offset = pack.find(raw)
                if offset is not None and pack not in seen:
                    seen.add(pack)
                    yield pack, offset
            self._scan()

    def _first_place(self, oid: str) -> tuple[Pack, int] | None:
        raw = self._raw(oid)
        if raw in self._distrusted:
            return None
        return next((place for place in self._places(raw) if (place[0].path.name, raw) not in self._damaged), None)

    def pack_of(self, oid: Oid) -> Pack | None:
        """Returns the pack in which an object lies soundly; None when it lies elsewhere."""
        place = self._first_place(oid)
        return place[0] if place is not None else None

    def contains(self, oid: Oid) -> bool:
        """Whether the object is here; its bytes are not looked at."""
        return next(self._places(self._raw(oid)), None) is not None or (self.path / "objects" / oid[:2] / oid[2:]).exists()

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Returns (kind, data) of an object, verified against its id; a sound copy is found behind a damaged one.

        Raises:
            MissingObjectError: it is not here.
            CorruptError: its bytes are not what was written.
        """
        raw = self._raw(oid)
        damage: CorruptError | None = None
        for pack, offset in self._places(raw):
            try:
                kind, data = pack.read(offset, self.read_base)
            except CorruptError as error:
                self._damaged.add((pack.path.name, raw))
                damage = damage or error
                continue
            if object_id(kind, data) == raw:
                return kind, data
            self._damaged.add((pack.path.name, raw))
            damage = damage or CorruptError(f"object {oid} in {pack.path.name} is damaged", kind="object", hint="dvc-state fsck")
        found = self._read_elsewhere(oid, damage)
        if found is not None:
            return found
        self._distrusted.add(raw)
        if damage is not None:
            raise CorruptError(f"object {oid} cannot be read: {damage.message}", kind=damage.kind, hint=damage.hint) from damage
        hint = "dvc-state fsck"
        if self._unreadable:
            raise CorruptError(f"object {oid} is not in any sound pack; {next(iter(self._unreadable.values()))}", kind="pack", hint=hint)
        raise MissingObjectError(f"object {oid} is not in the repository", kind="missing-object", hint=hint)

    def read_base(self, raw: bytes) -> tuple[int, bytes]:
        """Returns (kind, data) of an object, by its 20 bytes: of the base of a delta in another pack."""
        return self.read(Oid(raw.hex()))

    def _read_elsewhere(self, oid: Oid, damage: CorruptError | None) -> tuple[int, bytes] | None:
        """Reads a loose object, or one that git finds in another repository (objects/info/alternates)."""
        try:
            found = read_loose(self.path / "objects", oid)
        except CorruptError as error:
            if damage is None:
                self._distrusted.add(bytes.fromhex(oid))
                raise
            raise damage from error
        if found is not None:
            if object_id(*found).hex() == oid:
                return found
            raise CorruptError(f"the loose object {oid} is damaged", kind="object", hint="dvc-state fsck")
        if not (self.path / "objects" / "info" / "alternates").exists():
            return None
        import pygit2

        try:
            kind, data = pygit2.Repository(str(self.path)).odb.read(oid)
        except (KeyError, ValueError, pygit2.GitError):
            return None
        return int(kind), data

    def read_blob(self, oid: Oid) -> bytes:
        """Returns a blob's bytes, verified against its id.

        Raises:
            MissingObjectError: it is not here.
            CorruptError: its bytes are not what was written, or it is no blob.
        """
        return self._read_kind(oid, BLOB, "blob")

    def _read_kind(self, oid: Oid, wanted: int, name: str) -> bytes:
        kind, data = self.read(oid)
        if kind != wanted:
            raise CorruptError(f"object {oid} is not a {name}", kind=f"not-a-{name}", hint="dvc-state fsck")
        return data

    def blob_size(self, oid: Oid) -> int:
        """Returns a blob's size in bytes, without reading it where that is possible."""
        place = self._first_place(oid)
        if place is not None:
            with contextlib.suppress(CorruptError):
                found = place[0].size(place[1])
                if found is not None and found[0] == BLOB:
                    return found[1]
        return len(self.read_blob(oid))

    def _stored_blocks(self, oid: Oid) -> list[memoryview] | None:
        place = self._first_place(oid)
        if place is None or not place[0].is_whole:
            return None
        with contextlib.suppress(CorruptError):
            return place[0].stored_blocks(place[1])
        return None

    def map_blob(self, oid: Oid) -> memoryview:
        """Returns a blob's bytes: out of the map when it is stored in one block (up to 65535 bytes), else joined. NOT verified."""
        pieces = self._stored_blocks(oid)
        if pieces is None:
            return memoryview(self.read_blob(oid))
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def read_blob_into(self, oid: Oid, target: memoryview) -> None:
        """Copies a blob's bytes into ``target``, a writable view of bytes of its size. NOT verified where it is stored uncompressed.

        Raises:
            CorruptError: the blob has another size.
        """
        pieces = self._stored_blocks(oid)
        if pieces is None:
            pieces = [memoryview(self.read_blob(oid))]
        at, size = 0, len(target)
        for piece in pieces:
            end = at + len(piece)
            if end <= size:
                target[at:end] = piece
            at = end
        if at != size:
            raise CorruptError(f"object {oid} has {at} bytes, not {size}", kind="object-size", hint="dvc-state fsck")

    def read_tree(self, oid: Oid) -> dict[str, TreeEntry]:
        """Returns the entries of a tree.

        Raises:
            MissingObjectError: it is not here.
            CorruptError: its bytes are not what was written, or it is no tree.
        """
        return decode_tree(self._read_kind(oid, TREE, "tree"), oid)

    def read_commit(self, oid: Oid) -> RawCommit:
        """Returns a commit.

        Raises:
            NotFoundError: the object is no commit.
            MissingObjectError: it is not here.
            CorruptError: its bytes are not what was written.
        """
        kind, data = self.read(oid)
        if kind != COMMIT:
            raise NotFoundError(f"{oid} is not a commit", kind="not-a-commit", hint="dvc-state log")
        return decode_commit(oid, data)

    def read_links(self, oid: Oid) -> tuple[tuple[Oid, ...], float]:
        """Returns (parents, time in seconds) of a commit; raises what `read_commit` does."""
        kind, data = self.read(oid)
        if kind != COMMIT:
            raise NotFoundError(f"{oid} is not a commit", kind="not-a-commit", hint="dvc-state log")
        return decode_links(oid, data)

    def iter_commits(self, tips: Iterable[Oid], hide: Iterable[Oid] = ()) -> Iterator[Oid]:
        """Yields the commits reachable from ``tips`` and not from ``hide``, newest first, children before parents.

        Raises:
            CorruptError: a commit is damaged or gone.
        """
        from dartvc.store.commits import CommitReader
        from dartvc.store.walking import iter_topological

        return (commit.oid for commit in iter_topological(CommitReader(self).links, tips, hide))

    def iter_raw_commits(self, tips: Iterable[Oid], hide: Iterable[Oid] = ()) -> Iterator[RawCommit]:
        """Yields what `iter_commits` does, as commits; each is read once."""
        from dartvc.store.commits import CommitReader
        from dartvc.store.walking import iter_topological

        return iter_topological(CommitReader(self).commit, tips, hide)

    def find_commits(self, prefix: str) -> list[Oid]:
        """Returns the commits whose id begins with ``prefix`` (4 to 40 hexadecimal digits)."""
        if not re.fullmatch(r"[0-9a-f]{4,40}", prefix):
            return []
        self._scan()
        low, high = bytes.fromhex(prefix.ljust(40, "0")), bytes.fromhex(prefix.ljust(40, "f"))
        oids = {raw.hex() for pack in self._packs.values() for raw, _ in pack.index.iter_range(low, high)}
        oids.update(iter_loose(self.path / "objects", prefix))
        found = []
        for oid in sorted(oids):
            with contextlib.suppress(CorruptError):
                if self.read(Oid(oid))[0] == COMMIT:
                    found.append(Oid(oid))
        return found

    # Upkeep

    def tidy(self) -> None:
        """Consolidates after something became durable: whether that works (the disk may be full) has no say in it."""
        with contextlib.suppress(DartvcError, OSError):
            self.consolidate()

    def consolidate(self) -> None:
        """Joins small packs, so that many small commits end in few files; cheap when nothing is due. Others may read and write meanwhile.

        Raises:
            StorageError: the disk refused; nothing was lost.
        """
        from dartvc.store.merging import find_mergeable, merge_packs

        if self._is_swept and not find_mergeable(self._sound_packs()):
            return
        with self.lock():
            self._scan()
            self._sweep()
            while group := find_mergeable(self._sound_packs()):
                try:
                    with storage_errors(self.pack_folder):
                        indexes = merge_packs(self.pack_folder, group)
                except CorruptError as error:
                    damaged = {pack.path for pack in group if pack.path.name in error.message}
                    self._unmergeable |= damaged or {pack.path for pack in group}  # fsck names it; the others can be joined
                    continue
                self.adopt_packs(indexes)
                self._remove(pack for pack in group if pack.index_path not in indexes)

    def _sound_packs(self) -> list[Pack]:
        return [
            pack
            for pack in self._packs.values()
            if pack.is_whole and pack.path not in self._unmergeable and not pack.path.with_suffix(".keep").exists()
        ]

    def _remove(self, packs: Iterable[Pack]) -> None:
        """Takes packs away whose objects are durable elsewhere, the index first: a pack without one is nothing to git."""
        for pack in packs:
            try:
                pack.index_path.unlink()
                for suffix in (".pack", ".rev", ".bitmap"):
                    pack.path.with_suffix(suffix).unlink(missing_ok=True)
            except OSError:
                self._unmergeable.add(pack.path)  # or it would be joined again and again
        self._scan()

    def _sweep(self) -> None:
        """Takes away what writers left that died, under the lock."""
        from dartvc.store.checking import rebuild_index
        from dartvc.store.packwriter import TEMPORARY_PREFIX

        self._is_swept = True
        for entry in list(os.scandir(self.pack_folder)):
            path = Path(entry.path)
            if entry.name.startswith(TEMPORARY_PREFIX):
                is_abandoned(path, remove=True)
            elif entry.name.endswith(".pack") and not path.with_suffix(".idx").exists() and is_abandoned(path):
                with contextlib.suppress(OSError, CorruptError):
                    rebuild_index(path)

    def mend(self) -> list[Oid]:
        """Takes damaged packs out of use and returns the objects that are lost, of which there is no sound copy.

        Their sound objects are written into a new pack; the damaged files stay beside it as ``*.damaged``.

        Raises:
            StorageError: the disk refused; nothing was lost.
        """
        from dartvc.store.checking import find_damaged
        from dartvc.store.merging import merge_packs

        damaged: set[bytes] = set()
        with self.lock(), storage_errors(self.pack_folder):
            for pack in list(self.iter_packs()):
                bad = find_damaged(pack, self.read_base)
                if bad or not pack.is_whole:
                    self.adopt_packs(merge_packs(self.pack_folder, [pack], skip=bad))
                    for path in (pack.index_path, pack.path):
                        path.rename(path.with_name(path.name + ".damaged"))
                    damaged |= bad
            self._scan()
        lost = []
        for oid in (Oid(raw.hex()) for raw in sorted(damaged)):
            try:
                self.read(oid)
                self._distrusted.discard(bytes.fromhex(oid))
            except CorruptError:
                lost.append(oid)
        return lost

    def verify(self, oids: Iterable[Oid] | None = None) -> Iterator[Problem]:
        """Yields what is wrong; reads every object (or those of ``oids``), and rebuilds indexes that are damaged or gone.

        What is found damaged is not trusted afterwards: adding it writes it again.
        """
        from dartvc.store.checking import verify

        for problem in verify(self.path, self.refs, self.read, oids):
            if problem.oid is not None:
                self.distrust([problem.oid])
            yield problem
        self._unreadable = {}
        self._scan()


def _newest_first(packs: dict[str, Pack]) -> dict[str, Pack]:
    return dict(sorted(packs.items(), key=lambda item: item[1].changed_ns, reverse=True))

"""Finding damage: every object of every pack hashed again, indexes, refs and HEAD read; and what can be mended without a second copy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dartvc.errors import CorruptError, DartvcError
from dartvc.host.progress import track
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store.delta import apply_delta
from dartvc.store.durable import replace_file
from dartvc.store.loose import iter_loose
from dartvc.store.objects import object_id
from dartvc.store.packindex import PackIndex, encode_index
from dartvc.store.packs import OFS_DELTA, PACK_HEADER_BYTES, REF_DELTA, Pack
from dartvc.store.packwriter import TEMPORARY_PREFIX
from dartvc.store.refs import Refs

__all__ = ["Problem", "find_damaged", "rebuild_index", "verify"]

Reader = Callable[[Oid], tuple[int, bytes]]


class Problem(NamedTuple):
    """Something that is not as it was written.

    Attributes:
        where: the file or ref.
        what: one sentence.
        oid: the object concerned, when it is one.
        is_mended: whether `verify` put it right.
    """

    where: str
    what: str
    oid: Oid | None = None
    is_mended: bool = False


def verify(path: Path, refs: Refs, read: Reader, oids: Iterable[Oid] | None) -> Iterator[Problem]:
    """Yields what is wrong with a repository, or with some objects of it; damaged indexes are rebuilt from their packs."""
    if oids is not None:
        for oid in oids:
            try:
                read(oid)
            except DartvcError as error:
                yield Problem(oid, error.message, oid)
        return
    for pack_path in sorted((path / "objects" / "pack").glob("pack-*.pack")):
        yield from _verify_pack(pack_path, read)
    for index_path in sorted((path / "objects" / "pack").glob("pack-*.idx")):
        if not index_path.with_suffix(".pack").exists():
            yield Problem(index_path.name, "its pack is gone")
    for loose in map(Oid, iter_loose(path / "objects")):
        try:
            read(loose)
        except DartvcError as error:
            yield Problem(f"objects/{loose[:2]}/{loose[2:]}", error.message, loose)
    yield from _verify_refs(refs, read)


def _verify_pack(pack_path: Path, read: Reader) -> Iterator[Problem]:
    index_path = pack_path.with_suffix(".idx")
    try:
        pack = Pack(index_path)
    except (DartvcError, OSError, ValueError) as error:
        is_left_over = not index_path.exists()
        if not index_path.exists() and not pack_path.exists():
            return  # merged into another one meanwhile
        try:
            rebuild_index(pack_path)
            pack = Pack(index_path)
        except (DartvcError, OSError, ValueError):
            yield Problem(pack_path.name, str(error))
            yield from _verify_salvageable(pack_path)
            return
        if not is_left_over:
            yield Problem(index_path.name, f"{error}; it was rebuilt from its pack", None, True)
    bad = 0
    if not pack.is_whole:
        try:
            rebuild_index(pack_path)
            pack = Pack(index_path)
            yield Problem(index_path.name, "it was not the index of its pack; it was rebuilt", None, True)
        except (DartvcError, OSError, ValueError):
            bad = 1
            yield Problem(pack_path.name, "it is cut, or not the pack that its index was made for")
    for raw, offset in track("checking objects", pack.index.iter_entries(), pack.index.count):
        oid = Oid(raw.hex())
        try:
            kind, data = pack.read(offset, lambda base: read(Oid(base.hex())))
            if object_id(kind, data) == raw:
                continue
            what = f"object {oid} is not what was written"
        except DartvcError as error:
            what = f"object {oid} cannot be read: {error.message}"
        bad += 1
        yield Problem(pack_path.name, what, oid)
    if not bad and _checksum(pack) != pack.index.pack_checksum:
        yield Problem(pack_path.name, "its checksum does not match, though all of its objects are sound")


def find_damaged(pack: Pack, read_base: Callable[[bytes], tuple[int, bytes]]) -> frozenset[bytes]:
    """Returns the ids of the objects of a pack that are not what was written."""
    bad = set()
    for raw, offset in pack.index.iter_entries():
        try:
            if object_id(*pack.read(offset, read_base)) != raw:
                bad.add(raw)
        except DartvcError:
            bad.add(raw)
    return frozenset(bad)


def _checksum(pack: Pack) -> bytes:
    return hashlib.sha1(pack.content[:-20], usedforsecurity=False).digest()


def _verify_salvageable(pack_path: Path) -> Iterator[Problem]:
    """Names the objects of a pack that cannot be opened, by its index, so that adding them writes them again."""
    try:
        index = PackIndex.read(pack_path.with_suffix(".idx"))
    except (DartvcError, OSError):
        return
    for raw, _ in index.iter_entries():
        yield Problem(pack_path.name, f"object {raw.hex()} is in a pack that cannot be read", Oid(raw.hex()))


def _verify_refs(refs: Refs, read: Reader) -> Iterator[Problem]:
    for name in sorted(set(refs.iter_files()) | {name for name, _ in refs.iter_refs()}):
        try:
            oid = refs.read(name)
            if oid is not None:
                read(oid)
        except (DartvcError, OSError) as error:
            yield Problem(name, f"the ref {name} cannot be read: {error}")
    try:
        refs.head()
    except (DartvcError, OSError) as error:
        yield Problem("HEAD", str(error))


def rebuild_index(pack_path: Path) -> None:
    """Writes the index of a pack anew, from the pack, which must be whole.

    Raises:
        CorruptError: the pack is damaged.
        OSError: the disk refused.
    """
    entries, checksum = _scan_pack(pack_path)
    temporary = pack_path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}_{pack_path.stem}.index")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    replace_file(pack_path.with_suffix(".idx"), encode_index(entries, checksum), temporary=temporary)


def _scan_pack(pack_path: Path) -> tuple[dict[bytes, tuple[int, int]], bytes]:
    """Reads a pack from its beginning to its end; returns (entries for an index, checksum)."""
    checksum = pack_path.read_bytes()[-20:]
    pack = Pack(pack_path.with_suffix(".idx"), PackIndex(encode_index({}, checksum), pack_path.name))
    count = int.from_bytes(pack.content[8:12], "big")
    if _checksum(pack) != checksum:
        raise CorruptError(f"the pack {pack_path.name} is damaged", kind="pack", hint="dvc-state fsck")
    objects: dict[int, tuple[int, bytes]] = {}
    places: dict[bytes, int] = {}
    entries: dict[bytes, tuple[int, int]] = {}
    at = PACK_HEADER_BYTES
    for _ in range(count):
        entry = pack.entry(at)
        data, end = pack.inflate_measured(entry)
        kind = entry.kind
        if kind in (OFS_DELTA, REF_DELTA):
            base_at = entry.base_at if entry.base_oid is None else places.get(entry.base_oid)
            if base_at is None or base_at not in places.values():
                raise CorruptError(f"the pack {pack_path.name} has a delta of nothing", kind="pack", hint="git index-pack")
            kind, base = objects[base_at] if base_at in objects else pack.read(base_at)
            try:
                data = apply_delta(base, data)
            except ValueError as error:
                raise CorruptError(f"the pack {pack_path.name} is damaged: {error}", kind="pack", hint="dvc-state fsck") from error
        if len(data) < 65536:
            objects = dict(list(objects.items())[-64:]) if len(objects) > 512 else objects
            objects[at] = kind, data
        oid = object_id(kind, data)
        places[oid] = at
        entries[oid] = at, zlib.crc32(pack.content[at:end])
        at = end
    if at != pack.end:
        raise CorruptError(f"the pack {pack_path.name} is damaged", kind="pack", hint="dvc-state fsck")
    return entries, checksum

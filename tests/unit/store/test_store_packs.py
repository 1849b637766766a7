"""Packs: every object comes back, stored blocks are copied out of the map, memory stays bounded, merging loses nothing."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dartvc.errors import StorageError
from dartvc.model import Oid
from dartvc.store import ObjectDatabase, TreeEntry
from dartvc.store import packs as packs_module
from dartvc.store import packwriter as packwriter_module
from dartvc.store.merging import merge_packs
from dartvc.store.objects import BLOB, object_id
from dartvc.store.packs import Pack
from dartvc.store.packwriter import PackWriter

AUTHOR = "A <a@b>"


@given(st.lists(st.tuples(st.binary(max_size=300) | st.sampled_from([bytes(65535), bytes(65536), b"ab" * 100_000]), st.booleans()), max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_blob_comes_back(tmp_path: Path, blobs: list[tuple[bytes, bool]]) -> None:
    database = ObjectDatabase.create(tmp_path / "state.git")
    batch = database.batch()
    oids = [batch.add_blob(data, compress=compress) for data, compress in blobs]
    batch.publish()
    for reader in (database, ObjectDatabase.open(database.path)):
        for oid, (data, _) in zip(oids, blobs, strict=True):
            assert reader.read_blob(oid) == data == bytes(reader.map_blob(oid))
            target = bytearray(len(data))
            reader.read_blob_into(oid, memoryview(target))
            assert target == data and reader.blob_size(oid) == len(data)
    assert not list(database.verify())


def test_a_small_stored_blob_is_mapped_without_a_copy(database: ObjectDatabase) -> None:
    batch = database.batch()
    oid = batch.add_blob(b"x" * 60_000, compress=False)
    batch.publish()
    assert type(database.map_blob(oid).obj).__name__ == "mmap"


def test_the_callers_buffer_may_be_reused(database: ObjectDatabase) -> None:
    data = bytearray(os.urandom(3_000_000))
    before = bytes(data)
    batch = database.batch()
    oids = [batch.add_blob(memoryview(data), compress=False)]
    for number in range(6):
        data[0] = number
        oids.append(batch.add_blob(memoryview(data), compress=False))
    batch.publish()
    assert database.read_blob(oids[0]) == before
    assert not list(database.verify())


def test_objects_beyond_the_buffer_and_beyond_a_pack(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path, roll_bytes=12_000_000)
    blobs = {object_id(BLOB, data): data for data in [os.urandom(5_000_000) for _ in range(8)] + [os.urandom(20_000_000), b"tail"]}
    for number, (oid, data) in enumerate(blobs.items()):
        writer.add(BLOB, oid, data, compress=number == 8)
    packs = [Pack(index) for index in writer.publish()]
    assert len(packs) > 2
    for oid, data in blobs.items():
        ((pack, offset),) = [(pack, found) for pack in packs if (found := pack.find(oid)) is not None]
        assert pack.read(offset) == (BLOB, data)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".idx"] * len(packs) + [".pack"] * len(packs)
    assert not [each.name for each in threading.enumerate() if each.name in ("dartvc-pack", "dartvc-finish", "dartvc-flush")]


@pytest.mark.parametrize("blocks", [63.5, 64, 64.5, 128, 400])
def test_a_large_object_is_laid_out_piece_by_piece(tmp_path: Path, blocks: float) -> None:
    data = os.urandom(int(blocks * 65535))
    oid = object_id(BLOB, data)
    for is_stable in (False, True):
        (tmp_path / str(is_stable)).mkdir()
        writer = PackWriter(tmp_path / str(is_stable))
        writer.add(BLOB, oid, data, compress=False, is_stable=is_stable)
        file = writer._file
        (index,) = writer.publish()
        pack = Pack(index)
        assert pack.read(pack.find(oid) or 0) == (BLOB, data)
        assert len(file._room) < 5_000_000


def test_an_abandoned_batch_leaves_nothing(database: ObjectDatabase) -> None:
    batch = database.batch()
    oid = batch.add_blob(os.urandom(20_000_000), compress=False)
    batch.abandon()
    assert not list(database.pack_folder.iterdir()) and not database.contains(oid)


def test_a_failing_background_write_is_raised(database: ObjectDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = database.batch()
    batch.add_blob(b"small")

    def refuse(descriptor: int, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packwriter_module, "write_all", refuse)
    with pytest.raises(StorageError) as caught:
        for _ in range(8):
            batch.add_blob(os.urandom(9_000_000), compress=False)
        batch.publish()
    assert "free some space" in caught.value.hint
    assert not list(database.pack_folder.iterdir())


def test_two_hundred_commits_of_a_wide_tree_are_small(database: ObjectDatabase) -> None:
    batch = database.batch()
    rows: dict[str, TreeEntry] = {}
    parents: list[Oid] = []
    for number in range(400):
        rows[f"name{number * 37 % 200:03d}"] = TreeEntry(0o100644, batch.add_blob(b"%d" % number))
        parents = [batch.add_commit(batch.add_tree(rows), parents, f"{number}\n", 1e9 + number, 0, AUTHOR)]
    batch.publish()
    assert sum(path.stat().st_size for path in database.pack_folder.iterdir()) < 400 * 500


def test_many_tiny_commits_end_in_a_few_small_packs(database: ObjectDatabase) -> None:
    rows = {f"name{number:03d}": TreeEntry(0o100644, Oid(f"{number:040x}")) for number in range(200)}
    parents: list[Oid] = []
    count = 150
    for number in range(count):
        batch = database.batch()
        rows[f"name{number * 7 % 200:03d}"] = TreeEntry(0o100644, batch.add_blob(b"%d" % number))
        parents = [batch.add_commit(batch.add_tree(rows), parents, f"{number}\n", 1e9 + number, 0, AUTHOR)]
        batch.publish()
        database.consolidate()
    packs = list(database.iter_packs())
    assert len(packs) < 24
    assert len(list(database.iter_commits(parents))) == count
    assert min(pack.size_bytes / pack.index.count for pack in packs) < 400
    assert not list(database.verify())
    again = ObjectDatabase.open(database.path)
    assert again.read_tree(again.read_commit(parents[0]).tree) == rows


def test_a_reader_keeps_reading_while_packs_are_joined(database: ObjectDatabase) -> None:
    oids = []
    for number in range(8):
        batch = database.batch()
        oids.append(batch.add_blob(b"%d" % number))
        batch.publish()
    reader = ObjectDatabase.open(database.path)
    late = ObjectDatabase.open(database.path)
    held = reader.map_blob(oids[0])
    database.consolidate()
    assert len(list(database.iter_packs())) == 1
    assert bytes(held) == b"0" and [reader.read_blob(oid) for oid in oids] == [b"%d" % number for number in range(8)]
    batch = database.batch()
    fresh = batch.add_blob(b"fresh")
    batch.publish()
    assert late.read_blob(fresh) == b"fresh" and late.contains(oids[3])


def test_packs_that_cannot_be_taken_away_are_joined_once(database: ObjectDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    oids = []
    for number in range(8):
        batch = database.batch()
        oids.append(batch.add_blob(b"%d" % number))
        batch.publish()
    refused = []

    def refuse(path: Path, missing_ok: bool = False) -> None:
        refused.append(path)
        assert len(refused) <= 8, "it goes on and on"
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        database.consolidate()
    assert len(refused) == 8 and [database.read_blob(oid) for oid in oids] == [b"%d" % number for number in range(8)]


def test_joining_keeps_each_object_once(database: ObjectDatabase) -> None:
    indexes = []
    for data in (b"one", b"two"):
        writer = PackWriter(database.pack_folder)
        for each in (b"shared", data):
            writer.add(BLOB, object_id(BLOB, each), each, compress=True)
        indexes += writer.publish()
    (joined,) = merge_packs(database.pack_folder, [Pack(index) for index in indexes])
    assert Pack(joined).index.count == 3


def test_git_takes_nothing_for_a_pack_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = PackWriter(tmp_path)
    data = b"x" * 100
    writer.add(BLOB, object_id(BLOB, data), data, compress=True)
    seen: list[str] = []

    def rename(source: Path, target: Path) -> None:
        seen.extend(sorted(path.name for path in tmp_path.iterdir()))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dartvc.store.packwriter.os.rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        writer.publish()
    assert len(seen) == 2 and not any(name.endswith(".idx") for name in seen)


def _open_files(folder: Path) -> int:
    """Counts this process' descriptors of files in a folder."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # what lists them is among them
            found += each.readlink().is_relative_to(folder)
    return found


def _packs_apart(database: ObjectDatabase, count: int) -> list[Oid]:
    """Writes packs of one blob each, as others would: nothing joins them."""
    oids = []
    for number in range(count):
        writer = PackWriter(database.pack_folder)
        data = b"%d" % number * 50
        raw = object_id(BLOB, data)
        writer.add(BLOB, raw, data, compress=False)
        writer.publish()
        oids.append(Oid(raw.hex()))
    return oids


def test_large_packs_keep_no_file_open(database: ObjectDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "LARGE_PACK_BYTES", 50)
    oids = _packs_apart(database, 40)
    before = _open_files(database.pack_folder)
    reader = ObjectDatabase.open(database.path)
    views = [reader.map_blob(oid) for oid in oids]
    assert _open_files(database.pack_folder) == before == 0
    assert all(view.readonly and bytes(view) == b"%d" % number * 50 for number, view in enumerate(views))
    assert not list(reader.verify())
    for pack in reader.iter_packs():
        pack.path.unlink()
        pack.index_path.unlink()
    del reader, pack
    assert [bytes(view)[:1] for view in views[:3]] == [b"0", b"1", b"2"]
    names = Path("/proc/self/maps").read_text
    assert names().count(f"{database.pack_folder}/pack-") >= 40
    del views
    assert f"{database.pack_folder}/pack-" not in names()


def test_a_map_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as file, pytest.raises(OSError, match="Invalid argument"):
        packs_module._map_alone(file.fileno(), 0)


@contextmanager
def _free_descriptors(count: int) -> Iterator[None]:
    """Leaves this process so many descriptors to open."""
    gc.collect()  # databases of other tests let go of their packs now, not in between
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("free", [0, pytest.param(6, marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="maps keep no descriptor"))])
def test_a_pack_for_which_no_descriptor_is_free_is_not_taken_for_damaged(database: ObjectDatabase, free: int) -> None:
    oids = _packs_apart(database, 30)
    with _free_descriptors(free):
        with pytest.raises(StorageError, match="Too many open files") as caught:
            database.read_blob(oids[0])
        with pytest.raises(StorageError, match="Too many open files"):
            ObjectDatabase.open(database.path)
    assert "ulimit -n" in caught.value.hint
    assert [database.read_blob(oid)[:1] for oid in oids[:2]] == [b"0", b"1"]
    assert not list(database.verify())

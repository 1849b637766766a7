"""The database: walking, finding, healing, formats, refusals."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dartvc.errors import CorruptError, MissingObjectError, NotFoundError, RefusedError
from dartvc.model import Oid
from dartvc.store import ObjectDatabase, merging
from dartvc.store.packs import Pack

AUTHOR = "A <a@b>"


def commits(database: ObjectDatabase, shape: dict[str, str], clock: list[int] | None = None) -> dict[str, Oid]:
    """Makes one commit for each letter; the value names its parents."""
    batch = database.batch()
    tree = batch.add_tree({})
    made: dict[str, Oid] = {}
    for index, (name, parents) in enumerate(shape.items()):
        time_s = clock[index] if clock else 1000 + index
        made[name] = batch.add_commit(tree, [made[parent] for parent in parents], f"{name}\n", time_s, -90, AUTHOR)
    batch.publish()
    return made


def test_a_commit_comes_back_as_written(database: ObjectDatabase) -> None:
    made = commits(database, {"a": "", "b": "a", "m": "ab"})
    commit = database.read_commit(made["m"])
    assert commit.parents == (made["a"], made["b"]) and commit.message == "m\n"
    assert (commit.time_s, commit.utc_offset_min) == (1002, -90)


@pytest.mark.parametrize("seed", range(20))
def test_children_come_before_parents_whatever_the_clock(database: ObjectDatabase, seed: int) -> None:
    dice = random.Random(seed)
    names = "abcdefghijklmnop"
    shape = {name: "".join(sorted(dice.sample(names[:index], min(index, dice.randint(1, 3))))) for index, name in enumerate(names)}
    made = commits(database, shape, [dice.randint(0, 50) for _ in names])
    order = list(database.iter_commits(made.values()))
    assert sorted(order) == sorted(made.values())
    place = {oid: index for index, oid in enumerate(order)}
    assert all(place[made[name]] < place[made[parent]] for name in names for parent in shape[name])
    hidden = set(database.iter_commits([made["h"]]))
    assert set(database.iter_commits([made["p"]], [made["h"]])) == set(database.iter_commits([made["p"]])) - hidden


def test_commits_are_found_by_prefix(database: ObjectDatabase) -> None:
    made = commits(database, {"a": "", "b": "a"})
    for oid in made.values():
        assert database.find_commits(oid[:7]) == [oid] == database.find_commits(oid)
    assert database.find_commits("zz") == [] == database.find_commits("0000000000")
    assert database.find_commits(database.read_commit(made["a"]).tree) == []


def test_missing_and_mistaken_objects_are_named(database: ObjectDatabase) -> None:
    made = commits(database, {"a": ""})
    with pytest.raises(MissingObjectError, match="1234"):
        database.read_blob(Oid("1234" * 10))
    with pytest.raises(CorruptError, match="not a blob"):
        database.read_blob(made["a"])
    with pytest.raises(NotFoundError):
        database.read_commit(database.read_commit(made["a"]).tree)


def damage(path: Path, at: int) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)


def test_damage_is_named_and_adding_again_heals(database: ObjectDatabase) -> None:
    data = os.urandom(100_000)
    batch = database.batch()
    oid = batch.add_blob(data, compress=False)
    batch.publish()
    (pack,) = database.pack_folder.glob("*.pack")
    damage(pack, 50_000)
    reader = ObjectDatabase.open(database.path)
    with pytest.raises(CorruptError, match=oid) as caught:
        reader.read_blob(oid)
    assert pack.name in caught.value.message
    assert [problem.oid for problem in ObjectDatabase.open(database.path).verify()] == [oid]
    reader.distrust([oid])
    batch = reader.batch()
    batch.add_blob(b"beside")
    assert batch.add_blob(data, compress=False) == oid
    batch.publish()
    for healed in (reader, ObjectDatabase.open(database.path)):
        assert healed.read_blob(oid) == data == bytes(healed.map_blob(oid))


def test_a_pack_with_damage_is_not_joined_into_a_sound_one(database: ObjectDatabase) -> None:
    oids = []
    for number in range(10):
        batch = database.batch()
        oids.append(batch.add_blob(b"%d" % number * 50))
        batch.publish()
    bad = next(pack for pack in database.iter_packs() if pack.find(bytes.fromhex(oids[4])) is not None)
    damage(bad.path, 20)
    database = ObjectDatabase.open(database.path)
    database.consolidate()
    assert bad.path.exists()
    for number, oid in enumerate(oids):
        if number != 4:
            assert database.read_blob(oid) == b"%d" % number * 50


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
def test_a_file_cut_or_flipped_anywhere_never_gives_wrong_data(database: ObjectDatabase, suffix: str) -> None:
    contents = {}
    batch = database.batch()
    for number in range(6):
        data = b"%d" % number * (number * 30 + 1)
        contents[batch.add_blob(data, compress=number % 2 == 0)] = data
    batch.publish()
    (path,) = database.pack_folder.glob(f"*{suffix}")
    path.chmod(0o644)
    sound = path.read_bytes()
    step = 1 if suffix == ".pack" else 7
    damages = [sound[:size] for size in range(0, len(sound), step)]
    damages += [sound[:at] + bytes([sound[at] ^ 0x11]) + sound[at + 1 :] for at in range(0, len(sound), step)]
    for damaged in damages:
        path.write_bytes(damaged)
        reader = ObjectDatabase.open(database.path)
        for oid, data in contents.items():
            try:
                assert reader.read_blob(oid) == data
            except CorruptError:
                pass
        assert list(reader.verify())
        if suffix == ".idx":
            assert {oid: reader.read_blob(oid) for oid in contents} == contents


def test_a_lost_index_is_made_again(database: ObjectDatabase) -> None:
    made = commits(database, {"a": "", "b": "a"})
    (index,) = database.pack_folder.glob("*.idx")
    before = index.read_bytes()
    index.unlink()
    reader = ObjectDatabase.open(database.path)
    reader.consolidate()
    assert index.read_bytes() == before and reader.contains(made["b"])


def test_a_dead_writers_files_are_swept_and_a_living_ones_kept(database: ObjectDatabase) -> None:
    living = database.batch()
    living.add_blob(os.urandom(9_000_000), compress=False)
    (database.pack_folder / "tmp_dartvc_1_dead.pack").write_bytes(b"PACK")
    ObjectDatabase.open(database.path).consolidate()
    living.publish()
    assert sorted(path.suffix for path in database.pack_folder.iterdir()) == [".idx", ".pack"]


def test_a_newer_format_is_refused(database: ObjectDatabase) -> None:
    config = database.path / "config"
    config.write_text(config.read_text().replace("formatversion = 1", "formatversion = 2"))
    with pytest.raises(RefusedError) as caught:
        ObjectDatabase.open(database.path)
    assert "upgrade" in caught.value.hint or "-U" in caught.value.hint
    with pytest.raises(NotFoundError):
        ObjectDatabase.open(database.path / "nowhere")


def test_a_truncated_loose_object_is_named_at_once(database: ObjectDatabase) -> None:
    oid = Oid("ab" + "0" * 38)
    folder = database.path / "objects" / "ab"
    folder.mkdir()
    for content in (b"", b"\x78", b"\x78\x01", b"\x78\x01\x00\x00"):
        (folder / ("0" * 38)).write_bytes(content)
        with pytest.raises(CorruptError, match=oid):
            database.read_blob(oid)
    assert [problem.oid for problem in database.verify()] == [oid]


def test_mending_keeps_the_sound_objects_of_a_cut_pack(database: ObjectDatabase) -> None:
    contents = {}
    batch = database.batch()
    for number in range(20):
        data = os.urandom(500)
        contents[batch.add_blob(data, compress=number % 2 == 0)] = data
    batch.publish()
    (path,) = database.pack_folder.glob("*.pack")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:5000])
    fresh = ObjectDatabase.open(database.path)
    assert len([problem for problem in fresh.verify() if problem.oid]) > 5
    lost = fresh.mend()
    assert 5 < len(lost) < 15
    again = ObjectDatabase.open(database.path)
    assert not list(again.verify())
    for oid, data in contents.items():
        if oid in lost:
            batch = again.batch()
            assert batch.add_blob(data) == oid
            batch.publish()
        assert again.read_blob(oid) == data


@pytest.mark.parametrize("joins", [1, 2, 5])
def test_an_object_is_found_however_often_its_packs_are_joined_meanwhile(
    database: ObjectDatabase, monkeypatch: pytest.MonkeyPatch, joins: int
) -> None:
    monkeypatch.setattr(merging, "_FACTOR", 2)
    reader = ObjectDatabase.open(database.path)
    wanted = commits(database, {"a": ""})["a"]
    opened: list[Path] = []

    def join_and_open(index_path: Path) -> Pack:
        monkeypatch.setattr("dartvc.store.database.Pack", Pack)
        commits(database, {f"{len(opened)}": ""})
        database.consolidate()
        assert not index_path.exists()
        opened.append(index_path)
        monkeypatch.setattr("dartvc.store.database.Pack", join_and_open if len(opened) < joins else Pack)
        return Pack(index_path)

    monkeypatch.setattr("dartvc.store.database.Pack", join_and_open)
    assert reader.read_commit(wanted).message == "a\n"
    assert len(opened) == joins


def test_an_object_is_found_that_another_threads_look_brought(database: ObjectDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ObjectDatabase.open(database.path)
    wanted = commits(database, {"a": ""})["a"]
    look = reader._scan

    def look_twice() -> None:  # the other thread was quicker: to this one nothing is new
        look()
        look()

    monkeypatch.setattr(reader, "_scan", look_twice)
    assert reader.contains(wanted)


def test_an_index_without_its_pack_hides_nothing(database: ObjectDatabase) -> None:
    made = [commits(database, {name: ""})[name] for name in "ab"]
    lost = database.pack_of(made[0])
    assert lost is not None
    lost.path.unlink()
    reader = ObjectDatabase.open(database.path)
    assert reader.read_commit(made[1]).message == "b\n"
    with pytest.raises(MissingObjectError):
        reader.read_commit(made[0])

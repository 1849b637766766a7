"""The fast ways to a commit give what the plain ones give."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.errors import CorruptError
from dartvc.model import Oid
from dartvc.store import ObjectDatabase
from dartvc.store.commits import CommitReader
from dartvc.store.objects import decode_any_commit, decode_commit, decode_links, encode_commit
from dartvc.store.packindex import PackIndex, encode_index

OID = Oid("0" * 40)
oids = st.text("0123456789abcdef", min_size=40, max_size=40)
authors = st.sampled_from(["a <a@b>", "Ü <u@x>", "> 5 +0000 <x>", "a <b> 1 +0000", "no address"])
heads = st.sampled_from([b"", b"gpgsig -----\n x\n", b"encoding latin-1\n", b"author x> 7 +0100\n"])


@given(
    tree=oids,
    parents=st.lists(oids, max_size=3),
    author=authors,
    time_s=st.integers(0, 2**40),
    offset_min=st.integers(-900, 900),
    message=st.text(st.characters(exclude_categories=())),
    further=heads,
)
def test_a_commit_taken_apart_by_one_match_is_the_one_read_line_by_line(
    tree: str, parents: list[str], author: str, time_s: int, offset_min: int, message: str, further: bytes
) -> None:
    data = encode_commit(Oid(tree), [Oid(parent) for parent in parents], message, time_s, offset_min, author)
    for each in (data, data.replace(b"\ncommitter", b"\n" + further + b"committer", 1), data.replace(b"\n\n", b"\n" + further + b"\n", 1)):
        try:
            plain = decode_any_commit(OID, each)
        except CorruptError:
            with pytest.raises(CorruptError):
                decode_commit(OID, each)
            continue
        assert decode_commit(OID, each) == plain
        if each is data:
            assert decode_links(OID, data) == (plain.parents, plain.time_s)


@given(data=st.binary(max_size=300))
def test_what_is_no_commit_is_refused_both_ways(data: bytes) -> None:
    for each in (data, b"tree " + b"0" * 40 + b"\n" + data):
        try:
            plain = decode_any_commit(OID, each)
        except CorruptError:
            with pytest.raises(CorruptError):
                decode_commit(OID, each)
        else:
            assert decode_commit(OID, each) == plain


@given(
    present=st.sets(st.binary(min_size=3, max_size=3), min_size=1, max_size=60),
    asked=st.lists(st.binary(min_size=3, max_size=3), max_size=10),
    spread=st.sampled_from([1, 40, 150]),
)
def test_an_index_finds_what_it_has_and_nothing_else(present: set[bytes], asked: list[bytes], spread: int) -> None:
    def full(short: bytes, number: int) -> bytes:
        return short[:1] + short * 5 + number.to_bytes(4, "big")

    entries = {full(short, number): (12 + 7 * position * spread + number, 0) for position, short in enumerate(sorted(present)) for number in range(spread)}
    index = PackIndex(encode_index(entries, bytes(20)), "test")
    found = dict(index.iter_entries())
    assert found == {oid: offset for oid, (offset, _) in entries.items()}
    for oid in (*found, *(full(short, 50) for short in (*asked, *present))):
        assert index.find(oid) == found.get(oid)


def test_a_damaged_commit_is_named_on_the_fast_way_too(tmp_path: Path) -> None:
    database = ObjectDatabase.create(tmp_path / "r")
    commits: list[Oid] = []
    batch = database.batch()
    tree = batch.add_tree({})
    for number in range(3):
        commits.append(batch.add_commit(tree, commits[-1:], f"number {number}", 1.7e9 + number, 0, "a <a@b>"))
    batch.publish()
    reader = CommitReader(database)
    assert [reader.commit(oid).message for oid in commits] == ["number 0", "number 1", "number 2"]
    (pack,) = (tmp_path / "r" / "objects" / "pack").glob("*.pack")
    content = bytearray(pack.read_bytes())
    at = content.index(b"number 1")
    pack.chmod(0o644)
    with open(pack, "r+b") as file:
        file.seek(at)
        file.write(b"numbeR 1")
    reader = CommitReader(database)
    assert reader.commit(commits[0]).message == "number 0"
    with pytest.raises(CorruptError):
        reader.commit(commits[1])
    assert reader.commit(commits[2]).message == "number 2"


def test_a_small_commit_is_stored_plainly(tmp_path: Path) -> None:
    database = ObjectDatabase.create(tmp_path / "r")
    batch = database.batch()
    tree = batch.add_tree({})
    for message in ("in plain sight", "long " * 500):
        batch.add_commit(tree, [], message, 1.7e9, 0, "a <a@b>")
    batch.publish()
    (pack,) = (tmp_path / "r" / "objects" / "pack").glob("*.pack")
    assert b"in plain sight" in pack.read_bytes()
    assert b"long long" not in pack.read_bytes()

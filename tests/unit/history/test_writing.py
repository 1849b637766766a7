"""Commits: what is written is what is read, and what did not change costs nothing."""

from __future__ import annotations

import pickle
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.errors import CorruptError, MissingObjectError
from dartvc.history import Repository
from dartvc.history.light import write_light
from dartvc.history.namespace import NamespaceTree, iter_names
from dartvc.history.payloads import INLINE_PAYLOAD_BYTES, read_payload
from dartvc.history.writing import encode_json
from dartvc.model import CommitKind, Oid, Omission, Payload, StagedCommit, StagedName
from dartvc.store import TreeEntry
from tests.unit.history.staging import Commit, chunk, stage


def _value(repository: Repository, oid: Oid, name: str) -> object:
    payload_oid = repository.names(oid)[name].payload_oid
    assert payload_oid is not None
    return pickle.loads(repository.payload(payload_oid).read_stream())[name]


def _write(repository: Repository, staged: StagedCommit, *parents: Oid) -> Oid:
    writer = repository.writer()
    oid = writer.write(staged, parents)
    writer.publish()
    return oid


def test_a_commit_gives_back_what_was_staged(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1, "y": [2]}, code="x = 1\ny = [2]", added=("x", "y"), environment={"python": "3.11"})
    assert (_value(repository, oid, "x"), _value(repository, oid, "y")) == (1, [2])
    assert repository.code(oid) == "x = 1\ny = [2]"
    assert repository.environment(oid) == {"python": "3.11"}
    assert repository.summary(repository.names(oid)["x"]) == {"type": "int", "repr": "1"}
    assert repository.commit(oid).added == ("x", "y")
    assert repository.is_trusted(oid)


def test_unchanged_names_are_shared_with_the_parent(repository: Repository, commit: Commit) -> None:
    first = commit({"x": 1, "y": 2}, environment={"python": "3.11"})
    second = commit({"x": 3}, removed=())
    assert repository.names(first)["y"] == repository.names(second)["y"]
    assert repository.environment(second) == {"python": "3.11"}
    assert repository.code(second) == ""


def test_removed_names_are_gone_and_keep_names_false_inherits_nothing(repository: Repository, commit: Commit) -> None:
    commit({"x": 1, "y": 2})
    oid = commit({}, removed=("x", "unknown"))
    assert set(repository.names(oid)) == {"y"}
    alone = StagedCommit("", CommitKind.CHERRY_PICK, 1e9, 0, changed=stage({"z": 1}).changed, keep_names=False)
    assert set(repository.names(_write(repository, alone, oid))) == {"z"}


def test_ids_are_known_before_publishing_and_several_commits_share_a_barrier(repository: Repository) -> None:
    writer = repository.writer()
    oid = None
    for value in range(5):
        oid = writer.write(stage({"x": value, f"y{value}": value}), [oid] if oid else [])
    assert oid is not None
    assert not repository.database.contains(oid)
    writer.publish()
    assert set(repository.names(oid)) == {"x", *(f"y{value}" for value in range(5))}
    assert len(list(repository.iter_log([oid]))) == 5


def test_abandoned_commits_leave_nothing(repository: Repository, commit: Commit) -> None:
    first = commit({"x": 1})
    writer = repository.writer()
    lost = writer.write(stage({"x": 2}), [first])
    writer.abandon()
    assert not repository.database.contains(lost)
    oid = writer.write(stage({"y": 2}), [first])
    writer.publish()
    assert _value(repository, oid, "x") == 1


def test_names_of_one_covariable_have_one_payload(repository: Repository) -> None:
    payload = Payload(("a", "b"), (chunk(pickle.dumps({"a": 1, "b": 1})),))
    staged = StagedCommit("", CommitKind.CELL, 1e9, 0, changed=tuple(StagedName(name, {"type": "int"}, payload) for name in "ab"))
    names = repository.names(_write(repository, staged))
    assert names["a"].payload_oid == names["b"].payload_oid


def test_an_omitted_name_has_a_recipe_and_no_payload(repository: Repository) -> None:
    omission = Omission("pool", "pool._lock", "a lock", "close it", True)
    name = StagedName("pool", {"type": "Pool"}, None, omission, {"steps": [1]})
    entry = repository.names(_write(repository, StagedCommit("", CommitKind.CELL, 1e9, 0, changed=(name,))))["pool"]
    assert entry.payload_oid is None
    assert repository.recipe(entry) == {"reason": "a lock", "path": "pool._lock", "remedy": "close it", "recomputable": True, "steps": [1]}


def test_process_entries_have_the_shape_of_names(repository: Repository) -> None:
    staged = StagedCommit("", CommitKind.CELL, 1e9, 0, process=stage({"cwd": "/tmp"}).changed)
    first = _write(repository, staged)
    assert set(repository.process(first)) == {"cwd"}
    second = _write(repository, StagedCommit("", CommitKind.CELL, 1e9, 0, process_removed=("cwd",)), first)
    assert repository.process(second) == {}


@pytest.mark.parametrize("count", [255, 256, 257, 700])
def test_many_names_are_sharded_and_come_back(repository: Repository, count: int) -> None:
    writer = repository.writer()
    oid = writer.write(stage({f"n{index}": index for index in range(count)}), [])
    writer.publish()
    again = _write(repository, stage({"n7": "new"}, removed=("n8",)), oid)
    assert set(repository.names(again)) == {f"n{index}" for index in range(count)} - {"n8"}
    assert _value(repository, again, "n7") == "new"
    assert _value(repository, again, "n9") == 9


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=30))
def test_a_changed_tree_equals_one_made_at_once(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int]]) -> None:
    repository = Repository.init(tmp_path_factory.mktemp("trees"), key_path=tmp_path_factory.mktemp("key") / "key")
    batch = repository.database.batch()
    leaf = TreeEntry(0o40000, batch.add_tree({}))
    grown, model = NamespaceTree(), dict.fromkeys((f"base{index}" for index in range(250)), leaf)
    for name in model:
        grown.put(name, leaf)
    for is_put, number in steps:
        grown = grown.copy()
        if is_put:
            grown.put(f"n{number}", leaf)
            model[f"n{number}"] = leaf
        else:
            grown.drop(f"n{number}")
            model.pop(f"n{number}", None)
        grown.write(batch)
    fresh = NamespaceTree()
    for name, entry in model.items():
        fresh.put(name, entry)
    tree_oid = fresh.write(batch)
    assert grown.write(batch) == tree_oid
    batch.publish()
    assert tree_oid is not None
    assert dict(iter_names(repository.database, tree_oid)) == model
    assert len(NamespaceTree.read(repository.database, tree_oid)) == len(model)


def _array(streams: list[bytes], buffers: list[list[bytes]], known: set[bytes] = frozenset()) -> StagedCommit:  # type: ignore[assignment]
    refs = tuple(tuple(chunk(data, is_known=data in known) for data in buffer) for buffer in buffers)
    payload = Payload(("a",), tuple(chunk(data, is_known=data in known) for data in streams), refs)
    return StagedCommit("", CommitKind.CELL, 1e9, 0, changed=(StagedName("a", {"type": "ndarray"}, payload),))


BIG = [bytes([value]) * 70_000 for value in range(4)]


def test_buffers_come_back_chunk_by_chunk(repository: Repository) -> None:
    oid = _write(repository, _array([b"head", b"tail" * 9], [[BIG[0], BIG[1], b"end"], [BIG[1]], []]))
    payload_oid = repository.names(oid)["a"].payload_oid
    assert payload_oid is not None
    payload = repository.payload(payload_oid)
    assert payload.read_stream() == b"head" + b"tail" * 9
    assert [piece.size_bytes for piece in payload.stream_chunks] == [4, 36]
    assert [payload.buffer_size(index) for index in range(payload.buffer_count)] == [140_003, 70_000, 0]
    assert payload.chunk_bytes == 70_000
    assert payload.size_bytes == 40 + 140_003 + 70_000
    target = bytearray(140_003)
    payload.read_buffer_into(0, memoryview(target))
    assert target == BIG[0] + BIG[1] + b"end"
    piece = bytearray(3)
    payload.read_chunk_into(payload.buffers[0][2], memoryview(piece))
    assert piece == b"end"
    with pytest.raises(CorruptError):
        payload.read_buffer_into(0, memoryview(bytearray(10)))


@pytest.mark.parametrize("is_same_writer", [True, False])
def test_chunks_left_out_are_found_in_the_same_covariable(repository: Repository, is_same_writer: bool) -> None:
    writer = repository.writer()
    first = writer.write(_array([b"s"], [[BIG[0], BIG[1]]]), [])
    between = writer.write(stage({"other": 1}), [first])
    if not is_same_writer:
        writer.publish()
        writer = repository.writer()
    last = writer.write(_array([b"t"], [[BIG[2], BIG[1]]], {BIG[1]}), [between])
    writer.publish()
    payload = repository.payload(repository.names(last)["a"].payload_oid or Oid(""))
    target = bytearray(140_000)
    payload.read_buffer_into(0, memoryview(target))
    assert target == BIG[2] + BIG[1]


def _small(stream: bytes, *names: str, is_known: bool = False) -> StagedCommit:
    payload = Payload(names, (chunk(stream, is_known=is_known),))
    return StagedCommit("", CommitKind.CELL, 1e9, 0, changed=tuple(StagedName(name, {"type": "int"}, payload) for name in names))


def test_a_small_value_is_one_blob_that_git_shows_as_text(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1, "y": b"0" * INLINE_PAYLOAD_BYTES})
    names = repository.names(oid)
    assert [names[name].is_inline for name in "xy"] == [True, False]
    shown = subprocess.run(["git", "-C", str(repository.path), "show", f"{oid}:names/x"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith('{\n "type": "int",\n "repr": "1",\n "payload": "')
    assert repository.summary(names["x"]) == {"type": "int", "repr": "1"}
    assert _value(repository, oid, "x") == 1


@pytest.mark.parametrize("is_same_writer", [True, False])
@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_a_small_stream_left_out_is_found_in_a_summary(repository: Repository, names: tuple[str, ...], is_same_writer: bool) -> None:
    writer = repository.writer()
    first = writer.write(_small(b"stream", "a"), [])
    between = writer.write(_small(b"another", "a"), [first])
    if not is_same_writer:
        writer.publish()
        writer = repository.writer()
    last = writer.write(_small(b"another", *names, is_known=True), [between])
    if not is_same_writer:
        last = writer.write(_small(b"stream", *names, is_known=True), [last])
    writer.publish()
    expected = b"another" if is_same_writer else b"stream"
    entries = repository.names(last)
    assert {repository.payload(entries[name].payload_oid or Oid("")).read_stream() for name in names} == {expected}
    assert {entries[name].is_inline for name in names} == {len(names) == 1}


@pytest.mark.parametrize("text", [b"{}", b'{"payload": 3}', b'{"payload": "*"}', b'{"payload": "\xff', b'{"payload": "YQ"}'])
def test_a_summary_without_a_payload_to_be_read_is_corrupt(repository: Repository, text: bytes) -> None:
    batch = repository.database.batch()
    oid = batch.add_blob(text)
    batch.publish()
    with pytest.raises(CorruptError):
        read_payload(repository.database, oid)


def test_a_light_commit_has_the_payload_of_what_it_lacks_nowhere(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1, "y": 2})
    light = write_light(repository, oid, {"x": "too large"}, {"steps": []}, [])
    names = repository.names(light)
    assert names["x"].payload_oid is None
    assert b"payload" not in repository.database.read_blob(names["x"].summary_oid)
    assert names["y"] == repository.names(oid)["y"]


@pytest.mark.parametrize(
    ("code", "message", "is_kept_apart"),
    [
        ("x = 1", "", False),
        ("x = '\u00e9\t'", "", False),
        ("", "", True),
        ("x = 1", "why", True),
        (" x = 1", "", True),
        ("x = 1\n", "", True),
        ("x = 1\ny = 2", "", True),
        ("x = '\ud800'", "", False),
        ("x = '\0'", "", False),
    ],
)
def test_the_code_of_a_cell_comes_back_and_stands_once(repository: Repository, code: str, message: str, is_kept_apart: bool) -> None:
    staged = StagedCommit(message, CommitKind.CELL, 1e9, 0, code=code, changed=stage({"x": 1}).changed)
    oid = _write(repository, staged)
    assert repository.code(oid) == code
    assert ("code" in repository.database.read_tree(repository.commit(oid).tree)) == is_kept_apart


def test_chunks_are_found_in_an_older_ancestor_too(repository: Repository) -> None:
    first = _write(repository, _array([b"s"], [[BIG[0], BIG[1]]]))
    second = _write(repository, _array([b"s"], [[BIG[2], BIG[3]]]), first)
    third = _write(repository, _array([b"s"], [[BIG[0], BIG[3]]], {BIG[0]}), second)
    assert repository.payload(repository.names(third)["a"].payload_oid or Oid("")).buffers[0][0].oid


def _long(count: int, *extra: tuple[int, bytes]) -> StagedCommit:
    pieces = [b"%06d" % number for number in range(count)]
    for at, piece in extra:
        pieces.insert(at, piece)
    return _array(pieces, [])


def _stream(repository: Repository, oid: Oid) -> Oid:
    payload_oid = repository.names(oid)["a"].payload_oid
    assert payload_oid is not None
    return repository.database.read_tree(payload_oid)["stream"].oid


@pytest.mark.parametrize("pieces", [[b"%06d" % number for number in range(count)] for count in (127, 128, 129, 3000)] + [[b"same"] * 700])
def test_a_value_of_many_chunks_comes_back(repository: Repository, pieces: list[bytes]) -> None:
    oid = _write(repository, _array(pieces, [pieces]))
    payload = repository.payload(repository.names(oid)["a"].payload_oid or Oid(""))
    target = bytearray(payload.buffer_size(0))
    payload.read_buffer_into(0, memoryview(target))
    assert payload.read_stream() == target == b"".join(pieces)
    assert max(map(len, (repository.database.read_tree(tree) for tree in _trees_below(repository, _stream(repository, oid))))) <= 256


def _trees_below(repository: Repository, oid: Oid) -> set[Oid]:
    entries = repository.database.read_tree(oid).values()
    return {oid}.union(*(_trees_below(repository, entry.oid) for entry in entries if entry.mode == 0o40000))


@settings(max_examples=15)
@given(st.integers(0, 3000))
def test_a_chunk_more_among_many_writes_two_trees_of_few_rows(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    repository = Repository.init(tmp_path_factory.mktemp("chunks"), key_path=tmp_path_factory.mktemp("key") / "key")
    first = _write(repository, _long(3000))
    second = _write(repository, _long(3000, (at, b"new")), first)
    fresh = _trees_below(repository, _stream(repository, second)) - _trees_below(repository, _stream(repository, first))
    assert sum(len(repository.database.read_tree(tree)) for tree in fresh) <= 600  # of 3,000


def test_a_payload_of_groups_in_groups_is_corrupt(repository: Repository) -> None:
    batch = repository.database.batch()
    inner = batch.add_tree({"000000": TreeEntry(0o40000, batch.add_tree({}))})
    tree = batch.add_tree({"stream": TreeEntry(0o40000, batch.add_tree({"000000": TreeEntry(0o40000, inner)}))})
    batch.publish()
    with pytest.raises(CorruptError):
        read_payload(repository.database, tree)


def test_a_chunk_that_nobody_has_is_an_error(repository: Repository) -> None:
    with pytest.raises(MissingObjectError):
        repository.writer().write(_array([b"s"], [[BIG[0]]], {BIG[0]}), [])


def test_a_payload_without_a_stream_is_corrupt(repository: Repository) -> None:
    batch = repository.database.batch()
    tree = batch.add_tree({})
    batch.publish()
    with pytest.raises(CorruptError):
        read_payload(repository.database, tree)


def test_git_accepts_the_repository(repository: Repository, commit: Commit) -> None:
    commit({"x": 1, ".git": 2, "git~1": 3, "a/b": 4, "\ud800": 5, "": 6}, message="strange names\n\nwith a body")
    commit({f"n{index}": index for index in range(300)})
    commit({"\n": 1}, message="\0\r\n\ud800")
    done = subprocess.run(["git", "--git-dir", str(repository.path), "fsck", "--strict", "--full"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), st.none() | st.integers() | st.text() | st.lists(st.integers())))
def test_json_is_read_back_and_has_a_key_a_line(value: dict[str, object]) -> None:
    import json

    text = encode_json(value).decode()
    assert json.loads(text) == value
    assert text.count("\n") == (len(value) + 2 if value else 1)

"""Messages are free text, trailers are lossless."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from dartvc.history.trailers import commit_of_message, message_of, split_seal, with_changes
from dartvc.model import Commit, CommitKind, Oid, Position, StagedCommit, StagedName

OID, TREE = Oid("a" * 40), Oid("b" * 40)
any_text = st.text(st.characters(exclude_categories=()))


def _read(message: str, time_s: float = 1e9) -> Commit:
    return commit_of_message(OID, TREE, (), message, time_s, 60)


@given(message=any_text, names=st.lists(any_text, unique=True), error=any_text, run=any_text)
@example(message="a\n\nDvc-State: 1\nKind: cell\nSeal: x", names=[], error="", run="")
@example(message="\n\nlate\n", names=["a\nSeal: b"], error="E\nSeal: c", run=" ")
def test_everything_in_a_message_survives(message: str, names: list[str], error: str, run: str) -> None:
    staged = StagedCommit(message, CommitKind.CELL, 1e9, 60, added=tuple(names), removed=tuple(names), error=error, run=run)
    commit = _read(f"{message_of(staged, 7)}\nSeal: s3al\n")
    assert commit.message == message
    assert commit.added == commit.removed == tuple(names)
    assert (commit.error, commit.run, commit.seal, commit.size_bytes) == (error, run, "s3al", 7)


@given(any_text)
def test_positions_survive(text: str) -> None:
    staged = StagedCommit(
        "m", CommitKind.CHECKPOINT, 1e9, 60, position=Position(text, 3, text, text), execution=4, stall_ms=0.5, duration_ms=2.0
    )
    commit = _read(message_of(staged, 0))
    assert commit.position == Position(text, 3, text, text)
    assert (commit.execution, commit.stall_ms, commit.duration_ms) == (4, 0.5, 2.0)


def test_a_commit_without_a_message_is_called_by_its_code() -> None:
    assert _read(message_of(StagedCommit("", CommitKind.CELL, 1e9, 0, code="\n  x = 1\ny = 2"), 0)).subject == "x = 1"


def test_the_time_has_microseconds_and_a_zone() -> None:
    commit = _read(message_of(StagedCommit("m", CommitKind.CELL, 1_700_000_000.25, 60), 0), 1_700_000_000)
    assert commit.time.isoformat() == "2023-11-14T23:13:20.250000+01:00"


def test_a_header_changed_by_another_tool_beats_the_trailer() -> None:
    assert _read(message_of(StagedCommit("m", CommitKind.CELL, 1e9, 60), 0), 1_700_000_000).time.timestamp() == 1_700_000_000


def test_a_stranger_s_commit_reads_as_a_manual_one() -> None:
    commit = _read("Fix the build\n\nSigned-off-by: someone\n")
    assert commit.kind is CommitKind.MANUAL
    assert commit.subject == "Fix the build"


def test_damaged_trailers_do_not_raise() -> None:
    commit = _read("m\n\nDvc-State: 1\nKind: ??\nAdded: %ZZ, %\nPosition: {\nBytes: many\nTime: x y")
    assert commit.kind is CommitKind.MANUAL
    assert commit.size_bytes == 0
    assert commit.position is None


def test_a_seal_in_the_text_is_not_the_seal() -> None:
    assert split_seal("text\nSeal: a\n\nDvc-State: 1\nKind: cell") == ("text\nSeal: a\n\nDvc-State: 1\nKind: cell", "")


def test_modified_names_are_those_that_changed_and_are_not_new() -> None:
    changed = tuple(StagedName(name, {}, None) for name in ("old", "new"))
    commit = _read(message_of(StagedCommit("m", CommitKind.CELL, 1e9, 0, changed=changed, added=("new",)), 0))
    assert (commit.added, commit.modified, commit.omitted) == (("new",), ("old",), ("old", "new"))


def test_changes_can_be_replaced_without_touching_the_rest() -> None:
    message = message_of(StagedCommit("m\n\nbody", CommitKind.CELL, 1e9, 60, added=("a",), run="r"), 3)
    after = _read(with_changes(message, Commit(OID, TREE, (), "", _read(message).time, CommitKind.CELL, modified=("b, c",))))
    assert (after.message, after.added, after.modified, after.run, after.size_bytes) == ("m\n\nbody", (), ("b, c",), "r", 3)

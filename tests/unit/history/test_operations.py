"""The operation log: undo, redo, restore, and a file that may be torn."""

from __future__ import annotations

import os

import pytest

from dartvc.errors import NotFoundError
from dartvc.history import OperationLog, RefMove, Repository
from dartvc.history.operations import CELL_END, INSIDE, Standing
from dartvc.model import Oid
from dartvc.store import Head
from tests.unit.history.staging import Commit


@pytest.fixture
def line(commit: Commit) -> list[Oid]:
    """Four commits on main, oldest first."""
    return [commit({"x": value}, message=f"step {value}") for value in range(4)]


def _undo(repository: Repository, standing: Standing | None = None) -> None:
    repository.carry_out(repository.operations.plan_undo(standing), session=standing.session_id if standing else "")


def _redo(repository: Repository) -> None:
    repository.carry_out(repository.operations.plan_redo())


def _main(repository: Repository) -> Oid | None:
    return repository.database.refs.read("refs/heads/main")


def test_undoing_twice_takes_back_two_and_redo_goes_forward(repository: Repository, line: list[Oid]) -> None:
    _undo(repository)
    assert _main(repository) == line[2]
    _undo(repository)
    assert _main(repository) == line[1]
    _redo(repository)
    assert _main(repository) == line[2]
    _undo(repository)
    assert _main(repository) == line[1]
    _redo(repository)
    _redo(repository)
    assert _main(repository) == line[3]
    with pytest.raises(NotFoundError):
        _redo(repository)


def test_an_operation_after_an_undo_starts_from_where_the_undo_went(repository: Repository, line: list[Oid], commit: Commit) -> None:
    _undo(repository)
    new = commit({"x": "new"})
    with pytest.raises(NotFoundError):
        _redo(repository)
    _undo(repository)
    assert _main(repository) == line[2]
    _undo(repository)
    assert _main(repository) == line[1]
    _redo(repository)
    _redo(repository)
    assert _main(repository) == new


def test_everything_can_be_undone_but_no_more(repository: Repository, line: list[Oid]) -> None:
    for _ in line:
        _undo(repository)
    assert _main(repository) is None
    with pytest.raises(NotFoundError):
        repository.operations.plan_undo()
    for _ in line:
        _redo(repository)
    assert _main(repository) == line[3]


def test_head_goes_back_too(repository: Repository, line: list[Oid]) -> None:
    repository.move_refs([RefMove("dev", None, line[1])], operation="switch", description="", head=Head("refs/heads/dev", line[1]))
    assert repository.database.refs.head() == Head("refs/heads/dev", line[1])
    plan = repository.operations.plan_undo()
    assert plan.head_oid == line[3]
    repository.carry_out(plan)
    assert repository.database.refs.head() == Head("refs/heads/main", line[3])
    assert repository.database.refs.read("refs/heads/dev") is None


def test_where_head_stood_is_written_only_when_it_was_elsewhere_than_the_branch_that_moved(repository: Repository, line: list[Oid]) -> None:
    head = Head("refs/heads/main", line[3])
    other = Head("refs/heads/other", line[0])
    move = RefMove("refs/heads/main", line[3], line[1])
    entries = [
        repository.operations.append([move], operation="move", description="", session="", head_before=head, head_after=after)
        for after in (Head("refs/heads/main", line[1]), other, Head(None, line[1]))
    ]
    assert [b'"head"' in written for written in repository.operations.path.read_bytes().splitlines()[-3:]] == [False, True, True]
    assert list(repository.operations.iter_newest())[:3] == entries[::-1]


def test_what_others_did_is_passed_over(repository: Repository, line: list[Oid]) -> None:
    standing = Standing("s1", Head("refs/heads/main", line[3]), {"s2"})
    for session, name in (("s1", "a"), ("s2", "b")):
        repository.move_refs([RefMove(name, None, line[0])], operation="branch", description="", session=session)
    _undo(repository, standing)
    assert repository.database.refs.read("refs/heads/a") is None
    assert repository.database.refs.read("refs/heads/b") == line[0]
    repository.move_refs([RefMove("c", None, line[0])], operation="branch", description="", session="s2")
    repository.carry_out(repository.operations.plan_redo(standing), session="s1")
    assert repository.database.refs.read("refs/heads/a") == line[0]


@pytest.mark.parametrize("living", [frozenset({"s2"}), frozenset()])
def test_a_cell_is_undone_and_redone_whole_though_others_committed_meanwhile(
    repository: Repository, line: list[Oid], living: frozenset[str]
) -> None:
    def move(ref: str, old: Oid | None, new: Oid, operation: str, session: str) -> None:
        repository.move_refs([RefMove(ref, old, new)], operation=operation, description="", session=session, head_before=Head(ref, old))

    main, other = "refs/heads/main", "refs/heads/other"
    move(other, None, line[0], "commit", "s2")
    move(main, line[3], line[0], INSIDE, "s1")
    move(other, line[0], line[1], CELL_END, "s2")
    move(main, line[0], line[1], INSIDE, "s1")
    repository.move_refs([RefMove("named", None, line[1])], operation="branch", description="")
    move(other, line[1], line[2], INSIDE, "s2")
    move(main, line[1], line[2], CELL_END, "s1")
    for session in ("s1", "s3"):  # the one that did it, and one that was started after it
        standing = Standing(session, Head(main, line[2]), living)
        _undo(repository, standing)
        assert (_main(repository), repository.database.refs.read(other)) == (line[3], line[2])
        repository.carry_out(repository.operations.plan_redo(standing), session=session)
        assert (_main(repository), repository.database.refs.read(other)) == (line[2], line[2])
    for wanted in (line[3], line[2], line[1]):
        _undo(repository, standing)
        assert (_main(repository), repository.database.refs.read(other)) == (wanted, line[2])


def test_a_session_that_was_started_again_follows_its_head_through_switches_and_undos(repository: Repository, line: list[Oid]) -> None:
    def on(ref: str, oid: Oid) -> None:
        repository.move_refs([RefMove(ref, repository.database.refs.read(ref), oid)], operation="commit", description="", session="s1")

    repository.move_refs([RefMove("dev", None, line[3])], operation="switch", description="", session="s1", head=Head("refs/heads/dev", line[3]))
    on("refs/heads/dev", line[2])
    repository.move_refs([RefMove("far", None, line[1])], operation="commit", description="", session="s0", head_before=Head("refs/heads/far", None))
    seen = []
    for session in ("s1", "s2", "s3"):
        _undo(repository, Standing(session, repository.database.refs.head()))
        seen.append(repository.database.refs.head())
    assert seen == [Head("refs/heads/dev", line[3]), Head("refs/heads/main", line[3]), Head("refs/heads/main", line[2])]
    for _ in range(3):
        standing = Standing("s4", repository.database.refs.head())
        repository.carry_out(repository.operations.plan_redo(standing), session="s4")
    assert repository.database.refs.head() == Head("refs/heads/dev", line[2])
    assert repository.database.refs.read("refs/heads/far") == line[1]


def test_the_operation_before_a_first_cell_is_another_sessions(repository: Repository, line: list[Oid]) -> None:
    for operation, old, new in ((INSIDE, None, line[0]), (CELL_END, line[0], line[1])):
        repository.move_refs([RefMove("own", old, new)], operation=operation, description="", session="s1")
    _undo(repository)
    assert repository.database.refs.read("refs/heads/own") is None
    _undo(repository)
    assert _main(repository) == line[2]


def test_restore_brings_all_refs_to_where_they_were(repository: Repository, line: list[Oid]) -> None:
    goal = next(repository.operations.iter_newest())
    repository.move_refs([RefMove("dev", None, line[0])], operation="branch", description="")
    repository.move_refs([RefMove("main", line[3], line[1])], operation="reset", description="")
    repository.move_refs([RefMove("dev", line[0], None)], operation="branch -d", description="")
    repository.carry_out(repository.operations.plan_restore(goal.id))
    assert _main(repository) == line[3]
    assert repository.database.refs.read("refs/heads/dev") is None
    _undo(repository)
    assert _main(repository) == line[1]


def test_positions_are_the_reflog(repository: Repository, line: list[Oid]) -> None:
    assert list(repository.operations.iter_positions()) == line[::-1]
    assert list(repository.operations.iter_positions("refs/heads/main")) == line[::-1]
    assert list(repository.operations.iter_positions("refs/heads/none")) == []


@pytest.mark.parametrize("torn", [b"{", b'{"id":5,"key":"aaaa', b"\0\0\0"])
def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_append(repository: Repository, line: list[Oid], torn: bytes) -> None:
    path = repository.operations.path
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert next(repository.operations.iter_newest()).number == 4
    entry = repository.move_refs([RefMove("dev", None, line[0])], operation="branch", description="")
    assert entry.number == 5
    assert path.read_bytes().startswith(whole)
    assert torn + b"\n" not in path.read_bytes()
    assert [each.number for each in repository.operations.iter_newest()] == [5, 4, 3, 2, 1]


def test_a_damaged_line_in_the_middle_loses_only_itself(repository: Repository, line: list[Oid]) -> None:
    lines = repository.operations.path.read_bytes().splitlines(keepends=True)
    lines[1] = b"rubbish\n"
    repository.operations.path.write_bytes(b"".join(lines))
    assert [each.number for each in repository.operations.iter_newest()] == [4, 3, 1]


def test_lines_longer_than_a_block_are_read_back(repository: Repository) -> None:
    log = OperationLog(repository.path / "long.jsonl")
    for number in range(4):
        log.append(
            [], operation="x", description=str(number) * 50_000, session="", head_before=Head(None, None), head_after=Head(None, None)
        )
    assert [entry.description[0] for entry in log.iter_newest()] == ["3", "2", "1", "0"]
    assert log.find("2").id == log.find(log.find("2").key).id
    with pytest.raises(NotFoundError):
        log.find("9")


def test_appending_reads_no_more_of_a_long_log_than_its_end(
    repository: Repository, line: list[Oid], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = repository.operations.path.read_bytes().splitlines()[-1]
    repository.operations.path.write_bytes((b" " * 1000 + b"\n") * 5000 + last + b"\n")
    read = []
    real = os.pread

    def counting(descriptor: int, size: int, at: int) -> bytes:
        read.append(size)
        return real(descriptor, size, at)

    monkeypatch.setattr(os, "pread", counting)
    assert next(repository.operations.iter_newest()).number == 4
    assert sum(read) < 1_000_000

"""gc, fsck, retention, blame, bisect, usage."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from dartvc.errors import CorruptError, DartvcError, NotFoundError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.history.bisect import bisect_commits
from dartvc.history.blame import blame
from dartvc.history.config import parse_best
from dartvc.history.fsck import check_repository
from dartvc.history.gc import collect_garbage
from dartvc.history.retention import Retention, plan_thinning, thin
from dartvc.history.usage import usage_by_branch, usage_by_name
from dartvc.model import Commit as CommitRecord
from dartvc.model import CommitKind, Oid
from tests.unit.history.staging import Commit, stage

DAY_S = 86400.0
NOW_S = 1_700_000_000.0
NOTHING = Retention(keep_last=0, keep_within_s=0.0)


def _value(repository: Repository, oid: Oid, name: str) -> object:
    payload_oid = repository.names(oid)[name].payload_oid
    assert payload_oid is not None
    return pickle.loads(repository.payload(payload_oid).read_stream())[name]


def _forget_operations(repository: Repository) -> None:
    repository.operations.path.unlink()


def _unnamed(repository: Repository, value: str) -> Oid:
    writer = repository.writer()
    oid = writer.write(stage({"lost": value * 1000}, message=value), [])
    writer.publish()
    return oid


def test_gc_drops_what_nothing_needs_and_keeps_the_rest(repository: Repository, commit: Commit) -> None:
    kept = [commit({"x": value, "big": "ab" * 5000}) for value in range(20)]
    lost = _unnamed(repository, "z")
    report = collect_garbage(repository, grace_s=-1, dry_run=True)
    assert report.is_dry_run and report.dropped_commits == 1
    assert repository.database.contains(lost)
    report = collect_garbage(repository, grace_s=-1)
    assert report.dropped_commits == 1 and report.dropped_objects >= 4 and report.freed_bytes > 0
    fresh = Repository.open(repository.root, key_path=repository.root.parent / "key")
    assert not fresh.database.contains(lost)
    assert [_value(fresh, oid, "x") for oid in kept] == list(range(20))
    assert list(check_repository(fresh)) == []
    assert collect_garbage(fresh, grace_s=-1).dropped_objects == 0


def test_gc_keeps_young_objects_and_what_the_undo_window_needs(repository: Repository, commit: Commit) -> None:
    first, second = commit({"x": 1}), commit({"x": 2})
    lost = _unnamed(repository, "z")
    assert collect_garbage(repository, grace_s=3600).dropped_objects == 0
    repository.move_refs([RefMove("main", second, first)], operation="reset", description="")
    collect_garbage(repository, grace_s=-1)
    assert repository.database.contains(second) and not Repository.open(repository.root).database.contains(lost)
    _forget_operations(repository)
    collect_garbage(repository, grace_s=-1)
    assert not Repository.open(repository.root).database.contains(second)


def test_a_writer_whose_objects_were_collected_writes_them_again(repository: Repository, commit: Commit) -> None:
    base = commit({"x": 1})
    _unnamed(repository, "z")
    writer = repository.writer()
    oid = writer.write(stage({"lost": "z" * 1000}), [base])
    collect_garbage(Repository.open(repository.root), grace_s=-1)
    writer.publish()
    assert _value(Repository.open(repository.root), oid, "lost") == "z" * 1000


def test_a_commit_that_is_published_but_not_yet_named_survives_with_all_it_refers_to(repository: Repository, commit: Commit) -> None:
    commit({"x": 1})
    _unnamed(repository, "z")
    for path in repository.database.pack_folder.iterdir():
        os.utime(path, (1e9, 1e9))
    writer = repository.writer()
    oid = writer.write(stage({"lost": "z" * 1000}, message="again"), [])
    writer.publish()
    collect_garbage(Repository.open(repository.root), grace_s=3600)
    assert _value(Repository.open(repository.root), oid, "lost") == "z" * 1000


def test_gc_refuses_to_work_on_a_damaged_repository(repository: Repository, commit: Commit) -> None:
    oid = commit({"x": 1})
    batch = repository.database.batch()
    broken = batch.add_commit(Oid("1" * 40), [oid], "m", 1, 0, "a <a@b>")
    batch.publish()
    repository.move_refs([RefMove("broken", None, broken)], operation="branch", description="")
    _unnamed(repository, "z")
    before = sorted(path.name for path in repository.database.pack_folder.iterdir())
    with pytest.raises(DartvcError):
        collect_garbage(repository, grace_s=-1)
    assert sorted(path.name for path in repository.database.pack_folder.iterdir()) == before


@pytest.mark.parametrize("text", [b"", b"garbled\n", b"f" * 39])
def test_gc_and_thinning_refuse_to_work_while_a_ref_is_damaged(repository: Repository, commit: Commit, text: bytes) -> None:
    oid = commit({"x": 1})
    repository.move_refs([RefMove("refs/heads/other", None, oid)], operation="branch", description="")
    repository.operations.path.unlink()
    (repository.path / "refs" / "heads" / "other").write_bytes(text)
    for work in (lambda: collect_garbage(repository, grace_s=-1), lambda: thin(repository, NOTHING, now_s=NOW_S)):
        with pytest.raises(CorruptError):
            work()
    assert repository.database.contains(oid)


def test_fsck_finds_nothing_wrong_in_a_sound_repository(repository: Repository, commit: Commit) -> None:
    for value in range(3):
        commit({"x": value, f"y{value}": "a" * 100_000})
    commit({}, removed=("x",))
    assert list(check_repository(repository)) == []


def test_fsck_names_what_is_damaged(repository: Repository, commit: Commit, tmp_path: Path) -> None:
    oid = commit({"x": 1})
    (repository.path / "refs" / "heads" / "bad").write_text("rubbish")
    (repository.path / "refs" / "heads" / "gone").write_text("1" * 40)
    lines = repository.operations.path.read_bytes()
    repository.operations.path.write_bytes(lines + b"rubbish\n")
    kinds = {(problem.kind, problem.where) for problem in check_repository(repository)}
    assert ("ref", "refs/heads/bad") in kinds and ("ref", "refs/heads/gone") in kinds
    assert any(kind == "operation-log" for kind, _ in kinds)
    elsewhere = Repository.open(repository.root, key_path=tmp_path / "other", trust_path=tmp_path / "none")
    assert any(problem.kind == "seal" and oid[:8] in problem.where for problem in check_repository(elsewhere))


def test_fsck_finds_a_flipped_byte_wherever_it_is(repository: Repository, commit: Commit) -> None:
    commit({"x": os.urandom(200), "y": [1]})
    (pack,) = repository.database.pack_folder.glob("*.pack")
    whole = bytearray(pack.read_bytes())
    pack.chmod(0o644)
    for at in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[at] ^= 0x10
        pack.write_bytes(flipped)
        try:
            assert list(check_repository(Repository.open(repository.root))), at
        except DartvcError:
            pass


def test_thinning_drops_old_automatic_commits_only(repository: Repository, commit: Commit) -> None:
    oids = []
    for day in range(10):
        kind = CommitKind.MANUAL if day == 4 else CommitKind.CELL
        oids.append(
            commit({"x": day, f"n{day}": 1}, added=(f"n{day}",), kind=kind, time_s=NOW_S - (10 - day) * DAY_S, message=f"day {day}")
        )
    repository.move_refs([RefMove("refs/tags/best", None, oids[2])], operation="tag", description="")
    _forget_operations(repository)
    rules = Retention(keep_last=0, keep_within_s=3.5 * DAY_S)
    plan = plan_thinning(repository, rules, now_s=NOW_S)
    assert [repository.commit(oid).message for oid in plan.dropped] == ["day 1", "day 3", "day 5", "day 6"]
    assert thin(repository, rules, now_s=NOW_S) == plan
    log = list(repository.iter_log([repository.resolve("main")]))
    assert [each.message for each in log] == ["day 9", "day 8", "day 7", "day 4", "day 2", "day 0"]
    assert [_value(repository, each.oid, "x") for each in log] == [9, 8, 7, 4, 2, 0]
    assert all(repository.is_trusted(each.oid) for each in log)
    assert log[2].added == ("n5", "n6", "n7")
    assert repository.commit(repository.resolve("best")).message == "day 2"
    assert repository.resolve(oids[9]) == log[0].oid
    assert repository.resolve(oids[6]) == oids[6]  # dropped, but not yet collected
    _forget_operations(repository)
    collect_garbage(repository, grace_s=-1)
    fresh = Repository.open(repository.root, key_path=repository.root.parent / "key")
    assert fresh.resolve(oids[9]) == fresh.resolve("main") == log[0].oid
    assert fresh.commit(oids[9]).message == "day 9"
    with pytest.raises(NotFoundError, match="retention"):
        fresh.commit(oids[6])
    assert list(check_repository(fresh)) == []


def test_thinning_keeps_the_last_and_the_best(repository: Repository, commit: Commit) -> None:
    oids = [commit({"acc": value}, time_s=NOW_S - 100 * DAY_S + index) for index, value in enumerate([0.1, 0.9, 0.3, 0.8, 0.2, 0.4])]
    _forget_operations(repository)
    plan = plan_thinning(repository, Retention(2, 0.0, ("max", "acc", 2)), now_s=NOW_S)
    assert plan.dropped == (oids[2],)
    assert plan_thinning(repository, Retention(6, 0.0), now_s=NOW_S).dropped == ()


def test_thinning_leaves_alone_what_the_undo_window_and_remotes_and_forks_need(repository: Repository, commit: Commit) -> None:
    oids = [commit({"x": value}, time_s=NOW_S) for value in range(6)]
    assert plan_thinning(repository, NOTHING).dropped == ()
    assert set(plan_thinning(repository, replace(NOTHING, with_undo=False)).dropped) == set(oids[1:5])
    for old, new in ((oids[5], oids[3]), (oids[3], oids[5])):
        repository.move_refs([RefMove("main", old, new)], operation="reset", description="")
    assert set(plan_thinning(repository, replace(NOTHING, with_undo=False)).dropped) == {oids[1], oids[2], oids[4]}
    _forget_operations(repository)
    assert set(plan_thinning(repository, NOTHING).dropped) == set(oids[1:5])
    repository.database.refs.move("refs/remotes/origin/main", oids[2], expected=None)
    assert set(plan_thinning(repository, NOTHING).dropped) == {oids[3], oids[4]}
    writer = repository.writer()
    side = writer.write(stage({"y": 1}), [oids[3]])
    writer.publish()
    repository.database.refs.move("refs/heads/side", side, expected=None)
    assert set(plan_thinning(repository, NOTHING).dropped) == {oids[4]}


def test_thinning_never_seals_what_came_from_elsewhere(repository: Repository, commit: Commit, tmp_path: Path) -> None:
    for value in range(4):
        commit({"x": value}, time_s=NOW_S)
    _forget_operations(repository)
    elsewhere = Repository.open(repository.root, key_path=tmp_path / "other", trust_path=tmp_path / "none")
    assert thin(elsewhere, NOTHING).dropped == ()


def test_best_rules() -> None:
    assert parse_best("max:acc 3") == parse_best("max:acc:3") == parse_best(" max:acc:  3 ") == ("max", "acc", 3)
    assert parse_best("min:net.loss:10") == ("min", "net.loss", 10)
    assert parse_best("") is None
    for wrong in ("acc 3", "max:acc", "max:acc:", "max::3", "mean:acc:3", "max:acc:-1", "max:acc:3:4"):
        with pytest.raises(UsageError):
            parse_best(wrong)


def test_blame_names_the_last_writer(repository: Repository, commit: Commit) -> None:
    first = commit({"x": 1, "y": 1}, added=("x", "y"))
    second = commit({"x": 2})
    commit({"z": 1}, added=("z",))
    tip = commit({}, removed=("z",))
    assert {name: each.oid for name, each in blame(repository, tip).items()} == {"x": second, "y": first}
    assert list(blame(repository, tip, ["y", "z"])) == ["y"]


@pytest.mark.parametrize("turn", range(9))
def test_bisect_finds_the_first_commit_that_holds(repository: Repository, commit: Commit, turn: int) -> None:
    oids = [commit({"x": value}, message=str(value)) for value in range(8)]
    report = bisect_commits(repository, oids[-1], lambda each: int(each.message) >= turn)
    assert (report.first.oid if report.first else None) == (oids[turn] if turn < 8 else None)
    assert len(report.asked) <= 4


def test_bisect_passes_over_commits_that_cannot_tell(repository: Repository, commit: Commit) -> None:
    oids = [commit({"x": value}, message=str(value)) for value in range(9)]

    def ask(each: CommitRecord) -> bool | None:
        return None if each.message == "4" else int(each.message) >= 6

    report = bisect_commits(repository, oids[-1], ask, good=oids[0])
    assert report.first is not None and report.first.oid == oids[6]
    with pytest.raises(UsageError):
        bisect_commits(repository, oids[2], ask, good=oids[5])


def test_usage_counts_shared_bytes_once(repository: Repository, commit: Commit) -> None:
    first = commit({"big": "a" * 10_000, "x": 1})
    commit({"x": 2})
    rows = {row.name: row for row in usage_by_name(repository)}
    assert list(rows) == ["big", "x"]
    assert 10_000 <= rows["big"].size_bytes < 11_000
    assert (rows["big"].versions, rows["x"].versions) == (1, 2)
    repository.move_refs([RefMove("a", None, first)], operation="branch", description="")
    branches = {row.name: row.size_bytes for row in usage_by_branch(repository)}
    assert branches["a"] > 10_000 > branches["main"] > 0

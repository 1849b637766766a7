"""The journal of a program's files: damaged, torn, or refused by the disk, it takes back what is certain and names the rest."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from dartvc.program.effects import Effects
from dartvc.program.records import add_record, drop_records, read_records
from dartvc.program.rollback import take_back


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """An empty journal."""
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


def change(journal: Path, work: Path, *, sequence: int = 1) -> Effects:
    """Changes files as a program would, each kept before."""
    effects = Effects(journal, (), sequence=sequence)
    effects._ignored = ()
    (work / "old").write_text("before")
    (work / "grown").write_text("be")
    for name, flags in (("old", os.O_TRUNC), ("grown", os.O_APPEND), ("new", os.O_CREAT)):
        effects._hook("open", (str(work / name), None, os.O_WRONLY | flags))
        with open(work / name, "a" if name == "grown" else "w") as file:
            file.write("fore and more" if name == "grown" else "after")
    effects._hook("os.mkdir", (str(work / "folder"), 0o777, -1))
    (work / "folder").mkdir()
    effects._hook("open", (str(work / "folder/inner"), None, os.O_WRONLY | os.O_CREAT))
    (work / "folder/inner").write_text("inner")
    return effects


def held(work: Path) -> dict[str, str]:
    """Returns what the files hold."""
    return {str(path.relative_to(work)): path.read_text() if path.is_file() else "a folder" for path in sorted(work.rglob("*"))}


def damaged(content: bytes) -> list[bytes]:
    """Returns a content cut at every length, and flipped at every byte."""
    flips = [content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :] for at in range(len(content))]
    return [content[:size] for size in range(len(content))] + flips


def test_what_came_after_a_commit_is_taken_back_once_and_again(journal: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    change(journal, work)
    assert len(held(work)) == 5
    for _ in range(2):
        assert take_back(journal, 1).problems == []
        assert held(work) == {"old": "before", "grown": "be"}
    (work / "old").write_text("later")
    assert take_back(journal, 2).problems == [] and (work / "old").read_text() == "later"


def test_a_process_that_goes_on_from_the_same_commit_keeps_copies_of_its_own(journal: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (second / "old").write_text("not the same")
    change(journal, first)
    change(journal, second)
    (second / "old").unlink()
    assert take_back(journal, 1).problems == []
    assert held(first) == held(second) == {"old": "before", "grown": "be"}


def test_what_was_taken_back_is_dropped_and_what_came_before_stays(journal: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    later = tmp_path / "later"
    later.mkdir()
    change(journal, work, sequence=1)
    change(journal, later, sequence=2)
    count = len(list(journal.iterdir()))
    with open(journal / "journal", "ab") as file:
        file.write(b"0123 half a li")  # a kill
    drop_records(journal, 2)
    assert {record["sequence"] for record in read_records(journal).newest} == {1}
    assert len(list(journal.iterdir())) < count and (journal / "journal").read_bytes().endswith(b"\n")
    assert take_back(journal, 1).problems == [] and "new" not in held(work)
    drop_records(journal, 0)
    assert [path.name for path in journal.iterdir()] == ["journal"]


def test_a_damaged_line_or_copy_is_named_and_nothing_wrong_is_brought_back(journal: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    change(journal, work)
    files = {path: path.read_bytes() for path in journal.iterdir() if not path.is_symlink()}
    after = held(work)
    for path, content in files.items():
        for wrong in damaged(content):
            path.write_bytes(wrong)
            for name in ("old", "grown", "new"):
                (work / name).write_text(after[name])
            failed = take_back(journal, 1).problems
            assert held(work)["old"] in ("before", after["old"]) and held(work)["grown"] in ("be", after["grown"])
            is_torn = path.name == "journal" and content.startswith(wrong)
            assert failed or is_torn or held(work) == {"old": "before", "grown": "be"}, wrong
        path.write_bytes(content)


def test_a_damaged_link_removes_nothing(journal: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "innocent").write_text("x")
    add_record(journal, {"sequence": 1, "path": str(work / "guilty__"), "before": "absent"})
    link = next(path for path in journal.iterdir() if path.is_symlink())
    target = os.readlink(link)
    link.unlink()
    link.symlink_to(target.replace("guilty__", "innocent"))
    assert len(take_back(journal, 1).problems) == 1 and held(work) == {"innocent": "x"}


@pytest.mark.parametrize("limit", [0, 40, 90])
def test_what_a_full_disk_cannot_keep_is_remembered_and_the_journal_stays_whole(journal: Path, tmp_path: Path, limit: int) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "old").write_text("x" * 100)
    effects = Effects(journal, (), sequence=1)
    effects._ignored = ()
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[0][1]))
        effects._hook("open", (str(work / "old"), None, os.O_WRONLY | os.O_TRUNC))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert effects.unkept == {str(work / "old"): os.strerror(errno.EFBIG)}
    effects.advance()
    effects._hook("open", (str(work / "old"), None, os.O_WRONLY | os.O_TRUNC))
    assert [record["sequence"] for record in read_records(journal).newest] == [2] and read_records(journal).damaged == []
    assert len([path for path in journal.iterdir() if path.name != "journal"]) == 1


def test_a_file_that_a_resumed_program_deletes_is_recorded_as_gone(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("1")
    effects = Effects(journal, (), sequence=1)
    effects._ignored = ()
    effects._hook("open", (str(tmp_path / "made"), None, os.O_WRONLY))
    states = effects.stage()
    resumed = Effects(journal, (), sequence=2)
    resumed._ignored = ()
    resumed.adopt(states)
    (tmp_path / "made").unlink()
    assert [(state.path, state.size) for state in resumed.stage()] == [(str(tmp_path / "made"), -1)]


def test_a_change_as_young_as_the_last_look_is_seen(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_text("1")
    effects = Effects(journal, (), sequence=1)
    effects._ignored = ()
    effects._hook("open", (str(path), None, os.O_WRONLY))
    stamp = time.time_ns() + 10**9  # however long this takes, the file is no older than the last tick of the clock
    os.utime(path, ns=(stamp, stamp))
    effects.stage()
    path.write_text("2")
    os.utime(path, ns=(stamp, stamp))
    assert [state.content for state in effects.stage()] == [b"2"]


def overwrite(effects: Effects, path: Path, text: str, flags: int = os.O_TRUNC) -> None:
    """Writes to a file as a program would."""
    effects._hook("open", (str(path), None, os.O_WRONLY | flags))
    with open(path, "a" if flags == os.O_APPEND else "w") as file:
        file.write(text)


def replace(effects: Effects, path: Path, text: str) -> None:
    """Writes a file beside another one and gives it that name."""
    new = path.with_name("new")
    overwrite(effects, new, text)
    effects._hook("os.rename", (str(new), str(path), -1, -1))
    os.replace(new, path)


def settled(path: Path, seconds: int) -> Path:
    """Makes a change of a file old enough to be told from the next one."""
    os.utime(path, (seconds, seconds))
    return path


def test_what_a_commit_has_is_not_copied_and_comes_back_from_there_with_its_mode_and_time(journal: Path, tmp_path: Path) -> None:
    path, grown = tmp_path / "file", tmp_path / "grown"
    effects = Effects(journal, ())
    effects._ignored = ()
    for each in (path, grown):
        overwrite(effects, each, "first")
        settled(each, 1000).chmod(0o640)
    committed = {state.path: state.content for state in effects.stage()}
    assert committed == {str(path): b"first", str(grown): b"first"}
    overwrite(effects, path, "second")
    overwrite(effects, grown, " and more", os.O_APPEND)
    for each in (path, grown):
        settled(each, 2000)
    effects.stage()
    overwrite(effects, grown, "third")
    effects._hook("os.remove", (str(path), -1))
    path.unlink()
    assert [each.name for each in journal.iterdir() if each.suffix != ".absent"] == ["journal"]
    for _ in range(2):
        assert take_back(journal, 1, committed=committed).problems == []
        assert (path.read_text(), grown.read_text()) == ("first", "first")
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime, grown.stat().st_mtime) == (0o640, 1000, 1000)


def test_a_large_file_that_was_overwritten_is_named_and_one_that_was_replaced_comes_back(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("journal", "effects"):
        monkeypatch.setattr(f"dartvc.program.{module}.CONTENT_LIMIT_BYTES", 3)
    monkeypatch.setattr("dartvc.program.journal._clone", lambda old, new: False)
    monkeypatch.setattr("dartvc.program.journal._COPYING_SHARE", 0.0)
    written, replaced, opened = (tmp_path / name for name in ("written", "replaced", "opened"))
    for each in (written, replaced, opened):
        each.write_text("first")
        settled(each, 1000)
    effects = Effects(journal, (), sequence=1)
    effects._ignored = ()
    effects._hook("open", (str(opened), None, os.O_RDWR))
    for number in range(1, 5):
        replace(effects, replaced, f"number {number}")
        if number == 2:
            overwrite(effects, written, "other")
            effects._hook("os.remove", (str(tmp_path / "missing"), -1))
        effects.stage()
    assert take_back(journal, 5).problems == [] and replaced.read_text() == "number 4"
    assert take_back(journal, 4).problems == [] and replaced.read_text() == "number 3"
    [lost] = take_back(journal, 2).lost[:1]
    assert lost.startswith(str(replaced)) and replaced.read_text() == "number 3"
    assert [each for each in take_back(journal, 1).lost if each.startswith(str(written))] == [f"{written}: it was overwritten, and is too large to be kept (0 MB)"]
    assert not any(each.startswith(str(opened)) for each in take_back(journal, 1).lost)


def test_a_large_file_is_copied_where_the_run_is_long_enough_for_that(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dartvc.program.journal.CONTENT_LIMIT_BYTES", 3)
    monkeypatch.setattr("dartvc.program.journal._clone", lambda old, new: False)
    monkeypatch.setattr("dartvc.program.journal._COPYING_SHARE", 1e9)
    path = tmp_path / "file"
    path.write_text("first")
    effects = Effects(journal, (), sequence=1)
    effects._ignored = ()
    overwrite(effects, path, "other")
    assert take_back(journal, 1).problems == [] and path.read_text() == "first"
    [copy] = [each for each in journal.iterdir() if each.name != "journal"]
    copy.write_bytes(bytes(5))
    overwrite(effects, path, "other")
    assert "damaged" in take_back(journal, 1).lost[0] and path.read_text() == "other"

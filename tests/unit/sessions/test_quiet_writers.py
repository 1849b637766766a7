"""Writers that are no longer needed end; what they were given is never lost."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import dartvc
from dartvc.history import Repository
from dartvc.model import CommitKind, LogSegment, StagedCommit
from dartvc.sessions import Session, writer


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dartvc-writer"]


def test_a_writer_that_is_idle_ends_and_the_next_commit_starts_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_IDLE_S", 0.01)
    repository = dartvc.init(tmp_path)
    before = writers()
    for number in range(50):
        repository.commit({"x": number}, f"step {number}")
        for thread in writers():
            if thread not in before:
                thread.join(30)
                assert not thread.is_alive()
    assert [commit.message for commit in repository.log()] == [f"step {number}" for number in reversed(range(50))]


def test_many_repositories_leave_no_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_IDLE_S", 0.01)
    dartvc.init(tmp_path)
    before = writers()
    for number in range(60):
        dartvc.open(tmp_path).commit({"x": number}, "step", wait=False).wait()
    for thread in writers():
        if thread not in before:
            thread.join(30)
    assert [thread for thread in writers() if thread not in before] == []
    assert len(list(dartvc.open(tmp_path).log())) == 60


def test_what_is_durable_is_held_in_memory_no_longer(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path)
    session = Session(repository, {"__name__": "__main__", "x": bytes(range(256)) * 1000})
    session.commit_async("x", CommitKind.MANUAL)
    session.flush()
    gc.collect()
    assert [staged for staged in gc.get_objects() if type(staged) is StagedCommit and staged.changed and staged.message == "x"] == []
    session.close()


def test_who_waits_for_what_is_being_written_hurries_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_GATHER_S", 1000.0)
    session = Session(Repository.init(tmp_path), {"__name__": "__main__", "x": 0})
    held, begun, publish = threading.Event(), threading.Event(), session._writer._publish

    def slowly(*arguments: object) -> None:
        begun.set()
        assert held.wait(30)
        publish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session._writer, "_publish", slowly)
    first = session.commit_async("first", CommitKind.MANUAL)
    assert first is not None
    assert begun.wait(30)
    hurry = first.hurry

    def hurry_and_let_go() -> None:
        hurry()
        held.set()

    monkeypatch.setattr(first, "hurry", hurry_and_let_go)
    waiter = threading.Thread(target=first.wait_durable)
    waiter.start()
    waiter.join(30)
    session.namespace["x"] = 1
    second = session.commit_async("second", CommitKind.MANUAL)
    assert second is not None
    assert not second.durable.wait(0.05)  # it gathers
    session.flush()
    assert second.durable.is_set()
    session.close()


class Logs:
    """A program's log with large values."""

    def cut(self) -> LogSegment:
        return LogSegment("abcdef01", b"{}\n", {"picture": bytes(1000)})

    def handed_over(self, ticket: object) -> None:
        self.ticket = ticket


def test_what_waits_to_be_written_counts_with_its_log_records(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path)
    session = Session(repository, {"__name__": "__main__"})
    logs = session.log_source = Logs()
    session.commit_async("x", CommitKind.MANUAL)
    assert isinstance(logs.ticket, writer.Ticket) and logs.ticket.size_bytes > 1000
    session.close()


def test_a_commit_that_nobody_waited_for_is_there_after_the_process_ended(tmp_path: Path) -> None:
    program = "import dartvc; dartvc.init().commit({'x': bytes(20_000_000)}, 'left alone', wait=False)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert [commit.message for commit in dartvc.open(tmp_path).log()] == ["left alone"]

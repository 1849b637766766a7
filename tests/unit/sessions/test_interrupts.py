"""Ctrl-C while a cell is committed: the commit is whole or absent, the interrupt is seen once, and nothing is missing later.

The signal is sent by a trace function at the N-th Python call, so every moment of a commit can be chosen.
``DARTVC_TEST_INTERRUPTS`` says at how many calls; a large number means every one of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.sessions import Session

INTERRUPTS = int(os.environ.get("DARTVC_TEST_INTERRUPTS", "120"))


class Interruption:
    """Sends SIGINT to this process at the N-th Python call; counts the calls."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        self.calls += 1
        if self.calls == self.number:
            signal.raise_signal(signal.SIGINT)
        return None


@contextmanager
def attached(folder: Path) -> Iterator[Session]:
    """Gives a session of a new repository with one commit."""
    history = Repository.init(folder, key_path=folder / "key", trust_path=folder / "trusted")
    namespace: dict[str, object] = {"__name__": "__main__", "rows": [1], "data": bytearray(100_000), "gone": 1}
    session = Session(history, namespace, is_shared=False)
    run_cell(session, "rows = [1]")
    try:
        yield session
    finally:
        session._writer.close()


def run_cell(session: Session, code: str) -> None:
    """Runs a cell as the IPython shim does."""
    session.begin_unit()
    exec(code, session.namespace)
    session.end_unit(code, source=code, execution=1, error="", duration_s=0.0)


def interrupt_at(folder: Path, number: int) -> tuple[int, str]:
    """Interrupts the commit of a cell at a call; returns how many calls there were and what is wrong."""
    with attached(folder) as session:
        code = "rows.append(2)\nnew = {'a': rows}\ndata[7] = 1\ndel gone"
        session.begin_unit()
        exec(code, session.namespace)
        interruption = Interruption(number)
        seen = 0
        sys.settrace(interruption)
        try:
            session.end_unit(code, source=code, execution=1, error="", duration_s=0.0)
        except KeyboardInterrupt:
            seen += 1
        finally:
            sys.settrace(None)
        calls = interruption.calls
        if seen != (number <= calls):
            return calls, f"the interrupt was seen {seen} times"
        session.flush()
        run_cell(session, "later = 1")
        session.flush()
        repository = session.repository
        expected = {name: value for name, value in session.namespace.items() if not name.startswith("__")}
        held = session.load(repository.resolve("HEAD"))
        if held != expected or held["new"]["a"] is not held["rows"]:  # type: ignore[index]
            return calls, f"the next commit holds {sorted(held)}"
        if [len(commit.parents) for commit in repository.iter_log([repository.resolve("HEAD")])] not in ([1, 1, 0], [1, 0]):
            return calls, "there are other commits"
        problems = list(check_repository(repository))
    return calls, str(problems or "")


def test_an_interrupted_commit_is_whole_or_absent_and_the_next_one_complete(tmp_path: Path) -> None:
    total, fault = interrupt_at(tmp_path / "none", sys.maxsize)
    assert not fault and total > 50
    count = min(INTERRUPTS, total)
    faults = []
    for number in (1 + index * total // count for index in range(count)):
        _, fault = interrupt_at(tmp_path / str(number), number)
        if fault:
            faults.append(f"at call {number} of {total}: {fault}")
    assert not faults, "\n".join(faults)


def test_an_interrupt_leaves_no_child_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dartvc.state.adapters import guarded

    def interrupt(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("select.poll", interrupt)
    with pytest.raises(KeyboardInterrupt):
        guarded.try_in_child(lambda: "", "waiting")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_interrupt_of_the_whole_group_says_nothing_against_a_class() -> None:
    from dartvc.state.adapters import guarded

    def work() -> str:
        signal.raise_signal(signal.SIGINT)
        return ""

    assert guarded.try_in_child(work, "pickling it") == ""


def test_a_program_with_thousands_of_open_files_can_be_committed() -> None:
    """Descriptors beyond the 1,024 that select() knows."""
    from dartvc.state.adapters import guarded

    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2000:
        pytest.skip("this machine allows no more open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(2000, limits[0]), limits[1]))
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert guarded.try_in_child(lambda: "", "waiting") == ""
    finally:
        for each in descriptors:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

"""A rollback killed, or refused by the disk, at every call that changes it: done again, everything is as it was before the run.

``DARTVC_TEST_FAULTS`` says at how many places; a large number means every one of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from dartvc.history import Repository
from dartvc.program.journal import Journal
from dartvc.sessions.atomic import AtomicRun, begin_atomic, find_atomic, settle
from tests.crash.faults import NO_STRACE, Fault, is_traceable, list_faults, run_program
from tests.integration.test_atomic_runs import picture

pytestmark = pytest.mark.skipif(not is_traceable(), reason=NO_STRACE)
PLACES = int(os.environ.get("DARTVC_TEST_FAULTS", "10"))
PROGRAM = """
import sys
from dartvc.errors import DartvcError
from dartvc.history import Repository
from dartvc.sessions.atomic import find_atomic, settle
repository = Repository.open(sys.argv[1])
try:
    settled = settle(repository, find_atomic(repository, "r1"))
    sys.exit(3 if settled.files.refused else 0)
except DartvcError as error:
    sys.exit(error.exit_code)
"""


def half_done(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Makes a project that an atomic run changed before it was killed; returns what it was."""
    folder.mkdir()
    (folder / "a").write_text("a")
    (folder / "log").write_text("log")
    (folder / "old" / "inner").mkdir(parents=True)
    (folder / "old" / "inner" / "b").write_text("b" * 100_000)
    before = picture(folder)
    repository = Repository.init(folder)
    begin_atomic(repository, AtomicRun("r1", "nobody", "refs/heads/main", None, True, None, ("x.py",)))
    journal = Journal(repository.path / "runs" / "r1", is_whole=True)

    def keep(name: str, *, is_growing: bool = False) -> Path:
        journal.keep(str(folder / name), 0, is_growing=is_growing)
        return folder / name

    keep("a").write_text("changed")
    with open(keep("log", is_growing=True), "a") as file:
        file.write("more")
    keep("log").rename(keep("log.1"))
    keep("new").mkdir()
    keep("new/c").write_text("c")
    for name in ("old", "old/inner", "old/inner/b"):
        keep(name)
    shutil.rmtree(folder / "old")
    keep("old").write_text("a file now")
    assert picture(folder) != before
    return before


def spread(faults: Sequence[Fault]) -> list[Fault]:
    step = max(1, len(faults) // PLACES)
    return list(faults[::step])


@pytest.mark.parametrize("what", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_a_rollback_that_was_stopped_anywhere_is_done_again(tmp_path: Path, what: str) -> None:
    place, home = tmp_path / "p", tmp_path / "home"
    home.mkdir()
    program = tmp_path / "abort.py"
    program.write_text(PROGRAM)
    before = half_done(place)
    shutil.copytree(place, tmp_path / "template", symlinks=True)
    trace = tmp_path / "trace"
    assert run_program(program, [str(place)], home=home, trace=trace).returncode == 0
    assert picture(place) == before
    faults = list_faults(trace, place)
    assert len(faults) > 15
    for fault in spread(faults):
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "template", place, symlinks=True)
        stopped = run_program(program, [str(place)], home=home, inject=f"{fault.call}:{what}:when={fault.number}")
        assert "Traceback" not in stopped.stderr, (fault, stopped.stderr)
        repository = Repository.open(place)
        run = find_atomic(repository, "r1")
        assert run is not None
        settled = settle(repository, run)
        assert settled.run.state == "rolled back", fault
        left = {name: row for name, row in picture(place).items() if not name.endswith(".dartvc-draft")}
        assert left == before, fault

"""Power cuts: the file system is shut down with nothing flushed, at calls that change the disk; what was acknowledged is there after it.

``DARTVC_TEST_CUTS`` says at how many places the power is cut; a large number means every one of them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from dartvc.history import RefMove, Repository
from dartvc.history.fsck import check_repository
from dartvc.porcelain.face import Repository as Face
from tests.crash.disks import Disk
from tests.crash.faults import Fault, list_faults, run_program
from tests.unit.history.staging import stage

CUTS = int(os.environ.get("DARTVC_TEST_CUTS", "24"))
PROGRAM = """
import os, sys
import dartvc
import dartvc.store.merging as merging
from dartvc.history import RefMove
from dartvc.history.retention import Retention
from dartvc.porcelain.upkeep import clean
merging._FACTOR = 3
phase, root = sys.argv[1:]
repo = dartvc.init(root) if phase == "create" else dartvc.open(root)
if phase == "create":
    os.writev(1, [b"created\\n"])
elif phase == "commit":
    namespace = {"__name__": "__main__", "rows": [], "data": bytearray(200_000)}
    for step in range(1, 5):
        namespace["step"] = step
        namespace["rows"].append({"n": step})
        namespace["data"][step * 40_000] = 1
        oid = repo.commit(namespace, f"step {step}").oid
        os.writev(1, [f"{step} {oid}\\n".encode()])
else:
    repo.history.config.set("dartvc.keepLast", "5")
    oid = repo.resolve("side")
    repo.history.move_refs([RefMove("side", oid, None)], operation="branch", description="delete")
    clean(repo.history, Retention(), grace_s=-1)
    os.writev(1, [b"collected\\n"])
"""
PHASES = ("create", "commit", "collect")


def check(mounted: Path, acknowledged: list[str], *, was_created: bool) -> None:
    """Every acknowledged commit restores exactly, fsck finds nothing, the next commit works."""
    root, key = mounted / "project", mounted / ".config/dartvc/seal.key"
    history = Repository.open(root, key_path=key) if was_created else Repository.init(root, key_path=key)
    assert list(check_repository(history)) == [] and history.config.get("core.bare") == "true"
    for line in acknowledged:
        step, oid = line.split()
        state = Face(history).load(oid)
        assert (state["step"], state["rows"]) == (int(step), [{"n": number} for number in range(1, int(step) + 1)])
        assert state["data"] == b"".join(b"\1" if 0 < at <= int(step) * 40_000 and at % 40_000 == 0 else b"\0" for at in range(200_000))
    before = history.database.refs.read("refs/heads/main")
    assert before is not None or not acknowledged
    if acknowledged:
        assert acknowledged[-1].split()[1] in set(history.database.iter_commits([before] if before else []))
    writer = history.writer()
    after = writer.write(stage({"x": 1}), [before] if before else [])
    writer.publish()
    history.move_refs([RefMove("main", before, after)], operation="commit", description="next")
    history.database.consolidate()
    assert Face(history).load(after)["x"] == 1
    assert list(check_repository(Repository.open(root, key_path=key))) == []
    git = subprocess.run(
        ["git", "--git-dir", str(history.path), "fsck", "--strict", "--no-dangling"], capture_output=True, text=True, check=False
    )
    assert git.returncode == 0, git.stderr


def find_failure(mounted: Path, acknowledged: list[str], *, was_created: bool) -> str | None:
    """Returns what `check` says; its traceback would keep files of the disk open."""
    try:
        check(mounted, acknowledged, was_created=was_created)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def prepare(disk: Disk, script: Path) -> tuple[dict[str, Disk], list[tuple[str, Fault]], list[str]]:
    """Runs each phase unharmed; returns the disks that they begin with, the calls at which the power can be cut, and the commits."""
    begins, places, commits = {}, [], []
    for phase in PHASES:
        begins[phase] = disk.copy(script.with_name(f"{phase}.img"))
        trace = script.with_name(f"{phase}.trace")
        with disk.mounted() as mounted:
            done = run_program(script, [phase, str(mounted / "project")], home=mounted, trace=trace)
            assert done.returncode == 0, done.stderr
            places += [(phase, fault) for fault in list_faults(trace, mounted)]
            if phase == "commit":
                commits = done.stdout.splitlines()
                make_garbage(mounted)
    return begins, places, commits


def make_garbage(mounted: Path) -> None:
    """Gives the collection something to throw away, and something to rewrite."""
    history = Repository.open(mounted / "project", key_path=mounted / ".config/dartvc/seal.key")
    tip = history.resolve("HEAD")
    writer = history.writer()
    side = writer.write(stage({"x": "garbage"}), [tip])
    writer.publish()
    history.move_refs([RefMove("side", None, side)], operation="branch", description="side")
    history.config.set("dartvc.undoWindow", "0s")


def test_a_power_cut_at_any_call_loses_nothing_acknowledged(disk: Disk, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    begins, places, commits = prepare(disk, script)
    assert {phase for phase, _ in places} == set(PHASES) and len(commits) == 4
    chosen = [places[index * len(places) // CUTS] for index in range(CUTS)] if len(places) > CUTS else places

    def attempt(numbered: tuple[int, tuple[str, Fault]]) -> str | None:
        number, (phase, fault) = numbered
        harmed = begins[phase].copy(tmp_path / f"cut{number}.img")
        with harmed.mounted() as mounted:
            inject = f"{fault.call}:signal=SIGKILL:when={fault.number}"
            done = run_program(script, [phase, str(mounted / "project")], home=mounted, inject=inject)
            assert "Traceback" not in done.stderr, done.stderr
            harmed.cut_power()
        said = done.stdout.splitlines()
        expected = commits if phase == "collect" else said if phase == "commit" else []
        with harmed.mounted() as mounted:
            failure = find_failure(mounted, expected, was_created=phase != "create" or bool(said))
        harmed.discard()
        return f"{phase} {fault.call} {fault.number} after {len(said)} acknowledged: {failure}" if failure else None

    failures = [each for each in map(attempt, enumerate(chosen)) if each is not None]  # not in threads: they would keep files open
    assert not failures, "\n".join(failures)

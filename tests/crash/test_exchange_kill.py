"""An exchange killed, or refused by the disk, at every call that changes it: both sides stay sound, and the next exchange completes.

``DARTVC_TEST_FAULTS`` says at how many places; a large number means every one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dartvc.history import RefMove, Repository
from dartvc.history.fsck import check_repository
from dartvc.remotes import Remotes, clone, fetch, parse_address, push
from dartvc.remotes.pushing import RefSpec
from tests.crash.faults import NO_STRACE, Fault, is_traceable, list_faults, run_program
from tests.unit.remotes.conftest import commit

pytestmark = pytest.mark.skipif(not is_traceable() or shutil.which("git") is None, reason=NO_STRACE)
PLACES = int(os.environ.get("DARTVC_TEST_FAULTS", "14"))
FAKE_SSH = Path(__file__).parent.parent / "integration" / "fake_ssh.sh"
PROGRAM = """
import os, sys
from pathlib import Path
from dartvc.errors import DartvcError
from dartvc.history import Repository
from dartvc.remotes import Remotes, clone, fetch, parse_address, push
from dartvc.remotes.pushing import RefSpec
verb, place, ssh = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
os.environ["GIT_SSH_COMMAND"] = ssh
try:
    if verb == "clone":
        clone(parse_address(str(place / "theirs"), place), place / "copy")
    else:
        ours = Repository.open(place / "ours")
        remotes = Remotes(ours)
        remote = remotes.get("far" if verb.endswith("ssh") else "origin")
        if verb.startswith("fetch"):
            fetch(ours, remote, remotes.address(remote))
        else:
            push(ours, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/copied")])
except DartvcError as error:
    print(type(error).__name__, error.message)
    sys.exit(error.exit_code)
"""


def build(place: Path) -> None:
    """Makes two projects of which the second has fetched the first half of what the first one has."""
    theirs, ours = Repository.init(place / "theirs"), Repository.init(place / "ours")
    remotes = Remotes(ours)
    remote = remotes.add("origin", str(place / "theirs"))
    remotes.add("far", f"host:{place / 'theirs'}")
    tip = None
    for value in (1, bytes(range(256)) * 400, 3):
        old, tip = tip, commit(theirs, value, [tip] if tip else [])
        theirs.move_refs([RefMove("refs/heads/main", old, tip)], operation="commit", description="theirs")
        if value == 1:
            fetch(ours, remote, remotes.address(remote))
    mine = commit(ours, "mine", [])
    ours.move_refs([RefMove("refs/heads/main", None, mine)], operation="commit", description="ours")


def check(verb: str, place: Path) -> list[str]:
    """Returns what is wrong after a fault, once the exchange was tried again."""
    wrong = []
    theirs, ours = Repository.open(place / "theirs"), Repository.open(place / "ours")
    for repository in (theirs, ours):
        wrong += [f"{repository.root.name}: {problem}" for problem in check_repository(repository)]
    remotes = Remotes(ours)
    remote = remotes.get("origin")
    if verb == "clone":
        if not (place / "copy" / ".dvc-state").exists():
            clone(parse_address(str(place / "theirs"), place), place / "copy")
        copy = Repository.open(place / "copy", walk_up=False)
        wrong += [f"copy: {problem}" for problem in check_repository(copy)]
        wrong += [] if copy.resolve("HEAD") == theirs.resolve("main") else ["the clone does not stand where the other stands"]
        left = [path for path in (place / "copy").iterdir() if path.name != ".dvc-state"]  # killed while it cleaned up: the next one sweeps
        wrong += [] if all(not path.joinpath(".dvc-state").exists() for path in left) else ["the clone left something behind"]
    elif verb.startswith("fetch"):
        fetch(ours, remote, remotes.address(remote))
        wrong += [] if ours.resolve("origin/main") == theirs.resolve("main") else ["the second fetch did not complete"]
    else:
        push(ours, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/copied")])
        wrong += [] if theirs.resolve("copied") == ours.resolve("main") else ["the second push did not complete"]
    for repository in (theirs, ours):
        wrong += [f"{repository.root.name}, again: {problem}" for problem in check_repository(repository)]
        done = subprocess.run(["git", "--git-dir", str(repository.path), "fsck", "--strict"], capture_output=True, text=True, check=False)
        wrong += [done.stderr] if done.returncode else []
    return wrong


def try_fault(tmp_path: Path, model: Path, verb: str, injected: str) -> list[str]:
    """Runs an exchange with a fault on a copy of the model; returns what is wrong afterwards."""
    place = tmp_path / injected.replace(":", "-").replace("=", "-")
    shutil.copytree(model, place, symlinks=True)
    for config in place.glob("*/.dvc-state/config"):
        config.write_text(config.read_text().replace(str(model), str(place)))
    script = tmp_path / "program.py"
    done = run_program(script, [verb, str(place), str(FAKE_SSH)], home=tmp_path / "home", inject=injected)
    wrong = ["a traceback: " + done.stderr[-600:]] if "Traceback" in done.stderr else []
    if "error" in injected and done.returncode == 0 and "rename" in injected:
        wrong.append("a rename that failed was reported as success")
    try:
        wrong += check(verb, place)
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {error}")
    shutil.rmtree(place, ignore_errors=True)
    return [f"{injected}: {each}" for each in wrong]


def spread(faults: list[Fault]) -> list[Fault]:
    """Returns at most ``PLACES`` of the faults, evenly spread, the last one included."""
    if len(faults) <= PLACES:
        return faults
    return [faults[index * (len(faults) - 1) // (PLACES - 1)] for index in range(PLACES)]


KILL: Callable[[Fault], str] = lambda fault: f"{fault.call}:signal=SIGKILL:when={fault.number}"  # noqa: E731
FULL: Callable[[Fault], str] = lambda fault: f"{fault.call}:error=ENOSPC:when={fault.number}"  # noqa: E731


@pytest.mark.parametrize("verb", ["fetch", "push", "clone", "fetch-ssh"])
@pytest.mark.parametrize("kind", ["killed", "refused"])
def test_an_exchange_that_is_cut_off_leaves_both_sides_sound(tmp_path: Path, verb: str, kind: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "home").mkdir()
    build(model)
    (tmp_path / "program.py").write_text(PROGRAM)
    rehearsal = tmp_path / "rehearsal"
    shutil.copytree(model, rehearsal, symlinks=True)
    for config in rehearsal.glob("*/.dvc-state/config"):
        config.write_text(config.read_text().replace(str(model), str(rehearsal)))
    trace = tmp_path / "trace"
    done = run_program(tmp_path / "program.py", [verb, str(rehearsal), str(FAKE_SSH)], home=tmp_path / "home", trace=trace)
    assert done.returncode == 0, done.stdout + done.stderr
    faults = [
        fault for fault in list_faults(trace, rehearsal) if kind == "killed" or fault.call not in ("openat", "unlink", "rmdir", "symlink")
    ]
    assert len(faults) > 10
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda fault: try_fault(tmp_path, model, verb, (KILL if kind == "killed" else FULL)(fault)), spread(faults))
    assert [each for wrong in found for each in wrong] == []

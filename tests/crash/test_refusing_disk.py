"""A disk that is full, broken, over quota, read-only or forbidden: a clear error, no false acknowledgement, and work goes on when it recovers.

``DARTVC_TEST_FAULTS`` says at how many places each error is injected; a large number means every one of them.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.porcelain.face import Repository as Face
from tests.crash.faults import NO_STRACE, Fault, is_traceable, list_faults, run_program

FAULTS = int(os.environ.get("DARTVC_TEST_FAULTS", "4"))
PROGRAM = """
import os, sys
import dartvc
from dartvc.errors import StorageError
import dartvc.store.merging as merging
merging._FACTOR = 3

def tell(*words):
    os.writev(1, [(" ".join(words) + "\\n").encode()])  # not one of the calls that are made to fail

def attempt(act):
    try:
        return act()
    except StorageError as error:
        assert error.hint and "/" in error.message, error.message
        tell("refused", error.message)

def refuse_files(number, code, lasting):
    # strace would count the opens of imports, too
    real, count = os.open, 0
    def refusing(path, flags, *rest, **options):
        nonlocal count
        count += bool(flags & os.O_CREAT)
        if flags & os.O_CREAT and (count == number or lasting and count > number):
            raise OSError(code, os.strerror(code), os.fspath(path))
        return real(path, flags, *rest, **options)
    os.open = refusing

def main(root):
    repo = None
    for _ in range(3):
        repo = repo or attempt(lambda: dartvc.init(root))
    if repo is None:
        return
    namespace = {"__name__": "__main__", "rows": [], "data": bytearray(200_000), "constant": ["made once"]}
    for step in range(1, 7):
        namespace["step"] = step
        namespace["rows"].append({"n": step})
        namespace["data"][step * 20_000] = 1
        if step == 3:
            namespace["late"] = bytearray(b"late" * 30_000)
        pending = attempt(lambda: repo.commit(namespace, f"step {step}"))
        if pending is not None:
            tell("committed", str(step), pending.oid)
    tell("end")

if len(sys.argv) > 2:
    refuse_files(*map(int, sys.argv[2:]))
main(sys.argv[1])
"""
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES")

pytestmark = pytest.mark.skipif(not is_traceable(), reason=NO_STRACE)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that commits six times and goes on when it is refused."""
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def places(script: Path) -> list[Fault]:
    """The calls of the program that change the disk."""
    home = script.parent / "unharmed"
    done = run_program(script, [str(home / "project")], home=home, trace=script.with_suffix(".trace"))
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["committed"] * 6 + ["end"], done.stderr
    found = list_faults(script.with_suffix(".trace"), home)
    opens = sum(fault.call == "openat" for fault in found)
    return [fault for fault in found if fault.call != "openat"] + [Fault("openat", number + 1) for number in range(opens)]


def expected_state(step: int) -> dict[str, object]:
    """Returns what the program's commit of a step holds."""
    state: dict[str, object] = {"step": step, "rows": [{"n": number} for number in range(1, step + 1)], "constant": ["made once"]}
    data = bytearray(200_000)
    for number in range(1, step + 1):
        data[number * 20_000] = 1
    return {**state, "data": data, **({"late": bytearray(b"late" * 30_000)} if step >= 3 else {})}


def find_faults(home: Path, said: list[list[str]], script: Path) -> Iterator[str]:
    """Yields what is wrong after a run: with what was acknowledged, with the repository, or with the next program's commits."""
    key = home / ".config/dartvc/seal.key"
    acknowledged = [words for words in said if words[0] == "committed"]
    if acknowledged:
        history = Repository.open(home / "project", key_path=key)
        yield from map(str, check_repository(history))
        for _, step, oid in acknowledged:
            if Face(history).load(oid) != expected_state(int(step)):
                yield f"the commit of step {step} holds something else"
        tips = [oid for name, oid in history.database.refs.iter_refs("refs/heads/")]
        if len(tips) != 1:
            yield f"there are {len(tips)} branches"
        missing = {oid for _, _, oid in acknowledged} - set(history.database.iter_commits(tips))
        if missing:
            yield f"no branch has {missing}"
    again = run_program(script, [str(home / "project")], home=home)
    lines = again.stdout.splitlines()
    if len(lines) != 7 or lines[-1] != "end":
        yield f"the next program says {lines} {again.stderr[-500:]}"
        return
    history = Repository.open(home / "project", key_path=key)
    yield from map(str, check_repository(history))
    if Face(history).load("HEAD") != expected_state(6):
        yield "the next program's last commit holds something else"


@pytest.mark.parametrize("lasting", ["once", "for good"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_refusal_is_told_and_survived(tmp_path: Path, script: Path, places: list[Fault], error: str, lasting: str) -> None:
    shift = ERRORS.index(error) + len(ERRORS) * (lasting == "once")
    count = min(FAULTS, len(places))
    chosen = [places[(index * len(places) + shift * len(places) // 10) // count % len(places)] for index in range(count)]

    def attempt(fault: Fault) -> list[str]:
        home = tmp_path / f"{fault.call}{fault.number}"
        inject = f"{fault.call}:error={error}:when={fault.number}{'' if lasting == 'once' else '+'}"
        arguments = [str(home / "project")]
        if fault.call == "openat":
            arguments += [str(fault.number), str(getattr(errno, error)), str(int(lasting == "for good"))]
        try:
            done = run_program(script, arguments, home=home, inject="" if fault.call == "openat" else inject)
        except subprocess.TimeoutExpired:
            return [f"{inject}: it hangs"]
        said = [line.split() for line in done.stdout.splitlines()]
        found = [f"exit code {done.returncode}: {done.stderr[-800:]}"] if done.returncode != 0 else []
        try:
            found += find_faults(home, said, script)
        except Exception as failure:
            found.append(f"{type(failure).__name__}: {failure}")
        shutil.rmtree(home)
        return [f"{inject} after {[words[0] for words in said]}: {each}" for each in found]

    with ThreadPoolExecutor(2) as pool:
        faults = [each for found in pool.map(attempt, chosen) for each in found]
    assert not faults, "\n".join(faults)

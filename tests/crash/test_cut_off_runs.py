"""A run that is killed, or whose power is cut, at any call that changes the disk: resumed, it ends as if nothing had been.

A run may be killed again while it is resumed. ``DARTVC_TEST_FAULTS`` and ``DARTVC_TEST_CUTS`` say at how many places; a large number means
every one of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from tests.crash.disks import Disk
from tests.crash.faults import NO_STRACE, Fault, is_traceable, list_faults, run_program

pytestmark = pytest.mark.skipif(not is_traceable(), reason=NO_STRACE)
FAULTS = int(os.environ.get("DARTVC_TEST_FAULTS", "10"))
CUTS = int(os.environ.get("DARTVC_TEST_CUTS", "6"))
LAUNCHER = """
import os, sys
folder, *words = sys.argv[1:]
os.chdir(folder)
if words == ["plain"]:
    sys.path[0] = folder
    exec(compile(open("app.py").read(), os.path.join(folder, "app.py"), "exec"), {"__name__": "__main__"})
else:
    from dartvc.cli.entry import main
    sys.argv = ["dvc-state", *words]
    code = main()
    sys.stdout.flush()
    os._exit(code)  # what ends an interpreter is no part of this
"""
APP = """
import json, os, random, signal
random.seed(3)
seen = []
log = open("held.log", "w")
for step in range(40):
    value = random.random()
    seen.append(value)
    with open("state.tmp", "w") as file:
        json.dump(seen, file)
    os.replace("state.tmp", "state.json")
    with open("ledger.bin", "r+b") as file:
        file.seek(step * 7)
        file.write(b"%02d" % step)
    with open("counter", "r") as file:
        counter = int(file.read())
    with open("counter", "w") as file:
        file.write(str(counter + 1))
    with open("history.csv", "a") as file:
        file.write(f"{step},{value}\\n")
    if step % 10 == 3:
        os.mkdir(f"part{step}")
        with open(f"part{step}/own", "w") as file:
            file.write(str(step))
    if step % 10 == 9:
        os.remove(f"part{step - 6}/own")
    log.write(f"{step}\\n")
    print(step, counter, round(value, 6), flush=True)
    if step % 4 == 1:
        os.kill(os.getpid(), signal.SIGUSR1)  # a commit is due at the next statement
        step
log.close()
print("sum", sum(seen))
"""
NEVER = ["--max-overhead", "0.000001"]
"""Commits come when the program asks for them, so that what happens does not hang on a clock."""


@dataclass(frozen=True)
class Ending:
    """What a run left: its output, its files."""

    lines: list[str]
    files: dict[str, bytes]


def furnish(folder: Path) -> None:
    """Makes the program's folder: with files of its own that it changes."""
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "counter").write_text("500")
    (folder / "ledger.bin").write_bytes(bytes(300))
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    for path in (folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns what the program's files hold."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not {".dvc-state", "__pycache__"} & set(path.parts)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that is traced."""
    path = tmp_path_factory.mktemp("launcher") / "launcher.py"
    path.write_text(LAUNCHER)
    return path


@pytest.fixture(scope="module")
def plain(launcher: Path) -> Ending:
    """What the program does when nothing happens to it, and nothing watches."""
    folder = launcher.parent / "plain"
    furnish(folder)
    done = run_program(launcher, [str(folder), "plain"], home=launcher.parent)
    assert done.returncode == -10, done.stderr  # SIGUSR1, which a plain program does not expect
    (folder / "app.py").write_text(APP.replace("os.kill(os.getpid(), signal.SIGUSR1)", "pass"))
    for path in folder.iterdir():
        if path.name != "app.py":
            subprocess.run(["rm", "-r", str(path)], check=True)
    (folder / "counter").write_text("500")
    (folder / "ledger.bin").write_bytes(bytes(300))
    done = run_program(launcher, [str(folder), "plain"], home=launcher.parent)
    assert done.returncode == 0, done.stderr
    (folder / "app.py").write_text(APP)
    return Ending(done.stdout.splitlines(), files_of(folder))


def spread(faults: Sequence[Fault], count: int) -> list[Fault]:
    """Returns at most ``count`` of the faults, evenly spread."""
    return list(faults) if len(faults) <= count else [faults[index * len(faults) // count] for index in range(count)]


def find_differences(plain: Ending, parts: Sequence[list[str]], folder: Path, home: Path) -> Iterator[str]:
    """Yields what is not as in the plain run; the parts are what was printed until each fault, the last one until the end."""
    reached = 0
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        starts = [
            at
            for at in range(reached + 1)
            if part == plain.lines[at : at + len(part)] and (not is_last or at + len(part) == len(plain.lines))
        ]
        if not starts:
            yield f"part {number} of the output does not follow from what was printed until line {reached}: {part[:1]} ... {part[-1:]}"
            return
        reached = max(reached, starts[-1] + len(part))
    found = files_of(folder)
    yield from (f"{path} differs" for path in sorted(found.keys() | plain.files.keys()) if found.get(path) != plain.files.get(path))
    history = Repository.open(folder, key_path=home / ".config/dartvc/seal.key")
    yield from map(str, check_repository(history))
    git = subprocess.run(["git", "--git-dir", str(history.path), "fsck", "--strict"], capture_output=True, text=True, check=False)
    if git.returncode:
        yield git.stderr


def go_on(launcher: Path, folder: Path, home: Path, *, inject: str = "") -> tuple[int, str, str]:
    """Resumes what was begun, or begins when nothing was; returns (exit code, output, messages)."""
    done = run_program(launcher, [str(folder), "resume"], home=home, inject=inject)
    if done.returncode == 3 and files_of(folder) == {"app.py": APP.encode(), "counter": b"500", "ledger.bin": bytes(300)}:
        done = run_program(launcher, [str(folder), "run", *NEVER, "app.py"], home=home, inject=inject)
    return done.returncode, done.stdout, done.stderr


def rehearse(launcher: Path, folder: Path, home: Path) -> list[Fault]:
    """Runs the program unharmed and returns the places where the disk is changed."""
    furnish(folder)
    trace = launcher.with_name(f"{folder.parent.name}.trace")
    done = run_program(launcher, [str(folder), "run", *NEVER, "app.py"], home=home, trace=trace)
    assert done.returncode == 0, done.stderr
    return list_faults(trace, folder)


@pytest.mark.parametrize("is_twice", [False, True], ids=["once", "twice"])
def test_a_run_killed_anywhere_ends_as_the_undisturbed_one(tmp_path: Path, launcher: Path, plain: Ending, is_twice: bool) -> None:
    faults = rehearse(launcher, tmp_path / "rehearsal" / "project", tmp_path)
    assert len(list(Repository.open(tmp_path / "rehearsal/project").operations.iter_newest())) > 6

    def attempt(numbered: tuple[int, Fault]) -> list[str]:
        number, fault = numbered
        home = tmp_path / f"{fault.call}{fault.number}"
        folder = home / "project"
        furnish(folder)
        inject = f"{fault.call}:signal=SIGKILL:when={fault.number}"
        parts = [run_program(launcher, [str(folder), "run", *NEVER, "app.py"], home=home, inject=inject).stdout.splitlines()]
        if is_twice:
            again = faults[(number * 7919 + 13) % len(faults)]
            parts.append(go_on(launcher, folder, home, inject=f"{again.call}:signal=SIGKILL:when={again.number}")[1].splitlines())
        code, out, err = go_on(launcher, folder, home)
        parts.append(out.splitlines())
        try:
            wrong = list(find_differences(plain, parts, folder, home))
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        wrong += [f"exit code {code}: {err[-600:]}"] if code or "Traceback" in err else []
        subprocess.run(["rm", "-rf", str(home)], check=True)
        return [f"{inject}: {each}" for each in wrong]

    with ThreadPoolExecutor(2) as pool:
        found = [each for wrong in pool.map(attempt, enumerate(spread(faults, FAULTS))) for each in wrong]
    assert not found, "\n".join(found)


def test_a_run_whose_power_is_cut_anywhere_ends_as_the_undisturbed_one(disk: Disk, tmp_path: Path, launcher: Path, plain: Ending) -> None:
    begin = disk.copy(tmp_path / "begin.img")
    with disk.mounted() as mounted:
        faults = rehearse(launcher, mounted / "project", mounted)
    with begin.mounted() as mounted:
        furnish(mounted / "project")

    def attempt(numbered: tuple[int, Fault]) -> list[str]:
        number, fault = numbered
        harmed = begin.copy(tmp_path / f"cut{number}.img")
        inject = f"{fault.call}:signal=SIGKILL:when={fault.number}"
        with harmed.mounted() as mounted:
            parts = [
                run_program(launcher, [str(mounted / "project"), "run", *NEVER, "app.py"], home=mounted, inject=inject).stdout.splitlines()
            ]
            harmed.cut_power()
        with harmed.mounted() as mounted:
            folder = mounted / "project"
            code, out, err = go_on(launcher, folder, mounted)
            parts.append(out.splitlines())
            try:
                wrong = list(find_differences(plain, parts, folder, mounted))
            except Exception as error:
                wrong = [f"{type(error).__name__}: {error}"]
        wrong += [f"exit code {code}: {err[-600:]}"] if code or "Traceback" in err else []
        harmed.discard()
        return [f"{inject}: {each}" for each in wrong]

    found = [
        each for wrong in map(attempt, enumerate(spread(faults, CUTS))) for each in wrong
    ]  # not in threads: they would keep files open
    assert not found, "\n".join(found)

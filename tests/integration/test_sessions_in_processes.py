"""Real programs: an IPython session killed and continued, undone, branched; a terminal that moves a living kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("IPython")

DRIVER = """
import json, os, signal, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config(); config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
def cell(code):
    return shell.run_cell(code, store_history=True)
shell.run_cell("%load_ext dartvc", silent=True)
import dartvc
"""


def python(folder: Path, code: str, expected: int = 0) -> str:
    """Runs a program in a folder and returns what it printed."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == expected, done.stderr
    return done.stdout


def command(folder: Path, *words: str, expected: int = 0) -> str:
    """Runs dvc-state in a folder."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expected, (done.stdout, done.stderr)
    return done.stdout


def test_a_killed_session_continues_at_its_last_cell(tmp_path: Path) -> None:
    python(
        tmp_path,
        DRIVER
        + """
cell("import random; random.seed(3); rows = [1, 2]; alias = rows")
cell("def total(): return sum(rows)")
cell("rows.append(4); drawn = random.random()")
dartvc.session().flush()
os.kill(os.getpid(), signal.SIGKILL)
""",
        expected=-signal.SIGKILL,
    )
    out = python(
        tmp_path,
        DRIVER
        + """
cell("import random as r2; probe = (total(), alias is rows, rows)")
print(json.dumps([shell.user_ns["probe"][0], shell.user_ns["probe"][1], shell.user_ns["probe"][2]]))
""",
    )
    assert json.loads(out.strip().splitlines()[-1]) == [7, True, [1, 2, 4]]


def test_a_session_that_ended_by_itself_does_not_fill_the_next_one(tmp_path: Path) -> None:
    python(tmp_path, DRIVER + 'cell("x = 1")')
    out = python(tmp_path, DRIVER + 'print("x" in shell.user_ns)\ncell("%dvc_state checkout HEAD")\nprint(shell.user_ns["x"])')
    assert out.split()[0] == "False"
    assert out.split()[-1] == "1"


def test_undo_twice_then_redo(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        DRIVER
        + """
for value in (1, 2, 3):
    cell(f"x = {value}")
seen = []
for verb in ("undo", "undo", "redo"):
    cell(f"%dvc_state {verb}")
    seen.append(shell.user_ns["x"])
print(seen)
""",
    )
    assert out.strip().splitlines()[-1] == "[2, 1, 2]"


def test_a_branch_keeps_both_lines(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        DRIVER
        + """
cell("x = [1]")
cell("%dvc_state checkout HEAD -b other")
cell("x.append(2)")
cell("%dvc_state switch main")
print(shell.user_ns["x"])
cell("x.append(9)")
cell("%dvc_state switch other")
print(shell.user_ns["x"])
""",
    )
    lines = [line for line in out.splitlines() if line.startswith("[")]
    assert lines == ["[1]", "[1, 2]"]
    assert "other" in command(tmp_path, "branch")
    git = subprocess.run(["git", "--git-dir", ".dvc-state", "fsck", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert git.returncode == 0, git.stderr


def test_failing_cells_and_magics_are_committed(tmp_path: Path) -> None:
    python(tmp_path, DRIVER + 'cell("x = 1")\ncell("x = 2\\nraise ValueError(5)")\ncell("%time y = 3")')
    items = json.loads(command(tmp_path, "log", "--json"))["items"]
    assert [item["kind"] for item in items] == ["cell", "exception", "cell"]
    assert items[0]["added"] == ["y"]
    assert items[1]["modified"] == ["x"]
    assert "ValueError" in items[1]["error"]


def test_a_terminal_moves_the_living_session(tmp_path: Path) -> None:
    code = DRIVER + "\ncell('x = 1')\ncell('x = 2')\ndartvc.session().flush()\nprint('ready', flush=True)\nsys.stdin.readline()\nprint(shell.user_ns['x'], flush=True)"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "IPYTHONDIR": str(tmp_path / "ipython")}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == "ready"
        assert "restored: x" in command(tmp_path, "checkout", "HEAD~1")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "1"
        process.stdin.close()
        process.wait(timeout=60)


def test_two_sessions_commit_to_branches_of_their_own(tmp_path: Path) -> None:
    code = DRIVER + "\nprint(dartvc.session().branch, flush=True)\nsys.stdin.readline()\ncell('x = 1')\ndartvc.session().flush()"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "IPYTHONDIR": str(tmp_path / "ipython")}
    processes: list[Any] = []
    branches = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        branches.append(process.stdout.readline().strip())  # type: ignore[union-attr]
    for process in processes:
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
    assert branches == ["main", "main-2"]
    listed = command(tmp_path, "branch")
    assert "main" in listed and "main-2" in listed


@pytest.mark.parametrize("other_ends_first", [False, True])
def test_an_undo_takes_back_what_its_own_session_did(tmp_path: Path, other_ends_first: bool) -> None:
    first = DRIVER + """
cell("a = 1"); cell("a = 2"); dartvc.session().flush(); print("ready", flush=True); sys.stdin.readline()
for verb in ("undo", "undo", "redo"):
    cell(f"%dvc_state {verb}")
    print("SEEN", shell.user_ns.get("a"), "b" in shell.user_ns, dartvc.session().branch, flush=True)
"""
    second = DRIVER + """
cell("b = 10"); cell("b = 20"); dartvc.session().flush(); print("ready", flush=True); sys.stdin.readline()
cell("%dvc_state undo"); print("SEEN", shell.user_ns["b"], dartvc.session().branch, flush=True)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "IPYTHONDIR": str(tmp_path / "ipython")}
    processes = []
    for code in (first, second):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert "ready" in process.stdout.readline()  # type: ignore[union-attr]
    seen = []
    for process in reversed(processes) if other_ends_first else processes:
        out, _ = process.communicate("\n", timeout=60)
        seen.append([line for line in out.splitlines() if line.startswith("SEEN")])
    own, other = reversed(seen) if other_ends_first else seen
    assert own == ["SEEN 1 False main", "SEEN 1 False main", "SEEN 2 False main"]
    assert other == ["SEEN 10 main-2"]
    assert not other_ends_first or (tmp_path / ".dvc-state" / "HEAD").read_text().strip() == "ref: refs/heads/main"


def test_of_several_sessions_the_one_that_a_command_acts_on_is_named(tmp_path: Path) -> None:
    code = DRIVER + "\ncell('x = 1')\ncell('x = 2')\ndartvc.session().flush()\nprint(dartvc.session().session_id, flush=True)\nsys.stdin.readline()"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "IPYTHONDIR": str(tmp_path / "ipython")}

    def say(*words: str) -> tuple[int, str, str]:
        program = "import sys; from dartvc.cli.entry import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    processes: list[Any] = []
    ids = []
    try:
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            processes.append(process)
            ids.append(process.stdout.readline().strip())  # type: ignore[union-attr]
            if len(processes) == 1:
                assert say("undo")[2] == "" and say("redo")[2] == ""
                assert "commands go to" not in say("status")[1]
        first, second = (f"session {name} (process {process.pid}):\n" for name, process in zip(ids, processes, strict=True))
        assert say("undo")[2].startswith(second)
        assert say("--session", ids[0][:4], "undo")[2].startswith(first)
        for words, meant in ((["status"], ids[1]), (["--session", ids[0], "status"], ids[0])):
            marked = [line for line in say(*words)[1].splitlines() if "commands go to this one" in line]
            assert len(marked) == 1 and marked[0].startswith(f"session {meant}:")
        listed = json.loads(say("status", "--json")[1])["sessions"]
        assert {each["id"]: each["meant"] for each in listed} == {ids[0]: False, ids[1]: True}
        assert say("--session", "zzz", "status")[::2] == (3, "error: no session 'zzz' is alive\n  dvc-state status\n")
        code_, out, err = say("switch", "main")
        assert code_ == 0 and f"main is another session's (session {ids[0]}, process {processes[0].pid})" in err, (out, err)
    finally:
        for process in processes:
            process.communicate("\n", timeout=60)


def test_the_repository_of_a_stranger_is_read_but_not_restored(tmp_path: Path) -> None:
    python(tmp_path, DRIVER + 'cell("x = [1]")')
    os.rename(tmp_path / "config", tmp_path / "their-config")
    assert "x" in command(tmp_path, "ls")
    python(tmp_path, "import dartvc\ntry:\n    dartvc.open('.').load()\nexcept Exception as e:\n    raise SystemExit(e.exit_code)", expected=4)
    assert python(tmp_path, "import dartvc; print(dartvc.open('.').load(trust=True))").strip() == "{'x': [1]}"


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        import dartvc
        x = [1]; y = x; z = 5
        try:
            with dartvc.transaction(globals()):
                x.append(2); z = 6; extra = 1; del y
                raise ValueError
        except ValueError:
            pass
        print(x, x is y, z, "extra" in globals())
        """,
    )
    assert out.strip() == "[1] True 5 False"


def test_a_checkout_that_cannot_load_changes_nothing_else(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        import dartvc
        repo = dartvc.init(".")
        ns = {"__name__": "__main__", "x": 1}
        first = repo.commit(ns, "one")
        ns["x"] = 2
        repo.commit(ns, "two")
        try:
            repo.checkout("nowhere", ns)
        except Exception as error:
            print(type(error).__name__, ns["x"])
        repo.checkout(first.oid, ns)
        print(ns["x"])
        """,
    )
    assert out.split() == ["NotFoundError", "2", "1"]


def test_only_looking_at_what_was_restored_changes_nothing(tmp_path: Path) -> None:
    python(
        tmp_path,
        DRIVER
        + """
cell("class P: pass\\np = P(); p.name = 'abc'; p.tags = {'abc': ['x', 'abc']}\\ndef look(): return len(p.tags)")
cell("p.name = 'other'")
cell("%dvc_state undo")
cell("n = look()")
""",
    )
    newest = json.loads(command(tmp_path, "log", "--json"))["items"][0]
    assert (newest["added"], newest["modified"]) == (["n"], [])
    assert newest["refs"] == ["main"]


LIVING = """
while line := sys.stdin.readline():
    if line.startswith("cell "):
        cell(line[5:])
        dartvc.session().flush()
    print(json.dumps([dartvc.session().branch, dartvc.session().head, shell.user_ns.get("x"), shell.user_ns.get("kept")]), flush=True)
"""


class Living:
    """A session in a process of its own: `cell` runs code in it, `look` says where it stands."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER + LIVING], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _say(self, line: str) -> list[Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        for answer in self.process.stdout:
            if answer.startswith("["):
                return list(json.loads(answer))
        raise AssertionError("the session ended")

    def cell(self, code: str) -> list[Any]:
        return self._say(f"cell {code}")

    def look(self) -> list[Any]:
        return self._say("look")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0


def test_two_living_sessions_and_a_terminal_that_moves_undoes_and_collects_lose_nothing(tmp_path: Path) -> None:
    first = Living(tmp_path)
    made = [first.cell("x = 0; kept = 'first'")[1]]
    second = Living(tmp_path)
    made.append(second.cell("x = 100; kept = 'second'")[1])
    assert first.look()[0] != second.look()[0]
    ids = {each["pid"]: each["id"] for each in json.loads(command(tmp_path, "status", "--json"))["sessions"]}
    one, two = ids[first.process.pid], ids[second.process.pid]
    for number in range(1, 4):
        made.append(first.cell(f"x = {number}")[1])
        command(tmp_path, "--session", two, "checkout", made[1])
        made.append(second.cell(f"x = {100 + number}")[1])
        before = first.look()
        command(tmp_path, "--session", two, "undo")
        command(tmp_path, "gc")
        assert first.look() == before
        command(tmp_path, "--session", one, "undo")
        assert first.look()[2:] == [number - 1, "first"]
        command(tmp_path, "--session", one, "redo")
        assert first.look() == before
        assert second.look()[3] == "second"
    first.end()
    second.end()
    assert command(tmp_path, "fsck")
    for commit in made:
        assert "x" in command(tmp_path, "show", commit)

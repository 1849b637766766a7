"""What is left of a program that an exception ended: the traceback, its frames with their variables, and a shell in each of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dartvc.history import RefMove, Repository
from dartvc.model import CommitKind, StagedCommit, StagedName
from dartvc.program.frames import is_supported
from dartvc.store import Head

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

HELPER = """
FACTOR = 10
class Thing:
    def __init__(self, n):
        self.n = n
    def divide(self, by):
        inner = [self.n] * 3
        return inner[0] / by
def scaled(x):
    return x * FACTOR
"""
SCRIPT = """
import threading
from helper import Thing, scaled
rate = 7
def area(x):
    return x * rate
def call(thing, data):
    lock = threading.Lock()
    return thing.divide(len(data) - 3)
def main(n):
    data = list(range(n))
    alias = data
    thing = Thing(5)
    for step in range(3):
        data.append(step)
    if n == 0:
        return call(thing, data)
    try:
        call(thing, [1, 2, 3])
    except ZeroDivisionError as error:
        raise ValueError(f"bad {n}") from error
"""


def command(*words: str, cwd: Path, stdin: str = "", environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    present = {**os.environ, "PYTHONHASHSEED": "7", "IPYTHONDIR": str(cwd / "ipython"), "NO_COLOR": "1", **(environment or {})}
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    return subprocess.run(line, cwd=cwd, env=present, capture_output=True, text=True, input=stdin, timeout=120)


def failed(folder: Path, end: str = "main(0)\n", script: str = SCRIPT) -> Path:
    (folder / "helper.py").write_text(HELPER)
    (folder / "s.py").write_text(script + end)
    done = command("run", "s.py", cwd=folder)
    assert done.returncode == 1, done.stderr
    return folder


def shown(folder: Path, revision: str = "HEAD") -> dict[str, Any]:
    done = command("show", revision, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def inside(folder: Path, code: str, *words: str) -> str:
    done = command("shell", *words, "-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_uncaught_exception_leaves_its_traceback_and_the_variables_of_its_frames(tmp_path: Path) -> None:
    folder = failed(tmp_path)
    found = shown(folder)
    plain = subprocess.run([sys.executable, "s.py"], cwd=folder, capture_output=True, text=True)
    assert found["traceback"] == plain.stderr.replace('"s.py"', f'"{folder / "s.py"}"')
    assert found["commit"]["kind"] == "exception" and found["commit"]["error"] == "ZeroDivisionError: division by zero"
    frames = [(frame["function"], frame["source"], sorted(frame["locals"])) for frame in found["frames"]]
    assert frames == [
        ("<module>", "main(0)", []),
        ("main", "return call(thing, data)", ["alias", "data", "n", "step", "thing"]),
        ("call", "return thing.divide(len(data) - 3)", ["data", "lock", "thing"]),
        ("Thing.divide", "return inner[0] / by", ["by", "inner", "self"]),
    ]
    text = command("show", cwd=folder).stdout
    assert "frame 3  helper.py:8 in Thing.divide: return inner[0] / by" in text and "    inner  list [5, 5, 5]" in text


def test_a_shell_stands_in_any_frame_with_what_its_code_saw(tmp_path: Path) -> None:
    folder = failed(tmp_path)
    assert inside(folder, "print(inner, by, self.n, FACTOR, scaled(2))") == "[5, 5, 5] 0 5 10 20\n"
    assert inside(folder, "print(data is alias, thing.n, area(2), n)", "HEAD", "--frame", "1") == "True 5 14 0\n"
    assert "not_there" in command("shell", "-c", "not_there", cwd=folder).stderr
    refused = command("shell", "--frame", "9", cwd=folder)
    assert refused.returncode == 3 and "has 4" in refused.stderr


def test_what_cannot_be_stored_is_named_and_costs_nothing_else(tmp_path: Path) -> None:
    folder = failed(tmp_path, end="import socket\ndef hold(x):\n    held = socket.socket()\n    main(x)\nhold(0)\n")
    assert inside(folder, "print(x, 'held' in dir())", "--frame", "1") == "0 False\n"
    assert "not there: hold().held: " in command("shell", cwd=folder).stdout


def test_exceptions_that_led_to_it_keep_the_frames_that_only_they_had(tmp_path: Path) -> None:
    folder = failed(tmp_path, end="main(2)\n")
    frames = [(frame["function"], frame["error"]) for frame in shown(folder)["frames"]]
    cause = "ZeroDivisionError: division by zero"
    assert frames == [("<module>", ""), ("main", ""), ("call", cause), ("Thing.divide", cause)]
    assert inside(folder, "print(n, data)") == "2 [0, 1, 0, 1, 2]\n"
    assert inside(folder, "print(inner)", "--frame", "3") == "[5, 5, 5]\n"


def test_a_prompt_moves_between_frames_and_keeps_what_is_bound_there(tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="IPython is not installed")
    folder = failed(tmp_path, end="main(2)\n")
    profile = folder / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text('c.InteractiveShellApp.extensions.append("dartvc")\nc.InteractiveShell.colors = "nocolor"\n')
    before = contents(folder)
    typed = "frames()\nrate = 100\nn = 77\ndata.append(9)\n%up\narea(1), 'n' in dir()\n%down\nn, data\nframe(3)\ninner\nframe(8)\nfresh = 1\n%frame 0\nfresh\n"
    done = command("shell", "HEAD", cwd=folder, stdin=typed)
    assert done.returncode == 0, done.stderr
    for text in ("(100, False)", "(77, [0, 1, 0, 1, 2, 9])", "[5, 5, 5]", "there is no frame 8", "> frame 1  s.py:21 in main: raise ValueError"):
        assert text in done.stdout, done.stdout
    assert "NameError" in done.stdout.rpartition("> frame 0  s.py:22")[2]  # it was bound in the globals of helper.py
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file of a project but IPython's own."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "ipython" not in path.parts and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_without_ipython_python_s_own_prompt_does_the_same(tmp_path: Path) -> None:
    folder = failed(tmp_path, end="main(2)\n")
    (folder / "none").mkdir()
    (folder / "none" / "IPython.py").write_text("raise ImportError('IPython')\n")
    environment = {"PYTHONPATH": f"{folder / 'none'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = command("shell", cwd=folder, stdin="n = 5\nup()\ndown()\nn\nrate = 3\narea(2)\n", environment=environment)
    assert done.returncode == 0 and "pip install dartvc[notebook]" in done.stderr
    assert "5\n" in done.stdout and "6\n" in done.stdout


def test_modules_are_as_they_were_whatever_their_files_say_now(tmp_path: Path) -> None:
    folder = failed(tmp_path, end="import helper\nhelper.FACTOR = 11\nmain(0)\n")
    (folder / "helper.py").write_text("raise SystemExit('edited since')\n")
    assert inside(folder, "print(scaled(2), self.n)") == "22 5\n"
    (folder / "helper.py").unlink()
    assert inside(folder, "print(scaled(2), self.n)") == "22 5\n"
    assert not (folder / "helper.py").exists()


def test_a_safe_point_has_frames_too(tmp_path: Path) -> None:
    script = (
        "import os, signal\ndef work(n):\n    total = 0\n    out = open('out.txt', 'w')\n    for i in range(n):\n        total += i\n        if i == 2:\n"
        "            os.kill(os.getpid(), signal.SIGUSR1)\n    out.write('x')\n    out.close()\n    return total\nprint(work(5))\n"
    )
    (tmp_path / "s.py").write_text(script)
    assert command("run", "s.py", cwd=tmp_path).stdout == "10\n"
    frames = shown(tmp_path, "HEAD~1")["frames"]
    assert [(frame["function"], frame["line"]) for frame in frames[:2]] == [("<module>", 12), ("work", 5)]
    assert frames[0]["source"] == "print(work(5))" and frames[1]["locals"]["total"]["type"] == "int"
    before = contents(tmp_path)
    assert inside(tmp_path, "print(total, i, work.__name__, out.readable())", "HEAD~1") == "3 2 work True\n"
    assert contents(tmp_path) == before and before["out.txt"] == b"x"


def test_a_resumed_run_leaves_the_same_frames(tmp_path: Path) -> None:
    once = "import os\ndef end_once():\n    if not os.path.exists('once'):\n        open('once', 'w').close()\n        os.kill(os.getpid(), 15)\n    return 1\n"
    script = once + SCRIPT.replace("data.append(step)\n", "data.append(step)\n        end_once()\n")
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "s.py").write_text(script + "main(0)\n")
    assert command("run", "s.py", cwd=tmp_path).returncode == -signal.SIGTERM
    resumed = command("resume", cwd=tmp_path)
    assert resumed.returncode == 1 and "ZeroDivisionError" in resumed.stderr
    found = shown(tmp_path)
    assert [frame["function"] for frame in found["frames"]] == ["<module>", "main", "call", "Thing.divide"] and "dartvc" not in found["traceback"]
    assert inside(tmp_path, "print(sorted(name for name in dir() if not name.startswith('__'))[-3:], alias is data)", "--frame", "1").endswith("True\n")


def test_of_a_very_deep_stack_the_ends_are_kept(tmp_path: Path) -> None:
    folder = failed(tmp_path, script="", end="def down(depth):\n    return down(depth + 1)\ndown(0)\n")
    found = shown(folder)
    assert len(found["frames"]) == 100 and "previous line repeated" in found["traceback"].lower()
    assert inside(folder, "print(depth)", "--frame", "1") == "0\n" and int(inside(folder, "print(depth)")) > 900
    assert "frames between them were not kept" in command("show", cwd=folder).stdout


def test_an_exception_whose_text_fails_is_committed_all_the_same(tmp_path: Path) -> None:
    folder = failed(tmp_path, script="", end="class Bad(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise Bad\n")
    assert "its text raises an exception" in shown(folder)["commit"]["error"]


def test_a_stranger_s_commit_is_shown_and_opened_only_with_trust(tmp_path: Path) -> None:
    folder = failed(tmp_path)
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path / "other")}
    assert "frame 3" in command("show", cwd=folder, environment=elsewhere).stdout
    refused = command("shell", "-c", "print(inner)", cwd=folder, environment=elsewhere)
    assert refused.returncode == 4 and "--trust" in refused.stderr and not refused.stdout
    assert command("shell", "--trust", "-c", "print(inner)", cwd=folder, environment=elsewhere).stdout == "[5, 5, 5]\n"


def test_a_commit_without_frames_gives_its_namespace(tmp_path: Path) -> None:
    code = "import dartvc\nns = {'__name__': '__main__'}\nexec('x = [1]\\ndef f(): return x', ns)\ndartvc.init('.').commit(ns, 'by hand')\n"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert inside(tmp_path, "print(f() is x, x)") == "True [1]\n"
    assert command("shell", "--frame", "0", cwd=tmp_path).returncode == 3


def test_a_checkout_of_the_end_of_a_run_brings_its_own_names_only(tmp_path: Path) -> None:
    folder = failed(tmp_path)
    code = "import dartvc, sys\nns = {'__name__': '__main__'}\ndartvc.open('.').checkout('HEAD', ns)\nprint(sorted(n for n in ns if '.' in n), ns['rate'])\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "[] 7\n", done.stderr


@pytest.mark.parametrize("record", [{}, {"frames": 3, "text": 5, "left_out": "x"}, {"frames": [{"function": "f"}], "text": "\x1b[31mred"}, {"frames": [1]}])
def test_a_record_of_frames_that_says_nonsense_is_shown_without_them(tmp_path: Path, record: dict[str, object]) -> None:
    repository = Repository.init(tmp_path)
    entries = [StagedName("traceback", record, None), StagedName("effects", {"items": [record]}, None), StagedName("position", record, None)]
    writer = repository.writer()
    staged = StagedCommit("nonsense", CommitKind.EXCEPTION, 1.7e9, 0, process=tuple(entries), error="ValueError: x", run="r")
    oid = writer.write(staged, ())
    writer.publish()
    repository.move_refs([RefMove("refs/heads/main", None, oid)], operation="commit", description="", head=Head("refs/heads/main", oid))
    for words in (("show",), ("show", "--json"), ("status",)):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 0 and "\x1b" not in done.stdout, done.stderr

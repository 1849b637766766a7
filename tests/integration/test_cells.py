"""Cells of living shells: committed while they run, killed, continued inside. They ask for the commit and kill themselves: nothing is timed."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dartvc.history import Repository
from dartvc.program.frames import is_supported

pytest.importorskip("IPython")
pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

SHELL = """
import os, signal, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config(); config.HistoryManager.enabled = False; config.InteractiveShell.colors = "nocolor"
shell = InteractiveShell.instance(config=config)
def cell(code):
    result = shell.run_cell(code, store_history=True)
    sys.stdout.flush()
    return result
cell("%load_ext dartvc")
import dartvc
"""

ASK = '''
def commit_at(place):
    """Commits where it is called, once asked for; the process does not outlive the commit."""
    import os, signal
    if os.environ.get("TEST_DIE") != place:
        return
    import dartvc
    get_ipython()._dartvc_shim.cells.request()
    for _ in range(3):
        pass
    dartvc.session().flush()
    if os.environ.get("TEST_DIE") != place:
        return
    print("lost", flush=True)
    with open("log.txt", "a") as lost:
        lost.write("lost ")
    os.kill(os.getpid(), signal.SIGKILL)
'''

SETUP = """
from __future__ import annotations
import random, helper
random.seed(5)
class Trainer:
    def __init__(self):
        self.seen = []
    def fit(self, batches):
        def step(number: int):
            self.seen.append(number)
            with open("log.txt", "a") as log:
                log.write(f"{number} ")
            commit_at(str(number))
            return helper.scale(number)
        total = 0.0
        for batch in batches:
            total += step(batch) + random.random()
        return total
def batches(n):
    for i in range(n):
        yield 2 * i
"""

LONG = """
trainer = Trainer()
total = 0.0
for epoch in range(3):
    total += trainer.fit(batches(4)) + 1
    print("epoch", epoch, round(total, 6))
%time shown = 1
if total:
    trainer.fit([10, 11])
    total += 1
(first, second) = total, trainer.fit([30])
round(total + trainer.fit([20, 21]), 6)
"""

HELPER = "calls = []\ndef scale(x):\n    calls.append(x)\n    return 3 * x\n"
CELLS = [ASK, SETUP, LONG]
RUN = SHELL + f"for code in {CELLS!r}:\n    result = cell(code)\n"
STATE = """
space = shell.user_ns
print(result.success, result.result, space["total"], space["second"], space["trainer"].seen, len(space["helper"].calls), space["random"].random())
"""
RESUME = SHELL + 'result = cell("%dvc_state resume")\n'


def environment(folder: Path, die: str = "") -> dict[str, str]:
    settled = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython"), "TEST_DIE": die}
    return {**os.environ, **settled, "NO_COLOR": "1"}


def python(folder: Path, code: str, *, die: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a program in a folder; it has to end by itself, or to die where it was asked to."""
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(HELPER)
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment(folder, die), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == (-signal.SIGKILL if die else 0), (done.stdout, done.stderr)
    return done


def command(folder: Path, *words: str) -> str:
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    return subprocess.run(line, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=120, check=True).stdout


def log(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads(command(folder, "log", "--json"))["items"])


def printed(text: str) -> str:
    """What the program itself printed."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("lost", "CPU times", "Wall time", "Out[")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("cells") / "plain"
    return printed(python(folder, RUN + STATE).stdout), (folder / "log.txt").read_text()


@pytest.mark.parametrize("place", ["4", "10", "30", "20"])
def test_a_killed_cell_goes_on_inside_and_ends_as_the_undisturbed_one(tmp_path: Path, undisturbed: tuple[str, str], place: str) -> None:
    folder = tmp_path / "project"
    killed = python(folder, RUN, die=place)
    standing = log(folder)[0]
    assert (standing["kind"], standing["position"]["function"]) == ("auto", "commit_at")
    assert standing["position"]["file"].startswith("In[")
    resumed = python(folder, RESUME + STATE)
    assert printed(killed.stdout) + printed(resumed.stdout) == undisturbed[0]
    assert (folder / "log.txt").read_text() == undisturbed[1]
    assert f"dartvc: a cell was interrupted at {standing['position']['file']}" in resumed.stderr


@pytest.mark.parametrize("place", ["0", "4", "11", "21"])
def test_a_killed_cell_goes_on_inside_where_reuse_is_on(tmp_path: Path, undisturbed: tuple[str, str], place: str) -> None:
    folder = tmp_path / "work"
    killed = python(folder, RUN.replace("for code", 'cell("%dvc_state reuse on")\nfor code', 1), die=place)
    [first, *_] = log(folder)
    assert first["position"]["function"] == "commit_at"
    resumed = python(folder, RESUME + STATE)
    assert printed(killed.stdout.partition("saved\n")[2]) + printed(resumed.stdout) == undisturbed[0]
    assert (folder / "log.txt").read_text() == undisturbed[1]


def test_submodules_that_a_cell_imported_are_there_in_another_kernel(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    python(folder, SHELL + 'cell("import xml.dom.minidom, json")\ncell("text = 5")\n')
    again = python(folder, SHELL + 'cell("%dvc_state checkout main")\nprint(cell("xml.dom.minidom.__name__").result)\n')
    assert "xml.dom.minidom" in again.stdout.splitlines(), again.stderr


def test_a_cell_that_is_killed_again_and_again_goes_on_each_time(tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    folder = tmp_path / "project"
    output = printed(python(folder, RUN, die="6").stdout)
    for place in ("11", "20", "21"):
        output += printed(python(folder, RESUME, die=place).stdout)
    output += printed(python(folder, RESUME + STATE).stdout)
    assert (output, (folder / "log.txt").read_text()) == undisturbed
    commits = log(folder)
    assert [each["kind"] for each in commits[:6]] == ["cell", "auto", "auto", "auto", "auto", "cell"]
    assert all(first["parents"] == [second["oid"]] for first, second in itertools.pairwise(commits))
    assert "trainer = Trainer()" in command(folder, "show", "HEAD")


def test_the_commit_after_the_cell_holds_no_locals(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    python(folder, RUN, die="4")
    history = Repository.open(folder)
    inside = history.names(history.resolve("HEAD"))
    python(folder, RESUME)
    history = Repository.open(folder)
    after = history.names(history.resolve("HEAD"))
    assert "Trainer.fit().total" in inside and {"trainer", "second", "total"} <= set(after)
    assert not [name for name in after if "." in name]


def test_a_cell_that_was_committed_inside_is_undone_as_a_whole_and_redone(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    python(folder, RUN, die="4")
    before = log(folder)[1]["oid"]
    out = python(
        folder,
        RESUME + 'after = dartvc.session().head\ncell("%dvc_state undo")\nprint("U", dartvc.session().head, "total" in shell.user_ns)\n'
        'cell("%dvc_state redo")\nprint("R", dartvc.session().head == after, "total" in shell.user_ns)\n',
    ).stdout
    assert f"U {before} False" in out and "R True True" in out


def test_undo_after_a_kill_goes_back_to_before_the_cell(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    python(folder, RUN, die="4")
    before = log(folder)[1]["oid"]
    out = python(
        folder, SHELL + 'cell("%dvc_state undo")\nprint("U", dartvc.session().head, "total" in shell.user_ns, "Trainer" in shell.user_ns)\n'
    )
    assert f"U {before} False True" in out.stdout


def test_a_cell_goes_on_from_an_earlier_commit_beside_what_was_done_since(tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    folder = tmp_path / "project"
    killed = python(folder, RUN, die="4")
    inside = log(folder)[0]["oid"]
    other = 'cell("total = -1")\nother = dartvc.session().head\nprint("HERE")\n'
    going = f'result = cell("%dvc_state resume {inside}")\n' + STATE + 'print("B", dartvc.session().branch, other)\n'
    out = python(folder, SHELL + other + going).stdout.partition("HERE\n")[2]
    after, _, rest = out.partition("B ")
    branch, oid = rest.split()
    assert printed(killed.stdout) + printed(after) == undisturbed[0]
    assert branch != "main" and oid in {each["oid"] for each in json.loads(command(folder, "log", "--json", "--all"))["items"]}


def test_other_commands_leave_the_interrupted_cell_where_it_is(tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    folder = tmp_path / "project"
    killed = python(folder, RUN, die="4")
    out = python(
        folder,
        SHELL + 'cell("%dvc_state log --oneline")\ncell("%dvc_state status")\nprint("HERE")\nresult = cell("%dvc_state resume")\n' + STATE,
    )
    assert printed(killed.stdout) + printed(out.stdout.partition("HERE\n")[2]) == undisturbed[0]


def test_an_exception_in_a_resumed_cell_is_told_as_in_any_cell(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    work = "def work():\n    for i in range(9):\n        commit_at(str(i))\n        if i == 6:\n            raise ValueError('seven')\n"
    python(folder, SHELL + f"for code in {[ASK, work, 'x = 1' + chr(10) + 'work()']!r}:\n    cell(code)\n", die="4")
    out = python(folder, RESUME + 'print("E", repr(result.error_in_exec))\n').stdout
    assert "E ValueError('seven')" in out
    assert "----> 2 work()" in out and "raise ValueError('seven')" in out and "resuming.py" not in out
    newest = log(folder)[0]
    assert newest["kind"] == "exception"


def test_ctrl_c_ends_a_resumed_cell(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    work = (
        "import os, signal\ndone = []\ndef work():\n    for i in range(9):\n        commit_at(str(i))\n"
        "        if i == 6:\n            os.kill(os.getpid(), signal.SIGINT)\n        done.append(i)\n"
    )
    python(folder, SHELL + f"for code in {[ASK, work, 'work()']!r}:\n    cell(code)\n", die="4")
    out = python(folder, RESUME + 'print("E", repr(result.error_in_exec), shell.user_ns["done"])\n').stdout
    assert "E KeyboardInterrupt() [0, 1, 2, 3, 4, 5]" in out
    assert log(folder)[0]["kind"] == "exception"


def test_a_last_value_with_a_semicolon_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    python(folder, SHELL + f"cell({ASK!r})\ncell('x = 5\\n(x, commit_at(\"here\"));')\n", die="here")
    assert "Out[" not in python(folder, RESUME).stdout


def test_magics_and_awaiting_cells_have_no_safe_points_and_run_as_ever(tmp_path: Path) -> None:
    ask = "def ask():\n    get_ipython()._dartvc_shim.cells.request()\n    for _ in range(3):\n        pass\n"
    timed = "%%time\nx = 1\nask()\ny = 2"
    waits = "import asyncio\nask()\nawait asyncio.sleep(0)\nz = 3"
    python(tmp_path / "p", SHELL + f"for code in {[ask, timed, waits]!r}:\n    assert cell(code).success\n")
    commits = log(tmp_path / "p")
    assert [each["kind"] for each in commits] == ["cell"] * len(commits)
    assert {"x", "y", "z"} <= {name for each in commits for name in each["added"]}


def test_resume_without_an_interrupted_cell_brings_the_state_back(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    python(folder, SHELL + 'cell("x = [1, 2]")\n')
    out = python(folder, RESUME + 'print("X", shell.user_ns["x"], result.success)\n')
    assert "X [1, 2] True" in out.stdout and "stands at the end of a cell" in out.stderr


def test_resume_beside_other_code_says_what_to_type(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    python(folder, RUN, die="4")
    head = log(folder)[0]["oid"]
    out = python(folder, SHELL + 'result = cell("y = 1\\n%dvc_state resume")\nprint("E", result.error_in_exec)\n')
    assert "a cell goes on in a cell of its own" in out.stdout + out.stderr
    resumed = python(folder, SHELL + f'result = cell("%dvc_state resume {head}")\n' + STATE)
    assert "True" in resumed.stdout


def test_a_local_that_cannot_be_stored_leaves_the_commit_that_could_be_made_outside(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    work = (
        "def work(n):\n    import _thread\n    if n == 2:\n        lock = _thread.allocate_lock()\n        lock.acquire()\n"
        "    ask(n)\n    return n\n"
    )
    asked = (
        "import os, signal, dartvc\ndef ask(n):\n    get_ipython()._dartvc_shim.cells.request()\n    for _ in range(3):\n        pass\n"
        "    dartvc.session().flush()\n    if os.environ.get('TEST_DIE') == str(n):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    python(
        folder,
        SHELL + f"for code in {[asked, work, 'done = []' + chr(10) + 'for n in range(4): done.append(work(n))']!r}:\n    cell(code)\n",
        die="2",
    )
    assert "work().lock" in {name for name, entry in _names(folder) if entry.payload_oid is None}
    out = python(folder, RESUME + 'print("D", shell.user_ns["done"], dartvc.session().branch)\n')
    assert "D [0, 1, 2, 3] main" in out.stdout, (out.stdout, out.stderr)


def _names(folder: Path) -> Any:
    history = Repository.open(folder)
    return history.names(history.resolve("HEAD")).items()


def test_a_changed_module_is_refused_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    helper = "def run(ask):\n    total = 1\n    ask('here')\n    return total\n"
    (tmp_path / "project").mkdir()
    (folder / "work.py").write_text(helper)
    python(folder, SHELL + f"cell({ASK!r})\ncell('import work')\ncell('value = work.run(commit_at)')\n", die="here")
    (folder / "work.py").write_text(helper.replace("total = 1", "total = 2 + 3"))
    out = python(folder, RESUME + 'print("E", result.error_in_exec, "value" in shell.user_ns)\n')
    assert "is not the code that ran" in out.stdout and "False" in out.stdout
    (folder / "work.py").write_text(helper)
    assert "V 1" in python(folder, RESUME + 'print("V", shell.user_ns["value"])\n').stdout


def test_a_real_kernel_that_is_killed_inside_a_cell_goes_on_inside_it(tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    pytest.importorskip("ipykernel")
    manager_module = pytest.importorskip("jupyter_client.manager")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text(HELPER)

    def run(cells: list[str], die: str) -> tuple[str, bool]:
        """Runs cells in a fresh kernel; returns what they showed, and whether the kernel lives to the end."""
        manager = manager_module.KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(folder), env=environment(folder, die))
        client = manager.client()
        client.start_channels()
        text: list[str] = []
        try:
            client.wait_for_ready(timeout=60)
            is_alive = all(_run_in(manager, client, code, text) for code in cells)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        return "".join(text), is_alive

    shown = "import json; print('SHOWN', json.dumps([total, second, trainer.seen, len(helper.calls), random.random()]))"
    killed, is_alive = run(["%load_ext dartvc", *CELLS], "4")
    assert not is_alive, killed
    out, is_alive = run(["%load_ext dartvc", "%dvc_state resume", shown], "")
    assert is_alive, out
    assert "a cell was interrupted at In[" in out
    assert printed(killed).partition("epoch")[1] == "" and "epoch 0" in out and "epoch 2" in out
    assert (folder / "log.txt").read_text() == undisturbed[1]
    success, result, total, second, *seen, calls, drawn = undisturbed[0].splitlines()[-1].split()
    assert success == "True" and result in out
    assert json.loads(out.rpartition("SHOWN ")[2]) == [float(total), float(second), json.loads(" ".join(seen)), int(calls), float(drawn)]


def _run_in(manager: Any, client: Any, code: str, text: list[str]) -> bool:
    """Runs a cell in a kernel and waits until it is over; False when the kernel died in it."""
    identity = client.execute(code)
    while True:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            if not manager.is_alive():
                return False
            continue
        content = message["content"]
        if message["parent_header"].get("msg_id") != identity:
            continue
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return True
        text.append(content.get("text", "") or content.get("data", {}).get("text/plain", "") or "\n".join(content.get("traceback", ())))


def test_a_value_of_a_cell_that_awaits_is_made_again(tmp_path: Path) -> None:
    cells = ["import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n    return 2 * n", "res = await f(4)", "%dvc_state lineage res --recompute"]
    done = python(tmp_path / "project", SHELL + f"for code in {cells!r}:\n    cell(code)\n")
    assert "res: the same value" in done.stdout


def test_resume_after_a_look_names_the_commit_of_the_interrupted_cell(tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    folder = tmp_path / "project"
    killed = python(folder, RUN, die="4")
    inside = log(folder)[0]["oid"]
    looked = python(folder, SHELL + 'cell("trainer.seen")\ncell("%dvc_state resume")\n')
    assert f"%dvc_state resume {inside[:8]} goes on inside it" in looked.stderr
    resumed = python(folder, SHELL + f'print("HERE")\nresult = cell("%dvc_state resume {inside[:8]}")\n' + STATE)
    assert printed(killed.stdout) + printed(resumed.stdout.partition("HERE\n")[2]) == undisturbed[0]
    after = python(folder, SHELL + 'cell("y = 1")\ncell("%dvc_state resume")\n')
    assert "stands at the end of a cell" in after.stderr and "interrupted" not in after.stderr


def test_loaded_after_other_cells_the_extension_names_the_last_state(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    die = "import os, signal, dartvc\ndartvc.session().flush()\nos.kill(os.getpid(), signal.SIGKILL)"
    python(folder, SHELL + f'cell("x = [1, 2]")\ncell({die!r})\n', die="yes")
    head = log(folder)[0]["oid"]
    late = SHELL.replace('cell("%load_ext dartvc")', 'cell("import math")\ncell("%load_ext dartvc")')
    out = python(folder, late + f'cell("y = 1")\ncell("%dvc_state checkout {head[:8]}")\nprint("X", shell.user_ns["x"])\n')
    assert f"Bring back the last state: %dvc_state checkout {head[:8]}" in out.stderr and "X [1, 2]" in out.stdout
    again = python(folder, SHELL + f'cell("%dvc_state checkout {head[:8]}")\ncell("%reload_ext dartvc")\n')
    assert again.stderr.count("recording in") == 2 and again.stderr.count("Bring back") == 1, again.stderr

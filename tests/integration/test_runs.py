"""Unmodified scripts: run, killed, resumed. The scripts kill themselves at chosen places, so that nothing depends on timing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.history import Repository
from dartvc.program.frames import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

COMMIT = """
def commit_and_die():
    import os, signal
    if os.environ.get("TEST_PLAIN"):
        return
    import dartvc
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(3):
        pass
    dartvc.session().flush()
    if os.environ.get("TEST_DIE"):
        print("lost", flush=True)
        with open("log.txt", "a") as lost:
            lost.write("lost ")
        os.kill(os.getpid(), signal.SIGKILL)
"""

SCRIPT = """
import random
from helper import scale, calls
random.seed(5)
numbers = {"a", "b", "c", "d", "e"}
def work(n, out):
    total = 0.0
    for i in range(n):
        total += scale(random.random())
        if i == 3 and stage == 2:
            commit_and_die()
        out.write(f"{i} {total:.6f}\\n")
    return total
results = []
with open("out.txt", "w") as out:
    for stage in range(4):
        results.append(work(6, out))
        with open("log.txt", "a") as log:
            log.write(f"stage {stage}\\n")
        print("stage", stage, round(results[-1], 6), sorted(numbers), flush=True)
print("sum", round(sum(results), 6), len(calls))
"""

HELPER = 'print("imported")\ncalls = []\ndef scale(x):\n    calls.append(x)\n    return 2 * x\n'


def command(*words: str, cwd: Path, die: bool | str = False, check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    environment.pop("TEST_DIE", None)
    if die:
        environment["TEST_DIE"] = die if isinstance(die, str) else "1"
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=check, timeout=120)


def project(folder: Path, script: str = SCRIPT) -> Path:
    folder.mkdir()
    (folder / "train.py").write_text(COMMIT + script)
    (folder / "helper.py").write_text(HELPER)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.fixture
def plain(tmp_path: Path) -> tuple[str, dict[str, str]]:
    folder = project(tmp_path / "plain")
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env={**os.environ, "PYTHONHASHSEED": "7", "TEST_PLAIN": "1"}, capture_output=True, text=True, check=True
    )
    return done.stdout, contents(folder)


def log(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads(command("log", "--json", cwd=folder, check=True).stdout)["items"])


def printed_alike(folder: Path, script: str) -> str:
    """Runs a script to its end, and another time to its death; what follows the resume must be all that the first printed, which is returned."""
    whole = command("run", "train.py", cwd=project(folder / "whole", script))
    killed = project(folder / "run", script)
    assert command("run", "train.py", cwd=killed, die=True).returncode == -signal.SIGKILL
    resumed = command("resume", cwd=killed)
    assert (resumed.returncode, resumed.stdout) == (0, whole.stdout), whole.stderr + resumed.stderr
    return whole.stdout


def test_a_run_prints_and_writes_what_python_does(tmp_path: Path, plain: tuple[str, dict[str, str]]) -> None:
    folder = project(tmp_path / "run")
    done = command("run", "train.py", cwd=folder)
    assert (done.returncode, done.stdout, contents(folder)) == (0, *plain), done.stderr
    assert log(folder)[0]["kind"] == "end"


def test_a_killed_run_goes_on_in_the_middle_of_a_function_and_ends_exactly(tmp_path: Path, plain: tuple[str, dict[str, str]]) -> None:
    folder = project(tmp_path / "run")
    killed = command("run", "train.py", cwd=folder, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    standing = log(folder)[0]
    assert standing["position"]["function"] == "commit_and_die" and standing["run"]
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert killed.stdout.replace("lost\n", "") + resumed.stdout == plain[0]
    assert contents(folder) == plain[1]


WORKLIST = """
remaining = set(range(300)) | {f"task {i}" for i in range(40)}
def step(done):
    for _ in range(7):
        done.append(remaining.pop())
    remaining.difference_update(list(remaining)[:20])
    remaining.update({len(done) * 8, f"new {len(done)}"})
done = []
while len(remaining) > 7:
    step(done)
    if len(done) == 35:
        commit_and_die()
print(done, list(remaining))
"""


def test_a_set_is_worked_off_in_the_order_of_a_run_that_nothing_interrupted(tmp_path: Path) -> None:
    printed_alike(tmp_path, WORKLIST)


SUBMODULES = """
import json, xml.dom.minidom
try: import concurrent.futures, logging.handlers as handlers
finally: pass
def load():
    import wsgiref.headers
    import email.mime.text
    commit_and_die()
    print(wsgiref.headers.__name__, email.mime.text.__name__)
load()
import wsgiref
print(xml.dom.minidom.__name__, concurrent.futures.__name__, wsgiref.headers.__name__)
"""


def test_submodules_that_are_reached_through_their_package_are_there_again(tmp_path: Path) -> None:
    printed = printed_alike(tmp_path, SUBMODULES)
    assert printed.count("minidom") == 1


HELD = """
import weakref
class Item:
    pass
alive = weakref.WeakValueDictionary()
def turn(number, item):
    alive[number] = item
    if number == 1:
        commit_and_die()
item = None
for number in range(4):
    item = Item()
    item.parts = [Item()]
    alive[-number - 1] = item.parts[0]
    turn(number, item)
del item
print(sorted(alive))
"""


def test_a_resumed_program_lets_go_what_it_was_given(tmp_path: Path) -> None:
    folder = project(tmp_path / "run", HELD)
    assert command("run", "train.py", cwd=folder, die=True).returncode == -signal.SIGKILL
    resumed = command("resume", cwd=folder)
    assert (resumed.returncode, resumed.stdout) == (0, "[]\n"), resumed.stderr


CACHED = """
import functools, random, threading
from tables import table
@functools.lru_cache
def get_random(): return random.Random(0)
@functools.cache
def registry(): return {}
@functools.cache
def client(): return threading.Thread(target=print)
class Service:
    @classmethod
    @functools.lru_cache
    def instance(cls):
        print("made")
        return cls()
    n = 0
for i in range(6):
    Service.instance().n += 1
    registry()[i] = get_random().random()
    table("x").append(str(i))
    client()
    if i == 2:
        commit_and_die()
    if i == 3:
        client.cache_clear()
print(registry(), Service.instance().n, table("x"), get_random.cache_info(), registry.cache_info(), table.cache_info())
"""


def test_what_functions_have_cached_is_there_again(tmp_path: Path) -> None:
    printed = []
    for name, dies in (("whole", False), ("run", True)):
        folder = project(tmp_path / name, CACHED)
        (folder / "tables.py").write_text("import functools\n@functools.cache\ndef table(name):\n    print('filled')\n    return []\n")
        printed.append(command("run", "train.py", cwd=folder, die=dies))
    resumed = command("resume", cwd=folder)
    assert (resumed.returncode, printed[1].stdout.replace("lost\n", "") + resumed.stdout) == (0, printed[0].stdout), resumed.stderr
    assert "made" not in resumed.stdout


EXPRESSIONS = """
from squares import squares, skip
rate = (0.5 ** k for k in range(100) if k % 3)
fresh = (x.upper() for x in "abc")
over = (x for x in ())
list(over)
sums = (sum([x for x in range(y)]) for y in range(9))
def odd(n):
    yield from range(n)
gone = odd(2)
list(gone)
def make(factor):
    scaled = (factor * x for x in iter(range(10)))
    def more():
        nonlocal factor
        factor += 1
        return next(scaled)
    return more
more = make(3)
skip()
found = [next(rate), next(sums), next(sums), more(), more()]
def work():
    inner = (x * x for x in found)
    found[0] += next(inner)
    for x in (y + 1 for y in (3, 4, 5)):
        if x == 5:
            commit_and_die()
        found.append(x)
    return sum(inner)
found.append(work())
print(found, more(), more(), next(rate), list(sums), list(fresh), list(over), list(gone), list(squares))
print(rate.__qualname__, gone.__qualname__, more())
"""


def test_generator_expressions_go_on_with_the_item_that_came_next(tmp_path: Path) -> None:
    printed = []
    for name, dies in (("whole", False), ("run", True)):
        folder = project(tmp_path / name, EXPRESSIONS)
        (folder / "squares.py").write_text("squares = (scale(k) for k in range(5))\ndef scale(k): return k * k\ndef skip(): next(squares), next(squares)\n")
        printed.append(command("run", "train.py", cwd=folder, die=dies))
    resumed = command("resume", cwd=folder)
    assert (resumed.returncode, resumed.stdout) == (0, printed[0].stdout), printed[1].stderr + resumed.stderr
    assert printed[1].stdout == "lost\n"


def test_why_a_generator_expression_cannot_be_stored_is_told(tmp_path: Path) -> None:
    script = "pairs = ((i, j) for i in range(3) for j in range(3))\nnext(pairs)\ncommit_and_die()\n"
    told = command("run", "train.py", cwd=project(tmp_path / "run", script)).stderr
    assert "it has more than one `for` (a generator function may have)" in told, told


def test_a_generator_function_with_several_loops_is_stored_where_an_expression_is_not(tmp_path: Path) -> None:
    script = """
def pairs(size):
    for i in range(size):
        for j in range(i):
            yield i, j
def work():
    for i, j in pairs(4):
        if (i, j) == (2, 1):
            commit_and_die()
        print(i, j)
work()
"""
    folder = project(tmp_path / "run", script)
    command("run", "train.py", cwd=folder, die=True)
    resumed = command("resume", cwd=folder)
    assert resumed.stdout == "2 1\n3 0\n3 1\n3 2\n", resumed.stderr


KEYED = """
import pickle
class Settings:
    def __init__(self): self.given = {"rate": 1}
settings, rows = Settings(), [{"rate": 2}]
read = {"".join(["mo", "mentum"]): 3}
commit_and_die()
print(len(pickle.dumps([settings.given, *rows, read, {"rate": 4, "momentum": 5}])))
"""


def test_a_pickle_of_dicts_is_as_long_as_that_of_a_run_that_nothing_interrupted(tmp_path: Path) -> None:
    printed_alike(tmp_path, KEYED)


def test_a_run_without_a_commit_begins_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "s.py").write_text(
        "import os, dartvc\ndartvc.session().flush()\nprint('begun', flush=True)\n"
        "if os.environ.get('TEST_DIE'): os.kill(os.getpid(), 9)\nprint('end')\n"
    )
    assert command("run", "s.py", cwd=folder, die=True).returncode == -signal.SIGKILL
    resumed = command("resume", cwd=folder)
    assert (resumed.returncode, resumed.stdout) == (0, "begun\nend\n"), resumed.stderr
    again = command("resume", cwd=folder)
    assert (again.returncode, again.stdout) == (0, "") and "ended by itself" in again.stderr


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        ("import sys\nsys.exit(3)", 3, ""),
        ("import sys\nsys.exit('gone')", 1, "gone"),
        ("def f():\n    raise ValueError('bad')\nf()", 1, "ValueError: bad"),
        ("if __name__ == '__main__':\n    import sys\n    print(len(sys.argv), sys.argv[1])", 0, ""),
    ],
)
def test_exit_codes_and_tracebacks_are_the_program_s_own(tmp_path: Path, body: str, code: int, error: str) -> None:
    (tmp_path / "s.py").write_text(body + "\n")
    plain = subprocess.run([sys.executable, "s.py", "x"], cwd=tmp_path, capture_output=True, text=True)
    done = command("run", "s.py", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, plain.stdout, plain.stderr)
    assert error in done.stderr


def test_an_edited_script_is_not_resumed_in_silence(tmp_path: Path) -> None:
    folder = project(tmp_path / "run")
    command("run", "train.py", cwd=folder, die=True)
    text = (folder / "train.py").read_text()
    (folder / "train.py").write_text(text.replace("round(sum(results), 6)", "'edited'"))
    refused = command("resume", cwd=folder)
    assert refused.returncode == 4 and "+print('sum', 'edited'" in refused.stderr.replace('"', "'")
    resumed = command("resume", "--code", "recorded", cwd=folder)
    assert resumed.returncode == 0 and "edited" not in resumed.stdout, resumed.stderr


def test_a_terminated_run_commits_first(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import os, signal\nx = 1\nif not os.path.exists('done'):\n    open('done', 'w').close()\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    while True:\n        x += 1\nprint('never')\n"
    )
    done = command("run", "s.py", cwd=tmp_path)
    assert done.returncode == -signal.SIGTERM
    assert log(tmp_path)[0]["position"]["line"] in (5, 6, 7)


def test_runs_are_listed_with_their_state(tmp_path: Path) -> None:
    folder = project(tmp_path / "run")
    command("run", "train.py", cwd=folder, die=True)
    assert json.loads(command("runs", "--json", cwd=folder, check=True).stdout)["items"][0]["state"] == "crashed"
    command("resume", cwd=folder, check=True)
    listed = json.loads(command("runs", "--json", cwd=folder, check=True).stdout)["items"]
    assert [each["state"] for each in listed] == ["done"]


ENDED = """import os, signal, sys, dartvc
x = 1
os.kill(os.getpid(), signal.SIGUSR1)
for _ in range(3):
    pass
dartvc.session().flush()
if sys.argv[1:] != ["no"]:
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    while True:
        x += 1
"""


@pytest.mark.parametrize(("number", "state"), [("SIGINT", "interrupted"), ("SIGTERM", "preempted"), ("SIGKILL", "crashed"), ("no", "done")])
def test_how_a_run_was_ended_is_told_and_what_to_type(tmp_path: Path, number: str, state: str) -> None:
    folder = project(tmp_path / "run", ENDED)
    command("run", "train.py", number, cwd=folder)
    (listed,) = json.loads(command("runs", "--json", cwd=folder, check=True).stdout)["items"]
    assert listed["state"] == state
    told = next(line for line in command("status", cwd=folder, check=True).stdout.splitlines() if line.startswith("run "))
    assert f": {state}: " in told and ("resume HEAD goes on" in told) == (state != "done")
    assert " to resume from" in told and "at risk" not in told


def test_a_value_can_be_changed_on_resume(tmp_path: Path) -> None:
    script = "lr = 0.5\ndef main():\n    steps = 2\n    commit_and_die()\n    print(lr, steps)\nmain()\n"
    folder = project(tmp_path / "run", script)
    command("run", "train.py", cwd=folder, die=True)
    resumed = command("resume", "--set", "lr=0.25", "--set", "steps=9", cwd=folder)
    assert "0.25 9" in resumed.stdout, resumed.stderr


def test_a_value_of_a_variable_that_there_is_not_is_refused_before_anything_runs(tmp_path: Path) -> None:
    script = "rate = 0.5\ndef main():\n    steps = 2\n    def inner():\n        return steps\n    commit_and_die()\n    print(rate, inner())\nmain()\n"
    folder = project(tmp_path / "run", script)
    command("run", "train.py", cwd=folder, die=True)
    for wrong, said in (("ratee=1", "did you mean rate?"), ("nosuch=1", "dvc-state ls")):
        refused = command("resume", "--set", wrong, cwd=folder)
        assert refused.returncode == 3 and not refused.stdout and said in refused.stderr
    assert command("resume", "--set", "rate=0.25", "--set", "steps=9", cwd=folder).stdout == "0.25 9\n"


def test_settings_that_nothing_asked_for_are_told_at_the_end(tmp_path: Path) -> None:
    folder = project(tmp_path / "run", "import dartvc\nprint(dartvc.arg('lr', 0.1), dartvc.arg('size', 3))\n")
    done = command("run", "--set", "lr=0.5", "--set", "rate=2", "train.py", cwd=folder)
    assert done.stdout == "0.5 3\n"
    assert [line for line in done.stderr.splitlines() if "--set" in line] == [
        "dartvc: --set rate changed nothing: no dartvc.arg('rate') was asked for, but lr, size"
    ]


def test_compiled_modules_are_no_files_of_the_program_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "s.py").write_text("import helper\nopen('written.txt', 'w').close()\n")
    command("run", "s.py", cwd=tmp_path, check=True)
    assert list(tmp_path.glob("compiled/**/helper.*.pyc"))
    repository = Repository.open(tmp_path)
    entries = repository.process(repository.resolve("HEAD"))
    assert [name for name in entries if name.startswith("file:")] == ["file:written.txt"]


def test_parameters_are_set_from_the_command_line_and_kept_on_resume(tmp_path: Path) -> None:
    script = "import dartvc\nprint(dartvc.arg('lr', 0.1), dartvc.arg('name', 'x'), flush=True)\ncommit_and_die()\nprint(dartvc.arg('lr', 0.1))\n"
    folder = project(tmp_path / "run", script)
    killed = command("run", "--set", "lr=0.01", "--set", "name=7", "train.py", cwd=folder, die=True)
    assert killed.stdout.startswith("0.01 7\n"), killed.stderr
    assert command("resume", cwd=folder).stdout == "0.01\n"


def test_a_module_runs_as_python_m_runs_it(tmp_path: Path) -> None:
    package = tmp_path / "tool" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "tool" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("NAME = 'inner'\n")
    (package / "__main__.py").write_text(
        "import sys\nfrom . import NAME\nfrom ..base import BASE\nprint(NAME, BASE, __name__, __package__, __spec__.name, sys.argv, sys.path[0])\n"
    )
    (tmp_path / "tool" / "base.py").write_text("BASE = 1\n")
    plain = subprocess.run([sys.executable, "-m", "tool.inner", "-x", "1"], cwd=tmp_path, capture_output=True, text=True, check=True)
    done = command("run", "-m", "tool.inner", "-x", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, plain.stdout), done.stderr
    assert command("run", "-m", "no.such.module", cwd=tmp_path).returncode == 2


def notebook(*cells: str) -> str:
    listed = [{"cell_type": "markdown", "source": ["# a title"]}, *({"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells)]
    return json.dumps({"cells": listed, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})


def test_a_notebook_runs_as_the_program_that_its_cells_make_and_goes_on_inside_a_cell(tmp_path: Path) -> None:
    cells = (COMMIT + "x = 1", "for i in range(4):\n    x += i\n    if i == 2:\n        commit_and_die()\nx", "'ü', x;", "print(x * 2)")
    (tmp_path / "n.ipynb").write_text(notebook(*cells))
    killed = command("run", "n.ipynb", cwd=tmp_path, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = command("resume", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "7\n14\n"), done.stderr


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text("[]")
    done = command("run", "n.ipynb", cwd=tmp_path)
    assert done.returncode == 2 and "is not a notebook" in done.stderr


def test_what_a_program_hung_into_the_process_hangs_there_again(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        COMMIT
        + "import atexit, logging, sys, decimal, signal\n"
        + "class Tee:\n    def __init__(self, out): self.out = out\n    def write(self, text): self.out.write(text.replace('a', 'A'))\n"
        + "    def flush(self): self.out.flush()\n"
        + "logging.basicConfig(filename='app.log', level=logging.INFO, format='%(message)s')\nlog = logging.getLogger('app')\n"
        + "handler = logging.StreamHandler(sys.stdout)\nlog.addHandler(handler)\ndecimal.getcontext().prec = 5\n"
        + "said = []\natexit.register(lambda: print('bye', said))\nsignal.signal(signal.SIGUSR2, lambda n, f: said.append(int(n)))\nsys.stdout = Tee(sys.stdout)\n"
        + "log.info('one')\ncommit_and_die()\nlog.info('two')\nsignal.raise_signal(signal.SIGUSR2)\n"
        + "print('a', decimal.Decimal(1) / 3, log.handlers == [handler])\n"
    )
    killed = command("run", "train.py", cwd=tmp_path, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = command("resume", cwd=tmp_path)
    assert done.stdout.splitlines() == ["two", "A 0.33333 True", "bye [12]"], done.stderr
    assert (tmp_path / "app.log").read_text() == "one\ntwo\n"


INTERRUPTED = """
import os, signal
total = 0
for i in range(5):
    print(i, flush=True)
    if i == 2 and os.environ.get("TEST_DIE"):
        os.kill(os.getpid(), signal.SIGINT)
    total += i
print("total", total)
"""


def test_an_interrupted_run_commits_first_and_goes_on_from_there(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(INTERRUPTED)
    stopped = command("run", "s.py", cwd=tmp_path, die=True)
    assert (stopped.returncode, stopped.stdout) == (130, "0\n1\n2\n")
    assert "KeyboardInterrupt" in stopped.stderr and "dvc-state resume goes on from the last commit" in stopped.stderr
    assert "1 commit to resume from, " in command("status", cwd=tmp_path).stdout
    resumed = command("resume", cwd=tmp_path)
    assert (resumed.returncode, resumed.stdout) == (0, "3\n4\ntotal 10\n"), resumed.stderr


def test_a_program_that_catches_an_interrupt_catches_it_where_it_stands(tmp_path: Path) -> None:
    caught = INTERRUPTED.replace("for i", "try:\n  for i").replace("\n    ", "\n      ") + "except KeyboardInterrupt:\n  print('caught', i)\n"
    (tmp_path / "s.py").write_text(caught.replace('print("total"', '  print("total"'))
    done = command("run", "s.py", cwd=tmp_path, die=True)
    assert (done.returncode, done.stdout) == (0, "0\n1\n2\ncaught 2\n"), done.stderr


def test_workers_of_a_pool_end_when_the_program_ends_them(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import multiprocessing, time\nif __name__ == '__main__':\n    pool = multiprocessing.get_context('fork').Pool(1)\n"
        "    print(pool.map(abs, [-1]))\n    begin = time.monotonic()\n    pool.terminate()\n    pool.join()\n    print(time.monotonic() - begin < 4)\n"
    )
    done = command("run", "s.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[1]\nTrue\n"), done.stderr

FORWARD = """
import gc, os
from dartvc.shims.safepoints import SafePoints
gc.unfreeze()  # what is not the program's is out of its sight
points = next(each for each in gc.get_objects() if type(each) is SafePoints)
points.pacer.affords = lambda new_bytes, new_objects: True

def forward(step):
    activations = os.urandom(20_000_000)
    points.stopper.request()
    total = step
    total += len(activations)
    return total

def train():
    points.stopper.request()
    total = 0
    for step in range(3):
        total += forward(step)
        total += 1
    return total

print(train())
"""


CALLED_BACK = """
import gc, sys
sys.path.insert(0, "site-packages")
import a_library
from dartvc.shims.safepoints import SafePoints
gc.unfreeze()
points = next(each for each in gc.get_objects() if type(each) is SafePoints)

def callback(step):
    points.stopper.request()
    return step + 1

def short():
    total = 0
    for step in range(2):
        total += a_library.call(callback, step)
        total += 1
    return total

def long():
    points._dear_since = -100.0  # it was waited for long enough
    return a_library.call(callback, 5)

print(short(), long(), short())
"""


def test_a_librarys_source_is_read_only_where_its_caller_does_not_come_by_soon(tmp_path: Path) -> None:
    library = tmp_path / "site-packages" / "a_library.py"
    library.parent.mkdir()
    library.write_text("def call(function, value):\n    result = function(value)\n    return result\n")
    (tmp_path / "called.py").write_text(CALLED_BACK)
    command("run", "--max-overhead", "0.000001", "called.py", cwd=tmp_path, check=True)
    items = json.loads(command("log", "--json", cwd=tmp_path, check=True).stdout)["items"]
    functions = [item["position"]["function"] for item in reversed(items) if item["position"]]
    assert functions == ["short", "short", "callback", "callback", "callback"]  # the source is known by then


def test_a_commit_waits_for_the_caller_of_a_function_whose_commits_take_much_more(tmp_path: Path) -> None:
    (tmp_path / "forward.py").write_text(FORWARD)
    command("run", "--max-overhead", "0.000001", "forward.py", cwd=tmp_path, check=True)
    items = json.loads(command("log", "--json", cwd=tmp_path, check=True).stdout)["items"]
    functions = [item["position"]["function"] for item in reversed(items) if item["position"]]
    assert [name for name in functions if name != "<module>"] == ["train", "forward", "train", "train"]


def test_a_run_that_is_alive_is_listed_as_running_and_not_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "s.py").write_text(COMMIT + "commit_and_die()\nprint('waiting', flush=True)\ninput()\nprint('over')\n")
    line = [sys.executable, "-m", "dartvc", "run", "s.py"]
    with subprocess.Popen(line, cwd=folder, env={**os.environ, "PYTHONHASHSEED": "7"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alive:
        assert alive.stdout is not None and alive.stdout.readline() == "waiting\n"
        second = command("resume", cwd=folder)
        assert second.returncode and f"is still running (process {alive.pid})" in second.stderr and not second.stdout
        other = command("run", "s.py", cwd=folder)
        assert other.returncode == 1 and "EOF" in other.stderr
        listed = json.loads(command("runs", "--json", cwd=folder, check=True).stdout)["items"]
        assert sorted(each["state"] for each in listed) == ["failed", "running"]
        assert alive.communicate("\n")[0] == "over\n"
    states = [each["state"] for each in json.loads(command("runs", "--json", cwd=folder, check=True).stdout)["items"]]
    assert sorted(states) == ["done", "failed"]


def test_commits_that_fail_are_told_once_and_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "s.py").write_text(
        COMMIT + "from pathlib import Path\nroot = Path('.dvc-state')\nroot.rename('aside')\nroot.write_text('')\n"
        "for value in range(3):\n    try:\n        commit_and_die()\n    except Exception:\n        pass\nprint('end')\n"
    )
    done = command("run", "s.py", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert done.stderr.count("dartvc: nothing is being recorded: ") == 1 and "the end of the run was not committed" in done.stderr, done.stderr


@pytest.mark.parametrize("last", ["work()", "import sys; sys.exit(work())", "try:\n    work()\nfinally:\n    pass"])
def test_an_interrupt_after_which_no_statement_begins_is_no_success(tmp_path: Path, last: str) -> None:
    (tmp_path / "s.py").write_text(f"import signal\ndef work():\n    return signal.raise_signal(signal.SIGINT)\n{last}\n")
    plain = subprocess.run([sys.executable, "s.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    done = command("run", "s.py", cwd=tmp_path)
    assert (plain.returncode, done.returncode) == (-signal.SIGINT, 130)
    assert done.stderr.startswith(plain.stderr), done.stderr


def test_the_traceback_of_an_interrupt_is_that_of_plain_python(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import os, signal\ndef work(n):\n    os.kill(os.getpid(), signal.SIGINT)\n    n += 1\n    return n\nfor i in range(3):\n    work(i)\n    done = True\n"
    )
    plain = subprocess.run([sys.executable, "s.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    done = command("run", "s.py", cwd=tmp_path)
    assert done.returncode == 130 and "line 3, in work" in plain.stderr
    assert "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("dartvc:")) == plain.stderr

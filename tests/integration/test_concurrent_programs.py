"""Programs that fork, start processes and threads, or run an event loop while a session records them; values that resist pickling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dartvc.history import Repository
from dartvc.history.fsck import check_repository
from dartvc.porcelain.face import Repository as Face

DEADLINE_S = 90
DRIVER = """
import os, sys, json
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config(); config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
def cell(code):
    return shell.run_cell(code, store_history=True)
shell.run_cell("%load_ext dartvc", silent=True)
import dartvc
"""
MUTATING = """
import threading
rows, table, pair = [], {}, (0, 0)
stop = threading.Event()
def mutate():
    global pair
    while not stop.is_set():
        for _ in range(200):
            rows.append(len(rows))
            table[len(table)] = {"n": len(table)}
            pair = (pair[0] + 1, pair[1] + 1)
        if len(rows) > 100_000:
            rows.clear()
            table.clear()
thread = threading.Thread(target=mutate)
thread.start()
"""
AWAITING = """
import asyncio
async def produce(queue):
    for number in range(5):
        await queue.put(number)
async def consume(queue):
    return [await queue.get() for _ in range(5)]
queue = asyncio.Queue()
got = (await asyncio.gather(produce(queue), consume(queue)))[1]
"""
NOTEBOOK = pytest.mark.skipif(__import__("importlib.util").util.find_spec("IPython") is None, reason="IPython is not installed")


def python(folder: Path, code: str) -> str:
    """Runs a program to its end and returns what it printed."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def face_of(folder: Path) -> Face:
    """Opens the repository that a program left, with its key."""
    history = Repository.open(folder, key_path=folder / "config/dartvc/seal.key")
    assert list(check_repository(history)) == []
    return Face(history)


@NOTEBOOK
def test_a_forked_child_commits_nothing_and_ends(tmp_path: Path) -> None:
    code = """
        cell("x = bytearray(50_000_000); x[0] = 1")  # still on its way to the disk when the child begins
        cell("import os; child = os.fork()")
        if shell.user_ns["child"] == 0:
            cell("x = 'made by the child'")
            session = dartvc.session()
            session.checkpoint("by the child", force=True)
            session.flush()
            sys.exit(0)  # by way of atexit
        _, status = os.waitpid(shell.user_ns["child"], 0)
        cell("y = 2")
        dartvc.session().flush()
        print(json.dumps({"status": status, "branch": dartvc.session().branch}))
    """
    out = python(tmp_path, DRIVER + textwrap.dedent(code))
    assert json.loads(out.splitlines()[-1]) == {"status": 0, "branch": "main"}
    face = face_of(tmp_path)
    codes = [face.history.code(commit.oid) for commit in face.log()]
    assert len(codes) == 3 and not any("made by the child" in text for text in codes)
    assert face.load(names=["y"])["y"] == 2


def test_a_forked_child_that_commits_is_told_no(tmp_path: Path) -> None:
    code = """
        import os, sys, dartvc
        from dartvc.errors import RefusedError
        repo = dartvc.init(".")
        namespace = {"__name__": "__main__", "x": 1}
        repo.commit(namespace)
        child = os.fork()
        if child == 0:
            try:
                repo.commit(namespace)
            except RefusedError as error:
                os._exit(0 if error.hint else 4)
            os._exit(3)
        print(os.waitpid(child, 0)[1])
    """
    assert python(tmp_path, textwrap.dedent(code)).split() == ["0"]
    assert len(list(face_of(tmp_path).log())) == 1


@NOTEBOOK
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_run_and_commit_nothing(tmp_path: Path, method: str) -> None:
    (tmp_path / "work.py").write_text("def square(number):\n    return number * number\n")
    code = f"""
        sys.path.insert(0, os.getcwd())
        if __name__ == "__main__":
            cell("import multiprocessing, work; context = multiprocessing.get_context('{method}')")
            cell("with context.Pool(2) as pool: squares = pool.map(work.square, range(20))")
            dartvc.session().flush()
            print(dartvc.session().branch)
    """
    program = tmp_path / "program.py"
    program.write_text(DRIVER.replace("shell.run_cell", "__name__ == '__main__' and shell.run_cell", 2) + textwrap.dedent(code))
    out = python(tmp_path, f"import runpy, sys; sys.argv = [{str(program)!r}]; runpy.run_path({str(program)!r}, run_name='__main__')")
    assert out.split()[-1] == "main"
    face = face_of(tmp_path)
    assert face.load(names=["squares"])["squares"] == [number * number for number in range(20)]
    assert [name for name, _ in face.history.database.refs.iter_refs("refs/heads/")] == ["refs/heads/main"]


@NOTEBOOK
def test_a_thread_that_mutates_never_tears_a_snapshot(tmp_path: Path) -> None:
    code = f"""
        cell({MUTATING!r})
        for number in range(25):
            cell(f"number = {{number}}")
        cell("stop.set(); thread.join()")
        cell("final = (len(rows), len(table), pair)")
        dartvc.session().flush()
    """
    python(tmp_path, DRIVER + textwrap.dedent(code))
    face = face_of(tmp_path)
    commits = list(face.log())
    assert len(commits) == 28
    stored = 0
    for commit in commits:
        entries = face.history.names(commit.oid)
        whole = [name for name in ("rows", "table", "pair") if name in entries and entries[name].payload_oid is not None]
        state = face.load(commit.oid, whole)
        stored += len(whole)
        assert state.get("rows", []) == list(range(len(state.get("rows", []))))  # type: ignore[arg-type]
        assert state.get("table", {}) == {n: {"n": n} for n in range(len(state.get("table", {})))}  # type: ignore[arg-type]
        assert len(set(state.get("pair", (0,)))) == 1  # type: ignore[call-overload]
    last = face.load(names=["rows", "table", "pair", "final"])
    assert last["final"] == (len(last["rows"]), len(last["table"]), last["pair"])  # type: ignore[arg-type]
    assert stored > 28


def test_threads_that_commit_at_once_lose_nothing(tmp_path: Path) -> None:
    code = """
        import threading, dartvc
        repo = dartvc.init(".")
        namespaces = [{"__name__": "__main__", "who": number, "step": -1} for number in range(4)]
        made = [[] for _ in namespaces]
        def work(number):
            for step in range(10):
                namespaces[number]["step"] = step
                made[number].append(repo.commit(namespaces[number], f"{number} {step}").oid)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for each in threads: each.start()
        for each in threads: each.join()
        for number, oids in enumerate(made):
            for step, oid in enumerate(oids):
                assert repo.load(oid) == {"who": number, "step": step}, (number, step)
        print(len({oid for oids in made for oid in oids}))
    """
    assert python(tmp_path, textwrap.dedent(code)).split() == ["40"]
    face = face_of(tmp_path)
    tips = [oid for _, oid in face.history.database.refs.iter_refs("refs/heads/")]
    assert len(set(face.history.database.iter_commits(tips))) == 40


@NOTEBOOK
def test_an_event_loop_goes_on_and_its_results_are_committed(tmp_path: Path) -> None:
    code = f"""
        cell({AWAITING!r})
        cell("total = sum(got)")
        dartvc.session().flush()
    """
    python(tmp_path, DRIVER + textwrap.dedent(code))
    assert face_of(tmp_path).load(names=["got", "total"]) == {"got": [0, 1, 2, 3, 4], "total": 10}


HOSTILE = {
    "exits": "def __reduce__(self): os._exit(7)",
    "aborts": "def __reduce__(self): os.abort()",
    "sleeps": "def __reduce__(self): threading.Event().wait()",
    "raises SystemExit": "def __reduce__(self): raise SystemExit(9)",
    "interrupts": "def __reduce__(self): raise KeyboardInterrupt",
    "writes a file": "def __reduce__(self): open('SPRUNG', 'w'); return (int, ())",
    "runs a command": "def __reduce__(self): os.system('touch SPRUNG'); return (int, ())",
    "exits in getstate": "def __getstate__(self): os._exit(7)",
    "exits when it is loaded": "def __reduce__(self): return (os._exit, (7,))",
    "exits in setstate": "def __setstate__(self, state): os._exit(7)",
    "sleeps in setstate": "def __setstate__(self, state): threading.Event().wait()",
    "lies when compared": "def __eq__(self, other): raise RuntimeError('compared')\n    __hash__ = None",
    "is equal to everything": "def __eq__(self, other): return True\n    __hash__ = object.__hash__",
    "raises at every attribute": "def __getattr__(self, name): raise RuntimeError(name)",
    "has every attribute": "def __getattr__(self, name): return lambda *a, **k: None",
    "raises in repr": "def __repr__(self): raise RuntimeError('repr')",
    "raises SystemExit in repr": "def __repr__(self): raise SystemExit(9)",
    "raises in del": "def __del__(self): raise RuntimeError('del')",
    "has no bool": "def __bool__(self): raise RuntimeError('bool')\n    def __len__(self): raise RuntimeError('len')",
}


@NOTEBOOK
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_value_harms_neither_the_session_nor_other_names(tmp_path: Path, body: str) -> None:
    cell = f"import os, threading\nclass Hostile:\n    def __init__(self): self.kept = [1]\n    {body}\nbad = Hostile(); good = [1, 2]"
    code = f"""
        from dartvc.state.adapters import guarded
        guarded.DEADLINE_S = 1.0
        cell({cell!r})
        cell("good.append(3); bad.kept.append(2)")
        dartvc.session().flush()
        print("alive")
    """
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER + textwrap.dedent(code)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.split()[-1:] == ["alive"], done.stdout + done.stderr
    assert not (tmp_path / "SPRUNG").exists()
    face = face_of(tmp_path)
    assert [face.load(revision, ["good"])["good"] for revision in ("HEAD~1", "HEAD")] == [[1, 2], [1, 2, 3]]
    assert "bad" in face.history.names(face.resolve("HEAD"))

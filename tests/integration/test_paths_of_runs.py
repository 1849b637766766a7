"""What a run with reuse records of the way that it took, read back from its last commit."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dartvc.history import Repository
from dartvc.lineage.decisions import PATHS
from dartvc.lineage.traces.paths import Paths, Turns, Way
from tests.integration.reused_scripts import COMMAND, HEAVY, dvc_state, plain_and_reused, sites


def read(folder: Path) -> tuple[Paths, dict[tuple[str, str, int], ast.stmt]]:
    """Returns the paths of HEAD, and the statements of the project's files by (file, kind, line)."""
    repository = Repository.open(folder)
    oid = repository.resolve("HEAD")
    nodes = {
        (path.name, type(each).__name__, each.lineno): each
        for path in folder.glob("*.py")
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.stmt)
    }
    return Paths.read(repository, oid, str(folder)), nodes


def program(text: str) -> str:
    """Returns a script: the heavy function first, so that its lines are known."""
    return HEAVY.lstrip() + textwrap.dedent(text).lstrip()


TWO_FILES = """
    import part
    x = []
    for i in range(20):
        if i % 4 == 0:
            x.append(part.sign(i - 8))
    print(x)
"""
PART = "def sign(n):\n    if n < 0:\n        return -1\n    elif n:\n        return 1\n    return 0\n\ndef never(n):\n    if n: pass\n"


def test_a_run_records_the_outcomes_and_turns_of_its_files(folder: Path) -> None:
    (folder / "part.py").write_text(PART)
    plain, reused = plain_and_reused(folder, program(TWO_FILES), times=1)
    assert reused == [plain]
    paths, nodes = read(folder)
    loop = nodes["script.py", "For", 8]
    assert isinstance(loop, ast.For)
    assert paths.turns("script.py", loop) == Turns(1, 20, (Way(15, (9,)), Way(5, (9, 10))))
    assert paths.outcomes(str(folder / "script.py"), loop) == frozenset({0, 1})
    assert paths.outcomes("part.py", nodes["part.py", "If", 2]) == frozenset({0, 1})
    assert paths.outcomes("part.py", nodes["part.py", "If", 4]) == frozenset({0, 1})
    assert paths.outcomes("part.py", nodes["part.py", "If", 9]) == frozenset()
    assert paths.outcomes("part.py", nodes["part.py", "Return", 3]) is None


def test_a_second_run_is_answered_and_knows_what_it_does_not_know(folder: Path) -> None:
    text = program("""
        total = 0
        for i in range(4):
            if i > 2:
                total += burn(120_000 + i)
        if total > 0:
            print(total)
    """)
    plain, reused = plain_and_reused(folder, text)
    assert reused == [plain] * 2
    assert sites(folder)["a loop"]["reused"] == 1
    paths, nodes = read(folder)
    assert paths.outcomes("script.py", nodes["script.py", "If", 10]) == frozenset({1})
    assert paths.outcomes("script.py", nodes["script.py", "If", 8]) is None
    assert paths.outcomes("script.py", nodes["script.py", "For", 3]) is None


def test_calls_that_an_earlier_run_answered_leave_functions_unknown(folder: Path) -> None:
    text = program("""
        values = [burn(n) for n in (120_000, 120_000, 130_000)]
        if values:
            print(values)
    """)
    plain_and_reused(folder, text, times=1)
    paths, nodes = read(folder)
    loop = nodes["script.py", "For", 3]
    assert isinstance(loop, ast.For)
    assert paths.outcomes("script.py", loop) == frozenset({0, 1})
    assert paths.turns("script.py", loop) == Turns(2, 250_000, (Way(250_000, (4,)),))
    plain_and_reused(folder, text, times=1)
    paths, nodes = read(folder)
    assert sites(folder)["burn"]["reused"] == 3
    assert paths.outcomes("script.py", nodes["script.py", "For", 3]) is None
    assert paths.outcomes("script.py", nodes["script.py", "If", 7]) == frozenset({1})


@pytest.mark.parametrize(
    ("start", "is_known"),
    [
        ("import multiprocessing as m\np = m.get_context('fork').Process(target=f, args=(1,)); p.start(); p.join()", True),
        ("import os\npid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)", False),
    ],
    ids=["multiprocessing", "fork"],
)
def test_what_children_may_have_done_is_unknown(start: str, is_known: bool, folder: Path) -> None:
    plain, reused = plain_and_reused(folder, f"if 1:\n    pass\ndef f(n):\n    if n:\n        pass\nf(0)\n{start}\nprint('end')\n", times=1)
    assert reused == [plain]
    paths, nodes = read(folder)
    assert paths.outcomes("script.py", nodes["script.py", "If", 4]) is None
    assert paths.outcomes("script.py", nodes["script.py", "If", 1]) == (frozenset({1}) if is_known else None)


def test_a_long_loop_is_dropped_and_the_rest_is_kept(folder: Path) -> None:
    text = "def spin(n):\n    while n:\n        n = abs(n) - 1\nfor i in range(2):\n    abs(i)\nspin(12_000_000)\n"
    plain_and_reused(folder, text, times=1)
    paths, nodes = read(folder)
    assert paths.outcomes("script.py", nodes["script.py", "While", 2]) is None
    assert paths.outcomes("script.py", nodes["script.py", "For", 4]) == frozenset({0, 1})


def test_a_run_that_raises_records_how_far_it_came(folder: Path) -> None:
    (folder / "script.py").write_text("for i in range(5):\n    if i == 3:\n        1 / 0\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *COMMAND, "run", "--reuse", "script.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "line 3" in done.stderr
    paths, nodes = read(folder)
    loop = nodes["script.py", "For", 1]
    assert isinstance(loop, ast.For)
    assert paths.turns("script.py", loop) == Turns(1, 4, (Way(3, (2,)), Way(1, (2, 3))))


def test_a_run_without_reuse_records_no_paths(folder: Path) -> None:
    plain_and_reused(folder, program(TWO_FILES.replace("import part", "import types as part; part.sign = abs")), times=1)
    dvc_state(folder, "run", "script.py")
    paths, nodes = read(folder)
    assert not paths
    assert paths.outcomes("script.py", nodes["script.py", "For", 8]) is None


def test_nothing_is_loaded_of_a_commit_that_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_and_reused(folder, program("for i in range(2): abs(i)\n"), times=1)
    assert read(folder)[0]
    monkeypatch.setattr(Repository, "is_trusted", lambda self, oid: False)
    assert not read(folder)[0]


def test_functions_that_a_run_leaves_bear_no_marks(folder: Path) -> None:
    text = """
        class Held:
            def __init__(self, n):
                for self.n in range(n): pass
        def make():
            def numbers(n):
                for i in range(n): yield i
            return numbers
        kept = [make(), Held]
    """
    plain_and_reused(folder, textwrap.dedent(text), times=1)
    repository = Repository.open(folder)
    oid = repository.resolve("HEAD")
    assert PATHS in repository.process(oid)
    payload = repository.names(oid)["kept"].payload_oid
    assert payload is not None
    assert b"__dvc_p" not in repository.payload(payload).read_stream()

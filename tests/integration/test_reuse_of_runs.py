"""The outermost level of reuse: a run of which nothing has changed is answered whole, and any other one is executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.reused_scripts import COMMAND, HEAVY, sites

WORK = HEAVY + "\nfor _ in range(40):\n    burn(150_000 + _)\n"
"""What takes no time is not remembered."""


def call(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a project."""
    base = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})}
    return subprocess.run([sys.executable, *words], cwd=folder, env=base, capture_output=True, text=True, timeout=200, check=False)


def reused(folder: Path, *words: str, mode: str = "--reuse", environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the script with reuse, and without commits between its first and its last, however long it takes."""
    return call(folder, *COMMAND, "run", mode, "--max-overhead", "0.000001", "script.py", *words, environment=environment)


def ask(folder: Path, *words: str) -> Any:
    """Returns what a command says, as JSON."""
    done = call(folder, *COMMAND, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_answered(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a run was answered by an earlier one."""
    assert done.returncode == 0, done.stderr
    return "nothing has changed since run" in done.stderr


def write(folder: Path, text: str, name: str = "script.py") -> None:
    """Writes a source of a project."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_a_run_of_which_nothing_has_changed_is_answered(folder: Path) -> None:
    write(folder, WORK + "import sys\nprint('out')\nprint('err', file=sys.stderr)\nresult = [1, {'a': 2}]\nprint('more', flush=True)")
    first, second = reused(folder), reused(folder)
    assert not is_answered(first)
    assert is_answered(second)
    assert second.stdout == first.stdout == "out\nmore\n"
    assert second.stderr.startswith("err\n")
    assert sites(folder)["script.py"]["reused"] == 1
    commits = ask(folder, "log")["items"]
    assert [each["kind"] for each in commits] == ["end", "end", "start"]
    assert ask(folder, "diff", commits[1]["oid"], commits[0]["oid"])["items"] == []
    assert [each["state"] for each in ask(folder, "runs")["items"]] == ["done", "done"]
    assert call(folder, *COMMAND, "fsck").returncode == 0
    assert call(folder, *COMMAND, "why", "result").returncode == 0


def test_after_a_run_that_was_answered_explain_says_so_and_from_which_run(folder: Path) -> None:
    write(folder, WORK + "x = 1")
    reused(folder)
    first = ask(folder, "runs")["items"][0]["run_id"]
    assert is_answered(reused(folder))
    for word in ("burn", "script.py"):
        assert f"the run was answered whole, by run {first[:8]}, of which nothing has changed" in call(folder, *COMMAND, "cache", "explain", word).stdout


def test_a_function_that_writes_a_file_runs_for_that_and_the_run_is_answered(folder: Path) -> None:
    write(folder, WORK + "def save():\n    burn()\n    with open('out.txt', 'w') as out:\n        out.write('content')\nsave()\n")
    reused(folder)
    assert sites(folder)["save"]["reason"] == "writes out.txt"
    assert is_answered(reused(folder)), sites(folder)["script.py"]["reason"]


def test_the_state_is_the_earlier_runs_whatever_stands_between(folder: Path) -> None:
    write(folder, WORK + "mine = 1")
    write(folder, "other = 2", "other.py")
    reused(folder)
    call(folder, *COMMAND, "run", "other.py")
    assert is_answered(reused(folder))
    assert {each["name"] for each in ask(folder, "ls")["items"]} == {"burn", "mine"}
    newest = ask(folder, "log")["items"][0]
    assert set(newest["added"]) == {"burn", "mine"}
    assert newest["removed"] == ["other"]


CHANGES = {
    "an input": ("print(open('data.txt').read())", {"data.txt": "1"}, {"data.txt": "2"}),
    "a module": ("import helper\nprint(helper.answer())", {"helper.py": "def answer():\n    return 1"}, {"helper.py": "def answer():\n    return 2"}),
    "a file that was not there": ("try:\n    print(open('late.txt').read())\nexcept OSError:\n    print('none')", {}, {"late.txt": "here"}),
    "a library's name beside the script": ("import colorsys\nprint(colorsys.__doc__)", {}, {"colorsys.py": "'mine'"}),
    "an output that somebody changed": ("open('made.txt', 'w').write('x')", {}, {"made.txt": "y"}),
    "a module that was not there": ("try:\n    import late\n    print(late.x)\nexcept ImportError:\n    print('none')", {}, {"late.py": "x = 1"}),
    "a package in place of a module": ("import helper\nprint(helper.x)", {"helper.py": "x = 1"}, {"helper/__init__.py": "x = 2"}),
    "a module that a package lacked": (
        "import pkg", {"pkg/__init__.py": "try:\n    from pkg import late\n    print(late.x)\nexcept ImportError:\n    print('none')"}, {"pkg/late.py": "x = 1"},
    ),
    "the script": ("print(1)", {}, {"script.py": WORK + "print(2)"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_run_depends_on_is_looked_at(folder: Path, what: str) -> None:
    text, before, after = CHANGES[what]
    write(folder, WORK + text)
    for name, content in before.items():
        write(folder, content, name)
    reused(folder)
    assert is_answered(reused(folder))
    for name, content in after.items():
        write(folder, content, name)
    third = reused(folder)
    assert not is_answered(third)
    assert third.stdout == call(folder, "script.py").stdout


def test_arguments_and_the_environment_are_part_of_the_key(folder: Path) -> None:
    write(folder, WORK + "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('n')\nprint(parser.parse_args().n)")
    assert reused(folder, "1").stdout == "1\n"
    other = reused(folder, "2")
    assert (is_answered(other), other.stdout) == (False, "2\n")
    assert is_answered(reused(folder, "1"))
    assert not is_answered(reused(folder, "1", environment={"LIBRARY_SETTING": "7"}))
    assert is_answered(reused(folder, "1", environment={"SHLVL": "7"}))


EACH_TIME = {
    "a clock": "import time\nprint(time.time_ns())",
    "a clock under another name": "from datetime import datetime as d\nprint(d.now())",
    "random numbers": "import random\nprint(random.random())",
    "random numbers that are seeded afterwards": "import random\nx = random.random()\nrandom.seed(1)\nprint(x)",
    "a seed from entropy": "import random\nrandom.seed()\nprint(random.random())",
    "a seed that is nothing": "import random\nseed = None\nrandom.seed(seed)\nprint(random.random())",
    "the kernel's entropy": "import os\nprint(os.urandom(4))",
    "a file that grows": "open('log.txt', 'a').write('x')\nprint(len(open('log.txt').read()))",
    "a file that is read and written": "n = int(open('n.txt').read())\nopen('n.txt', 'w').write(str(n + 1))\nprint(n)",
    "a file made once": "try:\n    open('once.txt', 'x').close()\n    print('made')\nexcept FileExistsError:\n    print('there')",
    "a folder made once": "import os\ntry:\n    os.mkdir('made')\n    print('made')\nexcept OSError:\n    print('there')",
    "a file that is removed": "import os\nopen('t.txt', 'w').close()\nos.remove('t.txt')",
    "a child process": "import subprocess\nsubprocess.run(['true'])",
    "threads that stay": "from concurrent.futures import ThreadPoolExecutor as P\np = P(1)\nprint(p.submit(abs, -1).result())",
    "processes in a pool": "from concurrent.futures import ProcessPoolExecutor as P\nwith P(1) as p:\n    print(p.submit(abs, -1).result())",
    "what tells its times": "def fit(verbose=0):\n    print('fitted')\nfit(verbose=2)",
    "threads": "import threading\nt = threading.Thread(target=print, args=(1,))\nt.start()\nt.join()",
    "something at exit": "import atexit\natexit.register(print, 'bye')",
    "identities": "print(id(burn) > 0)",
    "log records": "import logging\nlogging.basicConfig(format='%(asctime)s')\nlogging.error('x')",
    "values that are logged": "import dartvc\ndartvc.log('x', 1)",
    "the terminal": "import sys\nprint(sys.stdin.read())",
    "a great deal of text": "for i in range(30):\n    print('x' * 50_000)",
    "a seed and the stream put back": "import random\ns = random.getstate()\nrandom.seed(1)\nrandom.setstate(s)\nprint(random.random())",
    "a seed that fails": "import random\ntry:\n    random.seed([])\nexcept TypeError:\n    print(random.random())",
    "the terminal, through a library": "import argparse\nprint(argparse.FileType('r')('-').read())",
    "the terminal's descriptor": "import os\nprint(os.read(0, 10))",
    "the machine": "print(open('/proc/uptime').read())",
    "a link": "import os\ntry:\n    os.symlink('n.txt', 'l.txt')\nexcept FileExistsError:\n    print('there')",
    "a place in memory": "class C: pass\nprint(C())",
    "a last word": "class C:\n    def __del__(self): print('bye')\nc = C()",
    "another stream": "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8')\nprint('x')",
    "a module that is changed while it runs": "import n\nopen('n.py', 'w').write('x = 2')\nprint(n.x)",
    "a descriptor": "import os\nos.write(1, b'x')",
    "a library that looks at the folder": "from pathlib import Path\nimport filecmp\nprint(filecmp.dircmp('.', '.').left_list)",
    "a look at the folder": "import os\nprint(os.listdir('.'))",
    "an exit code": "import sys\nsys.exit(3)",
    "an exception": "raise ValueError('no')",
}


@pytest.mark.parametrize("what", EACH_TIME)
def test_what_may_give_another_value_runs_each_time(folder: Path, what: str) -> None:
    write(folder, WORK + EACH_TIME[what])
    write(folder, "1", "n.txt")
    write(folder, "x = 1", "n.py")
    for _ in range(2):
        assert "nothing has changed" not in reused(folder).stderr
    done = call(folder, *COMMAND, "cache", "explain", "script.py")
    assert "\n  run: " in done.stdout, "it says why"


AS_IN_PYTHON = {
    "attributes that code makes": "class D(dict):\n    def __getattr__(self, k): return print('asked', k) or self[k]\nd = D(a=1)\nprint(d.a)",
    "what is no text": "import sys\ntry:\n    sys.stdout.write(b'x')\nexcept TypeError as e:\n    print(e)",
    "modules that are taken away": "import sys, json\nfor m in list(sys.modules):\n    if m.startswith('json'): del sys.modules[m]\nprint(1)",
    "odd entries": "import sys\nsys.path.append(None)\nsys.modules[1] = 2\nprint(1)",
    "a library's own attributes": (
        "import pickle, os, random, json\nprint(pickle.loads(pickle.dumps(os.write)) is os.write, random.seed.__self__ is random._inst, vars(json.__loader__).keys())"
    ),
    "text that cannot be written": "import sys\ntry:\n    print('\\ud800')\nexcept UnicodeEncodeError:\n    print('e')",
    "a warning of an import": "import warnings\nwarnings.simplefilter('always')\nwarnings.showwarning = lambda *a: print(a[2])\nimport n",
    "an import that fails": "import sys, traceback\ntry:\n    import n\n    import xmlrpc.nothing\nexcept ImportError:\n    print(traceback.format_exc())",
}


@pytest.mark.parametrize("what", AS_IN_PYTHON)
def test_a_program_is_told_the_same_while_it_is_observed(folder: Path, what: str) -> None:
    write(folder, WORK + AS_IN_PYTHON[what])
    write(folder, "import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)", "n.py")
    plain = call(folder, "script.py")
    for _ in range(2):
        done = reused(folder)
        assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done.stderr


SAME_EACH_TIME = {
    "seeded random numbers": "import random\nrandom.seed(1)\nprint(random.random())",
    "an object of its own": "import random\nprint(random.Random(3).random())",
    "an output": "with open('made.txt', 'w') as file:\n    file.write('x')\nprint(open('made.txt').read())",
    "a folder for outputs": "import os\nos.makedirs('a/b', exist_ok=True)\nopen('a/b/c.txt', 'w').close()",
    "a path's folder": "from pathlib import Path\nPath('a/b').mkdir(parents=True, exist_ok=True)\nPath('a/b/c.txt').write_text('x')",
    "a cache of its own": "import functools\n@functools.lru_cache\ndef f(x):\n    return x\nprint(f(1), f(1))",
    "an exit without a code": "import sys\nprint(sys.argv[1:])\nsys.exit(0)",
    "the environment": "import os\nos.environ['A'] = 'b'\nprint(os.environ.get('HOME'), os.environ['A'])",
    "its globals": "print(sorted(globals())[0])",
    "another working directory": "import os\nos.chdir('..')\nprint(1)",
    "threads that end": (
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool:\n    print(sum(pool.map(burn, range(50_000, 50_004))))"
    ),
}


@pytest.mark.parametrize("what", SAME_EACH_TIME)
def test_what_gives_the_same_is_answered(folder: Path, what: str) -> None:
    write(folder, WORK + SAME_EACH_TIME[what])
    first, second = reused(folder), reused(folder)
    assert is_answered(second), call(folder, *COMMAND, "cache", "explain", "script.py").stdout
    assert first.stdout == second.stdout


def test_numpys_stream_is_watched_from_its_first_import(folder: Path) -> None:
    pytest.importorskip("numpy")
    write(folder, WORK + "import numpy as np\nnp.random.seed(3)\nprint(np.random.rand())\nfrom numpy.random import seed")
    assert reused(folder).stdout == reused(folder).stdout
    assert is_answered(reused(folder))
    assert call(folder, *COMMAND, "show").stdout.count("omitted") == 0
    for text in ("np.random.rand()", "np.random.default_rng().random()", "np.random.rand(), np.random.seed(1)"):
        write(folder, WORK + f"import numpy as np\nprint({text})")
        assert not is_answered(reused(folder))
        assert not is_answered(reused(folder)), text


def test_a_program_that_reads_the_environment_sees_the_terminals_part_of_it(folder: Path) -> None:
    write(folder, WORK + "import os\nprint(os.environ.get('SSH_TTY'))")
    reused(folder, environment={"SSH_TTY": "1"})
    assert is_answered(reused(folder, environment={"SSH_TTY": "1"}))
    other = reused(folder, environment={"SSH_TTY": "2"})
    assert (is_answered(other), other.stdout) == (False, "2\n")


def test_a_figure_that_is_written_stays_and_one_with_a_date_is_drawn_again(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    write(folder, WORK + "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('figure.png')")
    reused(folder)  # matplotlib may make its cache of fonts
    reused(folder)
    drawn = (folder / "figure.png").read_bytes()
    assert is_answered(reused(folder))
    (folder / "figure.png").unlink()
    assert not is_answered(reused(folder))
    assert (folder / "figure.png").read_bytes() == drawn
    write(folder, (folder / "script.py").read_text().replace("png", "pdf"))
    reused(folder)
    assert not is_answered(reused(folder))


def test_outputs_that_are_gone_are_made_again(folder: Path) -> None:
    write(folder, WORK + "import json\nwith open('scores.json', 'w') as file:\n    json.dump([1, 2], file)")
    reused(folder)
    assert is_answered(reused(folder))
    (folder / "scores.json").unlink()
    assert not is_answered(reused(folder))
    assert json.loads((folder / "scores.json").read_text()) == [1, 2]


def test_a_commit_that_was_thrown_away_answers_nothing(folder: Path) -> None:
    write(folder, WORK + "x = 1")
    reused(folder)
    run = ask(folder, "runs")["items"][0]["run_id"]
    git = ["git", "--git-dir", str(folder / ".dvc-state")]
    for ref in ("refs/heads/main", f"refs/runs/{run}"):
        subprocess.run([*git, "update-ref", "-d", ref], check=True)
    (folder / ".dvc-state" / "operations.jsonl").unlink()
    throw_away = "from dartvc.history import Repository; from dartvc.history.gc import collect_garbage; collect_garbage(Repository.open(), grace_s=0)"
    assert call(folder, "-c", throw_away).returncode == 0
    assert not is_answered(reused(folder))


def test_a_run_that_is_answered_by_an_approximate_one_says_so(folder: Path) -> None:
    pytest.importorskip("numpy")
    write(folder, """
import numpy as np
parts = [np.random.default_rng(i).random((40000, 60)) for i in range(4)]
def gram(i):
    X = np.vstack([parts[j] for j in range(4) if j != i])
    return X.T @ X
print(round(sum(float(np.trace(gram(i))) for i in range(4))))
""")
    first = reused(folder, mode="--partial-reuse")
    assert not is_answered(reused(folder)), "an exact run is not answered by an approximate one"
    second = reused(folder, mode="--partial-reuse")
    assert is_answered(second)
    assert second.stdout == first.stdout
    newest, *_, executed, _ = ask(folder, "log")["items"]
    assert newest["approximate"] == executed["approximate"] >= 1


def test_atomic_runs_are_executed(folder: Path) -> None:
    write(folder, WORK + "x = 1")
    reused(folder)
    done = call(folder, *COMMAND, "run", "--reuse", "--atomic", "script.py")
    assert not is_answered(done)


def test_forgetting_the_results_forgets_the_runs(folder: Path) -> None:
    write(folder, WORK + "x = 1")
    reused(folder)
    call(folder, *COMMAND, "cache", "clear")
    assert not is_answered(reused(folder))


def test_files_that_torch_writes_are_seen(folder: Path) -> None:
    pytest.importorskip("torch")
    write(folder, HEAVY + "import torch\ndef train():\n    burn(400_000)\n    torch.save(torch.ones(3), 'model.pt')\n    return 1\nprint(train())\nimport time")
    for _ in range(2):
        (folder / "model.pt").unlink(missing_ok=True)
        assert not is_answered(reused(folder))
        assert (folder / "model.pt").exists(), "a call that writes is never answered"
    write(folder, (folder / "script.py").read_text().removesuffix("import time"))
    reused(folder)
    assert is_answered(reused(folder))
    (folder / "model.pt").unlink()
    assert not is_answered(reused(folder))

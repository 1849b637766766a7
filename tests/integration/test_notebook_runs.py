"""Notebooks run as programs: their magics, their figures, and what is shown when a cell fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command, notebook

pytest.importorskip("IPython")
pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")


def ran(folder: Path, *cells: str) -> subprocess.CompletedProcess[str]:
    (folder / "n.ipynb").write_text(notebook(*cells))
    return command("run", "n.ipynb", cwd=folder)


def test_the_magics_of_a_notebook_do_what_they_do_in_jupyter(tmp_path: Path) -> None:
    done = ran(
        tmp_path,
        "import os\n%env FOO=bar\n%cd -q ..\nos.environ['FOO'], os.getcwd()",
        "%%capture cap\nprint('hidden')",
        "files = !echo a $FOO\nfiles, cap.stdout",
        "!echo from a shell",
        "%%time\nx = 1",
        "display(x, 'text')\nget_ipython().user_ns is globals(), x",
        "len?",
        "%gui\n%who_ls",
        "open(os.devnull).close()\nexit(3)",
    )
    assert done.returncode == 3, done.stderr
    printed = [line for line in done.stdout.splitlines() if not line.startswith(("CPU times", "Wall time"))]
    assert printed[:2] == ["env: FOO=bar", f"('bar', {str(tmp_path.parent)!r})"]
    assert printed[2:7] == ["(['a bar'], 'hidden\\n')", "from a shell", "1", "'text'", "(True, 1)"]
    assert printed[7].startswith("Signature: len(obj") and printed[-1] == "['cap', 'files', 'os', 'x']"


def test_each_cell_has_figures_of_its_own_after_matplotlib_inline_and_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib_inline")
    pytest.importorskip("matplotlib")
    cells = (
        COMMIT + "%matplotlib inline\nimport matplotlib.pyplot as plt",
        "plt.plot([1, 2]);",
        "commit_and_die()",
        "plt.plot([3]);",
        "plt.get_fignums(), plt.get_backend()",
    )
    shown = ["<Figure size 640x480 with 1 Axes>", "<Figure size 640x480 with 1 Axes>", "([], 'inline')"]
    done = ran(tmp_path, *cells)
    assert (done.returncode, done.stdout.splitlines()) == (0, shown), done.stderr
    killed = command("run", "n.ipynb", cwd=tmp_path, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = command("resume", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, shown[1:]), done.stderr


def test_magics_work_after_a_resume(tmp_path: Path) -> None:
    ran(tmp_path, COMMIT + "commit_and_die()", "!echo from a shell")
    assert command("run", "n.ipynb", cwd=tmp_path, die=True).returncode == -signal.SIGKILL
    done = command("resume", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "from a shell\n"), done.stderr


def test_the_extension_in_a_notebook_that_is_run_acts_on_the_run(tmp_path: Path) -> None:
    done = ran(tmp_path, "%load_ext dartvc", "x = 3", "%dvc_state commit -m here", "%dvc_state status")
    assert done.returncode == 0 and "on branch main\n" in done.stdout and "main-2" not in done.stdout, done.stderr
    items = json.loads(command("log", "--json", cwd=tmp_path).stdout)["items"]
    assert [item["message"] for item in items] == ["exit 0", "here", "run n.ipynb"]


def test_a_traceback_shows_the_lines_of_the_cells(tmp_path: Path) -> None:
    done = ran(tmp_path, "x = 0", "# the second\ndef f():\n    return 1 / x\nf()  # shown (")
    assert done.returncode == 1
    found = [line for line in done.stderr.splitlines() if set(line) - set(" ^~")]
    assert found[:6] == [
        "Traceback (most recent call last):",
        "  Cell In[2], line 4, in <module>",
        "    f()  # shown (",
        "  Cell In[2], line 3, in f",
        "    return 1 / x",
        "ZeroDivisionError: division by zero",
    ]


def test_a_traceback_shows_what_was_run_when_the_script_was_edited_since(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(COMMIT + "commit_and_die()\n1 / 0\n")
    assert command("run", "s.py", cwd=tmp_path, die=True).returncode == -signal.SIGKILL
    (tmp_path / "s.py").write_text(COMMIT.replace("import os", "# edited\n    import os") + "commit_and_die()\npass\n")
    done = command("resume", "--code", "recorded", cwd=tmp_path)
    assert done.returncode == 1 and "    1 / 0\n" in done.stderr


@pytest.mark.parametrize(("cell", "shown"), [("y = 2\nz = = 3", "    z = = 3\n"), ("y = 2\nreturn 3", "    return 3\n")])
def test_a_cell_that_is_no_python_is_shown_as_such(tmp_path: Path, cell: str, shown: str) -> None:
    done = ran(tmp_path, "x = 1", cell)
    assert done.returncode == 1 and done.stderr.startswith(f"  Cell In[2], line 2\n{shown}") and "dartvc" not in done.stderr


@pytest.mark.parametrize("text", ["x = 1\ny = (1,\n", "x = 1\nreturn 5\n", "# coding: nonsense\n"])
def test_a_script_that_is_no_python_fails_as_in_python(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.py").write_text(text)
    plain = subprocess.run([sys.executable, "s.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    for words in (("s.py",), ("--reuse", "s.py"), ("-m", "s")):
        done = command("run", *words, cwd=tmp_path)
        assert done.returncode == plain.returncode == 1 and done.stdout == ""
        assert done.stderr == plain.stderr or (text.startswith("#") and done.stderr.startswith("SyntaxError: ") and done.stderr.count("\n") == 1)


def test_a_package_that_is_no_python_is_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("x = = 1\n")
    (tmp_path / "tool" / "__main__.py").write_text("")
    done = command("run", "-m", "tool", cwd=tmp_path)
    assert done.returncode == 1 and "    x = = 1\n" in done.stderr and "running.py" not in done.stderr


AWAITING = (
    COMMIT
    + "import asyncio\n"
    + "async def twice(n, is_place=False):\n    await asyncio.sleep(0.001)\n    if is_place:\n        commit_and_die()\n    await asyncio.sleep(0)\n    return n * 2\n"
    + "async def count():\n    for number in range(3):\n        await asyncio.sleep(0)\n        yield number\n"
    + "async def background():\n    for number in range(40):\n        await asyncio.sleep(0.001)\n        if number == 3 and WHERE == 'a task':\n"
    + "            commit_and_die()\n    return 'behind'",
    "total = await twice(1)\ntotal",
    "task = asyncio.create_task(twice(20))\nif WHERE == 'between':\n    commit_and_die()",
    "for i in range(3):\n    total += await twice(i)\n    if i == 1 and WHERE == 'a loop':\n        commit_and_die()\nprint('loop', total)",
    "total += await twice(total, WHERE == 'an await')\nawait task",
    "async for each in count():\n    if each == 1 and WHERE == 'async for':\n        commit_and_die()\n    print('each', each)\n[each async for each in count()]",
    "async with asyncio.Lock() as held:\n    print('in', await twice(1))\n    if WHERE == 'async with':\n        commit_and_die()\n    print('in', await twice(2))",
    "other = asyncio.create_task(background())\nawait asyncio.sleep(0.1)\nprint(total, await other)",
    "if WHERE == 'the end':\n    commit_and_die()\ntotal, 'end'",
)
PRINTED = "2\nloop 8\n40\neach 0\neach 1\neach 2\n[0, 1, 2]\nin 2\nin 4\n24 behind\n(24, 'end')\n"


@pytest.mark.parametrize("place", ["between", "a loop", "an await", "async for", "async with", "a task", "the end"])
def test_a_notebook_that_awaits_goes_on_from_where_it_was_killed(tmp_path: Path, place: str) -> None:
    (tmp_path / "n.ipynb").write_text(notebook(f"WHERE = {place!r}", *AWAITING))
    killed = command("run", "n.ipynb", cwd=tmp_path, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = command("resume", cwd=tmp_path)
    assert (done.returncode, killed.stdout.replace("lost\n", "") + done.stdout) == (0, PRINTED), done.stderr


@pytest.mark.parametrize("words", [(), ("--reuse",)])
def test_a_notebook_that_awaits_runs_and_shows_its_own_frames_alone(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "n.ipynb").write_text(notebook("WHERE = ''", *AWAITING, "x = 1\nawait twice(1 / (x - 1))"))
    done = command("run", *words, "n.ipynb", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, PRINTED), done.stderr
    assert done.stderr.startswith("Traceback (most recent call last):\n  Cell In[11], line 2, in <module>\n    await twice(1 / (x - 1))\n")


def test_a_notebook_that_awaits_is_replayed_and_its_values_are_made_again(tmp_path: Path) -> None:
    cells = ("import asyncio, dartvc\nasync def twice(n):\n    await asyncio.sleep(0)\n    return n * 2", "x = 1\nfor i in range(3):\n    x = await twice(x)")
    assert ran(tmp_path, *cells).returncode == 0
    assert "x: the same value" in command("lineage", "x", "--recompute", cwd=tmp_path).stdout
    (tmp_path / "n.ipynb").write_text(notebook(cells[0], cells[1] + "\n    dartvc.log('x', x)"))
    replayed = command("replay", "x", "--all", "--json", cwd=tmp_path)
    assert [item["records"] for item in json.loads(replayed.stdout)["items"]] == [3], replayed.stderr

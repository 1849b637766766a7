"""Scripts that hold, while they run, functions that no stored value may call: killed, they go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dartvc.history.environment import describe_environment
from dartvc.program.frames import is_supported
from tests.integration.test_runs import printed_alike

WORK = """
import contextlib, gzip, os, shutil, sys


def work(path):
    for step in range(4):
        if step == 2:
            commit_and_die()
        if step > 1:
            print(step)
    return path


"""
SCRIPTS = {
    "an exit": 'if __name__ == "__main__":\n    sys.exit(work(None))\n',
    "a shell": 'os.system(work("true"))\n',
    "a local": "def main(path):\n    opener = gzip.open if path.endswith('.gz') else open\n    work(path)\n    print(opener(path).readline())\nmain(__file__)\n",
    "a table": "def main():\n    table = {'move': shutil.move, 'rm': os.remove}\n    work(1)\n    print(sorted(table))\nmain()\n",
    "what an exit stack calls": (
        "with contextlib.ExitStack() as stack:\n    open('f', 'w').close()\n    stack.callback(os.remove, 'f')\n    work(1)\n"
        "    print(os.path.exists('f'))\nprint(os.path.exists('f'))\n"
    ),
    "a static method": "class Loader:\n    opener = staticmethod(open)\nwork(1)\nprint(Loader.opener is open)\n",
}


@pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_holds_one_goes_on(tmp_path: Path, name: str) -> None:
    assert printed_alike(tmp_path, WORK + SCRIPTS[name]).startswith("2\n3\n")


def test_a_package_of_the_project_itself_is_no_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownpackage").mkdir()
    (tmp_path / "ownpackage/__init__.py").write_text("__version__ = '0.3'\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("ownpackage")
    packages = describe_environment(tmp_path, {})["packages"]
    assert isinstance(packages, dict) and "pytest" in packages and "ownpackage" not in packages

"""Programs in the layouts that people use: what their own modules hold comes back with them, from wherever the modules were imported."""

from __future__ import annotations

import json
import os
import signal
import zipapp
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

MAIN = "from own.core import work\nfor turn in range(3):\n    print(turn, work(turn), flush=True)\n"
CORE = COMMIT + "seen = []\ndef work(turn):\n    seen.append(turn)\n    if turn == 1:\n        commit_and_die()\n    return sum(seen), len(seen)\n"
SHOWN = "0 (0, 1)\n1 (1, 2)\n2 (3, 3)\n"


def survives(folder: Path, *words: str) -> None:
    killed = command("run", *words, cwd=folder, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = command("resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert killed.stdout.replace("lost\n", "") + resumed.stdout == SHOWN


def package(folder: Path) -> None:
    (folder / "own").mkdir(parents=True)
    (folder / "own" / "__init__.py").write_text("")
    (folder / "own" / "core.py").write_text(CORE)


def test_a_script_beside_a_src_folder(tmp_path: Path) -> None:
    package(tmp_path / "src")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text("import sys; sys.path.insert(0, 'src')\n" + MAIN)
    command("init", cwd=tmp_path, check=True)
    survives(tmp_path, "scripts/train.py")


def test_a_module_of_a_package(tmp_path: Path) -> None:
    package(tmp_path)
    (tmp_path / "own" / "__main__.py").write_text(MAIN)
    survives(tmp_path, "-m", "own")


def test_a_program_in_an_archive(tmp_path: Path) -> None:
    package(tmp_path / "app")
    (tmp_path / "app" / "__main__.py").write_text(MAIN)
    zipapp.create_archive(tmp_path / "app", tmp_path / "app.pyz")
    survives(tmp_path, "app.pyz")


def test_a_package_that_is_worked_on_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "elsewhere")
    packages, project = tmp_path / "site-packages", tmp_path / "project"
    record = packages / "own-1.0.dist-info" / "direct_url.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"url": f"file://{tmp_path}/elsewhere", "dir_info": {"editable": True}}))
    project.mkdir()
    (project / "train.py").write_text(MAIN)
    paths = [str(tmp_path / "elsewhere"), str(packages), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    survives(project, "train.py")

"""How a command line of ``run`` and the settings of the repository become the options of a run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.cli.entry import run
from dartvc.cli.running import StartOptions, parse_plainly, start
from dartvc.history import Repository
from dartvc.shims.script import RunOptions


def test_how_often_a_run_commits_is_a_setting_that_the_command_line_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[RunOptions] = []

    def run_script(repository: Repository, script: str, words: list[str], options: RunOptions, **more: Any) -> int:
        chosen.append(options)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dartvc.shims.script.run_script", run_script)
    monkeypatch.setattr("dartvc.cli.running.begin_again", lambda wanted: None)  # it begins the process anew
    Path("train.py").write_text("x = 1\n", encoding="utf-8")
    config = Repository.init().config
    start(StartOptions("run", ["train.py"]))
    config.set("dartvc.maxOverhead", "0.5")
    config.set("dartvc.every", "2m")
    start(StartOptions("run", ["train.py"]))
    start(StartOptions("run", ["train.py"], max_overhead=3.0, every=0.0))
    assert [(each.max_overhead, each.every_s) for each in chosen] == [(0.01, 0.0), (0.005, 120.0), (0.03, 0.0)]


def test_a_folder_named_by_c_is_where_the_program_starts(tmp_path: Path) -> None:
    """Python is begun again on the way, from another folder and by a script that was named relative to the first one."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "where.py").write_text("import os, sys\nprint(os.getcwd(), sys.argv, sys.path[0])\nraise SystemExit(3)\n")
    (tmp_path / "start.py").write_text("from dartvc.cli.entry import main\nraise SystemExit(main())\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    project = str(tmp_path / "project")

    def start(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    shown = f"{project} ['where.py', 'a'] {project}\n"
    for begun in (["-m", "dartvc"], ["start.py"], ["-c", "from dartvc.cli.entry import main; raise SystemExit(main())"]):
        assert start(*begun, "-C", "project", "run", "where.py", "a") == (3, shown, "")
        assert start(*begun, "-q", "-C", "project", "run", "--max-overhead", "1", "where.py", "a")[:2] == (3, shown)
        assert start(*begun, "-C", "project", "resume", "HEAD~1")[:2] == (3, shown)
        assert start(*begun, "-C", "nowhere", "run", "where.py")[0] == 2
    assert not (tmp_path / ".dvc-state").exists()


@pytest.mark.parametrize("words", [("--code", "foo"), ("--map-device", "foo"), ("--map-device", "cuda:x"), ("--map-device=gpu",)])
def test_choices_that_there_are_not_are_refused_where_options_are_read(words: tuple[str, ...], tmp_path: Path) -> None:
    assert parse_plainly(["resume", *words]) is None
    out, err = io.StringIO(), io.StringIO()
    Repository.init(tmp_path)
    code = run(["resume", *words], stdout=out, stderr=err, directory=str(tmp_path))
    assert code == 2 and "error: " in err.getvalue()


@pytest.mark.parametrize("words", [("--code", "current"), ("--code=recorded",), ("--map-device", "cpu"), ("--map-device=cuda:1",), ("--map-device", "mps")])
def test_choices_that_there_are_need_no_second_reader(words: tuple[str, ...]) -> None:
    assert parse_plainly(["resume", *words]) is not None

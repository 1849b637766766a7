"""How a command line of ``run`` and the settings of the repository become the options of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dartvc.cli.running import StartOptions, start
from dartvc.history import Repository
from dartvc.shims.script import RunOptions


def test_how_often_a_run_commits_is_a_setting_that_the_command_line_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[RunOptions] = []

    def run(repository: Repository, script: str, words: list[str], options: RunOptions, **more: Any) -> int:
        chosen.append(options)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dartvc.shims.script.run_script", run)
    monkeypatch.setattr("dartvc.cli.running.begin_again", lambda wanted: None)  # it begins the process anew
    Path("train.py").write_text("x = 1\n", encoding="utf-8")
    config = Repository.init().config
    start(StartOptions("run", ["train.py"]))
    config.set("dartvc.maxOverhead", "0.5")
    config.set("dartvc.every", "2m")
    start(StartOptions("run", ["train.py"]))
    start(StartOptions("run", ["train.py"], max_overhead=3.0, every=0.0))
    assert [(each.max_overhead, each.every_s) for each in chosen] == [(0.01, 0.0), (0.005, 120.0), (0.03, 0.0)]

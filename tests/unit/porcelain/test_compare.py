"""`diff`: which names differ between two commits, and what is said of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dartvc.cli.render import render_diff
from dartvc.history import Repository
from dartvc.history.blame import blame
from dartvc.model import CommitKind, Oid, StagedCommit
from dartvc.porcelain.compare import compare
from dartvc.state.summaries import summarize
from dartvc.state.working import WorkingNamespace


class Program:
    """A namespace whose cells are committed one by one."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.init(folder)
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.working = WorkingNamespace(self.namespace, summarize)
        self.commits: list[Oid] = []

    def cell(self, code: str, further: dict[str, object] | None = None) -> None:
        exec(code, self.namespace)
        with self.working.with_names(further or {}):
            delta = self.working.stage(None)
        writer = self.repository.writer()
        number = len(self.commits)
        staged = StagedCommit(
            code, CommitKind.CELL, 1.0e9 + number, 0, code=code, changed=delta.changed, added=delta.added, removed=delta.removed
        )
        self.commits.append(writer.write(staged, self.commits[-1:]))
        writer.publish()

    def told(self, names: list[str] | None = None) -> list[str]:
        return list(render_diff(compare(self.repository, self.commits[-2], self.commits[-1], names).names))


def test_a_name_that_is_only_stored_with_another_is_no_difference(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.cell("class A: pass\na = A(); x = [1, 2]; y = {'k': x}")
    program.cell("a.n = 1; y['z'] = 1")
    assert [line.split()[1] for line in program.told() if line.startswith("~")] == ["a", "y"]
    assert program.repository.commit(program.commits[-1]).modified == ("a", "y")
    assert {name: commit.oid for name, commit in blame(program.repository, program.commits[-1]).items()} == {
        "A": program.commits[0],
        "x": program.commits[0],
        "a": program.commits[1],
        "y": program.commits[1],
    }


def test_what_is_too_long_to_look_into_is_said_to_be_stored_with_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dartvc.porcelain.compare._READ_BYTES", 1000)
    program = Program(tmp_path)
    program.cell("x = [str(n) for n in range(1000)]; y = {'k': x}")
    program.cell("y['z'] = 1")
    assert "~ x  stored together with y" in "\n".join(program.told()).replace("list: ", "")
    assert any(line.startswith("~ y") for line in program.told())


def test_what_is_kept_of_the_process_is_told_only_to_who_asks(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.cell("x = [1]", {"process._.hooks": [1]})
    program.cell("x.append(2)", {"process._.hooks": [1, 2]})
    assert [line.split()[1] for line in program.told() if line.startswith("~")] == ["x"]
    assert program.told(["process._.hooks"])


def test_elements_beside_the_stream_and_in_it_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    program = Program(tmp_path)
    program.cell("import numpy as np\nsmall = np.zeros((50, 40)); large = {'w': np.zeros(200_000), 'b': np.zeros(200_000)}")
    program.cell("small[1, 1] = 2; large['b'][7] = 3")
    told = "\n".join(program.told())
    assert "1 of 2000 elements changed, max abs 2" in told
    assert "b: 1 of 200000 elements changed, max abs 3" in told

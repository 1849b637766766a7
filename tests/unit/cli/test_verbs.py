"""What the verbs answer, called as the console script and a session's socket call them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dartvc.cli.entry import run
from dartvc.history import Repository
from dartvc.model import CommitKind
from dartvc.sessions import Session


class Project:
    """A repository with a living session, and both ways to give a command: inside the session, and with HEAD alone."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.init(folder, key_path=folder / "key", trust_path=folder / "trusted")
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.session = Session(self.repository, self.namespace)

    def commit(self, message: str, **values: object) -> str:
        """Binds names and commits them."""
        self.namespace.update(values)
        self.session.checkpoint(message, CommitKind.MANUAL, force=True)
        self.session.flush()
        return str(self.session.head)

    def __call__(self, *words: str, expected: int = 0, is_inside: bool = True) -> str:
        """Gives a command; returns its results, or its messages where it is to fail."""
        out, err = io.StringIO(), io.StringIO()
        workspace = self.session if is_inside else None
        code = run(words, stdout=out, stderr=err, workspace=workspace, repository=self.repository, directory=str(self.repository.root))
        self.session.flush()
        assert code == expected, (code, out.getvalue(), err.getvalue())
        self.said = err.getvalue()
        return out.getvalue() if expected == 0 else out.getvalue() + err.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Three commits of ``x``."""
    made = Project(tmp_path)
    for number in range(3):
        made.commit(f"step {number}", x=number)
    yield made
    made.session.close()


def test_a_negative_count_is_no_limit_as_in_git(project: Project) -> None:
    assert project("log", "-n", "-1", "--oneline") == project("log", "--oneline")
    assert project("op", "log", "-n", "-1").splitlines() == project("op", "log").splitlines() != []
    assert len(json.loads(project("log", "-n", "2", "--json"))["items"]) == 2


@pytest.mark.parametrize("rule", ["max:x:1", "max:x 1"])
def test_gc_keeps_the_best_in_both_spellings(project: Project, rule: str) -> None:
    assert "thinned" in project("gc", "--dry-run", "--keep-best", rule)


@pytest.mark.parametrize("words", [("--keep-last", "-1"), ("--keep-best", "max:x"), ("--keep-within", "-7d"), ("--keep-within", "nan")])
def test_gc_refuses_rules_that_mean_nothing(project: Project, words: tuple[str, ...]) -> None:
    assert "error: " in project("gc", "--dry-run", *words, expected=2)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("dartvc.keepLast", "ten", "not a number"), ("dartvc.keepLast", "1.5", "not a number"), ("dartvc.keepWithin", "soon", "not a duration"),
        ("dartvc.keepBest", "acc", "not a rule"), ("dartvc.maxOverhead", "nan", "not a percentage"), ("DARTVC.EVERY", "x", "dartvc.every cannot"),
        ("dartvc.keeplasts", "5", "did you mean dartvc.keepLast?"), ("dartvx.keepLast", "5", "there is no setting"), ("author", "me", "there is no setting"),
    ],
)  # fmt: skip
def test_settings_that_no_reader_understands_are_refused(project: Project, key: str, value: str, said: str) -> None:
    before = (project.repository.path / "config").read_bytes()
    assert said in project("config", key, value, expected=2)
    assert (project.repository.path / "config").read_bytes() == before


def test_settings_are_printed_as_json_and_git_keeps_its_own(project: Project) -> None:
    assert json.loads(project("config", "dartvc.every", "60", "--json")) == {"schema": "dvc-state/config/1", "key": "dartvc.every", "value": "60"}
    assert json.loads(project("config", "dartvc.every", "--json"))["value"] == "60"
    assert project("config", "--list") == project("config") and "dartvc.every=60\n" in project("config")
    project("config", "user.name", "me")
    assert project("config", "user.name") == "me\n"
    project("config", "--list", "user.name", expected=2)


def test_a_bisection_without_result_is_json_too(project: Project) -> None:
    assert json.loads(project("bisect", "run", "--expr", "x > 7", "--json", expected=1)) == {"schema": "dvc-state/bisect/1", "oid": None, "tested": 2}
    assert json.loads(project("bisect", "run", "--expr", "x > 1", "--json"))["oid"] == project.session.head

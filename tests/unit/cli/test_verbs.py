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

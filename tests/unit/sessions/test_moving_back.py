"""What a user takes back, sets aside and makes again in one session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dartvc.errors import NotFoundError, RefusedError
from dartvc.history import Repository
from dartvc.model import CommitKind
from dartvc.porcelain.moves import checkout, redo, undo
from dartvc.porcelain.stashing import stash, stash_drop, stash_list, stash_pop
from dartvc.sessions import Session
from dartvc.shims.prompt import parting


class Cells:
    """A session that runs cells."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.init(folder, key_path=folder / "key")
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.session = Session(self.repository, self.names)

    def run(self, code: str, *, is_own: bool = False) -> None:
        """Runs a cell; ``is_own``: a line of our magic, which the session is told to look behind quietly."""
        self.session.begin_unit()
        if not is_own:
            exec(compile(code, "<cell>", "exec"), self.names)
        source = "" if is_own else code
        self.session.end_unit(code, source=source, execution=1, error="", duration_s=0.0, quiet=is_own)
        self.session.flush()

    def go(self, revision: str) -> None:
        """Checks a revision out."""
        checkout(self.repository, self.session, revision)

    def values(self) -> dict[str, object]:
        """Returns the plain values."""
        return {name: value for name, value in self.names.items() if isinstance(value, int | str | list) and not name.startswith("__")}

    def messages(self) -> list[str]:
        """Returns what stands in the history of HEAD."""
        head = self.session.head
        return [commit.message for commit in self.repository.iter_log([head])] if head else []


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Cells]:
    """A session of its own."""
    made = Cells(tmp_path)
    yield made
    made.session.close()


def test_a_checkout_can_be_undone_after_a_cell_on_the_branch_that_began_there(cells: Cells) -> None:
    for value in (1, 2, 3):
        cells.run(f"x = {value}")
    cells.go("HEAD~1")
    cells.run("y = 5")
    assert cells.session.branch not in (None, "main")
    undo(cells.repository, cells.session)
    assert cells.session.head is not None and cells.values() == {"x": 2}
    assert [name for name, _ in cells.repository.database.refs.iter_refs("refs/heads/")] == ["refs/heads/main"]
    undo(cells.repository, cells.session)
    assert (cells.session.branch, cells.values()) == ("main", {"x": 3})
    redo(cells.repository, cells.session)
    redo(cells.repository, cells.session)
    assert cells.values() == {"x": 2, "y": 5}
    branches = {name.removeprefix("refs/heads/") for name, _ in cells.repository.database.refs.iter_refs("refs/heads/")}
    assert branches == {"main", cells.session.branch}


def test_cells_that_changed_nothing_are_no_steps_and_stay_in_the_history(cells: Cells) -> None:
    for value in (1, 2, 3):
        cells.run(f"x = {value}")
    cells.go("HEAD~2")
    cells.run("x + 0")
    undo(cells.repository, cells.session)  # the checkout, with the branch that the look began
    assert (cells.session.branch, cells.values()) == ("main", {"x": 3})
    assert [name for name, _ in cells.repository.database.refs.iter_refs("refs/heads/")] == ["refs/heads/main"]
    cells.run("x + 1")
    undo(cells.repository, cells.session)
    assert (cells.values(), cells.messages()) == ({"x": 2}, ["x = 2", "x = 1"])
    for number in (2, 3):
        cells.run(f"x + {number}")
    redo(cells.repository, cells.session)
    assert (cells.values(), cells.messages()) == ({"x": 3}, ["x = 3", "x = 2", "x = 1"])
    cells.run("x + 4")
    cells.run("x = 4")
    for expected in (3, 2):
        undo(cells.repository, cells.session)
        assert cells.values() == {"x": expected}
    for _ in range(2):
        redo(cells.repository, cells.session)
    assert cells.messages() == ["x = 4", "x + 4", "x = 3", "x = 2", "x = 1"]
    with pytest.raises(NotFoundError, match="nothing to redo"):
        redo(cells.repository, cells.session)


def test_a_look_is_no_step_whatever_it_drew_and_what_it_set_is_one(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cells.repository.root)
    (cells.repository.root / "data").mkdir()
    cells.run("import os, random\nx = 1")
    cells.run("x = 2")
    cells.run("random.random()")
    undo(cells.repository, cells.session)
    assert cells.values() == {"x": 1}
    cells.run("random.random()")
    redo(cells.repository, cells.session)
    cells.run("os.chdir('data')")
    undo(cells.repository, cells.session)
    assert (cells.values(), Path.cwd()) == ({"x": 2}, cells.repository.root)


def test_there_is_nothing_to_undo_where_nothing_was_changed(cells: Cells) -> None:
    cells.run("import os")
    cells.run("x = 1")
    cells.run("x")
    undo(cells.repository, cells.session)
    with pytest.raises(RefusedError, match="no state before the first commit"):
        undo(cells.repository, cells.session)


def test_what_was_made_again_keeps_its_recipe_and_is_no_change(cells: Cells) -> None:
    cells.run("import threading\nmade = []\nlock = threading.Event()\nhandle = iter(callable, 1) if False else memoryview")
    cells.run("import sys\nclass Odd:\n    def __reduce__(self): raise TypeError('no')\n    mark = 0\nodd = Odd()\na = 1")
    cells.run("a = 2")
    cells.run("odd.mark += 1")
    for _ in range(2):
        cells.go("HEAD~2")
        cells.run("%dvc_state log", is_own=True)
        assert (cells.names["a"], getattr(cells.names["odd"], "mark", None)) == (1, 0)
        undo(cells.repository, cells.session)
        cells.run("%dvc_state log", is_own=True)
        assert (cells.names["a"], getattr(cells.names["odd"], "mark", None)) == (2, 1)
    cells.run("odd.mark += 10")
    cells.run("del odd")
    cells.go("HEAD~1")
    assert getattr(cells.names["odd"], "mark", None) == 11
    assert not any("dvc_state" in message for message in cells.messages())


def test_a_line_of_our_own_commits_nothing_while_a_thread_runs(cells: Cells) -> None:
    import threading

    cells.run("class Odd:\n    def __reduce__(self): raise TypeError('no')\nodd = Odd()")
    before = cells.session.head
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    cells.run("%dvc_state log", is_own=True)
    release.set()
    thread.join()
    assert cells.session.head == before


def test_a_session_that_has_to_leave_its_branch_is_told_once(cells: Cells) -> None:
    cells.run("x = 1")
    other = Session(cells.repository, {"__name__": "__main__", "y": 1})
    checkout(cells.repository, other, "main")
    other.namespace["y"] = 2
    other.checkpoint("first", CommitKind.MANUAL)
    assert (other.branch, parting(other), parting(cells.session)) == ("main", "", "")
    cells.run("x = 2")
    told = parting(cells.session)
    assert told == f"dartvc: main was moved by another session: the commits of this one go to {cells.session.branch}"
    assert cells.session.branch != "main" and parting(cells.session) == ""
    other.close()


def test_a_stash_comes_back_on_top_of_what_was_done_since(cells: Cells) -> None:
    cells.run("x = [1]; y = 1")
    cells.session.checkpoint("named", CommitKind.MANUAL, force=True)
    cells.run("x.append(2)")
    cells.run("new = 'n'")
    stash(cells.repository, cells.session)
    assert cells.values() == {"x": [1], "y": 1}
    cells.run("y = 2; z = 3")
    stash_pop(cells.repository, cells.session)
    assert cells.values() == {"x": [1, 2], "y": 2, "z": 3, "new": "n"}
    assert cells.messages()[:2] == ["stash pop", "y = 2; z = 3"] and stash_list(cells.repository) == []
    with pytest.raises(NotFoundError):
        stash_pop(cells.repository, cells.session)


def test_a_stash_comes_back_as_it_was_when_nothing_happened_since(cells: Cells) -> None:
    cells.run("x = 1")
    cells.session.checkpoint("named", CommitKind.MANUAL, force=True)
    cells.run("x = 2")
    tip = cells.session.head
    stash(cells.repository, cells.session)
    stash_pop(cells.repository, cells.session)
    assert (cells.session.head, cells.values()) == (tip, {"x": 2})


def test_a_stash_that_meets_other_changes_is_refused_and_kept(cells: Cells) -> None:
    cells.run("x = 1")
    cells.session.checkpoint("named", CommitKind.MANUAL, force=True)
    cells.run("x = 2")
    stash(cells.repository, cells.session)
    cells.run("x = 3")
    with pytest.raises(RefusedError, match="x changed since"):
        stash_pop(cells.repository, cells.session)
    assert cells.values() == {"x": 3} and len(stash_list(cells.repository)) == 1


def test_stashes_lie_on_each_other(cells: Cells) -> None:
    cells.run("x = 0")
    cells.session.checkpoint("named", CommitKind.MANUAL, force=True)
    with pytest.raises(RefusedError, match="nothing"):
        stash(cells.repository, cells.session)
    for name in ("a", "b", "c"):
        cells.run(f"{name} = 1")
        stash(cells.repository, cells.session)
    assert [each.commit.added for each in stash_list(cells.repository)] == [("c",), ("b",), ("a",)]
    stash_drop(cells.repository)
    stash_pop(cells.repository, cells.session)
    assert cells.values() == {"x": 0, "b": 1}
    stash_pop(cells.repository, cells.session)
    assert cells.values() == {"x": 0, "a": 1, "b": 1}

"""Names that are brought back from another commit: the next commit has them, whatever HEAD had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import dartvc
from dartvc.history import Repository
from dartvc.model import Commit
from dartvc.porcelain.compare import compare
from dartvc.porcelain.moves import cherry_pick, redo, restore, revert, undo
from dartvc.sessions import Session
from dartvc.state.working import WorkingNamespace
from tests.unit.sessions.test_moving_back import Cells


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Cells]:
    """A session of its own."""
    made = Cells(tmp_path)
    yield made
    made.session.close()


def held(cells: Cells, revision: str = "HEAD") -> dict[str, object]:
    """Returns what a commit holds, loaded into a dict of its own."""
    oid = cells.repository.resolve(revision, head=cells.session.head)
    return {name: value for name, value in cells.session.load(oid).items() if not name.startswith("__")}


def last(cells: Cells) -> Commit:
    """Returns HEAD's commit."""
    assert cells.session.head is not None
    return cells.repository.commit(cells.session.head)


VALUES = [
    "w = {number}",
    "w = [{number}] * 3",
    "w = {{'a': [{number}], 'b': 'text'}}",
    "w = 'text {number}' * 5000",
    "import numpy\nw = numpy.full(300_000, {number})",
    "import numpy\nw = [numpy.arange(100_000) * {number}, {{'at': {number}}}]",
    "import pandas\nw = pandas.DataFrame({{'a': [{number}, 2], 'b': ['x', 'y']}})",
]


@pytest.mark.parametrize("made", VALUES)
def test_what_was_restored_is_in_the_commit(cells: Cells, made: str) -> None:
    if "pandas" in made:
        pytest.importorskip("pandas")
    cells.run(made.format(number=1))
    cells.run(made.format(number=2))
    first = cells.repository.resolve("HEAD~1", head=cells.session.head)
    restore(cells.repository, cells.session, ["w"], "HEAD~1")
    head = cells.session.head
    assert head is not None and last(cells).modified == ("w",) and last(cells).subject.startswith("restore w from ")
    assert repr(held(cells)["w"]) == repr(cells.names["w"]) == repr(held(cells, first)["w"])
    assert compare(cells.repository, first, head, ["w"]).names == ()
    cells.run("other = 1")
    assert last(cells).added == ("other",) and last(cells).modified == ()
    assert repr(held(cells)["w"]) == repr(held(cells, first)["w"])


def test_an_array_that_was_written_in_place_is_recorded(cells: Cells) -> None:
    cells.run("import numpy\nw = numpy.zeros(300_000)")
    before = cells.names["w"]
    cells.run("w += 1")
    restore(cells.repository, cells.session, ["w"], "HEAD~1")
    assert cells.names["w"] is before
    assert not np.any(np.asarray(before)) and not np.any(np.asarray(held(cells)["w"]))
    cells.run("w[:10] = 7")
    assert np.sum(np.asarray(held(cells)["w"])) == 70


def test_a_view_of_what_comes_back_sees_it(cells: Cells) -> None:
    cells.run("import numpy\nw = numpy.zeros(300_000); view = w[:10]")
    cells.run("w += 1")
    restore(cells.repository, cells.session, ["view"], "HEAD~1")
    state = held(cells)
    for names in (cells.names, state):
        w, view = np.asarray(names["w"]), np.asarray(names["view"])
        assert not np.any(w) and np.shares_memory(w, view)


def test_names_that_shared_an_object_share_it_again_and_others_part_from_them(cells: Cells) -> None:
    cells.run("a = [1]; b = a; c = 0")
    cells.run("b = [2]; c = b")
    restore(cells.repository, cells.session, ["a"], "HEAD~1")
    assert cells.values() == {"a": [1], "b": [1], "c": [2]} and cells.names["a"] is cells.names["b"]
    state = held(cells)
    assert (state["a"], state["b"], state["c"]) == ([1], [1], [2]) and state["a"] is state["b"] is not state["c"]
    cells.run("a.append(3)")
    assert (held(cells)["b"], held(cells)["c"]) == ([1, 3], [2])
    cells.run("c.append(4)")
    assert (held(cells)["b"], held(cells)["c"]) == ([1, 3], [2, 4])


def test_a_name_that_was_deleted_comes_back_as_an_added_one(cells: Cells) -> None:
    cells.run("w = [1]")
    cells.run("del w")
    restore(cells.repository, cells.session, ["w"], "HEAD~1")
    assert last(cells).added == ("w",) and held(cells) == {"w": [1]}
    restore(cells.repository, cells.session, ["w"], "HEAD")
    assert last(cells).added == ("w",)  # HEAD has it: nothing was brought back, nothing is committed


def test_what_was_restored_is_undone_and_redone(cells: Cells) -> None:
    cells.run("w = [1]")
    cells.run("w = [2]")
    restore(cells.repository, cells.session, ["w"], "HEAD~1")
    undo(cells.repository, cells.session)
    assert cells.values() == {"w": [2]} == held(cells)
    redo(cells.repository, cells.session)
    assert cells.values() == {"w": [1]} == held(cells)
    restore(cells.repository, cells.session, ["w"], "HEAD~1")
    assert cells.values() == {"w": [2]} == held(cells)


def test_what_a_commit_did_is_picked_and_reverted(cells: Cells) -> None:
    cells.run("w = [1]; x = 1")
    cells.run("w = [2]; y = 5")
    picked = cells.session.head
    cells.go("HEAD~1")
    cells.run("x = 7")
    cherry_pick(cells.repository, cells.session, str(picked))
    assert cells.values() == {"w": [2], "x": 7, "y": 5} == held(cells)
    assert (last(cells).modified, last(cells).added) == (("w",), ("y",))
    cells.run("z = 0")
    revert(cells.repository, cells.session, "HEAD~1")
    assert cells.values() == {"w": [1], "x": 7, "z": 0} == held(cells)
    assert (last(cells).modified, last(cells).removed) == (("w",), ("y",))


def test_two_restores_before_a_commit_go_by_what_is_there(cells: Cells) -> None:
    cells.run("w = [1]")
    cells.run("w = [2]")
    head = cells.session.head
    assert head is not None
    cells.session.restore(cells.repository.resolve("HEAD~1", head=head), ["w"])
    cells.session.restore(head, ["w"])
    assert cells.values() == {"w": [2]}
    cells.session.restore(cells.repository.resolve("HEAD~1", head=head), ["w"])
    cells.session.restore(head)
    assert cells.values() == {"w": [2]}
    assert cells.session.checkpoint("nothing") is None


def test_what_cannot_be_stored_keeps_its_recipe_when_it_is_brought_back(cells: Cells) -> None:
    cells.run("class Odd:\n    def __reduce__(self): raise TypeError('no')\n    mark = 0")
    cells.run("odd = Odd(); odd.mark = 3; other = Odd(); other.mark = 1")
    cells.run("odd = 1")
    restore(cells.repository, cells.session, ["odd"], "HEAD~1")
    assert last(cells).omitted == ("odd",)
    cells.run("odd = other = None")
    cells.go("HEAD~1")
    assert [getattr(cells.names[name], "mark", None) for name in ("odd", "other")] == [3, 1]


def test_a_checkout_of_the_whole_state_stores_nothing_again(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.run("import numpy\nw = numpy.ones(300_000); v = [1, 2]; s = {'k': 'text'}")
    cells.run("w = w * 2; v.append(3); s['k'] = 'other'")
    cells.go("HEAD~1")
    looked: list[object] = []
    stage: Callable[..., object] = WorkingNamespace._stage_group

    def noted(*given: object) -> object:
        looked.append(given[1])
        return stage(*given)

    monkeypatch.setattr(WorkingNamespace, "_stage_group", noted)
    cells.run("x = 1")
    assert looked == [] and (last(cells).modified, last(cells).added) == ((), ("x",))


def test_names_of_a_checkout_in_python_are_in_the_next_commit(tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    state: dict[str, object] = {"w": 1}
    repository.commit(state, "one")
    state["w"] = 2
    repository.commit(state, "two")
    repository.checkout("HEAD~1", state, names=["w"])
    repository.commit(state, "three")
    assert state == {"w": 1} == repository.load("HEAD")
    repository.checkout("HEAD~1", state)
    assert state == {"w": 1}
    repository.checkout("HEAD~1", state)
    assert state == {"w": 2}


def test_a_fresh_session_that_takes_one_name_has_only_that_one(tmp_path: Path) -> None:
    first = Cells(tmp_path)
    first.run("w = [1]; v = 2")
    first.session.close()
    names: dict[str, object] = {"__name__": "__main__"}
    session = Session(Repository.open(tmp_path, key_path=tmp_path / "key"), names)
    restore(session.repository, session, ["w"], "HEAD")
    assert session.head is not None and set(session.repository.names(session.head)) == {"w"} == names.keys() - {"__name__"}
    session.close()

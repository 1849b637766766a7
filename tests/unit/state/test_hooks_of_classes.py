"""Whose code runs when an object is pickled."""

from __future__ import annotations

import pytest

from dartvc.state.adapters.guarded import runs_code_when_pickled
from dartvc.state.rebuild import Door


class Counting:
    """A class whose pickling changes it."""

    def __init__(self) -> None:
        self.count = 0

    def __getstate__(self) -> dict[str, int]:
        self.count += 1
        return {"count": self.count}


def test_only_the_users_own_code_counts() -> None:
    assert runs_code_when_pickled(Counting)
    assert not runs_code_when_pickled(Door)
    assert not runs_code_when_pickled(dict)


def test_what_a_compiled_library_brings_is_no_code_of_the_users() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.0]})
    for value in (frame, frame._mgr, frame._mgr.blocks[0], frame.columns):
        assert not runs_code_when_pickled(type(value)), type(value)

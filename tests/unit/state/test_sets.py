"""Sets come back with their elements in the same order, also later on."""

from __future__ import annotations

import threading
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.state.loading import LiveBuffers, Loading, load
from dartvc.state.sets import irregular, is_supported, lay_out
from dartvc.state.summaries import summarize
from dartvc.state.working import WorkingNamespace

ELEMENTS = st.one_of(
    st.integers(-3, 40), st.integers(0, 10**12), st.text(max_size=3), st.floats(allow_nan=False), st.tuples(st.integers(0, 3), st.text(max_size=1))
)
CHANGES = st.lists(st.tuples(st.sampled_from(["add", "add", "add", "discard", "discard", "pop", "update", "shrink"]), ELEMENTS), max_size=60)

needs_tables = pytest.mark.skipif(not is_supported(), reason="this interpreter's sets are laid out otherwise")


def change(elements: set[Any], changes: list[tuple[str, Any]]) -> list[Any]:
    """Does things to a set; returns what was seen of its order meanwhile."""
    seen: list[Any] = []
    for kind, element in changes:
        if kind == "add":
            elements.add(element)
        elif kind == "discard":
            elements.discard(element)
        elif kind == "update":
            elements.update({element, *range(20)})
        elif kind == "shrink":
            elements -= set(range(15))
        elif elements:
            seen.append(elements.pop())
        seen.append(list(elements))
    return seen


def round_trip(namespace: dict[str, Any]) -> dict[str, Any]:
    working = WorkingNamespace(namespace, summarize)
    working.keeps_strings = True
    saved = working.pickled(tuple(namespace))
    assert saved is not None
    return load(saved.stream, Loading({}, LiveBuffers(saved.buffers)))


@needs_tables
@given(CHANGES, CHANGES)
@settings(max_examples=300, deadline=None)
def test_a_set_keeps_the_order_of_its_elements_and_goes_on_as_it_would_have(before: list[tuple[str, Any]], after: list[tuple[str, Any]]) -> None:
    elements: set[Any] = set()
    change(elements, before)
    frozen = frozenset(elements)
    loaded = round_trip({"elements": elements, "holder": [elements], "frozen": frozen})
    again = loaded["elements"]
    assert list(loaded["frozen"]) == list(frozen) and hash(loaded["frozen"]) == hash(frozen)
    assert set(loaded) == {"elements", "holder", "frozen"} and loaded["holder"][0] is again
    assert list(again) == list(elements)
    assert change(again, after) == change(elements, after)
    assert all(each in again for each in elements)


@needs_tables
def test_what_is_left_of_a_large_set_comes_in_the_order_of_the_large_one() -> None:
    remaining = set(range(100_000))
    remaining -= set(range(99_000))
    remaining.discard(99_500)
    again = round_trip({"remaining": remaining})["remaining"]
    assert list(again) == list(remaining)
    assert [again.pop() for _ in range(500)] == [remaining.pop() for _ in range(500)]


@needs_tables
def test_an_ordinary_set_is_stored_as_pickle_stores_it() -> None:
    assert irregular([set(), {1, 2, 3}, {object()}, set(range(1000)), frozenset({7, 5})]) is None


class Hiding:
    """Holds a set that it does not pickle."""

    def __init__(self) -> None:
        self.locks = {threading.Lock() for _ in range(3)}
        self.numbers = set(range(1000)) - set(range(900)) | {8, 0}
        self.numbers.discard(8)

    def __getstate__(self) -> dict[str, Any]:
        return {"size": len(self.numbers)}


@needs_tables
def test_a_set_that_an_object_leaves_out_stays_out() -> None:
    hiding = Hiding()
    hiding.locks.pop()
    namespace = {"size": [hiding], "gaps": set(range(50)) - set(range(40))}
    namespace["gaps"].discard(45)  # type: ignore[attr-defined]
    loaded = round_trip(namespace)
    assert vars(loaded["size"][0]) == {"size": 101} and list(loaded["gaps"]) == list(namespace["gaps"])


@needs_tables
def test_a_table_in_which_elements_would_not_be_found_is_not_laid_out() -> None:
    elements = {1, 2, 3}
    lay_out([(elements, [3, 1, 2], 8, 0, array("I", [0, 1, 2]).tobytes(), b"")])  # 3 does not belong at 0
    assert elements == {1, 2, 3} and all(each in elements for each in (1, 2, 3))
    lay_out([(elements, [1, 2, 3, 4], 8, 0, array("I", [1, 2, 3, 4]).tobytes(), b"")])
    assert elements == {1, 2, 3}


@needs_tables
@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 4096])
def test_every_size_of_a_table_can_be_made(size: int) -> None:
    elements = {1, 2}
    lay_out([(elements, [1, 2], size, 3, array("I", [1, 2]).tobytes(), array("I", [5]).tobytes())])
    assert list(elements) == [1, 2] and elements.__sizeof__() == set().__sizeof__() + (size * 16 if size > 8 else 0)
    elements.update(range(100))
    assert elements == set(range(100))

"""What leaves memory first, under each policy; what is spilled; what is pinned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.errors import UsageError
from dartvc.history.config import parse_size
from dartvc.lineage.eviction import POLICIES, policy_named
from dartvc.lineage.memory import Entry, Memory


def filled(policy: str, entries: list[Entry], budget: int = 1000, pinned: tuple[str, ...] = ()) -> list[str]:
    """Adds entries and returns the names of those that are left."""
    memory = Memory(budget, policy_named(policy), pinned)
    for each in entries:
        memory.add(each.site.encode(), each)
    return [each.site for each in entries if list(memory.iter_entries(each.site.encode()))]


def three(**first: float) -> list[Entry]:
    """Returns three entries of which two fit, the first one with other values."""
    rest = [Entry(name, None, 400, 1.0, height=2) for name in "bc"]
    return [Entry("a", None, 400, first.get("cost_s", 1.0), height=int(first.get("height", 2))), *rest]


def test_cost_and_size_throws_out_what_saves_least() -> None:
    assert filled("cost-and-size", three(cost_s=5.0)) == ["a", "c"]
    assert filled("cost-and-size", three(cost_s=0.5)) == ["b", "c"]


def test_lru_throws_out_what_was_not_used_for_longest() -> None:
    assert filled("lru", three(cost_s=5.0)) == ["b", "c"]


def test_dag_height_throws_out_the_deepest() -> None:
    assert filled("dag-height", three(height=9)) == ["b", "c"]
    assert filled("dag-height", three(height=1)) == ["a", "c"]


def test_hybrid_weighs_all_three() -> None:
    assert filled("hybrid", three(cost_s=0.1, height=9)) == ["b", "c"]
    assert filled("hybrid", three(cost_s=9.0, height=1)) == ["a", "c"]


def test_what_is_pinned_stays() -> None:
    assert filled("cost-and-size", three(cost_s=0.001), pinned=("a",)) == ["a", "c"]


def test_what_was_wanted_again_after_it_left_counts_for_more() -> None:
    memory = Memory(1000)
    for _ in range(3):
        for each in three():
            memory.add(each.site.encode(), each)
    assert max(each.uses for key in (b"a", b"b", b"c") for each in memory.iter_entries(key)) > 0


def test_what_leaves_is_offered_to_the_disk() -> None:
    memory, gone = Memory(1000), []
    memory.spill = lambda key, entry: gone.append(entry.site)
    for each in [*three(cost_s=0.5), Entry("huge", None, 600, 1.0)]:
        memory.add(each.site.encode(), each)
    assert gone == ["a", "huge"]


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    rows=st.lists(st.tuples(st.integers(1, 600), st.floats(1e-6, 1e3), st.integers(1, 50)), min_size=1, max_size=40),
)
def test_the_budget_is_kept_under_every_policy(policy: str, rows: list[tuple[int, float, int]]) -> None:
    memory = Memory(1000, policy_named(policy))
    for number, (size, cost_s, height) in enumerate(rows):
        memory.add(str(number % 7).encode(), Entry("x", None, size, cost_s, height=height))
        held = [each for key in range(7) for each in memory.iter_entries(str(key).encode())]
        assert memory.size_bytes == sum(each.size_bytes for each in held) <= 1000


@pytest.mark.parametrize("is_dear", [False, True])
def test_a_large_result_makes_room_for_others_only_if_it_took_long(is_dear: bool) -> None:
    memory = Memory(8 << 30)
    memory.add(b"data", Entry("data", None, 100 << 20, 30.0 if is_dear else 0.3))
    for number in range(60):
        memory.add(str(number).encode(), Entry("x", None, 15 << 20, 0.05))
    held = sum(len(list(memory.iter_entries(str(number).encode()))) for number in range(60))
    assert (held > 4) is is_dear
    assert bool(list(memory.iter_entries(b"data"))) is is_dear


def test_a_cheap_result_that_is_larger_than_the_room_drives_nothing_out_until_it_comes_again() -> None:
    memory, data = Memory(8 << 30), Entry("data", None, 100 << 20, 0.3)
    memory.add(b"small", Entry("small", None, 1 << 20, 5.0))
    memory.add(b"data", data)
    assert list(memory.iter_entries(b"small"))
    assert not list(memory.iter_entries(b"data"))
    memory.add(b"data", data)
    assert list(memory.iter_entries(b"small"))
    assert list(memory.iter_entries(b"data"))


def test_the_budget_is_used_as_far_as_results_are_wanted_again() -> None:
    memory, size = Memory(8 << 30), 100 << 20
    for number in range(40):
        memory.add(str(number).encode(), Entry("x", None, size, 1.0))
    assert memory.size_bytes < 1 << 30, "nothing was wanted again"
    for number in range(40):
        if not list(memory.iter_entries(str(number).encode())):
            memory.add(str(number).encode(), Entry("x", None, size, 1.0))
    assert memory.size_bytes == 40 * size
    memory.limit(1 << 30)
    memory.add(b"one more", Entry("x", None, size, 1.0))
    assert memory.size_bytes <= 1 << 30


def test_an_unknown_policy_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="fifo") as caught:
        policy_named("fifo")
    assert "dag-height" in caught.value.hint


@pytest.mark.parametrize(("text", "size"), [("500M", 500 << 20), ("8G", 8 << 30), ("25%", 250), ("12", 12), ("1.5KiB", 1536), ("2 gb", 2 << 30)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text, 1000) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "9e99", "5%%"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text, 1000)

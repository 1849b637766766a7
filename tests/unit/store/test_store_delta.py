"""Deltas: whatever the two versions are, applying gives the target back; a small change costs a few bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.store.delta import apply_delta, make_delta, make_tree_delta


def tree_of(rows: dict[str, int]) -> bytes:
    return b"".join(b"100644 %s\0" % name.encode() + value.to_bytes(20, "big") for name, value in sorted(rows.items()))


@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=50), st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_target_comes_back(head: bytes, tail: bytes, old: bytes, new: bytes) -> None:
    base, target = head + old + tail, head + new + tail
    assert apply_delta(base, make_delta(base, target)) == target


@given(*[st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(0, 2**160 - 1), max_size=40)] * 2)
@settings(max_examples=200, deadline=None)
def test_any_tree_comes_back(before: dict[str, int], after: dict[str, int]) -> None:
    base, target = tree_of(before), tree_of({**before, **after})
    for first, second in ((base, target), (target, base)):
        assert apply_delta(first, make_tree_delta(first, second)) == second


@given(st.binary(max_size=60), st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_malformed_delta_is_refused(base: bytes, delta: bytes) -> None:
    try:
        apply_delta(base, delta)
    except ValueError:
        pass


def test_two_far_rows_of_a_wide_tree_cost_two_rows() -> None:
    before = {f"name{number:03d}": number << 40 | 7 for number in range(200)}
    base = tree_of(before)
    assert len(make_tree_delta(base, tree_of({**before, "name003": 1, "name190": 2}))) < 120


def test_copies_beyond_sixteen_mebibytes() -> None:
    base = bytes(17 * 1024 * 1024)
    assert apply_delta(base, make_delta(base, base + b"x")) == base + b"x"


@pytest.mark.parametrize("delta", [b"", b"\x80", b"\x01\x01", b"\x00\x01\x00"])
def test_short_deltas_are_refused(delta: bytes) -> None:
    with pytest.raises(ValueError):
        apply_delta(b"", delta)

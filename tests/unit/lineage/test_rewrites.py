"""Partial reuse against the plain product, for shapes and parts that Hypothesis chooses; and recycled memory against numpy's own stacking."""

from __future__ import annotations

import sys
import weakref
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import Contents
from dartvc.lineage.deferring import Deferral, Deferred, settled
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.memory import Memory
from dartvc.lineage.recycling import Recycler
from dartvc.lineage.rewrites import Rewrites
from dartvc.lineage.sites import Site
from dartvc.lineage.stacking import Stacking

np = pytest.importorskip("numpy")

CONTENTS = Contents()


def digest(value: Any) -> bytes:
    """Returns the fingerprint of one array."""
    walker = Fingerprint(Plans(lambda path: False, lambda code: code), is_result=True)
    walker.add(value)
    return walker.digest()


def stacked(rewrites: Rewrites, parts: list[Any], axis: int) -> Any:
    """Stacks parts and tells the rewrites."""
    whole = np.concatenate(parts, axis)
    rewrites.note(whole, parts, axis)
    return whole


@given(
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    axis=st.sampled_from((0, 1)),
    seed=st.integers(0, 99),
    columns=st.integers(1, 3),
)
def test_products_assembled_from_parts_equal_the_plain_ones(widths: list[int], axis: int, seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    rewrites = Rewrites(Memory(1 << 28), digest, CONTENTS)
    site = Site("@")
    parts = [rng.standard_normal((width * 100, 30) if axis == 0 else (3000, width)) for width in widths]
    for chosen in (parts, parts[1:] + parts[:1], parts[:-1] + parts[-1:] * 2):
        whole = stacked(rewrites, chosen, axis)
        target = rng.standard_normal((len(whole), columns))
        for right in (whole, target, target[:, 0]):
            answer = rewrites.multiply(whole.T, right, site)
            if answer is not None:
                np.testing.assert_allclose(answer, whole.T @ right, rtol=1e-9, atol=1e-9)
            else:
                assert whole.nbytes < 1 << 16 or (axis == 1 and right is not whole)
    assert whole.nbytes < 1 << 16 or site.partial > 0


@given(
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    axis=st.sampled_from((0, 1)),
    seed=st.integers(0, 99),
    kind=st.sampled_from(("float64", "longdouble")),
)
def test_products_of_stacks_that_were_put_off_equal_the_plain_ones(widths: list[int], axis: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    parts = [rng.standard_normal((width * 10, 8) if axis == 0 else (80, width)).astype(kind) for width in widths]
    whole = np.concatenate(parts, axis)
    for chosen, made in ((parts, whole), (parts[::-1], np.concatenate(parts[::-1], axis))):
        stack = Deferred(chosen, axis, partial(np.concatenate, chosen, axis))
        firsts = [each[:, :1] for each in chosen]
        other = Deferred(firsts, 0, partial(np.vstack, firsts))
        target, factor = rng.standard_normal((len(made), 2)).astype(kind), rng.standard_normal((made.shape[1], 3)).astype(kind)
        front = rng.standard_normal((4, len(made))).astype(kind)
        pairs = [
            (stack.T, stack, made.T, made),
            (stack.T, target, made.T, target),
            (stack.T, target[:, 0], made.T, target[:, 0]),
            (stack, factor, made, factor),
            (front, stack, front, made),
        ]
        if axis == 0:
            pairs.append((stack.T, other, made.T, other.array()))
        for left, right, plain_left, plain_right in pairs:
            answer = rewrites.multiply(left, right, site)
            answer = settled(left) @ settled(right) if answer is None else answer
            np.testing.assert_allclose(answer, plain_left @ plain_right, rtol=1e-9, atol=1e-9)
            assert answer.dtype == plain_left.dtype
    assert site.partial > 0


def test_a_stack_answers_what_the_array_would() -> None:
    parts = [np.random.default_rng(i).random((30 + i, 4)) for i in range(3)]
    whole = np.vstack(parts)
    stack = Deferred(parts, 0, lambda: np.vstack(parts))
    assert (stack.shape, len(stack), stack.ndim, stack.size, stack.nbytes, stack.dtype) == (
        whole.shape,
        len(whole),
        whole.ndim,
        whole.size,
        whole.nbytes,
        whole.dtype,
    )
    assert stack.T.shape == whole.T.shape
    assert stack.array() is stack.array()
    vector, row = np.arange(4.0), np.ones(len(whole))
    for answer, plain in ((stack @ vector, whole @ vector), (row @ stack, row @ whole), (stack.T @ stack, whole.T @ whole)):
        assert np.array_equal(answer, plain)
    assert np.array_equal(vector @ stack.T, vector @ whole.T)
    assert np.array_equal(np.asarray(stack), whole)


def multiplied(rewrites: Rewrites, left: Any, right: Any, site: Site) -> Any:
    """Returns a product, from what is there as far as any rewrite fits."""
    answer = rewrites.multiply(left, right, site)
    return left @ right if answer is None else answer


COLUMNS = {
    "the first": lambda vectors, width: vectors[:, :width],
    "picked": lambda vectors, width: vectors[:, np.arange(20)[::-1][:width]],
    "first of the picked": lambda vectors, width: vectors[:, np.arange(20)[::-1]][:, :width],
    "copied": lambda vectors, width: vectors[:, :width].copy(),
}


@pytest.mark.parametrize("columns", COLUMNS)
@given(order=st.lists(st.integers(1, 20), min_size=2, max_size=6), seed=st.integers(0, 99), changed=st.integers(0, 9))
def test_a_growing_product_equals_the_plain_one(columns: str, order: list[int], seed: int, changed: int) -> None:
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    left, vectors = rng.standard_normal((50, 20)), rng.standard_normal((20, 20))
    for turn, width in enumerate(order):
        if turn == changed:
            vectors[3, rng.integers(20)] += 1.0  # from here on it is another product, or the same where only later columns changed
        right = COLUMNS[columns](vectors, width)
        answer = multiplied(rewrites, left, right, site)
        np.testing.assert_allclose(answer, left @ right, rtol=1e-9, atol=1e-12)
        answer[:] = 0  # nobody else sees it
    assert site.partial > 0 or len(set(order)) < 3 or changed < len(order)


@given(
    order=st.lists(st.integers(1, 20), min_size=2, max_size=6),
    seed=st.integers(0, 99),
    touched=st.integers(0, 5),
    is_last=st.booleans(),
)
def test_what_is_multiplied_with_a_growing_product_equals_the_plain_one(
    order: list[int], seed: int, touched: int, is_last: bool
) -> None:
    """Alone or stacked with a column of ones, on either side of it; one that the program has changed is another array."""
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    left, vectors, target = rng.standard_normal((9000, 20)), rng.standard_normal((20, 20)), rng.standard_normal((9000, 2))
    ones = np.ones((9000, 1))
    for turn, width in enumerate(order):
        answer = multiplied(rewrites, left, vectors[:, :width], site)
        stack = stacked(rewrites, [answer, ones] if is_last else [ones, answer], 1)
        if turn == touched:
            answer[17, 0] += 1
            stack[19, 1:] *= 2
        for whole in (answer, stack):
            for right in (whole, target, target[:, 0]):
                made = rewrites.multiply(whole.T, right, site)
                if made is not None:
                    np.testing.assert_allclose(made, whole.T @ right, rtol=1e-9, atol=1e-7)
                    made[:] = 0  # nobody else sees it
    assert site.partial > 0 or (touched < len(order) and 20 in order)  # what comes of all columns and was changed may leave nothing to go on from


@pytest.mark.parametrize("changed", ["nothing", "product", "stack"])
def test_a_large_product_is_a_prefix_until_it_is_written_to(changed: str) -> None:
    rng = np.random.default_rng(0)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    left, vectors, ones = rng.standard_normal((20_000, 40)), rng.standard_normal((40, 40)), np.ones((20_000, 1))
    for width in (10, 20, 40):
        product = rewrites.multiply(left, vectors[:, :width], site)
        if changed == "product":
            product[11, 3] += 100.0
        stack = stacked(rewrites, [product, ones], 1)
        if changed == "stack":
            stack[12, 4] += 100.0
        np.testing.assert_allclose(rewrites.multiply(stack.T, stack, site), stack.T @ stack, rtol=1e-9, atol=1e-7)


def test_a_part_changed_in_place_is_another_part() -> None:
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    parts = [np.random.default_rng(i).standard_normal((400, 30)) for i in range(3)]
    for _ in range(3):
        whole = stacked(rewrites, parts, 0)
        whole[5, 5] += 1
        parts[1][7, 7] += 1
        np.testing.assert_allclose(rewrites.multiply(whole.T, whole, site), whole.T @ whole, rtol=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
def test_recycled_memory_holds_what_numpy_would_have_made(axis: int) -> None:
    recycler = Recycler(1 << 30)
    parts = [np.random.default_rng(i).standard_normal((2000, 300)) for i in range(3)]
    first = np.concatenate(parts, axis)
    recycler.keep(first, parts)
    assert recycler.concatenate(parts, axis) is None  # somebody holds it
    address = first.__array_interface__["data"]
    del first
    again = recycler.concatenate(parts[::-1], axis)
    assert again.__array_interface__["data"] == address
    assert np.array_equal(again, np.concatenate(parts[::-1], axis))
    view = again[:1]
    del again
    assert recycler.concatenate(parts, axis) is None  # a view holds it
    assert np.array_equal(view, np.concatenate(parts[::-1], axis)[:1])


@pytest.mark.parametrize("width", [250, 280, 300])
def test_memory_of_about_the_size_is_recycled(width: int) -> None:
    """Whatever weak references of ours lead to it; with one of the program's the memory stays as it is."""
    known: dict[int, object] = {}
    recycler = Recycler(1 << 30)
    recycler.forgetters.append(lambda array: known.update({id(array): None}))
    first = np.zeros((6000, 300))
    known[id(first)] = weakref.ref(first)
    recycler.keep(first)
    number = id(first)
    del first
    wanted = np.random.default_rng(0).standard_normal((6000, width))
    copy = recycler.copy(wanted)
    assert id(copy) == number and copy.shape == wanted.shape and copy.flags.owndata and copy.flags.c_contiguous
    assert np.array_equal(copy, wanted)
    theirs = weakref.ref(copy)
    del copy
    other = recycler.copy(wanted[:, :-1])
    assert np.array_equal(other, wanted[:, :-1]) and theirs() is None


def test_memory_that_is_a_little_too_small_is_given_back() -> None:
    """In a loop whose arrays grow, no old one stays beside the new."""
    recycler = Recycler(1 << 30)
    copies = [recycler.copy(np.ones((6000, 300)))]
    for width in range(310, 400, 10):
        references = [weakref.ref(each) for each in copies]
        copies = copies[-1:]  # the program holds the one before
        copies.append(recycler.copy(np.full((6000, width), float(width))))
        assert copies[-1].shape == (6000, width) and (copies[-1] == width).all()
        assert [each() is None for each in references[:-1]] == [True] * (len(references) - 1)


def test_columns_of_one_dimension_are_stacked_in_recycled_memory() -> None:
    recycler, ones = Recycler(1 << 30), np.ones(6000)
    stacking = Stacking(recycler, None, Deferral(lambda code: {}, lambda: True), None)
    frame, site = sys._getframe(), Site("column_stack")
    parts = [np.random.default_rng(0).standard_normal((6000, 300)), ones]
    made, _ = stacking.stack(site, np.column_stack, parts, {}, frame)
    number = id(made)
    assert np.array_equal(made, np.column_stack(parts))
    del made
    again, _ = stacking.stack(site, np.column_stack, parts[::-1], {}, frame)
    assert id(again) == number and np.array_equal(again, np.column_stack(parts[::-1]))


@given(
    count=st.integers(20, 400),
    out=st.floats(0.0, 0.9),
    seed=st.integers(0, 99),
    targets=st.sampled_from((0, 1, 3)),
    is_mask=st.booleans(),
    outlier=st.sampled_from((1.0, 1e4, 1e12)),
)
def test_products_of_picked_rows_equal_the_plain_ones(count: int, out: float, seed: int, targets: int, is_mask: bool, outlier: float) -> None:
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    X, Y = rng.standard_normal((count, 6)), rng.standard_normal((count, targets) if targets else count)
    rows = np.sort(rng.permutation(count)[: max(int(count * (1 - out)), 1)])
    left_out = np.setdiff1d(np.arange(count), rows)
    X[left_out, 0] *= outlier
    index = np.isin(np.arange(count), rows) if is_mask else rows
    picked, other = Deferred([X], 0, lambda: X[index], index), Deferred([Y], 0, lambda: Y[index], index)
    assert (picked.shape, other.shape) == (X[index].shape, Y[index].shape)
    for right in (picked, other):
        answer = rewrites.multiply(picked.T, right, site)
        expected = X[index].T @ settled(right)
        if answer is not None:
            np.testing.assert_allclose(answer, expected, rtol=1e-8, atol=1e-8)
        else:
            assert 2 * len(left_out) > count - 1 or outlier > 1.0 or count < 60
    twice = np.concatenate([rows, rows[:1]])
    assert rewrites.multiply(Deferred([X], 0, lambda: X[twice], twice).T, Deferred([Y], 0, lambda: Y[twice], twice), site) is None


@given(
    count=st.integers(40, 300),
    cuts=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    seed=st.integers(0, 99),
    targets=st.sampled_from((0, 1, 3)),
    wrong=st.sampled_from(("", "twice", "backwards", "of another", "other rows")),
)
def test_products_of_slices_with_a_gap_equal_the_plain_ones(count: int, cuts: tuple[float, float], seed: int, targets: int, wrong: str) -> None:
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("@")
    low, high = sorted(int(cut * count) for cut in cuts)
    X, Y = rng.standard_normal((count, 6)), rng.standard_normal((count, targets) if targets else count)
    parts, others = [X[:low], X[high:]], [Y[:low], Y[high:]]
    if wrong == "twice":
        parts, others = [X[: high + 1], X[low:]], [Y[: high + 1], Y[low:]]
    elif wrong == "backwards":
        parts, others = parts[::-1], others[::-1]
    elif wrong == "of another":
        parts[0] = parts[0].copy()
    elif wrong == "other rows":
        others = [Y[: count - high], Y[count - low :]]
    folds = [(parts, others)]
    if not wrong:
        folds.append(([X[:high], X[2 * high - low :]], [Y[:high], Y[2 * high - low :]]))  # no part of the first
    for mine, theirs in folds:
        train, target = Deferred(mine, 0, partial(np.concatenate, mine)), Deferred(theirs, 0, partial(np.concatenate, theirs))
        for right in (train, target):
            answer = rewrites.multiply(train.T, right, site)
            if answer is not None:
                np.testing.assert_allclose(answer, np.concatenate(mine).T @ np.concatenate(right.parts), rtol=1e-8, atol=1e-8)
    is_by_difference = not wrong and 0 < high - low <= count // 4 and 2 * high - low <= count and count >= 200
    assert site.partial > 0 or not is_by_difference

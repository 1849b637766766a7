"""Results kept in memory: what is handed out is equal, laid out alike, and independent of what others were handed."""

from __future__ import annotations

from typing import Any

import pytest

from dartvc.lineage.codekeys import Refused
from dartvc.lineage.holdings import Holder, Lost

np = pytest.importorskip("numpy")


def holder() -> Holder:
    """Returns a holder that compares bytes."""
    return Holder(lambda each: each.tobytes() if hasattr(each, "tobytes") else repr(each).encode(), {})


@pytest.mark.parametrize("value", [[1, "a", None], {"a": 1, "b": "c"}, (1, 2.0), [{"a": 1}, {"a": 2}], {1: [1, 2], 2: [3]}])
def test_what_is_kept_of_scalars_comes_back_equal_and_independent(value: Any) -> None:
    kept = holder().hold(value)
    first, second = kept.take(), kept.take()
    assert first == second == value
    assert repr(first) == repr(value)
    if isinstance(value, list | dict):
        assert first is not second
        assert first is not value
        first.clear()
        assert kept.take() == value


def made(name: str) -> Any:
    """Returns a result with arrays in it."""
    whole = np.arange(1200.0).reshape(40, 30)
    return {
        "an array": whole,
        "its transpose": whole.T,
        "reversed": whole[::-1, ::-1],
        "without a column": whole[:, :-1],
        "a few rows": whole[3:5].copy()[:],
        "every third column": whole[:, ::3],
        "other numbers of the same bytes": whole.view("i8"),
        "nothing": whole[:0],
        "one row again and again": np.broadcast_to(whole[0], (3, 30)),
        "eigenvectors": np.linalg.eigh(whole[:30].T @ whole[:30]),
        "an array and a view of it": (whole, whole[:5], whole.T),
        "two halves of one": (whole[:20], whole[20:]),
        "the same twice": [whole, whole],
    }[name]


NAMES = (
    "an array", "its transpose", "reversed", "without a column", "a few rows", "every third column", "other numbers of the same bytes", "nothing",
    "one row again and again", "eigenvectors", "an array and a view of it", "two halves of one", "the same twice",
)  # fmt: skip


def parts(value: Any) -> list[Any]:
    """Returns the arrays of a result."""
    return list(value) if isinstance(value, list | tuple) else [value]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_come_back_laid_out_alike_and_with_the_same_memory_in_common(name: str) -> None:
    value, model = made(name), made(name)
    kept = holder().hold(value)
    for is_held in (True, True, False, False):
        if not is_held:
            value = None  # what was kept may be handed out itself now
        taken = kept.take()
        assert type(taken) is type(model)
        for one, expected in zip(parts(taken), parts(model), strict=True):
            assert (one.dtype, one.shape, one.flags.writeable) == (expected.dtype, expected.shape, expected.flags.writeable)
            assert one.strides == expected.strides or not one.size
            assert one.tobytes() == expected.tobytes()
        common = [np.shares_memory(one, other) for one in parts(taken) for other in parts(taken)]
        assert common == [np.shares_memory(one, other) for one in parts(model) for other in parts(model)]
        if value is not None:
            assert not any(np.shares_memory(one, other) for one in parts(taken) for other in parts(value) if other.size)
        del taken, one


def test_what_was_written_through_a_view_is_not_handed_out() -> None:
    whole = np.arange(1200.0).reshape(40, 30)
    kept = holder().hold(whole[:, :-1])
    kept.take()[0, 0] = 7.0  # a copy: somebody holds the array
    assert kept.take()[0, 0] == 0.0
    whole[0, 0] = 7.0
    with pytest.raises(Lost):
        kept.take()


def test_a_frame_is_not_kept_with_the_array_that_it_was_made_of() -> None:
    pd = pytest.importorskip("pandas")
    values = np.zeros((40, 3))
    frame = pd.DataFrame(values, copy=False)
    if not np.shares_memory(frame.to_numpy(), values):
        pytest.skip("this pandas copies")
    for result in ((values, frame), (frame, values[:5])):
        with pytest.raises(Refused):
            holder().hold(result)
    holder().hold((frame, frame[0])).take()

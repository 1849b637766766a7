"""Differences of values told from summaries, and counted from raw chunks."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.errors import UsageError
from dartvc.state.summaries import summarize
from dartvc.state.value_diff import ArrayChunk, ArrayDiff, Change, DiffKind, NameDiff, diff_arrays, diff_summaries
from dartvc.state.value_diff.chunks import compare_plain, compare_with_numpy


def difference(before: object, after: object) -> NameDiff:
    """Compares two values by their summaries."""
    return diff_summaries("x", summarize(before), summarize(after))


def chunks_of(data: bytes, *cuts: int) -> list[ArrayChunk]:
    """Cuts bytes into chunks."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    parts = [data[low:high] for low, high in pairwise(edges) if high > low]
    return [ArrayChunk(hashlib.sha256(part).digest(), len(part), lambda part=part: part) for part in parts]  # type: ignore[misc]


def test_a_name_that_came_or_went() -> None:
    assert diff_summaries("x", None, summarize(5)).kind is DiffKind.ADDED
    gone = diff_summaries("x", summarize(5), None)
    assert (gone.kind, gone.before, gone.changes) == (DiffKind.REMOVED, "int 5", ())


def test_a_scalar_tells_absolute_and_relative_change() -> None:
    assert difference(0.1, 0.01).changes == (Change("", "0.1", "0.01", "-0.09, -90.00%"),)
    assert difference(0, 3).changes == (Change("", "0", "3", "+3"),)
    assert difference(1.0, math.nan).changes[0].note in ("", "+nan")
    assert difference(10**400, 1).changes[0].path in ("", "bits")
    assert difference("a", "b").changes == (Change("", "'a'", "'b'"),)


def test_another_type_is_retyped() -> None:
    found = difference(1, "a")
    assert (found.kind, found.changes[0].before, found.changes[0].after) == (DiffKind.RETYPED, "int 1", "str 'a'")


def test_equal_summaries_of_unequal_values_say_so() -> None:
    assert difference(5, 5).changes == (Change("", None, None, "contents changed"),)


def test_containers_tell_items() -> None:
    found = difference({"lr": 0.1, "old": 1}, {"lr": 0.2, "new": [1]})
    assert found.changes == (
        Change("lr", 0.1, 0.2, "+0.1, +100.00%"),
        Change("old", 1, None, "item removed"),
        Change("new", None, "[1]", "item added"),
    )
    assert [change.path for change in difference([1, 2], [1, 3, 4]).changes] == ["length", "[1]", "[2]"]


def test_functions_tell_their_source() -> None:
    names: dict[str, object] = {}
    exec("def f(x): return x\ndef g(x): return -x", names)
    sources = "def f(x):\n    --x\n    return x", "def f(x):\n    return -x"
    found = diff_summaries("f", summarize(names["f"], source=sources[0]), summarize(names["g"], source=sources[1]))
    assert found.source == ("@@ -1,3 +1,2 @@", " def f(x):", "-    --x", "-    return x", "+    return -x")
    assert all(change.path != "code" for change in found.changes)


def test_arrays_tell_shape_dtype_and_counts() -> None:
    numpy = pytest.importorskip("numpy")
    found = difference(numpy.zeros(3), numpy.zeros((2, 2), "f4"))
    assert found.changes == (Change("shape", "(3,)", "(2, 2)"), Change("dtype", "float64", "float32"))
    counted = diff_summaries("x", summarize(numpy.zeros(3)), summarize(numpy.zeros(3)), diff_values=ArrayDiff(3, 1, 0.5))
    assert counted.changes == (Change("", None, 1, "1 of 3 elements changed, max abs 0.5"),)


def test_frames_tell_rows_columns_dtypes_nulls_and_cells() -> None:
    pandas = pytest.importorskip("pandas")
    before = pandas.DataFrame({"a": [1.0, 2.0], "b": [1, 2], "gone": [1, 2]})
    after = pandas.DataFrame({"a": [1.0, None, 3.0], "b": [1.5, 2.0, 3.0], "new": ["x", "y", "z"]})
    cells = {"a": ArrayDiff(2, 1, 1.0)}
    found = {change.path: change for change in diff_summaries("x", summarize(before), summarize(after), diff_values=cells).changes}
    assert found["rows"].note == "+1, +50.00%"
    assert (found["gone"].note, found["new"].note) == ("column removed", "column added")
    assert found["b.dtype"].after == "float64"
    assert found["a.nulls"].after == 1
    assert found["a"].note == "1 of 2 cells changed, max abs 1"
    order = difference(before, before[["b", "a", "gone"]]).changes
    assert [change.note for change in order if change.path == "columns"] == ["order"]


def test_models_tell_parameters_and_norms() -> None:
    layers = {"fc.weight": {"shape": "2x2", "norm": 1.0}, "old": {"shape": "3"}}
    before = {"type": "Net", "parameters": 7, "layers": layers}
    after = {"type": "Net", "parameters": 4, "layers": {"fc.weight": {"shape": "2x2", "norm": 1.5}}}
    assert diff_summaries("x", before, after).changes == (
        Change("parameters", 7, 4, "-3, -42.86%"),
        Change("fc.weight.norm", 1.0, 1.5, "+0.5, +50.00%"),
        Change("old", "3", None, "layer removed"),
    )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=4)


@given(VALUES, VALUES)
def test_any_two_values_can_be_compared(before: object, after: object) -> None:
    found = difference(before, after)
    assert found.changes
    assert (found.kind is DiffKind.RETYPED) == (type(before) is not type(after))


def test_equal_chunks_are_not_read() -> None:
    def never() -> bytes:
        raise AssertionError("an equal chunk was read")

    same = ArrayChunk(b"same", 16, never)
    old, new = struct.pack("<2d", 1.0, 2.0), struct.pack("<2d", 1.0, 5.0)
    found = diff_arrays("float64", (6,), [same, *chunks_of(old), same], [same, *chunks_of(new), same])
    assert found == ArrayDiff(6, 1, 3.0, 3, 32)


def test_nan_is_nan_and_zero_is_zero() -> None:
    old, new = struct.pack("=4d", math.nan, 0.0, 1.0, math.inf), struct.pack("=4d", -math.nan, -0.0, math.nan, 1.0)
    found = diff_arrays("float64", (4,), chunks_of(old), chunks_of(new))
    assert (found.changed, found.max_abs, found.first) == (2, None, 2)


def test_the_widest_integers_do_not_overflow() -> None:
    old, new = struct.pack("=2q", -(2**63), 0), struct.pack("=2q", 2**63 - 1, 0)
    assert diff_arrays("int64", (2,), chunks_of(old), chunks_of(new)).max_abs == 2**64 - 1


def test_elements_without_arithmetic_are_compared_by_bytes() -> None:
    found = diff_arrays("<U1", (2,), chunks_of("ab".encode("utf-32-le")), chunks_of("ac".encode("utf-32-le")))
    assert (found.changed, found.max_abs, found.first) == (1, None, 1)


def test_bfloat16_has_arithmetic() -> None:
    old, new = struct.pack("=2H", 0x3F80, 0), struct.pack("=2H", 0x4000, 0)
    assert diff_arrays("torch.bfloat16", (2,), chunks_of(old), chunks_of(new)).max_abs == 1.0


def test_chunks_of_another_array_are_refused() -> None:
    with pytest.raises(UsageError):
        diff_arrays("float64", (2,), chunks_of(bytes(16)), chunks_of(bytes(8)))
    assert diff_arrays("float64", (0, 3), [], []) == ArrayDiff(0, 0)


DTYPES = {"bool": "?", "int8": "b", "uint16": ">H", "int64": "q", "uint64": "Q", "float16": "e", "float32": ">f", "float64": "d"}


@given(st.sampled_from([*DTYPES, "complex64", "<U1", "bfloat16"]), st.binary(max_size=96), st.data())
def test_counting_agrees_with_looking_at_every_element(dtype: str, old: bytes, data: st.DataObject) -> None:
    code = DTYPES.get(dtype)
    itemsize = struct.calcsize(code) if code else {"complex64": 8, "<U1": 4, "bfloat16": 2}[dtype]
    old = old[: len(old) // itemsize * itemsize]
    if dtype == "bool":
        old = bytes(byte & 1 for byte in old)
    edited = bytearray(old)
    for place in data.draw(st.lists(st.integers(0, len(old) - 1), max_size=4)) if old else []:
        edited[place] ^= 1
    new = bytes(edited)
    count = len(old) // itemsize
    name = (code[0] + {"H": "u2", "f": "f4"}[code[1]]) if code and code[0] == ">" else dtype
    cuts: list[Sequence[int]] = [data.draw(st.lists(st.integers(1, 96), max_size=4)) for _ in range(2)]
    found = diff_arrays(name, (count,), chunks_of(old, *cuts[0]), chunks_of(new, *cuts[1]))
    plain = compare_plain(old, new, name, itemsize)
    pytest.importorskip("numpy")
    fast = compare_with_numpy(old, new, name, itemsize)
    assert (plain.changed, plain.first) == (fast.changed, fast.first) == (found.changed, found.first)
    if plain.max_abs is None:
        assert fast.max_abs is None
        assert found.max_abs is None
    else:
        assert fast.max_abs == pytest.approx(plain.max_abs)
        assert found.max_abs == pytest.approx(plain.max_abs)

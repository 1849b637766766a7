"""Large arrays known without reading them: the digest is the one that reading gives, whoever wrote to the memory and however."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.host.writes import WriteWatch
from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import Contents, Met, hash_of
from dartvc.lineage.fingerprints import Fingerprint

np = pytest.importorskip("numpy")
PLANS = Plans(lambda path: False, lambda code: code)
needs_watch = pytest.mark.skipif(not WriteWatch().is_available, reason="this kernel cannot tell which pages were written")


def digest(value: Any, contents: Contents | None = None) -> bytes:
    """Returns the fingerprint of one array."""
    walker = Fingerprint(PLANS, contents, is_result=True)
    walker.add(value)
    return walker.digest()


VIEWS = (
    lambda a: a,
    lambda a: a.T,
    lambda a: a[100:700],
    lambda a: a[:, 3:250],
    lambda a: a[::2],
    lambda a: a[::-1],
    lambda a: a[:, ::-1].T,
)


@given(
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 899), st.integers(0, 299), st.booleans()), max_size=12),
    is_fortran=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_a_digest_is_what_reading_gives_after_any_writes_through_any_views(steps: list[Any], is_fortran: bool) -> None:
    contents = Contents()
    array = np.random.default_rng(0).random((900, 300))
    array = np.asfortranarray(array) if is_fortran else array
    for number, row, column, is_written in steps:
        view = VIEWS[number](array)
        if is_written:
            array[row, column] += 1
        assert digest(view, contents) == digest(view)


@pytest.mark.parametrize("kind", ["f8", "i2", "?", "U3", "M8[s]", "c16", ">f4", [("a", "i4"), ("b", "f8")]], ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (7, 5), (50_000, 3), (2, 3, 40_000)], ids=str)
def test_scattered_elements_have_the_digest_of_the_same_ones_side_by_side(kind: Any, shape: tuple[int, ...]) -> None:
    raw = np.random.default_rng(0).integers(0, 100, (*shape, np.dtype(kind).itemsize), dtype=np.uint8)
    whole = raw.astype("?") if kind == "?" else raw.view(kind)
    whole = whole[..., 0]
    for view in (whole[..., ::2], whole[::-1], whole[..., 1:], whole.T[:1], whole.swapaxes(0, 1)[::2]):
        packed = view.transpose(sorted(range(view.ndim), key=lambda axis: -abs(view.strides[axis])))
        assert hash_of(view) == hash_of(np.ascontiguousarray(packed))


@needs_watch
def test_an_array_that_nobody_wrote_to_is_not_read_again() -> None:
    contents = Contents()
    array = np.ones((600, 300))
    reads = []

    def read() -> bytes:
        reads.append(1)
        return b"digest"

    for _ in range(5):
        contents.digest(array, read)
        contents.digest(array.T, read)
    assert len(reads) == 1
    assert contents.is_known(array)


@needs_watch
def test_writes_past_numpy_are_seen(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"seven77")
    array = np.ones((600, 300))
    contents = Contents()
    before = digest(array, contents)
    with open(tmp_path / "bytes", "rb", buffering=0) as file:  # the kernel writes
        file.readinto(memoryview(array).cast("B")[80_000:80_007])
    after = digest(array, contents)
    assert after == digest(array) != before
    thread = threading.Thread(target=lambda: array.__setitem__((5, 5), 2.0))
    thread.start()
    thread.join()
    assert digest(array, contents) == digest(array) != after


@needs_watch
def test_an_array_in_the_memory_of_one_that_is_gone_is_read() -> None:
    contents = Contents()
    for value in range(6):
        array = np.full((600, 300), float(value))
        assert digest(array, contents) == digest(array)
        del array
    assert not contents._allocations


@needs_watch
def test_a_forked_child_reads_its_own_memory() -> None:
    contents = Contents()
    array = np.ones((600, 300))
    before = digest(array, contents)
    child = os.fork()
    if child == 0:
        array[0, 0] = 5
        is_right = digest(array, contents) == digest(array) != before
        del array
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert digest(array, contents) == before
    array[3, 3] = 9
    assert digest(array, contents) == digest(array) != before


def test_without_the_kernels_help_every_digest_is_read() -> None:
    contents = Contents()
    contents._watch.close()
    array = np.ones((600, 300))
    for _ in range(3):
        array[0, 0] += 1
        assert digest(array, contents) == digest(array)


def test_a_view_comes_again_as_long_as_its_array_lives() -> None:
    met, array = Met(), np.ones((40, 3))
    assert [met.has(array), met.has(array[:20]), met.has(array[:20]), met.has(array.T), met.has(array[20:])] == [False, False, True, True, False]
    assert not met.has(np.frombuffer(b"12345678"))
    del array
    for _ in range(5):
        assert not met.has(np.ones((40, 3)))  # each in the memory, and perhaps at the address, of the one before

"""How much memory values hold is told without reading them or running their code."""

from __future__ import annotations

import mmap
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from dartvc.state.extents import estimate_objects, large_blocks

numpy = pytest.importorskip("numpy")
MB = 1 << 20


def test_blocks_are_found_wherever_they_hang_and_counted_once() -> None:
    array = numpy.zeros(2 * MB, numpy.uint8)
    roots = [{"views": [array[:10], array[5:]]}, SimpleNamespace(inner=SimpleNamespace(data=array)), deque([array]), b"x" * (3 * MB), "short", 7]
    assert sorted(large_blocks(roots).values()) == [2 * MB, 3 * MB]


def test_objects_are_counted_by_a_sample() -> None:
    rows = [{"id": index, "tags": ["a", "b"], "at": (index, 2.5)} for index in range(10_000)]
    assert 60_000 <= estimate_objects([rows]) <= 140_000
    assert estimate_objects([SimpleNamespace(rows=rows), rows]) <= 280_000
    assert estimate_objects([1, "text", rows[:0], estimate_objects]) == 4
    ring: list[object] = []
    ring.append(ring)
    assert estimate_objects([ring]) <= 3


def test_small_values_and_code_hold_nothing() -> None:
    assert large_blocks([numpy, numpy.zeros(10), [1, 2, 3], large_blocks, SimpleNamespace, {"a": None}]) == {}


def test_a_cycle_and_a_class_with_code_of_its_own_are_passed() -> None:
    class Trap:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

        @property
        def data(self) -> object:
            raise AssertionError

    trap, ring = Trap(), []  # type: ignore[var-annotated]
    ring.append(ring)
    vars(trap)["kept"] = bytes(2 * MB)
    assert list(large_blocks([trap, ring]).values()) == [2 * MB]


def test_a_mapped_file_is_stored_as_its_name(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(2 * MB))
    mapped = numpy.memmap(path, numpy.uint8, "r")
    assert large_blocks([mapped, mapped[3:]]) == {}
    assert isinstance(mapped.base, mmap.mmap)


def test_tables_tell_their_size() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": numpy.zeros(MB)})
    assert list(large_blocks([frame]).values()) == [8 * MB]
    assert next(iter(large_blocks([frame["a"]]).values())) >= 8 * MB


def test_tensors_tell_their_storage() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(1024, 1024, bias=False)
    assert list(large_blocks([SimpleNamespace(model=torch.nn.Sequential(layer)), layer.weight[0]]).values()) == [4 * MB]

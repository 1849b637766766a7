"""What stands for a logged value."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from enum import IntEnum

import pytest

from dartvc.hindsight.values import KINDS, kind_of, stored_value

numpy = pytest.importorskip("numpy")


class Colour(IntEnum):
    RED = 1


def stored(value: object) -> tuple[object, dict[str, bytes]]:
    attached: dict[str, bytes] = {}
    made = stored_value(value, attached.__setitem__)
    assert json.loads(json.dumps(made)) == made or (isinstance(made, float) and math.isnan(made))
    return made, attached


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", float("inf"), 1 << 90])
def test_scalars_are_kept_as_they_are(value: object) -> None:
    made, attached = stored(value)
    assert made == value and type(made) is type(value) and not attached


@pytest.mark.parametrize(
    ("value", "plain"),
    [(numpy.float32(0.5), 0.5), (numpy.float64(1.5), 1.5), (numpy.int8(3), 3), (numpy.bool_(True), True), (numpy.array(2.5), 2.5)],
)
def test_scalars_of_numpy_are_kept_as_pythons(value: object, plain: object) -> None:
    made, _ = stored(value)
    assert made == plain and type(made) is type(plain)


def test_nan_stays_a_float() -> None:
    made, _ = stored(numpy.float64("nan"))
    assert isinstance(made, float) and math.isnan(made)


def test_small_lists_and_dicts_are_json() -> None:
    assert stored([1, numpy.float32(2)])[0] == {"json": [1, 2.0]}
    assert kind_of(stored({"a": [1]})[0]) == KINDS.index("json")


def test_an_array_is_an_attachment_with_a_summary() -> None:
    made, attached = stored(numpy.arange(6).reshape(2, 3))
    assert isinstance(made, dict) and made["format"] == "npy" and made["summary"]["shape"] == [2, 3]
    assert attached[made["blob"]].startswith(b"\x93NUMPY")


def test_a_long_text_is_an_attachment() -> None:
    made, attached = stored("x" * 10_000)
    assert isinstance(made, dict) and attached[made["blob"]] == b"x" * 10_000


def test_small_values_of_other_kinds_are_kept_as_text() -> None:
    assert stored(Decimal("1.5"))[0] == {"text": "Decimal('1.5')", "type": "Decimal"}
    assert kind_of(stored(Colour.RED)[0]) == KINDS.index("text")


def test_what_cannot_be_stored_says_so_and_raises_nothing() -> None:
    class Evil:
        def __reduce__(self) -> str:
            raise RuntimeError("no")

    made, attached = stored(Evil())
    assert isinstance(made, dict) and "not stored" in str(made["text"]) and not attached

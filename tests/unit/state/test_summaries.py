"""Summaries of plain values, and of values that fight back."""

from __future__ import annotations

import array
import collections
import datetime
import enum
import functools
import io
import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.state.summaries import summarize, summary_text


def stored(value: object) -> dict[str, Any]:
    """Summarizes a value and checks that JSON gives the summary back."""
    summary = summarize(value)
    again = json.loads(summary_text(summary))
    assert again == summary
    assert "type" in summary
    return dict(again)


class Trap(type):
    """A metaclass all of whose own code is a trap."""

    def _spring(cls, *args: object) -> NoReturn:
        raise AssertionError("code of the user ran")

    __getattribute__ = __hash__ = __eq__ = __repr__ = __str__ = __instancecheck__ = __subclasscheck__ = __len__ = _spring


class Hostile(metaclass=Trap):
    """A class whose every special method is a trap."""

    def __init__(self) -> None:
        object.__setattr__(self, "x", 1)

    def _spring(self, *args: object) -> NoReturn:
        raise AssertionError("code of the user ran")

    __getattribute__ = __getattr__ = __eq__ = __hash__ = __repr__ = __str__ = __len__ = __iter__ = __bool__ = _spring
    __class__ = property(_spring)
    __array__ = __index__ = __float__ = __format__ = __reduce__ = __sizeof__ = __dir__ = __getitem__ = _spring


class Agreeable:
    """Answers anything to anybody."""

    def __getattr__(self, name: str) -> Agreeable:
        return self

    def __call__(self, *args: object) -> Agreeable:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 2**60


def test_hostile_instance_is_described_without_running_its_code() -> None:
    assert stored(Hostile())["attributes"] == {"x": 1}


def test_hostile_class_is_described_without_running_its_metaclass() -> None:
    found = stored(Hostile)
    assert found["type"] == "class"
    assert found["name"].endswith("Hostile")


def test_hostile_values_inside_containers_are_only_named() -> None:
    for value in ([Hostile()], (Hostile(),), {"a": Hostile()}, collections.deque([Hostile()]), {"a": [Hostile, Hostile()]}):
        assert "Hostile" in stored(value)["repr"]


def test_an_object_that_answers_anything_is_an_instance() -> None:
    found = stored(Agreeable())
    assert found == {"type": f"{__name__}.Agreeable"}


@pytest.mark.parametrize("base", [dict, list, tuple, set, frozenset, str, bytes, int, float, collections.deque, Exception])
def test_subclasses_of_builtins_are_read_past_their_overrides(base: Any) -> None:
    def spring(self: object, *args: object) -> NoReturn:
        raise AssertionError("code of the user ran")

    names = ("__len__", "__iter__", "__repr__", "__str__", "__eq__", "__getitem__", "items", "__contains__", "__format__", "__add__")
    liar = type("Liar", (base,), dict.fromkeys(names, spring) | {"__hash__": base.__hash__})
    assert stored(liar())["type"].endswith("Liar")


def test_a_class_that_only_claims_to_be_an_array_is_not_taken_for_one() -> None:
    def spring(self: object) -> NoReturn:
        raise AssertionError("code of the user ran")

    for module, name in (("numpy", "ndarray"), ("pandas", "DataFrame"), ("torch", "Tensor"), ("nowhere", "X")):
        fake = type(name, (), {"__module__": module, "__qualname__": name, "shape": property(spring), "dtype": property(spring)})
        assert "shape" not in stored(fake())


def test_scalars() -> None:
    assert stored(5) == {"type": "int", "repr": "5"}
    assert stored(True) == {"type": "bool", "repr": "True"}
    assert stored(None) == {"type": "NoneType", "repr": "None"}
    assert stored(math.nan) == {"type": "float", "repr": "nan"}
    assert stored(2 + 1j)["repr"] == "(2+1j)"
    assert stored(1 << 5_000_000) == {"type": "int", "bits": 5_000_001, "repr": "0x8000000000000000..."}
    assert stored(range(10**100))["type"] == "range"


def test_texts_are_bounded() -> None:
    found = stored("é" * 10_000_000)
    assert found["length"] == 10_000_000
    assert len(found["repr"]) < 2_000
    assert stored(b"\x00" * 100)["length"] == 100
    assert stored("\ud800")["repr"] == "'\\ud800'"


def test_containers_tell_length_types_and_items() -> None:
    assert stored([1, "a", 2.5]) == {
        "type": "list", "length": 3, "item_types": ["int", "str", "float"], "repr": "[1, 'a', 2.5]", "items": [1, "'a'", 2.5],
    }  # fmt: skip
    assert stored({"lr": math.inf, 3: None})["items"] == {"lr": "inf", "3": None}
    assert stored({3, 1, 2})["repr"] == "{1, 2, 3}"
    assert stored(())["repr"] == "()"
    assert stored(collections.defaultdict(list))["default"] == "list"
    assert stored(array.array("d", [1.0]))["typecode"] == "d"
    assert stored(memoryview(b"abc"))["bytes"] == 3


def test_large_containers_are_not_walked() -> None:
    assert stored(list(range(1_000_000)))["length"] == 1_000_000
    assert "items" not in stored(dict.fromkeys(range(1_000_000)))
    assert stored(set(range(1_000)))["repr"] == "<set of 1000>"


def test_a_container_inside_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert stored(loop)["length"] == 1


def test_attributes_of_instances_with_dict_and_slots() -> None:
    class Slotted:
        __slots__ = ("a", "unset")

    class Both(Slotted):
        pass

    both = Both()
    both.a = [1, 2]  # type: ignore[attr-defined]
    both.b = math.nan  # type: ignore[attr-defined]
    assert stored(both)["attributes"] == {"a": "[1, 2]", "b": "nan"}
    many = Agreeable()
    vars(many).update({f"a{place}": place for place in range(30)})
    found = stored(many)
    assert len(found["attributes"]) == 20
    assert found["more_attributes"] == 10


def test_enums_and_named_tuples() -> None:
    color = enum.Enum("color", "red green")
    assert stored(color.red)["name"] == "'red'"
    point = collections.namedtuple("point", "x y")
    assert stored(point(1, 2))["items"] == {"x": 1, "y": 2}


def function_with_everything(a: int, /, b: int = 2, *rest: int, c: int, d: int = 3, **more: int) -> object:
    def inner() -> int:
        return (a +
                b)  # fmt: skip
    return inner


def test_functions_tell_signature_closure_and_source() -> None:
    found = stored(function_with_everything)
    assert found["signature"] == "function_with_everything(a, /, b=2, *rest, c, d=3, **more)"
    assert found["source"][0].startswith("def function_with_everything(")
    assert found["source"][-1] == "    return inner"
    inner = stored(function_with_everything(1, c=2))
    assert inner["closure"] == {"a": "1", "b": "2"}
    assert inner["source"][-1].strip().startswith("b)")


def test_code_digest_ignores_where_the_function_stands() -> None:
    def make(text: str) -> object:
        names: dict[str, object] = {}
        exec(text, names)
        return names["f"]

    digest = stored(make("def f(x): return x + 1"))["code"]
    assert stored(make("\n\ndef f(x): return x + 1"))["code"] == digest
    assert stored(make("def f(x): return x + 2"))["code"] != digest
    assert stored(make("def f(x): return True"))["code"] != stored(make("def f(x): return 1"))["code"]


def test_source_can_be_given() -> None:
    names: dict[str, object] = {}
    exec("def f(): return 1", names)
    assert summarize(names["f"], source="def f(): return 1")["source"] == ["def f(): return 1"]
    assert "source" not in summarize(5, source="5")


def test_classes_tell_bases_and_methods() -> None:
    found = stored(Agreeable)
    assert found["methods"]["__call__"].startswith("__call__(self, *args) ")
    assert stored(int)["type"] == "class"


def test_modules_methods_partials_and_builtins() -> None:
    assert stored(json)["name"] == "json"
    assert stored([].append)["type"] == "builtin_function_or_method"
    assert stored(Agreeable().__call__)["of"].endswith("Agreeable")
    assert stored(functools.partial(int, base=2)) == {"type": "functools.partial", "function": "int", "args": [], "keywords": {"base": "2"}}


def test_generators_and_iterators_are_not_advanced() -> None:
    def count() -> Iterator[int]:
        yield from range(3)

    values = count()
    assert stored(values)["state"] == "created"
    next(values)
    assert stored(values)["state"] == "suspended"
    numbers = iter([1, 2, 3])
    stored(numbers)
    stored(zip(numbers, numbers, strict=True))
    assert list(numbers) == [1, 2, 3]
    assert list(values) == [1, 2]


def test_random_streams_are_not_drawn_from() -> None:
    stream = random.Random(7)
    before = stream.getstate()
    first = stored(stream)
    assert stream.getstate() == before
    stream.random()
    assert stored(stream) != first


def test_files_tell_path_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("w") as file:
        found = stored(file)
        assert (found["path"], found["mode"], found["closed"]) == (repr(str(path)), "'w'", False)
    assert stored(file)["closed"] is True
    assert stored(io.BytesIO(b"abc"))["length"] == 3
    assert stored(path)["repr"] == repr(str(path))


def test_times_with_a_zone_of_the_user_do_not_ask_it() -> None:
    class Zone(datetime.tzinfo):
        def utcoffset(self, when: object) -> NoReturn:
            raise AssertionError("code of the user ran")

        dst = tzname = __repr__ = __str__ = utcoffset  # type: ignore[assignment]

    assert stored(datetime.datetime(2024, 1, 2, tzinfo=Zone()))["zone"].endswith("Zone")


def test_no_library_is_imported() -> None:
    code = "import sys; from dartvc.state.summaries import summarize; summarize(object()); print({'numpy', 'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.floats(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@given(PLAIN)
def test_any_plain_value_has_a_bounded_summary_that_json_gives_back(value: object) -> None:
    found = stored(value)
    assert len(found) > 1
    assert len(summary_text(found)) < 20_000
    assert summarize(value) == summarize(value)

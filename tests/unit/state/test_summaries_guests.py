"""Summaries of arrays, tables, models and figures."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.state.summaries import summarize, summary_text

numpy = pytest.importorskip("numpy")


def stored(value: object) -> dict[str, Any]:
    """Summarizes a value and checks that JSON gives the summary back."""
    summary = summarize(value)
    again = json.loads(summary_text(summary))
    assert again == summary
    assert len(again) > 1, "fell back to the type alone"
    return dict(again)


def test_small_arrays_have_exact_statistics() -> None:
    found = stored(numpy.array([[1.0, numpy.nan], [3.0, numpy.inf]]))
    assert found == {
        "type": "numpy.ndarray", "shape": [2, 2], "dtype": "float64", "bytes": 32, "nan": 1, "min": 1.0, "max": "inf", "mean": "inf",
    }  # fmt: skip
    assert stored(numpy.array([True, False]))["mean"] == 0.5
    assert stored(numpy.array([2**64 - 1], dtype="u8"))["max"] == 2**64 - 1
    assert stored(numpy.array(["2020-01-01", "NaT"], dtype="M8[D]"))["min"] == "2020-01-01"
    assert stored(numpy.zeros((0, 3)))["shape"] == [0, 3]
    assert stored(numpy.array(5.0))["shape"] == []
    assert stored(numpy.array([numpy.nan]))["nan"] == 1


def test_large_arrays_are_sampled_and_say_so() -> None:
    values = numpy.broadcast_to(numpy.float32(2.5), (100_000, 100_000))
    assert stored(values)["mean"] == 2.5
    for array in (numpy.zeros(1_000_000), numpy.zeros((1000, 2000), order="F"), numpy.zeros((1000, 2000))[::2, ::3], numpy.zeros((9,) * 7)[..., ::2]):
        found = stored(array)
        assert 1_000 < found["sampled"] <= 65_536


def test_arrays_without_numbers() -> None:
    assert stored(numpy.array([1, "a", None], dtype=object))["item_types"] == ["int", "str", "NoneType"]
    assert stored(numpy.array(["ab"]))["repr"] == "['ab']"
    assert stored(numpy.zeros(2, dtype=[("a", "f8"), ("b", "S3")]))["fields"] == {"a": "float64", "b": "|S3"}
    assert stored(numpy.float64(2.5)) == {"type": "numpy.float64", "repr": "2.5"}
    assert stored(numpy.datetime64("2020-01-01"))["repr"] == "2020-01-01"


def test_array_subclasses_are_read_past_their_overrides() -> None:
    class Liar(numpy.ndarray):  # type: ignore[misc,name-defined]
        @property
        def shape(self) -> NoReturn:
            raise AssertionError("code of the user ran")

        dtype = nbytes = size = __len__ = min = max = shape

        def __array_ufunc__(self, *args: object, **more: object) -> NoReturn:
            raise AssertionError("code of the user ran")

    assert stored(numpy.arange(6.0).view(Liar))["mean"] == 2.5


def test_numpy_generators_are_not_drawn_from() -> None:
    stream = numpy.random.default_rng(7)
    before = str(stream.bit_generator.state)
    first = stored(stream)
    assert first["bit_generator"] == "PCG64"
    assert str(stream.bit_generator.state) == before
    stream.random()
    assert stored(stream)["state"] != first["state"]
    assert stored(numpy.random.RandomState(1))["bit_generator"] == "MT19937"


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1))
def test_exact_statistics_are_numpys(items: list[float]) -> None:
    found = stored(numpy.array(items))
    assert float(found["min"]) == min(items)
    assert float(found["max"]) == max(items)


def test_frames_tell_every_column() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, None, 3.0], "b": ["x", None, "z"], "c": pandas.Categorical(["u", "v", "u"])})
    frame["d"] = pandas.to_datetime(["2020-01-01", None, "2021-01-01"])
    frame["e"] = pandas.array([1, None, 2], dtype="Int64")
    found = stored(frame)
    assert (found["rows"], found["columns"]) == (3, 5)
    fields = found["fields"]
    assert fields["a"] == {"dtype": "float64", "nulls": 1, "min": 1.0, "max": 3.0, "mean": 2.0}
    assert (fields["b"]["nulls"], fields["b"]["first"]) == (1, "'x'")
    assert (fields["c"]["dtype"], fields["c"]["categories"]) == ("category", 2)
    assert fields["d"]["nulls"] == 1
    assert fields["d"]["min"].startswith("2020-01-01")
    assert fields["e"] == {"dtype": "Int64", "nulls": 1, "min": 1, "max": 2, "mean": 1.5}


def test_frames_keep_their_blocks_and_caches() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0]})
    for name in "bcd":
        frame[name] = 1.0
    blocks = [id(block) for block in frame._mgr.blocks]
    index_cache = dict(getattr(frame.index, "_cache", {}))
    stored(frame)
    assert [id(block) for block in frame._mgr.blocks] == blocks
    assert dict(getattr(frame.index, "_cache", {})) == index_cache


def test_wide_long_and_odd_frames() -> None:
    pandas = pytest.importorskip("pandas")
    wide = stored(pandas.DataFrame(numpy.zeros((2, 200))))
    assert len(wide["fields"]) == 50
    assert wide["more_columns"] == 150
    twice = pandas.DataFrame([[1, "x"]], columns=["a", "a"])
    assert list(stored(twice)["fields"]) == ["a", "a #1"]
    assert stored(pandas.DataFrame({"a": numpy.arange(1_000_000)}))["fields"]["a"]["sampled"] < 65_536
    levels = pandas.MultiIndex.from_product([[1, 2], ["x"]])
    assert stored(pandas.DataFrame({"a": [1, 2]}, index=levels))["index"] == "MultiIndex"
    assert stored(pandas.DataFrame())["rows"] == 0
    assert stored(pandas.Series([1, 2], name="s"))["max"] == 2
    assert stored(pandas.Index(["a", "b"]))["length"] == 2
    assert stored(pandas.date_range("2020", periods=3))["min"].startswith("2020")
    assert stored(levels)["length"] == 2


def test_frame_subclasses_are_read_past_their_overrides() -> None:
    pandas = pytest.importorskip("pandas")

    class Liar(pandas.DataFrame):  # type: ignore[misc,name-defined]
        def __getattribute__(self, name: str) -> NoReturn:
            raise AssertionError("code of the user ran")

    frame = pandas.DataFrame({"a": [1, 2]})
    liar = object.__new__(Liar)
    object.__setattr__(liar, "_mgr", frame._mgr)
    assert stored(liar)["rows"] == 2


def test_sparse_matrices() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for make in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.dok_array, sparse.bsr_array):
        found = stored(make(numpy.eye(3)))
        assert (found["shape"], found["stored"]) == ([3, 3], 3 if make is not sparse.bsr_array else found["stored"])


def test_estimators_tell_parameters_and_what_was_fitted() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")

    class Hidden(linear_model.Ridge):  # type: ignore[misc,name-defined]
        def get_params(self, deep: bool = True) -> NoReturn:
            raise AssertionError("code of the user ran")

    model = linear_model.Ridge(alpha=0.5).fit([[0.0], [1.0]], [0.0, 1.0])
    model.__class__ = Hidden
    found = stored(model)
    assert found["params"]["alpha"] == 0.5
    assert "coef_" in found["fitted"]


def test_polars_and_arrow_tables() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, None, 3], "b": ["x", "y", None]})
    found = stored(frame)
    assert found["fields"]["a"] == {"dtype": "Int64", "nulls": 1, "min": 1, "max": 3}
    assert found["fields"]["b"] == {"dtype": "String", "nulls": 1, "first": "'x'"}
    assert stored(polars.DataFrame({"a": range(100_000)}))["fields"]["a"]["sampled"] < 65_536
    assert stored(polars.Series("s", [1, 2]))["length"] == 2


def test_arrow_tables() -> None:
    arrow = pytest.importorskip("pyarrow")
    found = stored(arrow.table({"a": [1, None], "b": ["x", "y"]}))
    assert found["fields"]["a"] == {"dtype": "int64", "nulls": 1, "first": 1}
    assert stored(arrow.array([1, None]))["nulls"] == 1


def test_figures() -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    figure = matplotlib.Figure()
    axes = figure.add_subplot()
    axes.plot([1, 2])
    axes.set_title("loss")
    found = stored(figure)
    assert found["axes"] == 1
    assert found["titles"] == ["loss (, ): 1 lines, 0 collections"]


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    found = stored(torch.tensor([3.0, 4.0], requires_grad=True))
    assert (found["shape"], found["dtype"], found["device"], found["requires_grad"]) == ([2], "float32", "cpu", True)
    assert (found["min"], found["max"], found["norm"]) == (3.0, 4.0, 5.0)
    assert stored(torch.ones(1_000_000, dtype=torch.bfloat16))["sampled"] < 65_536
    assert stored(torch.tensor(True))["max"] == 1
    assert stored(torch.zeros(3, 0))["shape"] == [3, 0]
    assert stored(torch.ones(2000, 2000).t()[::2])["mean"] == 1.0
    assert stored(torch.eye(3).to_sparse())["shape"] == [3, 3]
    assert stored(torch.ones(2, device="meta"))["device"] == "meta"


def test_tensor_subclasses_do_not_dispatch() -> None:
    torch = pytest.importorskip("torch")

    class Liar(torch.Tensor):  # type: ignore[misc,name-defined]
        @classmethod
        def __torch_function__(cls, *args: object, **more: object) -> NoReturn:
            raise AssertionError("code of the user ran")

    with torch._C.DisableTorchFunctionSubclass():
        liar = torch.ones(3).as_subclass(Liar)
    assert stored(liar)["shape"] == [3]


def test_modules_and_optimizers() -> None:
    torch = pytest.importorskip("torch")
    state = torch.get_rng_state()
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1, bias=False))
    model[2].weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    found = stored(model)
    assert (found["parameters"], found["training"]) == (10, True)
    assert found["layers"]["2.weight"] == {"shape": "1x2", "norm": 5.0}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert stored(optimizer)["groups"][0]["lr"] == 0.1
    torch.set_rng_state(state)
    drawn = torch.rand(1)
    torch.set_rng_state(state)
    stored(model)
    assert torch.equal(torch.rand(1), drawn)

"""What changed inside a value is told from its stored bytes, and nothing of it is made for that."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from dartvc.cli.render import render_diff
from dartvc.state.saving import Saving, save
from dartvc.state.summaries import summarize
from dartvc.state.value_diff import (
    ArrayChunk,
    Contents,
    Unreadable,
    content_digest,
    diff_contents,
    diff_elements,
    diff_summaries,
    read_pickle,
)


def chunk(data: bytes) -> ArrayChunk:
    return ArrayChunk(xxh3_128_digest(data), len(data), lambda: data)


def stored(value: object) -> Contents:
    saved = save({"v": value}, Saving({"__name__": "__main__"}, "__main__"))
    contents = [bytes(buffer) for buffer in saved.buffers]
    buffers = [[chunk(data)] for data in contents]
    return Contents(read_pickle(saved.stream).pairs()["v"], buffers, int.from_bytes(saved.stream[-4:], "little"))


def lines(code: str, change: str) -> list[str]:
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    before, first = stored(namespace["v"]), summarize(namespace["v"])
    exec(change, namespace)
    after, second = stored(namespace["v"]), summarize(namespace["v"])
    diff = diff_summaries("v", first, second, diff_values=diff_elements(before, after), diff_parts=lambda: diff_contents(before, after))
    return list(render_diff([diff]))


PLAIN = {
    "one item of a long list": ("v = list(range(500))", "v[250] = -1", "[250]: 250 -> -1"),
    "an item deep inside": ("v = [[n, {'k': [n]}] for n in range(500)]", "v[250][1]['k'][0] = -1", "[250][1]['k'][0]: 250 -> -1"),
    "one value of a large dict": ("v = {f'k{n}': n for n in range(200)}", "v['k150'] = 'x'", "k150: 150 -> 'x'"),
    "a key of a large dict": ("v = {f'k{n}': n for n in range(200)}", "v['new'] = 1; del v['k150']", "k150: 150 (item removed)"),
    "one line of a long text": ("v = ''.join(f'line {n}\\n' for n in range(1000))", "v = v.replace('line 500\\n', 'other\\n')", "1 line changed, the first is 501"),
    "an item between others": ("v = list(range(500))", "v.insert(250, 'x')", "[250]: 'x' (item added)"),
    "an item of a large set": ("v = set(range(500))", "v.add(1000); v.discard(3)", "3 (item removed)"),
    "an attribute of many": (
        "class A: pass\nv = A()\nfor n in range(100): setattr(v, f'a{n}', n)",
        "v.a77 = -1",
        "a77: 77 -> -1",
    ),
    "bytes": ("v = bytes(500)", "v = bytes(400) + b'x' + bytes(99)", "from 400 on"),
    "a number of many digits": ("v = [0] * 300", "v[250] = 10 ** 9000", "[250]: 0 -> an int of 29898 bits"),
    "a new cycle": ("v = list(range(500))", "v[3] = v", "[3]: 3 -> list of 500"),
    "a new small cycle": ("v = {n: n for n in range(500)}", "v[3] = [0]; v[3][0] = v[3]", "3: 3 -> list(list(list of 1))"),
    "a cycle": ("v = list(range(500)); v.append(v)", "v[3] = 'x'", "[3]: 3 -> 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("claim", PLAIN)
def test_tells(claim: str) -> None:
    code, change, expected = PLAIN[claim]
    told = "\n".join(lines(code, change))
    assert expected in told
    assert "contents changed" not in told


NUMERIC = {
    "elements of a small array": ("v = np.zeros((50, 40))", "v[1, 1] = 2; v[3, 3] = -5", "2 of 2000 elements changed, max abs 5"),
    "elements of a large array": ("v = np.zeros((500, 400))", "v[1, 1] = 2", "1 of 200000 elements changed, max abs 2"),
    "elements of an array in a dict": ("v = {'w': np.zeros(2000), 'b': 1}", "v['w'][5] = 1", "w: 1 of 2000 elements changed, max abs 1"),
    "elements of a large array in a list": ("v = [np.zeros(20000), np.zeros(20000)]", "v[1][5] = 1", "[1]: 1 of 20000 elements changed, max abs 1"),
    "a scalar of numpy": ("v = [np.float64(n) for n in range(300)]", "v[250] = np.float64(-1)", "[250]: 250 -> -1"),
}
TABLES = {
    "two values of a series swapped": ("v = pd.Series([1., 2., 3.])", "v[0], v[1] = 2., 1.", "2 of 3 elements changed, max abs 1"),
    "two cells of a frame swapped": ("v = pd.DataFrame({'a': [1, 2, 3, 4, 5], 'b': 1.5})", "v.loc[0, 'a'], v.loc[1, 'a'] = 2, 1", "a: 2 of 5 cells changed"),
    "a text in a frame": ("v = pd.DataFrame({'a': 1, 't': ['x', 'y', 'x', 'y']})", "v.loc[0, 't'], v.loc[1, 't'] = 'y', 'x'", "t: 2 of 4 cells changed"),
    "a long frame": ("v = pd.DataFrame({'a': np.arange(30000.), 'b': np.arange(30000.)})", "v.loc[7, 'b'] = 8.", "b: 1 of 30000 cells changed, max abs 1"),
    "categories": ("v = pd.DataFrame({'c': pd.Categorical(['x', 'y', 'x', 'y'])})", "v.loc[0, 'c'], v.loc[1, 'c'] = 'y', 'x'", "c: 2 of 4 cells changed"),
    "nullable integers": ("v = pd.DataFrame({'n': pd.array([1, 2, None], dtype='Int64')})", "v.loc[0, 'n'], v.loc[1, 'n'] = 2, 1", "n: 2 of 3 cells changed"),
    "times with a zone": ("v = pd.DataFrame({'t': pd.date_range('2020', periods=3, tz='UTC')})", "v.loc[1, 't'] = v.loc[0, 't']", "t: 1 of 3 cells changed"),
    "rows of mixed order": ("v = pd.DataFrame(np.arange(12.).reshape(4, 3), columns=list('abc'))", "v.loc[2, 'b'] = 7.5", "b: 1 of 4 cells changed"),
}  # fmt: skip


@pytest.mark.parametrize("claim", NUMERIC)
def test_counts(claim: str) -> None:
    pytest.importorskip("numpy")
    code, change, expected = NUMERIC[claim]
    assert expected in "\n".join(lines(f"import numpy as np\n{code}", change))


@pytest.mark.parametrize("claim", TABLES)
def test_counts_cells(claim: str) -> None:
    pytest.importorskip("pandas")
    code, change, expected = TABLES[claim]
    assert expected in "\n".join(lines(f"import numpy as np, pandas as pd\n{code}", change))


def test_a_refitted_estimator_shows_what_it_learned() -> None:
    pytest.importorskip("sklearn")
    code = "import numpy as np\nfrom sklearn.linear_model import LinearRegression\nx = np.eye(40)\nv = LinearRegression().fit(x, np.arange(40.))"
    told = "\n".join(lines(code, "v.fit(x, np.arange(40.) ** 2)"))
    assert "coef_: 40 of 40 elements changed" in told
    assert told.count("intercept_") == 1


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5), st.tuples(inner, inner)),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, VALUES)
def test_values_have_one_digest_and_no_differences_exactly_when_they_are_equal(left: object, right: object) -> None:
    first, second = stored([left]), stored([right])
    is_equal = repr(left) == repr(right)
    assert (content_digest(first.value, ()) == content_digest(second.value, ())) == is_equal
    if is_equal:
        assert not diff_contents(first, second)
    elif left != right:
        assert diff_contents(first, second)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_strangers_bytes_are_read_or_refused(data: bytes) -> None:
    for stream in (data, b"\x80\x05" + data, pickle.dumps({"v": [1, "x", {2: 3}]}, 5)[:-20] + data + b"."):
        try:
            node = read_pickle(stream)
            content_digest(node, ())
        except Unreadable:
            continue
        other = read_pickle(pickle.dumps({"v": [1, "y", {2: [3]}]}, 5))
        diff_contents(Contents(node, ()), Contents(other, ()))
        diff_contents(Contents(other, ()), Contents(node, ()))
        diff_elements(Contents(node, ()), Contents(node, ()))


def test_a_stranger_s_stream_of_doublings_is_compared_once() -> None:
    value: list[Any] = [1]
    for _ in range(50):
        value = [value, value]
    first, second = stored({"v": value, "n": 1}), stored({"v": value, "n": 2})
    assert [change.path for change in diff_contents(first, second)] == ["n"]
    content_digest(first.value, ())


def test_reading_a_stranger_s_pickle_calls_nothing(tmp_path: Any) -> None:
    import os

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    node = read_pickle(pickle.dumps({"v": Trap()}, 5)).pairs()["v"]
    assert node.calls() == "posix.mkdir"
    diff_contents(Contents(node, ()), Contents(node, ()))
    assert not (tmp_path / "made").exists()


TENSORS = {
    "in the stream": ("v = {'t': torch.ones(2, 3)}", "v['t'][0, 1] = 3", "t: 1 of 6 elements changed, max abs 2"),
    "beside the stream": ("v = [torch.zeros(100_000)]", "v[0][7] = -2", "[0]: 1 of 100000 elements changed, max abs 2"),
    "turned": ("v = {'t': torch.arange(12).reshape(3, 4).T}", "v['t'][3] = 0", "t: 3 of 12 elements changed, max abs 11"),
    "over an array": ("v = [torch.from_numpy(numpy.ones(5))]", "v[0][2] = 4", "[0]: 1 of 5 elements changed, max abs 3"),
    "in two bytes": ("v = [torch.ones(4, dtype=torch.bfloat16)]", "v[0][2] = 4", "[0]: 1 of 4 elements changed, max abs 3"),
    "a view of a part": ("v = {'t': torch.ones(4, 4)[:, 1]}", "v['t'][1] = 9", "t: elements changed"),
    "of another shape": ("v = [[0] * 50 + [torch.ones(2, 3)]]", "v[0][50] = torch.ones(4)", "[0][50]: tensor 2x3 -> tensor 4"),
    "an array of another shape": ("v = [[0] * 50 + [numpy.ones((2, 3))]]", "v[0][50] = numpy.ones(4)", "[0][50]: array 2x3 -> array 4"),
    "of an optimizer": (
        "m = torch.nn.Linear(3, 2); v = torch.optim.SGD(m.parameters(), lr=1.0)",
        "m(torch.ones(3)).sum().backward(); v.step()",
        "param_groups[0]['params'][0]: 6 of 6 elements changed, max abs 1",
    ),
    "a gradient": (
        "m = torch.nn.Linear(3, 2); v = torch.optim.SGD(m.parameters(), lr=1.0)",
        "m(torch.ones(3)).sum().backward()",
        "param_groups[0]['params'][1].grad: None -> tensor",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_of_tensors_the_elements_are_counted_and_no_bytes_are_shown(case: str) -> None:
    pytest.importorskip("torch")
    code, change, expected = TENSORS[case]
    found = lines(f"import numpy, torch\n{code}", change)
    assert f"    {expected}" in found and not any("b'" in line for line in found), found

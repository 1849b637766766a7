"""Frames: which of them are one co-variable, and what comes back of them."""

from __future__ import annotations

from typing import Any

import pytest

from dartvc.state.covariables import group_by_sharing
from dartvc.state.loading import LiveBuffers, Loading, load
from dartvc.state.saving import Saving, save

pandas = pytest.importorskip("pandas")
numpy = pytest.importorskip("numpy")

COLUMNS = {
    "text": "df['city'] = ['Rome', 'Oslo', 'Bonn', 'Kyiv']",
    "text as objects": "df['city'] = pd.Series(['Rome', 'Oslo', 'Bonn', 'Kyiv'], dtype=object)",
    "categories": "df['city'] = pd.Categorical(['Rome', 'Oslo', 'Rome', 'Kyiv'])",
    "times with a zone": "df['t'] = pd.date_range('2020', periods=4, tz='Europe/Rome')",
    "an index of times with a zone": "df.index = pd.date_range('2020', periods=4, tz='Europe/Rome', name='t')",
    "periods": "df['p'] = pd.period_range('2020', periods=4, freq='M')",
    "intervals": "df['i'] = pd.interval_range(0, 4)",
    "nullable integers": "df['n'] = pd.array([1, 2, None, 4], dtype='Int64')",
    "text and categories, looked at": "df['city'] = ['Rome', 'Oslo', 'Bonn', 'Kyiv']; df['c'] = df.city.astype('category'); df.loc[1]; df.city.unique()",
}
WAYS = {
    "copied": "df.copy()",
    "filtered": "df[df.a > 1]",
    "assigned": "df.assign(z=1)",
    "sorted": "df.sort_values('a')",
    "without rows that lack something": "df.dropna()",
    "with other names": "df.rename(columns={'a': 'b'})",
    "merged": "df.merge(df, on='a')",
}


def run(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__", "pd": pandas, "np": numpy}
    exec(code, namespace)
    return namespace


def groups(namespace: dict[str, Any]) -> list[tuple[str, ...]]:
    names = [name for name in namespace if name not in ("pd", "np") and not name.startswith("__")]
    return group_by_sharing({name: namespace[name] for name in names}, namespace, "__main__")[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_frame_made_from_another_is_its_own_co_variable(column: str, way: str) -> None:
    from dartvc.state.adapters.frames import copies_on_write

    if not copies_on_write() and way != "copied":
        pytest.skip("without copies on write frames may share memory")
    namespace = run(f"df = pd.DataFrame({{'a': np.arange(4.)}})\n{COLUMNS[column]}\ndf2 = {WAYS[way]}\ndf2.loc[df2.index[0]]")
    assert groups(namespace) == [("df",), ("df2",)]
    for name in ("df", "df2"):
        saved = save({name: namespace[name]}, Saving(namespace, "__main__"))
        loaded = load(saved.stream, Loading({}, LiveBuffers([memoryview(bytes(buffer)) for buffer in saved.buffers])))
        pandas.testing.assert_frame_equal(loaded[name], namespace[name])


def test_what_is_shared_stays_together() -> None:
    assert groups(run("x = np.arange(9.); v = x[2:]; w = x.reshape(3, 3)")) == [("x", "v", "w")]
    assert groups(run("df = pd.DataFrame({'a': [1, 2], 't': ['x', 'y']}); alias = df; held = [df]")) == [("df", "alias", "held")]
    assert groups(run("df = pd.DataFrame({'a': [[1], [2]]}, dtype=object); df2 = df.copy()")) == [("df", "df2")]
    assert groups(run("i = pd.Index(['a', 'b']); s = pd.Series([1, 2], index=i); s.index.name = 'n'")) == [("i", "s")]


def test_the_array_of_a_column_stays_with_every_frame_that_it_writes_to() -> None:
    for column in ("pd.array([1, 2, None, 4], dtype='Int64')", "pd.Categorical(['a', 'b', 'a', 'b'])", "pd.interval_range(0, 4)"):
        made = f"df = pd.DataFrame({{'p': {column}}}); df2 = df.assign(z=1); df3 = df.copy()"
        shared = [("df", "df2", "handed"), ("df3",)] if pandas.__version__ >= "3" else [("df", "handed"), ("df2",), ("df3",)]  # pandas 2 copies in `assign`
        assert groups(run(f"{made}; handed = df.p.array")) in (shared, [("df", "df2", "df3", "handed")])


def test_two_values_of_one_type_of_column_or_one_moment_share_nothing() -> None:
    assert groups(run("d = pd.StringDtype(); t = [d]; m = pd.Timestamp('2020'); n = {'m': m}; o = np.dtype('O'); p = [o]")) == [
        ("d",), ("t",), ("m",), ("n",), ("o",), ("p",),
    ]  # fmt: skip

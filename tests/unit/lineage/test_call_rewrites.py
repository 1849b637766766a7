"""Calls over stacks assembled from their parts, against the plain calls, for shapes and values that Hypothesis chooses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import Contents
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.memory import Memory
from dartvc.lineage.rewrites import Rewrites
from dartvc.lineage.sites import Site

np = pytest.importorskip("numpy")

CONTENTS = Contents()


def digest(value: Any) -> bytes:
    """Returns the fingerprint of one value."""
    walker = Fingerprint(Plans(lambda path: False, lambda code: code), is_result=True)
    walker.add(value)
    return walker.digest()


def always(rewrites: Rewrites, site: Site) -> None:
    """Makes the rewrites of a site worth it, whatever the machine is doing."""
    rewrites._rates[id(site)] = 1.0


@settings(deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    stacked=st.sampled_from((0, 1)),
    axis=st.sampled_from((0, 1, -1, None)),
    name=st.sampled_from(("sum", "mean", "var", "std", "min", "max")),
    ddof=st.integers(0, 1),
    seed=st.integers(0, 99),
    is_method=st.booleans(),
)
def test_aggregates_of_stacks_equal_the_plain_ones(
    widths: list[int], stacked: int, axis: int | None, name: str, ddof: int, seed: int, is_method: bool
) -> None:
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site(name)
    always(rewrites, site)
    parts = [rng.standard_normal((width * 50, 200) if stacked == 0 else (200, width * 50)) * 10**seed for width in widths]
    kwargs = {"axis": axis, **({"ddof": ddof} if name in ("var", "std") else {})}
    for chosen in (parts, parts[::-1], [*parts, parts[0]]):
        whole = np.concatenate(chosen, stacked)
        rewrites.note(whole, chosen, stacked)
        function, args = (getattr(whole, name), ()) if is_method else (getattr(np, name), (whole,))
        is_done, answer = rewrites.call(site, function, args, dict(kwargs))
        assert is_done
        plain = function(*args, **kwargs)
        np.testing.assert_allclose(answer, plain, rtol=1e-9, atol=1e-12 * 10**seed)
        assert type(answer) is type(plain) and np.shape(answer) == np.shape(plain)
    assert site.partial == 2


@settings(deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    axis=st.sampled_from((0, 1)),
    name=st.sampled_from(("log1p", "exp", "sin", "tanh", "cbrt")),
    seed=st.integers(0, 99),
)
def test_functions_of_stacks_equal_the_plain_ones(widths: list[int], axis: int, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site(name)
    always(rewrites, site)
    parts = [rng.random((width * 50, 200) if axis == 0 else (200, width * 50)) for width in widths]
    for chosen in (parts, parts[1:] + parts[:1]):
        whole = np.concatenate(chosen, axis)
        rewrites.note(whole, chosen, axis)
        is_done, answer = rewrites.call(site, getattr(np, name), (whole,), {})
        assert is_done
        np.testing.assert_allclose(answer, getattr(np, name)(whole), rtol=1e-12)
        answer[:] = 0  # nobody else sees it
    assert site.partial == 1


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(600, 900), min_size=3, max_size=4),
    how=st.sampled_from(("sum", "count", "mean", "min", "max", "size", "agg")),
    keys=st.sampled_from((["k"], ["s"], ["s", "k"])),
    columns=st.sampled_from(("v", ["w"], ["v", "w"])),
    seed=st.integers(0, 99),
    holes=st.booleans(),
)
def test_groups_of_appended_tables_equal_the_plain_ones(
    lengths: list[int], how: str, keys: list[str], columns: Any, seed: int, holes: bool
) -> None:
    pandas = pytest.importorskip("pandas", minversion="3")
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site(how)
    always(rewrites, site)

    def table(length: int) -> Any:
        names = np.array(list("abcdef"))[rng.integers(0, 6, length)]
        made = pandas.DataFrame({"k": rng.integers(0, 9, length), "s": names, "v": rng.standard_normal(length), "w": rng.integers(-5, 5, length)})
        if holes:
            made.loc[rng.random(length) < 0.3, "v"] = np.nan
            made.loc[rng.random(length) < 0.1, "s"] = None
        return made

    parts = [table(length) for length in lengths]
    for count in (len(parts) - 1, len(parts)):
        whole = pandas.concat(parts[:count], ignore_index=seed % 2 == 0)
        rewrites.note_tables(pandas.concat, (parts[:count],), {"ignore_index": seed % 2 == 0}, whole)
        groups = whole.groupby(keys if len(keys) > 1 else keys[0])[columns]
        args = ("mean",) if how == "agg" else ()
        is_done, answer = rewrites.call(site, getattr(groups, how), args, {})
        plain = getattr(groups, how)(*args)
        assert is_done
        (pandas.testing.assert_frame_equal if hasattr(plain, "columns") else pandas.testing.assert_series_equal)(answer, plain)
    assert site.partial == 1


@settings(deadline=None)
@given(lengths=st.lists(st.integers(600, 900), min_size=3, max_size=4), seed=st.integers(0, 99), kind=st.sampled_from(("str", "int", "holes")))
def test_counts_of_appended_values_equal_the_plain_ones(lengths: list[int], seed: int, kind: str) -> None:
    pandas = pytest.importorskip("pandas", minversion="3")
    rng = np.random.default_rng(seed)
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("value_counts")
    always(rewrites, site)

    def table(length: int) -> Any:
        made = pandas.DataFrame({"c": rng.integers(0, 40, length)})
        if kind != "int":
            made["c"] = "x" + made["c"].astype(str)
        if kind == "holes":
            made.loc[rng.random(length) < 0.3, "c"] = None
        return made

    parts = [table(length) for length in lengths]
    for count in (len(parts) - 1, len(parts)):
        whole = pandas.concat(parts[:count])
        rewrites.note_tables(pandas.concat, (parts[:count],), {}, whole)
        is_done, answer = rewrites.call(site, whole["c"].value_counts, (), {})
        assert is_done
        pandas.testing.assert_series_equal(answer, whole["c"].value_counts())
    assert site.partial == 1


def test_a_rewrite_that_is_no_cheaper_than_the_plain_call_is_not_applied() -> None:
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("sum")
    parts = [np.random.default_rng(seed).random((500, 50)) for seed in range(3)]
    whole = np.concatenate(parts)
    rewrites.note(whole, parts, 0)
    rewrites._rates[id(site)] = 1e-11  # 100 GB a second
    assert rewrites.call(site, whole.sum, (), {}) == (False, None)
    assert not site.partial


def test_a_table_changed_after_it_was_concatenated_gives_what_it_holds_now() -> None:
    pandas = pytest.importorskip("pandas")
    rewrites, site = Rewrites(Memory(1 << 28), digest, CONTENTS), Site("sum")
    always(rewrites, site)
    parts = [pandas.DataFrame({"k": np.arange(600) % 7, "v": np.arange(600.0)}) for _ in range(3)]
    for step in range(3):
        whole = pandas.concat(parts, ignore_index=True)
        rewrites.note_tables(pandas.concat, (parts,), {"ignore_index": True}, whole)
        whole.loc[5, "v"] = -1000.0 * step
        groups = whole.groupby("k")["v"]
        pandas.testing.assert_series_equal(rewrites.call(site, groups.sum, (), {})[1], groups.sum())


def test_calls_that_are_no_library_s_are_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import math
    import sys

    rewrites = Rewrites(Memory(1 << 20), digest, CONTENTS)
    monkeypatch.delitem(sys.modules, "numpy")
    for name, function in (("log", math.log), ("sum", sum), ("max", max)):
        assert rewrites.call(Site(name), function, (2.0,), {}) == (False, None)


def test_several_aggregates_at_once_are_let_pass() -> None:
    pandas = pytest.importorskip("pandas")
    grouped = pandas.DataFrame({"k": [1, 1, 2], "v": [1.0, 2.0, 3.0]}).groupby("k")
    rewrites = Rewrites(Memory(1 << 20), digest, CONTENTS)
    assert rewrites.call(Site("agg"), grouped.agg, (["mean", "std"],), {}) == (False, None)

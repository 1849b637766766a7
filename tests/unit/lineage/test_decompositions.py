"""Principal components taken from a larger number of them, against scikit-learn's own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.lineage.decompositions import GrowingComponents

np = pytest.importorskip("numpy")
decomposition = pytest.importorskip("sklearn.decomposition")


@settings(deadline=None, max_examples=50)
@given(
    shape=st.sampled_from(((300, 12), (40, 25), (30, 60))),
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    solver=st.sampled_from(("auto", "full", "covariance_eigh")),
    whiten=st.booleans(),
    name=st.sampled_from(("fit", "fit_transform")),
    seed=st.integers(0, 99),
)
def test_components_taken_from_more_equal_the_plain_ones(
    shape: tuple[int, int], counts: list[int], solver: str, whiten: bool, name: str, seed: int
) -> None:
    X = np.random.default_rng(seed).standard_normal(shape) * np.linspace(1, 9, shape[1])
    known: dict[str, Any] = {}

    def fit(whole: Any) -> object:
        if whole.svd_solver not in known:
            known[whole.svd_solver] = vars(whole.fit(X))
        vars(whole).update(known[whole.svd_solver])
        return whole

    for count in counts:
        plain = decomposition.PCA(count, svd_solver=solver, whiten=whiten) if count <= min(shape) else None
        if plain is None:
            continue
        made = decomposition.PCA(count, svd_solver=solver, whiten=whiten)
        expected = getattr(plain, name)(X)
        is_done, answer = GrowingComponents().apply(name, made, (X,), fit)
        if not is_done:
            assert count == min(shape) or plain._fit_svd_solver == "randomized" or (solver == "covariance_eigh" and shape == (30, 60))
            continue
        assert vars(made).keys() == vars(plain).keys()
        for each in vars(plain).keys() - {"components_"}:
            if isinstance(vars(plain)[each], str | bool | None):
                assert vars(made)[each] == vars(plain)[each]
            else:
                np.testing.assert_allclose(vars(made)[each], vars(plain)[each], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(made.components_, plain.components_, rtol=1e-6, atol=1e-8)
        if name == "fit_transform":
            np.testing.assert_allclose(answer, expected, rtol=1e-6, atol=1e-8)
        else:
            assert answer is made


def test_other_solvers_are_left_alone() -> None:
    X = np.random.default_rng(0).random((600, 300))
    for made in (decomposition.PCA(5), decomposition.PCA(5, svd_solver="arpack"), decomposition.PCA(0.9), decomposition.TruncatedSVD(3)):
        assert GrowingComponents().apply("fit", made, (X,), lambda whole: whole) == (False, None)

"""Rewrite of principal components with a growing number of them: the exact solvers decompose the whole matrix whatever number is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["GrowingComponents"]

_EXACT = frozenset({"full", "covariance_eigh"})
_FITTED = frozenset(
    {
        "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_", "n_components_", "n_samples_",
        "noise_variance_", "n_features_in_", "feature_names_in_", "_fit_svd_solver", "_n_features_out",
    }
)  # fmt: skip
_BY_COMPONENT = ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_")
_SMALL, _FEW_FEATURES, _TALL = 500, 1000, 10
_RANDOMIZED_BELOW = 0.8


class GrowingComponents:
    """``PCA(k).fit(X)`` is a prefix of ``PCA().fit(X)``, which is fitted once."""

    def apply(self, name: str, estimator: Any, args: tuple[Any, ...], fit: Callable[[Any], object]) -> tuple[bool, Any]:
        """Returns whether the estimator was fitted, and what the call gives.

        Args:
            name: ``fit`` or ``fit_transform``.
            estimator: what is to be fitted.
            args: what it is given.
            fit: fits another estimator on the same data, unless that was done before.
        """
        numpy = sys.modules["numpy"]
        if type(estimator).__module__ != "sklearn.decomposition._pca" or type(estimator).__name__ != "PCA" or name not in ("fit", "fit_transform"):
            return False, None
        if not args or type(args[0]) is not numpy.ndarray or args[0].ndim != 2 or (len(args) > 1 and args[1] is not None):
            return False, None
        count, solver = estimator.n_components, _solver_of(estimator, args[0].shape)
        most = min(args[0].shape)
        if type(count) is not int or not 1 <= count < most or solver is None:
            return False, None
        whole = type(estimator)(**{**estimator.get_params(), "n_components": most, "svd_solver": solver})
        fit(whole)
        fitted = {each: value for each, value in vars(whole).items() if each not in whole.get_params()}
        if not fitted.keys() <= _FITTED:
            return False, None  # a later scikit-learn, which keeps something more
        for each in _BY_COMPONENT:
            fitted[each] = fitted[each][:count].copy()
        fitted["n_components_"] = count
        fitted["noise_variance_"] = whole.explained_variance_[count:].mean()
        if "_n_features_out" in fitted:
            fitted["_n_features_out"] = count
        vars(estimator).update(fitted)
        return True, estimator if name == "fit" else estimator.transform(args[0])


def _solver_of(estimator: Any, shape: tuple[int, int]) -> str | None:
    """Returns the exact solver that scikit-learn would take; None when it takes another."""
    solver, (rows, columns) = estimator.svd_solver, shape
    if solver != "auto":
        is_exact = solver in _EXACT and (solver == "full" or rows >= columns)  # of a wide covariance scikit-learn counts the null space, too
        return solver if is_exact else None
    if columns <= _FEW_FEATURES and rows >= _TALL * columns:
        return "covariance_eigh"
    if max(shape) <= _SMALL:
        return "full"
    return None if estimator.n_components < _RANDOMIZED_BELOW * min(shape) else "full"

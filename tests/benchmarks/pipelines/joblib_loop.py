"""A joblib loop over candidates in threads; what comes before the candidate is the same for all of them."""

import sys

import numpy as np
from joblib import Parallel, delayed

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def features(X):
    L = np.sort(X, axis=0)
    middle = np.median(L, axis=0)
    low, high = np.percentile(X, [2, 98], axis=0)
    return np.clip(X, low, high) - middle


def evaluate(X, y, reg):
    F = features(X)
    beta = np.linalg.solve(F.T @ F + reg * np.eye(F.shape[1]), F.T @ y)
    return float(np.mean((y - F @ beta) ** 2))


def main():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((int(60_000 * SCALE), 40)) ** 3
    y = X @ rng.standard_normal(40) + rng.standard_normal(len(X))
    regs = [10.0**power for power in range(-5, 11)]
    scores = Parallel(n_jobs=2, backend="threading")(delayed(evaluate)(X, y, reg) for reg in regs)
    for reg, score in zip(regs, scores, strict=True):
        print(f"{reg:g} {score:.6f}")


main()

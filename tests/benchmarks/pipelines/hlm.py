"""Grid search over linear regression: ten sets of features, regularisation, intercept and a tolerance that the closed form does not need."""

import sys

import numpy as np

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def data(rows, columns=100, seed=7):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    y = X @ rng.standard_normal(columns) + rng.standard_normal(rows)
    return X, y.reshape(-1, 1)


def lm(X, y, intercept, reg, tol):
    if intercept == 2:
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    if intercept > 0:
        X = np.column_stack([X, np.ones(len(X))])
    return lm_ds(X, y, reg)


def lm_ds(X, y, reg):
    A = X.T @ X + np.diag(np.full(X.shape[1], reg))
    b = X.T @ y
    return np.linalg.solve(A, b)


def l2norm(X, y, beta, intercept):
    if intercept == 2:
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    if intercept > 0:
        X = np.column_stack([X, np.ones(len(X))])
    return float(np.sum((y - X @ beta) ** 2))


def main():
    X, y = data(int(30_000 * SCALE))
    rng = np.random.default_rng(1)
    best = (np.inf, None)
    for trial in range(10):
        columns = rng.choice(X.shape[1], 15, replace=False)
        chosen = X[:, columns]
        for intercept in (0, 1, 2):
            for reg in (0.0, 1e-4, 1e-2, 1.0, 10.0, 100.0):
                for tol in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4):
                    beta = lm(chosen, y, intercept, reg, tol)
                    loss = l2norm(chosen, y, beta, intercept)
                    if loss < best[0] - 1e-6:
                        best = (loss, (trial, intercept, reg, tol))
        print(f"{trial}: best so far {best[0]:.3f} at {best[1]}")


if __name__ == "__main__":
    main()

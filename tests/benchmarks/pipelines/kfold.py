"""Ridge regression cross-validated over scikit-learn's folds of shuffled rows, with weights, for several targets and regularisations."""

import sys

import numpy as np
from sklearn.model_selection import KFold

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def data(rows, columns=60, targets=3, seed=5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    Y = X @ rng.standard_normal((columns, targets)) + 2.0 * rng.standard_normal((rows, targets))
    return X, Y


def ridge(X, y, reg):
    A = X.T @ X + reg * np.eye(X.shape[1])
    return np.linalg.solve(A, X.T @ y)


def main():
    X, Y = data(int(80_000 * SCALE))
    folds = KFold(n_splits=8, shuffle=True, random_state=0)
    for target in range(Y.shape[1]):
        y = Y[:, target]
        for reg in (0.1, 1.0, 10.0, 100.0, 1000.0):
            errors = []
            for train, test in folds.split(X):
                beta = ridge(X[train], y[train], reg)
                errors.append(float(np.mean((y[test] - X[test] @ beta) ** 2)))
            print(f"target={target} reg={reg} mse={np.mean(errors):.5f} sd={np.std(errors):.5f}")


if __name__ == "__main__":
    main()

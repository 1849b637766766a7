"""Principal components into linear regression, for a growing number of components."""

import sys

import numpy as np

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def data(rows, columns=240, seed=3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns)) * np.linspace(3.0, 0.3, columns)
    y = X[:, :60] @ rng.standard_normal((60, 1)) + rng.standard_normal((rows, 1))
    return X, y


def pca(A, k):
    centred = (A - A.mean(axis=0)) / A.std(axis=0)
    C = (centred.T @ centred) / (len(A) - 1)
    values, vectors = np.linalg.eigh(C)
    order = np.argsort(-values)
    vectors = vectors[:, order]
    return centred @ vectors[:, :k]


def lm(X, y, reg=1e-3):
    Z = np.column_stack([X, np.ones(len(X))])
    A = Z.T @ Z + reg * np.eye(Z.shape[1])
    return np.linalg.solve(A, Z.T @ y), Z


def main():
    A, y = data(int(40_000 * SCALE))
    for k in range(24, 241, 12):
        projected = pca(A, k)
        beta, Z = lm(projected, y)
        residual = y - Z @ beta
        r2 = 1.0 - float(np.sum(residual**2) / np.sum((y - y.mean()) ** 2))
        adjusted = 1.0 - (1.0 - r2) * (len(y) - 1) / (len(y) - k - 1)
        print(f"k={k} r2={r2:.6f} adjusted={adjusted:.6f}")


if __name__ == "__main__":
    main()

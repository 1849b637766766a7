"""Principal components for several K, each judged by a cross-validated regression whose training rows are stacked of two slices."""
import sys

import numpy as np

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def generate(n, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.linspace(2.0, 0.2, d)
    y = X @ rng.standard_normal((d, 1)) + rng.standard_normal((n, 1))
    return X, y


def pca(X, k):
    mu = X.mean(axis=0)
    C = X - mu
    cov = C.T @ C / (len(X) - 1)
    w, V = np.linalg.eigh(cov)
    order = np.argsort(w)[::-1][:k]
    return C @ V[:, order]


def lm(X, y, reg):
    A = X.T @ X + reg * np.eye(X.shape[1])
    return np.linalg.solve(A, X.T @ y)


def cross_validate(X, y, folds, reg):
    n = len(X)
    size = n // folds
    errors = []
    for i in range(folds):
        lo, hi = i * size, (i + 1) * size
        Xt = np.concatenate([X[:lo], X[hi:]])
        yt = np.concatenate([y[:lo], y[hi:]])
        beta = lm(Xt, yt, reg)
        errors.append(float(np.mean((y[lo:hi] - X[lo:hi] @ beta) ** 2)))
    return np.mean(errors)


def main():
    X, y = generate(int(120_000 * SCALE), 120, seed=2)
    best = None
    for k in (10, 20, 40, 60, 80):
        P = pca(X, k)
        for reg in (1e-3, 1e-1, 1.0, 10.0, 100.0):
            mse = cross_validate(P, y, 6, reg)
            print(f"k={k} reg={reg} mse={mse:.4f}")
            if best is None or mse < best[0] - 1e-9:
                best = (mse, k, reg)
    print(f"FINAL {best[1]} {best[2]} {best[0]:.4f}")


if __name__ == "__main__":
    main()

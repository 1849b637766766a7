"""By hand: the components once, a Gram matrix for each fold, and each K and fold as a block of the difference."""

import numpy as np
from pcacv import SCALE, generate


def main():
    X, y = generate(int(120_000 * SCALE), 120, seed=2)
    C = X - X.mean(axis=0)
    cov = C.T @ C / (len(X) - 1)
    w, V = np.linalg.eigh(cov)
    V = V[:, np.argsort(w)[::-1]]
    P = C @ V[:, :80]
    folds, n = 6, len(X)
    size = n // folds
    parts = [slice(i * size, (i + 1) * size) for i in range(folds)]
    G = [P[p].T @ P[p] for p in parts]
    B = [P[p].T @ y[p] for p in parts]
    Gs, Bs = sum(G), sum(B)
    best = None
    for k in (10, 20, 40, 60, 80):
        for reg in (1e-3, 1e-1, 1.0, 10.0, 100.0):
            errors = []
            for p, g, b in zip(parts, G, B, strict=True):
                beta = np.linalg.solve((Gs - g)[:k, :k] + reg * np.eye(k), (Bs - b)[:k])
                errors.append(float(np.mean((y[p] - P[p][:, :k] @ beta) ** 2)))
            mse = np.mean(errors)
            print(f"k={k} reg={reg} mse={mse:.4f}")
            if best is None or mse < best[0] - 1e-9:
                best = (mse, k, reg)
    print(f"FINAL {best[1]} {best[2]} {best[0]:.4f}")


main()

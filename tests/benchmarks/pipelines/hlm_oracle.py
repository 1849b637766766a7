"""By hand: one Gram matrix and one right-hand side for a set of features; a loss from the same two, the tolerance not tried."""

import numpy as np
from hlm import SCALE, data


def main():
    X, y = data(int(30_000 * SCALE))
    rng = np.random.default_rng(1)
    best = (np.inf, None)
    for trial in range(10):
        columns = rng.choice(X.shape[1], 15, replace=False)
        chosen = X[:, columns]
        scaled = (chosen - chosen.mean(axis=0)) / chosen.std(axis=0)
        for intercept in (0, 1, 2):
            Z = (chosen, chosen, scaled)[intercept]
            if intercept:
                Z = np.column_stack([Z, np.ones(len(Z))])
            gram, right = Z.T @ Z, Z.T @ y
            for reg in (0.0, 1e-4, 1e-2, 1.0, 10.0, 100.0):
                beta = np.linalg.solve(gram + np.diag(np.full(Z.shape[1], reg)), right)
                loss = float(np.sum((y - Z @ beta) ** 2))
                if loss < best[0] - 1e-6:
                    best = (loss, (trial, intercept, reg, 1e-12))
        print(f"{trial}: best so far {best[0]:.3f} at {best[1]}")


main()

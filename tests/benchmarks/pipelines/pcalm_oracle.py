"""By hand: one decomposition, one projection onto all components, one Gram matrix whose leading blocks are what each number needs."""

import numpy as np
from pcalm import SCALE, data


def main():
    A, y = data(int(40_000 * SCALE))
    centred = (A - A.mean(axis=0)) / A.std(axis=0)
    values, vectors = np.linalg.eigh((centred.T @ centred) / (len(A) - 1))
    vectors = vectors[:, np.argsort(-values)]
    Z = np.column_stack([np.ones(len(A)), centred @ vectors])
    gram, right = Z.T @ Z, Z.T @ y
    for k in range(24, 241, 12):
        beta = np.linalg.solve(gram[: k + 1, : k + 1] + 1e-3 * np.eye(k + 1), right[: k + 1])
        residual = y - Z[:, : k + 1] @ beta
        r2 = 1.0 - float(np.sum(residual**2) / np.sum((y - y.mean()) ** 2))
        adjusted = 1.0 - (1.0 - r2) * (len(y) - 1) / (len(y) - k - 1)
        print(f"k={k} r2={r2:.6f} adjusted={adjusted:.6f}")


main()

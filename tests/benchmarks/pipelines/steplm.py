"""Forward selection for linear regression by Akaike's criterion: every candidate adds one column to those that were chosen."""

import sys

import numpy as np

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def data(rows, columns=60, seed=4):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    y = X[:, :8] @ np.arange(1.0, 9.0) + 3.0 * rng.standard_normal(rows)
    return X, y


def aic(X, y):
    Z = np.column_stack([X, np.ones(len(X))])
    beta = np.linalg.solve(Z.T @ Z + 1e-9 * np.eye(Z.shape[1]), Z.T @ y)
    residual = y - Z @ beta
    return len(y) * np.log(residual @ residual / len(y)) + 2 * Z.shape[1]


def main():
    X, y = data(int(50_000 * SCALE))
    chosen, left, best = [], list(range(X.shape[1])), np.inf
    while left and len(chosen) < 7:
        scores = [(aic(np.column_stack([X[:, chosen], X[:, each]]), y), each) for each in left]
        score, each = min(scores)
        if score >= best:
            break
        best = score
        chosen.append(each)
        left.remove(each)
        print(f"{each} aic={best:.3f}")


if __name__ == "__main__":
    main()

"""A small network trained on mini-batches: nothing repeats."""

import sys

import numpy as np

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def relu(x):
    return np.maximum(x, 0.0)


def step(params, X, y, rate):
    W1, b1, W2, b2 = params
    hidden = relu(X @ W1 + b1)
    out = hidden @ W2 + b2
    error = (out - y) / len(X)
    grad_hidden = (error @ W2.T) * (hidden > 0)
    return [
        W1 - rate * (X.T @ grad_hidden),
        b1 - rate * grad_hidden.sum(axis=0),
        W2 - rate * (hidden.T @ error),
        b2 - rate * error.sum(axis=0),
    ]


def main():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((int(20_000 * SCALE), 50))
    y = np.sin(X[:, :1]) + 0.1 * rng.standard_normal((len(X), 1))
    params = [0.1 * rng.standard_normal((50, 64)), np.zeros(64), 0.1 * rng.standard_normal((64, 1)), np.zeros(1)]
    for epoch in range(20):
        order = rng.permutation(len(X))
        for start in range(0, len(X), 32):
            rows = order[start : start + 32]
            params = step(params, X[rows], y[rows], 0.05)
        loss = float(np.mean((relu(X @ params[0] + params[1]) @ params[2] + params[3] - y) ** 2))
        print(f"{epoch} {loss:.6f}")


main()

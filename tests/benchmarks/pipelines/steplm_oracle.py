"""By hand: one Gram matrix of all columns; a candidate is a small system made of its rows and columns, and so is its residual."""

import numpy as np
from steplm import SCALE, data


def main():
    X, y = data(int(50_000 * SCALE))
    Z = np.column_stack([X, np.ones(len(X))])
    gram, right = Z.T @ Z, Z.T @ y
    chosen, left, best = [], list(range(X.shape[1])), np.inf
    while left and len(chosen) < 7:
        scores = []
        for each in left:
            columns = [*chosen, each, X.shape[1]]
            beta = np.linalg.solve(gram[np.ix_(columns, columns)] + 1e-9 * np.eye(len(columns)), right[columns])
            residual = y - Z[:, columns] @ beta
            scores.append((len(y) * np.log(residual @ residual / len(y)) + 2 * len(columns), each))
        score, each = min(scores)
        if score >= best:
            break
        best = score
        chosen.append(each)
        left.remove(each)
        print(f"{each} aic={best:.3f}")


main()

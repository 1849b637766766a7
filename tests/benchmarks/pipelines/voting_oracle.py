"""By hand: each model predicts once."""

import numpy as np
from sklearn.datasets import make_classification
from voting import SCALE, fit_all


def main():
    X, y = make_classification(int(2_400 * SCALE), 20, n_informative=10, n_classes=4, random_state=2)
    middle = len(X) * 3 // 4
    predictions = [model.predict(X[middle:]) for model in fit_all(X[:middle], y[:middle])]
    rows = np.arange(len(X) - middle)
    rng = np.random.default_rng(9)
    best = (-1.0, None)
    for trial in range(120):
        weights = rng.dirichlet(np.ones(len(predictions)))
        votes = np.zeros((len(rows), 4))
        for predicted, weight in zip(predictions, weights, strict=True):
            votes[rows, predicted] += weight
        accuracy = float(np.mean(votes.argmax(axis=1) == y[middle:]))
        if accuracy > best[0]:
            best = (accuracy, weights)
            print(trial, f"{accuracy:.5f}", np.round(weights, 4).tolist())


main()

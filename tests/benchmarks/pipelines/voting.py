"""Weighted voting of six models: the weights are drawn at random, the models and the rows stay."""

import sys

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def fit_all(X, y):
    models = [
        RandomForestClassifier(30, random_state=0),
        ExtraTreesClassifier(30, random_state=0),
        GradientBoostingClassifier(n_estimators=20, random_state=0),
        LogisticRegression(max_iter=200),
        KNeighborsClassifier(9),
        SVC(random_state=0),
    ]
    return [model.fit(X, y) for model in models]


def vote(models, weights, X, classes):
    votes = np.zeros((len(X), classes))
    for model, weight in zip(models, weights, strict=True):
        predicted = model.predict(X)
        votes[np.arange(len(X)), predicted] += weight
    return votes.argmax(axis=1)


def main():
    X, y = make_classification(int(2_400 * SCALE), 20, n_informative=10, n_classes=4, random_state=2)
    middle = len(X) * 3 // 4
    models = fit_all(X[:middle], y[:middle])
    rng = np.random.default_rng(9)
    best = (-1.0, None)
    for trial in range(120):
        weights = rng.dirichlet(np.ones(len(models)))
        accuracy = float(np.mean(vote(models, weights, X[middle:], 4) == y[middle:]))
        if accuracy > best[0]:
            best = (accuracy, weights)
            print(trial, f"{accuracy:.5f}", np.round(weights, 4).tolist())


if __name__ == "__main__":
    main()

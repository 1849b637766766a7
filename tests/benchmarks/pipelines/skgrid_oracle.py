"""By hand: each step fitted once for a fold and the steps before it."""

import itertools
import sys

import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import QuantileTransformer

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def main():
    X, y = make_classification(int(1_500 * SCALE), 40, n_informative=12, random_state=0)
    names = ("model__alpha", "project__n_components", "select__k")
    candidates = list(itertools.product([0.1, 1.0, 10.0, 100.0], [5, 10], [20, 30]))
    scores = {each: [] for each in candidates}
    for train, test in StratifiedKFold(4).split(X, y):
        scale = QuantileTransformer(n_quantiles=300, output_distribution="normal").fit(X[train])
        first, second = scale.transform(X[train]), scale.transform(X[test])
        ranks = mutual_info_classif(first, y[train], random_state=0)
        for k in (20, 30):
            kept = np.zeros(X.shape[1], bool)
            kept[np.argsort(ranks, kind="mergesort")[-k:]] = True
            for count in (5, 10):
                project = PCA(count, random_state=0)
                third, fourth = project.fit_transform(first[:, kept]), None
                fourth = project.transform(second[:, kept])
                for alpha in (0.1, 1.0, 10.0, 100.0):
                    model = clone(RidgeClassifier(alpha=alpha)).fit(third, y[train])
                    scores[alpha, count, k].append(model.score(fourth, y[test]))
    for each in candidates:
        print(f"{np.mean(scores[each]):.5f} {list(zip(names, each, strict=True))}")
    best = max(candidates, key=lambda each: np.mean(scores[each]))
    scale = QuantileTransformer(n_quantiles=300, output_distribution="normal").fit_transform(X)
    mutual_info_classif(scale, y, random_state=0)
    print(f"best {np.mean(scores[best]):.5f} {dict(zip(names, best, strict=True))}")


main()

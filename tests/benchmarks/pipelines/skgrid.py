"""scikit-learn's grid search over a pipeline whose candidates share their first steps."""

import sys

from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def score(features, labels, seed):
    return mutual_info_classif(features, labels, random_state=seed)


def main():
    X, y = make_classification(int(1_500 * SCALE), 40, n_informative=12, random_state=0)
    pipeline = Pipeline(
        [
            ("scale", QuantileTransformer(n_quantiles=300, output_distribution="normal")),
            ("select", SelectKBest(mutual_info_classif)),
            ("project", PCA(random_state=0)),
            ("model", RidgeClassifier()),
        ]
    )
    pipeline.set_params(select__score_func=seeded)
    grid = {"select__k": [20, 30], "project__n_components": [5, 10], "model__alpha": [0.1, 1.0, 10.0, 100.0]}
    search = GridSearchCV(pipeline, grid, cv=4)
    search.fit(X, y)
    for value, chosen in zip(search.cv_results_["mean_test_score"], search.cv_results_["params"], strict=True):
        print(f"{value:.5f} {sorted(chosen.items())}")
    print(f"best {search.best_score_:.5f} {search.best_params_}")


def seeded(features, labels):
    return score(features, labels, 0)


main()

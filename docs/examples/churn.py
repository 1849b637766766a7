"""Which customers will leave? A small analysis on data that it makes itself: an ordinary script that knows nothing of dartvc."""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ["months", "monthly_fee", "calls_to_support", "is_yearly", "fee_per_month_stayed"]


def make_customers(count: int, seed: int) -> pd.DataFrame:
    """Makes customers whose chance to leave falls with time stayed and rises with calls to support."""
    random = np.random.default_rng(seed)
    customers = pd.DataFrame(
        {
            "months": random.integers(1, 72, count),
            "monthly_fee": random.gamma(6.0, 8.0, count).round(2),
            "calls_to_support": random.poisson(1.2, count),
            "is_yearly": random.random(count) < 0.35,
        }
    )
    tendency = 0.9 * customers.calls_to_support - 0.05 * customers.months + 0.02 * customers.monthly_fee - 1.5 * customers.is_yearly - 0.8
    customers["left"] = random.random(count) < 1 / (1 + np.exp(-tendency))
    return customers


def add_features(customers: pd.DataFrame) -> pd.DataFrame:
    """Adds what the models need beside the raw columns."""
    return customers.assign(fee_per_month_stayed=customers.monthly_fee / customers.months)


def main() -> None:
    """Fits three models, chooses the best and prints whom it would call."""
    customers = add_features(make_customers(20_000, seed=7))
    print(f"{len(customers)} customers, {customers.left.mean():.1%} left")
    train, test = train_test_split(customers, test_size=0.25, random_state=0)
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(n_estimators=60, min_samples_leaf=20, random_state=0),
        "deep forest": RandomForestClassifier(n_estimators=60, random_state=0),
    }
    scores = {}
    for name, model in models.items():
        model.fit(train[FEATURES], train.left)
        scores[name] = roc_auc_score(test.left, model.predict_proba(test[FEATURES])[:, 1])
        print(f"{name:12s} AUC {scores[name]:.4f}")
    best = max(scores, key=lambda name: scores[name])
    chance = models[best].predict_proba(test[FEATURES])[:, 1]
    first = test.assign(chance=chance).nlargest(5, "chance")
    print(f"best: {best}; call these first:")
    print(first[["months", "monthly_fee", "calls_to_support", "chance"]].to_string())


if __name__ == "__main__":
    main()

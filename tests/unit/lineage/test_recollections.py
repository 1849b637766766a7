"""Estimators that are believed without a walk: what is believed is what a walk would find, whatever was done to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import Contents
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.recollections import Recollections

np = pytest.importorskip("numpy")
pytest.importorskip("sklearn")

PLANS = Plans(lambda path: False, lambda code: code)


def contents() -> Contents:
    """Returns contents that know nothing yet."""
    made = Contents()
    made.whole_of = Recollections(PLANS, made).whole
    return made


def digest(known: Contents, *values: Any) -> bytes:
    """Returns the fingerprint of some values together."""
    walker = Fingerprint(PLANS, known)
    for each in values:
        walker.add(each)
    return walker.digest()


def forest() -> Any:
    """Returns a small fitted forest."""
    from sklearn.ensemble import RandomForestClassifier

    X = np.random.default_rng(0).random((80, 4))
    return RandomForestClassifier(3, random_state=0).fit(X, X[:, 0] > 0.5)


def pipeline() -> Any:
    """Returns a fitted pipeline with a nearest-neighbours model in it."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = np.random.default_rng(0).random((80, 4))
    return make_pipeline(StandardScaler(), KNeighborsClassifier(3, algorithm="kd_tree")).fit(X, X[:, 0] > 0.5)


def boosted() -> Any:
    """Returns a fitted model that holds a random stream."""
    from sklearn.ensemble import GradientBoostingClassifier

    X = np.random.default_rng(0).random((80, 4))
    return GradientBoostingClassifier(n_estimators=3, random_state=np.random.RandomState(1)).fit(X, X[:, 0] > 0.5)


def write_to_node(model: Any) -> None:
    """Changes one number inside a compiled tree."""
    model.estimators_[1].tree_.value[0, 0, 0] += 1.0


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "an attribute": (forest, lambda model: setattr(model, "n_jobs", 2)),
    "an attribute of a tree": (forest, lambda model: setattr(model.estimators_[2], "max_depth", 9)),
    "a number inside a compiled tree": (forest, write_to_node),
    "an array in place": (forest, lambda model: model.classes_.__setitem__(0, True)),
    "an array's shape": (forest, lambda model: setattr(model.classes_, "shape", (2, 1))),
    "the list of trees": (forest, lambda model: model.estimators_.pop()),
    "two trees that change places": (forest, lambda model: model.estimators_.reverse()),
    "a tree that is there twice": (forest, lambda model: model.estimators_.__setitem__(0, model.estimators_[1])),
    "a step": (pipeline, lambda model: model.steps.pop()),
    "a step's array in place": (pipeline, lambda model: model[0].mean_.__iadd__(1.0)),
    "the rows of a neighbours model": (pipeline, lambda model: model[1]._fit_X.__iadd__(1.0)),
    "a random stream that moves": (boosted, lambda model: model.random_state.random()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_to_an_estimator_is_seen_as_a_walk_sees_it(name: str) -> None:
    make, change = CHANGES[name]
    model, known = make(), contents()
    first = [digest(known, model) for _ in range(4)]
    assert len({*first, digest(contents(), model)}) == 1
    change(model)
    changed = [digest(known, model) for _ in range(3)]
    assert {*changed} == {digest(contents(), model)}
    assert changed[0] != first[0]


def test_which_parts_an_estimator_shares_with_other_arguments_counts() -> None:
    model, known = pipeline(), contents()
    for _ in range(4):
        shared, apart = digest(known, model, model[0].mean_), digest(known, model, model[0].mean_.copy())
        assert shared != apart
        assert digest(known, model[0].mean_, model) != digest(known, model[0].mean_.copy(), model)
    assert shared == digest(contents(), model, model[0].mean_)


def test_an_estimator_that_is_gone_is_forgotten() -> None:
    known = contents()
    model = forest()
    for _ in range(3):
        digest(known, model)
    assert known.whole_of is not None
    kept = known.whole_of.__self__._known  # type: ignore[attr-defined]
    assert len(kept) == 1
    del model
    assert not kept

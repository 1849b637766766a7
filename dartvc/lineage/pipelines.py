"""Steps inside scikit-learn's pipelines: a grid search whose candidates share their first steps fits these once for each fold."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dartvc.lineage.calls import Calls
from dartvc.lineage.changes import is_estimator
from dartvc.lineage.sites import Site

__all__ = ["watch_pipelines"]

_STEP = "_fit_transform_one"
_CONTEXT = "_parent_callback_ctx"  # since scikit-learn 1.9: new for each fit, with the time, and without effect when there are no callbacks


def watch_pipelines(calls: Calls) -> Site | None:
    """Makes the fitting of a pipeline's step ask before it runs, once scikit-learn's pipelines are loaded; returns its site the first time."""
    module = sys.modules.get("sklearn.pipeline")
    original = getattr(module, _STEP, None)
    if original is None or hasattr(original, "__wrapped__"):
        return None
    site = Site(f"sklearn.pipeline.{_STEP}", "")

    @functools.wraps(original)
    def fit_transform_one(transformer: Any, *args: Any, **kwargs: Any) -> Any:
        if site.is_off or not is_estimator(transformer):
            return original(transformer, *args, **kwargs)
        with _without_idle_context(transformer):
            return calls.change(site, original, original, transformer, (transformer, *args), kwargs)

    setattr(module, _STEP, fit_transform_one)
    calls.library_sites.append(site)
    return site


@contextmanager
def _without_idle_context(transformer: Any) -> Iterator[None]:
    """Takes the context of callbacks off a transformer that has no callbacks, while the step is fitted."""
    names = vars(transformer)
    context = names.get(_CONTEXT)
    if context is None or getattr(context, "_callbacks", True) or names.get("_skl_callbacks"):
        yield
        return
    del names[_CONTEXT]
    try:
        yield
    finally:
        names[_CONTEXT] = context

"""Estimators of scikit-learn and figures of matplotlib."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

from dartvc.state.summaries.instances import attribute_items
from dartvc.state.summaries.words import clean, instance_dict, item_of, module_of, type_name

__all__ = ["GENUINE"]

_PARTS = 40
_AXES = 12


def _describe_estimator(value: Any) -> dict[str, object]:
    """Describes an estimator from its attributes: those that end in an underscore were fitted, the others are its parameters."""
    params: dict[str, object] = {}
    fitted: dict[str, object] = {}
    for name, part in islice(dict.items(instance_dict(value)), _PARTS):
        if type(name) is str and not name.startswith("_"):
            (fitted if name.endswith("_") else params)[clean(name)] = _part(part)
    return {"type": type_name(type(value)), "params": params, "fitted": fitted}


def _part(part: object) -> object:
    kind = type(part)
    if kind in (list, dict) and len(part) > 6:  # type: ignore[arg-type]
        return f"{kind.__name__} of {len(part)}"  # type: ignore[arg-type]
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and part.size <= 6 and part.dtype.kind in "biuf":  # type: ignore[attr-defined]
        return item_of(part.tolist())  # type: ignore[attr-defined]
    return item_of(part)


def _describe_figure(value: Any) -> dict[str, object]:
    found: dict[str, object] = {"type": type_name(type(value))}
    parts = instance_dict(value)
    if not module_of(type(value)).startswith("matplotlib."):
        return found | {"attributes": attribute_items(value)}
    axes = parts["_axstack"].as_list()  # type: ignore[attr-defined]
    found["size"] = [float(length) for length in value.get_size_inches()]
    heading: Any = parts.get("_suptitle")
    if heading is not None:
        found["title"] = item_of(heading.get_text())
    found["axes"] = len(axes)
    found["titles"] = [_axes_text(part) for part in axes[:_AXES]]
    return found


def _axes_text(axes: Any) -> str:
    if not module_of(type(axes)).startswith(("matplotlib.", "mpl_toolkits.")):
        return type_name(type(axes))
    title, lines = axes.get_title(), len(axes.get_lines())
    return clean(f"{title or 'untitled'} ({axes.get_xlabel()}, {axes.get_ylabel()}): {lines} lines, {len(axes.collections)} collections")


GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {
    "sklearn.base.BaseEstimator": _describe_estimator,
    "matplotlib.figure.FigureBase": _describe_figure,
}
"""Describers by the dotted name of a base class."""

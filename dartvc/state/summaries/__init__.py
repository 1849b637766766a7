"""What people are told about a value: a small JSON object, made without running any of the user's code.

`summarize` never calls a method, property or special method of a user-defined class, never raises, never changes the value (no draw from
a random stream, no step of an iterator, no consolidation of a frame) and never imports a library: a describer runs only for genuine types
of libraries that the program has loaded itself. It costs microseconds for a scalar and at most about two milliseconds for anything:
statistics of large values come from a sample and say so (``sampled``: how many elements were looked at).

Keys have a fixed order: ``type`` first, then sizes (``length``, ``shape``, ``rows``), then kinds (``dtype``), then statistics, then parts
(``items``, ``fields``, ``layers``, ``attributes``), ``source`` last. Every value in it is what JSON gives back: str, int, float, bool, None, list, dict with str
keys; NaN and the infinities are the strings ``nan``, ``inf`` and ``-inf``. `summary_text` is the stored form, on which plain ``git diff`` reads well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from dartvc.model import Summary
from dartvc.state.summaries import arrays, columns, containers, definitions, frames, instances, learners, numbers, standard, tensors
from dartvc.state.summaries.words import is_genuine, module_of, mro_of, qualname_of, type_name

__all__ = ["summarize", "summary_text"]

Describer = Callable[[Any], dict[str, object]]

_BUILTIN: dict[int, Describer] = {
    id(kind): describe for table in (containers.BUILTIN, definitions.BUILTIN, standard.BUILTIN) for kind, describe in table.items()
}
"""By the identity of immortal builtin types: hashing a class would run ``__hash__`` of its metaclass."""

_GENUINE: dict[str, Describer] = {}
for _table in (standard.GENUINE, numbers.GENUINE, arrays.GENUINE, columns.GENUINE, frames.GENUINE, tensors.GENUINE, learners.GENUINE):
    _GENUINE.update(_table)


def summarize(value: object, *, source: str | None = None) -> Summary:
    """Describes a value to people.

    Args:
        value: anything.
        source: the text that defined a function or class, where the caller knows it; else it is looked for among loaded sources.

    Returns:
        A JSON object; at least ``{"type": ...}``.
    """
    kind = type(value)
    if kind is int and -(10**18) < value < 10**18:  # type: ignore[operator]
        return {"type": "int", "repr": int.__repr__(value)}
    if kind is float:
        return {"type": "float", "repr": float.__repr__(value)}
    try:
        describe = _BUILTIN.get(id(kind)) or _find_describer(kind)
        found = describe(value)
        if source is not None and found["type"] in ("function", "class"):
            found["source"] = source.splitlines()[: definitions.SOURCE_LINES]
        return found
    except Exception:
        return {"type": type_name(kind)}


def summary_text(summary: Mapping[str, object]) -> str:
    """Returns the form in which a summary is stored and shown: JSON, one key a line."""
    return json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)


def _find_describer(kind: type) -> Describer:
    """Returns the describer of the nearest base class that is what its name says: a class of a loaded library."""
    if issubclass(kind, type):
        return definitions.describe_class
    for base in mro_of(kind)[:-1]:
        found = _GENUINE.get(f"{module_of(base)}.{qualname_of(base)}")
        if found is not None and is_genuine(base):
            return found
    return instances.describe_instance

"""Statistics of numpy arrays within a bounded cost, and numpy's scalars.

A large array is read in short runs at even distances, not element by element: a run of neighbours costs one miss of the cache or
one page of a mapped file. The array may be of any layout; it is only read, and nothing of its size is allocated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dartvc.state.summaries.words import clean, item_of, number, rough, type_name

__all__ = ["EXACT_ELEMENTS", "GENUINE", "sample_array", "statistics"]

EXACT_ELEMENTS = 65_536
"""Up to so many elements statistics are exact."""

_RUNS = 64
_RUN_ELEMENTS = 128
_NUMERIC = frozenset("biufc")
_TIMES = frozenset("mM")


def sample_array(values: Any, limit: int = EXACT_ELEMENTS, runs: int = _RUNS) -> Any:
    """Returns an array of at most ``limit`` elements as it is (flat if it is contiguous), else a flat sample of it.

    Args:
        values: a plain ``numpy.ndarray``.
        limit: the number of elements up to which the sample is everything.
        runs: how many places of a larger array are read.
    """
    numpy = sys.modules["numpy"]
    if values.flags.f_contiguous and not values.flags.c_contiguous:
        values = values.T
    if values.size <= limit:
        return values.reshape(-1) if values.flags.c_contiguous else values
    if values.flags.c_contiguous:
        flat = values.reshape(-1)
        step = flat.size // runs
        return flat[: step * runs].reshape(runs, step)[:, :_RUN_ELEMENTS].reshape(-1)
    room = runs * _RUN_ELEMENTS
    steps: list[tuple[int, int]] = []
    for place, length in sorted(enumerate(values.shape), key=lambda pair: pair[1]):
        share = max(1, int(room ** (1 / (values.ndim - len(steps)))))
        steps.append((place, -(-length // share)))
        room = max(1, room // min(length, share))
    return numpy.array(values[tuple(slice(None, None, step) for _, step in sorted(steps))]).reshape(-1)


def statistics(values: Any, *, runs: int = _RUNS) -> dict[str, object]:
    """Returns ``sampled`` (if it is one), ``nan``, ``min``, ``max`` and ``mean`` of a plain array; empty where numbers mean nothing."""
    kind = values.dtype.kind
    if (kind not in _NUMERIC and kind not in _TIMES) or not values.size:
        return {}
    numpy = sys.modules["numpy"]
    sample = sample_array(values, runs=runs)
    found: dict[str, object] = {"sampled": int(sample.size)} if sample.size < values.size else {}
    with numpy.errstate(all="ignore"):
        if kind in "fc" or kind in _TIMES:
            missing = numpy.isnat(sample) if kind in _TIMES else numpy.isnan(sample)
            count = int(numpy.count_nonzero(missing))
            if count:
                found["nan"] = count
                sample = sample[~missing]
            if not sample.size:
                return found
        if kind in _TIMES:
            found.update(min=str(sample.min()), max=str(sample.max()))
        elif kind == "c":
            found.update(mean=clean(str(sample.mean())), max_abs=rough(float(numpy.abs(sample).max())))
        else:
            mean = sample.mean(dtype=float)
            found.update(min=_plain(sample.min()), max=_plain(sample.max()), mean=rough(float(mean)))
    return found


def _plain(value: Any) -> object:
    plain = value.item()
    return number(plain) if type(plain) in (int, float, bool) else clean(str(plain))


def _describe_scalar(value: Any) -> dict[str, object]:
    numpy = sys.modules["numpy"]
    found: dict[str, object] = {"type": type_name(type(value))}
    if numpy.generic.dtype.__get__(value).kind == "V":
        return found | {"dtype": clean(str(numpy.generic.dtype.__get__(value)))}
    plain = numpy.generic.item(value)
    return found | {"repr": clean(str(item_of(plain)) if type(plain) in (int, float, bool, str, bytes) else str(plain))}


GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {"numpy.generic": _describe_scalar}
"""Describers by the dotted name of a base class."""

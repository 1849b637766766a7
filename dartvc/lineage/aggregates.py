"""Rewrites of calls over stacked arrays: column and row aggregates, and element-wise functions, assembled from those of the parts.

Each class says which calls it knows and what they are made of; `Rewrites` decides whether that is cheaper than the plain call, as measured. Sums,
means, minima and products of whole arrays run at the speed of memory, no faster than the parts can be recognised: for them a rewrite
pays only where the parts are known without reading.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from dartvc.lineage.parts import Find, PartCall

__all__ = ["Aggregate", "Elementwise"]

_FUNCTIONS = frozenset(["exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "cbrt"])


class Aggregate:
    """``vstack(X_1, ..., X_n).var(axis)``, and sum, mean, min, max, std, from the same of the parts; hstack likewise."""

    names = frozenset({"sum", "mean", "var", "std", "min", "max"})

    def match(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], find: Find) -> PartCall | None:
        """Returns how to assemble the call, or None when it is of another kind."""
        numpy = sys.modules.get("numpy")
        owner: Any = getattr(function, "__self__", None)
        if numpy is None:
            return None
        if type(owner) is not numpy.ndarray:
            if getattr(numpy, name, None) is not function or not args or type(args[0]) is not numpy.ndarray:
                return None
            owner, args = args[0], args[1:]
        allowed = {"axis", "ddof"} if name in ("var", "std") else {"axis"}
        if len(args) > 1 or not kwargs.keys() <= allowed or owner.dtype != numpy.float64:
            return None
        axis = args[0] if args else kwargs.get("axis")
        ddof = kwargs.get("ddof", 0)
        blocks = find(owner)
        if blocks is None or (args and "axis" in kwargs) or type(ddof) is not int or not all(part.size for part in blocks.parts):
            return None
        axis = axis % 2 if type(axis) is int and -2 <= axis < 2 else axis
        if axis is None or axis == blocks.axis:
            return PartCall(f"{name} {axis}", blocks, _state_of(name, axis), _merging(name, ddof), owner.nbytes)
        if type(axis) is int:
            whole = {"axis": axis, **({"ddof": ddof} if ddof else {})}
            return PartCall(f"{name} {whole}", blocks, lambda part: getattr(part, name)(**whole), numpy.concatenate, owner.nbytes)
        return None


def _state_of(name: str, axis: int | None) -> Callable[[Any], Any]:
    """Returns what is kept of a part: for variances the count, the mean and the sum of squared distances from it."""

    def moments(part: Any) -> Any:
        count = part.size if axis is None else part.shape[axis]
        if name in ("sum", "mean"):
            return count, part.sum(axis=axis)
        return count, part.mean(axis=axis), part.var(axis=axis) * count

    return moments if name in ("sum", "mean", "var", "std") else lambda part: getattr(part, name)(axis=axis)


def _merging(name: str, ddof: int) -> Callable[[list[Any]], Any]:
    numpy = sys.modules["numpy"]
    if name in ("min", "max"):
        return (numpy.minimum if name == "min" else numpy.maximum).reduce  # type: ignore[no-any-return]

    def merge(states: list[Any]) -> Any:
        count, *rest = states[0]
        if name in ("sum", "mean"):
            total = sum((state[1] for state in states[1:]), rest[0])
            return total if name == "sum" else total / sum(state[0] for state in states)
        mean, squares = rest
        for more, its_mean, its_squares in states[1:]:  # Chan, Golub, LeVeque: "Updating Formulae ... for Computing Sample Variances" (1979)
            away = its_mean - mean
            squares = squares + its_squares + away * away * (count * more / (count + more))
            mean = mean + away * (more / (count + more))
            count += more
        variance = squares / (count - ddof)
        return numpy.sqrt(variance) if name == "std" else variance

    return merge


class Elementwise:
    """``np.log(vstack(X_1, ..., X_n))`` = ``vstack(np.log(X_1), ..., np.log(X_n))``, and other functions that cost more than a copy."""

    names = _FUNCTIONS

    def match(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], find: Find) -> PartCall | None:
        """Returns how to assemble the call, or None when it is of another kind."""
        numpy = sys.modules.get("numpy")
        if numpy is None or getattr(numpy, name, None) is not function or len(args) != 1 or kwargs or type(args[0]) is not numpy.ndarray:
            return None
        blocks = find(args[0]) if args[0].dtype == numpy.float64 else None
        if blocks is None:
            return None
        axis = blocks.axis
        compute: Callable[[Any], Any] = getattr(numpy, name)
        return PartCall(name, blocks, compute, lambda results: numpy.concatenate(results, axis), args[0].nbytes, 2 * args[0].nbytes)

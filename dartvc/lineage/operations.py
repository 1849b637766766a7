"""Reuse below functions: matrix products and heavy calls of libraries, where the script makes them.

A site is asked whether its work is worth a key before any key is made: a product by its number of operations, a call by the time that it took
the first time. A site that stays cheap loses its switch, and with it all cost but a look-up.
"""

from __future__ import annotations

import builtins
import sys
import time
import types
from typing import Any

from dartvc.lineage.calls import Calls
from dartvc.lineage.codekeys import Plans
from dartvc.lineage.recycling import Recycler
from dartvc.lineage.rewrites import Rewrites
from dartvc.lineage.sites import Site

__all__ = ["Operation"]

_WORTH_S = 3e-4
_FLOPS_PER_S = 2e10
_HASH_BYTES_PER_S = 6e9
_MARGIN = 3.0
_CHEAP_LIMIT = 6
_AT_ONCE = frozenset(
    {
        "fit",
        "fit_transform",
        "fit_predict",
        "predict",
        "predict_proba",
        "predict_log_proba",
        "score",
        "decision_function",
        "cross_val_score",
    }
)
_STACKING = {"vstack": 0, "row_stack": 0, "hstack": 1, "column_stack": 1, "concatenate": 0}
_SMALL_STACK_BYTES = 1 << 16
_LIBRARIES = frozenset({"numpy", "scipy", "sklearn", "pandas"})
_CHANGING = frozenset({"append", "sort", "insert", "fit", "fit_transform", "fit_predict", "resample", "groupby", "rolling"})


class Operation:
    """What stands behind the switch of one operation.

    Args:
        site: its account.
        switch: the builtin that holds this hook while it is on.
        calls: answers what is seen again.
        recycler: memory for stacked arrays.
        rewrites: assembles results from parts; None keeps to exact results.
    """

    __slots__ = ("_calls", "_cheap", "_is_timed", "_plans", "_recycler", "_rewrites", "_switch", "site")

    def __init__(self, site: Site, switch: str, calls: Calls, recycler: Recycler, rewrites: Rewrites | None) -> None:
        self.site = site
        self._switch = switch
        self._calls = calls
        self._plans: Plans = calls.plans
        self._recycler = recycler
        self._rewrites = rewrites
        self._cheap = 0
        self._is_timed = False
        site.turn_back.append(self._switch_off)

    def _switch_off(self) -> None:
        setattr(builtins, self._switch, None)

    def __call__(self, first: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Does the operation, or answers it from a store."""
        if self.site.name == "@":
            return self._multiply(first, args[0])
        return self._call(first, args, kwargs)

    # -- products -------------------------------------------------------------------------------------------------------------

    def _multiply(self, left: Any, right: Any) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or type(left) is not numpy.ndarray or type(right) is not numpy.ndarray:
            self._is_cheap()
            return left @ right
        if not _is_worth_it(left, right):
            self._is_cheap()
            return left @ right
        self._cheap = 0
        if self._rewrites is not None:
            answer = self._rewrites.multiply(left, right, self.site)
            if answer is not None:
                return answer
        return self._calls.invoke(self.site, _product_of(left, right), numpy.matmul, (left, right), {})

    def _is_cheap(self) -> None:
        self._cheap += 1
        if self._cheap >= _CHEAP_LIMIT and not self.site.reused and not self.site.partial:
            self.site.turn_off("the operation is cheap")

    # -- calls ----------------------------------------------------------------------------------------------------------------

    def _call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._is_library(function) or kwargs.get("out") is not None:
            self._is_cheap()
            return function(*args, **kwargs)
        if self.site.name in _STACKING and len(args) == 1 and isinstance(args[0], list | tuple) and kwargs.keys() <= {"axis"}:
            return self._stack(function, args[0], kwargs)
        if not self._is_timed and self.site.name not in _AT_ONCE:
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            if time.perf_counter() - begin < _WORTH_S:
                self._is_cheap()
            else:
                self._is_timed = True
            return result
        return self._calls.invoke(self.site, function, function, args, kwargs)

    def _stack(self, function: Any, parts: Any, kwargs: dict[str, Any]) -> Any:
        """Stacks arrays, into memory that was used before if there is some."""
        numpy = sys.modules["numpy"]
        name = getattr(function, "__name__", "")
        axis = kwargs.get("axis", 0) if name == "concatenate" else _STACKING.get(name, -1)
        can_recycle = axis in (0, 1) and (name == "concatenate" or not kwargs) and getattr(numpy, name, None) is function
        result = self._recycler.concatenate(parts, axis) if can_recycle else None
        if result is None:
            result = function(parts, **kwargs)
            if type(result) is not numpy.ndarray or result.nbytes < _SMALL_STACK_BYTES:
                self._is_cheap()
                return result
            if can_recycle:
                self._recycler.keep(result, parts)
        self._cheap = 0
        if can_recycle and self._rewrites is not None:
            self._rewrites.note(result, parts, axis)
        return result

    def _is_library(self, function: Any) -> bool:
        """Whether a callable is a library's whose objects can be fingerprinted, and is not known to change its object."""
        owner = getattr(function, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            if self.site.name in _CHANGING or isinstance(owner, type):
                return False
            return type(owner).__module__.split(".")[0] in _LIBRARIES
        module = getattr(function, "__module__", None) or ""
        return not isinstance(function, type) and module.split(".")[0] in _LIBRARIES


def _is_worth_it(left: Any, right: Any) -> bool:
    """Whether a product takes so much longer than the fingerprints of its operands that a hit would pay."""
    if left.ndim == 0 or right.ndim == 0:
        return False
    columns = right.shape[-1] if right.ndim > 1 else 1
    cost_s = 2.0 * left.size * columns / _FLOPS_PER_S
    return bool(cost_s > _WORTH_S and cost_s > _MARGIN * (left.nbytes + right.nbytes) / _HASH_BYTES_PER_S)


def _product_of(left: Any, right: Any) -> Any:
    """Returns what stands for a product in its key: numpy multiplies a matrix with its own transpose in another way, with other last bits."""
    is_own = left.__array_interface__["data"][0] == right.__array_interface__["data"][0]
    return _matmul_of_itself if is_own else _matmul


def _matmul(left: Any, right: Any) -> Any:
    return left @ right


def _matmul_of_itself(left: Any, right: Any) -> Any:
    return left @ right

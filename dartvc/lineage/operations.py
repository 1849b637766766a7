"""Reuse below functions: matrix products and heavy calls of libraries, where the script makes them.

A site is asked whether its work is worth a key before any key is made: a product by its number of operations, a call by the time that it took
the first time. A site that stays cheap loses its switch, and with it all cost but a look-up.
"""

from __future__ import annotations

import operator
import sys
import time
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from dartvc.lineage.calls import Calls
from dartvc.lineage.changes import is_estimator
from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import Met
from dartvc.lineage.decompositions import GrowingComponents
from dartvc.lineage.deferring import Deferred, Transposed, settled
from dartvc.lineage.pipelines import watch_pipelines
from dartvc.lineage.rewrites import CONCATENATION, METHODS, Rewrites
from dartvc.lineage.sites import Site, Switched
from dartvc.lineage.stacking import Stacking, is_large, pieces_of
from dartvc.program.callers import called_at
from dartvc.program.tracebacks import note_passing

__all__ = ["Operation"]

_WORTH_S = 3e-4
_FLOPS_PER_S = 2e10
_READ_BYTES_PER_S = 1e10
_HASH_BYTES_PER_S = 6e9
_STACK_BYTES_PER_S = 2e9
_MARGIN = 3.0
_CHEAP_LIMIT = 64
_NEW_SHARE = 0.0625  # what a product counts that is worth its key once its operands come again
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
_PRODUCTS = {"dot": "dot ", "matmul": ""}  # numpy promises no equal last bits of these two
_FACTORS = 2
_FITTING = frozenset({"fit", "fit_transform", "fit_predict"})
_LIBRARIES = frozenset({"numpy", "scipy", "sklearn", "pandas"})
_COMPONENTS = GrowingComponents()
_FITTED_ANEW: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Estimators that have just been fitted, and not from the store, by their ids: the first call of a method cannot have been seen, and a key of a large
forest takes as long as its `predict`."""
_CHANGING = frozenset({"append", "sort", "insert", "fit", "fit_transform", "fit_predict", "resample", "groupby", "rolling"})


class Operation(Switched):
    """What stands behind the switch of one operation.

    Args:
        site: its account.
        switch: the builtin that holds this hook while it is on.
        calls: answers what is seen again.
        stacking: stacks arrays.
        rewrites: assembles results from parts; None keeps to exact results.
    """

    __slots__ = ("_calls", "_met", "_plans", "_rewrites", "_stacking")

    def __init__(self, site: Site, switch: str, calls: Calls, stacking: Stacking, rewrites: Rewrites | None) -> None:
        super().__init__(site, switch)
        self._calls = calls
        self._plans: Plans = calls.plans
        self._stacking = stacking
        self._met = Met()
        self._rewrites = rewrites

    @property
    def __dvc_replaces__(self) -> str:
        return "operator" if self.site.name in ("@", "[]") else "call"

    def __call__(self, first: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Does the operation, or answers it from a store."""
        frame = sys._getframe(1)
        try:
            if self.site.name == "@":
                return self._multiply(first, args[0], called_at(frame, operator.matmul))
            if self.site.name == "[]":
                return self._stacked(*self._stacking.gather(self.site, first, args[0], frame))
            return self._call(first, args, kwargs, frame)
        except BaseException:
            note_passing()
            raise

    def _stacked(self, result: Any, is_worth_it: bool) -> Any:
        """Returns what was stacked, or picked; places where that is small lose their switch."""
        if is_worth_it:
            self._cheap = 0.0
        else:
            self._is_cheap()
        return result

    # -- products -------------------------------------------------------------------------------------------------------------

    def _multiply(self, left: Any, right: Any, multiply: Callable[[Any, Any], Any]) -> Any:
        numpy = sys.modules.get("numpy")
        cost_s = _cost_s(left, right) if numpy is not None and _is_matrix(left, numpy) and _is_matrix(right, numpy) else 0.0
        if not self._is_worth_it(left, right, cost_s):
            self._is_cheap(_NEW_SHARE if cost_s > _WORTH_S else 1.0)
            return multiply(settled(left), settled(right))
        self._cheap = 0.0
        if self._rewrites is not None:
            answer = self._rewrites.multiply(left, right, self.site)
            if answer is not None:
                return answer
        label = f"{_PRODUCTS.get(self.site.name, '')}product{' with itself' if _is_own(left, right) else ''}"
        return self._calls.compute(self.site, label, (left, right), lambda left, right: multiply(settled(left), settled(right)))

    def _factors(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        """Returns what a call multiplies as matrices; None for calls of other kinds."""
        if self.site.name not in _PRODUCTS or kwargs or (numpy := sys.modules.get("numpy")) is None:
            return None
        is_method = type(function) is types.BuiltinFunctionType and function.__name__ == "dot"
        factors = args if function is numpy.dot or function is numpy.matmul else (function.__self__, *args) if is_method else ()
        if len(factors) != _FACTORS or not all(_is_matrix(each, numpy) and 0 < each.ndim <= _FACTORS for each in factors):
            return None
        return factors[0], factors[1]

    def _is_worth_it(self, left: Any, right: Any, cost_s: float) -> bool:
        """Whether a product takes so much longer than the fingerprints of its operands that a hit would pay."""
        return cost_s > _WORTH_S and cost_s > _MARGIN * self._unknown_bytes(left, right) / _HASH_BYTES_PER_S

    def _unknown_bytes(self, left: Any, right: Any) -> int:
        """Returns how much of two operands would have to be read for their fingerprints; what comes again and again is read once."""
        contents, counted, unknown = self._calls.contents, set(), 0
        for part in (*_parts_of(left), *_parts_of(right)):
            place = part.__array_interface__["data"][0], part.nbytes
            if place not in counted and not contents.is_known(part):
                counted.add(place)
                unknown += part.nbytes if not self._met.has(part) or contents.is_left_alone(part) else 0
        return unknown

    def _is_cheap(self, weight: float = 1.0) -> None:
        self._cheap += weight
        if self._cheap >= _CHEAP_LIMIT and not self.site.reused and not self.site.partial:
            self.site.rest("the operation is cheap")

    # -- calls ----------------------------------------------------------------------------------------------------------------

    def _call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], frame: types.FrameType) -> Any:
        owner, plain = getattr(function, "__self__", None), called_at(frame, function)
        if (factors := self._factors(function, args, kwargs)) is not None:
            return self._multiply(*factors, plain if len(args) == _FACTORS else lambda _, right: plain(right))
        if is_estimator(owner):
            if self.site.name in _FITTING:
                return self._fit(function, plain, owner, args, kwargs)
            if _FITTED_ANEW.pop(id(owner), None) is not None:
                return plain(*args, **kwargs)
        if self._rewrites is not None:
            is_done, answer = self._rewrites.call(self.site, function, args, kwargs)
            if is_done:
                self._cheap = 0.0
                return answer
            if self.site.name in METHODS:
                result = plain(*args, **kwargs)
                if self.site.name == CONCATENATION:
                    self._rewrites.note_tables(function, args, kwargs, result)
                else:
                    self._is_cheap()
                return result
        if not self._is_library(function) or kwargs.get("out") is not None:
            self._is_cheap()
            return plain(*args, **kwargs)
        if self.site.name == "insert":
            result = plain(*args, **kwargs)
            self._stacking.note_insertion(function, args, kwargs, result)
            return self._stacked(result, is_large(result))
        pieces = pieces_of(self.site.name, args, kwargs)
        if pieces is not None:
            return self._stacked(*self._stacking.stack(self.site, function, pieces, kwargs, frame))
        if not self._is_timed and self.site.name not in _AT_ONCE:
            begin = time.perf_counter()
            result = plain(*args, **kwargs)
            if time.perf_counter() - begin < _WORTH_S:
                self._is_cheap()
            else:
                self._is_timed = True
            return result
        return self._calls.invoke(self.site, function, plain, args, kwargs)

    def _fit(self, function: Any, plain: Any, estimator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        watch_pipelines(self._calls)
        if self._rewrites is not None and not kwargs:
            is_done, answer = self._fit_in_part(self._rewrites, estimator, args)
            if is_done:
                return answer
        executions = self.site.executions
        result = self._calls.change(self.site, function, plain, estimator, args, kwargs)
        if self.site.executions > executions:
            _FITTED_ANEW[id(estimator)] = estimator
        return result

    def _fit_in_part(self, rewrites: Rewrites, estimator: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
        """Fits an estimator from one that was fitted before and has more components."""
        hits = self.site.reused

        def fit(whole: Any) -> object:
            return self._calls.change(self.site, whole.fit, whole.fit, whole, args[:1], {})

        is_done, answer = _COMPONENTS.apply(self.site.name, estimator, args, fit)
        self.site.assembled += is_done
        rewrites.assembled += is_done
        if is_done and self.site.reused > hits:
            self.site.reused -= 1
            self.site.partial += 1
        return is_done, answer

    def _is_library(self, function: Any) -> bool:
        """Whether a callable is a library's whose objects can be fingerprinted, and is not known to change its object."""
        owner = getattr(function, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            if self.site.name in _CHANGING or isinstance(owner, type):
                return False
            return type(owner).__module__.split(".")[0] in _LIBRARIES
        module = getattr(function, "__module__", None) or ""
        return not isinstance(function, type) and module.split(".")[0] in _LIBRARIES


def _is_matrix(operand: Any, numpy: Any) -> bool:
    return type(operand) is numpy.ndarray or type(operand) in (Deferred, Transposed)


def _cost_s(left: Any, right: Any) -> float:
    """Returns about what it takes to multiply two matrices, and to make those that were put off."""
    if not left.ndim or not right.ndim:
        return 0.0
    columns = right.shape[-1] if right.ndim > 1 else 1
    missing_bytes = sum(stack.missing_bytes for stack in {_stack_of(left), _stack_of(right)} if stack is not None)
    return float(max(2.0 * left.size * columns / _FLOPS_PER_S, left.nbytes / _READ_BYTES_PER_S) + missing_bytes / _STACK_BYTES_PER_S)


def _stack_of(operand: Any) -> Deferred | None:
    """Returns the stack that was put off of which an operand is made."""
    stack = operand.of if type(operand) is Transposed else operand
    return stack if type(stack) is Deferred else None


def _parts_of(operand: Any) -> Sequence[Any]:
    """Returns the arrays that an operand is made of."""
    stack = _stack_of(operand)
    return (operand,) if stack is None else stack.parts


def _is_own(left: Any, right: Any) -> bool:
    """Whether a matrix is multiplied with its own transpose: numpy does that in another way, with other last bits."""
    mine, other = _stack_of(left), _stack_of(right)
    if mine is not None or other is not None:
        return mine is other
    return bool(left.__array_interface__["data"][0] == right.__array_interface__["data"][0])

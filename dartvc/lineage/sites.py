"""Places in the program where work could be reused, and what has come of it there."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Hook", "Site"]

_INSTANCES_LIMIT = 64
_REFUSALS_LIMIT = 3
_TRIAL_CALLS = 3
_LONG_TRIAL_CALLS = 16
_TOLERATED_SHARE = 0.04
_TRIAL_SHARE = 0.1
_TRIAL_S = 8e-3
_PATIENCE = 0.005
_CHEAP_S = 5e-5


@dataclass
class Site:
    """One function of the program, or one operation in it.

    Attributes:
        executions: calls that ran.
        reused: calls that were answered from a store.
        cost_s: what the executions took.
        overhead_s: what watching took.
        reason: why calls of this site are not reused, as far as something speaks against it.
        may_wait: whether results that somebody else computes are awaited: not after that was in vain.
        components: what the last call that ran depended on: label to digest, in order.
    """

    name: str
    file: str = ""
    line: int = 0
    calls: int = 0
    executions: int = 0
    reused: int = 0
    partial: int = 0
    refusals: int = 0
    cost_s: float = 0.0
    overhead_s: float = 0.0
    saved_s: float = 0.0
    reason: str = ""
    is_off: bool = False
    components: list[tuple[str, str]] = field(default_factory=list)
    last: str = ""
    may_wait: bool = True
    template: types.CodeType | None = None
    turn_back: list[Callable[[], None]] = field(default_factory=list)

    def begin_anew(self) -> None:
        """Counts from nothing, in a forked child."""
        self.calls = self.executions = self.reused = self.partial = 0
        self.cost_s = self.overhead_s = self.saved_s = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds what another process of the run has counted at the same place."""
        for name in ("calls", "executions", "reused", "partial", "cost_s", "overhead_s", "saved_s"):
            setattr(self, name, getattr(self, name) + row[name])
        self.last = row["last"] or self.last
        self.reason = self.reason or row["reason"]
        self.components = self.components or [(label, digest) for label, digest in row["components"]]

    def turn_off(self, reason: str) -> None:
        """Gives the site its plain code back for the rest of the run."""
        self.reason = self.reason or reason
        self.is_off = True
        for each in self.turn_back:
            each()
        self.turn_back.clear()

    def refuse(self, reason: str, *, is_final: bool = False) -> None:
        """Notes that a call could not be reused; a site where this is the rule is left alone."""
        self.reason = reason
        self.refusals += 1
        if is_final or (self.refusals >= _REFUSALS_LIMIT and self.reused == 0):
            self.turn_off(reason)

    def judge(self, elapsed_s: float) -> None:
        """Leaves the site alone when watching it does not pay; the longer the run, the more patience it can afford."""
        if self.executions < _TRIAL_CALLS or self.is_off:
            return
        patience_s = _TRIAL_S + _PATIENCE * elapsed_s
        if self.reused == 0:
            share = _TOLERATED_SHARE if self.executions > _LONG_TRIAL_CALLS else _TRIAL_SHARE
            if self.overhead_s > share * self.cost_s + patience_s or self.cost_s < _CHEAP_S * self.executions:
                self.turn_off("watching it costs more than could be saved")
        elif self.calls >= _LONG_TRIAL_CALLS and self.saved_s + patience_s < self.overhead_s:
            self.turn_off("watching it costs more than was saved")


class Hook:
    """What the trampoline of one function calls."""

    is_reuse_hook = True

    def __init__(self, function: types.FunctionType, site: Site, invoke: Callable[..., Any], *, is_guest: bool = False) -> None:
        code = function.__code__
        self.plain = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
        self.plain.__kwdefaults__ = function.__kwdefaults__
        self.plain.__qualname__ = function.__qualname__
        self.plain.__module__ = function.__module__
        self._reference = weakref.ref(function)
        self._site = site
        self._invoke = invoke
        if is_guest:
            site.turn_back[:] = site.turn_back[-_INSTANCES_LIMIT // 2 :]  # those before are gone
        if len(site.turn_back) >= _INSTANCES_LIMIT:
            site.turn_off("it is defined anew again and again")
        else:
            site.turn_back.append(self.give_back)

    def give_back(self) -> None:
        """Gives the function its own code back."""
        function = self._reference()
        if function is not None:
            function.__code__ = self.plain.__code__

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Answers a call, from the store or by running the function."""
        function = self._reference()
        if self._site.is_off or function is None:
            return self.plain(*args, **kwargs)
        return self._invoke(self._site, function, self.plain, args, kwargs)

"""Places in the program where work could be reused, and what has come of it there."""

from __future__ import annotations

import builtins
import sys
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dartvc.program.callers import called_at
from dartvc.program.tracebacks import note_passing
from dartvc.program.trampolines import bind_trampoline

__all__ = ["OBJECTS_PER_S", "Hook", "Site", "Switched", "affordable_s"]

OBJECTS_PER_S = 1e6
"""How many a walk passes."""

_INSTANCES_LIMIT = 64
_REFUSALS_LIMIT = 3
_TRIAL_CALLS = 3
_LONG_TRIAL_CALLS = 16
_TOLERATED_SHARE = 0.04
_TRIAL_SHARE = 0.1
_TRIAL_S = 8e-3
_PATIENCE = 0.005
_CHEAP_S = 5e-5
_SHORT_S = 2e-3
_PATIENCE_AGAIN = 0.001
_TRIAL_AGAIN_S = 4e-3
_REST_S = 0.2
_MISSES_TOLD = 16
_FREE_S = 5e-3
_RUN_SHARE = 0.02
_PAYING_SHARE = 0.5
_FEW_OBJECTS = 1000
_LOOP_OBJECTS_LIMIT = 10_000  # nothing is known of how long a loop takes before it runs, once


class Site:
    """One function of the program, or one operation in it.

    Attributes:
        executions: calls that ran.
        partial: results that were assembled with parts that were there.
        assembled: all results that were assembled from parts.
        reused: calls that were answered from a store.
        cost_s: what the executions took.
        overhead_s: what watching took.
        reason: why calls of this site are not reused, as far as something speaks against it.
        may_wait: whether results that somebody else computes are awaited: not after that was in vain.
        is_part: whether it is a part of a function, whose calls may be answered themselves.
        learning_s: the part of the overhead by which later calls cost less.
        is_loop: whether it is a loop of the script's own, in which most of the run may lie.
        changes: whether its calls may change what they are given: its code says so, or one was seen to.
        binds: whether they may change globals, too, and whatever hangs on these.
        is_recalled: whether code of the program was not run because an earlier run, or another process, had.
        components: what the last call that ran depended on: label to digest, in order.
        missed: how many calls ran with the same of these; of a site with many kinds the first ones.
        took_s: what the last calls that ran took, in CPU time: the longest of them, each half of what came before.
        passed: how many objects the walk for the last call that ran had passed.
        promised_s: what calls took that came for the second time, and were kept: they may come again.
    """

    def __init__(self, name: str, file: str = "", line: int = 0, *, is_part: bool = False, is_loop: bool = False, changes: bool = False) -> None:
        self.name = name
        self.file = file
        self.line = line
        self.calls = self.executions = self.reused = self.partial = self.assembled = self.refusals = 0
        self.cost_s = self.overhead_s = self.saved_s = self.learning_s = self.promised_s = 0.0
        self.reason = ""
        self.is_off = False
        self.components: list[tuple[str, str]] = []
        self.missed: dict[tuple[tuple[str, str], ...], int] = {}
        self.took_s = 0.0
        self.passed = 0
        self.last = ""
        self.may_wait = True
        self.is_part = is_part
        self.is_loop = is_loop
        self.changes = changes
        self.binds = self.is_recalled = False
        self.template: types.CodeType | None = None
        self.turn_back: list[Callable[[], None]] = []
        self.turn_on: list[Callable[[], None]] = []
        self.rests = 0
        self.is_resting = False
        self._rested_at_s = 0.0
        self._before = self._figures()

    def begin_anew(self) -> None:
        """Counts from nothing, in a forked child."""
        self.calls = self.executions = self.reused = self.partial = self.assembled = 0
        self.cost_s = self.overhead_s = self.saved_s = 0.0
        self.missed = {}
        self._before = self._figures()

    def note_miss(self, count: int = 1, components: Sequence[tuple[str, str]] | None = None) -> None:
        """Takes note of what calls that ran depended on, by default what the last one did."""
        kind = tuple(self.components if components is None else components)
        if kind in self.missed or len(self.missed) < _MISSES_TOLD:
            self.missed[kind] = self.missed.get(kind, 0) + count

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds what another process of the run has counted at the same place."""
        for name in ("calls", "executions", "reused", "partial", "assembled", "cost_s", "overhead_s", "saved_s"):
            setattr(self, name, getattr(self, name) + row[name])
        self.last = row["last"] or self.last
        self.reason = self.reason or row["reason"]
        for components, count in row["missed"]:
            self.note_miss(count, [(label, digest) for label, digest in components])

    def turn_off(self, reason: str) -> None:
        """Gives the site its plain code back for the rest of the run."""
        self.reason = self.reason or reason
        self.is_off = True
        for each in self.turn_back:
            each()
        self.is_resting = False
        self.turn_back.clear()
        self.turn_on.clear()

    def rest(self, reason: str) -> None:
        """Gives the site its plain code back until it is woken: what does not pay now may pay when the program has gone on."""
        self.reason = self.reason or reason
        self.is_off = self.is_resting = True
        self._rested_at_s = -1.0
        for each in self.turn_back:
            each()

    def wake(self, elapsed_s: float) -> bool:
        """Tries a resting site again when the run has gone on for twice as long as it had; tells whether it does."""
        if not self.is_resting:
            return False
        if self._rested_at_s < 0.0:
            self._rested_at_s = elapsed_s
        if elapsed_s < 2.0 * self._rested_at_s + _REST_S:
            return False
        self.begin_again()
        return True

    def begin_again(self) -> None:
        """Watches a resting site from now on."""
        self.is_off = self.is_resting = False
        self.reason = ""
        self.rests += 1
        self._before = self._figures()
        for each in self.turn_on:
            each()

    def _figures(self) -> tuple[int, int, int, float, float, float, float, float]:
        return self.calls, self.executions, self.reused, self.cost_s, self.overhead_s, self.saved_s, self.learning_s, self.promised_s

    def refuse(self, reason: str, *, is_final: bool = False) -> None:
        """Notes that a call could not be reused; a site where this is the rule is left alone."""
        self.reason = reason
        self.refusals += 1
        if is_final or (self.refusals >= _REFUSALS_LIMIT and self.reused == 0):
            self.turn_off(reason)

    def may_walk(self, idle_s: float = 0.0) -> int:
        """Returns how many objects a walk for one call may pass: a share of what a call takes, a larger one when hits pay for it.

        Args:
            idle_s: what the run can afford for a site of which nothing is known.
        """
        share_s = (_PAYING_SHARE if self.reused else _TRIAL_SHARE) * self.took_s if self.executions else idle_s
        return min(max(int(share_s * OBJECTS_PER_S), _FEW_OBJECTS), _LOOP_OBJECTS_LIMIT if self.is_loop else sys.maxsize)

    def note_run(self, cost_s: float, took_s: float) -> None:
        """Counts a call that ran.

        Args:
            took_s: its share of the processor; on a busy machine it costs more, and so would the walk.
        """
        self.executions += 1
        self.cost_s += cost_s
        self.took_s = max(took_s, 0.5 * self.took_s)
        self.last = "miss"

    @property
    def is_unproven(self) -> bool:
        """Whether its calls are short, and none has come again so far."""
        return self.executions > 0 and self.took_s < _SHORT_S and not self.reused and not self.promised_s

    def judge(self, elapsed_s: float) -> None:
        """Leaves the site alone when watching it does not pay; the longer the run, the more patience it can afford."""
        if self.is_off:
            return
        if self.may_walk(0.0) <= self.passed:
            self.rest("it reads too many objects for what it takes")
            return
        calls, executions, reused, cost_s, overhead_s, saved_s, learning_s, promised_s = (
            now - before for now, before in zip(self._figures(), self._before, strict=True)
        )
        patience_s = _TRIAL_AGAIN_S + _PATIENCE_AGAIN * elapsed_s if self.rests else _TRIAL_S + _PATIENCE * elapsed_s
        if executions <= _LONG_TRIAL_CALLS:
            overhead_s -= learning_s
        if reused == 0 and promised_s == 0.0:
            share = _TOLERATED_SHARE if executions > _LONG_TRIAL_CALLS else _TRIAL_SHARE
            if executions >= _TRIAL_CALLS and (overhead_s > share * cost_s + patience_s or cost_s < _CHEAP_S * executions):
                self.rest("watching it costs more than could be saved")
            return
        share = _TRIAL_SHARE if calls < _LONG_TRIAL_CALLS else _TOLERATED_SHARE
        if saved_s + promised_s + share * cost_s + patience_s < overhead_s:
            self.rest("watching it costs more than was saved")


def affordable_s(elapsed_s: float, lost_s: float) -> float:
    """Returns what a run can still spend on sites of which nothing is known, when it has lost so much to watching."""
    return _FREE_S + _RUN_SHARE * elapsed_s - lost_s


class Switched:
    """What answers at a switch: a builtin that holds it while its site is on.

    Args:
        site: what is counted.
        switch: the builtin's name.
    """

    __slots__ = ("_cheap", "_is_timed", "_switch", "site")

    def __init__(self, site: Site, switch: str) -> None:
        self.site = site
        self._switch = switch
        self._cheap = 0.0
        self._is_timed = False
        site.turn_back.append(self._switch_off)
        site.turn_on.append(self._switch_on)

    def _switch_off(self) -> None:
        setattr(builtins, self._switch, None)

    def _switch_on(self) -> None:
        self._cheap = 0.0
        setattr(builtins, self._switch, self)


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
            for turns in (site.turn_back, site.turn_on):
                del turns[: -_INSTANCES_LIMIT // 2]  # those before are gone
        if len(site.turn_back) >= _INSTANCES_LIMIT:
            site.turn_off("it is defined anew again and again")
        else:
            site.turn_back.append(self.give_back)
            site.turn_on.append(self.take)

    def take(self) -> None:
        """Lets the function ask before it runs."""
        function, template = self._reference(), self._site.template
        if function is not None and template is not None and function.__code__ is self.plain.__code__:
            function.__code__ = bind_trampoline(template, self)

    def give_back(self) -> None:
        """Gives the function its own code back."""
        function = self._reference()
        if function is not None:
            function.__code__ = self.plain.__code__

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Answers a call, from the store or by running the function."""
        function, caller = self._reference(), sys._getframe(1).f_back
        plain = called_at(caller, self.plain) if caller is not None else self.plain
        try:
            if self._site.is_off or function is None:
                return plain(*args, **kwargs)
            return self._invoke(self._site, function, plain, args, kwargs)
        except BaseException:
            note_passing()
            raise

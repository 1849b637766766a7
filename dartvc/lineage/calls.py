"""Full reuse of calls: key, look-up, proof at run time, admission.

A call's key is its function's closure and the content of its arguments. Whether the function is deterministic and without effects is not
guessed from its code alone: while it runs, a `Witness` watches; afterwards its inputs must have the content that they had before, and its
result must share no memory with them. What fails any of this is simply executed, every time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dartvc.lineage.changes import Change
from dartvc.lineage.codekeys import Effects, Plans, Refused, TooMany
from dartvc.lineage.contents import Contents
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.flights import Flight, Flights
from dartvc.lineage.ground import Ground
from dartvc.lineage.heights import Heights
from dartvc.lineage.holdings import Holder, Lost, StoredValue
from dartvc.lineage.keys import Keys
from dartvc.lineage.memory import Entry, Memory
from dartvc.lineage.proving import Call, Prover
from dartvc.lineage.rewrites import Rewrites
from dartvc.lineage.shelf import Shelf
from dartvc.lineage.sites import OBJECTS_PER_S, Site, affordable_s
from dartvc.lineage.storing import Storing, entry_of
from dartvc.lineage.witness import Record, Witness, digest_of_file, digest_of_read, joined

__all__ = ["Calls"]

_WORTH_KEEPING_S = 3e-4
_SEEN_LIMIT = 1 << 17
_HOPELESS_CALLS = 256
_PRODUCT_TRIALS = 16
_COPY_BYTES_PER_S = 2e9
_MARGIN = 3.0
_OWN_SHARE = 0.15
_WAKING_S = 0.05
_WAKING_SHARE = 0.01
_DOUBTFUL_EXECUTIONS = 4  # of a site without hits: what it keeps is memory that the program has to get anew
_OBJECT_BYTES = 1000  # which take as long as to pickle an object
_NOTHING = object()


class Calls:
    """Answers calls of the user's functions.

    Args:
        plans: what functions depend on.
        witness: watches what calls do.
        memory: results of this process.
        shelf: results of all processes; None keeps everything in memory.
        namespace: the program's globals.
        contents: knows large arrays without reading them.
        stands_in: the working directory of the run that this process stands in for; empty: its own.
        is_partial: whether results may be assembled from parts: these are never an exact run's.
    """

    def __init__(
        self, plans: Plans, witness: Witness, memory: Memory, shelf: Shelf | None, namespace: dict[str, Any], contents: Contents,
        *, stands_in: str = "", is_partial: bool = False,
    ) -> None:  # fmt: skip
        self.plans = plans
        self.witness = witness
        self.memory = memory
        self.namespace = namespace
        self.contents = contents
        ground = Ground(stands_in, " partial" if is_partial else "", lambda: witness.has_moved, witness.notices.filters)
        self.keys = Keys(plans, contents, ground)
        self.holder = Holder(self.keys.digest_alone, namespace)
        self.library_sites: list[Site] = []
        self.saved_s = 0.0
        self.overhead_s = 0.0
        self.heights = Heights()
        self.wake_others: Callable[[float], None] = lambda elapsed_s: None
        self._waken_at = 0.0
        self._local = threading.local()
        self._seen: set[bytes] = set()
        self.flights = Flights()
        self.report: Callable[[Site], None] | None = None
        self._begun = time.perf_counter()
        self.rewrites: Rewrites | None = None
        self.assembled_before = 0
        self.prover = Prover(plans, contents, self.keys.walk, self.keys.digest_alone, witness.has_other_threads, namespace)
        self.storing = Storing(shelf, namespace, witness.streams)
        memory.spill = self.storing.spill

    def begin_anew(self) -> None:
        """Makes a forked child ready: what its parent was in the middle of, other threads do there."""
        self._local = threading.local()
        self.flights.begin_anew()
        self.storing.begin_anew()
        self.saved_s = self.overhead_s = 0.0

    @property
    def assembled(self) -> int:
        """How many results of the run were assembled from parts, here or in calls that were answered."""
        return self.assembled_before + (self.rewrites.assembled if self.rewrites is not None else 0)

    @property
    def _active(self) -> list[Site]:
        try:
            return self._local.active  # type: ignore[no-any-return]
        except AttributeError:
            self._local.active = []
            return self._local.active  # type: ignore[no-any-return]

    # -- answering ------------------------------------------------------------------------------------------------------------

    def invoke(
        self, site: Site, function: Any, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any], change: Change | None = None
    ) -> Any:
        """Returns what the function returns for these arguments, from a store when that is known to be the same.

        Args:
            change: what a library's function may change, where that is known.
        """
        active = self._active
        if site in active:
            site.turn_off("it calls itself")
            return plain(*args, **kwargs)
        begin = self.look_around()
        site.calls += 1
        before = self.keys.of_call(site, function, args, kwargs, affordable_s(time.process_time(), self.overhead_s - self.saved_s))
        if before is None:
            return self._run_unasked(site, plain, args, kwargs, begin)
        call = Call(site, function, args, kwargs, before, before.digest(), change)
        answer = self.answer(site, call.key, begin, call)
        if answer is not _NOTHING:
            return answer
        if site.is_unproven and not self._has_come(call.key):
            site.note_miss()
            return self._run_unasked(site, plain, args, kwargs, begin)  # most short calls never come again: watching them costs half of what they take
        flight = self._take_off(site, call.key)
        if flight is None:
            answer = self.answer(site, call.key, time.perf_counter(), call)
            if answer is not _NOTHING:
                return answer
            site.may_wait = False  # it was in vain
        call, closures = self.prover.look_before(call)
        active.append(site)
        ground = self.keys.ground.present()
        record = self.witness.begin()
        record.assembled -= self.assembled
        start, start_cpu = time.perf_counter(), time.thread_time()
        self._note_overhead(site, start - begin)
        is_done = False
        try:
            result = plain(*args, **kwargs)
            is_done = True
        finally:
            cost_s, cpu_s = time.perf_counter() - start, time.thread_time() - start_cpu
            active.pop()
            record.assembled += self.assembled
            self.witness.end(record)
            if self.keys.ground.present() != ground:
                record.refusal = record.refusal or "changes settings of the process"
            if not is_done:
                site.refuse("it raised an exception")
                if flight is not None:
                    self.flights.land(flight)
        try:
            self._learn(call, closures, record, result, cost_s, cpu_s)
        finally:
            if flight is not None:
                self.flights.land(flight)
        return result

    def _run_unasked(self, site: Site, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any], begin: float) -> Any:
        """Runs a call that is not watched, and takes the time."""
        active = self._active
        active.append(site)
        start, start_cpu = time.perf_counter(), time.thread_time()
        try:
            return plain(*args, **kwargs)
        finally:
            active.pop()
            self._note_overhead(site, start - begin)
            site.note_run(time.perf_counter() - start, time.thread_time() - start_cpu)
            site.judge(time.perf_counter() - self._begun)

    def _has_come(self, key: bytes) -> bool:
        """Whether a call came before; notes that it has."""
        if key in self._seen:
            return True
        if len(self._seen) >= _SEEN_LIMIT:
            self._seen.clear()
        self._seen.add(key)
        return False

    def _note_overhead(self, site: Site, spent_s: float) -> None:
        site.overhead_s += spent_s
        self.overhead_s += spent_s

    def _take_off(self, site: Site, key: bytes) -> Flight | None:
        """Announces that this thread computes a result; None when that of somebody else was awaited, or cannot be."""
        with self.witness.looking_away():
            return self.flights.take_off(key, may_wait=site.may_wait)

    def change(self, site: Site, function: Any, plain: Any, estimator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns what a function gives that may change one of scikit-learn's estimators, by changing it the same way when that is known."""
        if site in self._active:
            return plain(*args, **kwargs)  # a pipeline inside a pipeline
        change = None
        try:
            change = self.prover.change_among((estimator,), (*args, *kwargs.values()))
        except Refused as refusal:
            site.refuse(refusal.reason, is_final=refusal.is_final)
        return self.invoke(site, function, plain, args, kwargs, change) if change is not None else plain(*args, **kwargs)

    def compute(self, site: Site, label: str, operands: tuple[Any, ...], function: Any) -> Any:
        """Returns ``function(*operands)`` for a function of ours that has no effect, so that nothing has to be proved."""
        begin = self.look_around()
        site.calls += 1
        key = self.keys.of_operands(site, label, operands)
        if key is None:
            return function(*operands)
        answer = self.answer(site, key, begin)
        if answer is not _NOTHING:
            return answer
        flight = self._take_off(site, key)
        if flight is None:
            answer = self.answer(site, key, time.perf_counter())
            if answer is not _NOTHING:
                return answer
        try:
            issued = self.witness.notices.issued
            start = time.perf_counter()
            result = function(*operands)
            done = time.perf_counter()
            site.note_run(done - start, done - start)
            site.note_miss()
            after = Fingerprint(self.plans, self.contents, is_result=True)
            after.add(result)
            if issued == self.witness.notices.issued:
                self._retain(site, key, Entry(site.name, None, after.size_bytes + 200, done - start), result, after.size_bytes, done - start)
        finally:
            if flight is not None:
                self.flights.land(flight)
        self._note_overhead(site, time.perf_counter() - done + start - begin)
        if site.reused == 0 and site.executions >= _HOPELESS_CALLS:
            site.rest("its work never came again")
        if site.executions > _PRODUCT_TRIALS:  # that it is worth a key was asked before
            site.judge(time.perf_counter() - self._begun)
        return result

    def look_around(self) -> float:
        """Now and then wakes sites that rest, while watching has cost little so far; returns the time."""
        now = time.perf_counter()
        if now >= self._waken_at:
            self._waken_at = now + _WAKING_S
            elapsed_s = now - self._begun
            if self.overhead_s - max(self.saved_s, 0.0) < _WAKING_SHARE * elapsed_s:
                self.wake_others(elapsed_s)
        return now

    def answer(self, site: Site, key: bytes, begin: float, call: Call | None = None) -> Any:
        """Returns a stored result with its effects done again, or `_NOTHING`."""
        with self.witness.looking_away():
            entry, value = self._find(key)
            if entry is None:
                return _NOTHING
            if type(value) is Effects:
                try:
                    value = self.prover.do_again(call, value) if call is not None else _NOTHING
                except Refused:
                    return _NOTHING
        for stream, text in entry.output:
            getattr(sys, stream).write(text) if text else getattr(sys, stream).flush()
        if entry.streams:
            self.witness.streams.apply(entry.streams_after)
        self.witness.note_files(entry.files)
        stack = self.witness.stack
        if stack:
            stack[-1].saved_s += entry.cost_s
            stack[-1].inner_s += entry.cost_s
        self.memory.note_use(entry)
        self.heights.note(value, entry.height)
        self.assembled_before += entry.assembled
        spent = time.perf_counter() - begin
        site.reused += 1
        site.may_wait = True
        site.is_recalled |= entry.is_earlier and call is not None and call.before.has_user_code
        site.last = "hit"
        site.saved_s += entry.cost_s
        self._note_overhead(site, spent)
        if spent > entry.cost_s:
            site.judge(time.perf_counter() - self._begun)
        if not stack:
            self.saved_s += entry.cost_s - spent
        else:
            stack[0].saved_here_s += entry.cost_s - spent
        if self.report is not None:
            self.report(site)
        return value

    def _find(self, key: bytes) -> tuple[Entry | None, Any]:
        for entry in self.memory.iter_entries(key):
            if self._is_valid(entry):
                with self.flights.lock:
                    try:
                        return entry, entry.holding.take()
                    except (Lost, Refused):
                        self.memory.drop(key, entry)
        stored = self.storing.find(key)
        if stored is None:
            return None, None
        entry = entry_of(stored)
        if not self._is_valid(entry):
            return None, None
        try:
            entry.holding = StoredValue(stored.frozen, self.namespace)
            value, entry.streams_after = entry.holding.take_all()
        except (Lost, Refused, ValueError, TypeError):
            return None, None
        self.memory.add(key, entry)
        return entry, value

    def _is_valid(self, entry: Entry) -> bool:
        if entry.streams and not self.witness.streams.are_at(entry.streams):
            return False
        return all(digest_of_file(path) == digest for path, digest in entry.files.items())

    # -- learning -------------------------------------------------------------------------------------------------------------

    def _learn(self, call: Call, closures: bytes, record: Record, result: Any, cost_s: float, cpu_s: float) -> None:
        """Keeps the result of a call if it is sound and pays."""
        site, begin = call.site, time.perf_counter()
        took_s = cost_s + record.saved_s
        site.note_run(took_s, cpu_s + record.saved_s)
        site.note_miss()
        try:
            if record.refusal:
                raise Refused(record.refusal)
            if site.is_part and took_s - record.inner_s < _OWN_SHARE * took_s:
                raise Refused("what it calls is answered by itself")
            if took_s >= max(_WORTH_KEEPING_S, _MARGIN * call.before.passed / OBJECTS_PER_S):
                with self.witness.looking_away():
                    self._keep(call, self.prover.proven(call, closures, result), record, cost_s)
        except TooMany:
            if not site.reused:
                site.rest("its result has too many objects for what it takes")
        except Refused as refusal:
            site.refuse(refusal.reason, is_final=refusal.is_final)
        except RecursionError:
            site.turn_off("its result is nested too deeply")
        self._note_overhead(site, time.perf_counter() - begin)
        if not self.witness.stack:
            self.saved_s += record.saved_here_s
        elif not site.is_off:
            self.witness.stack[-1].inner_s += took_s
        site.judge(time.perf_counter() - self._begun)
        if self.report is not None:
            self.report(site)

    def _keep(self, call: Call, result: Any, record: Record, spent_s: float) -> None:
        site, before = call.site, call.before
        after = Fingerprint(self.plans, self.contents, is_result=True)
        after.limit = site.may_walk()
        after.add(result if type(result) is not Effects else result.wholes)  # the rest of these is bytes of ours
        size_bytes = after.size_bytes + _OBJECT_BYTES * after.passed + (result.size_bytes if type(result) is Effects else 0)
        if after.has_code:
            raise Refused("it returns functions or classes")
        if not before.is_apart_from(after):
            raise Refused("its result shares memory with what it was given")
        streams, streams_after = self._streams_moved(record)
        files = {path: digest_of_read(path, stamp) for path, stamp in record.files.items()}
        entry = Entry(
            site.name, None, size_bytes + 200, spent_s + record.saved_s, files, streams, streams_after,
            joined(record.output), height=self.heights.above(before.identities), assembled=record.assembled,
        )  # fmt: skip
        self.heights.note(result, entry.height)
        self._retain(site, call.key, entry, result, size_bytes, spent_s)

    def _retain(self, site: Site, key: bytes, entry: Entry, result: Any, size_bytes: int, spent_s: float) -> None:
        """Keeps a sound result in memory and in the repository, as far as that pays.

        Memory is given for what the call itself took: what was answered inside it is kept already.
        """
        doubt = 1.0 if site.reused else 1.0 + site.executions / _DOUBTFUL_EXECUTIONS
        is_cheap_to_keep = spent_s > _MARGIN * doubt * size_bytes / _COPY_BYTES_PER_S
        with self.witness.looking_away():
            has_come = self._has_come(key)
            is_kept = has_come or is_cheap_to_keep or self.flights.is_awaited(key)
            if is_kept:
                entry.holding = self.holder.hold(result)
                site.promised_s += spent_s if has_come else 0.0
            try:
                self.storing.offer(key, entry, site.components, result, size_bytes, is_inside=any(not each.is_loop for each in self._active))
            finally:
                if is_kept:
                    self.memory.add(key, entry)

    def close(self) -> None:
        """Stores what had to wait for the end of the run."""
        with self.witness.looking_away():
            self.storing.close()

    def _streams_moved(self, record: Record) -> tuple[tuple[bytes, ...], Any]:
        """Returns where the random streams that the call moved stood before and stand now, as `Streams.moved_since`; ((), None) for none."""
        moved, states = self.witness.streams.moved_since(record.streams)
        if not moved:
            return (), None
        if record.threads or self.witness.has_other_threads():
            raise Refused("it draws random numbers while other threads run")
        return moved, states

"""One computes, the others wait: among the threads of a process, and among the processes of a run.

Nobody waits for himself, nor for anybody who waits for him: chains of waiting threads are followed, and whoever is seen to stand still for a
second (it may wait for a lock that the asking thread has) is waited for no longer. What was awaited in vain is simply computed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from dartvc.host.threads import Standstill
from dartvc.lineage.claims import Claims

__all__ = ["Flight", "Flights"]

_LOOK_S = 0.25
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.01


class Flight:
    """One result that is being computed by a thread of this process."""

    __slots__ = ("is_awaited", "is_claimed", "key", "landed", "owner")

    def __init__(self, key: bytes, owner: int) -> None:
        self.key = key
        self.owner = owner
        self.landed = threading.Event()
        self.is_awaited = self.is_claimed = False


class Flights:
    """What the threads of this process compute at the moment.

    Attributes:
        claims: of the processes of the run; None while this is the only one.
        waited: how often somebody else's result was waited for.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.claims: Claims | None = None
        self.waited = 0
        self._flights: dict[bytes, Flight] = {}
        self._waiting: dict[int, Flight] = {}

    def begin_anew(self) -> None:
        """Forgets what the parent of a forked child was computing."""
        self.lock = threading.Lock()
        self._flights.clear()
        self._waiting.clear()

    def take_off(self, key: bytes, *, may_wait: bool = True) -> Flight | None:
        """Announces that this thread computes a result; None when somebody else did meanwhile, or does and cannot be waited for."""
        own = threading.get_native_id()
        with self.lock:
            other = self._flights.get(key)
            if other is None:
                flight = self._flights[key] = Flight(key, own)
            elif not may_wait or self._would_wait_for(own, other):
                return None
            else:
                other.is_awaited = True
                self._waiting[own] = other
        if other is not None:
            try:
                _wait(other.landed.wait, Standstill(os.getpid(), other.owner))
                self.waited += 1
            finally:
                with self.lock:
                    del self._waiting[own]
            return None
        return self._claim(flight, may_wait=may_wait)

    def _claim(self, flight: Flight, *, may_wait: bool) -> Flight | None:
        claims = self.claims
        if claims is None or claims.take(flight.key):
            flight.is_claimed = claims is not None
            return flight
        if not may_wait:
            return flight
        pause_s = _FIRST_PAUSE_S

        def is_free(most_s: float) -> bool:
            nonlocal pause_s
            end = time.monotonic() + most_s
            while time.monotonic() < end:
                if claims.take(flight.key):
                    claims.give_back(flight.key)
                    return True
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
            return False

        try:
            _wait(is_free, Standstill(*claims.holder(flight.key)))
            self.waited += 1
        finally:
            self.land(flight)
        return None

    def _would_wait_for(self, own: int, flight: Flight) -> bool:
        """Whether the thread that computes waits, over others perhaps, for this one."""
        following: Flight | None = flight
        seen: set[int] = set()
        while following is not None and following.owner not in seen:
            if following.owner == own:
                return True
            seen.add(following.owner)
            following = self._waiting.get(following.owner)
        return False

    def land(self, flight: Flight) -> None:
        """Announces that a result is there, or will not be."""
        with self.lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        if flight.is_claimed and self.claims is not None:
            self.claims.give_back(flight.key)
        flight.landed.set()

    def is_awaited(self, key: bytes) -> bool:
        """Whether another thread waits for a result."""
        flight = self._flights.get(key)
        return flight is not None and flight.is_awaited


def _wait(is_over: Callable[[float], bool], standstill: Standstill) -> None:
    while not is_over(_LOOK_S):
        if standstill.is_reached():
            return

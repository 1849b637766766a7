"""One computes, the others wait: never for themselves, never for the dead, never in a circle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dartvc.lineage.claims import Claims
from dartvc.lineage.flights import Flight, Flights

KEY, OTHER = bytes(range(16)), bytes(range(16, 32))
CLAIM = """
import sys
from pathlib import Path
from dartvc.lineage.claims import Claims
assert Claims(Path(sys.argv[1])).take(bytes.fromhex(sys.argv[2]))
print("claimed", flush=True)
sys.stdin.readline()
"""


def claimant(path: Path, key: bytes) -> subprocess.Popen[str]:
    """Starts a process that claims a key and keeps it until its input ends."""
    words = [sys.executable, "-c", CLAIM, str(path), key.hex()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "claimed\n"
    return process


def test_a_thread_waits_for_what_another_computes() -> None:
    flights = Flights()
    first = flights.take_off(KEY)
    assert first is not None
    found: list[Flight | None] = []
    waiter = threading.Thread(target=lambda: found.append(flights.take_off(KEY)))
    waiter.start()
    while not flights.is_awaited(KEY):
        pass
    assert not found
    flights.land(first)
    waiter.join()
    assert found == [None] and flights.waited == 1
    assert flights.take_off(KEY) is not None


def test_nobody_waits_for_himself() -> None:
    flights = Flights()
    assert flights.take_off(KEY) is not None
    assert flights.take_off(KEY) is None


def test_two_threads_that_want_what_the_other_computes_both_go_on() -> None:
    flights, both = Flights(), threading.Barrier(2)

    def work(own: bytes, others: bytes) -> None:
        flight = flights.take_off(own)
        assert flight is not None
        both.wait()
        flights.take_off(others)
        flights.land(flight)

    threads = [threading.Thread(target=work, args=keys) for keys in ((KEY, OTHER), (OTHER, KEY))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert not any(each.is_alive() for each in threads)


def test_a_thread_that_stands_still_is_not_waited_for_for_ever() -> None:
    flights, lock = Flights(), threading.Lock()
    flight: list[Flight | None] = []

    def stuck() -> None:
        flight.append(flights.take_off(KEY))
        with lock:  # held by the thread that is going to wait for this one
            pass

    with lock:
        thread = threading.Thread(target=stuck)
        thread.start()
        while not flight:
            pass
        assert flights.take_off(KEY) is None
    thread.join()


def test_a_claim_of_another_process_is_awaited(tmp_path: Path) -> None:
    holder = claimant(tmp_path / "claims", KEY)
    flights = Flights()
    flights.claims = Claims(tmp_path / "claims")
    assert not flights.claims.take(KEY)
    assert flights.claims.holder(KEY)[0] == holder.pid
    free = flights.take_off(OTHER)
    assert free is not None and free.is_claimed
    assert holder.stdin is not None
    holder.stdin.close()
    flights.take_off(KEY)
    assert flights.take_off(KEY) is not None or flights.claims.take(KEY)
    holder.wait()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_while_it_computes_releases_its_claim(tmp_path: Path, sign: signal.Signals) -> None:
    holder = claimant(tmp_path / "claims", KEY)
    claims = Claims(tmp_path / "claims")
    assert not claims.take(KEY)
    holder.send_signal(sign)
    holder.wait()
    assert claims.take(KEY)


def test_a_forked_child_neither_inherits_a_claim_nor_keeps_its_parents(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    assert claims.take(KEY)
    child = os.fork()
    if child == 0:
        os._exit(claims.take(KEY))
    assert os.waitpid(child, 0)[1] == 0
    assert not claimed_elsewhere(tmp_path, KEY)
    claims.give_back(KEY)
    assert claimed_elsewhere(tmp_path, KEY)


def claimed_elsewhere(folder: Path, key: bytes) -> bool:
    """Returns whether another process can claim a key."""
    child = os.fork()
    if child == 0:
        os._exit(not Claims(folder / "claims").take(key))
    return os.waitpid(child, 0)[1] == 0

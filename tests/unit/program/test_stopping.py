"""Where a program is stopped: at the next statement that can be stopped at, and tracing ends there."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from dartvc.program.frames import is_supported
from dartvc.program.stopping import Stopper

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

PROGRAM = """
def total(n):
    return sum(ask() if i == 3 else i for i in range(n))

def step(n):
    first = total(n)
    return first + 1

seen = []
for turn in range(5):
    seen.append(step(10))
"""


def execute(code: types.CodeType, namespace: dict[str, Any]) -> None:
    """Runs a program that is stopped; afterwards the trace function is the one from before."""
    before = sys.gettrace()
    try:
        exec(code, namespace)
        assert sys.gettrace() is before
    finally:
        sys.settrace(before)


def test_a_function_that_ends_with_the_statement_that_cannot_be_stopped_in_is_left_for_its_caller() -> None:
    code = compile(PROGRAM, "program.py", "exec")
    stops: list[str] = []
    stopper: Stopper

    def stop(frame: types.FrameType) -> types.FrameType | None:
        stops.append(frame.f_code.co_name)
        return frame.f_back if frame.f_code.co_name == "<genexpr>" else None

    def ask() -> int:
        if not stops:
            stopper.request()
        return 3

    stopper = Stopper(lambda each: each.co_filename == "program.py", stop)
    namespace: dict[str, Any] = {"__name__": "program", "ask": ask}
    execute(code, namespace)
    assert namespace["seen"] == [46] * 5
    assert stops[0] == "<genexpr>" and len(stops) == 2 and stops[1] in ("step", "<module>", "total")
    assert not stopper.is_requested


SEARCH = """
def nearest(rows):
    best = max(sum(ask() if x == 1000 else x for x in row) for row in rows)
    after.append(1)
    return best

after = []
best = nearest(ROWS)
after.append(2)
"""


class Counting(Stopper):
    """Counts what it is told while it traces."""

    told = 0

    def _on_call(self, frame: types.FrameType, event: str, argument: object) -> Any:
        self.told += 1
        return super()._on_call(frame, event, argument)

    def on_line(self, frame: types.FrameType, event: str, argument: object) -> None:
        self.told += 1
        super().on_line(frame, event, argument)


SORTING = """
def nearest(rows):
    best = sorted((x for row in rows for x in row), key=lambda x: ask() if x == 1000 else -x)
    after.append(1)
    return best

after = []
best = nearest(ROWS)
after.append(2)
"""


@pytest.mark.parametrize("program", [SEARCH, SEARCH.replace("max(", "sorted("), SEARCH.replace("max(", "list("), SORTING])
@pytest.mark.parametrize("requests", [1, 2])
def test_what_a_function_in_c_consumes_or_calls_back_is_hardly_traced_until_it_has_ended(program: str, requests: int) -> None:
    code = compile(program, "program.py", "exec")
    stops: list[tuple[str, int]] = []

    def stop(frame: types.FrameType) -> types.FrameType | None:
        stops.append((frame.f_code.co_name, len(namespace["after"])))
        outside = frame
        while outside.f_code.co_name in ("<genexpr>", "<lambda>"):
            outside = outside.f_back or outside
        return outside if outside is not frame else None

    def ask() -> int:
        for _ in range(requests):
            stopper.request()
        return 1000

    stopper = Counting(lambda each: each.co_filename == "program.py", stop)
    rows = [range(start, start + 50) for start in range(0, 20_000, 50)]
    namespace: dict[str, Any] = {"__name__": "program", "ask": ask, "ROWS": rows, "after": []}
    execute(code, namespace)
    assert program is SORTING or (stops[-1][0] in ("nearest", "<module>") and stops[-1][1] <= 1)
    assert stopper.told < 3000


def test_a_generator_that_is_asked_by_hand_does_not_hold_the_frame_that_asked() -> None:
    class Kept:
        pass

    def numbers() -> Iterator[int]:
        stopper.request()
        yield 1
        yield 2

    def asking(generator: Iterator[int]) -> weakref.ref[Kept]:
        kept = Kept()
        next(generator)
        return weakref.ref(kept)

    own = {numbers.__code__, asking.__code__}
    stopper = Stopper(lambda code: code in own, lambda frame: None if frame.f_code is asking.__code__ else frame.f_back)
    generator = numbers()
    before = sys.gettrace()
    try:
        left = asking(generator)
        stopper.cancel()
    finally:
        sys.settrace(before)
    assert left() is None

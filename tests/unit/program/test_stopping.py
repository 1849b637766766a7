"""Where a program is stopped: at the next statement that can be stopped at, and tracing ends there."""

from __future__ import annotations

import sys
import types
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
    before = sys.gettrace()
    try:
        exec(code, namespace)
        assert sys.gettrace() is before
    finally:
        sys.settrace(before)
    assert namespace["seen"] == [46] * 5
    assert stops[0] == "<genexpr>" and len(stops) == 2 and stops[1] in ("step", "<module>", "total")
    assert not stopper.is_requested

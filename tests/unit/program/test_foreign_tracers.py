"""Trace and profile functions of others: they hear every event of a program, and no other, while it is stopped again and again."""

from __future__ import annotations

import gc
import sys
import threading
import types
from typing import Any

import pytest

from dartvc.program.frames import is_supported
from dartvc.program.stopping import Stopper

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

PROGRAM = """
def step(i, seen):
    try:
        if i % 7 == 3:
            raise ValueError(i)
        seen.append(sorted([3, 2, i], key=lambda x: -x))
    except ValueError as error:
        seen.append(str(error))
    return [j for j in range(i % 4)]

def count(n):
    for i in range(n):
        yield i

def work(n):
    seen = []
    for i in count(n):
        step(i, seen)
    return len(seen)
"""
NAME = "program.py"


def events_of(kinds: tuple[str, ...], stopper: Stopper | None) -> list[tuple[object, ...]]:
    """Runs the program once; returns what the tools heard."""
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(compile(PROGRAM, NAME, "exec"), namespace)
    heard: list[tuple[object, ...]] = []
    over = threading.Event()

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename == NAME:
            heard.append((event, frame.f_code.co_name, frame.f_lineno))
            return trace
        return None

    def profile(frame: types.FrameType, event: str, argument: object) -> None:
        heard.append((event, frame.f_code.co_name, frame.f_lineno, getattr(argument, "__name__", "") if event[0] == "c" else ""))

    def ask() -> None:
        while stopper is not None and not over.wait(0.0003):
            stopper.request()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        sys.settrace(trace if "trace" in kinds else None)
        sys.setprofile(profile if "profile" in kinds else None)
        namespace["work"](1500)
        assert ("trace" in kinds) == (sys.gettrace() is trace)
    finally:
        sys.settrace(None)
        sys.setprofile(None)
        over.set()
        asking.join()
    return heard


@pytest.mark.parametrize("kinds", [("trace",), ("profile",), ("trace", "profile")])
def test_a_tool_hears_every_event_of_a_program_that_is_stopped_all_the_time(kinds: tuple[str, ...]) -> None:
    present = sys.gettrace(), sys.getprofile()
    lines: list[int] = []

    def on_stop(frame: types.FrameType) -> None:
        lines.append(frame.f_lineno)

    stopper = Stopper(lambda code: code.co_filename == NAME, on_stop)
    gc.disable()  # other tests have left callbacks there, which a profile function hears, too
    try:
        undisturbed = events_of(kinds, None)
        for _ in range(100):
            assert events_of(kinds, stopper) == undisturbed
            if lines:
                break
        assert lines, "it was never stopped"
    finally:
        gc.enable()
        stopper.cancel()
        sys.settrace(present[0])
        sys.setprofile(present[1])


def test_a_trace_function_that_takes_over_while_a_stop_is_waited_for_stays() -> None:
    present = sys.gettrace()
    stops: list[int] = []
    namespace: dict[str, Any] = {"sys": sys}
    code = "def work(ask, mine):\n    (ask(), sys.settrace(mine))\n    a = 1\n    return sys.gettrace()\n"
    exec(compile(code, NAME, "exec"), namespace)
    stopper = Stopper(lambda code: code.co_filename == NAME, lambda frame: stops.append(frame.f_lineno))

    def mine(frame: types.FrameType, event: str, argument: object) -> None:
        return None

    try:
        assert namespace["work"](stopper.request, mine) is mine
    finally:
        stopper.cancel()
        sys.settrace(present)


def test_a_request_that_comes_while_an_earlier_one_is_answered_under_a_debugger_does_not_hang() -> None:
    """On 3.11 a pending call that comes while another runs would send a traced function round in its first instruction for ever."""
    present = sys.gettrace()
    namespace: dict[str, Any] = {}
    code = "def inner(i):\n    return i\ndef work(ask):\n    found = 0\n    for i in range(50):\n        ask()\n        found += inner(i)\n    return found\n"
    exec(compile(code, NAME, "exec"), namespace)
    asked: list[int] = []

    def is_user(code: types.CodeType) -> bool:
        asked.append(1)
        stopper.request()  # answered only after this one is
        return sum(map(len, [str(each) for each in range(100)])) > 0 and code.co_filename == NAME

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        return trace

    stopper = Stopper(is_user, lambda frame: None)
    try:
        sys.settrace(trace)
        assert namespace["work"](stopper.request) == sum(range(50))
    finally:
        sys.settrace(present)
        stopper.cancel()
    assert asked

"""Heads of loops, told by a stand-in for the iterator on the value stack."""

from __future__ import annotations

import sys
import threading
import time
import types

import pytest

from dartvc.hindsight.contexts import LoopReader
from dartvc.program.frames import is_supported, replace_in_slot, view_of
from dartvc.program.standins import LoopHead
from dartvc.shims.heads import LoopHeads

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")


def walk(heads: LoopHeads, seen: list[tuple[int, int]]) -> list[int]:
    items = []
    for epoch in range(4):
        for step in [10, 20, 30]:
            if epoch == 1 and step == 20:
                heads.look(sys._getframe())
            items.append(step)
        seen.append((epoch, len(items)))
    return items


def heads_of(told: list[int], long_s: float) -> LoopHeads:
    return LoopHeads(lambda code: code is walk.__code__, lambda frame, interval_s, loop: told.append(frame.f_locals["epoch"]), long_s)


def test_the_head_of_a_long_loop_is_told_before_each_iteration_and_the_program_does_what_it_did() -> None:
    told: list[int] = []
    seen: list[tuple[int, int]] = []
    assert walk(heads_of(told, 0.0), seen) == [10, 20, 30] * 4
    assert seen == [(0, 3), (1, 6), (2, 9), (3, 12)]
    assert [epoch for epoch in (1, 2, 3) if epoch in told] == [1, 2, 3]


def glance_once(heads: LoopHeads) -> None:
    other = threading.Thread(target=heads.glance)
    other.start()
    other.join()


def counting(heads: LoopHeads) -> list[int]:
    seen = []
    for number in range(5):
        if number == 1:
            glance_once(heads)
        seen.append(number)
    return seen


def counting_what_is_generated(heads: LoopHeads) -> list[int]:
    seen = []
    for number, _ in enumerate(each for each in "abc"):
        if number == 1:
            glance_once(heads)
        seen.append(number)
    return seen


def test_a_loop_is_found_from_another_thread_while_the_program_goes_on() -> None:
    told: list[int] = []
    heads = LoopHeads(lambda code: code is counting.__code__, lambda frame, interval_s, loop: told.append(frame.f_locals["number"]), long_s=0.0)
    assert counting(heads) == [0, 1, 2, 3, 4]
    assert told == [1, 2, 3, 4]


def test_a_generator_is_not_looked_into_from_another_thread() -> None:
    told: list[int] = []
    code = counting_what_is_generated.__code__
    heads = LoopHeads(lambda each: each is code, lambda frame, interval_s, loop: told.append(frame.f_locals["number"]), long_s=0.0)
    assert counting_what_is_generated(heads) == [0, 1, 2]
    assert told == []


def test_threads_that_glance_all_the_time_disturb_no_loop() -> None:
    heads = LoopHeads(lambda code: code in (busy.__code__, inner.__code__), lambda frame, interval_s, loop: None, long_s=0.0)
    is_over = threading.Event()

    def glancing() -> None:
        while not is_over.is_set():
            heads.glance()

    threads = [threading.Thread(target=glancing) for _ in range(2)]
    for each in threads:
        each.start()
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert busy(300) == 300 * 20 * 5
    finally:
        sys.setswitchinterval(switching)
        is_over.set()
        for each in threads:
            each.join()


def busy(count: int) -> int:
    found = 0
    for _ in range(count):
        for each in list(range(20)):
            found += inner(each)
    return found


def inner(number: int) -> int:
    found = 0
    for _ in reversed([number] * 5):
        found += len(str(number)) > 0
    return found


def test_a_short_loop_is_not_touched() -> None:
    told: list[int] = []
    assert walk(heads_of(told, 1e9), []) == [10, 20, 30] * 4
    assert told == []


def test_the_numbers_of_iterations_are_those_of_the_iterator_behind_the_stand_in() -> None:
    numbers = []
    reader = LoopReader()
    frame = sys._getframe()
    for _ in range(5):
        context = reader.context_of(frame)
        assert context is not None
        numbers.append(context.iteration)
        if context.iteration == 1:
            view = view_of(frame)
            slot = next(index for index in range(40) if type(view_at(view, index)) is type(iter(range(1))))
            held = view[slot]
            assert replace_in_slot(frame, slot, held, LoopHead(held, lambda head, frame: None, 0.0))
    assert numbers == [0, 1, 2, 3, 4]


def view_at(view: object, index: int) -> object:
    try:
        return view[index]  # type: ignore[index]
    except (ValueError, IndexError):
        return None


def test_an_iterator_that_is_not_there_is_not_replaced() -> None:
    frame: types.FrameType = sys._getframe()
    for _ in range(1):
        assert not replace_in_slot(frame, 0, object(), object())


def test_a_loop_of_which_only_one_iteration_was_long_goes_on_as_it_was() -> None:
    told: list[int] = []
    stopped: list[str] = []

    def numbers() -> int:
        total = 0
        for number in range(50_000):
            total += number
            if number in (10, 40_000):
                look()
        return total

    heads = LoopHeads(lambda code: code is numbers.__code__, lambda frame, interval_s, loop: told.append(frame.f_locals["number"]), long_s=1000.0)

    def look() -> None:
        frame = sys._getframe(1)
        slot = heads._loops_of(frame.f_code).site(frame.f_lasti).levels[0].slot
        held = view_of(frame)[slot]
        if not stopped:
            replace_in_slot(frame, slot, held, LoopHead(held, heads._at_head, time.monotonic() - 5000.0))
        else:
            heads._look_at(frame, time.monotonic(), {})
            held = view_of(frame)[slot]
        stopped.append(type(held).__name__)

    assert numbers() == sum(range(50_000))
    assert told == [10]
    assert stopped == ["range_iterator", "range_iterator"]

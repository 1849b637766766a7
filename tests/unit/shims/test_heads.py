"""Heads of loops, told by a stand-in for the iterator on the value stack."""

from __future__ import annotations

import sys
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
    return LoopHeads(lambda code: code is walk.__code__, lambda frame, interval_s: told.append(frame.f_locals["epoch"]), long_s)


def test_the_head_of_a_long_loop_is_told_before_each_iteration_and_the_program_does_what_it_did() -> None:
    told: list[int] = []
    seen: list[tuple[int, int]] = []
    assert walk(heads_of(told, 0.0), seen) == [10, 20, 30] * 4
    assert seen == [(0, 3), (1, 6), (2, 9), (3, 12)]
    assert [epoch for epoch in (1, 2, 3) if epoch in told] == [1, 2, 3]


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

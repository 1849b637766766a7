"""The loops around a place in a running program, read from living frames."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dartvc.hindsight.contexts import LoopReader, NamedLoop
from dartvc.program.frames import is_supported
from dartvc.program.stopping import Stopper

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

Step = tuple[str, int, object]


class Log:
    """Notes where it is called from."""

    def __init__(self) -> None:
        self.reader = LoopReader()
        self.seen: list[list[Step]] = []
        self.entries: list[list[int]] = []

    def __call__(self) -> None:
        context = self.reader.context_of(sys._getframe(1))
        chain = context.chain() if context is not None else []
        self.seen.append([(each.loop.name, each.iteration, each.values[0] if each.values else None) for each in chain])
        self.entries.append([each.entry for each in chain])


@pytest.fixture
def log() -> Log:
    return Log()


def test_outside_of_all_loops_there_is_no_context(log: Log) -> None:
    log()
    assert log.seen == [[]]


def test_nested_for_loops_are_known_with_number_and_value(log: Log) -> None:
    for epoch in range(5, 7):
        for _batch in ("a", "b"):
            log()
        log()
        assert epoch
    assert log.seen == [
        [("epoch", 0, 5), ("_batch", 0, "a")],
        [("epoch", 0, 5), ("_batch", 1, "b")],
        [("epoch", 0, 5)],
        [("epoch", 1, 6), ("_batch", 0, "a")],
        [("epoch", 1, 6), ("_batch", 1, "b")],
        [("epoch", 1, 6)],
    ]


def test_loops_of_the_callers_are_known_in_the_called(log: Log) -> None:
    def inner() -> None:
        log()

    def step() -> None:
        for k in range(2):
            assert k >= 0
            inner()

    for epoch in range(2):
        assert epoch >= 0
        step()
    assert log.seen == [[("epoch", epoch, epoch), ("k", k, k)] for epoch in range(2) for k in range(2)]
    assert log.entries == [[0, 0]] * 4


def items() -> Iterator[str]:
    for item in ["x", "y", "z"]:  # noqa: UP028
        yield item


@pytest.mark.parametrize(
    "make",
    [
        lambda: range(3),
        lambda: [10, 11, 12],
        lambda: (10, 11, 12),
        lambda: "abc",
        lambda: b"abc",
        lambda: {1: 2, 3: 4, 5: 6},
        lambda: {1: 2, 3: 4, 5: 6}.items(),
        lambda: {1, 2, 3},
        lambda: enumerate("abc"),
        lambda: enumerate("abc", 7),
        lambda: zip("abc", [1, 2, 3], strict=True),
        lambda: map(str, [1, 2, 3]),
        lambda: range(1 << 70, (1 << 70) + 3),
        items,
        lambda: NamedLoop("thing", "abc"),
    ],
)
def test_iterators_tell_their_number_even_when_not_every_iteration_logs(log: Log, make: Any) -> None:
    count = 0
    for thing in make():
        count += 1  # noqa: SIM113
        if count != 2:
            log()
        assert thing is not None
    assert [chain[0][:2] for chain in log.seen] == [("thing", 0), ("thing", 2)]


def test_a_reversed_list_is_counted(log: Log) -> None:
    for thing in reversed([1, 2, 3]):
        log()
        assert thing
    assert log.seen == [[("thing", at, 3 - at)] for at in range(3)]


def test_an_iterator_of_unknown_kind_is_counted_by_what_is_seen(log: Log) -> None:
    class Own:
        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Own:
            return self

        def __next__(self) -> int:
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return self.left

    for number in Own():
        log()
        log()
        assert number >= 0
    assert log.seen == [[("number", at, 2 - at)] for at in range(3) for _ in range(2)]


def test_a_while_loop_has_numbers_and_the_value_of_its_variable(log: Log) -> None:
    step = 10
    while step < 40:
        log()
        for inner in range(2):
            assert inner >= 0
            log()
        step += 10
        log()
    expected = []
    for at in range(3):
        outer = ("step", at, 10 + 10 * at)
        expected += [[outer], [outer, ("inner", 0, 0)], [outer, ("inner", 1, 1)], [outer]]
    assert log.seen == expected


def test_a_while_loop_that_calls_what_logs_is_counted_by_its_calls(log: Log) -> None:
    def step() -> None:
        log()
        log()

    left = 3
    while left:
        step()
        left -= 1
    assert [chain[0][:2] for chain in log.seen] == [("left", at) for at in range(3) for _ in range(2)]


def test_a_function_called_twice_in_one_iteration_enters_its_loop_twice(log: Log) -> None:
    def walk() -> None:
        for k in range(2):
            assert k >= 0
            log()

    for epoch in range(1):
        walk()
        walk()
        assert epoch == 0
    assert log.entries == [[0, 0], [0, 0], [0, 1], [0, 1]]


def test_loops_of_one_name_in_one_function_are_told_apart(log: Log) -> None:
    found = set()
    for batch in range(1):
        log()
        found.add(log.reader.context_of(sys._getframe()).loop.ordinal)  # type: ignore[union-attr]
        assert batch == 0
    for batch in range(1):
        found.add(log.reader.context_of(sys._getframe()).loop.ordinal)  # type: ignore[union-attr]
        assert batch == 0
    assert found == {0, 1}


def test_the_else_of_a_loop_is_outside_of_it(log: Log) -> None:
    for k in range(2):
        assert k >= 0
    else:
        log()
    assert log.seen == [[]]


def test_a_handler_and_a_with_block_are_inside_their_loop(log: Log) -> None:
    import contextlib

    for k in range(2):
        try:
            if k:
                raise ValueError
            with contextlib.suppress(KeyError):
                log()
        except ValueError:
            log()
    assert log.seen == [[("k", 0, 0)], [("k", 1, 1)]]


def test_loops_of_library_code_do_not_show(log: Log) -> None:
    import json

    class Encoder(json.JSONEncoder):
        def default(self, o: object) -> object:
            log()
            return None

    for k in range(1):
        json.dumps([object(), object()], cls=Encoder, indent=1)
        assert k == 0
    assert log.seen == [[("k", 0, 0)]] * 2


def test_a_debuggers_trace_function_of_a_frame_is_left_alone(log: Log) -> None:
    def own(frame: object, event: str, argument: object) -> None:
        return None

    frame = sys._getframe()
    frame.f_trace = own
    for k in range(2):
        log()
        assert k >= 0
    assert frame.f_trace is own
    frame.f_trace = None
    assert log.seen == [[("k", 0, 0)], [("k", 1, 1)]]


def test_a_loop_variable_that_is_no_scalar_has_no_value(log: Log) -> None:
    for batch in [[1], [2]]:
        log()
        assert batch
    assert log.seen == [[("batch", 0, None)], [("batch", 1, None)]]


def test_a_loop_variable_of_a_closure_is_read_from_its_cell(log: Log) -> None:
    def peek() -> int:
        return k

    for k in range(2):
        log()
        assert peek() == k
    assert log.seen == [[("k", 0, 0)], [("k", 1, 1)]]


def test_a_finished_generator_is_not_kept_alive(log: Log) -> None:
    closed = []

    def numbers() -> Iterator[int]:
        try:
            for each in range(5):  # noqa: UP028
                yield each
        finally:
            closed.append(True)

    for number in numbers():
        log()
        if number == 1:
            break
    assert closed == [True]
    assert [chain[0][:2] for chain in log.seen] == [("number", 0), ("number", 1)]


def test_a_deep_recursion_below_a_loop_is_no_trouble(log: Log) -> None:
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            log()

    for k in range(2):
        down(600)
        assert k >= 0
    assert log.seen == [[("k", 0, 0)], [("k", 1, 1)]]


def test_stops_that_the_program_is_on_its_way_to_displace_no_context(log: Log) -> None:
    noted: Callable[[], object] = log

    def inside() -> int:
        for _part in range(2):
            (ask(), noted())  # the stop comes behind this statement
            noted()
        return 0

    def run() -> list[object]:
        for _epoch in range(3):
            for _step in range(2):
                (ask(), noted())
                (ask(), inside(), ask(), noted())
        found = [*log.seen, *log.entries]
        log.seen.clear()
        log.entries.clear()
        return found

    def on_stop(frame: types.FrameType) -> types.FrameType | None:
        stops.append(frame.f_lineno)
        return frame.f_back if frame.f_code is inside.__code__ and len(stops) % 3 == 0 else None

    ask: Callable[[], object] = object
    undisturbed = run()
    stops: list[int] = []
    present = sys.gettrace()
    sys.settrace(None)
    stopper = Stopper(lambda code: code in (inside.__code__, run.__code__), on_stop)
    log.reader = LoopReader()
    ask = stopper.request
    try:
        assert run() == undisturbed
    finally:
        stopper.cancel()
        sys.settrace(present)
    assert stops

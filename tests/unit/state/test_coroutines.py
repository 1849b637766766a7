"""Coroutines and what asyncio hangs on them as values: taken apart and made again where they stood."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dartvc.program.capture import Reader
from dartvc.program.frames import is_supported
from dartvc.program.generators import GeneratorCodec
from dartvc.program.sources import Sources
from dartvc.state.loading import LiveBuffers, Loading, load
from dartvc.state.saving import Refusal, Saving, save

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")


READER = Reader(Sources())


def again(value: object) -> Any:
    codec = GeneratorCodec(READER)
    saving = Saving({}, "__main__")
    saving.generators = codec
    saved = save({"value": value}, saving)
    loading = Loading({"__name__": "__main__"}, LiveBuffers(saved.buffers))
    loading.generators = codec
    return load(saved.stream, loading)["value"]


async def waits(future: asyncio.Future[int], log: list[str]) -> int:
    try:
        log.append("begins")
        return await future + 1
    except asyncio.CancelledError:
        log.append("cancelled")
        raise


async def chain(future: asyncio.Future[int], log: list[str]) -> int:
    first = [1, await waits(future, log), 3]
    log.append("goes on")
    return sum(first)


def waiting_loop() -> tuple[asyncio.AbstractEventLoop, asyncio.Task[int], asyncio.Future[int], list[str]]:
    loop = asyncio.SelectorEventLoop()
    future: asyncio.Future[int] = loop.create_future()
    log: list[str] = []
    task = loop.create_task(chain(future, log), name="waiter")
    loop.call_soon(loop.stop)
    loop.run_forever()
    return loop, task, future, log


def test_a_task_that_waits_goes_on_when_its_future_has_a_result() -> None:
    loop, task, future, log = waiting_loop()
    other_loop, other_task, other_future, other_log = again((loop, task, future, log))
    other_future.set_result(5)
    assert other_loop.run_until_complete(other_task) == 10
    assert (other_task.get_name(), other_log, log) == ("waiter", ["begins", "goes on"], ["begins"])
    future.set_result(1)
    assert loop.run_until_complete(task) == 6
    for each in (loop, other_loop):
        each.close()


def test_cancelling_reaches_the_innermost_coroutine() -> None:
    loop, task, _, _ = waiting_loop()
    other_loop, other_task, other_log = again((loop, task, waiting_log(task)))
    other_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        other_loop.run_until_complete(other_task)
    assert other_log == ["begins", "cancelled"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    for each in (loop, other_loop):
        each.close()


def waiting_log(task: asyncio.Task[int]) -> list[str]:
    coroutine: Any = task.get_coro()
    return list(coroutine.cr_frame.f_locals.values())[1]  # type: ignore[no-any-return]


def test_callbacks_of_a_future_are_called_in_their_order() -> None:
    loop, task, future, _ = waiting_loop()
    called: list[int] = []
    future.add_done_callback(lambda _: called.append(1))
    future.add_done_callback(lambda _: called.append(2))
    other_loop, other_future, other_called, other_task = again((loop, future, called, task))
    other_future.set_result(1)
    other_loop.run_until_complete(other_task)
    assert other_called == [1, 2]
    future.set_result(1)
    loop.run_until_complete(task)
    for each in (loop, other_loop):
        each.close()


def test_futures_that_are_over_are_over_in_the_same_way() -> None:
    loop = asyncio.SelectorEventLoop()
    done, failed, cancelled = loop.create_future(), loop.create_future(), loop.create_future()
    done.set_result([1])
    failed.set_exception(KeyError("x"))
    cancelled.cancel("why")
    other = again([done, failed, cancelled])
    assert other[0].result() == [1] and isinstance(other[1].exception(), KeyError) and other[2].cancelled()
    failed.exception()
    loop.close()
    other[0].get_loop().close()


def test_a_loop_with_a_socket_is_refused_and_its_clock_goes_on() -> None:
    loop = asyncio.SelectorEventLoop()
    before = loop.time() + 1000
    loop.time = lambda: before  # type: ignore[method-assign]
    other = again(loop)
    assert before <= other.time() < before + 100
    other.close()
    reading, writing = socket.socketpair()
    with reading, writing:
        loop.add_reader(reading, print)
        with pytest.raises(Refusal, match="sockets or pipes"):
            again(loop)
        loop.remove_reader(reading)
    loop.close()


def test_context_variables_keep_their_default_and_pairs_in_progress_their_last_item() -> None:
    variable = contextvars.ContextVar("variable", default=(7,))
    assert again(variable).get() == (7,)
    pairs = itertools.pairwise("abcd")
    next(pairs)
    assert list(again(pairs)) == list(pairs) == [("b", "c"), ("c", "d")]


def test_the_programs_own_ways_of_making_classes_do_not_run_at_load() -> None:
    hooked: list[str] = []
    names: dict[str, Any] = {"hooked": hooked, "__name__": "__main__"}
    exec(
        "class Meta(type):\n    def __new__(m, n, b, d):\n        hooked.append(n)\n        return super().__new__(m, n, b, d)\n"
        "class Base(metaclass=Meta):\n    def __init_subclass__(cls):\n        hooked.append('sub ' + cls.__name__)\n"
        "class Leaf(Base):\n    x = 1\n",
        names,
    )
    saved = save({name: names[name] for name in ("Meta", "Base", "Leaf")}, Saving(names, "__main__"))
    loaded: Any = load(saved.stream, Loading(names, LiveBuffers(saved.buffers)))
    assert hooked == ["Base", "Leaf", "sub Leaf"] and loaded["Leaf"].x == 1 and type(loaded["Leaf"]) is loaded["Meta"]
    assert "__init_subclass__" in vars(loaded["Base"])


class Door:
    async def __aenter__(self) -> int:
        await asyncio.sleep(0)
        return 1

    async def __aexit__(self, *details: object) -> None:
        await asyncio.sleep(0)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def walk(start: int, log: list[object]) -> int:
    async with Door() as door:
        log.append(("in", start, door))
        await asyncio.sleep(0)
    async for number in numbers(3):
        log.append(number)
    async with asyncio.Lock():
        values = [1, await asyncio.sleep(0, 5), start]
    total = 0
    for number in range(2):
        async with Door():
            total += number + await asyncio.sleep(0, 2) * start
        log.append("after")
    return sum(values) + total


async def walks(log: list[object]) -> object:
    started = [asyncio.create_task(walk(start, log)) for start in (1, 2)]
    try:
        async with asyncio.timeout(100_000):
            totals = await asyncio.gather(*started)
    finally:
        log.append("out")
    queue: asyncio.Queue[int] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        got = group.create_task(queue.get())
        group.create_task(queue.put(4))
    return totals, got.result()


def after_passes(count: int) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[object], list[object]]:
    loop, log = asyncio.SelectorEventLoop(), []  # type: ignore[var-annotated]
    task = loop.create_task(walks(log))
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()
    return loop, task, log


def test_tasks_go_on_from_between_any_two_passes_of_the_loop() -> None:
    passes = 0
    while True:
        loop, task, log = after_passes(passes)
        if task.done():
            break
        other_loop, other_task, other_log = again((loop, task, log))
        result = other_loop.run_until_complete(other_task)
        assert (loop.run_until_complete(task), log) == (result, other_log), passes
        loop.close()
        other_loop.close()
        passes += 1
    loop.close()
    assert passes > 15


class Gate:
    def __init__(self, name: str, log: list[object], *, swallows: bool = False) -> None:
        self.name, self.log, self.swallows = name, log, swallows

    async def __aenter__(self) -> str:
        self.log.append("enters " + self.name)
        await asyncio.sleep(0)
        return self.name.upper()

    async def __aexit__(self, kind: object, *details: object) -> bool:
        self.log.append(f"leaves {self.name} {kind}")
        await asyncio.sleep(0)
        self.log.append("left " + self.name)
        return self.swallows


async def passes_gates(log: list[object]) -> list[object]:
    for turn in range(2):
        async with Gate("a", log) as a, Gate("b", log), Gate("c", log) as c:
            log.append((turn, a, c))
            await asyncio.sleep(0)
        log.append("between")
        async with Gate("d", log, swallows=True) as d, Gate("e", log) as e:
            await asyncio.sleep(0)
            if turn:
                raise KeyError(d + e)
    async with Gate("f", log), Gate("g", log):
        log.append("end")
    return log


def test_a_task_goes_on_in_a_block_of_several_items_from_wherever_it_waits() -> None:
    passes, refused = 0, []
    while True:
        loop, log = asyncio.SelectorEventLoop(), []  # type: ignore[var-annotated]
        task = loop.create_task(passes_gates(log))
        for _ in range(passes):
            loop.call_soon(loop.stop)
            loop.run_forever()
        if task.done():
            loop.close()
            break
        try:
            other_loop, other_task = again((loop, task))
        except Refusal as refusal:
            refused.append(refusal.reason)
        else:
            other = other_loop.run_until_complete(other_task)
            other_loop.close()
            assert loop.run_until_complete(task) == other, passes
        loop.run_until_complete(task)
        loop.close()
        passes += 1
    assert passes > 24 and len(refused) == 2, refused  # the exits of e and d that hear of the exception


def test_how_numpy_treats_errors_belongs_to_a_task_and_comes_back() -> None:
    numpy = pytest.importorskip("numpy")
    loop, task, future, log = waiting_loop()
    context = contextvars.copy_context()
    context.run(numpy.seterr, divide="ignore", over="raise")
    other = again((loop, task, future, log, context))[-1]
    assert other.run(numpy.geterr) == context.run(numpy.geterr) and numpy.geterr()["divide"] == "warn"


def test_a_future_that_waits_is_refused_outside_of_a_program_that_is_stored_with_it() -> None:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    with pytest.raises(Refusal, match="belongs to this process"):
        save({"future": future}, Saving({}, "__main__"))
    future.set_result(1)
    assert save({"future": future}, Saving({}, "__main__")).stream
    loop.close()

"""Unmodified programs of coroutines: killed inside them, resumed inside them. They kill themselves at chosen places, so that nothing depends on timing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

QUEUE = """
import asyncio, random
from helper import commit_and_die
random.seed(4)
async def producer(queue, count):
    for number in range(count):
        await queue.put((number, random.random()))
        if number % 3 == 0:
            await asyncio.sleep(0)
    await queue.put(None)
async def consumer(name, queue, out):
    while True:
        item = await queue.get()
        if item is None:
            await queue.put(None)
            return name
        out.append((name, item[0] * item[1]))
        if len(out) == WHERE:
            commit_and_die()
        queue.task_done()
async def main():
    queue, out = asyncio.Queue(3), []
    made = asyncio.create_task(producer(queue, 30), name="producer")
    names = await asyncio.gather(*(consumer(name, queue, out) for name in "abc"))
    await made
    print(names, made.get_name(), len(out), sum(value for _, value in out))
    return out
print(asyncio.run(main())[-3:])
"""

TRAINING = """
import asyncio, random
from helper import commit_and_die
random.seed(4)
ticks = 0
async def ticker(stop):
    global ticks
    try:
        while not stop.is_set():
            await asyncio.sleep(0)
            ticks += 1
    finally:
        print("ticker ends", flush=True)
async def load(epoch):
    async with lock:
        await asyncio.sleep(0)
        return [random.random() for _ in range(epoch + 2)]
async def main():
    global lock
    lock, stop, losses = asyncio.Lock(), asyncio.Event(), []
    background = asyncio.create_task(ticker(stop))
    try:
        for epoch in range(6):
            total = 0.0
            for value in await load(epoch):
                total += value * 2
                if epoch == 3 and len(losses) == 3 and total > 2:
                    losses.append(0.0)
                    commit_and_die()
            losses.append(total + sum(await load(epoch)) * 2)
            print("epoch", epoch, round(losses[-1], 6), ticks, flush=True)
    finally:
        stop.set()
    await background
    return losses
print(sum(asyncio.run(main())), ticks)
"""

RATE = """
import asyncio
from helper import commit_and_die
async def fetch(number):
    async with limit:
        log.append(number)
        await asyncio.sleep(0.001)
        if number == 7:
            commit_and_die()
        return number * number
async def main():
    global limit, log
    limit, log = asyncio.Semaphore(3), []
    values = await asyncio.gather(*(fetch(number) for number in range(12)))
    async with asyncio.TaskGroup() as group:
        more = [group.create_task(fetch(number)) for number in range(20, 26)]
    async with asyncio.timeout(100_000):
        values += [await asyncio.wait_for(task, 100_000) for task in more]
    print(values, log)
asyncio.run(main())
"""

STREAMS = """
import asyncio, contextlib
from helper import commit_and_die
class Countdown:
    def __init__(self, count):
        self.count = count
    def __aiter__(self):
        return self
    async def __anext__(self):
        if not self.count:
            raise StopAsyncIteration
        self.count -= 1
        await asyncio.sleep(0)
        if self.count == 2 and stage == "iterator":
            commit_and_die()
        return self.count
async def numbers(count):
    try:
        for number in range(count):
            await asyncio.sleep(0)
            if number == 2 and stage == "generator":
                commit_and_die()
            yield number
    finally:
        print("generator over", flush=True)
@contextlib.asynccontextmanager
async def opened(name):
    await asyncio.sleep(0)
    if stage == "enter":
        commit_and_die()
    try:
        yield name
    finally:
        await asyncio.sleep(0)
class Door:
    async def __aenter__(self):
        return self
    async def __aexit__(self, *details):
        await asyncio.sleep(0)
        if stage == "exit":
            commit_and_die()
        print("closed", *details)
async def pairs(count):
    async for number in numbers(count):
        yield number, number * number
async def main():
    total = 0
    async for number in Countdown(5):
        total += number
    else:
        print("counted", total)
    async for one, square in pairs(5):
        if one == 1:
            continue
        total += square + await value(one) * 2
    async with opened("file") as name:
        print(name)
        if stage == "body":
            commit_and_die()
    for turn in range(2):
        async with Door() as door:
            if turn == 1 and stage == "exit":
                break
            total += turn
        print("after the door")
    suspended = pairs(3)
    print(await anext(suspended))
    if stage == "suspended":
        commit_and_die()
    print([pair async for pair in suspended], total)
async def value(number):
    await asyncio.sleep(0)
    return number
stage = "STAGE"
asyncio.run(main())
"""

LOOPS = """
import asyncio, contextvars
from helper import commit_and_die
user = contextvars.ContextVar("user", default="nobody")
seen = []
def tick(left):
    seen.append((left, user.get()))
    if left == 3:
        commit_and_die()
    if left:
        loop.call_later(0.001, tick, left - 1)
    else:
        done.set_result(len(seen))
async def named(name):
    user.set(name)
    await asyncio.sleep(0)
    return user.get()
loop = asyncio.new_event_loop()
done = loop.create_future()
loop.call_soon(tick, 6)
print(loop.run_until_complete(done), seen, user.get())
loop.close()
with asyncio.Runner() as runner:
    print(runner.run(named("first")))
    again = asyncio.gather
    async def both():
        return await again(named("second"), named("third"))
    print(runner.run(both()), user.get())
"""


def survives(tmp_path: Path, text: str) -> None:
    """Asserts that a program which is killed where it says goes on there, and prints what it prints undisturbed."""
    helper = COMMIT.replace("dartvc.session().flush()", "dartvc.session().flush()\n    os.environ['TEST_PLAIN'] = '1'")
    folders = [tmp_path / name for name in ("plain", "killed")]
    for folder in folders:
        folder.mkdir()
        (folder / "s.py").write_text(text)
        (folder / "helper.py").write_text(helper)
    os.environ["TEST_PLAIN"] = "1"
    try:
        plain = command("run", "s.py", cwd=folders[0], check=True)
    finally:
        del os.environ["TEST_PLAIN"]
    killed = command("run", "s.py", cwd=folders[1], die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    resumed = command("resume", cwd=folders[1])
    assert resumed.returncode == 0, resumed.stderr
    assert "lost" in killed.stdout and "begun again" not in resumed.stderr
    assert killed.stdout.replace("lost\n", "") + resumed.stdout == plain.stdout, resumed.stderr


@pytest.mark.parametrize("where", [1, 7, 20])
def test_producers_and_consumers_of_a_queue_go_on_where_each_of_them_stood(tmp_path: Path, where: int) -> None:
    survives(tmp_path, QUEUE.replace("WHERE", str(where)))


def test_a_training_loop_goes_on_beside_its_background_task(tmp_path: Path) -> None:
    survives(tmp_path, TRAINING)


def test_limited_requests_task_groups_and_timeouts_go_on(tmp_path: Path) -> None:
    survives(tmp_path, RATE)


@pytest.mark.parametrize("stage", ["iterator", "generator", "enter", "body", "exit", "suspended"])
def test_asynchronous_iterators_generators_and_blocks_go_on_from_the_middle(tmp_path: Path, stage: str) -> None:
    survives(tmp_path, STREAMS.replace("STAGE", stage))


def test_callbacks_and_several_loops_go_on_in_their_contexts(tmp_path: Path) -> None:
    survives(tmp_path, LOOPS)


def test_a_loop_with_a_socket_is_no_safe_point_and_status_says_why(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import asyncio, os, signal\nasync def main():\n    server = await asyncio.start_server(print, '127.0.0.1', 0)\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n    for _ in range(3):\n        await asyncio.sleep(0)\nasyncio.run(main())\n"
    )
    done = command("run", "s.py", cwd=tmp_path)
    assert done.returncode == 0 and "the event loop has sockets or pipes open" in done.stderr
    assert "the event loop has sockets or pipes open" in command("status", cwd=tmp_path).stdout


def test_a_program_that_only_waits_is_committed_between_two_callbacks(tmp_path: Path) -> None:
    text = """
import asyncio
from helper import commit_and_die
def wake():
    commit_and_die()
    woken.set()
async def sleeper(seconds):
    await asyncio.sleep(seconds)
    await woken.wait()
    return seconds
async def main():
    global woken
    woken = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, wake)
    print(await asyncio.gather(sleeper(0.02), sleeper(0.001), return_exceptions=True))
asyncio.run(main())
"""
    survives(tmp_path, text)


def test_ctrl_c_inside_asyncio_run_ends_as_in_plain_python_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    text = """
import asyncio, os, signal
from helper import commit_and_die
async def ticker(name):
    try:
        while True:
            await asyncio.sleep(0)
    finally:
        print(name, "is over", flush=True)
async def main():
    tasks = [asyncio.create_task(ticker(name)) for name in "ab"]
    for number in range(6):
        await asyncio.sleep(0)
        if number == 3 and not os.path.exists("interrupted"):
            open("interrupted", "w").close()
            os.kill(os.getpid(), signal.SIGINT)
        print(number, flush=True)
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return "whole"
print(asyncio.run(main()))
"""
    runs = []
    for name in ("plain", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text("def commit_and_die():\n    pass\n")
        (tmp_path / name / "s.py").write_text(text)
        words = [sys.executable, "s.py"] if name == "plain" else [sys.executable, "-m", "dartvc", "run", "s.py"]
        runs.append(subprocess.run(words, cwd=tmp_path / name, capture_output=True, text=True, check=False, start_new_session=True))
    plain, under = runs
    assert plain.returncode == -signal.SIGINT and "KeyboardInterrupt" in plain.stderr
    assert under.returncode in (-signal.SIGINT, 128 + signal.SIGINT) and "KeyboardInterrupt" in under.stderr
    assert under.stdout.splitlines()[-2:] == plain.stdout.splitlines()[-2:] == ["a is over", "b is over"]
    resumed = command("resume", cwd=tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-3:] == ["a is over", "b is over", "whole"]
    assert [each for each in (under.stdout + resumed.stdout).split() if each.isdigit()][-2:] == ["4", "5"]


def test_context_variables_of_libraries_come_back_by_name_and_never_with_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "a_library.py").write_text(
        "from contextvars import ContextVar\nlevel = ContextVar('level')\nengine = ContextVar('engine', default=None)\n"
        "class Engine:\n    def __init__(self):\n        self.content = bytearray(range(256)) * 40_000\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")]))
    text = """
import asyncio, a_library
from contextvars import ContextVar
from helper import commit_and_die
mine = ContextVar("mine")
async def worker(number):
    a_library.level.set(number)
    a_library.engine.set(a_library.Engine())
    mine.set([number])
    await asyncio.sleep(0)
    if number == 1:
        commit_and_die()
    return a_library.level.get(), mine.get()
async def main():
    return await asyncio.gather(*(worker(number) for number in range(3)))
print(asyncio.run(main()))
"""
    survives(tmp_path, text)
    assert max(each.stat().st_size for each in tmp_path.rglob("*.pack")) < 2_000_000

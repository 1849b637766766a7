"""Where a coroutine stands while it awaits, and on what; the event loop's frames that lead to it.

A coroutine that awaits another holds it on its value stack, down to the one that awaits a future. So a chain of awaits is a chain of
ordinary positions, and the event loop's tasks are ordinary values (`dartvc.state.adapters.coroutines`).
"""

from __future__ import annotations

import ast
import dis
import gc
import inspect
import sys
import threading
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dartvc.program.flow import CodeFlow
from dartvc.program.places import NotResumable
from dartvc.program.standins import Paused
from dartvc.state.adapters.coroutines import why_loop_waits

if TYPE_CHECKING:
    from dartvc.program.capture import Reader

__all__ = [
    "AWAITING",
    "COROUTINES",
    "awaited_by",
    "awaiting_at",
    "enter_loop",
    "frame_of",
    "is_loop_pass",
    "is_loop_place",
    "leaves_normally",
    "run_module",
    "runs_module",
    "stepped_task",
    "why_not_at_loop",
]

COROUTINES = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
AWAITING = frozenset({"await", "aenter", "aexit", "anext"})
"""Kinds of frames that await: an expression, the entering or leaving of an ``async with``, the next item of an ``async for``."""
_OF_GET_AWAITABLE = {0: "await", 1: "aenter", 2: "aexit"}
_SWALLOWS = ("POP_TOP", "POP_EXCEPT", "POP_TOP", "POP_TOP")
_PASSED = frozenset({"NOP", "EXTENDED_ARG"})
_JUMPS = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"})
_TASK_STEP, _TASK_WAKEUP = "TaskStepMethWrapper", "task_wakeup"


def is_loop_pass(code: types.CodeType) -> bool:
    """Whether code is one pass of asyncio's event loop: between its callbacks every task is suspended."""
    return code.co_qualname == "BaseEventLoop._run_once" and code.co_filename.endswith("base_events.py")


def is_loop_place(frame: Any) -> bool:
    """Whether a captured frame runs an event loop of asyncio."""
    return bool(frame.module == "asyncio.base_events" and frame.qualname == "BaseEventLoop.run_forever")


def enter_loop(loop: Any) -> None:
    """Makes an event loop the one that this thread runs, as `run_forever` had done."""
    loop._thread_id = threading.get_ident()
    loop._set_coroutine_origin_tracking(loop._debug)
    sys.set_asyncgen_hooks(firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook)
    sys.modules["asyncio.events"]._set_running_loop(loop)


def run_module(code: types.CodeType, names: dict[str, Any]) -> None:
    """Runs a module's code; where that awaits outside of functions, as the one task of an event loop."""
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, names)
        return
    import asyncio

    asyncio.run(eval(code, names))


def runs_module(frame: types.FrameType) -> bool:
    """Whether a frame is that of `asyncio.run` which `run_module` has called, or which goes on in its place."""
    caller = frame.f_back
    is_run = frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "asyncio.runners"
    return is_run and caller is not None and str(caller.f_globals.get("__name__", "")).startswith("dartvc.")


def awaiting_at(flow: CodeFlow, instruction: dis.Instruction) -> tuple[str, dis.Instruction] | None:
    """Returns what kind of await (or ``yield from``) an instruction is part of, and its ``SEND``; None for any other."""
    index = flow.index_of(instruction)
    if instruction.opname == "RESUME":
        index -= 1
    if flow.instructions[index].opname == "YIELD_VALUE":
        index -= 1
    send = flow.instructions[index]
    if send.opname != "SEND" or index < 2:
        return None
    asking = flow.instructions[index - 2]
    if asking.opname == "GET_AWAITABLE":
        return _OF_GET_AWAITABLE[asking.arg or 0], send
    return ("anext" if asking.opname == "GET_ANEXT" else "yield from"), send


def leaves_normally(flow: CodeFlow, send: dis.Instruction, statement: ast.stmt) -> bool:
    """Whether the program goes on behind an ``async with`` block when its exit has been awaited: it was not left by a jump out of it.

    Such a jump awaits the exit, too, and then goes elsewhere. Where the block's end leads is told by what follows a swallowed exception.
    """
    left = flow.index_at(send.argval)
    left += flow.instructions[left].opname == "END_SEND"
    if flow.instructions[left].opname != "POP_TOP":
        return False
    handlers = [each for each in flow.instructions if each.opname == "WITH_EXCEPT_START" and flow.owner(each) is statement]
    return any(_destination(flow, left + 1) == _destination_of_swallowed(flow, each) for each in handlers)


def _destination_of_swallowed(flow: CodeFlow, handler: dis.Instruction) -> object:
    """Returns where the program goes on when the exit of an item of the block has swallowed an exception; None where that cannot be told."""
    index = flow.index_of(handler)
    while "IF_TRUE" not in flow.instructions[index].opname:
        index += 1
    swallowed = flow.index_at(flow.instructions[index].argval)
    if tuple(each.opname for each in flow.instructions[swallowed : swallowed + 4]) != _SWALLOWS:
        return None
    return _destination(flow, swallowed + 4)


def _destination(flow: CodeFlow, index: int) -> object:
    while flow.instructions[index].opname in _PASSED or flow.instructions[index].opname in _JUMPS:
        instruction = flow.instructions[index]
        index = index + 1 if instruction.opname in _PASSED else flow.index_at(instruction.argval)
    following = flow.instructions[index : index + 2]
    if following[0].opname == "RETURN_CONST" or following[-1].opname == "RETURN_VALUE":
        return [(each.opname, each.argval) for each in following if each.opname.startswith(("RETURN", "LOAD_CONST"))]
    return index


def frame_of(suspended: Any) -> types.FrameType | None:
    """Returns the frame of a coroutine, a generator or an asynchronous generator; None when it is over."""
    for name in ("cr_frame", "ag_frame", "gi_frame"):
        if hasattr(suspended, name):
            frame: types.FrameType | None = getattr(suspended, name)
            return frame
    return None


def awaited_by(receiver: Any) -> tuple[str, Any]:
    """Returns what lies on the stack of one who awaits, as (kind, what it is made again from).

    Raises:
        NotResumable: it is nothing that can be awaited again.
    """
    kind = type(receiver)
    if kind is types.CoroutineType:
        return "coroutine", receiver
    if kind is Paused:
        return "future", receiver.future
    if kind is types.GeneratorType:
        return "generator", receiver
    referents = gc.get_referents(receiver)
    if kind.__name__ == "FutureIter":
        for each in referents:
            if hasattr(type(each), "_asyncio_future_blocking"):
                return "future", each
    if kind.__name__ == "async_generator_asend":
        for each in referents:
            if type(each) is types.AsyncGeneratorType:
                return "asend", each
    raise NotResumable(f"it awaits an object of type {kind.__qualname__}")


def stepped_task(handle: Any) -> Any:
    """Returns the task that a callback of the event loop takes a step of, None when it calls something else."""
    callback = handle._callback
    if type(callback).__name__ == _TASK_STEP:
        found = [each for each in gc.get_referents(callback) if hasattr(type(each), "get_coro")]
        return found[0] if found else None
    if getattr(callback, "__name__", "") == _TASK_WAKEUP:
        return callback.__self__
    return None


def why_not_at_loop(frames: Iterable[types.FrameType], reader: Reader) -> str:
    """Returns why a program cannot be captured now because of an event loop that it runs; an empty string when nothing is in the way."""
    for frame in frames:
        if frame.f_code.co_qualname == "BaseEventLoop.run_forever" and frame.f_globals.get("__name__") == "asyncio.base_events":
            loop = frame.f_locals["self"]
            reason = why_loop_waits(loop) or _why_not_tasks(sys.modules["asyncio.tasks"].all_tasks(loop), reader)
            if reason:
                return reason
    return ""


def _why_not_tasks(tasks: Iterable[Any], reader: Reader) -> str:
    reader.release()
    for task in tasks:
        coroutine = task.get_coro()
        try:
            while coroutine is not None and not getattr(coroutine, "cr_running", False):
                frame = reader.capture_suspended(coroutine)
                coroutine = frame.stack[-1] if frame.awaits not in ("", "future") else None
        except NotResumable as reason:
            return f"{task.get_name()} waits in {coroutine.__qualname__}: {reason}"
    return ""

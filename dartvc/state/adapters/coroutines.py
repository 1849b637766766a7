"""Coroutines, and what asyncio hangs on them: tasks, futures, callbacks, event loops.

An event loop is stored as what it has still to do: callbacks that are ready, timers, tasks with the coroutines that they step, futures that only
tasks wait for. What lies outside the process (a socket, a pipe, a thread at work) makes it impossible to store. A loop that is made again
has its clock go on where it stood, so that every deadline keeps its distance.

Objects of C cannot be given their state; they are led into it by asyncio's own ways, once the whole graph is there (`Revival`): a task takes
the one step that makes it wait for the future that it waited for.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar
from typing import Any

from dartvc.host.places import is_library_file
from dartvc.model.records import NamedTuple
from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS", "Revival", "why_loop_waits"]

_LOOP_STATE = (
    "_timer_cancelled_count", "_closed", "_stopping", "_ready", "_scheduled", "_debug", "_default_executor", "_exception_handler",
    "_current_handle", "_task_factory", "_asyncgens_shutdown_called", "_executor_shutdown_called", "slow_callback_duration",
)  # fmt: skip
_OWN_DESCRIPTORS = 1
"""The pipe by which a loop is woken."""
_HANDLE_STATE = ("_callback", "_args", "_cancelled", "_loop", "_source_traceback", "_repr", "_context", "_when", "_scheduled")
_DECIMAL = "decimal_context"
_PLAIN_ITEMS, _PLAIN_BYTES = 64, 4096
"""What is stored of a library's context variable: a setting, not an object of the library's."""
_NUMPY = "numpy.ufunc.extobj"
"""The name of the one variable of the standard library that only C can reach."""
_OF_SUBCLASSES = ("_children", "_cancel_requested")


# -- taking apart -------------------------------------------------------------------------------------------------------------


def _reduce_coroutine(coroutine: Any, saving: Any) -> Any:
    if getattr(coroutine, "cr_frame", None) is None and getattr(coroutine, "ag_frame", None) is None:
        return door("coroutine_over"), (type(coroutine) is types.AsyncGeneratorType,)
    if saving.generators is None:
        raise saving.refuse(coroutine, "a coroutine cannot be stored here")
    try:
        place, cells, frame = saving.generators.take_apart_coroutine(coroutine)
        saving.function_cells.update(id(cell) for cell in cells.values())
        stack = list(frame.stack)
        if frame.awaits == "generator":
            stack[-1] = saving.keep(saving.generators.take_apart(stack[-1]))
    except ValueError as error:
        raise saving.refuse(coroutine, str(error)) from None
    contents = [(cell, _content(cell)) for cell in cells.values() if _content(cell) is not _EMPTY]
    held = (None, contents, None) if place["is_running"] else (frame.values, contents, stack)
    return door("coroutine"), saving.keep((place, cells)), saving.keep(held), None, None, door("coroutine_state")


_EMPTY = object()


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _reduce_future(future: Any, saving: Any) -> Any:
    kind = type(future)
    is_task = hasattr(kind, "get_coro")
    if (is_task and kind.__module__ != "_asyncio") or future._source_traceback is not None:
        raise saving.refuse(future, "a task of a class of its own, or of a loop in debug mode, cannot be stored")
    if future._state == "PENDING" and saving.generators is None:  # outside of a program whose frames are stored with it
        raise saving.refuse(future, "what would complete it belongs to this process", "await it first")
    state: dict[str, Any] = {"loop": future.get_loop() if future._loop is not None else None, "state": future._state}
    if future._state == "PENDING":
        state["callbacks"] = list(future._callbacks or ())
    elif future._state == "CANCELLED":
        state["message"] = future._cancel_message
    elif future._exception is not None:
        state.update(exception=future._exception, is_told=not future._log_traceback)
    else:
        state["result"] = future._result
    state["attributes"] = {name: getattr(future, name) for name in _OF_SUBCLASSES if hasattr(future, name)}
    if is_task:
        if future.cancelling():
            raise saving.refuse(future, "the task is being cancelled", "it is stored when that is done")
        context = next((each for each in gc.get_referents(future) if type(each) is Context), None)
        state.update(coroutine=future.get_coro(), name=future.get_name(), context=context, waits_for=future._fut_waiter)
        state["is_missed"] = future._log_destroy_pending
    return door("future"), (kind,), saving.keep(state), None, None, door("future_state")


def _reduce_step(step: Any, saving: Any) -> Any:
    task, *rest = (each for each in gc.get_referents(step) if not isinstance(each, type))
    if rest:
        raise saving.refuse(step, "an exception is on its way into a task")
    return door("task_step"), (task,)


def _reduce_builtin(method: Any, saving: Any) -> Any:
    """The way a future wakes a task is a method that has no name to look up; all others are left to pickle."""
    task: Any = getattr(method, "__self__", None)
    if method.__name__ != "task_wakeup" or not hasattr(type(task), "get_coro"):
        return saving.by_name(method)
    return door("task_step" if task.get_coro().cr_running else "task_wakeup"), (task,)


def _reduce_handle(handle: Any, saving: Any) -> Any:
    state = {name: getattr(handle, name) for name in _HANDLE_STATE if hasattr(handle, name)}
    return door("handle"), (type(handle),), saving.keep(state), None, None, door("handle_state")


def _reduce_context(context: Any, saving: Any) -> Any:
    items: list[tuple[Any, Any]] = []
    for variable, value in context.items():
        if variable.name == _NUMPY:  # a pointer; what it stands for can be asked
            items.append((_NUMPY, context.run(sys.modules["numpy"].geterr)))
        elif variable.name == _DECIMAL:
            items.append((_DECIMAL, value))
        elif (home := _library_homes(saving).get(id(variable))) is None:
            items.append((variable, value))
        elif _is_plain(value):
            items.append((home, value))
        else:
            saving.notes.append(f"{'.'.join(home)} is a library's, its value in a task's context was not stored")
    return door("context"), (), saving.keep(items), None, None, door("context_state")


def _library_homes(saving: Any) -> dict[int, tuple[str, str]]:
    """Returns where libraries have their context variables, by identity: stored by name, for a copy would be no variable of theirs."""
    known: dict[int, tuple[str, str]] | None = saving.regions.get("context variables")
    if known is not None:
        return known
    homes: dict[int, tuple[str, str]] = {}
    for name, module in list(sys.modules.items()):
        own = vars(module) if isinstance(module, types.ModuleType) else {}
        if name.startswith("dartvc.") or is_library_file(str(own.get("__file__") or "")):
            homes.update({id(value): (name, key) for key, value in list(own.items()) if type(value) is ContextVar})
    saving.regions["context variables"] = homes
    return homes


def _is_plain(value: object, depth: int = 3) -> bool:
    if isinstance(value, tuple | frozenset):
        return depth > 0 and len(value) <= _PLAIN_ITEMS and all(_is_plain(each, depth - 1) for each in value)
    return type(value) in (bool, int, float, complex, type(None)) or (type(value) in (str, bytes) and len(value) <= _PLAIN_BYTES)  # type: ignore[arg-type]


def _reduce_hooks(hooks: Any, saving: Any) -> Any:
    return tuple, (tuple(hooks),)


def why_loop_waits(loop: Any) -> str:
    """Returns what of an event loop lies outside the process; an empty string when it can be stored."""
    if f"{type(loop).__module__}.{type(loop).__qualname__}" != "asyncio.unix_events._UnixSelectorEventLoop":
        return f"an event loop of type {type(loop).__qualname__} cannot be stored"
    if loop._closed:
        return ""
    if len(loop._selector.get_map()) > _OWN_DESCRIPTORS:
        return "the event loop has sockets or pipes open"
    if loop._signal_handlers:
        return "the event loop handles signals"
    pool = loop._default_executor
    if pool is not None and (not pool._work_queue.empty() or pool._idle_semaphore._value < len(pool._threads)):
        return "the event loop has threads at work"
    return ""


def _reduce_loop(loop: Any, saving: Any) -> Any:
    reason = why_loop_waits(loop)
    if reason:
        raise saving.refuse(loop, reason)
    state = {name: getattr(loop, name) for name in _LOOP_STATE if hasattr(loop, name)}
    state["asyncgens"] = list(loop._asyncgens)
    return door("event_loop"), (0.0 if loop._closed else loop.time(),), saving.keep(state), None, None, door("event_loop_state")


# -- making again -------------------------------------------------------------------------------------------------------------


class _Callback(NamedTuple):
    """Stands for the way into a task until the task has one; ``is_wakeup``: that of a future that it waits for."""

    task: Any
    is_wakeup: bool


class _Clock:
    """Shows the time of an event loop, which goes on where it stood."""

    def __init__(self, offset: float, read: Callable[[], float]) -> None:
        self.offset, self.read = offset, read

    def __call__(self) -> float:
        return self.read() + self.offset


class Revival:
    """What one load has made of coroutines and tasks, led into its state when everything is loaded."""

    def __init__(self) -> None:
        self.coroutines: list[tuple[Any, dict[str, Any], list[Any]]] = []
        self.futures: list[tuple[Any, dict[str, Any]]] = []
        self.handles: list[Any] = []
        self.loops: list[Any] = []
        self._steps: dict[int, Any] = {}
        self._wakeups: dict[int, Any] = {}
        self._places: dict[int, tuple[Any, Any]] = {}

    def finish(self, loading: Any) -> None:
        """Leads everything into its state."""
        if not (self.coroutines or self.futures or self.handles):
            return
        sys: Any = loading.library("sys")
        hooks = sys.get_asyncgen_hooks()
        finalizer = self.loops[0]._asyncgen_finalizer_hook if self.loops else None
        sys.set_asyncgen_hooks(firstiter=None, finalizer=finalizer)
        try:
            awaited = self._fill(loading)
            tasks = [(future, state) for future, state in self.futures if "coroutine" in state]
            for future, state in self.futures:
                self._begin(loading, future, state)
            for task, state in tasks:
                awaited.add(id(state["coroutine"]))
                if state["state"] == "PENDING" and self._is_suspended(state["coroutine"]):
                    self._pause(task, state)
            for coroutine, _, _ in self.coroutines:
                if id(coroutine) not in awaited and self._is_suspended(coroutine):
                    _pause_alone(coroutine)
        finally:
            sys.set_asyncgen_hooks(*hooks)
        self._hang_callbacks()

    def made(self, coroutine: Any, place: Any, cells: Any) -> Any:
        """Takes note of the place and the cells that a coroutine was made for."""
        self._places[id(coroutine)] = place, cells
        return coroutine

    def _is_suspended(self, coroutine: Any) -> bool:
        place, _ = self._places.get(id(coroutine), (None, None))
        return place is not None and not place["is_running"] and place["kind"] != "fresh"

    def _fill(self, loading: Any) -> set[int]:
        """Gives coroutines what they held; returns the ids of those that others await."""
        awaited = set()
        for coroutine, values, stack in self.coroutines:
            place, cells = self._places[id(coroutine)]
            if place.get("awaits") == "generator":
                stack[-1] = loading.generators.make_awaited(loading.namespace, stack[-1])
            elif place.get("awaits"):
                awaited.add(id(stack[-1]))
            loading.generators.fill(coroutine, place, values, cells, stack)
        return awaited

    def _begin(self, loading: Any, future: Any, state: dict[str, Any]) -> None:
        """Initializes a future, and ends it where it had ended."""
        plain: Any = loading.library("_asyncio").Future
        loop = state["loop"]
        if "coroutine" in state:
            caught: list[Any] = []
            with _Instead(loop, caught):
                named = {"loop": loop, "name": state["name"], "context": state["context"]}
                type(future).__init__(future, state["coroutine"], **named)
            self._steps[id(future)] = caught[0][0]
            if not state["is_missed"]:
                future._log_destroy_pending = False
        else:
            plain.__init__(future, loop=loop)
        for name, value in state["attributes"].items():
            setattr(future, name, value)
        if state["state"] == "CANCELLED":
            plain.cancel(future, state["message"])
        elif "exception" in state:
            plain.set_exception(future, state["exception"])
            if state["is_told"]:
                future._log_traceback = False
        elif "result" in state:
            plain.set_result(future, state["result"])

    def _pause(self, task: Any, state: dict[str, Any]) -> None:
        """Lets a task take the step that ends where it stood; what it asks of the loop then is noted, not done."""
        caught: list[Any] = []
        with _Instead(state["loop"], caught):
            self._steps[id(task)]()
        waiter = task._fut_waiter
        if waiter is None:
            return
        woken = [callback for callback, arguments in caught if arguments] or [each for each, _ in waiter._callbacks if _wakes(each, task)]
        self._wakeups[id(task)] = woken[0]

    def _hang_callbacks(self) -> None:
        for future, state in self.futures:
            if "callbacks" in state:
                for callback, _ in list(future._callbacks or ()):
                    future.remove_done_callback(callback)
                for callback, context in state["callbacks"]:
                    future.add_done_callback(self._resolved(callback), context=context)
        for handle in self.handles:
            handle._callback = self._resolved(handle._callback)

    def _resolved(self, callback: Any) -> Any:
        if not isinstance(callback, _Callback):
            return callback
        task = id(callback.task)
        return self._wakeups[task] if callback.is_wakeup and task in self._wakeups else self._steps[task]


class _Instead:
    """While it lasts, what is asked of a loop is noted."""

    def __init__(self, loop: Any, caught: list[Any]) -> None:
        self._loop = loop
        self._caught = caught

    def __enter__(self) -> None:
        self._loop.call_soon = lambda callback, *arguments, context=None: self._caught.append((callback, arguments))

    def __exit__(self, *details: object) -> None:
        del self._loop.call_soon


def _wakes(callback: Any, task: Any) -> bool:
    return getattr(callback, "__name__", "") == "task_wakeup" and callback.__self__ is task


def _pause_alone(coroutine: Any) -> None:
    """Lets a coroutine that no task steps go to where it stood."""
    try:
        (coroutine.__anext__() if type(coroutine) is types.AsyncGeneratorType else coroutine).send(None)
    except StopIteration:
        return  # an asynchronous generator has come to its yield


def _build_coroutine(loading: Any, place: Any, cells: Any) -> Any:
    if loading.generators is None:
        raise loading.refuse("a coroutine can only be made again in a session")
    try:
        return loading.revival.made(loading.generators.shell(loading.namespace, place, cells), place, cells)
    except ValueError as error:
        raise loading.refuse(str(error)) from None


def _set_coroutine_state(loading: Any, coroutine: Any, state: tuple[Any, Any, Any]) -> None:
    values, contents, stack = state
    for cell, value in contents:
        cell.cell_contents = value
    if stack is not None:
        loading.revival.coroutines.append((coroutine, values, stack))


def _build_over(loading: Any, is_generator: bool) -> Any:
    async def coroutine() -> None:
        pass

    async def generator() -> Any:
        yield

    if is_generator:
        return generator()
    over = coroutine()
    over.close()
    return over


def _build_bare(loading: Any, kind: Any) -> Any:
    return kind.__new__(kind)


def _set_future_state(loading: Any, future: Any, state: dict[str, Any]) -> None:
    loading.revival.futures.append((future, state))


def _set_handle_state(loading: Any, handle: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(handle, name, value)
    loading.revival.handles.append(handle)


def _set_context_state(loading: Any, context: Any, items: list[tuple[Any, Any]]) -> None:
    for variable, value in items:
        if variable == _NUMPY:
            context.run(loading.library("numpy").seterr, **value)
        elif isinstance(variable, tuple):
            found = getattr(loading.library(variable[0]), variable[1], None)
            context.run(found.set, value) if type(found) is ContextVar else loading.note(f"there is no {'.'.join(variable)} here")
        else:
            context.run(loading.library("decimal").setcontext if variable == _DECIMAL else variable.set, value)


def _build_loop(loading: Any, time: float) -> Any:
    loop = loading.library("asyncio").SelectorEventLoop()
    read = type(loop).time.__get__(loop)
    loop.time = _Clock(time - read(), read)
    loading.revival.loops.append(loop)
    return loop


def _set_loop_state(loading: Any, loop: Any, state: dict[str, Any]) -> None:
    asyncgens = state.pop("asyncgens")
    if state["_closed"]:
        loop.close()
    vars(loop).update(state)
    loop._asyncgens.update(asyncgens)


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "builtins.coroutine": _reduce_coroutine,
    "builtins.async_generator": _reduce_coroutine,
    "builtins.builtin_function_or_method": _reduce_builtin,
    "builtins.asyncgen_hooks": _reduce_hooks,
    "_asyncio.Future": _reduce_future,
    "builtins.TaskStepMethWrapper": _reduce_step,
    "_asyncio.TaskStepMethWrapper": _reduce_step,
    "asyncio.events.Handle": _reduce_handle,
    "_contextvars.Context": _reduce_context,
    "asyncio.events.AbstractEventLoop": _reduce_loop,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "coroutine": _build_coroutine,
    "coroutine_state": _set_coroutine_state,
    "coroutine_over": _build_over,
    "future": _build_bare,
    "future_state": _set_future_state,
    "task_step": lambda loading, task: _Callback(task, False),
    "task_wakeup": lambda loading, task: _Callback(task, True),
    "handle": _build_bare,
    "handle_state": _set_handle_state,
    "context": lambda loading: Context(),
    "context_state": _set_context_state,
    "event_loop": _build_loop,
    "event_loop_state": _set_loop_state,
}


def _children_of_loop(loop: Any) -> Iterable[object]:
    return () if why_loop_waits(loop) else [vars(loop)[name] for name in _LOOP_STATE if name in vars(loop)]


def _children_of_coroutine(coroutine: Any) -> Iterable[object]:
    """A running coroutine's variables are stored with the frames of the program, except for cells, which functions share."""
    referents = gc.get_referents(coroutine)
    return [each for each in referents if type(each) is types.CellType] if getattr(coroutine, "cr_running", False) else referents


CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {
    "asyncio.events.AbstractEventLoop": _children_of_loop,
    "builtins.coroutine": _children_of_coroutine,
}

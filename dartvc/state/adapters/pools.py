"""Pools of workers: an idle one is stored as the way to make it again, with as many workers, set up by the same initializer.

The processes of a pool are forked from the program at the first use after a restore: then the program is whole, and they see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "REDUCERS"]

_BUSY = "the pool of workers is at work"
_REMEDY = "commit when nothing is on its way"


def _reduce_threads(pool: Any, saving: Any) -> Any:
    if not pool._shutdown and (not pool._work_queue.empty() or pool._idle_semaphore._value < len(pool._threads)):
        raise saving.refuse(pool, _BUSY, _REMEDY)
    prefix = pool._thread_name_prefix
    facts = (pool._max_workers, prefix, *_initial(pool))
    return door("thread_pool"), (facts, pool._shutdown)


def _initial(pool: Any) -> tuple[Any, Any]:
    """Returns the initializer of a pool's workers and its arguments (since 3.14 they are hidden in a closure: none are known)."""
    return getattr(pool, "_initializer", None), getattr(pool, "_initargs", ())


def _reduce_processes(pool: Any, saving: Any) -> Any:
    if pool._pending_work_items:
        raise saving.refuse(pool, _BUSY, _REMEDY)
    facts = (pool._max_workers, pool._mp_context.get_start_method(), *_initial(pool), pool._max_tasks_per_child)
    return door("process_pool"), (facts, bool(pool._shutdown_thread))


def _reduce_multiprocessing(pool: Any, saving: Any) -> Any:
    if pool._cache:
        raise saving.refuse(pool, _BUSY, _REMEDY)
    facts = (pool._ctx.get_start_method(), pool._processes, pool._initializer, pool._initargs, pool._maxtasksperchild)
    return door("multiprocessing_pool"), (type(pool).__name__, facts, pool._state != "RUN")


def _build_threads(loading: Any, facts: tuple[Any, ...], is_over: bool) -> Any:
    pool = loading.library("concurrent.futures").ThreadPoolExecutor(*facts)
    if is_over:
        pool.shutdown()
    return pool


def _build_processes(loading: Any, facts: tuple[Any, ...], is_over: bool) -> Any:
    workers, method, initializer, arguments, tasks = facts
    context = loading.library("multiprocessing").get_context(method)
    kind = loading.library("concurrent.futures").ProcessPoolExecutor
    pool = kind(workers, context, initializer, arguments, max_tasks_per_child=tasks)
    if is_over:
        pool.shutdown()
    return pool


def _build_multiprocessing(loading: Any, kind: str, facts: tuple[Any, ...], is_over: bool) -> Any:
    method, processes, initializer, arguments, tasks = facts
    if kind == "ThreadPool":
        pool = loading.library("multiprocessing.pool").ThreadPool(processes, initializer, arguments)
        if is_over:
            pool.close()
        return pool
    context = loading.library("multiprocessing").get_context(method)
    return _asleep(loading.library("multiprocessing.pool").Pool, (processes, initializer, arguments, tasks, context), is_over)


def _asleep(kind: Any, arguments: tuple[Any, ...], is_over: bool) -> Any:
    """Returns a pool that starts its processes when anything of it is asked for."""

    def wake(pool: Any, name: str) -> Any:
        pool.__class__ = kind
        kind.__init__(pool, *arguments)
        if is_over:
            pool.close()
        return getattr(pool, name)

    methods: dict[str, Any] = {"__getattr__": wake, "__del__": lambda pool: None, "__module__": kind.__module__}
    sleeping: Any = type(kind.__name__, (kind,), methods)
    return sleeping.__new__(sleeping)


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "concurrent.futures.thread.ThreadPoolExecutor": _reduce_threads,
    "concurrent.futures.process.ProcessPoolExecutor": _reduce_processes,
    "multiprocessing.pool.Pool": _reduce_multiprocessing,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "thread_pool": _build_threads,
    "process_pool": _build_processes,
    "multiprocessing_pool": _build_multiprocessing,
}

"""torch.utils.data: iterators over a `DataLoader`, which torch itself refuses to pickle.

The iterator of a loader without workers is an ordinary object: a sampler's iterator (a suspended generator), a fetcher and counters. One
with workers cannot be read: what its processes drew from their random streams is theirs alone. So `watch_workers` takes note of the indices
that it sends them, and after a restore new workers, seeded as the old ones were, do the same work again, up to the batch that came last.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "REDUCERS", "watch_workers"]

_MODULE = "torch.utils.data.dataloader"
_SENT = "_dartvc_sent"
_LOADER_ATTRIBUTES = ("_dataset_kind", "_IterableDataset_len_called", "_auto_collation")
_COPIED = ("dataset", "drop_last", "num_workers", "timeout", "collate_fn", "persistent_workers", "prefetch_factor", "in_order", "worker_init_fn")


def watch_workers() -> None:
    """Lets iterators with workers take note of what they send; called before a worker begins."""
    kind = getattr(sys.modules.get(_MODULE), "_MultiProcessingDataLoaderIter", None)
    if kind is None or "_next_index" in vars(kind):
        return
    reset = kind._reset

    def noting_reset(self: Any, loader: Any, first_iter: bool = False) -> None:
        self.__dict__.setdefault(_SENT, []).append([])
        reset(self, loader, first_iter)

    def noting_next_index(self: Any) -> Any:
        index = next(self._sampler_iter)
        self.__dict__[_SENT][-1].append(index)
        return index

    kind._reset, kind._next_index = noting_reset, noting_next_index


def _reduce_iterator(iterator: Any, saving: Any) -> Any:
    return door("torch_loader_iterator"), (type(iterator),), saving.keep(dict(vars(iterator))), None, None, door("torch_loader_iterator_state")


def _set_iterator_state(loading: Any, iterator: Any, state: dict[str, Any]) -> None:
    vars(iterator).update(state)


def _reduce_workers(iterator: Any, saving: Any) -> Any:
    state = dict(vars(iterator))
    if state.get("_asleep"):
        return door("torch_workers"), (), saving.keep(state), None, None, door("torch_workers_state")
    if not state.get(_SENT) or state["_pin_memory"] or not state["_in_order"] or state["_shared_seed"] is not None:
        raise saving.refuse(iterator, "what the workers of this DataLoader were sent is not known", "commit between two epochs")
    kept = {name: state[name] for name in (*_LOADER_ATTRIBUTES, *(f"_{name}" for name in _COPIED))}
    kept.update({name: state[name] for name in ("_index_sampler", "_sampler_iter", "_base_seed", "_num_yielded", _SENT)})
    kept.update(_asleep=True, _method=getattr(type(state["_workers"][0]), "_start_method", None), _is_over=state["_shutdown"])
    return door("torch_workers"), (), saving.keep(kept), None, None, door("torch_workers_state")


def _build_workers(loading: Any) -> Any:
    """Makes an iterator that starts its workers when it is first used: then the program is whole, and they see it."""
    kind = loading.library(_MODULE)._MultiProcessingDataLoaderIter

    def woken(method: str) -> Callable[..., Any]:
        def wake(iterator: Any, *arguments: Any, **named: Any) -> Any:
            _wake(iterator, kind)
            return getattr(iterator, method)(*arguments, **named)

        return wake

    methods: dict[str, Any] = {"__next__": woken("__next__"), "_reset": woken("_reset"), "__del__": lambda iterator: None}
    sleeping: Any = type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__})
    return sleeping.__new__(sleeping)


class _Indices:
    """Stands for the sampler: sends each epoch's indices again, and goes on with the sampler's own iterator in the last one."""

    def __init__(self, sent: list[list[Any]], rest: Iterator[Any]) -> None:
        self.epoch = 0
        self._sent = sent
        self._rest = rest

    def __iter__(self) -> Iterator[Any]:
        sent = self._sent[self.epoch]
        return itertools.chain(sent, self._rest) if self.epoch == len(self._sent) - 1 else iter(sent)


def _wake(iterator: Any, kind: Any) -> None:
    """Starts new workers and lets them do again what the old ones had done."""
    watch_workers()
    torch = sys.modules["torch"]
    state = dict(vars(iterator))
    seed, sent, yielded = state["_base_seed"], state[_SENT], state["_num_yielded"]
    indices = _Indices(sent, state["_sampler_iter"])
    loader = types.SimpleNamespace(
        **{name: state[name] for name in _LOADER_ATTRIBUTES},
        **{name: state[f"_{name}"] for name in _COPIED},
        _index_sampler=indices,
        generator=torch.Generator(),
        pin_memory=False,
        pin_memory_device="",
        multiprocessing_context=torch.multiprocessing.get_context(state["_method"]),
    )
    vars(iterator).clear()
    seeded = {"_base_seed": property(lambda self: seed, lambda self, value: None), "__module__": kind.__module__}
    iterator.__class__ = type(kind.__name__, (kind,), seeded)
    kind.__init__(iterator, loader)
    for epoch in range(len(sent)):
        if epoch:
            indices.epoch = epoch
            iterator._reset(loader)
        is_last = epoch == len(sent) - 1
        for _ in itertools.repeat(None, yielded) if is_last else itertools.count():
            try:
                iterator._next_data()
            except StopIteration:
                break
    iterator.__class__ = kind
    vars(iterator).update(_base_seed=seed, _index_sampler=state["_index_sampler"], _num_yielded=yielded)
    if state["_is_over"]:
        iterator._shutdown_workers()


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    f"{_MODULE}._SingleProcessDataLoaderIter": _reduce_iterator,
    f"{_MODULE}._MultiProcessingDataLoaderIter": _reduce_workers,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "torch_loader_iterator": lambda loading, kind: kind.__new__(kind),
    "torch_loader_iterator_state": _set_iterator_state,
    "torch_workers": _build_workers,
    "torch_workers_state": _set_iterator_state,
}

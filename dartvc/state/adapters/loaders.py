"""torch.utils.data: iterators over a `DataLoader`, which torch itself refuses to pickle.

The iterator of a loader without workers is an ordinary object: a sampler's iterator (a suspended generator), a fetcher and counters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "REDUCERS"]


def _reduce_iterator(iterator: Any, saving: Any) -> Any:
    return (
        door("torch_loader_iterator"),
        (type(iterator),),
        saving.keep(dict(vars(iterator))),
        None,
        None,
        door("torch_loader_iterator_state"),
    )


def _set_iterator_state(loading: Any, iterator: Any, state: dict[str, Any]) -> None:
    vars(iterator).update(state)


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {"torch.utils.data.dataloader._SingleProcessDataLoaderIter": _reduce_iterator}
BUILDERS: dict[str, Callable[..., Any]] = {
    "torch_loader_iterator": lambda loading, kind: kind.__new__(kind),
    "torch_loader_iterator_state": _set_iterator_state,
}

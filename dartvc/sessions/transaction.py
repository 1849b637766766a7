"""All or nothing: a block of code whose effects on a namespace vanish when it raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dartvc.model import Payload
from dartvc.state.loading import Loading, load
from dartvc.state.process import ProcessState, apply_process
from dartvc.state.summaries import summarize
from dartvc.state.working import WorkingNamespace

__all__ = ["transaction"]


class _MemoryPayload:
    """The buffers of a payload that is still in memory."""

    def __init__(self, payload: Payload) -> None:
        self.stream = b"".join(chunk.data or b"" for chunk in payload.stream)
        self._buffers = [b"".join(chunk.data or b"" for chunk in chunks) for chunks in payload.buffers]

    @property
    def buffer_count(self) -> int:
        return len(self._buffers)

    def buffer_size(self, index: int) -> int:
        return len(self._buffers[index])

    def read_buffer_into(self, index: int, target: memoryview) -> None:
        target[:] = self._buffers[index]


@contextlib.contextmanager
def transaction(namespace: dict[str, object]) -> Iterator[None]:
    """Runs a block atomically: on an exception (also Ctrl-C) the namespace is as it was before, and the exception goes on.

    Names that changed are brought back from a copy in memory, names that did not are not touched, so their identity stays. Of values that
    cannot be copied (a socket, a running generator) only the binding of the name comes back.

    Args:
        namespace: the namespace that the block changes, for example ``globals()``.
    """
    working = WorkingNamespace(namespace, summarize)
    process = ProcessState(namespace)
    staged = {name.name: name for name in working.stage(None).changed}
    entries = {entry.name: entry for entry in process.stage()}
    bindings = {name: namespace[name] for name in working.names()}
    try:
        yield
    except BaseException:
        delta = working.stage(None)
        for name in delta.added:
            namespace.pop(name, None)
        restored: dict[str, object] = {}
        for name in (*(each.name for each in delta.changed), *delta.removed):
            before = staged.get(name)
            if before is None or name in restored:
                continue
            if before.payload is None:
                restored[name] = bindings[name]
                continue
            kept = _MemoryPayload(before.payload)
            restored.update(load(kept.stream, Loading(namespace, kept)))
        namespace.update(restored)
        for entry in process.stage():
            earlier = entries.get(entry.name)
            if earlier is not None and earlier.payload is not None:
                kept = _MemoryPayload(earlier.payload)
                apply_process(load(kept.stream, Loading(namespace, kept)))
        raise

"""All or nothing: a block of code whose effects on a namespace vanish when it raises."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from dartvc.model import Payload
from dartvc.program.effects import Effects, watching
from dartvc.program.journal import flush_writers
from dartvc.program.rollback import take_back
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


def transaction(namespace: dict[str, object] | None = None) -> contextlib.AbstractContextManager[None]:
    """Runs a block atomically: on an exception (also Ctrl-C) the namespace is as it was before, and the exception goes on.

    Names that changed are brought back from a copy in memory, names that did not are not touched, so their identity stays. Of values that
    cannot be copied (a socket, a running generator) only the binding of the name comes back. In a script under ``dvc-state run`` the files
    that the block wrote, removed, renamed or made come back, too.

    Args:
        namespace: the namespace that the block changes; by default the caller's ``globals()``.
    """
    return _transaction(sys._getframe(1).f_globals if namespace is None else namespace)


@contextlib.contextmanager
def _transaction(namespace: dict[str, object]) -> Iterator[None]:
    with _files_kept(watching()), _names_kept(namespace):
        yield


@contextlib.contextmanager
def _files_kept(effects: Effects | None) -> Iterator[None]:
    """While a block runs, keeps whatever it overwrites; takes it back when the block fails."""
    if effects is None or effects.is_paused:
        yield
        return
    keeper = effects.keeper
    was_whole, keeper.is_whole = keeper.is_whole, True
    effects.advance()  # what the block changes is kept anew, whatever was kept before it
    sequence = effects.sequence
    handles = _open_handles()
    effects.keep_before({str(handle.name) for handle, _ in handles})
    try:
        yield
    except BaseException:
        with effects.own():
            for handle, _ in handles:
                with contextlib.suppress(OSError, ValueError):
                    handle.flush()
            done = take_back(keeper.folder, sequence)
            for handle, place in handles:
                with contextlib.suppress(OSError, ValueError):
                    handle.seek(place)
        for problem in done.problems:
            print(f"dartvc: not taken back: {problem}", file=sys.stderr)
        raise
    finally:
        keeper.is_whole = was_whole
        effects.advance()


def _open_handles() -> list[tuple[Any, int]]:
    """Returns the files that are open for writing and where they stand; what they held back is written first."""
    handles: list[tuple[Any, int]] = []
    for handle in flush_writers():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if handle.seekable() and isinstance(handle.name, str):
                handles.append((handle, handle.tell()))
    return handles


@contextlib.contextmanager
def _names_kept(namespace: dict[str, object]) -> Iterator[None]:
    """While a block runs, keeps a copy of the namespace; brings it back when the block fails."""
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

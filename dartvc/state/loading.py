"""Unpickling of one co-variable: builders bound to the load at hand, and an eye on what the pickle asks for."""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from dartvc.errors import CorruptError
from dartvc.state import adapters
from dartvc.state.admission import Inadmissible, admit
from dartvc.state.forbidden import is_forbidden
from dartvc.state.sets import TABLES, lay_out
from dartvc.state.strings import STRINGS, intern_again

if TYPE_CHECKING:
    from dartvc.state.saving import GeneratorCodec

__all__ = ["LiveBuffers", "Loading", "StateUnpickler", "StoredBuffers", "Unloadable", "load", "restore_identities"]


_CACHES = "_.caches"
"""The key under which strings in caches are found while identities are restored."""


class StoredBuffers(Protocol):
    """Where the out-of-band buffers of a payload are read from."""

    @property
    def buffer_count(self) -> int:
        """How many buffers the payload has."""
        ...

    def buffer_size(self, index: int) -> int:
        """Returns the size in bytes of buffer ``index``."""
        ...

    def read_buffer_into(self, index: int, target: memoryview) -> None:
        """Copies buffer ``index`` into ``target``, verified."""
        ...


class LiveBuffers:
    """Buffers that are still in memory."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = buffers

    @property
    def buffer_count(self) -> int:
        """How many buffers there are."""
        return len(self._buffers)

    def buffer_size(self, index: int) -> int:
        """Returns the size in bytes of buffer ``index``."""
        return self._buffers[index].nbytes

    def read_buffer_into(self, index: int, target: memoryview) -> None:
        """Copies buffer ``index`` into ``target``."""
        target[:] = self._buffers[index]


class Unloadable(Exception):
    """A stored value cannot be made here; the reason says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Loading:
    """What the builders of one load share: the namespace that functions belong to, the buffers, where tensors go.

    ``located`` leads from a recorded path to the present one: a project may have been moved, or cloned.
    """

    def __init__(self, namespace: dict[str, object], buffers: StoredBuffers, map_device: str = "") -> None:
        self.namespace = namespace
        self.buffers = buffers
        self.map_device = map_device
        self.notes: list[str] = []
        self.generators: GeneratorCodec | None = None
        self.is_rehearsal = False
        self.located: Callable[[str], str] = str
        self.revival = adapters.Revival()
        self.caches: list[tuple[Any, Any]] = []
        """Caches of functions, with what they held: they are filled when everything is there."""
        self._held: list[object] = []
        self._moved: dict[tuple[int, str], object] = {}

    def library(self, name: str) -> Any:
        """Imports a guest library, which a stored value of its own needs."""
        return sys.modules.get(name) or importlib.import_module(name)

    def read_buffer_into(self, index: int, target: memoryview) -> None:
        """Copies an out-of-band buffer into memory that a builder allocated."""
        self.buffers.read_buffer_into(index, target.cast("B") if target.format != "B" else target)

    def device_for(self, recorded: str) -> str:
        """Returns where a tensor recorded on a device goes: the map, the device itself if it is here, else the CPU."""
        if recorded == "cpu":
            return recorded
        if self.map_device:
            return self.map_device
        torch = self.library("torch")
        kind, _, index = recorded.partition(":")
        backend = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
        is_here = backend is not None and hasattr(backend, "is_available") and backend.is_available()
        if is_here and (kind != "cuda" or int(index or 0) < torch.cuda.device_count()):
            return recorded
        self.note(f"tensors of {recorded}, which is not here, are on the CPU")
        return "cpu"

    def moved(self, storage: object, place: str, move: Callable[[], object]) -> Any:
        """Returns what ``move`` made of a storage for a device, once for each: tensors over one storage stay tensors over one."""
        key = id(storage), place
        if key not in self._moved:
            self.hold(storage)  # no other may get its id
            self._moved[key] = move()
        return self._moved[key]

    def hold(self, value: object) -> Any:
        """Keeps a referent alive until the load ends and its owner has it."""
        self._held.append(value)
        return value

    def note(self, text: str) -> None:
        """Records something about the load that the user should know."""
        if text not in self.notes:
            self.notes.append(text)

    def refuse(self, reason: str) -> Unloadable:
        """Returns the verdict that the value cannot be made here."""
        return Unloadable(reason)


class StateUnpickler(pickle.Unpickler):
    """Pickle's own, with our builders, and without calls of what no stored value has to call.

    Args:
        stream: what was pickled.
        loading: what the builders share.
    """

    def __init__(self, stream: bytes, loading: Loading) -> None:
        super().__init__(io.BytesIO(stream), fix_imports=False, buffers=_iter_foreign(stream, loading.buffers))
        self.loading = loading
        self.stream = stream
        self.is_admitted = False

    def find_class(self, module: str, name: str) -> Any:
        """Returns a builder, or what a module has under a name.

        Raises:
            Unloadable: it is not here, or forbidden and more than a value.
        """
        if module == "dartvc.state.rebuild":
            if name == "namespace":
                return self.loading.namespace
            builder = adapters.BUILDERS.get(name)
            if builder is None:
                raise Unloadable(f"it was stored by a newer dartvc (builder {name})")
            return functools.partial(builder, self.loading)
        if is_forbidden(module, name.split(".")[0]):
            self._admit()
        try:
            if module == "_asyncio":
                self.loading.library("asyncio")  # which imports it; imported first, it would be made twice
            found = super().find_class(module, name)
        except ModuleNotFoundError as error:
            raise Unloadable(f"it needs the module {error.name}, which is not installed here") from error
        except AttributeError as error:
            raise Unloadable(f"{module} has no {name} here: another version of the library, or of your module") from error
        if not is_forbidden(module, "_") and not is_forbidden(module, name.split(".")[0]):
            _refuse_aliases(module, name, found)
        return found

    def _admit(self) -> None:
        """Looks the stream through, once, before it gets a forbidden function as a value."""
        if not self.is_admitted:
            try:
                admit(self.stream)
            except Inadmissible as error:
                raise Unloadable(str(error)) from None
            self.is_admitted = True


def _refuse_aliases(module: str, name: str, found: object) -> None:
    """Refuses a forbidden function under another name than its own, under which pickle never stores it."""
    if isinstance(found, types.FunctionType | types.BuiltinFunctionType | type) and not isinstance(getattr(found, "__self__", None), type):
        home, own_name = found.__module__ or "", found.__qualname__
        if is_forbidden(home, own_name.split(".")[0]) and home in sys.modules:
            raise Unloadable(f"loading it would call {home}.{own_name}, which it calls {module}.{name}")


def _iter_foreign(stream: bytes, buffers: StoredBuffers) -> Iterator[object]:
    """Yields the buffers that foreign reducers (protocol 5) ask for; ours are read by position and never come here."""
    count = int.from_bytes(stream[-4:], "little")
    total = buffers.buffer_count if count else 0
    for position in range(total - count, total):
        content = bytearray(buffers.buffer_size(position))
        buffers.read_buffer_into(position, memoryview(content))
        yield content


def load(stream: bytes, loading: Loading) -> dict[str, object]:
    """Loads the names of one co-variable.

    Raises:
        Unloadable: the value cannot be made here (a library is missing, another Python version).
    """
    try:
        loaded = StateUnpickler(stream, loading).load()
        loading.revival.finish(loading)
    except (Unloadable, CorruptError, KeyboardInterrupt):
        raise
    except Exception as error:
        text = str(error).strip().splitlines()
        raise Unloadable(f"loading it raises {type(error).__name__}: {text[0] if text else ''}") from error
    names = cast(dict[str, object], loaded)
    if loading.caches:
        names[_CACHES] = loading.caches
    restore_identities(names)
    if loading.caches:
        del names[_CACHES]
        _fill_caches(loading)
    return names


def _fill_caches(loading: Loading) -> None:
    from dartvc.state.caches import fill

    for cache, contents in loading.caches:
        try:
            fill(cache, contents)
        except Exception as error:
            cache.cache_clear()
            loading.note(f"what {cache.__qualname__} had cached is lost: {type(error).__name__}: {error}")


def restore_identities(names: dict[str, object], outside: Iterable[object] = ()) -> None:
    """Makes what was loaded as `dartvc.state.saving.note_identities` found it, and takes its notes out of the mapping.

    Args:
        names: what was loaded.
        outside: objects that were there before, which are left alone.
    """
    if TABLES in names:
        lay_out(cast(Any, names.pop(TABLES)))
    if STRINGS in names:
        intern_again(names, outside)

"""The state of the process that belongs to a program: random streams, working directory, environment, import path, module attributes.

Each entry is captured cheaply at every commit, compared with what was captured last, and stored like a name when it differs.
dartvc itself draws from none of the streams. Environment variables are stored as what the program changed since it started, so that
secrets which the shell gave to the process never reach the repository.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import os
import random
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from dartvc.model import Omission, Payload, StagedName
from dartvc.model.records import NamedTuple
from dartvc.state.categories import described_filters, living_filters
from dartvc.state.chunking import match_stream
from dartvc.state.saving import Refusal, Saving, save
from dartvc.state.settings import SETTINGS

__all__ = ["ENTRIES", "ProcessState", "apply_process", "is_process_entry"]


_LEGACY_BITS = "MT19937"
"""The bit generator under the functions of ``numpy.random`` unless a program puts another there."""


class Entry(NamedTuple):
    """One part of the process: how to read it, how to put it back, what to tell people."""

    capture: Callable[[], Any]
    apply: Callable[[Any], None]
    describe: Callable[[Any], Mapping[str, object]]


def _capture_numpy() -> Any:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return None
    state = numpy_random.get_state(legacy=False)
    if state["bit_generator"] != _LEGACY_BITS:  # another one was put under the global functions
        return _without_arrays(state)
    return (_LEGACY_BITS, state["state"]["key"].tobytes(), state["state"]["pos"], state["has_gauss"], state["gauss"])


def _without_arrays(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a bit generator's state with (kind, bytes) for each array, so that two of them can be compared."""
    return {
        key: _without_arrays(value) if isinstance(value, dict) else (value.dtype.str, value.tobytes()) if hasattr(value, "dtype") else value
        for key, value in state.items()
    }


def _apply_numpy(value: Any) -> None:
    if value is None or isinstance(value, str):  # written so before other bit generators were understood
        return
    numpy = importlib.import_module("numpy")
    is_legacy = isinstance(value, tuple)
    kind = value[0] if is_legacy else value["bit_generator"]
    if numpy.random.get_state(legacy=False)["bit_generator"] != kind:
        numpy.random.set_bit_generator(getattr(numpy.random, kind)())
    if is_legacy:
        name, key, position, has_gauss, gauss = value
        numpy.random.set_state((name, numpy.frombuffer(key, numpy.uint32), position, has_gauss, gauss))
    else:
        numpy.random.set_state(_with_arrays(numpy, value))


def _with_arrays(numpy: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _with_arrays(numpy, value)
        if isinstance(value, dict)
        else numpy.frombuffer(value[1], value[0]).copy()
        if isinstance(value, tuple)
        else value
        for key, value in state.items()
    }


def _capture_torch() -> Any:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):
        return None
    cuda: tuple[bytes, ...] = ()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = tuple(bytes(state.numpy()) for state in torch.cuda.get_rng_state_all())
    return bytes(torch.get_rng_state().numpy()), cuda


def _apply_torch(value: Any) -> None:
    if value is None:
        return
    torch = importlib.import_module("torch")
    torch.set_rng_state(torch.frombuffer(bytearray(value[0]), dtype=torch.uint8))
    if value[1] and torch.cuda.is_available() and len(value[1]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in value[1]])


def _initial_environment() -> dict[bytes, bytes]:
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = (line.partition(b"=") for line in file.read().split(b"\0") if b"=" in line)
            return {key: value for key, _, value in pairs}
    except OSError:
        return {}


class _Environment:
    """`os.environ` as the difference to what the process was started with."""

    def __init__(self) -> None:
        self._initial = _initial_environment()

    def capture(self) -> dict[bytes, bytes | None]:
        """Returns the variables that the program set, changed or (None) deleted."""
        live: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
        changed: dict[bytes, bytes | None] = {key: value for key, value in live.items() if self._initial.get(key) != value}
        changed.update((key, None) for key in self._initial if key not in live)
        return changed

    def apply(self, changed: dict[bytes, bytes | None]) -> None:
        """Makes `os.environ` the initial environment with the recorded changes."""
        wanted = {**self._initial, **changed}
        for key in list(os.environb):
            if wanted.get(key) is None:
                del os.environb[key]
        for key, value in wanted.items():
            if value is not None and os.environb.get(key) != value:
                os.environb[key] = value


def _capture_cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _apply_cwd(path: str | None) -> None:
    if path is not None and path != _capture_cwd() and os.path.isdir(path):
        os.chdir(path)


def _apply_path(value: tuple[str, tuple[str, ...]]) -> None:
    prefix, recorded = value
    wanted = (
        list(recorded) if prefix == sys.prefix else list(dict.fromkeys([*sys.path, *(p for p in recorded if not p.startswith(prefix))]))
    )
    if sys.path != wanted:
        sys.path[:] = wanted


def _capture_warnings() -> Any:
    return described_filters(warnings.filters)


def _apply_warnings(filters: Any) -> None:
    if described_filters(warnings.filters) != filters:
        living: Any = warnings
        living.filters[:] = living_filters(filters)
        if hasattr(living, "_filters_mutated"):
            living._filters_mutated()


def _capture_modules(namespace: Mapping[str, object], seen: dict[str, frozenset[str]]) -> dict[str, dict[str, Any]]:
    """Returns attributes that the program set on the modules it imported, as far as they can be told from the modules' own."""
    found: dict[str, dict[str, Any]] = {}
    for module in [value for value in namespace.values() if type(value) is types.ModuleType]:
        own = seen.get(module.__name__)
        if own is None:
            own = seen[module.__name__] = _own_attributes(module)
        if not own:
            continue
        extra = {
            key: value
            for key, value in vars(module).items()
            if key not in own and isinstance(value, int | float | str | bytes | tuple | list | dict)
        }
        if extra:
            found[module.__name__] = extra
    return found


def _own_attributes(module: types.ModuleType) -> frozenset[str]:
    """Returns the names that a module's own code can define; empty when that cannot be known."""
    spec = module.__spec__
    if spec is None or spec.loader is None:
        return frozenset()
    if isinstance(spec.loader, importlib.machinery.ExtensionFileLoader) or spec.origin == "built-in":
        return _fresh_attributes(module.__name__)
    return frozenset()


_KNOWN_PURE = frozenset({"math", "cmath", "_random", "time", "itertools", "array", "zlib", "unicodedata", "binascii"})


def _fresh_attributes(name: str) -> frozenset[str]:
    """Returns the attributes of a fresh copy of a small extension module of the standard library (PEP 489: it makes one at no cost)."""
    if name not in _KNOWN_PURE:
        return frozenset()
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return frozenset()
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)
        return frozenset(vars(fresh)) | {"__file__", "__cached__"}
    except Exception:
        return frozenset()


def _apply_modules(recorded: dict[str, dict[str, object]]) -> None:
    for name, attributes in recorded.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        for key, value in attributes.items():
            setattr(module, key, value)


_IMPORTS = re.compile(r"(?:^|[;:])[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w., \t]+))", re.MULTILINE)


def _imported_submodules(code: str) -> set[str]:
    """Returns the submodules that a text imports: ``import scipy.stats`` binds ``scipy``, whose import alone need not bring ``scipy.stats``."""
    found: set[str] = set()
    for origin, names in _IMPORTS.findall(code):
        found.update(each.split()[0] for each in (origin or names).split(",") if "." in each.strip(" \t."))
    return found


def _apply_imports(names: tuple[str, ...]) -> None:
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):  # whoever needs it says that it is not here
                importlib.import_module(name)


def _plain(value: Any) -> Mapping[str, object]:
    return {"type": type(value).__name__}


def _describe_settings(name: str, value: Any) -> Mapping[str, object]:
    return {"type": name}


_ENVIRONMENT = _Environment()

ENTRIES: dict[str, Entry] = {
    "random": Entry(random.getstate, random.setstate, lambda value: {"type": "random state", "position": value[1][-1]}),
    "numpy.random": Entry(_capture_numpy, _apply_numpy, lambda value: {"type": "numpy legacy random state"}),
    "torch.random": Entry(_capture_torch, _apply_torch, lambda value: {"type": "torch random state"}),
    "cwd": Entry(_capture_cwd, _apply_cwd, lambda value: {"type": "cwd", "path": value}),
    "environ": Entry(
        _ENVIRONMENT.capture, _ENVIRONMENT.apply, lambda value: {"type": "environ", "changed": sorted(os.fsdecode(key) for key in value)}
    ),
    "sys.path": Entry(lambda: (sys.prefix, tuple(sys.path)), _apply_path, lambda value: {"type": "sys.path", "entries": len(value[1])}),
    "recursionlimit": Entry(sys.getrecursionlimit, sys.setrecursionlimit, lambda value: {"type": "recursion limit", "value": value}),
    "warnings": Entry(_capture_warnings, _apply_warnings, lambda value: {"type": "warnings filters", "entries": len(value)}),
}
for _name, (_read, _write) in SETTINGS.items():
    ENTRIES[_name] = Entry(_read, _write, functools.partial(_describe_settings, _name))


_APPLIED: dict[str, Callable[[Any], None]] = {
    **{name: entry.apply for name, entry in ENTRIES.items()},
    "imports": _apply_imports,
    "modules": _apply_modules,
}


def is_process_entry(name: str) -> bool:
    """Whether an entry is one that `apply_process` puts back; a run keeps others beside them."""
    return name in _APPLIED


class ProcessState:
    """What of the process was staged last."""

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self.namespace = namespace
        self._last: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}
        self._own: dict[str, frozenset[str]] = {}
        self._noted = ""
        self._submodules: set[str] = set()

    def note_code(self, code: str) -> None:
        """Takes note of the submodules that a text imports, of those that the program executes; a restore imports the loaded ones."""
        if code is not self._noted:
            self._noted = code
            self._submodules |= _imported_submodules(code)

    def _entries(self) -> Iterable[tuple[str, Callable[[], Any], Callable[[Any], Mapping[str, object]]]]:
        for name, entry in ENTRIES.items():
            yield name, entry.capture, entry.describe
        yield (
            "imports",
            lambda: tuple(sorted(name for name in self._submodules if name in sys.modules)) or None,
            lambda value: {"type": "imports", "modules": list(value)},
        )
        yield (
            "modules",
            lambda: _capture_modules(self.namespace, self._own),
            lambda value: {"type": "module attributes", "modules": sorted(value)},
        )

    def stage(self, code: str = "", *, with_new: bool = True) -> tuple[StagedName, ...]:
        """Returns the entries that changed since the last call.

        Args:
            code: what the program executed; see `note_code`.
            with_new: whether settings of a library count that was not loaded before: loading it is no reason for a commit by itself.
        """
        self.note_code(code)
        staged = []
        for name, capture, describe in self._entries():
            value = capture()
            if name in self._last and self._last[name] == value:
                continue
            is_new = name in SETTINGS and self._last.get(name) is None
            if is_new and not with_new:
                continue
            self._last[name] = value
            if value is None or (name == "modules" and not value and name not in self._stored):
                continue
            try:
                saved = save({name: value}, Saving(self.namespace, "__main__"))
            except Refusal as refusal:
                staged.append(StagedName(name, _plain(value), None, Omission(name, name, refusal.reason)))
                continue
            refs, chunks = match_stream(saved.stream, ())
            if self._stored.get(name) == chunks:
                continue
            self._stored[name] = chunks
            staged.append(StagedName(name, describe(value), Payload((name,), refs), is_same=is_new))
        return tuple(staged)

    def forget(self) -> None:
        """Forgets what was staged, so that the next stage returns every entry."""
        self._last.clear()
        self._stored.clear()

    def is_stale(self, name: str) -> bool:
        """Whether an entry may differ from what was staged last."""
        for known, capture, _ in self._entries():
            if known == name:
                return name not in self._last or bool(capture() != self._last[name])
        return True

    def adopt(self, values: Mapping[str, Any]) -> None:
        """Takes note that these entries were just applied from the repository."""
        self._last.update(values)
        self._submodules.update(values.get("imports") or ())
        for name in values:
            self._stored.pop(name, None)


def apply_process(values: Mapping[str, Any]) -> list[Omission]:
    """Puts recorded entries back; returns those that could not be."""
    omissions = []
    for name, value in values.items():
        apply = _APPLIED.get(name)
        if apply is None:
            continue
        try:
            apply(value)
        except Exception as error:
            omissions.append(Omission(f"process:{name}", name, f"{type(error).__name__}: {error}"))
    return omissions

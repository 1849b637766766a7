"""Whether the global random streams stand where the program's own seeds have put them.

The streams of `random` and of numpy begin at a place that the kernel's entropy chose, that of torch at the same place each time. What a program draws from one of
the first two before it seeds it is another thing in each run. What libraries draw while they are imported (names of temporary files, examples in docstrings) has no
effect on results.
"""

from __future__ import annotations

import functools
import importlib.machinery
import random
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from dartvc.lineage.streams import Streams

__all__ = ["Seeding"]

_Place = Callable[[], bytes]
_INSTANCE: object = random._inst
_LOADERS = (importlib.machinery.SourceFileLoader, importlib.machinery.ExtensionFileLoader)


class Seeding:
    """Watches how the streams of this process are seeded.

    Args:
        streams: the random streams of the process.
        is_library: whether a file is a library's.
    """

    def __init__(self, streams: Streams, is_library: Callable[[str], bool]) -> None:
        self._streams = streams
        self._is_library = is_library
        self._fresh: dict[_Place, bytes] = {}
        """For each stream what tells where it stands, and where it stood when it was made."""
        self._seeded: set[_Place] = set()
        self._drawn: set[_Place] = set()
        """The streams from which something was drawn, or may have been, before they were seeded."""

    def install(self) -> None:
        """Begins to watch `random`; a stream of numpy's is watched from the moment when it is made, see `adopt_numpy`."""
        self._fresh[self._streams.place_of_python] = self._streams.place_of_python()
        sys.meta_path.insert(0, _LibraryImports(self._is_library, self._fresh_streams, self._forgive))

    def note_python(self, generator: random.Random, value: object) -> Callable[[], None] | None:
        """Takes note that a generator is about to be seeded; see `dartvc.lineage.witness.Witness.note_seed`."""
        return self._noting(self._streams.place_of_python, value) if generator is _INSTANCE else None

    def adopt_numpy(self, module: Any) -> None:
        """Watches numpy's stream: ``module`` is ``numpy.random``, just imported."""
        stream = functools.partial(self._streams.place_of_numpy, module)
        self._fresh[stream] = stream()
        plain: Callable[..., Any] = module.seed

        @functools.wraps(plain)
        def seed(*args: Any, **kwargs: Any) -> Any:
            done = self._noting(stream, next(iter((*args, *kwargs.values())), None))
            result = plain(*args, **kwargs)
            done()
            return result

        del seed.__wrapped__
        seed.__module__, seed.__qualname__ = module.__name__, "seed"  # so that it is found when it is pickled
        module.seed = seed

    def is_known(self) -> bool:
        """Whether what was drawn from the streams until now would be drawn again in another run."""
        return not self._drawn and all(stream in self._seeded or stream() == fresh for stream, fresh in self._fresh.items())

    def _noting(self, stream: _Place, value: object) -> Callable[[], None]:
        """Returns what is to be called when a stream has been seeded with a value."""
        is_late = value is None or (stream not in self._seeded and stream() != self._fresh[stream])

        def note() -> None:
            self._seeded.add(stream)
            if is_late:
                self._drawn.add(stream)

        return note

    def _fresh_streams(self) -> tuple[_Place, ...]:
        """Returns the streams from which nothing was drawn yet."""
        return tuple(stream for stream, fresh in self._fresh.items() if stream not in self._seeded and stream() == fresh)

    def _forgive(self, streams: Sequence[_Place]) -> None:
        """Takes streams for fresh, wherever they stand."""
        self._fresh.update((stream, stream()) for stream in streams)


class _LibraryImports:
    """Looks at the streams before and after the program imports a library."""

    def __init__(self, is_library: Callable[[str], bool], before: Callable[[], Sequence[_Place]], after: Callable[[Sequence[_Place]], None]) -> None:
        self._is_library = is_library
        self._before, self._after = before, after
        self._is_inside = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the spec of a library's module that the program itself imports; what libraries import in turn is left to Python."""
        if self._is_inside:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or spec.origin is None or not self._is_library(spec.origin):
            return None
        loader: Any = spec.loader
        if type(loader) in _LOADERS:
            loader.exec_module = functools.partial(_executed, self, loader)
        return spec

    def enter(self, loader: Any) -> Sequence[_Place]:
        """Begins an import: what its loader bears of ours is gone before anybody sees it."""
        del loader.exec_module
        self._is_inside = True
        return self._before()

    def leave(self, streams: Sequence[_Place]) -> None:
        """Ends an import."""
        self._is_inside = False
        self._after(streams)


def _make_executed() -> Callable[[_LibraryImports, Any, types.ModuleType], None]:
    """Returns what executes a module between two looks: a frame of the import system, as Python leaves them out of warnings and tracebacks."""
    text = """
def _call_with_frames_removed(imports, loader, module):
    streams = imports.enter(loader)
    try:
        loader.exec_module(module)
    finally:
        imports.leave(streams)
"""
    names: dict[str, Any] = {"__name__": "importlib._bootstrap"}
    exec(compile(text, "<frozen importlib._bootstrap>", "exec"), names)
    return names["_call_with_frames_removed"]  # type: ignore[no-any-return]


_executed = _make_executed()

"""Whether the global random streams stand where the program's own seeds have put them.

The streams of `random` and of numpy begin at a place that the kernel's entropy chose, that of torch at the same place each time. What a program draws from one of
the first two before it seeds it is another thing in each run. What libraries draw while they are imported (names of temporary files, examples in docstrings) has no
effect on results.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import random
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from dartvc.lineage.witness import Streams

__all__ = ["Seeding"]

_Place = Callable[[], bytes]

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
        self._watch(self._streams.place_of_python, random)
        sys.meta_path.insert(0, _LibraryImports(self._is_library, self._fresh_streams, self._forgive))

    def adopt_numpy(self, module: types.ModuleType) -> None:
        """Watches numpy's stream: ``module`` is ``numpy.random``, just imported."""
        self._watch(self._streams.place_of_numpy, module)

    def is_known(self) -> bool:
        """Whether what was drawn from the streams until now would be drawn again in another run."""
        return not self._drawn and all(stream in self._seeded or stream() == fresh for stream, fresh in self._fresh.items())

    def _watch(self, stream: _Place, module: Any) -> None:
        self._fresh[stream] = stream()
        plain: Callable[..., Any] = module.seed

        @functools.wraps(plain)
        def seed(*args: Any, **kwargs: Any) -> Any:
            self._note(stream, next(iter((*args, *kwargs.values())), None))
            return plain(*args, **kwargs)

        del seed.__wrapped__
        seed.__module__, seed.__qualname__ = module.__name__, "seed"  # so that it is found when it is pickled
        module.seed = seed

    def _note(self, stream: _Place, value: object) -> None:
        if value is None or (stream not in self._seeded and stream() != self._fresh[stream]):
            self._drawn.add(stream)
        self._seeded.add(stream)

    def _fresh_streams(self) -> tuple[_Place, ...]:
        """Returns the streams from which nothing was drawn yet."""
        return tuple(stream for stream, fresh in self._fresh.items() if stream not in self._seeded and stream() == fresh)

    def _forgive(self, streams: Sequence[_Place]) -> None:
        """Takes streams for fresh, wherever they stand."""
        self._fresh.update((stream, stream()) for stream in streams)


class _LibraryImports(importlib.abc.MetaPathFinder):
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
        loader.exec_module = functools.partial(self._execute, loader.exec_module)
        return spec

    def _execute(self, plain: Callable[[types.ModuleType], None], module: types.ModuleType) -> None:
        streams, self._is_inside = self._before(), True
        try:
            plain(module)
        finally:
            self._is_inside = False
            self._after(streams)

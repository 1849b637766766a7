"""Warnings and log records: what a call says past the standard streams, to whoever listens at that time.

A call that warned or logged is not answered, also where the warning was not shown because its place had warned before. How warnings would be
treated is part of every key, since it decides what is ignored and what is raised.
"""

from __future__ import annotations

import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from xxhash import xxh3_128_hexdigest

__all__ = ["Notices"]

_REGISTRY = "__warningregistry__"


class Notices:
    """Hears of warnings and log records of this process.

    Args:
        refuse: is told why the calls that run now cannot be answered.

    Attributes:
        issued: how many there were.
    """

    def __init__(self, refuse: Callable[[str], None]) -> None:
        self.issued = 0
        self._refuse = refuse
        self._filters: list[Any] = []
        self._digest = ""

    def filters(self) -> str:
        """Returns what stands for the present filters of warnings."""
        now = warnings.filters
        if now != self._filters:
            self._filters = list(now)
            self._digest = xxh3_128_hexdigest(repr([[getattr(part, "pattern", part) for part in each] for each in self._filters]).encode("utf-8", "replace"))
        return self._digest

    def install(self) -> None:
        """Begins to hear of warnings; stays until the process ends."""
        plain = warnings.WarningMessage.__init__

        @functools.wraps(plain)
        def watched(message: Any, text: Any, category: Any, filename: Any, lineno: Any, *args: Any, **kwargs: Any) -> None:
            plain(message, text, category, filename, lineno, *args, **kwargs)
            self._note("warns")
            self._listen(str(text), category, lineno, sys._getframe(1))

        warnings.WarningMessage.__init__ = watched  # type: ignore[method-assign, assignment]

    def adopt_logging(self, logging: types.ModuleType) -> None:
        """Begins to hear of log records."""
        plain = logging.Logger.handle

        @functools.wraps(plain)
        def watched(logger: Any, record: Any) -> None:
            self._note("logs")
            plain(logger, record)

        logging.Logger.handle = watched

    def _note(self, reason: str) -> None:
        self.issued += 1
        self._refuse(reason)

    def _listen(self, text: str, category: Any, lineno: Any, frame: types.FrameType | None) -> None:
        """Puts something in the registry of a place that warned that hears when it warns again, which is not shown."""
        for registry in _registries(frame):
            for key in ((text, category, lineno), (text, category, 0), (text, category)):
                if registry.get(key) is True:
                    registry[key] = _Warned(lambda: self._note("warns"))


def _registries(frame: types.FrameType | None) -> Iterator[dict[Any, Any]]:
    yield vars(warnings).get("onceregistry", {})
    yield vars(sys).get(_REGISTRY, {})
    while frame is not None:
        yield frame.f_globals.get(_REGISTRY, {})
        frame = frame.f_back


class _Warned:
    """True, as a registry has it for a place that warned, and says so to whoever asks."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def __bool__(self) -> bool:
        self._note()
        return True

    def __repr__(self) -> str:
        return "True"

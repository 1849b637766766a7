"""Python's collector of cycles, kept out of work that makes none: a collection in the middle walks the whole program and costs more than the work."""

from __future__ import annotations

import gc

__all__ = ["CollectorPaused"]


class CollectorPaused:
    """A context in which nothing is collected; a program that had turned its collector off finds it off."""

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *exception: object) -> None:
        if self._was_on:
            gc.enable()

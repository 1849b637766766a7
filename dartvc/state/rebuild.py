"""The names that stored pickles call to rebuild objects.

A pickle written by dartvc refers to its builders as ``dartvc.state.rebuild.<name>``; `Loader` answers each with a function bound to
the load at hand (its buffers, its namespace, its device map). The objects here are only the doors that the pickler writes down:
each pickles as its own name. The set of names is part of the repository format (docs/format.md): names are added, never changed.
"""

from __future__ import annotations

__all__ = ["Door", "door"]


class Door:
    """A name in this module that a pickle may call; it does nothing by itself."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name

    def __call__(self, *arguments: object) -> object:
        """Refuses: only a `Loader` knows what stands behind the door."""
        raise TypeError(f"a dartvc payload can only be loaded by dartvc (wanted {self.name})")


_DOORS: dict[str, Door] = {}


def door(name: str) -> Door:
    """Returns the one door of that name."""
    found = _DOORS.get(name)
    if found is None:
        found = _DOORS[name] = Door(name)
    return found


def __getattr__(name: str) -> Door:
    found = _DOORS.get(name)
    if found is None:
        raise AttributeError(name)
    return found

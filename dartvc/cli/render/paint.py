"""Colours as ANSI sequences, or nothing."""

from __future__ import annotations

from dartvc.model.records import NamedTuple

__all__ = ["Paint"]


class Paint(NamedTuple):
    """The sequences of each role; all empty when colour is off."""

    oid: str = ""
    head: str = ""
    branch: str = ""
    tag: str = ""
    added: str = ""
    removed: str = ""
    changed: str = ""
    frame: str = ""
    strong: str = ""
    faint: str = ""
    off: str = ""

    @classmethod
    def when(cls, color: bool) -> Paint:
        """Returns the colours git uses, or a paint without any."""
        if not color:
            return cls()
        codes = ("33", "1;36", "1;32", "1;33", "32", "31", "33", "36", "1", "2", "")
        return cls(*(f"\x1b[{code}m" for code in codes))

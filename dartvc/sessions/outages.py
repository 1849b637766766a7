"""Commits that cannot be written: whoever runs the program says so once when that begins, and not for each of them."""

from __future__ import annotations

from dartvc.sessions.session import Session

__all__ = ["Outage"]


class Outage:
    """Looks at how the commits of a session fare."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._failures = 0
        self._is_told = False

    def begun(self) -> Exception | None:
        """Returns why commits fail, when they have begun to since it was last asked; None when they do not, or that was told."""
        before, (self._failures, error) = self._failures, self._session.failures
        was_told, self._is_told = self._is_told, self._failures != before
        return error if self._is_told and not was_told else None

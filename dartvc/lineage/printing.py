"""Standard streams under reuse: what a call prints is told, so that it can be printed again."""

from __future__ import annotations

import io
from typing import Any, Protocol

__all__ = ["Hearer", "WatchedStream"]


class Hearer(Protocol):
    """Who wants to know what is printed."""

    def printed(self, stream: str, text: str) -> None:
        """Notes text that was written."""

    def refuse(self, reason: str) -> None:
        """Makes the calls that run now unfit for reuse."""


class WatchedStream(io.TextIOWrapper):
    """A standard stream whose text is noted on its way.

    Args:
        stream: what it stands for, and takes the buffer of.
        label: ``stdout`` or ``stderr``.
        witness: hears of the text, and of what cannot be heard.
    """

    def __init__(self, stream: io.TextIOWrapper, label: str, witness: Hearer) -> None:
        line_buffering, write_through = stream.line_buffering, stream.write_through
        encoding, errors = stream.encoding, stream.errors
        stream.flush()
        super().__init__(stream.detach(), encoding, errors, None, line_buffering, write_through)
        vars(self)["mode"] = "w"
        self._label = label
        self._witness = witness

    def write(self, text: str, /) -> int:
        """Writes text."""
        count = super().write(text)
        self._witness.printed(self._label, text)
        return count

    def reconfigure(self, **settings: Any) -> None:
        """Changes how text is written."""
        self._witness.refuse("changes a standard stream")
        super().reconfigure(**settings)

    def detach(self) -> Any:
        """Gives the buffer away."""
        self._witness.refuse("changes a standard stream")
        return super().detach()

    def flush(self) -> None:
        """Hands on what was written; that is noted like text, since it tells when others see it."""
        if not self.closed:
            self._witness.printed(self._label, "")
        super().flush()

    def writelines(self, lines: Any, /) -> None:
        """Writes pieces of text."""
        for each in lines:
            self.write(each)

"""How much a thread has read and written, as the kernel counts it: a library that opens files past Python gives no other sign."""

from __future__ import annotations

import os
import threading

__all__ = ["Traffic"]

_COUNTS = "/proc/thread-self/io"
_COUNTS_BYTES = 256
_NONE = (0, 0)


class Traffic:
    """Asks the kernel what the present thread has read and written (proc_pid_io(5)); 0.7 us in the main thread, 6 us in others."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._descriptor = -1
        self._is_available = True
        self._local = threading.local()

    def now(self) -> tuple[int, int]:
        """Returns the bytes that this thread has read, and those that it has written, to whatever it was; zeros where the kernel does not count."""
        if not self._is_available:
            return _NONE
        try:
            if threading.get_ident() != self._main:
                with open(_COUNTS, "rb", buffering=0) as file:
                    text = file.read(_COUNTS_BYTES)
            else:
                if self._descriptor < 0:
                    self._descriptor = os.open(_COUNTS, os.O_RDONLY | os.O_CLOEXEC)
                text = os.pread(self._descriptor, _COUNTS_BYTES, 0)
            own = getattr(self._local, "read", 0)
            self._local.read = own + len(text)  # asking is reading, too
            counts = text.split(maxsplit=4)
            return int(counts[1]) - own, int(counts[3])
        except (OSError, ValueError, IndexError):
            self._is_available = False
            return _NONE

    def close(self) -> None:
        """Lets go of the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

"""Whether memory was written since somebody looked: asked of the kernel, page by page, whoever wrote.

Linux (from 6.7) can write-protect ranges of a process's own memory so that the first write to each page merely leaves a mark (``userfaultfd``
in its asynchronous mode) and tell in microseconds which pages bear one (``PAGEMAP_SCAN``). A read costs nothing, a first write to a page some
0.5 µs, the question 4 µs for a range of any size; hashing 235 MB costs 20 ms. Where the kernel cannot, `WriteWatch.is_available` is false.
"""

from __future__ import annotations

import os
import struct
import sys

__all__ = ["WriteWatch"]

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API, _API_VERSION = 0xC018AA3F, 0xAA
_WP_UNPOPULATED, _WP_ASYNC = 1 << 13, 1 << 15
_REGISTER, _MODE_WP = 0xC020AA00, 2
_UNREGISTER = 0x8010AA01
_SCAN = 0xC0606610
_PROTECT_MATCHING, _MUST_BE_WATCHED = 1, 2
_PAGE_IS_WRITTEN = 2
_SCAN_BYTES = 96
_REGION_BYTES = 24


class WriteWatch:
    """Watches ranges of this process's private memory; addresses are multiples of `page_bytes`. A forked child has to make its own."""

    def __init__(self) -> None:
        self.page_bytes = os.sysconf("SC_PAGE_SIZE")
        self.is_available = False
        self._pid = os.getpid()
        self._faults = self._pages = -1
        self._found: object = None
        self._found_address = 0
        number = _USERFAULTFD.get(os.uname().machine) if sys.platform == "linux" else None
        if number is None:
            return
        try:
            self._open(number)
        except (OSError, AttributeError, ImportError):
            self.close()

    def _open(self, number: int) -> None:
        import ctypes

        self._faults = int(ctypes.CDLL(None).syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY))
        if self._faults < 0:
            raise OSError("the kernel has no userfaultfd")
        self._pages = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._found = ctypes.create_string_buffer(_REGION_BYTES)
        self._found_address = ctypes.addressof(self._found)
        self._ask(self._faults, _API, struct.pack("3Q", _API_VERSION, _WP_UNPOPULATED | _WP_ASYNC, 0))
        self.is_available = True

    def close(self) -> None:
        """Ends the watch."""
        self.is_available = False
        for descriptor in (self._faults, self._pages):
            if descriptor >= 0:
                os.close(descriptor)
        self._faults = self._pages = -1

    def _ask(self, descriptor: int, request: int, argument: bytes) -> int:
        import fcntl

        if os.getpid() != self._pid:
            raise OSError("a forked child cannot ask about its own memory")
        return int(fcntl.ioctl(descriptor, request, bytearray(argument), True))

    def begin(self, start: int, stop: int) -> None:
        """Begins to watch a range, which counts as written until `protect`.

        Raises:
            OSError: the kernel cannot.
        """
        self._ask(self._faults, _REGISTER, struct.pack("4Q", start, stop - start, _MODE_WP, 0))

    def end(self, start: int, stop: int) -> None:
        """Ends the watch over a range; one that is not watched is left as it is."""
        try:
            self._ask(self._faults, _UNREGISTER, struct.pack("2Q", start, stop - start))
        except (OSError, TypeError, ImportError):
            pass  # not OSError: the interpreter is going, and with it what this needs

    def protect(self, start: int, stop: int) -> None:
        """Takes the marks of a watched range off: from now on `is_unwritten` until somebody writes.

        Raises:
            OSError: the range is not watched.
        """
        self._scan(start, stop, _PROTECT_MATCHING, 0)

    def is_unwritten(self, start: int, stop: int) -> bool:
        """Tells whether no byte of a watched range was written since `protect`; false as well when it is not watched (any more)."""
        try:
            return self._scan(start, stop, 0, 1) == 0
        except OSError:
            return False

    def _scan(self, start: int, stop: int, flags: int, pages_limit: int) -> int:
        """Returns how many ranges of written pages were found, at most one."""
        regions = (self._found_address, 1) if pages_limit else (0, 0)
        argument = struct.pack(
            "12Q", _SCAN_BYTES, flags | _MUST_BE_WATCHED, start, stop, 0, *regions, pages_limit,
            0, _PAGE_IS_WRITTEN, 0, _PAGE_IS_WRITTEN if pages_limit else 0,
        )  # fmt: skip
        return self._ask(self._pages, _SCAN, argument)

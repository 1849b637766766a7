"""This process's memory by address, for the few things that Python objects do not tell of themselves. Reading costs a tenth of what a ctypes call does."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

__all__ = ["BYTES", "IS_64_BIT", "WORDS", "WORDS_32"]

IS_64_BIT = struct.calcsize("P") == 8
_SIZE = 1 << 47 if IS_64_BIT else 1 << 30
BYTES: Any = (ctypes.c_char * _SIZE).from_address(0)
"""By address; a slice is a copy."""
WORDS: Any = (ctypes.c_uint64 * (_SIZE // 8)).from_address(0)
WORDS_32: Any = (ctypes.c_uint32 * (_SIZE // 4)).from_address(0)

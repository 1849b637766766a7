"""What a text file has decoded and not yet handed out, and the offset in its bytes at which that begins.

Between two lines of an iteration ``tell`` refuses to answer, and what would make it answer (``flush``, reading on) changes what the program reads
next or is told. So the file is not asked: the text that waits in it, the line ends it was opened with and its decoder are read from its memory
(``textio``, Modules/_io/textio.c), at the places where a file whose contents are known has them, and only if they are objects that the file shows
to the garbage collector. An offset is one from which a decoder of the same kind was seen to come to the same text and the same state:
with the bytes that follow, these are all that decides what is read next.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import gc
import io
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dartvc.model.records import NamedTuple

__all__ = ["Pause", "WaitingText", "byte_reader", "find_offset", "flush_quietly", "look_into", "pause_of"]

_COOKIE = struct.Struct("<qiiib")  # what TextIOWrapper.tell packs: start, decoder flags, bytes to feed, characters to skip, whether the end is told
_FLAGS = range(-(1 << 31), 1 << 31)
_FIRST_WINDOW_BYTES = 16 * 1024
_LAST_WINDOW_BYTES = 64 * 1024 * 1024


class WaitingText(NamedTuple):
    """What stands in a text file: how it was told to see line ends, its decoder (none where it only writes), the text it hands out next."""

    newline: str | None
    decoder: Any
    text: str


class Pause(NamedTuple):
    """Where a text file stands: the offset of the bytes that it will read next, its decoder's state, and the text that comes before them."""

    offset: int
    state: tuple[bytes, int]
    text: str


class _Layout(NamedTuple):
    """Where, in words behind the start of a text file, three of its fields stand; how much of the text is used follows the text."""

    newline: int
    decoder: int
    text: int


def look_into(file: Any) -> WaitingText | None:
    """Reads what waits in a text file, which notices nothing; None where this Python's text files are laid out in another way."""
    layout = _find_layout()
    if layout is None:
        return None
    known, words = _anatomy(file)
    newline, decoder, text = (known.get(words[index]) for index in layout)
    if any(words[index] and words[index] not in known for index in layout):
        return None
    if text is None:
        return WaitingText(newline, decoder, "")
    used = words[layout.text + 1]
    return WaitingText(newline, decoder, text[used:]) if used <= len(text) else None


def flush_quietly(file: Any) -> None:
    """Writes out what a file holds back; one that reads, too, is as unable to ``tell`` after it as it was before."""
    if isinstance(file, io.TextIOWrapper) and file.readable():
        file.read(0)
        file.buffer.flush()
    else:
        file.flush()


def pause_of(file: Any, waiting: WaitingText) -> Pause | None:
    """Returns where a text file that reads stands; None where its decoder's state fits into no position."""
    state = waiting.decoder.getstate()
    if type(state) is not tuple or len(state) != 2 or type(state[0]) is not bytes or type(state[1]) is not int:
        return None
    return Pause(int(file.buffer.tell()), state, waiting.text)


def byte_reader(buffer: Any) -> Callable[[int, int], bytes] | None:
    """Returns what reads bytes at an offset without moving ``buffer``; None where nothing can (what is compressed, the user's own classes)."""
    if type(buffer) is io.BytesIO:
        return functools.partial(_read_memory, buffer)
    if type(getattr(buffer, "raw", None)) is io.FileIO and type(buffer) in (io.BufferedReader, io.BufferedRandom) and hasattr(os, "pread"):
        return functools.partial(_read_descriptor, buffer.fileno())
    return None


def find_offset(file: Any, newline: str | None, pause: Pause, read_at: Callable[[int, int], bytes]) -> int | None:
    """Returns the number with which ``seek`` leads a text file over the same bytes to ``pause``; None where none was found."""
    clone = look_into(io.TextIOWrapper(io.BytesIO(), file.encoding, file.errors, newline))
    if clone is None:
        return None
    trial = _Trial(clone.decoder, pause)
    held = pause.offset - len(pause.state[0])
    if not pause.text and held >= 0 and trial.leads_there(held, pause.state[1], pause.state[0]):
        return trial.cookie
    later = (pause.state[1] & ~1, pause.state[1])  # the last bit: a carriage return is held back
    for start, content in _iter_windows(file, pause, read_at):
        for flags in dict.fromkeys((*later, trial.first) if start else (trial.first, *later)):
            if start + len(content) == pause.offset and trial.leads_there(start, flags, content):
                return trial.cookie
    return None


class _Trial:
    """Goes ways to a pause, as ``TextIOWrapper.seek`` would, with a decoder of its own."""

    def __init__(self, decoder: Any, pause: Pause) -> None:
        self._decoder, self._pause = decoder, pause
        self.first: int = decoder.getstate()[1]
        """The state, as a number, in which a decoder begins."""
        self.cookie = 0
        """The number that stands for the way that led there."""

    def leads_there(self, start: int, flags: int, content: bytes) -> bool:
        """Whether decoding ``content``, which begins at ``start``, ends at the pause."""
        if flags not in _FLAGS or len(content) not in _FLAGS:
            return False
        for at_end in (False, True):
            with contextlib.suppress(UnicodeError, ValueError, OverflowError):
                if start == 0 and flags == 0:
                    self._decoder.reset()
                else:
                    self._decoder.setstate((b"", flags))
                text = self._decoder.decode(content, at_end)
                skipped = len(text) - len(self._pause.text)
                if not text.endswith(self._pause.text) or self._decoder.getstate() != self._pause.state or (at_end and not skipped):
                    continue
                fed = (len(content), skipped, at_end) if skipped else (0, 0, False)  # what is not skipped is read as if for the first time
                is_beginning = start == 0 and flags == self.first and not skipped
                self.cookie = 0 if is_beginning else int.from_bytes(_COOKIE.pack(start, flags, *fed), "little")
                return True
        return False


def _iter_windows(file: Any, pause: Pause, read_at: Callable[[int, int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields pieces of the bytes before a pause, with their offsets: some thousand, those that only its text came from, then more, up to all of them.

    What begins before the text comes first where bytes that cannot be decoded are an error: the error is met in the same turn only if the chunks
    that are read next begin where they would have begun.
    """
    size = max(_FIRST_WINDOW_BYTES, 2 * len(pause.text))
    if file.errors == "strict":
        yield from _windows_of(size, range(4), pause, read_at)
    for text in (pause.text, pause.text.replace("\n", "\r\n")):
        with contextlib.suppress(UnicodeError):
            exact = len(text.encode(file.encoding, file.errors)) + len(pause.state[0])
            if exact <= pause.offset:
                yield pause.offset - exact, read_at(pause.offset - exact, exact)
    if file.errors != "strict":
        yield from _windows_of(size, range(4), pause, read_at)
    while size < min(_LAST_WINDOW_BYTES, pause.offset):
        size *= 16
        yield from _windows_of(size, range(1), pause, read_at)


def _windows_of(size: int, skips: range, pause: Pause, read_at: Callable[[int, int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields the last bytes before a pause; a character may have begun some bytes before them, but seldom goes over the end of a line."""
    start = max(pause.offset - size, 0) // 4 * 4
    content = read_at(start, pause.offset - start)
    for skip in dict.fromkeys((*skips, content.find(b"\n") + 1)):
        yield start + skip, content[skip:]


def _read_memory(buffer: io.BytesIO, start: int, size: int) -> bytes:
    with buffer.getbuffer() as view:
        return bytes(view[start : start + size])


def _read_descriptor(descriptor: int, start: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.pread(descriptor, size, start)):
        pieces.append(piece)
        start, size = start + len(piece), size - len(piece)
    return b"".join(pieces)


def _anatomy(file: Any) -> tuple[dict[int, Any], list[int]]:
    """Returns what a text file refers to, by address, and the words that it consists of."""
    import ctypes  # milliseconds that a program without text files does not pay

    size = io.TextIOWrapper.__basicsize__ // ctypes.sizeof(ctypes.c_size_t)
    return {id(each): each for each in gc.get_referents(file)}, (ctypes.c_size_t * size).from_address(id(file))[:]


@functools.cache
def _find_layout() -> _Layout | None:
    """Looks for known objects in a file of our own; compares addresses only."""
    if sys.implementation.name != "cpython":
        return None
    sample = io.TextIOWrapper(io.BytesIO(b"one\r\ntwo\r\n"), "utf-8", newline="\r\n")
    sample.readline()
    known, words = _anatomy(sample)
    objects = [known.get(word) for word in words]
    texts = [index for index, each in enumerate(objects) if each == "one\r\ntwo\r\n"]
    newlines = [index for index, each in enumerate(objects) if each == "\r\n"]
    decoders = [index for index, each in enumerate(objects) if isinstance(each, codecs.IncrementalDecoder)]
    if not len(texts) == len(newlines) == len(decoders) == 1 or words[texts[0] + 1] != len("one\r\n"):
        return None
    return _Layout(newlines[0], decoders[0], texts[0])

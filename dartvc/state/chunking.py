"""Streams and buffers cut into chunks, so that a small change of a large value costs a small number of new bytes.

Buffers (array memory) are cut at fixed offsets. Pickled streams are cut at fixed offsets too, but against the chunks that the
same co-variable had before: an insertion or deletion moves everything behind it, and `match_stream` finds the old chunks again at
their new places by the first bytes of each (its anchor), at the speed of `bytes.find`. What lies between those found is cut finer,
for what changed once is likely to change again; so is the head of a long stream, where the attributes of a large object stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from dartvc.host.threads import Helper
from dartvc.model import ChunkRef, Digest
from dartvc.model.records import NamedTuple

__all__ = [
    "BUFFER_CHUNK_BYTES",
    "CHANGED_CHUNK_BYTES",
    "STREAM_CHUNK_BYTES",
    "StreamChunk",
    "chunk_buffer",
    "digest_buffers",
    "fingerprint",
    "match_stream",
    "unframe",
]

BUFFER_CHUNK_BYTES = 512 * 1024
STREAM_CHUNK_BYTES = 16 * 1024
CHANGED_CHUNK_BYTES = 4 * 1024
ANCHOR_BYTES = 32
PARALLEL_BYTES = 32 * 1024 * 1024

_MISSED_LIMIT = 16
_TRIES = 16

_PROTO_BYTES = 2
_FRAME = 0x95
_FRAME_HEADER_BYTES = 9


class StreamChunk(NamedTuple):
    """A chunk of a pickled stream, with the bytes by which a later version finds it again."""

    digest: Digest
    size_bytes: int
    anchor: bytes


def unframe(pieces: Iterable[bytes], trailer: bytes = b"") -> bytes:
    """Joins what a pickler of protocol 5 has written, without its FRAME opcodes, and ``trailer``.

    Frames are optional to a reader (PEP 3154) but cut the stream every 64 KiB, so one inserted byte would move every later
    cut and no chunk behind it would be found again. Between frames stand only large objects, whose opcodes carry their length.
    """
    kept: list[bytes | memoryview] = []
    left = _PROTO_BYTES  # of what was begun: the head, a frame or a large object
    for piece in pieces:
        view, at = memoryview(piece), 0
        while at < len(view):
            if not left and view[at] == _FRAME:
                left = int.from_bytes(view[at + 1 : at + _FRAME_HEADER_BYTES], "little")
                at += _FRAME_HEADER_BYTES
            elif not left:
                left = _large_object_bytes(view, at)
            kept.append(view[at : at + left])
            at, left = at + len(kept[-1]), left - len(kept[-1])
    kept.append(trailer)
    return b"".join(kept)


_LENGTH_BYTES = {0x42: 4, 0x58: 4, 0x54: 4, 0x8E: 8, 0x8D: 8, 0x96: 8}  # BINBYTES BINUNICODE BINSTRING BINBYTES8 BINUNICODE8 BYTEARRAY8


def _large_object_bytes(pickled: memoryview, at: int) -> int:
    """Returns the size of what stands between two frames: a large object, or the unframed rest of the pickle."""
    width = _LENGTH_BYTES.get(pickled[at])
    if width is None:
        return len(pickled) - at
    return 1 + width + int.from_bytes(pickled[at + 1 : at + 1 + width], "little")


def match_stream(stream: bytes, before: Sequence[StreamChunk]) -> tuple[tuple[ChunkRef, ...], tuple[StreamChunk, ...]]:
    """Cuts ``stream`` into chunks, reusing those of the version before wherever they stand now.

    Returns the chunks to store (``data`` None where the chunk existed before) and the same chunks for the next version to match.
    """
    refs: list[ChunkRef] = []
    chunks: list[StreamChunk] = []
    view = memoryview(stream)
    known = {chunk.digest for chunk in before}
    at, missed = 0, 0

    def cut(start: int, end: int) -> None:
        is_changed = bool(before) and end - start <= 2 * STREAM_CHUNK_BYTES
        while start < end:
            is_head = start < STREAM_CHUNK_BYTES < len(stream)
            step = CHANGED_CHUNK_BYTES if is_changed or is_head else STREAM_CHUNK_BYTES
            size = end - start if end - start <= step + ANCHOR_BYTES else step
            piece = view[start : start + size]
            digest = Digest(xxh3_128_digest(piece))
            refs.append(ChunkRef(digest, size, None if digest in known else bytes(piece)))
            chunks.append(StreamChunk(digest, size, bytes(piece[:ANCHOR_BYTES])))
            start += size

    behind = sum(chunk.size_bytes for chunk in before)
    for turn, chunk in enumerate(before):
        # The search window is bounded, and few chunks are searched for when many in a row were not there: a stream that was rewritten as a whole
        # costs less than one pass.
        is_searched = missed < _MISSED_LIMIT or turn % _MISSED_LIMIT == 0
        end = at + (missed + 2) * 4 * STREAM_CHUNK_BYTES if is_searched else at
        place = _find_chunk(stream, chunk, at, end, len(stream) - behind)
        behind -= chunk.size_bytes
        if place < 0:
            missed = min(missed + 1, _MISSED_LIMIT)
            continue
        cut(at, place)
        refs.append(ChunkRef(chunk.digest, chunk.size_bytes, None))
        chunks.append(chunk)
        at, missed = place + chunk.size_bytes, 0
    cut(at, len(stream))
    return tuple(refs), tuple(chunks)


def _find_chunk(stream: bytes, chunk: StreamChunk, start: int, end: int, after_one_edit: int) -> int:
    """Returns where ``chunk`` begins, or -1: at ``start``, where it is when all behind it is as it was, or else up to ``end``.

    No generator: one that is left in the middle swallows an interrupt.
    """
    if chunk.size_bytes < ANCHOR_BYTES:
        return -1
    for place in (start, after_one_edit):
        if place >= start and stream.startswith(chunk.anchor, place) and _is_at(stream, chunk, place):
            return place
    place = start
    for _ in range(_TRIES):  # a repetitive stream has the anchor at many places
        place = stream.find(chunk.anchor, place + 1, end)
        if place < 0 or _is_at(stream, chunk, place):
            return place
    return -1


def _is_at(stream: bytes, chunk: StreamChunk, place: int) -> bool:
    return xxh3_128_digest(memoryview(stream)[place : place + chunk.size_bytes]) == chunk.digest


def digest_buffers(buffers: Sequence[memoryview], helper: Helper | None = None) -> tuple[tuple[Digest, ...], ...]:
    """Returns the digests of the fixed-size chunks of each buffer (contiguous bytes); ``helper`` shares large amounts of work."""
    total = sum(map(len, buffers))
    if helper is None or total < PARALLEL_BYTES:
        return tuple(tuple(_digests(buffer)) for buffer in buffers)
    ours: list[memoryview] = []
    theirs: list[memoryview] = []
    taken = 0
    for buffer in buffers:
        room = max(0, total // 2 - taken) // BUFFER_CHUNK_BYTES * BUFFER_CHUNK_BYTES
        ours.append(buffer[:room])
        theirs.append(buffer[room:])
        taken += min(room, len(buffer))
    second = helper.submit(lambda: [_digests(part) for part in theirs])
    first = [_digests(part) for part in ours]
    return tuple((*before, *after) for before, after in zip(first, second.result(), strict=True))


def _digests(buffer: memoryview) -> list[Digest]:
    step = BUFFER_CHUNK_BYTES
    return [Digest(xxh3_128_digest(buffer[at : at + step])) for at in range(0, len(buffer), step)]


def fingerprint(stream: bytes, digests: Iterable[Digest]) -> str:
    """Returns one digest for all that a co-variable is stored as: its stream, and the digests of its buffers' chunks in order."""
    return xxh3_128_hexdigest(b"".join([stream, *digests]))


def chunk_buffer(
    buffer: memoryview, digests: Sequence[Digest], known: Set[Digest], copy: Callable[[memoryview], bytes | memoryview] = bytes
) -> tuple[ChunkRef, ...]:
    """Returns the chunks of ``buffer``, with copies of those that the version before did not have anywhere."""
    step = BUFFER_CHUNK_BYTES
    size = len(buffer)
    refs = []
    for index, digest in enumerate(digests):
        at = index * step
        refs.append(ChunkRef(digest, min(step, size - at), None if digest in known else copy(buffer[at : at + step])))
    return tuple(refs)

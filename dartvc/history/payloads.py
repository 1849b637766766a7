"""The stored form of one co-variable: a pickled stream and out-of-band buffers, both cut into chunks; a small one stands in its name's summary.

A chunk's entry name carries the xxh3_128 of its bytes. The stream will be unpickled, so its blobs are verified by git's hash too;
buffers are copied straight out of the mapped pack and verified by xxh3 alone (25 GB/s against 2).
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from xxhash import xxh3_128_digest

from dartvc.errors import CorruptError
from dartvc.model import Digest, Oid
from dartvc.model.records import NamedTuple
from dartvc.store.objects import BLOB

if TYPE_CHECKING:
    from dartvc.store import ObjectDatabase

__all__ = [
    "INLINE_PAYLOAD_BYTES",
    "PLAIN_PAYLOAD_BYTES",
    "StoredChunk",
    "StoredPayload",
    "buffer_entry",
    "chunk_entry",
    "group_entry",
    "iter_groups",
    "read_payload",
    "with_payload",
    "without_payload",
]

INLINE_PAYLOAD_BYTES = 1024
"""A payload of one name, one chunk and no buffers up to this size stands in the name's summary instead of a blob of its own."""

PLAIN_PAYLOAD_BYTES = 64 * 1024
"""A payload of one chunk without buffers up to this size is a plain blob instead of a tree."""

_PAYLOAD = "payload"
_TREE_MODE = 0o40000
_UNGROUPED = 128
_GROUP_MIN, _GROUP_MEAN, _GROUP_MAX = 8, 32, 256


class StoredChunk(NamedTuple):
    """A piece of a stored payload; ``size_bytes`` is None where only reading the blob would tell."""

    digest: Digest
    size_bytes: int | None
    oid: Oid


def with_payload(summary: Mapping[str, object], stream: bytes | memoryview) -> dict[str, object]:
    """Returns a name's summary with its payload in it, as base64."""
    return {**summary, _PAYLOAD: binascii.b2a_base64(stream, newline=False).decode()}


def without_payload(summary: dict[str, object]) -> dict[str, object]:
    """Returns what a summary tells people."""
    summary.pop(_PAYLOAD, None)
    return summary


def _payload_in(blob: bytes, where: str) -> bytes:
    """Takes the payload out of a summary.

    Raises:
        CorruptError: there is none, or it cannot be read.
    """
    try:
        return binascii.a2b_base64(json.loads(blob)[_PAYLOAD], strict_mode=True)
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptError(f"the summary of {where} has no payload to be read: {error}", kind="payload-shape", hint="dvc-state fsck") from error


def chunk_entry(index: int, digest: Digest) -> str:
    """Returns the tree entry of a chunk: its number and its xxh3_128 in hexadecimal."""
    return f"{index:06d}-{digest.hex()}"


def buffer_entry(index: int, digest: Digest | None) -> str:
    """Returns the tree entry of a buffer: its number, and its xxh3_128 where it is one chunk."""
    return f"{index:04d}-{digest.hex()}" if digest is not None else f"{index:04d}"


def group_entry(index: int) -> str:
    """Returns the tree entry of a group of chunks."""
    return f"{index:06d}"


def iter_groups(digests: Sequence[Digest]) -> Iterator[tuple[int, int]]:
    """Yields from where to where the chunks of a long list form groups, each a tree; nothing for a short one, whose chunks stand in one tree.

    A group ends where the digest of a chunk says so, so that a change, also one that makes the list longer or shorter, leaves the
    other groups as they were: what a small change of a large value costs does not grow with the value.
    """
    if len(digests) <= _UNGROUPED:
        return
    start = 0
    for index, digest in enumerate(digests, 1):
        size = index - start
        if (size >= _GROUP_MIN and digest[-1] % _GROUP_MEAN == 0) or size == _GROUP_MAX or index == len(digests):
            yield start, index
            start = index


def read_payload(database: ObjectDatabase, payload_oid: Oid, *, where: str = "") -> StoredPayload:
    """Reads the structure of a payload (trees only, plus the blob where the payload is one).

    Args:
        database: where it is stored.
        payload_oid: the blob or tree.
        where: how errors call it, e.g. ``names/df/payload of commit 1a2b3c4d``.

    Raises:
        MissingObjectError: an object of it is gone.
        CorruptError: it is not a payload.
    """
    where = where or f"payload {payload_oid}"
    kind, stream = database.read(payload_oid)
    if kind == BLOB:
        if stream.startswith(b"{"):  # no pickle of protocol 5 does
            stream = _payload_in(stream, where)
        chunk = StoredChunk(Digest(xxh3_128_digest(stream)), len(stream), payload_oid)
        return StoredPayload(database, payload_oid, (chunk,), (), where, stream)
    tree = database.read_tree(payload_oid)
    stream_entry = tree.get("stream")
    if stream_entry is None:
        raise CorruptError(f"{where} has no stream", kind="payload-shape", hint="dvc-state fsck")
    chunks = _read_chunks(database, stream_entry.oid, where)
    sized = tuple(chunk._replace(size_bytes=database.blob_size(chunk.oid)) for chunk in chunks) if len(chunks) > 1 else chunks
    buffers: list[tuple[StoredChunk, ...]] = []
    if "buffers" in tree:
        folders = database.read_tree(tree["buffers"].oid)
        for position, name in enumerate(sorted(folders, key=_number)):
            if _number(name) != position:
                raise CorruptError(f"{where} lacks buffer {position}", kind="payload-shape", hint="dvc-state fsck")
            stored = folders[name]
            buffers.append((_read_chunk(name, stored.oid, where),) if stored.mode != _TREE_MODE else _read_chunks(database, stored.oid, where))
    return StoredPayload(database, payload_oid, sized, tuple(buffers), where)


class StoredPayload:
    """A co-variable's payload in the repository."""

    def __init__(
        self,
        database: ObjectDatabase,
        payload_oid: Oid,
        stream_chunks: tuple[StoredChunk, ...],
        buffers: tuple[tuple[StoredChunk, ...], ...],
        where: str,
        stream: bytes | None = None,
    ) -> None:
        self._database = database
        self._where = where
        self._stream = stream
        self._sizes: dict[int, int] = {}
        self.payload_oid = payload_oid
        self.stream_chunks = stream_chunks
        self.buffers = buffers

    @property
    def buffer_count(self) -> int:
        """How many out-of-band buffers there are."""
        return len(self.buffers)

    @property
    def chunk_bytes(self) -> int:
        """Size of every chunk of a buffer but the last; 0 without buffers."""
        return max((self.chunk_size(chunks[0]) for chunks in self.buffers if chunks), default=0)

    @property
    def size_bytes(self) -> int:
        """Bytes of the stream and of all buffers."""
        stream = sum(self.chunk_size(chunk) for chunk in self.stream_chunks)
        return stream + sum(self.buffer_size(index) for index in range(len(self.buffers)))

    def chunk_size(self, chunk: StoredChunk) -> int:
        """Returns the bytes of a chunk without verifying them."""
        return chunk.size_bytes if chunk.size_bytes is not None else self._database.blob_size(chunk.oid)

    def read_stream(self) -> bytes:
        """Returns the pickled stream, every chunk verified by git's hash and by its xxh3.

        Raises:
            CorruptError: the bytes are not the ones that were written.
            MissingObjectError: a chunk is gone.
        """
        if self._stream is not None:
            return self._stream
        pieces = []
        for chunk in self.stream_chunks:
            piece = self._database.read_blob(chunk.oid)
            if xxh3_128_digest(piece) != chunk.digest:
                raise self._corrupt(chunk)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def buffer_size(self, index: int) -> int:
        """Returns the bytes of a buffer: every chunk but the last is as large as the first."""
        size = self._sizes.get(index)
        if size is None:
            chunks = self.buffers[index]
            size = 0
            if chunks:
                size = self.chunk_size(chunks[-1])
                if len(chunks) > 1:
                    size += self.chunk_size(chunks[0]) * (len(chunks) - 1)
            self._sizes[index] = size
        return size

    def read_buffer_into(self, index: int, target: memoryview) -> None:
        """Copies a buffer into memory of the same size, verified by xxh3.

        Raises:
            CorruptError: the bytes are not the ones that were written; ``target`` holds nothing of use then.
        """
        target = target if target.format == "B" and target.ndim == 1 else target.cast("B")
        at = 0
        for chunk in self.buffers[index]:
            end = at + self.chunk_size(chunk)
            if end > len(target):
                raise self._corrupt(chunk)
            self._copy(chunk, target[at:end])
            at = end
        if at != len(target):
            raise CorruptError(
                f"buffer {index} of {self._where} has {at} bytes instead of {len(target)}", kind="payload-size", hint="dvc-state fsck"
            )

    def read_chunk_into(self, chunk: StoredChunk, target: memoryview) -> None:
        """Copies one chunk into memory of its size, verified by xxh3.

        Raises:
            CorruptError: the bytes are not the ones that were written.
        """
        if self.chunk_size(chunk) != target.nbytes:
            raise self._corrupt(chunk)
        self._copy(chunk, target)

    def _copy(self, chunk: StoredChunk, target: memoryview) -> None:
        """Copies first and verifies the copy: what is checked is what the program gets, even if the file changes meanwhile."""
        self._database.read_blob_into(chunk.oid, target)
        if xxh3_128_digest(target) == chunk.digest:
            return
        sound = self._database.read_blob(chunk.oid)  # verified: finds a sound copy behind a damaged one, or raises
        if len(sound) != len(target):
            raise self._corrupt(chunk)
        target[:] = sound
        if xxh3_128_digest(target) != chunk.digest:
            raise self._corrupt(chunk)

    def _corrupt(self, chunk: StoredChunk) -> CorruptError:
        return CorruptError(f"chunk {chunk.oid} of {self._where} is not what was written", kind="payload-digest", hint="dvc-state fsck")


def _read_chunks(database: ObjectDatabase, oid: Oid, where: str, *, is_group: bool = False) -> tuple[StoredChunk, ...]:
    chunks: list[StoredChunk] = []
    entries = database.read_tree(oid)
    for position, name in enumerate(sorted(entries, key=_number)):
        if name == group_entry(position) and entries[name].mode == _TREE_MODE and not is_group:
            chunks.extend(_read_chunks(database, entries[name].oid, where, is_group=True))
            continue
        if _number(name) != position or entries[name].mode == _TREE_MODE:
            raise CorruptError(f"{where} lacks chunk {position}", kind="payload-shape", hint="dvc-state fsck")
        chunks.append(_read_chunk(name, entries[name].oid, where))
    return tuple(chunks)


def _read_chunk(name: str, oid: Oid, where: str) -> StoredChunk:
    try:
        digest = bytes.fromhex(name.partition("-")[2])
    except ValueError:
        digest = b""
    if len(digest) != 16:
        raise CorruptError(f"{where} has a chunk named {name!r}", kind="payload-shape", hint="dvc-state fsck")
    return StoredChunk(Digest(digest), None, oid)


def _number(name: str) -> int:
    head = name.partition("-")[0]
    return int(head) if head.isdecimal() and head.isascii() else -1

"""Writing packs (gitformat-pack) at the speed of the disk.

The caller's thread hashes and compresses objects; from 8 MiB on, a second thread lays them out, each in the same piece of memory, adds
the checksums of zlib and of the index and writes them. What is stored uncompressed and stays as it is meanwhile is copied there only.
Beyond `ROLL_BYTES` the pack is finished by a third thread and the next pack begun, so that its last checksum and its fsync overlap
with what follows. Nothing is visible before `publish` renames.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import queue
import struct
import threading
import zlib
from pathlib import Path

from dartvc.host.threads import started
from dartvc.model.records import NamedTuple
from dartvc.store.delta import make_tree_delta
from dartvc.store.durable import sync_folder, write_all
from dartvc.store.objects import COMMIT, TREE
from dartvc.store.packindex import encode_index
from dartvc.store.packs import OFS_DELTA, PACK_HEADER_BYTES

__all__ = ["DELTA_DEPTH_MAX", "DELTA_MIN_BYTES", "TEMPORARY_PREFIX", "PackWriter"]

TEMPORARY_PREFIX = "tmp_dartvc_"
ROLL_BYTES = 128 * 1024 * 1024
_BUFFER_BYTES = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_STORED_BLOCK_BYTES = 65535
_SMALL_BYTES = 4096
_STORED_PART_BYTES = 64 * _STORED_BLOCK_BYTES
_STORED_STREAM = b"\x78\x01"
_BLOCK_HEADER_BYTES = 5
_ADLER_BYTES = 4
_PLAIN_COMMIT_BYTES = 512
_DELTA_DEPTH = 40
DELTA_DEPTH_MAX = 50
"""How many deltas may lie below an object that is copied as it is."""
DELTA_MIN_BYTES = 100
_WINDOW = 64


def _level(kind: int, size: int) -> int:
    """Returns how hard to compress: a small commit not at all, because it is half ids, and walking history inflates every one."""
    if kind == COMMIT and size <= _PLAIN_COMMIT_BYTES:
        return 0
    return 6 if size <= _SMALL_BYTES else 1


def entry_header(kind: int, size: int, distance: int = 0) -> bytes:
    """Returns the header of a packed object; ``distance`` leads back to the base of an OFS_DELTA."""
    first = (kind << 4) | (size & 15)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    if kind == OFS_DELTA:
        back = [distance & 0x7F]
        while distance := distance >> 7:
            distance -= 1
            back.append(distance & 0x7F | 0x80)
        out.extend(reversed(back))
    return bytes(out)


class _Base(NamedTuple):
    data: bytes
    offset: int
    depth: int


class _DeltaWindow:
    """The trees last written to a pack, by their first and their last row's name: likely bases for the next one."""

    def __init__(self) -> None:
        self._bases: dict[bytes, _Base] = {}

    def find(self, tree: bytes) -> tuple[bytes, _Base] | None:
        """Returns the smallest delta of ``tree`` and its base, None when none is worth it."""
        best: tuple[bytes, _Base] | None = None
        if len(tree) < DELTA_MIN_BYTES:
            return None
        tried: list[_Base] = []
        for key in _keys(tree):
            base = self._bases.get(key)
            if base is None or base.depth >= _DELTA_DEPTH or base in tried:
                continue
            tried.append(base)
            delta = make_tree_delta(base.data, tree)
            if len(delta) * 2 < len(tree) and (best is None or len(delta) < len(best[0])):
                best = delta, base
        return best

    def add(self, tree: bytes, offset: int, depth: int) -> None:
        """Takes note of a tree that was written at an offset, as a delta ``depth`` steps away from a whole one."""
        if len(tree) < DELTA_MIN_BYTES:
            return
        base = _Base(tree, offset, depth)
        for key in _keys(tree):
            self._bases.pop(key, None)
            self._bases[key] = base
        while len(self._bases) > _WINDOW:
            del self._bases[next(iter(self._bases))]


def _keys(tree: bytes) -> tuple[bytes, bytes]:
    return b"<" + tree[: tree.index(0)], b">" + tree[tree.rindex(b" ", 0, tree.rindex(0, 0, len(tree) - 20)) : -20]


class _Part(NamedTuple):
    """A piece of a pack: bytes as they are, then what is stored uncompressed; the object ends with it, or (no id) goes on in the next one."""

    oid: bytes | None
    head: bytes
    body: bytes | memoryview | None = None

    @property
    def size(self) -> int:
        """How many bytes it takes in the pack."""
        if self.body is None:
            return len(self.head)
        size = len(self.body)
        blocks = max(-(-size // _STORED_BLOCK_BYTES), 1)
        return len(self.head) + size + blocks * _BLOCK_HEADER_BYTES + (_ADLER_BYTES if self.oid is not None else 0)


class _PackFile:
    """One pack on its way: its temporary file, and where its objects lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = self.index_descriptor = -1
        self.size = PACK_HEADER_BYTES
        self._crc, self._adler = 0, 1
        self._room = bytearray()
        self.offsets: dict[bytes, int] = {}
        self.crcs: dict[bytes, int] = {}
        self.checksum = b""

    @property
    def index_path(self) -> Path:
        """Where the index is begun; not under git's name for one, or git would read one that a kill left half written."""
        return self.path.with_suffix(".index")

    def write(self, parts: list[_Part]) -> None:
        """Writes parts, in order."""
        if self.descriptor < 0:
            self.descriptor = _create(self.path)
            write_all(self.descriptor, self.header())
        small: list[bytes] = []
        for part in parts:
            if part.body is None:
                small.append(part.head)
                self._note(part, part.head)
                continue
            write_all(self.descriptor, b"".join(small))
            small.clear()
            with self._laid_out(part) as laid:
                self._note(part, laid)
                write_all(self.descriptor, laid)
        write_all(self.descriptor, b"".join(small))

    def header(self) -> bytes:
        """Returns what a pack begins with, when it has so many objects as are known."""
        return b"PACK" + struct.pack(">II", 2, len(self.offsets))

    def _note(self, part: _Part, laid: bytes | memoryview) -> None:
        self._crc = zlib.crc32(laid, self._crc)
        if part.oid is not None:
            self.crcs[part.oid], self._crc = self._crc, 0

    def _laid_out(self, part: _Part) -> memoryview:
        """Returns a part as it stands in the pack, stored blocks of a zlib stream, in memory that the next one will use.

        Large pieces are summed up as wholes: each call into zlib gives the interpreter away and waits for it again.
        """
        size, at = part.size, len(part.head)
        if len(self._room) < size:
            self._room = bytearray(size)
        room, view = self._room, memoryview(part.body or b"")
        room[:at] = part.head
        for start in range(0, len(view), _STORED_BLOCK_BYTES) or (0,):
            piece = view[start : start + _STORED_BLOCK_BYTES]
            length = len(piece)
            is_final = part.oid is not None and start + length >= len(view)
            struct.pack_into("<BHH", room, at, is_final, length, length ^ 0xFFFF)
            at += _BLOCK_HEADER_BYTES
            room[at : at + length] = piece
            at += length
        self._adler = zlib.adler32(view, self._adler)
        if part.oid is not None:
            struct.pack_into(">I", room, at, self._adler)
            self._adler = 1
        return memoryview(room)[:size]

    def finish(self) -> None:
        """Completes the pack and its index and makes both durable under their temporary names."""
        descriptor = self.descriptor
        os.pwrite(descriptor, struct.pack(">I", len(self.offsets)), 8)
        failures: list[OSError] = []
        flusher = started(_flush, descriptor, failures, name="dartvc-flush") if self.size > _BUFFER_BYTES else None
        self.checksum = _sha1_of(descriptor)
        if flusher is not None:
            flusher.join()
        if failures:
            raise failures[0]  # Linux reports a failed write-back once: the fsync below may not see it again
        write_all(descriptor, self.checksum)
        os.fsync(descriptor)
        self._write_index()

    def finish_small(self, parts: list[_Part]) -> None:
        """Writes a pack of few bytes.

        Fast path: its checksum is made on the way, so nothing is read back.
        """
        digest = hashlib.sha1(self.header(), usedforsecurity=False)
        whole = [self.header()]
        for part in parts:
            laid = part.head if part.body is None else bytes(self._laid_out(part))
            self._note(part, laid)
            digest.update(laid)
            whole.append(laid)
        self.checksum = digest.digest()
        self.descriptor = _create(self.path)
        write_all(self.descriptor, b"".join([*whole, self.checksum]))
        os.fsync(self.descriptor)
        self._write_index()

    def _write_index(self) -> None:
        self.index_descriptor = _create(self.index_path)
        crcs = self.crcs
        write_all(self.index_descriptor, encode_index({oid: (at, crcs[oid]) for oid, at in self.offsets.items()}, self.checksum))
        os.fsync(self.index_descriptor)

    def rename(self) -> Path:
        """Gives pack and index their names, the pack first; returns the index."""
        final = self.path.with_name(f"pack-{self.checksum.hex()}.pack")
        os.rename(self.path, final)
        os.rename(self.index_path, final.with_suffix(".idx"))
        return final.with_suffix(".idx")

    def close(self) -> None:
        for descriptor in (self.descriptor, self.index_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self.index_descriptor = -1

    def remove(self) -> None:
        self.close()
        for path in (self.path, self.index_path):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                pass  # the next writer sweeps it


def _create(path: Path) -> int:
    """Creates a temporary file, locked for as long as its writer lives, so that a sweep knows the dead ones."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # a sweep that came in between holds it for a moment, and has taken the file away
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _sha1_of(descriptor: int) -> bytes:
    """Returns the SHA-1 of a file; not by way of a map, which would count as memory of the user's program."""
    digest = hashlib.sha1(usedforsecurity=False)
    piece = memoryview(bytearray(_READ_BYTES))
    at = 0
    while size := os.preadv(descriptor, [piece], at):
        digest.update(piece[:size])
        at += size
    return digest.digest()


def _flush(descriptor: int, failures: list[OSError]) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        failures.append(error)


_Job = tuple[_PackFile, list[_Part], bool]


class PackWriter:
    """Packs being written; `publish` makes them durable and visible."""

    def __init__(self, folder: Path, *, roll_bytes: int | None = ROLL_BYTES) -> None:
        self._folder = folder
        self._roll_bytes = roll_bytes
        self._files: list[_PackFile] = []
        self._parts: list[_Part] = []
        self._waiting_bytes = 0
        self._seen: set[bytes] = set()
        self._worker: threading.Thread | None = None
        self._is_handed_over = False
        self._jobs: queue.Queue[_Job | None] = queue.Queue(2)
        self._finishers: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._is_complete = False
        self._begin()

    def _begin(self) -> None:
        name = f"{TEMPORARY_PREFIX}{os.getpid()}_{os.urandom(6).hex()}.pack"
        self._file = _PackFile(self._folder / name)
        self._files.append(self._file)
        self._window = _DeltaWindow()

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, oid: bytes) -> bool:
        return oid in self._seen

    def add(self, kind: int, oid: bytes, data: bytes | memoryview, *, compress: bool, is_stable: bool = False) -> int:
        """Adds an object that the packs do not have yet; returns its offset.

        Args:
            is_stable: whether ``data`` stays as it is until `publish`, or else may be reused when this returns.
        """
        if kind == TREE:
            return self.add_tree(oid, bytes(data))[0]
        offset = self._start(oid)
        header = entry_header(kind, len(data))
        if not compress:
            head, view = header + _STORED_STREAM, memoryview(data)
            is_stable = is_stable or type(data) is bytes
            while len(view) > _STORED_PART_BYTES:
                self._put(_Part(None, head, view[:_STORED_PART_BYTES] if is_stable else bytes(view[:_STORED_PART_BYTES])))
                head, view = b"", view[_STORED_PART_BYTES:]
            self._put(_Part(oid, head, view if is_stable else bytes(view)))
        elif len(data) <= _BUFFER_BYTES:
            self._put(_Part(oid, header + zlib.compress(data, _level(kind, len(data)))))
        else:
            self._put(_Part(None, header))
            deflater = zlib.compressobj(1)
            for at in range(0, len(data), _BUFFER_BYTES):
                self._put(_Part(None, deflater.compress(data[at : at + _BUFFER_BYTES])))
            self._put(_Part(oid, deflater.flush()))
        return offset

    def add_tree(self, oid: bytes, tree: bytes, *, level: int = 1) -> tuple[int, int]:
        """Adds a tree whole, or as a delta of one that was added lately; returns its offset, and how many deltas lie below it."""
        offset = self._start(oid)
        found = self._window.find(tree)
        if found is None:
            depth = 0
            self._put(_Part(oid, entry_header(TREE, len(tree)) + zlib.compress(tree, level)))
        else:
            delta, base = found
            depth = base.depth + 1
            self._put(_Part(oid, entry_header(OFS_DELTA, len(delta), offset - base.offset) + zlib.compress(delta, level)))
        self.note_tree(tree, offset, depth)
        return offset, depth

    def note_tree(self, tree: bytes, offset: int, depth: int) -> None:
        """Takes note of a tree that was added otherwise: trees that follow may be deltas of it."""
        self._window.add(tree, offset, depth)

    def add_packed(self, oid: bytes, header: bytes, body: memoryview) -> int:
        """Adds an object whose body is deflated already; returns its offset."""
        offset = self._start(oid)
        self._put(_Part(oid, header + bytes(body)))
        return offset

    def next_offset(self) -> int:
        """Returns where the next object will begin."""
        return self._file.size

    def _start(self, oid: bytes) -> int:
        self._raise_failure()
        if self._roll_bytes is not None and self._file.size > self._roll_bytes:
            self._hand_over(last=True)
            self._begin()
        self._file.offsets[oid] = self._file.size
        self._seen.add(oid)
        return self._file.size

    def _put(self, part: _Part) -> None:
        size = part.size
        self._parts.append(part)
        self._file.size += size
        self._waiting_bytes += size
        if self._waiting_bytes > _BUFFER_BYTES:
            self._hand_over(last=False)

    def _hand_over(self, *, last: bool) -> None:
        if not self._is_handed_over:
            self._is_handed_over = True
            self._worker = started(self._work, name="dartvc-pack")
        job = (self._file, self._parts, last)
        self._parts, self._waiting_bytes = [], 0
        if self._worker is not None:
            self._jobs.put(job)
        else:
            self._write(*job)
        self._raise_failure()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._write(*job)

    def _write(self, file: _PackFile, parts: list[_Part], last: bool) -> None:
        if self._failure is not None:
            return
        try:
            file.write(parts)
            if last:
                finisher = started(self._finish, file, name="dartvc-finish")
                if finisher is not None:
                    self._finishers.append(finisher)
                else:
                    self._finish(file)
        except BaseException as error:
            self._failure = error

    def _finish(self, file: _PackFile) -> None:
        try:
            file.finish()
        except BaseException as error:
            self._failure = error

    def _stop(self) -> None:
        if self._worker is not None:
            self._jobs.put(None)
            self._worker.join()
            self._worker = None
        while self._finishers:
            self._finishers.pop().join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def complete(self) -> None:
        """Makes everything durable under its temporary names; nothing can be added afterwards.

        Raises:
            OSError: the disk refused; `abandon` takes away what was written.
        """
        if self._is_complete:
            return
        if not self._is_handed_over:
            self._file.finish_small(self._parts)
        else:
            self._hand_over(last=True)
            self._stop()
            self._raise_failure()
        self._is_complete = True

    def publish(self) -> list[Path]:
        """Makes everything durable, then visible; returns the paths of the new indexes.

        Raises:
            OSError: the disk refused; `abandon` takes away what was written.
        """
        self.complete()
        indexes = [file.rename() for file in self._files]
        sync_folder(self._folder)
        for file in self._files:
            file.close()
        return indexes

    def abandon(self) -> None:
        """Throws away what was not published."""
        self._failure = self._failure or RuntimeError("the batch was abandoned")
        self._stop()
        for file in self._files:
            file.remove()

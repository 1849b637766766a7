"""The operation log: every move of a ref or of a HEAD, so that each can be undone. It is the reflog, too.

An append-only file of JSON lines, each synced before it counts; a torn last line is ignored and cut off by the next append. It is read
from its end, so that nothing here grows with history. Undo and redo move a pointer: an undo is an operation itself, undoing twice goes
two operations back, and an operation after an undo starts from where the undo went (the model of jj's ``op log``). Cells that changed
nothing are no steps of their own: they are taken back with what they looked at, and do not end what a redo can do.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path

from dartvc.errors import NotFoundError, RefusedError
from dartvc.host.entropy import new_id
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store import Head
from dartvc.store.durable import storage_errors, sync_folder

__all__ = ["CELL_END", "COMMITTING", "INSIDE", "LOOK", "Operation", "OperationLog", "RefMove", "Standing", "UndoPlan", "decode_operation"]

INSIDE, CELL_END = "inside", "cell"
"""A commit in the middle of a cell, and the one at the end of such a cell: an undo takes the whole cell back."""
LOOK = "look"
"""A commit of a cell that changed nothing."""
COMMITTING = frozenset({"commit", INSIDE, CELL_END, LOOK})
"""Operations that only added a commit."""
_PASSED_OVER = frozenset({"fetch", "push", "repair", "thin"})
"""Operations that no undo takes back: they remember where a remote is, or commits that are gone or damaged."""

_BLOCK_BYTES = 64 * 1024
_OID = re.compile(r"[0-9a-f]{40}\Z")


class RefMove(NamedTuple):
    """A ref that goes from one commit to another; None: the ref is absent."""

    name: str
    old: Oid | None
    new: Oid | None


class Operation(NamedTuple):
    """One entry of the log.

    ``pointer`` is the operation whose outcome holds after this one: its own number, except for undo and redo. ``redo`` are the
    operations that a redo would do again, the next one last.
    """

    number: int
    key: str
    time: datetime
    session: str
    operation: str
    description: str
    moves: tuple[RefMove, ...]
    head_before: Head
    head_after: Head
    pointer: int
    redo: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """The id for people and programs: the number and a short random key."""
        return f"{self.number}-{self.key}"


class UndoPlan(NamedTuple):
    """What an undo, a redo or a restore has to do: moves of refs, and where HEAD and the namespace must be afterwards."""

    operation: str
    description: str
    moves: tuple[RefMove, ...]
    head: Head
    pointer: int | None
    redo: tuple[int, ...]

    @property
    def head_oid(self) -> Oid | None:
        """The commit that the namespace must be brought to."""
        return self.head.oid


class Standing(NamedTuple):
    """Who undoes.

    Attributes:
        session_id: the session; empty: none.
        head: where its HEAD is.
        others: the other sessions that live.
    """

    session_id: str
    head: Head
    others: Set[str] = frozenset()


class OperationLog:
    """The log of one repository. Appending is for whoever holds the repository's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(
        self,
        moves: Sequence[RefMove],
        *,
        operation: str,
        description: str,
        session: str,
        head_before: Head,
        head_after: Head,
        pointer: int | None = None,
        redo: Sequence[int] = (),
    ) -> Operation:
        """Adds an entry, durably; the caller holds the repository's lock.

        Raises:
            StorageError: the disk refused; the entry does not count.
        """
        with storage_errors(self.path):
            last = next(self.iter_newest(), None)
            number = last.number + 1 if last is not None else 1
            entry = Operation(
                number,
                new_id(),
                datetime.now(UTC),
                session,
                operation,
                description,
                tuple(moves),
                head_before,
                head_after,
                number if pointer is None else pointer,
                tuple(redo),
            )
            fresh = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                end = _end_of_last_line(descriptor)
                os.ftruncate(descriptor, end)
                line = _encode(entry)
                if os.pwrite(descriptor, line, end) != len(line):
                    raise OSError(28, "No space left on device", str(self.path))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if fresh:
                sync_folder(self.path.parent)
        return entry

    def iter_newest(self) -> Iterator[Operation]:
        """Yields the entries from the newest to the oldest; what cannot be read is passed over (fsck names it)."""
        for line in self.iter_lines():
            entry = decode_operation(line)
            if entry is not None:
                yield entry

    def iter_lines(self) -> Iterator[bytes]:
        """Yields the complete lines of the file from the last to the first."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            at = _end_of_last_line(descriptor)
            rest = b""
            while at > 0:
                size = min(_BLOCK_BYTES, at)
                at -= size
                pieces = (os.pread(descriptor, size, at) + rest).split(b"\n")
                rest = pieces[0]
                yield from (piece for piece in reversed(pieces[1:]) if piece)
            if rest:
                yield rest
        finally:
            os.close(descriptor)

    def find(self, operation_id: str) -> Operation:
        """Returns the entry with an id: its number, or the number and the key.

        Raises:
            NotFoundError: there is none.
        """
        for entry in self.iter_newest():
            if operation_id in (str(entry.number), entry.id, entry.key):
                return entry
        raise NotFoundError(f"there is no operation {operation_id!r}", kind="unknown-operation", hint="dvc-state op log")

    def iter_positions(self, ref: str | None = None) -> Iterator[Oid]:
        """Yields where HEAD (or a ref) has been, the present place first, the same place once in a row."""
        last: Oid | None = None
        for entry in self.iter_newest():
            if ref is None:
                places: Iterable[Oid | None] = (entry.head_after.oid, entry.head_before.oid)
            else:
                places = (place for move in entry.moves if move.name == ref for place in (move.new, move.old))
            for place in places:
                if place is not None and place != last:
                    yield place
                    last = place

    def plan_undo(self, standing: Standing | None = None) -> UndoPlan:
        """Returns what takes back the operation that holds now.

        Args:
            standing: who undoes; what others did is passed over. None: whoever did anything.

        Raises:
            NotFoundError: there is nothing to undo.
        """
        entries = self._iter_own(standing)
        since, last = _looks(entries)
        held, below = last, list[Operation]()
        while held is not None and held.pointer != held.number:
            pointer = held.pointer
            looks, held = _looks(entry for entry in entries if entry.number <= pointer)
            below += looks
        if last is None or held is None:
            raise NotFoundError("there is nothing to undo", kind="nothing-to-undo", hint="dvc-state op log")
        held, before = _whole(held, entries)
        back = [*since, *below, held]
        head = _head(back, (), standing.head if standing is not None else held.head_before)
        redone = since if last.pointer == last.number else below  # what looked at the outcome of an undo is not on a redo's way
        redo = (*last.redo, *(look.number for look in redone), held.number)
        pointer = before.pointer if before is not None else 0
        return UndoPlan("undo", f"undo {held.id}: {held.description}", _joined(_back(back)), head, pointer, redo)

    def plan_redo(self, standing: Standing | None = None) -> UndoPlan:
        """Returns what does again the operation that was undone last; ``standing`` as for `plan_undo`.

        Raises:
            NotFoundError: the last operation was no undo.
        """
        since, last = _looks(self._iter_own(standing))
        if last is None or not last.redo:
            raise NotFoundError("there is nothing to redo", kind="nothing-to-redo", hint="dvc-state op log")
        *rest, number = last.redo
        older = (entry for entry in self._iter_own(standing) if entry.number < number)
        held, _ = _whole(self.find(str(number)), older)
        done = [held]
        while rest and (look := self.find(str(rest[-1]))).operation == LOOK:
            done.append(look)
            rest.pop()
        moves = _joined([*_back(since), *(move for each in done for move in each.moves)])
        head = _head(since, done, standing.head if standing is not None else held.head_after)
        return UndoPlan("redo", f"redo {held.id}: {held.description}", moves, head, done[-1].number, tuple(rest))

    def plan_restore(self, operation_id: str) -> UndoPlan:
        """Returns what brings all refs and HEAD to where they were after an operation.

        Raises:
            NotFoundError: there is no such operation.
            RefusedError: the log has a gap.
        """
        goal = self.find(operation_id)
        present: dict[str, Oid | None] = {}
        wanted: dict[str, Oid | None] = {}
        expected = None
        for entry in self.iter_newest():
            if expected is not None and entry.number != expected:
                raise RefusedError(f"the operation log has a gap before {expected + 1}", kind="log-gap", hint="dvc-state fsck")
            if entry.number == goal.number:
                break
            expected = entry.number - 1
            for move in reversed(entry.moves):
                present.setdefault(move.name, move.new)
                wanted[move.name] = move.old
        moves = tuple(RefMove(name, present[name], oid) for name, oid in wanted.items() if present[name] != oid)
        return UndoPlan("restore", f"restore {goal.id}: {goal.description}", moves, goal.head_after, None, ())

    def _iter_own(self, standing: Standing | None) -> Iterator[Operation]:
        """Yields from the newest what a session may take back: its own, what no session did, and how the HEAD that it has got to where it is.

        So a kernel that was started again takes back what the one before it did, and nobody takes back what was done at another HEAD.
        """
        entries = (entry for entry in self.iter_newest() if entry.operation not in _PASSED_OVER)
        if standing is None:
            yield from entries
            return
        head = standing.head
        for entry in entries:
            is_here = (entry.head_after.ref, entry.head_after.ref or entry.head_after.oid) == (head.ref, head.ref or head.oid)
            is_own = entry.session == standing.session_id and entry.session != ""
            if is_own or not entry.session or (is_here and entry.session not in standing.others):
                yield entry
                if is_own or is_here:
                    head = entry.head_before


def _looks(entries: Iterator[Operation]) -> tuple[list[Operation], Operation | None]:
    """Takes from the newest the cells that changed nothing; returns them and the operation before."""
    looks: list[Operation] = []
    for entry in entries:
        if entry.operation != LOOK:
            return looks, entry
        looks.append(entry)
    return looks, None


def _back(held: Iterable[Operation]) -> Iterator[RefMove]:
    """Yields the moves that take operations back, the newest first."""
    for entry in held:
        yield from (RefMove(move.name, move.new, move.old) for move in reversed(entry.moves))


def _head(back: Sequence[Operation], forth: Sequence[Operation], present: Head) -> Head:
    """Returns where HEAD is when operations were taken back, the newest first, and others done again; those that moved it tell."""
    heads = [entry.head_before for entry in back if entry.head_before != entry.head_after]
    heads += [entry.head_after for entry in forth if entry.head_before != entry.head_after]
    return heads[-1] if heads else present


def _joined(moves: Iterable[RefMove]) -> tuple[RefMove, ...]:
    """Joins moves in a row to one for each ref."""
    joined: dict[str, RefMove] = {}
    for move in moves:
        joined[move.name] = RefMove(move.name, joined.get(move.name, move).old, move.new)
    return tuple(move for move in joined.values() if move.old != move.new)


def _whole(held: Operation, older: Iterator[Operation]) -> tuple[Operation, Operation | None]:
    """Joins the commits that were made while one cell ran; returns them as one operation, and the operation before.

    What was done to other refs meanwhile, outside the cell, is passed over.
    """
    before = next(older, None)
    if held.operation not in (INSIDE, CELL_END):
        return held, before
    names = [each.name for each in held.moves]
    part = before
    while part is not None and any(each.old is not None for each in held.moves):
        if part.session != held.session and not any(each.name in names for each in part.moves):
            part = next(older, None)
            continue
        if part.operation != INSIDE or [each.name for each in part.moves] != names:
            break
        moves = tuple(RefMove(first.name, first.old, last.new) for first, last in zip(part.moves, held.moves, strict=True))
        held = held._replace(moves=moves, head_before=part.head_before)
        before = part = next(older, None)
    return held, before


def decode_operation(line: bytes) -> Operation | None:
    """Reads one line of the log; None when it is damaged."""
    try:
        record = json.loads(line)
        number = int(record["id"])
        moves = tuple(RefMove(str(name), _checked(old), _checked(new)) for name, old, new in record["refs"])
        before, after = (Head(ref, _checked(oid)) for ref, oid in record["head"]) if "head" in record else _heads_along(moves[0])
        return Operation(
            number,
            str(record["key"]),
            datetime.fromisoformat(record["time"]),
            str(record["session"]),
            str(record["operation"]),
            str(record["description"]),
            moves,
            before,
            after,
            int(record.get("pointer", number)),
            tuple(int(each) for each in record.get("redo", ())),
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _heads_along(move: RefMove) -> tuple[Head, Head]:
    """Returns where HEAD was before and after when it stands at the branch that moved."""
    return Head(move.name, move.old), Head(move.name, move.new)


def _checked(oid: object) -> Oid | None:
    if oid is None:
        return None
    if not isinstance(oid, str) or not _OID.match(oid):
        raise ValueError(f"{oid!r} is no object id")
    return Oid(oid)


def _encode(entry: Operation) -> bytes:
    record: dict[str, object] = {
        "id": entry.number,
        "key": entry.key,
        "time": entry.time.isoformat(),
        "session": entry.session,
        "operation": entry.operation,
        "description": entry.description,
        "refs": [[move.name, move.old, move.new] for move in entry.moves],
    }
    if not entry.moves or (entry.head_before, entry.head_after) != _heads_along(entry.moves[0]):
        record["head"] = [[head.ref, head.oid] for head in (entry.head_before, entry.head_after)]
    if entry.pointer != entry.number:
        record["pointer"] = entry.pointer
    if entry.redo:
        record["redo"] = entry.redo
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _end_of_last_line(descriptor: int) -> int:
    """Returns the size of the file without a torn last line."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        size = min(_BLOCK_BYTES, end)
        found = os.pread(descriptor, size, end - size).rfind(b"\n")
        if found >= 0:
            return end - size + found + 1
        end -= size
    return 0

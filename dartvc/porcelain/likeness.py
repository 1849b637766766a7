"""Whether two stored values are the same: compared as they are stored, without loading either."""

from __future__ import annotations

import pickletools

from dartvc.history.payloads import StoredPayload
from dartvc.state.strings import STRINGS

__all__ = ["are_alike", "without_identities"]


def are_alike(one: StoredPayload, other: StoredPayload) -> bool:
    """Tells whether two stored values are the same but for which equal strings in them are one object."""
    return _form(one) == _form(other)


def _form(payload: StoredPayload) -> tuple[list[tuple[str, object]], list[bytearray]]:
    buffers = []
    for index in range(payload.buffer_count):
        buffer = bytearray(payload.buffer_size(index))
        payload.read_buffer_into(index, memoryview(buffer))
        buffers.append(buffer)
    return without_identities(payload.read_stream()), buffers


def without_identities(stream: bytes) -> list[tuple[str, object]]:
    """Returns a pickle's operations, with strings in place of references to strings that stood before."""
    operations: list[tuple[str, object]] = []
    memo: list[tuple[str, object]] = []
    others = 0
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "MEMOIZE":
            is_text = operations[-1][0] == "text"
            memo.append(operations[-1] if is_text else ("object", others))
            others += not is_text
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            operations.append(memo[int(argument or 0)])
        elif "UNICODE" in opcode.name:
            operations.append(("text", argument))
        elif opcode.name not in ("PROTO", "FRAME"):
            operations.append((opcode.name, argument))
    return _without_notes(operations)


def _without_notes(operations: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Leaves out which strings were interned, one of the names that are stored together; a dict of one name is written without a mark."""
    note = ("text", STRINGS)
    if note in operations:
        begin = operations.index(note)
        end = next(index for index in range(begin, len(operations)) if operations[index][0].startswith("TUPLE")) + 1
        operations = [*operations[:begin], *operations[end:]]
    if operations[1:2] == [("MARK", None)] and operations[-2][0] == "SETITEMS":
        operations = [operations[0], *operations[2:-2], ("SETITEM", None), operations[-1]]
    return operations

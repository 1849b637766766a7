"""A pickle's stream as a graph of plain nodes: what it says, without making any of the objects that it tells of.

Nothing is imported, called or looked up, whoever wrote the stream. Scalars stand for themselves; a `Node` is a container, a call (what was
called, its arguments, the state, items and pairs that it was given) or a global's name.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from xxhash import xxh3_128_digest

__all__ = ["Node", "Reader", "Unreadable", "content_digest", "read_pickle"]

_MARK = object()
_BUILDERS = "dartvc.state.rebuild"
_BUFFER_BUILDERS = frozenset({"numpy_array", "torch_storage"})


class Unreadable(Exception):
    """A stream that is no pickle of ours, or too long to be read for its differences."""


class Node:
    """A container, call or global in a pickle.

    Attributes:
        kind: ``list``, ``tuple``, ``dict``, ``set``, ``frozenset``, ``global``, ``call`` or ``buffer``.
        parts: the items (of a dict: keys and values in turn); of a call what is called and its arguments; of a global module and name.
        given: what was set, appended or put on a call's result afterwards, in order.
    """

    __slots__ = ("given", "kind", "parts")

    def __init__(self, kind: str, parts: list[Any]) -> None:
        self.kind = kind
        self.parts = parts
        self.given: list[Any] = []

    def pairs(self) -> dict[Any, Any]:
        """Returns a dict's items, those whose keys are plain."""
        return {key: value for key, value in zip(self.parts[::2], self.parts[1::2], strict=True) if not isinstance(key, Node)}

    def calls(self) -> str:
        """Returns the dotted name of what a call calls, empty where that is no global."""
        head = self.parts[0] if self.kind == "call" else None
        return f"{head.parts[0]}.{head.parts[1]}" if isinstance(head, Node) and head.kind == "global" else ""

    def arguments(self) -> list[Any]:
        """Returns a call's positional arguments."""
        given = self.parts[1]
        return given.parts if isinstance(given, Node) and given.kind == "tuple" else []

    def state(self) -> Any:
        """Returns the state that a call's result was given last, None if it was given none."""
        return next((value for how, value in reversed(self.given) if how == "state"), None)


_SIZED = {
    0x8C: (1, "text"), 0x58: (4, "text"), 0x8D: (8, "text"), 0x43: (1, "bytes"), 0x42: (4, "bytes"), 0x8E: (8, "bytes"), 0x96: (8, "bytes"),
    0x8A: (1, "long"), 0x8B: (4, "long"),
}  # fmt: skip
_FIXED = {0x4B: "<B", 0x4D: "<H", 0x4A: "<i", 0x47: ">d"}
_CONSTANTS = {0x4E: None, 0x88: True, 0x89: False}
_EMPTY = {0x5D: "list", 0x7D: "dict", 0x29: "tuple", 0x8F: "set"}
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}


def read_pickle(stream: bytes) -> Node:
    """Reads a stream; what its pickle makes is the node returned.

    Raises:
        Unreadable: it is none of ours.
    """
    try:
        found = Reader(stream).read()
    except (IndexError, KeyError, ValueError, struct.error, AttributeError, TypeError) as error:
        raise Unreadable(str(error)) from error
    if not isinstance(found, Node):
        raise Unreadable("no container")
    return found


class Reader:
    """Reads a stream, opcode by opcode."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.stack: list[Any] = []
        self.memo: list[Any] = []
        self.buffers = 0

    @staticmethod
    def is_mark(value: object) -> bool:
        """Whether something on the stack is the mark where a run of items begins."""
        return value is _MARK

    def read(self) -> Any:
        """Returns what the stream makes, as nodes."""
        stream, stack, memo = self.stream, self.stack, self.memo
        at = 0
        while True:
            code = stream[at]
            at += 1
            if code == 0x94:  # MEMOIZE
                memo.append(stack[-1])
            elif code == 0x68:  # BINGET
                stack.append(memo[stream[at]])
                at += 1
            elif code in _SIZED:
                width, kind = _SIZED[code]
                start = at + width
                at = start + int.from_bytes(stream[at:start], "little")
                piece = stream[start:at]
                if len(piece) != at - start:
                    raise Unreadable("cut off")
                stack.append(
                    piece.decode("utf-8", "surrogatepass") if kind == "text" else piece if kind == "bytes" else int.from_bytes(piece, "little", signed=True)
                )
            elif code in _FIXED:
                form = _FIXED[code]
                size = struct.calcsize(form)
                stack.append(struct.unpack(form, stream[at : at + size])[0])
                at += size
            elif code in _CONSTANTS:
                stack.append(_CONSTANTS[code])
            elif code == 0x6A:  # LONG_BINGET
                stack.append(memo[int.from_bytes(stream[at : at + 4], "little")])
                at += 4
            elif code == 0x2E:  # STOP
                return stack.pop()
            elif code == 0x80:  # PROTO
                at += 1
            elif code == 0x95:  # FRAME
                at += 8
            elif code == 0x63:  # GLOBAL
                end = stream.index(b"\n", at)
                last = stream.index(b"\n", end + 1)
                stack += stream[at:end].decode(), stream[end + 1 : last].decode()
                at = last + 1
                self.act(0x93)
            else:
                self.act(code)

    def act(self, code: int) -> None:
        """Does what an opcode without an argument says."""
        stack = self.stack
        if code == 0x28:
            stack.append(_MARK)
        elif code in _EMPTY:
            stack.append(Node(_EMPTY[code], []))
        elif code in _TUPLES:
            items = stack[-_TUPLES[code] :]
            del stack[-_TUPLES[code] :]
            stack.append(Node("tuple", items))
        elif code == 0x74:
            items = self._to_mark()
            stack.append(Node("tuple", items))
        elif code == 0x91:
            items = self._to_mark()
            stack.append(Node("frozenset", items))
        elif code in (0x65, 0x61, 0x90):  # APPENDS, APPEND, ADDITEMS
            _extend(stack, "items", [stack.pop()] if code == 0x61 else self._to_mark())
        elif code in (0x75, 0x73):  # SETITEMS, SETITEM
            if code == 0x75:
                items = self._to_mark()
            else:
                items = stack[-2:]
                del stack[-2:]
            _extend(stack, "pairs", items)
        elif code in (0x93, 0x52, 0x81):  # STACK_GLOBAL, REDUCE, NEWOBJ
            second, first = stack.pop(), stack.pop()
            stack.append(Node("global" if code == 0x93 else "call", [first, second]))
        elif code == 0x92:  # NEWOBJ_EX
            named, arguments, kind = stack.pop(), stack.pop(), stack.pop()
            stack.append(Node("call", [kind, arguments, named]))
        elif code == 0x62:  # BUILD
            state = stack.pop()
            stack[-1].given.append(("state", state))
        elif code == 0x30:  # POP
            _note_setter(stack.pop())
        elif code == 0x31:  # POP_MARK
            self._to_mark()
        elif code == 0x97:  # NEXT_BUFFER
            stack.append(Node("buffer", [self.buffers]))
            self.buffers += 1
        elif code != 0x98:  # READONLY_BUFFER
            raise Unreadable(f"opcode {code:#x}")

    def _to_mark(self) -> list[Any]:
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise Unreadable("no mark")
        items = stack[at + 1 :]
        del stack[at:]
        return items


def _extend(stack: list[Any], how: str, items: list[Any]) -> None:
    target = stack[-1]
    if target.kind == "call":
        target.given.append((how, Node("list" if how == "items" else "dict", items)))
    else:
        target.parts.extend(items)


def _note_setter(popped: Any) -> None:
    """Gives an object the state that a function was called to set: pickle calls it with both and throws its result away."""
    if isinstance(popped, Node) and popped.kind == "call" and len(popped.arguments()) == 2:
        target, state = popped.arguments()
        if isinstance(target, Node):
            target.given.append(("state", state))


def content_digest(value: Any, buffers: Sequence[Sequence[bytes]], *, foreign: int = 0) -> bytes:
    """Returns a digest of all that a value's node leads to: equal for equal contents, whatever stands beside them in the stream.

    Args:
        value: a node or scalar of a stream.
        buffers: the digests of the chunks of each of its buffers.
        foreign: how many of these, the last ones, belong to pickle's own buffers.

    Raises:
        Unreadable: the value names a buffer that is not there.
    """
    try:
        return _digest(value, buffers, len(buffers) - foreign)
    except (IndexError, TypeError, ValueError) as error:
        raise Unreadable(str(error)) from error


def _digest(value: Any, buffers: Sequence[Sequence[bytes]], first_foreign: int) -> bytes:
    pieces: list[bytes] = []
    numbers: dict[int, int] = {}
    stack = [value]
    while stack:
        each = stack.pop()
        if not isinstance(each, Node):
            pieces.append(_scalar_bytes(each))
            continue
        known = numbers.get(id(each))
        if known is not None:
            pieces.append(b"@%d" % known)
            continue
        numbers[id(each)] = len(numbers)
        pieces.append(b"(%s %d %d" % (each.kind.encode(), len(each.parts), len(each.given)))
        for how, given in reversed(each.given):
            stack.extend((given, how))
        position = _buffer_of(each, first_foreign)
        if position is not None:
            pieces.extend(buffers[position])
            if each.kind == "call":
                stack.extend(reversed(each.arguments()[1:]))
                stack.append(each.parts[0])
        else:
            stack.extend(reversed(each.parts))
    return xxh3_128_digest(b"\0".join(pieces))


def _scalar_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return b"bytes%d:%s" % (len(value), value)
    if type(value) is int:
        return f"int{value:x}".encode()  # hexadecimal has no limit of digits
    return f"{type(value).__name__}{value!r}".encode()


def _buffer_of(node: Node, first_foreign: int) -> int | None:
    """Returns the position of the buffer that a node stands for."""
    if node.kind == "buffer":
        return first_foreign + int(node.parts[0])
    if node.kind == "call" and node.calls().startswith(_BUILDERS):
        arguments = node.arguments()
        if node.calls().rpartition(".")[2] in _BUFFER_BUILDERS and arguments and type(arguments[0]) is int:
            return arguments[0]
    return None


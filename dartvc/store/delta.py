"""Git's deltas between two versions of an object (gitformat-pack, "Deltified representation").

The encoder knows two cases only: a common beginning and end with something else between them, and trees in which some rows changed.
That is what successive states of a program look like, and it costs a few microseconds where a general search costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["apply_delta", "make_delta", "make_tree_delta", "read_varint"]

_COPY_MAX = 0xFFFFFF
_INSERT_MAX = 127
_PLAIN_MIDDLE_BYTES = 96


def make_delta(base: bytes, target: bytes) -> bytes:
    """Encodes ``target`` as copy, insert, copy against ``base`` by their common beginning and end."""
    prefix, suffix = _common_ends(base, target)
    out = [_varint(len(base)), _varint(len(target))]
    _copy(out, 0, prefix)
    _insert(out, target[prefix : len(target) - suffix])
    _copy(out, len(base) - suffix, suffix)
    return b"".join(out)


def make_tree_delta(base: bytes, target: bytes) -> bytes:
    """Encodes a tree against another one: rows that the base has are copied, wherever they changed in between."""
    prefix, suffix = _common_ends(base, target)
    if len(target) - prefix - suffix <= _PLAIN_MIDDLE_BYTES:
        return make_delta(base, target)
    known = {base[start:end]: start for start, end in _rows(base)}
    out = [_varint(len(base)), _varint(len(target))]
    copy_at = copy_size = 0
    fresh: list[bytes] = []
    for start, end in _rows(target):
        row = target[start:end]
        at = known.get(row)
        if at is None:
            _copy(out, copy_at, copy_size)
            copy_size = 0
            fresh.append(row)
            continue
        if fresh:
            _insert(out, b"".join(fresh))
            fresh.clear()
        if copy_size and at == copy_at + copy_size:
            copy_size += len(row)
        else:
            _copy(out, copy_at, copy_size)
            copy_at, copy_size = at, len(row)
    _copy(out, copy_at, copy_size)
    _insert(out, b"".join(fresh))
    return b"".join(out)


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """Returns the object that a delta makes of ``base``.

    Raises:
        ValueError: the delta is malformed or made for another base.
    """
    base_size, at = read_varint(delta, 0)
    target_size, at = read_varint(delta, at)
    if base_size != len(base):
        raise ValueError("a delta was made for a base of another size")
    out = []
    end = len(delta)
    try:
        while at < end:
            op = delta[at]
            at += 1
            if op & 0x80:
                offset = size = 0
                for bit in range(4):
                    if op & 1 << bit:
                        offset |= delta[at] << 8 * bit
                        at += 1
                for bit in range(3):
                    if op & 16 << bit:
                        size |= delta[at] << 8 * bit
                        at += 1
                size = size or 0x10000
                if offset + size > base_size:
                    raise ValueError("a delta copies from beyond its base")
                out.append(base[offset : offset + size])
            elif op:
                out.append(delta[at : at + op])
                at += op
            else:
                raise ValueError("a delta holds a reserved instruction")
    except IndexError:
        raise ValueError("a delta ends early") from None
    target = b"".join(out)
    if len(target) != target_size:
        raise ValueError("a delta makes an object of another size")
    return target


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns (value, position behind it) of a little-endian base-128 number.

    Raises:
        ValueError: it does not end.
    """
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
    raise ValueError("a number does not end")


def _common_ends(base: bytes, target: bytes) -> tuple[int, int]:
    """Returns the sizes of the common beginning and of the common end, which do not overlap, by bisection on memcmp."""
    most = min(len(base), len(target))
    prefix = _bisect(most, lambda size: base[:size] == target[:size])
    suffix = _bisect(most - prefix, lambda size: base[len(base) - size :] == target[len(target) - size :])
    return prefix, suffix


def _bisect(high: int, holds: Callable[[int], bool]) -> int:
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _rows(tree: bytes) -> Iterator[tuple[int, int]]:
    at, end = 0, len(tree)
    while at < end:
        behind = tree.index(0, at) + 21
        yield at, behind
        at = behind


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _insert(out: list[bytes], data: bytes) -> None:
    for at in range(0, len(data), _INSERT_MAX):
        piece = data[at : at + _INSERT_MAX]
        out.append(bytes([len(piece)]) + piece)


def _copy(out: list[bytes], offset: int, size: int) -> None:
    while size:
        part = min(size, _COPY_MAX)
        op, operands = 0x80, bytearray()
        for bit in range(4):
            byte = offset >> (8 * bit) & 0xFF
            if byte:
                op |= 1 << bit
                operands.append(byte)
        for bit in range(3):
            byte = part >> (8 * bit) & 0xFF
            if byte:
                op |= 16 << bit
                operands.append(byte)
        out.append(bytes([op]) + operands)
        offset, size = offset + part, size - part

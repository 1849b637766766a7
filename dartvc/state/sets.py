"""Where the elements of sets lie: the order in which a program meets them.

A set shows its elements in the order of its table. Pickle adds them, in that order, to a new one; there they lie otherwise when the old table was larger
than they need, or has gaps where others were removed, or when two of them wanted one place. A program that goes on would take them in another order than
one that was never interrupted. So a run records the tables of such sets, and they are laid out again.

Source: CPython's ``Objects/setobject.c``, the same from 3.11 to 3.13. The elements' hashes must be what they were (`run` fixes the seed of strings); a table
in which an element would not be found is not laid out.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from dartvc.host.memory import BYTES, IS_64_BIT, WORDS
from dartvc.model.records import NamedTuple
from dartvc.state.rebuild import door

__all__ = ["BUILDERS", "REDUCERS", "TABLES", "IrregularSets", "irregular", "is_supported", "lay_out"]

TABLES = "_.sets"
"""The key under which a co-variable's stream holds the tables of its irregular sets."""

_HEAD = struct.Struct("qqqPqq")  # fill, used, mask, table, hash, finger; behind the object's header
_HEAD_AT = object.__basicsize__
_ENTRY_BYTES = 16
_SMALL_TABLE = 8
_SMALL_AT = _HEAD_AT + _HEAD.size
_LINEAR_PROBES = 9
_PERTURB_SHIFT = 5
_WORD = (1 << 64) - 1
_PIECE_BYTES = 1 << 20
_HASH_OF_ADDRESS: object = object.__hash__  # where such elements lie is chance, also in one process

AnySet = set[Any] | frozenset[Any]


class _Table(NamedTuple):
    """The fields of a living set's table; ``mask`` is its size less one, ``fill`` counts removed elements, too."""

    fill: int
    used: int
    mask: int
    address: int
    hash: int
    finger: int

    @classmethod
    def of(cls, elements: AnySet) -> _Table:
        return cls(*_HEAD.unpack_from(BYTES, id(elements) + _HEAD_AT))

    def write(self, elements: AnySet) -> None:
        """Makes them the fields of a set."""
        ctypes.memmove(id(elements) + _HEAD_AT, _HEAD.pack(*self), _HEAD.size)

    def entries(self) -> array[int]:
        """Returns the addresses of elements and their hashes by turns."""
        return array("q", BYTES[self.address : self.address + (self.mask + 1) * _ENTRY_BYTES])


@functools.cache
def is_supported() -> bool:
    """Whether this interpreter's sets are what we take them for."""
    is_known = sys.implementation.name == "cpython" and sys.version_info < (3, 14) and IS_64_BIT
    if not is_known or "t" in sys.abiflags:
        return False
    sample = {1, 2, 3}
    sample.discard(2)
    table = _Table.of(sample)
    expected = [0, 0, id(1), 1, _removed(), -1, id(3), 3, *[0] * 8]
    return (table.fill, table.used, table.mask) == (3, 2, _SMALL_TABLE - 1) and list(table.entries()) == expected


def _removed() -> int:
    """Returns the address of what stands for a removed element."""
    emptied = {1}
    emptied.discard(1)
    return int(_Table.of(emptied).entries()[2])


def irregular(sets: Iterable[AnySet]) -> IrregularSets | None:
    """Returns those sets that pickle would bring back in another order; None when there are none."""
    found = [each for each in sets if _is_irregular(each)] if is_supported() else []
    return IrregularSets(found) if found else None


def _is_irregular(elements: AnySet) -> bool:
    items = list(elements)
    try:
        again = set(items)
    except Exception:  # the user's own hash or comparison
        return False
    return not _is_same(id(elements) + _HEAD_AT, id(again) + _HEAD_AT) and all(
        getattr(kind, "__hash__", None) is not _HASH_OF_ADDRESS for kind in set(map(type, items))
    )


def _is_same(one: int, other: int) -> bool:
    """Fast path: whether two sets, by the addresses of their fields, hold the same elements at the same places; programs have many small sets."""
    if BYTES[one : one + 24] != BYTES[other : other + 24] or BYTES[one + 40 : one + 48] != BYTES[other + 40 : other + 48]:
        return False  # another fill, use, mask or finger
    size, first, second = (WORDS[one // 8 + 2] + 1) * _ENTRY_BYTES, WORDS[one // 8 + 3], WORDS[other // 8 + 3]
    for at in range(0, size, _PIECE_BYTES):
        end = min(at + _PIECE_BYTES, size)
        if BYTES[first + at : first + end] != BYTES[second + at : second + end]:
            return False
    return True


class IrregularSets:
    """Stands behind everything else that is pickled; written as the tables of those of its sets that were pickled before it."""

    __slots__ = ("sets",)

    def __init__(self, sets: list[AnySet]) -> None:
        self.sets = sets


def _reduce(irregular_sets: IrregularSets, saving: Any) -> Any:
    pickled = saving.pickler.memo.copy()
    return door("set_tables"), tuple(_described(each) for each in irregular_sets.sets if id(each) in pickled)


def _described(elements: AnySet) -> tuple[AnySet, list[Any], int, int, bytes, bytes]:
    """Returns a set, its elements in order, its table's size and finger, and the places of the elements and of what was removed."""
    table = _Table.of(elements)
    entries = table.entries()
    held = [slot for slot, address in enumerate(entries[::2]) if address]
    removed = array("I")
    if table.fill != table.used:
        nothing = _removed()
        removed = array("I", (slot for slot in held if entries[2 * slot] == nothing))
        held = [slot for slot in held if entries[2 * slot] != nothing]
    return elements, list(elements), table.mask + 1, table.finger, array("I", held).tobytes(), removed.tobytes()


def lay_out(tables: Iterable[tuple[AnySet, list[Any], int, int, bytes, bytes]]) -> None:
    """Gives loaded sets the tables that were recorded, where that is possible."""
    if is_supported():
        for elements, items, size, finger, places, gaps in tables:
            _lay_out(elements, items, size, finger, array("I", places), array("I", gaps))


def _lay_out(elements: AnySet, items: list[Any], size: int, finger: int, places: array[int], gaps: array[int]) -> None:
    nothing, entries = _removed(), array("q", bytes(size * _ENTRY_BYTES))
    for slot in gaps:
        entries[2 * slot], entries[2 * slot + 1] = nothing, -1
    for slot, item in zip(places, items, strict=True):
        entries[2 * slot], entries[2 * slot + 1] = id(item), hash(item)
    is_sound = len(elements) == len(items) and all(
        _is_found(entries, hash(item), slot, size - 1) for slot, item in zip(places, items, strict=True)
    )
    twin = _empty(size) if is_sound and type(elements) in (set, frozenset) else None
    if twin is None:
        return
    for item in items:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
    table = _Table.of(twin)
    ctypes.memmove(table.address, entries.buffer_info()[0], size * _ENTRY_BYTES)
    table._replace(fill=len(items) + len(gaps), used=len(items), finger=finger).write(twin)
    _exchange(elements, twin)


def _empty(size: int) -> set[Any] | None:
    """Returns a set with a table of a size and nothing in it that counts as a reference; None if there is no way to it."""
    made: set[Any] = set()
    if size > _SMALL_TABLE:  # a merge makes room for twice what both have
        others = set(range(size // 2 - 1))
        made.update(others)
        for each in others:
            made.discard(each)
    return made if _Table.of(made).mask == size - 1 else None


def _exchange(one: AnySet, other: AnySet) -> None:
    """Gives each of two sets the other's table; a small one stands in the set itself."""
    tables = _Table.of(one), _Table.of(other)
    inner = id(one) + _SMALL_AT, id(other) + _SMALL_AT
    small = [BYTES[address : address + _SMALL_TABLE * _ENTRY_BYTES] for address in inner]
    for index, each in enumerate((one, other)):
        taken = tables[1 - index]
        address = inner[index] if taken.address == inner[1 - index] else taken.address
        taken._replace(address=address, hash=tables[index].hash).write(each)
        ctypes.memmove(inner[index], small[1 - index], _SMALL_TABLE * _ENTRY_BYTES)


def _is_found(entries: array[int], hash_: int, wanted: int, mask: int) -> bool:
    """Whether a search for an element comes to its place."""
    return next(slot for slot in _probes(hash_, mask) if slot == wanted or not entries[2 * slot]) == wanted


def _probes(hash_: int, mask: int) -> Iterator[int]:
    """Yields the slots in which an element is looked for (``set_lookkey``)."""
    perturb = hash_ & _WORD
    slot = perturb & mask
    while True:
        yield from range(slot, slot + 1 + (_LINEAR_PROBES if slot + _LINEAR_PROBES <= mask else 0))
        perturb >>= _PERTURB_SHIFT
        slot = (slot * 5 + 1 + perturb) & mask


REDUCERS: dict[str, Any] = {"dartvc.state.sets.IrregularSets": _reduce}
BUILDERS: dict[str, Any] = {"set_tables": lambda loading, *tables: tables}

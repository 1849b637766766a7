"""Reading what CPython keeps in a frame and shows nobody: the function object, closure cells, and the value stack.

A frame at the start of a statement has nothing on its value stack but the iterators of the loops around it and the exits of the ``with``
blocks; with them, a frame can be made again elsewhere. CPython 3.11 to 3.13 keep locals, cells and stack in one array of object pointers
behind a header (``_PyInterpreterFrame.localsplus``, Include/internal/pycore_frame.h). Where the array and the function stand is not
taken from a table: it is looked for, as plain integers, in a frame whose contents are known. When they are not found, `is_supported`
is false and nothing is ever read.
"""

from __future__ import annotations

import ctypes
import opcode
import sys
import types
from typing import Any

from dartvc.model.records import NamedTuple

__all__ = ["FrameLayout", "RunningLoop", "callee_of", "cells_of", "function_of", "is_in_call", "is_supported", "local_slots", "replace_in_slot", "stack_of", "view_of"]

_WORD = ctypes.sizeof(ctypes.c_void_p)
_SEARCHED_WORDS = 24
_FRAME_POINTER = 3 * _WORD  # PyFrameObject: ob_refcnt, ob_type, f_back, f_frame


class FrameLayout(NamedTuple):
    """Where, in words behind the start of an interpreter frame, the function object and the array of locals stand."""

    function: int
    localsplus: int


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def _find_layout() -> FrameLayout | None:
    """Looks for known objects in a frame of our own; compares addresses only."""
    if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 13) or hasattr(sys, "gettotalrefcount"):
        return None
    captured = object()
    found: list[FrameLayout] = []

    def probe(first: object, second: object) -> object:
        for third in iter([captured]):
            address = _word(id(sys._getframe()) + _FRAME_POINTER)
            words = [_word(address + index * _WORD) for index in range(_SEARCHED_WORDS)]
            wanted = [id(first), id(second)]
            for index in range(len(words) - 1):
                if words[index : index + 2] == wanted and id(probe) in words[:index]:
                    found.append(FrameLayout(words.index(id(probe)), index))
                    break
            return third
        return None

    probe(object(), object())
    if len(found) != 1:
        return None
    return found[0]


_LAYOUT = _find_layout()
_CALLS = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX"})


def is_supported() -> bool:
    """Whether frames of this interpreter can be read."""
    return _LAYOUT is not None


def _object_at(address: int) -> Any:
    """Returns the object whose pointer stands at an address; None for a null pointer."""
    if not _word(address):
        return None
    return ctypes.cast(_word(address), ctypes.py_object).value


def _frame_address(frame: types.FrameType) -> int:
    return _word(id(frame) + _FRAME_POINTER)


def function_of(frame: types.FrameType) -> types.FunctionType | None:
    """Returns the function whose call made a living frame; None for a frame of `exec` or where frames cannot be read.

    It may have been given other code since.
    """
    if _LAYOUT is None:
        return None
    function = _object_at(_frame_address(frame) + _LAYOUT.function * _WORD)
    return function if type(function) is types.FunctionType else None


def cells_of(frame: types.FrameType) -> dict[str, types.CellType]:
    """Returns the closure cells of a living frame by name: those of its own variables and those it was given."""
    code = frame.f_code
    wanted = {*code.co_cellvars, *code.co_freevars}
    if _LAYOUT is None or not wanted:
        return {}
    cells: dict[str, types.CellType] = {}
    base = _frame_address(frame) + _LAYOUT.localsplus * _WORD
    for index, name in enumerate(_names_of_locals(code)):
        if name in wanted:
            cell = _object_at(base + index * _WORD)
            if type(cell) is types.CellType:
                cells[name] = cell
    return cells


def stack_of(frame: types.FrameType, depth: int) -> list[Any]:
    """Returns the lowest ``depth`` values on a living frame's value stack; a null pointer reads as None.

    The caller knows from the code that so many values are there.
    """
    if _LAYOUT is None:
        return []
    base = _frame_address(frame) + (_LAYOUT.localsplus + len(_names_of_locals(frame.f_code))) * _WORD
    return [_object_at(base + index * _WORD) for index in range(depth)]


def callee_of(frame: types.FrameType, depth: int) -> int:
    """Returns the identity of what a frame that stands in a call has called; its two slots lie on top of so many values of the value stack.

    A method gave way to its function. The object itself may be gone by now: a function that runs owns what it was called with.
    """
    if _LAYOUT is None:
        return 0
    base = _frame_address(frame) + (_LAYOUT.localsplus + len(_names_of_locals(frame.f_code)) + depth) * _WORD
    return _word(base) or _word(base + _WORD)


def view_of(frame: types.FrameType) -> Any:
    """Returns a living frame's slots (locals, cells, value stack) as a sequence that reads the present objects; None where frames cannot be read.

    It is valid while the frame runs or is suspended, no longer. An empty slot raises ValueError; what lies above the top of the value stack
    must not be read.
    """
    if _LAYOUT is None:
        return None
    code = frame.f_code
    size = len(_names_of_locals(code)) + code.co_stacksize
    return (ctypes.py_object * size).from_address(_frame_address(frame) + _LAYOUT.localsplus * _WORD)


def replace_in_slot(frame: types.FrameType, slot: int, old: object, new: object) -> bool:
    """Puts an object in place of another into a slot of a living frame, which owns it from then on; False when the other is not there.

    Called between two instructions of the frame only (it is suspended in a call, or a pending call or a trace event runs).
    """
    if _LAYOUT is None:
        return False
    address = _frame_address(frame) + (_LAYOUT.localsplus + slot) * _WORD
    if _word(address) != id(old):
        return False
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))
    ctypes.c_size_t.from_address(address).value = id(new)
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(old))
    return True


class RunningLoop:
    """A slot of a frame that another thread runs, while that waits for the interpreter's lock inside a call.

    The other thread may go on whenever this one calls anything. So what was looked at before counts only if the frame is still at the same place, and
    that is asked, and the slot read or written, in one expression without a call: CPython hands its lock over at calls and backward jumps alone.

    Args:
        frame: of the other thread.
        lasti: the instruction it is at, a call.
        slot: where the iterator lies.
    """

    def __init__(self, frame: types.FrameType, lasti: int, slot: int) -> None:
        assert _LAYOUT is not None
        self._frame = frame
        self._lasti = lasti
        self._index = slot
        self._pointer = ctypes.c_size_t.from_address(id(frame) + _FRAME_POINTER)
        self._address = self._pointer.value
        base = self._address + _LAYOUT.localsplus * _WORD
        self._view = (ctypes.py_object * (slot + 1)).from_address(base)
        self._word = ctypes.c_size_t.from_address(base + slot * _WORD)

    def read(self) -> object:
        """Returns what lies there; None when the frame has gone on."""
        pointer, address, frame, lasti, view, index = self._pointer, self._address, self._frame, self._lasti, self._view, self._index
        return view[index] if pointer.value == address and frame.f_lasti == lasti else None

    def replace(self, old: object, new: object) -> bool:
        """Puts an object in place of another; False when the frame has gone on, or holds something else."""
        pointer, address, frame, lasti, word = self._pointer, self._address, self._frame, self._lasti, self._word
        before, after = id(old), id(new)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))
        is_done = False
        if pointer.value == address and frame.f_lasti == lasti and word.value == before:
            word.value = after
            is_done = True
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(old if is_done else new))
        return is_done


def is_in_call(frame: types.FrameType, lasti: int) -> bool:
    """Whether an instruction of a frame's code is a plain call: during one the value stack below its arguments stays as it is."""
    code = frame.f_code.co_code
    while not code[lasti]:  # the caches behind an instruction are part of it
        lasti -= 2
    return opcode.opname[code[lasti]] in _CALLS


def local_slots(code: types.CodeType) -> list[str]:
    """Returns the names of a code object's slots in the order of `view_of`; the value stack begins behind them."""
    return _names_of_locals(code)


def _names_of_locals(code: types.CodeType) -> list[str]:
    """Returns the names of a code object's slots in their order: locals, then cells that are not parameters, then free variables."""
    own = list(code.co_varnames)
    return [*own, *(name for name in code.co_cellvars if name not in own), *code.co_freevars]

"""Frames of watched code: what stands between a caller and the user's own code, and what runs a part of it.

`run --reuse` lets functions ask before they run (`dartvc.program.trampolines`) and runs parts of them as functions (`dartvc.program.blocks`).
Whoever looks at the stack, to store it or to show it, sees here which frames the user has not written.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from dartvc.program.sources import MODULE_SCOPE

__all__ = [
    "BLOCK", "LOOP", "LOOP_MARK", "PART_MARK", "UNBOUND", "around_loop", "bindings_shown", "is_block", "is_callers_line", "is_loop_block", "is_switch",
    "is_trampoline", "stand_at", "without_switches", "written_stack",
]  # fmt: skip

BLOCK, LOOP = "__dvc_block__", "__dvc_loop__"
UNBOUND = "\0unbound"
"""The value of a name that a loop would bind and has not."""
PART_MARK, LOOP_MARK = "__dvc_part__", "__dvc_whole__"
"""The last constant of the code of a block, and of one that is a loop of the script's own level."""
_NULL_FIRST = sys.version_info < (3, 13)
_Node = TypeVar("_Node", bound=ast.AST)


def stand_at(made: _Node, where: ast.AST) -> _Node:
    """Lets nodes that the user has not written bear a line of the source, and no place on it: whoever looks for statements passes them over."""
    for each in ast.walk(made):
        if isinstance(each, ast.stmt | ast.expr):
            each.lineno = each.end_lineno = where.lineno  # type: ignore[attr-defined]
            each.col_offset = each.end_col_offset = where.col_offset  # type: ignore[attr-defined]
    return made


def is_trampoline(code: types.CodeType) -> bool:
    """Tells whether a frame of this code stands between a caller and the user's own code: tracebacks leave it out."""
    return any(getattr(type(each), "is_reuse_hook", False) for each in code.co_consts)


def is_callers_line(code: types.CodeType) -> bool:
    """Tells whether a frame of this code stands for the line of the program on behalf of which something is called (`dartvc.program.callers`)."""
    return any(getattr(type(each), "is_callers_line", False) for each in code.co_consts[-1:])


def is_block(code: types.CodeType) -> bool:
    """Tells whether a frame of this code runs a part of the function, or of the script, whose frame called it."""
    return code.co_consts[-1:] in ((PART_MARK,), (LOOP_MARK,))


def is_loop_block(code: types.CodeType) -> bool:
    """Tells whether a frame of this code runs a loop of the script's own level: its variables would be the script's."""
    return code.co_consts[-1:] == (LOOP_MARK,)


def written_stack(stack: Iterable[types.FrameType]) -> list[types.FrameType]:
    """Returns the frames of a stack, innermost first, that the user would see without watching; a loop stands for the script that runs it."""
    seen: list[types.FrameType] = []
    for frame in stack:
        if is_trampoline(frame.f_code) or (seen and is_loop_block(seen[-1].f_code) and frame.f_globals is seen[-1].f_globals):
            continue
        seen.append(frame)
    return seen


def around_loop(loop: types.FrameType) -> types.FrameType:
    """Returns the frame of the script that runs a loop of its own level."""
    frame = loop.f_back
    while frame is not None and not (frame.f_globals is loop.f_globals and frame.f_code.co_name == MODULE_SCOPE):
        frame = frame.f_back
    if frame is None:
        raise ValueError("nothing runs this loop")
    return frame


def without_switches(operands: Sequence[object]) -> list[object]:
    """Returns the operands of unfinished expressions as they would lie on the value stack if no operation were asked for at a switch.

    There a switch and a null pointer lie beneath the operands, the callable of a call among them.

    Args:
        operands: bottom first, null pointers as None.
    """
    found: list[object] = []
    rest = list(operands)
    while rest:
        null, switch = (rest[:2] if _NULL_FIRST else rest[1::-1]) if len(rest) > 1 else (0, 0)
        replaced = _replaced_by(switch) if null is None else ""
        if not replaced:
            found.append(rest.pop(0))
            continue
        del rest[:2]
        if replaced == "call" and rest:
            found += [None, rest.pop(0)] if _NULL_FIRST else [rest.pop(0), None]
    return found


def is_switch(called: object) -> bool:
    """Tells whether an object is asked for an operation, a call among them, in place of the operation that the user has written."""
    return bool(_replaced_by(called))


def _replaced_by(switch: object) -> str:
    """Returns what a switch asks for, ``call`` or ``operator``; an empty string for any other object."""
    owner = switch.__self__ if type(switch) is types.MethodType else switch
    return str(getattr(owner, "__dvc_replaces__", "")) if hasattr(type(owner), "__dvc_replaces__") else ""


@contextmanager
def bindings_shown(stack: Iterable[types.FrameType]) -> Iterator[None]:
    """Lets what a loop of the script's own level has bound so far stand among the script's globals for a while, as it would if it were no block."""
    loop = next((each for each in stack if is_loop_block(each.f_code)), None)
    if loop is None:
        yield
        return
    names = loop.f_globals
    bound = {name: value for name, value in loop.f_locals.items() if name != BLOCK and not (type(value) is str and value == UNBOUND)}
    before = {name: names[name] for name in bound if name in names}
    names.update(bound)
    try:
        yield
    finally:
        for name in bound:
            if name in before:
                names[name] = before[name]
            else:
                names.pop(name, None)

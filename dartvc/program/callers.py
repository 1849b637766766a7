"""Calls in the user's place: what is called on behalf of a line of the program has that line above it on the stack.

Python attributes a warning to the frame that called what warns: it is shown with that frame's line, once for each, and a `DeprecationWarning` only where the frame is
the script's. So a frame that bears the name and the line of the caller, and its globals, stands between ours and the library's.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

__all__ = ["called_at"]

_LIMIT = 4096


class _Mark:
    """The last constant of a frame's code that stands for another one: nobody shows it, see `dartvc.program.watched.is_trampoline`."""

    is_reuse_hook = True
    is_callers_line = True


def _call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


_CODE = _call.__code__.replace(co_consts=(*_call.__code__.co_consts, _Mark()))
_callers: dict[tuple[types.CodeType, int], types.FunctionType] = {}


def called_at(frame: types.FrameType, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what calls a function as the present line of a frame does."""
    place = frame.f_code, frame.f_lineno
    caller = _callers.get(place)
    if caller is None or caller.__globals__ is not frame.f_globals:
        if len(_callers) >= _LIMIT:
            _callers.clear()
        code = _CODE.replace(co_filename=frame.f_code.co_filename, co_firstlineno=(frame.f_lineno or 1) - 1)
        caller = _callers[place] = types.FunctionType(code, frame.f_globals)
    return functools.partial(caller, function)

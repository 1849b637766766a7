"""What a commit records of an uncaught exception, and what the frames in a snapshot are called.

The frames of an exception are taken from its traceback, for the innermost ones have left the stack when nobody has caught it. They are
described as those of a position are, so that whoever looks at frames need not know which of the two they are; but nothing can go on there.
"""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

from dartvc.model.records import NamedTuple
from dartvc.program.capture import CapturedFrame
from dartvc.program.sources import MODULE_SCOPE

__all__ = ["TRACEBACK", "Trace", "frame_prefixes", "headline_of"]

TRACEBACK = "traceback"
_TEXT_LIMIT = 64 * 1024
_OUTERMOST_KEPT, _INNERMOST_KEPT = 20, 80
_CHAIN_LIMIT = 10


class Trace(NamedTuple):
    """An uncaught exception: its text as Python prints it, and the user's frames, outermost first.

    Behind them stand those of the exceptions that led to it, which only they had; ``errors`` has these exceptions, empty for the uncaught one.
    """

    text: str
    frames: Sequence[CapturedFrame] = ()
    errors: Sequence[str] = ()
    left_out: int = 0

    @classmethod
    def of(cls, error: BaseException, is_user: Callable[[types.CodeType], bool], own_globals: Mapping[str, object]) -> Trace:
        """Takes an exception's traceback apart.

        Args:
            is_user: whether a code object is the user's own; other frames are in the text only.
            own_globals: the script's globals; they are committed anyway, as those of imported modules are.
        """
        import traceback

        text = "".join(traceback.format_exception(error))
        if len(text) > _TEXT_LIMIT:
            text = f"{text[: _TEXT_LIMIT // 2]}\n[...]\n{text[-_TEXT_LIMIT // 2 :]}"
        frames: list[CapturedFrame] = []
        errors: list[str] = []
        seen: set[types.FrameType] = set()
        left_out = 0
        for each in _iter_chain(error):
            entries = [entry for entry in _iter_entries(each) if is_user(entry.tb_frame.f_code) and entry.tb_frame not in seen]
            if len(entries) > _OUTERMOST_KEPT + _INNERMOST_KEPT:
                left_out += len(entries) - _OUTERMOST_KEPT - _INNERMOST_KEPT
                del entries[_OUTERMOST_KEPT:-_INNERMOST_KEPT]
            seen.update(entry.tb_frame for entry in entries)
            frames += [_frame_of(entry, own_globals) for entry in entries]
            errors += [headline_of(each) if each is not error else ""] * len(entries)
        return cls(text, frames, errors, left_out)

    def described(self) -> dict[str, object]:
        """Returns it without the values, for JSON."""
        frames = [
            {**frame.described(), "source": linecache.getline(frame.filename, frame.line).strip()[:200], "error": error}
            for frame, error in zip(self.frames, self.errors, strict=True)
        ]
        return {"type": TRACEBACK, "text": self.text, "frames": frames, "left_out": self.left_out}


def headline_of(error: BaseException) -> str:
    """Returns an exception as one line; its text is the user's code."""
    name = type(error).__name__
    try:
        text = str(error).split("\n", 1)[0]
    except Exception:
        text = "<its text raises an exception>"
    return f"{name}: {text}" if text else name


def _iter_chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and those that led to it, as Python prints them, the last one first."""
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen and len(seen) < _CHAIN_LIMIT:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _iter_entries(error: BaseException) -> Iterator[types.TracebackType]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _frame_of(entry: types.TracebackType, own_globals: Mapping[str, object]) -> CapturedFrame:
    frame = entry.tb_frame
    code = frame.f_code
    module = str(frame.f_globals.get("__name__", ""))
    values: dict[str, object] = {}
    if code.co_name != MODULE_SCOPE:
        values = {name: value for name, value in frame.f_locals.items() if name.isidentifier()}
    elif frame.f_globals is not own_globals and module not in sys.modules:  # its import failed: nobody else holds what it defined
        values = {name: value for name, value in frame.f_locals.items() if not name.startswith("__") and not isinstance(value, types.ModuleType)}
    return CapturedFrame(module, code.co_filename, code.co_qualname, code.co_firstlineno, "", (), "raised", entry.tb_lineno, values=values)


def frame_prefixes(functions: Sequence[str]) -> list[str]:
    """Returns what frames are called in a snapshot, each one once, from their functions' names: ``main()``, ``walk()``, ``walk()#2``."""
    seen: dict[str, int] = {}
    prefixes = []
    for function in functions:
        shown = "__main__" if function == MODULE_SCOPE else function.replace("<locals>.", "") + "()"
        seen[shown] = seen.get(shown, 0) + 1
        prefixes.append(shown if seen[shown] == 1 else f"{shown}#{seen[shown]}")
    return prefixes

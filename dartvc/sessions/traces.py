"""The frames that a commit holds: those of a program that stands somewhere, and those that an uncaught exception went through.

The frames of an exception are taken from its traceback, for the innermost ones have left the stack when nobody has caught it. They are
described as those of a position are, so that whoever looks at frames need not know which of the two they are; but nothing can go on there.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dartvc.history import Repository
from dartvc.model import Commit, CommitKind
from dartvc.program.capture import CapturedFrame
from dartvc.program.sources import MODULE_SCOPE

__all__ = ["TRACEBACK", "Frame", "Trace", "frame_prefixes", "headline_of", "read_frames", "read_trace"]

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


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a commit, as it is recorded; as text ``frame 1  train.py:12 in fit: loss = step(batch)``.

    Attributes:
        index: 0 is the outermost.
        source: the line in which it stands, where that is recorded beside the place.
        error: the exception that led to the uncaught one and went through this frame; empty for the uncaught one's own frames.
        shown: what people call the file, where that is not the end of its path: ``In[3]``.
        locals: the names in the snapshot of its local variables, by the names that they have in the function.
    """

    index: int
    module: str
    file: str
    line: int
    function: str
    source: str = ""
    error: str = ""
    shown: str = ""
    locals: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        name = self.shown or os.path.basename(self.file)
        where = f"{name}:{self.line}" + ("" if self.function == MODULE_SCOPE else f" in {self.function}")
        return f"frame {self.index}  {where}" + (f": {self.source}" if self.source else "")


def read_trace(repository: Repository, commit: Commit) -> Trace | None:
    """Returns the traceback that a commit records, without its frames; None when it records none."""
    facts = _trace_facts(repository, commit)
    left_out = facts.get("left_out")
    return Trace(str(facts.get("text", "")), left_out=left_out if isinstance(left_out, int) else 0) if facts else None


def _trace_facts(repository: Repository, commit: Commit) -> dict[str, Any]:
    entry = repository.process(commit.oid).get(TRACEBACK) if commit.kind is CommitKind.EXCEPTION else None
    return dict(repository.summary(entry)) if entry is not None else {}


def read_frames(repository: Repository, commit: Commit) -> list[Frame]:
    """Returns the frames of a commit, outermost first, from what is recorded beside the values: nothing is loaded."""
    facts = _trace_facts(repository, commit)
    if not facts and (commit.run or commit.position is not None):
        entry = repository.process(commit.oid).get("position")
        facts = dict(repository.summary(entry)) if entry is not None else {}
    try:
        return _frames_of(facts.get("frames", []), repository.names(commit.oid))
    except (KeyError, TypeError, ValueError):
        return []  # a stranger's commit says what it likes


def _frames_of(places: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[Frame]:
    held: dict[str, dict[str, str]] = {}
    for name in names:
        prefix, _, local = name.rpartition(".")
        if local.isidentifier() and not prefix.endswith("._"):
            held.setdefault(prefix, {})[local] = name
    prefixes = frame_prefixes([str(place["function"]) for place in places])
    return [
        Frame(
            index,
            str(place["module"]),
            str(place["file"]),
            int(place["line"]),
            str(place["function"]),
            str(place.get("source", "")),
            str(place.get("error", "")),
            str(place.get("shown", "")),
            held.get(prefix, {}),
        )
        for index, (place, prefix) in enumerate(zip(places, prefixes, strict=True))
    ]

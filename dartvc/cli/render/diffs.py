"""Differences between commits as lines: what `diff` and `log -p` print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dartvc.cli.render.paint import Paint
from dartvc.cli.render.units import printable
from dartvc.state.value_diff import Change, DiffKind, NameDiff

__all__ = ["render_diff", "render_name_diff"]

_MARKS = {DiffKind.ADDED: "+", DiffKind.REMOVED: "-", DiffKind.CHANGED: "~", DiffKind.RETYPED: "~"}
_TEXT = 120


def render_diff(diffs: Iterable[NameDiff], *, color: bool = False) -> Iterator[str]:
    """Yields the lines of a difference between two commits, a block for each name."""
    for diff in diffs:
        yield from render_name_diff(diff, color=color)


def render_name_diff(diff: NameDiff, *, color: bool = False) -> Iterator[str]:
    """Yields the lines of one name: ``~ lr  0.1 -> 0.01 (-0.09, -90.00%)``, or its type with a line for each change."""
    paint = Paint.when(color)
    tint = {"+": paint.added, "-": paint.removed, "~": paint.changed}[_MARKS[diff.kind]]
    start = f"{tint}{_MARKS[diff.kind]} {printable(diff.name)}{paint.off}"
    if diff.kind in (DiffKind.ADDED, DiffKind.REMOVED):
        yield f"{start}  {_text(diff.after if diff.kind is DiffKind.ADDED else diff.before)}"
        return
    if len(diff.changes) == 1 and not diff.changes[0].path and not diff.source:
        yield f"{start}  {_change_text(diff.changes[0], diff, paint)}"
        return
    yield f"{start}  {printable(diff.after_type)}"
    for change in diff.changes:
        mark = "+" if change.note.endswith("added") else "-" if change.note.endswith("removed") else " "
        tint = {"+": paint.added, "-": paint.removed, " ": ""}[mark]
        path = f"{printable(change.path)}: " if change.path else ""
        yield f"  {tint}{mark} {path}{_change_text(change, diff, paint)}{paint.off if tint else ''}"
    for line in diff.source:
        tint = {"+": paint.added, "-": paint.removed, "@": paint.frame}.get(line[:1], "")
        yield f"    {tint}{printable(line)}{paint.off if tint else ''}"


def _change_text(change: Change, diff: NameDiff, paint: Paint) -> str:
    if change.note.endswith(("added", "removed")):
        return f"{_text(change.after if change.before is None else change.before)} ({change.note})"
    if change.note.endswith(" changed") or " changed, " in change.note or change.note.startswith("stored together "):
        kind = "" if change.path or len(diff.changes) > 1 else f"{diff.after_type}: "
        return f"{kind}{change.note}"
    remark = f" {paint.faint}({change.note}){paint.off}" if change.note else ""
    return f"{_text(change.before)} -> {_text(change.after)}{remark}"


def _text(value: object) -> str:
    if value is None:
        return "none"
    text = printable(f"{value:.9g}" if isinstance(value, float) else str(value))
    return text if len(text) <= _TEXT else text[: _TEXT - 3] + "..."

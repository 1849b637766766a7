"""Commits as lines: what `log` prints. Plain string work, a few microseconds a commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dartvc.cli.render.graph import Lanes
from dartvc.cli.render.paint import Paint
from dartvc.cli.render.units import Ages, format_duration, format_size, printable
from dartvc.model import Commit

__all__ = ["iter_blocks", "render_log"]

_NAMES = 6


def render_log(
    commits: Iterable[Commit], *, now_s: float, oneline: bool = False, graph: bool = False, color: bool = False, head: str = ""
) -> Iterator[str]:
    """Yields the lines of a log, newest first as the commits come.

    Args:
        commits: children before parents.
        now_s: the present as a Unix time, for relative ages.
        oneline: one line a commit instead of git's medium form.
        graph: draw the lanes of history to the left.
        color: whether to use ANSI colours.
        head: the id of the commit that HEAD is at; marked where no ref does it.
    """
    for block in iter_blocks(commits, now_s=now_s, oneline=oneline, graph=graph, color=color, head=head):
        yield from block


def iter_blocks(
    commits: Iterable[Commit], *, now_s: float, oneline: bool = False, graph: bool = False, color: bool = False, head: str = ""
) -> Iterator[list[str]]:
    """Yields what `render_log` does, all lines of a commit at once."""
    paint = Paint.when(color)
    lanes = Lanes(paint) if graph else None
    ages = Ages(now_s)
    render = _oneline if oneline else _medium
    gap: list[str] = []
    for commit in commits:
        refs = _refs(commit, paint, head) if commit.refs or commit.oid == head else ""
        lines = render(commit, refs, paint, ages)
        if lanes is None:
            yield [*gap, *lines] if gap else lines
        else:
            beside = lanes.draw(commit.oid, commit.parents, lines if oneline or lanes.ends_with(commit.oid, commit.parents) else [*lines, ""])
            yield [*gap, *beside]
        gap = [""] if not oneline and (lanes is None or lanes.are_empty) else []


def _refs(commit: Commit, paint: Paint, head: str) -> str:
    """Returns `` (HEAD -> main, tag: best)``."""
    parts = []
    for ref in commit.refs:
        name = printable(ref.removeprefix("refs/heads/").removeprefix("refs/remotes/"))
        if name.startswith("refs/tags/"):
            name = "tag: " + name[10:]
        tint = paint.head if name.startswith("HEAD") else paint.tag if name.startswith("tag: ") else paint.branch
        parts.append(f"{tint}{name}{paint.off}")
    if commit.oid == head and not any(ref.startswith("HEAD") for ref in commit.refs):
        parts.insert(0, f"{paint.head}HEAD{paint.off}")
    return f" ({', '.join(parts)})"


def _oneline(commit: Commit, refs: str, paint: Paint, ages: Ages) -> list[str]:
    subject = printable(commit.message.partition("\n")[0]) or "(no message)"
    error = f" {paint.removed}[failed]{paint.off}" if commit.error else ""
    age = ages.format(commit.time.timestamp())
    return [f"{paint.oid}{commit.oid[:8]}{paint.off}{refs} {subject}{error} {paint.faint}({age}){paint.off}"]


def _medium(commit: Commit, refs: str, paint: Paint, ages: Ages) -> list[str]:
    time, message = commit.time, commit.message
    execution = f" [{commit.execution}]" if commit.execution is not None else ""
    cost = f", {format_duration(commit.duration_ms)}" if commit.duration_ms else ""
    lines = [
        f"{paint.oid}commit {commit.oid}{paint.off}{refs}",
        f"Kind:   {commit.kind}{execution}{cost}, {format_size(commit.size_bytes)}",
        f"Date:   {time.isoformat(' ', 'seconds')} ({ages.format(time.timestamp())})",
    ]
    if len(commit.parents) > 1:
        lines.insert(1, "Merge:  " + " ".join(parent[:8] for parent in commit.parents))
    if commit.run:
        lines.append(f"Run:    {printable(commit.run)}")
    if commit.position is not None:
        place = commit.position
        lines.append(f"At:     {printable(place.file)}:{place.line} in {printable(place.function)}")
    if commit.error:
        lines.append(f"{paint.removed}Error:  {printable(commit.error).rstrip(': ')}{paint.off}")
    lines.append("")
    for line in message.split("\n"):
        lines.append(f"    {printable(line)}".rstrip())
    names = _names(commit, paint) if commit.added or commit.modified or commit.removed or commit.omitted else ""
    if names:
        lines += "", f"    {names}"
    return lines


def _names(commit: Commit, paint: Paint) -> str:
    parts = []
    if commit.added:
        parts.append(f"{paint.added}+ {_name_list(commit.added)}{paint.off}")
    if commit.modified:
        parts.append(f"{paint.changed}~ {_name_list(commit.modified)}{paint.off}")
    if commit.removed:
        parts.append(f"{paint.removed}- {_name_list(commit.removed)}{paint.off}")
    if commit.omitted:
        parts.append(f"{paint.removed}! {_name_list(commit.omitted)}{paint.off}")
    return "  ".join(parts)


def _name_list(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return printable(", ".join(names[:_NAMES])) + more

"""Values of the porcelain as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from dartvc.cli.context import Context
from dartvc.model import Commit, RestoreReport, short
from dartvc.porcelain.moves import Moved

__all__ = ["age", "counted", "render_commit", "render_moved", "size"]

_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def age(moment: datetime, now: datetime | None = None) -> str:
    """Returns how long ago something was: ``5 min ago``."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    for unit, length in _STEPS:
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return "now"


def size(count: int) -> str:
    """Returns a number of bytes in IEC units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{count} B"


def counted(count: int, noun: str) -> str:
    """Returns ``1 name`` or ``2 names``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _refs(commit: Commit, head: str | None) -> list[str]:
    named = (ref.removeprefix("refs/heads/").removeprefix("refs/remotes/").replace("refs/tags/", "tag: ") for ref in commit.refs)
    return [*(["HEAD"] if commit.oid == head else []), *named]


def render_commit(context: Context, commit: Commit, head: str | None = None) -> Iterator[str]:
    """Yields the lines of one commit, as `log` and `show` print it."""
    refs = _refs(commit, head)
    yield context.paint(f"commit {commit.oid}", "33") + (f" ({', '.join(refs)})" if refs else "")
    when = commit.time.strftime("%a %b %d %H:%M:%S %Y %z")
    cell = f", In [{commit.execution}]" if commit.execution is not None else ""
    yield f"Date:  {when} ({age(commit.time)}){cell}"
    cost = f"{size(commit.size_bytes)} new, stalled {commit.stall_ms:.1f} ms"
    yield f"Kind:  {commit.kind} ({cost})"
    if commit.error:
        yield context.paint(f"Error: {commit.error.rstrip(': ')}", "31")
    yield ""
    yield from (f"    {line}" for line in commit.message.splitlines())
    for label, names in (
        ("added", commit.added),
        ("modified", commit.modified),
        ("removed", commit.removed),
        ("not stored", commit.omitted),
    ):
        if names:
            yield f"    {label}: {' '.join(names)}"
    yield ""


def render_moved(context: Context, moved: Moved) -> Iterator[str]:
    """Yields what a verb did to HEAD and to the namespace."""
    where = f"{short(moved.head)}" if moved.head else "nothing"
    place = f"{moved.branch} at {where}" if moved.branch else f"{where} (detached: the next commit begins a branch)"
    yield f"HEAD is {place}"
    yield from _render_report(moved.report)
    if moved.has_moved_head and not moved.is_live and moved.verb in ("checkout", "switch", "reset", "undo", "redo", "op restore"):
        yield "no session is alive: the next one starts there"
    if moved.saved is not None:
        yield f"what no commit had yet is kept in {short(moved.saved)}"


def _render_report(report: RestoreReport) -> Iterator[str]:
    def listed(names: Sequence[str]) -> str:
        return " ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

    for label, names in (("restored", report.written), ("made again", report.recomputed), ("removed", report.removed)):
        if names:
            yield f"{label}: {listed(names)}"
    for omission in report.omissions:
        yield f"not as it was: {omission.path}: {omission.reason}" + (f" ({omission.remedy})" if omission.remedy else "")

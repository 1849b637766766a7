"""Values of the porcelain as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from dartvc.cli.context import Context
from dartvc.model import Commit, RestoreReport, short
from dartvc.porcelain.compare import Difference, NameDifference
from dartvc.porcelain.moves import Moved

__all__ = ["age", "graph_lines", "log_line", "render_commit", "render_difference", "render_moved", "render_summary", "size"]

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


def _names(commit: Commit, limit: int = 6) -> str:
    marked = [*(f"+{name}" for name in commit.added), *(f"~{name}" for name in commit.modified), *(f"-{name}" for name in commit.removed)]
    return " ".join(marked[:limit]) + (f" and {len(marked) - limit} more" if len(marked) > limit else "")


def log_line(context: Context, commit: Commit, now: datetime, head: str | None = None) -> str:
    """Returns one line of `log --oneline`."""
    refs = _refs(commit, head)
    shown = context.paint(f"({', '.join(refs)}) ", "33") if refs else ""
    mark = context.paint("! ", "31") if commit.error else ""
    return f"{context.paint(short(commit.oid), '33')} {shown}{mark}{commit.subject[:72]}  {context.paint(_names(commit), '2')}  {age(commit.time, now)}"


def _refs(commit: Commit, head: str | None) -> list[str]:
    return [*(["HEAD"] if commit.oid == head else []), *commit.refs]


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
        yield context.paint(f"Error: {commit.error}", "31")
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


def graph_lines(commits: Iterable[Commit]) -> Iterator[tuple[str, Commit]]:
    """Yields (lanes, commit), lanes as `git log --graph` draws them, a column for each line of history."""
    lanes: list[str] = []
    for commit in commits:
        if commit.oid not in lanes:
            lanes.append(commit.oid)
        column = lanes.index(commit.oid)
        yield " ".join("*" if index == column else "|" for index in range(len(lanes))), commit
        parents = [parent for parent in commit.parents if parent not in lanes]
        lanes[column : column + 1] = parents[:1]
        lanes.extend(parents[1:])


def render_summary(summary: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """Yields a summary, a key a line."""
    for key, value in summary.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from render_summary(value, indent + "  ")
        elif isinstance(value, list) and key == "source":
            yield from (f"{indent}  {line}" for line in value)
        elif isinstance(value, list) and key == "shape":
            yield f"{indent}{key}: {' x '.join(map(str, value))}"
        else:
            yield f"{indent}{key}: {value}"


def render_difference(context: Context, difference: Difference) -> Iterator[str]:
    """Yields what differs, a paragraph a name."""
    for name in difference.names:
        yield from _render_name(context, name)


def _render_name(context: Context, name: NameDifference) -> Iterator[str]:
    sign, color = {"added": ("+", "32"), "removed": ("-", "31")}.get(name.kind, ("~", "36"))
    if name.kind in ("added", "removed"):
        change = name.changes[0]
        yield context.paint(f"{sign} {name.name}  {change.after if name.kind == 'added' else change.before}", color)
        return
    single = name.changes[0] if len(name.changes) == 1 and not name.source else None
    if single is not None:
        yield f"{context.paint(f'{sign} {name.name}', color)}  {name.type}  {_render_change(single.path, single.before, single.after, single.note)}"
        return
    yield f"{context.paint(f'{sign} {name.name}', color)}  {name.type}"
    for change in name.changes:
        yield f"    {_render_change(change.path, change.before, change.after, change.note)}"
    for line in name.source:
        yield "    " + context.paint(line, {"+": "32", "-": "31"}.get(line[:1], "0"))


def _render_change(path: str, before: object, after: object, note: str) -> str:
    if path == "contents":
        return "contents changed"
    label = "" if path == "repr" else f"{path}: "
    return f"{label}{_shown(before)} -> {_shown(after)}" + (f"  ({note})" if note else "")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value)) if all(isinstance(item, int) for item in value) else ", ".join(map(str, value))
    return "none" if value is None else str(value)


def render_moved(context: Context, moved: Moved) -> Iterator[str]:
    """Yields what a verb did to HEAD and to the namespace."""
    where = f"{short(moved.head)}" if moved.head else "nothing"
    place = f"{moved.branch} at {where}" if moved.branch else f"{where} (detached: the next commit begins a branch)"
    yield f"HEAD is {place}"
    yield from _render_report(moved.report)
    if not moved.is_live and moved.verb in ("checkout", "switch", "reset", "undo", "redo", "op restore"):
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

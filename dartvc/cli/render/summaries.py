"""A value's summary as lines: what `show` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dartvc.cli.render.paint import Paint
from dartvc.cli.render.tables import render_table
from dartvc.cli.render.units import format_size, printable
from dartvc.model import Summary
from dartvc.state.value_diff import headline

__all__ = ["render_headline", "render_summary"]

_TABLES = {"fields": "column", "layers": "layer"}
_SAID = frozenset({"type", "name", "shape", "dtype", "rows", "columns", "signature", "source", *_TABLES})


def render_headline(name: str, summary: Summary, *, color: bool = False, width: int = 0) -> str:
    """Returns one line for a name and its value, cut at ``width`` (0: no limit)."""
    paint = Paint.when(color)
    text = printable(headline(summary))
    room = max(10, width - len(name) - 2) if width else 0
    return f"{paint.strong}{printable(name)}{paint.off}  {text if not room or len(text) <= room else text[: room - 3] + '...'}"


def render_summary(name: str, summary: Summary, *, color: bool = False, width: int = 0) -> Iterator[str]:
    """Yields everything that a summary says of a value: a headline, the rest key by key, columns and layers as a table, the source.

    Args:
        name: of the variable, with the path inside it if there is one.
        summary: as recorded.
        color: whether to use ANSI colours.
        width: of the terminal; tables are cut there. 0: no limit.
    """
    paint = Paint.when(color)
    yield render_headline(name, summary, color=color, width=width)
    for key, value in summary.items():
        if key in _SAID or (key in ("repr", "length") and not isinstance(value, str)):
            continue
        if key == "repr" and (summary.get("items") or len(str(value)) < 40):
            continue
        if isinstance(value, Mapping):
            if value:
                yield f"  {paint.frame}{key}{paint.off}"
                yield from (f"    {printable(str(part))}: {_text(item)}" for part, item in value.items())
        else:
            yield f"  {paint.frame}{key}{paint.off}: {format_size(value) if key == 'bytes' and isinstance(value, int) else _text(value)}"
    for key, noun in _TABLES.items():
        parts = summary.get(key)
        if isinstance(parts, Mapping) and parts:
            yield from _part_lines(noun, parts, color, width)
    source = summary.get("source")
    if isinstance(source, list):
        yield from ("    " + printable(str(line)) for line in source)


def _part_lines(noun: str, parts: Mapping[str, object], color: bool, width: int) -> Iterator[str]:
    rows = {name: part for name, part in parts.items() if isinstance(part, Mapping)}
    keys = list(dict.fromkeys(key for part in rows.values() for key in part))
    cells = [[name, *(_cell(part.get(key)) for key in keys)] for name, part in rows.items()]
    yield from ("  " + line for line in render_table([noun, *keys], cells, color=color, width=max(0, width - 2)))


def _cell(value: object) -> object:
    return value if value is None or (isinstance(value, int | float) and not isinstance(value, bool)) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return printable(f"{value:.9g}" if isinstance(value, float) else str(value))

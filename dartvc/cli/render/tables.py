"""Tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dartvc.cli.render.paint import Paint
from dartvc.cli.render.units import printable

__all__ = ["render_table"]


def render_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, color: bool = False, width: int = 0) -> Iterator[str]:
    """Yields the lines of a table: columns two spaces apart, numbers to the right, None empty.

    Args:
        header: names of the columns.
        rows: as many cells each.
        color: whether the header is emphasised.
        width: of the terminal; lines are cut there. 0: no limit.
    """
    paint = Paint.when(color)
    texts = [[_cell(cell) for cell in row] for row in rows]
    names = [printable(name) for name in header]
    widths = [max([len(name), *(len(row[place]) for row in texts)]) for place, name in enumerate(names)]
    is_number = [_is_numeric([row[place] for row in rows]) for place in range(len(names))]
    if names:
        yield paint.strong + _line(names, widths, is_number, width) + paint.off
    for row in texts:
        yield _line(row, widths, is_number, width)


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.12g}" if 1e6 <= abs(cell) < 1e12 else f"{cell:.6g}"  # a time is told to the hundredth of a second
    return "" if cell is None else printable(str(cell))


def _is_numeric(cells: Sequence[object]) -> bool:
    present = [cell for cell in cells if cell is not None]
    return bool(present) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in present)


def _line(cells: Sequence[str], widths: Sequence[int], is_number: Sequence[bool], width: int) -> str:
    padded = [cell.rjust(size) if right else cell.ljust(size) for cell, size, right in zip(cells, widths, is_number, strict=True)]
    line = "  ".join(padded).rstrip()
    return line if not width or len(line) <= width else line[: max(0, width - 3)] + "..."

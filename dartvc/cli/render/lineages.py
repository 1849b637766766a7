"""Lineages as text, as input of Graphviz, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dartvc.hindsight.provenance import Graph, Node

__all__ = ["dot_lines", "svg_text", "tree_lines"]

_SHAPES = {"file": "note", "run": "box", "name": "ellipse", "statement": "box", "operation": "box", "source": "note"}
_COLOURS = {"file": "#fff3d6", "run": "#e3ecf7", "name": "#dff0df", "statement": "#eef2f6", "operation": "#eef2f6", "source": "#fff3d6"}
_ROW, _GAP, _LETTER, _HEIGHT, _MARGIN = 64, 28, 6.7, 40, 16
_TEXT_LIMIT = 60


def tree_lines(graph: Graph, *, is_down: bool) -> Iterator[str]:
    """Yields a graph as an indented tree; what was drawn before is named and not drawn again."""
    nexts = _nexts(graph, is_down=is_down)
    drawn: set[str] = set()
    waiting = [(graph.root, "", "")]
    while waiting:
        key, lead, below = waiting.pop()
        node = graph.nodes[key]
        is_again = key in drawn and key in nexts
        drawn.add(key)
        detail = "see above" if is_again else node.detail
        kind = "" if node.kind in ("statement", "operation", "source") else f"{node.kind} "
        yield f"{lead}{kind}{node.label}" + (f"  ({detail})" if detail else "")
        if not is_again:
            children = nexts.get(key, [])
            for at in range(len(children) - 1, -1, -1):
                is_last = at == len(children) - 1
                waiting.append((children[at], below + ("└─ " if is_last else "├─ "), below + ("   " if is_last else "│  ")))


def _nexts(graph: Graph, *, is_down: bool) -> dict[str, list[str]]:
    nexts: dict[str, list[str]] = {}
    for edge in graph.edges:
        start, end = (edge.source, edge.target) if is_down else (edge.target, edge.source)
        nexts.setdefault(start, []).append(end)
    return nexts


def dot_lines(graph: Graph) -> Iterator[str]:
    """Yields a graph in Graphviz' language."""
    yield "digraph lineage {"
    yield "  rankdir=LR; node [fontname=Helvetica];"
    for node in graph.nodes.values():
        label = _quoted(f"{node.label}\n{node.detail}".strip())
        yield f"  {_quoted(node.key)} [shape={_SHAPES[node.kind]}, label={label}];"
    for edge in graph.edges:
        yield f"  {_quoted(edge.source)} -> {_quoted(edge.target)};"
    yield "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def svg_text(graph: Graph) -> str:
    """Returns a graph as an SVG picture: what was asked for stands at the bottom, what it was made from above, each node above all that was made from it."""
    rows = _rows(graph)
    widths = {key: max(len(line) for line in _lines(node)) * _LETTER + 20 for key, node in graph.nodes.items()}
    total = max(sum(widths[key] + _GAP for key in row) for row in rows) + 2 * _MARGIN
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (total - sum(widths[key] + _GAP for key in row) + _GAP) / 2
        for key in row:
            places[key] = left + widths[key] / 2, _MARGIN + _HEIGHT / 2 + (len(rows) - 1 - number) * _ROW
            left += widths[key] + _GAP
    height = len(rows) * _ROW - (_ROW - _HEIGHT) + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:.0f}" height="{height}" viewBox="0 0 {total:.0f} {height}"',
        '     font-family="ui-monospace, monospace" font-size="11">',
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#8894a4"/></marker></defs>',
        f'<rect width="{total:.0f}" height="{height}" fill="white"/>',
    ]
    for edge in graph.edges:
        (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
        y1, y2 = (y1 + _HEIGHT / 2, y2 - _HEIGHT / 2) if y1 < y2 else (y1 - _HEIGHT / 2, y2 + _HEIGHT / 2)
        middle = (y1 + y2) / 2
        path = f"M{x1:.1f},{y1:.1f} C{x1:.1f},{middle:.1f} {x2:.1f},{middle:.1f} {x2:.1f},{y2:.1f}"
        parts.append(f'<path d="{path}" fill="none" stroke="#8894a4" marker-end="url(#head)"/>')
    for key, node in graph.nodes.items():
        x, y = places[key]
        lines = _lines(node)
        shape = f'x="{x - widths[key] / 2:.1f}" y="{y - _HEIGHT / 2:.1f}" width="{widths[key]:.1f}" height="{_HEIGHT}" rx="{_HEIGHT / 2 if node.kind == "name" else 4}"'
        parts.append(
            f'<g><title>{escape(f"{node.label} {node.detail}".strip())}</title><rect {shape} fill="{_COLOURS[node.kind]}" stroke="#8894a4"/>'
        )
        for at, line in enumerate(lines):
            down = y + 4 + (at - (len(lines) - 1) / 2) * 14
            parts.append(f'<text x="{x:.1f}" y="{down:.1f}" text-anchor="middle" xml:space="preserve">{escape(line)}</text>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _lines(node: Node) -> list[str]:
    found = [node.label, *([node.detail] if node.detail else [])]
    return [line if len(line) <= _TEXT_LIMIT else f"{line[: _TEXT_LIMIT - 1]}…" for line in found]


def _rows(graph: Graph) -> list[list[str]]:
    """Returns the nodes by the length of the longest way from the root, as far as no circle is gone through."""
    nexts = _nexts(graph, is_down=False)
    depth = {graph.root: 0}
    order: list[str] = []
    state: dict[str, int] = {}
    waiting: list[tuple[str, bool]] = [(graph.root, False)]
    while waiting:  # in the order in which nothing more comes before a node
        key, is_done = waiting.pop()
        if is_done:
            order.append(key)
            state[key] = 2
        elif key not in state:
            state[key] = 1
            waiting.append((key, True))
            waiting += [(each, False) for each in nexts.get(key, ()) if each not in state]
    rank = {key: number for number, key in enumerate(reversed(order))}
    for key in reversed(order):
        for each in nexts.get(key, ()):
            if rank[each] > rank[key]:
                depth[each] = max(depth.get(each, 0), depth[key] + 1)
    rows: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for key in graph.nodes:
        rows[depth.get(key, 0)].append(key)
    return rows

"""Commands that tell where something comes from: why, lineage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dartvc.cli.context import Context, current
from dartvc.cli.render.units import printable
from dartvc.cli.text import age, size
from dartvc.errors import NotFoundError, UsageError
from dartvc.model import Oid, short

if TYPE_CHECKING:
    from dartvc.hindsight.index import Index
    from dartvc.hindsight.provenance import Graph
    from dartvc.porcelain.tracing import FileOrigin, NameOrigin

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Word = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="a file that a run wrote or read, or a name of the commit; ./NAME is the file")
]
Revision = Annotated[str, typer.Option("--rev", metavar="REV", help="the commit that a name is looked up in")]
_FORMATS = ("text", "dot", "json")
_SHAPES = {"file": "note", "run": "box", "name": "ellipse", "commit": "box"}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("why")(why)
    app.command("lineage")(lineage)


def why(word: Word, revision: Revision = "HEAD", is_json: Json = False) -> None:
    """Tells what made a file (run, commit, line of code, arguments, what it had read) or a name (commit, cell, the names that it read)."""
    from dartvc.porcelain.tracing import explain_file, explain_name, find_target

    context = current()
    index, oid = _sight(context, revision)
    target = find_target(context.repository, index, word, Path(context.directory), oid)
    if target.name and target.oid is not None:
        name = explain_name(context.repository, target.name, target.oid)
        _print(context, is_json, {"name": name}, _name_lines(name))
    else:
        file = explain_file(context.repository, index, target.path)
        _print(context, is_json, {"file": file}, _file_lines(file))


def _print(context: Context, is_json: bool, body: dict[str, object], lines: Iterator[str]) -> None:
    if is_json:
        context.json("why", body)
        return
    for line in lines:
        context.out(printable(line))


def _file_lines(made: FileOrigin) -> Iterator[str]:
    moment = datetime.fromtimestamp(made.time_s, UTC)
    verb = "written by" if made.is_certain else "changed during"
    yield f"{made.path}: {verb} run {made.run[:8]}, {made.by}" + (f" ({made.arguments})" if made.arguments else "")
    yield f"  {age(moment)}, {size(made.size)}" + (f", xxh3 {made.digest}" if made.digest else "")
    if made.oid is not None:
        yield f"  commit {short(made.oid)}"
    if made.place is not None:
        file, line, function = made.place
        yield f"  {file}:{line} in {function}" + (f": {made.text}" if made.text else "")
    if made.is_changed:
        yield "  what lies there now is another version: it was changed since"
    for each in made.inputs:
        origin = f"run {each.run[:8]}, {each.by}" if each.run else "no run wrote it"
        yield f"  read {each.label}  ({origin})"


def _name_lines(made: NameOrigin) -> Iterator[str]:
    commit = made.commit
    cell = f", In [{commit.execution}]" if commit.execution is not None else ""
    run = f", run {commit.run}" if commit.run else ""
    yield f"{made.name}: written by {short(commit.oid)}{cell}{run}  {commit.subject[:80]}  ({age(commit.time)})"
    if commit.position is not None:
        yield f"  the program stood at {commit.position.file}:{commit.position.line} in {commit.position.function}"
    for each in made.makings:
        yield f"  line {each.line}: {each.text}"
    for source in made.inputs:
        yield f"  read {source.label}  ({short(source.oid)} {source.by[:60]})"


def lineage(
    word: Word,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text, dot (Graphviz) or json")] = "text",
    is_down: Annotated[bool, typer.Option("--down", help="of a file: what was made from it, instead of what it was made from")] = False,
    depth: Annotated[int, typer.Option("--depth", metavar="N", help="so many steps at most")] = 20,
    revision: Revision = "HEAD",
    is_json: Json = False,
) -> None:
    """Draws what a file or a name was made from, back to what nobody made here: runs and the files between them, or cells and the names between them."""
    from dartvc.porcelain.tracing import find_target, trace_file, trace_name

    context = current()
    form = "json" if is_json else form
    if form not in _FORMATS:
        raise UsageError(f"{form!r} is no format", kind="format", hint=f"one of {', '.join(_FORMATS)}")
    index, oid = _sight(context, revision)
    target = find_target(context.repository, index, word, Path(context.directory), oid)
    if target.name and target.oid is not None:
        if is_down:
            raise UsageError("--down goes from a file to what was made from it", kind="lineage", hint=f"dvc-state lineage {word}")
        graph = trace_name(context.repository, target.name, target.oid, depth=depth)
    else:
        graph = trace_file(context.repository, index, target.path, depth=depth, is_down=is_down)
    if form == "json":
        nodes, edges = list(graph.nodes.values()), list(graph.edges)
        context.json("lineage", {"root": graph.root, "nodes": nodes, "edges": edges, "is_cut": graph.is_cut})
    else:
        for line in _dot(graph) if form == "dot" else _tree(graph, is_down=is_down):
            context.out(line if form == "dot" else printable(line))
    if graph.is_cut:
        context.say("there is more: --depth")


def _sight(context: Context, revision: str) -> tuple[Index, Oid | None]:
    """Returns the index, up to date, and the commit that names are looked up in; None in a repository without commits."""
    from dartvc.hindsight.index import Index

    index = Index(context.repository)
    index.refresh()
    try:
        return index, context.repository.resolve(revision, head=context.workspace.head)
    except NotFoundError:
        if revision != "HEAD":
            raise
        return index, None


def _tree(graph: Graph, *, is_down: bool) -> Iterator[str]:
    """Yields a graph as an indented tree; what was drawn before is named and not drawn again."""
    nexts: dict[str, list[str]] = {}
    for edge in graph.edges:
        start, end = (edge.source, edge.target) if is_down else (edge.target, edge.source)
        nexts.setdefault(start, []).append(end)
    drawn: set[str] = set()
    waiting = [(graph.root, "", "")]
    while waiting:
        key, lead, below = waiting.pop()
        node = graph.nodes[key]
        is_again = key in drawn and key in nexts
        drawn.add(key)
        detail = "see above" if is_again else node.detail
        yield f"{lead}{node.kind} {node.label}" + (f"  ({detail})" if detail else "")
        if not is_again:
            children = nexts.get(key, [])
            for at in range(len(children) - 1, -1, -1):
                is_last = at == len(children) - 1
                waiting.append((children[at], below + ("└─ " if is_last else "├─ "), below + ("   " if is_last else "│  ")))


def _dot(graph: Graph) -> Iterator[str]:
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

"""Commands that tell where something comes from: why, lineage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dartvc.cli.context import Context, current
from dartvc.cli.render.lineages import dot_lines, svg_text, tree_lines
from dartvc.cli.render.units import printable
from dartvc.cli.text import age, size
from dartvc.errors import NotFoundError, UsageError
from dartvc.model import Oid, short

if TYPE_CHECKING:
    from dartvc.hindsight.index import Index
    from dartvc.hindsight.provenance import Graph
    from dartvc.porcelain.explaining import Divergence, NameOrigin, Statement
    from dartvc.porcelain.explaining import Source as OriginSource
    from dartvc.porcelain.tracing import FileOrigin, Target

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Word = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="a file that a run wrote or read, or a name of the commit; ./NAME is the file")
]
Revision = Annotated[str, typer.Option("--rev", metavar="REV", help="the commit that a name is looked up in")]
_FORMATS = ("text", "dot", "svg", "json")
_LEVELS = ("statement", "call", "operation")
_STATEMENTS_SHOWN = 12
_DIFFERENCES_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("why")(why)
    app.command("lineage")(lineage)


def why(
    word: Word,
    revision: Revision = "HEAD",
    is_whole: Annotated[bool, typer.Option("--all", help="all statements behind a name, not the nearest alone")] = False,
    is_json: Json = False,
) -> None:
    """Tells what made a file (run, commit, line of code, arguments, what it had read) or a name (commit, statements, input files, seeds)."""
    from dartvc.porcelain.explaining import explain_name
    from dartvc.porcelain.tracing import explain_file, find_target

    context = current()
    index, oid = _sight(context, revision)
    target = find_target(context.repository, index, word, Path(context.directory), oid)
    if target.name and target.oid is not None:
        name = explain_name(context.repository, index, target.name, target.oid)
        _print(context, is_json, {"name": name}, _name_lines(name, 1 << 30 if is_whole else _STATEMENTS_SHOWN))
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


def _name_lines(made: NameOrigin, limit: int) -> Iterator[str]:
    commit = made.commit
    cell = f", In [{commit.execution}]" if commit.execution is not None else ""
    run = f", run {commit.run[:8]}" if commit.run else ""
    yield f"{made.name}: written by {short(commit.oid)}{cell}{run}  {commit.subject[:80]}  ({age(commit.time)})"
    if commit.position is not None:
        yield f"  the program stood at {commit.position.file}:{commit.position.line} in {commit.position.function}"
    if not made.digest:
        yield "  no statement of its code is seen to bind it"
    yield from (f"  {_statement_text(each)}" for each in made.statements[:limit])
    if len(made.statements) > limit:
        yield f"  and {len(made.statements) - limit} more (--all)"
    yield from (f"  {_source_text(each)}" for each in made.sources)
    if made.is_cut:
        yield "  older cells were not looked at"


def _statement_text(made: Statement) -> str:
    place = f"{made.file}:{made.line}" + (f" in {made.function}" if made.function else "")
    return f"{place}  {made.text}" + (f"  ({made.note})" if made.note else "")


def _source_text(source: OriginSource) -> str:
    place = f"  ({source.file}:{source.line})" if source.file else ""
    if source.kind == "file":
        origin = f"run {source.run[:8]}, {source.by}" if source.run else "no run wrote it"
        return f"file {source.text}" + (f"  xxh3 {source.digest}" if source.digest else "") + f"  ({origin})"
    if source.kind in ("seed", "setting"):
        return f"{source.kind} {source.text}{place}"
    if source.kind == "stream":
        return f"random numbers of {source.text}, which was not seeded{place}: another run gives others"
    return f"{source.kind}{f' {source.text}' if source.text != source.kind else ''}{place}: another run may see another"


def lineage(
    word: Word,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text, dot (Graphviz), svg or json")] = "text",
    level: Annotated[
        str,
        typer.Option(
            "--level", metavar="LEVEL", help="of a name: statement (calls and loops are one step), call (what is in them) or operation"
        ),
    ] = "call",
    other: Annotated[
        str, typer.Option("--against", metavar="REV", help="of a name: where its lineage at another commit parts from this one")
    ] = "",
    is_slice: Annotated[bool, typer.Option("--slice", help="of a name: print the part of the program that makes it")] = False,
    is_recomputed: Annotated[
        bool, typer.Option("--recompute", help="of a name: run that part in a folder of its own, and compare")
    ] = False,
    is_trusted: Annotated[bool, typer.Option("--trust", help="--recompute runs code that was recorded elsewhere, too")] = False,
    is_down: Annotated[bool, typer.Option("--down", help="of a file: what was made from it, instead of what it was made from")] = False,
    depth: Annotated[int, typer.Option("--depth", metavar="N", help="so many steps at most")] = 20,
    revision: Revision = "HEAD",
    is_json: Json = False,
) -> None:
    """Draws what a file or a name was made from, back to what nobody made here: runs and the files between them, or statements, calls and operations.

    Of a name, the same lineage is also compared with another commit's (--against), printed as a program (--slice) and executed (--recompute).
    """
    from dartvc.porcelain.tracing import find_target, trace_file

    context = current()
    form = "json" if is_json else form
    for word_given, known, kind in ((form, _FORMATS, "format"), (level, _LEVELS, "level")):
        if word_given not in known:
            raise UsageError(f"{word_given!r} is no {kind}", kind=kind, hint=f"one of {', '.join(known)}")
    index, oid = _sight(context, revision)
    target = find_target(context.repository, index, word, Path(context.directory), oid)
    if target.name and target.oid is not None:
        if is_down:
            raise UsageError("--down goes from a file to what was made from it", kind="lineage", hint=f"dvc-state lineage {word}")
        _lineage_of_name(
            context, target, form, level, other, is_slice=is_slice, is_recomputed=is_recomputed, is_trusted=is_trusted, depth=depth
        )
        return
    if other or is_slice or is_recomputed:
        raise UsageError("--against, --slice and --recompute are for names", kind="lineage", hint="dvc-state ls lists the names")
    _draw(context, trace_file(context.repository, index, target.path, depth=depth, is_down=is_down), form, is_down=is_down)


def _lineage_of_name(
    context: Context,
    target: Target,
    form: str,
    level: str,
    other: str,
    *,
    is_slice: bool,
    is_recomputed: bool,
    is_trusted: bool,
    depth: int,
) -> None:
    from dartvc.porcelain.explaining import Level, compare_names, trace_name
    from dartvc.porcelain.recomputing import recompute_name, slices_for

    assert target.oid is not None
    repository, name, oid = context.repository, target.name, target.oid
    if is_slice:
        slices = slices_for(repository, name, oid)
        if form == "json":
            context.json("lineage", {"name": name, "slices": slices})
        for number, (file, text) in enumerate(slices.items() if form != "json" else ()):
            context.out(f"# {file}" if not number else f"\n# {file}")
            context.out(text.rstrip("\n"))
    elif is_recomputed:
        done = recompute_name(repository, name, oid, trust=is_trusted)
        if form == "json":
            context.json("lineage", {"recomputed": done})
        else:
            verdict = {True: "the same value", False: "another value than the commit has", None: "the program failed"}[done.is_equal]
            context.out(printable(f"{name}: {verdict}, from {done.lines} of {done.of_lines} lines in {done.seconds:.1f} s"))
            for line in done.problem.splitlines():
                context.out(f"  {printable(line)}")
        if not done.is_equal:
            raise typer.Exit(1)
    elif other:
        found = compare_names(repository, name, context.repository.resolve(other, head=context.workspace.head), oid)
        if form == "json":
            context.json("lineage", {"name": name, "divergences": found})
        else:
            for line in _divergence_lines(name, found):
                context.out(printable(line))
        if found:
            raise typer.Exit(1)
    else:
        _draw(context, trace_name(repository, name, oid, depth=depth, level=Level(level)), form, is_down=False)


def _divergence_lines(name: str, found: list[Divergence]) -> Iterator[str]:
    if not found:
        yield f"{name}: made in the same way"
        return
    for each in found[:_DIFFERENCES_SHOWN]:
        sides = [made for made in (each.one, each.other) if made is not None]
        if sides:
            yield _statement_text(sides[-1])
        yield f"  - {each.before or 'nothing'}"
        yield f"  + {each.after or 'nothing'}"
    if len(found) > _DIFFERENCES_SHOWN:
        yield f"and {len(found) - _DIFFERENCES_SHOWN} more (--format json has all)"


def _draw(context: Context, graph: Graph, form: str, *, is_down: bool) -> None:
    if form == "json":
        nodes, edges = list(graph.nodes.values()), list(graph.edges)
        context.json("lineage", {"root": graph.root, "nodes": nodes, "edges": edges, "is_cut": graph.is_cut})
    elif form == "svg":
        context.out(svg_text(graph))
    else:
        for line in dot_lines(graph) if form == "dot" else tree_lines(graph, is_down=is_down):
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

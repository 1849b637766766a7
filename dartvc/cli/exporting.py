"""``export``: variables of a commit as files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartvc.cli.context import current
from dartvc.cli.render.units import printable
from dartvc.cli.text import size
from dartvc.errors import PartialError
from dartvc.porcelain.exporting import export as write_files

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("export")(export)


def export(
    revision: Annotated[str, typer.Argument(metavar="REV", help="of which commit")],
    names: Annotated[list[str] | None, typer.Argument(help="which variables; none: all but modules, functions and classes")] = None,
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="FILE", help="by its ending: .npy, .npz, .parquet, .csv, .json, .pkl; a folder: a file for each"
        ),
    ] = "./",
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="npy, npz, parquet, csv, json or pkl, whatever the ending")] = "",
    is_trusting: Annotated[bool, typer.Option("--trust", help="a commit that was made on another machine")] = False,
    is_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Writes variables of a commit to files that other tools read: arrays, tables, plain data."""
    context = current()
    oid = context.repository.resolve(revision, head=context.workspace.head)
    target = Path(context.directory) / output
    is_folder = output.endswith("/") or target.is_dir()
    done = write_files(context.repository, oid, names or (), target, form, is_folder=is_folder, trust=is_trusting)
    if is_json:
        context.json("export", {"oid": done.oid, "items": done.files, "omissions": done.omissions})
    else:
        for each in done.files:
            context.out(f"{printable(str(each.path))}  {size(each.size_bytes)}  {', '.join(map(printable, each.names))}")
        for omission in done.omissions:
            context.say(f"left out: {printable(omission.path)}: {printable(omission.reason)}")
    if done.omissions:
        raise PartialError(f"{len(done.omissions)} variables could not be exported", done.omissions, hint=f"dvc-state shell {revision}")

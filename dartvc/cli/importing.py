"""``import``: the runs that other tools have recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartvc.cli.context import current
from dartvc.cli.render.units import printable
from dartvc.errors import PartialError
from dartvc.model import short
from dartvc.porcelain.importing import Failure, ImportedRun, import_from

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    importing = typer.Typer(
        rich_markup_mode=None, no_args_is_help=True, help="runs that other tools have recorded, into queries and history here"
    )
    for function in (flordb, mlflow, wandb):
        importing.command(function.__name__)(function)
    app.add_typer(importing, name="import")


def flordb(
    path: Annotated[str, typer.Argument(metavar="PATH", help="a project with .flor, or a database below ~/.flor")] = ".",
    is_json: Json = False,
) -> None:
    """Imports FlorDB's runs: their logs with the loops, and what its replays found; again: only what is new."""
    _import("flordb", path, is_json)


def mlflow(
    path: Annotated[str, typer.Argument(metavar="PATH", help="a folder mlruns, an mlflow.db, or the project that has one")] = ".",
    is_json: Json = False,
) -> None:
    """Imports MLflow's runs from its file store or SQLite store: parameters, metrics by step, tags; again: only what is new."""
    _import("mlflow", path, is_json)


def wandb(
    path: Annotated[str, typer.Argument(metavar="PATH", help="a folder wandb, one run's folder, or a .wandb file")] = ".",
    is_json: Json = False,
) -> None:
    """Imports the offline runs of Weights & Biases: configuration, history by step, summary, tags; again: only what is new."""
    _import("wandb", path, is_json)


def _import(tool: str, path: str, is_json: bool) -> None:
    context = current()
    items: list[ImportedRun] = []
    failures: list[Failure] = []
    for each in import_from(context.repository, tool, Path(context.directory) / path):
        if isinstance(each, Failure):
            failures.append(each)
            context.say(f"not imported: {printable(each.label)}: {printable(each.reason)}")
        else:
            items.append(each)
            if not is_json and each.outcome != "unchanged":
                context.out(f"{short(each.run)}  {each.outcome:<7}  {each.records:>7} records  {printable(each.name or each.origin)}")
    if is_json:
        context.json(f"import-{tool}", {"items": items, "failures": failures})
    else:
        same = sum(each.outcome == "unchanged" for each in items)
        context.say(f"{len(items) - same} runs imported, {same} were here already")
    if failures:
        raise PartialError(f"{len(failures)} runs could not be imported", (), hint="the others are here: dvc-state query --df NAME")

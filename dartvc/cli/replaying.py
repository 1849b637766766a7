"""The command replay."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dartvc.cli.context import Context, current
from dartvc.porcelain.replay import Replayed, replay
from dartvc.shims.texts import read_program

__all__ = ["register"]

_DONE = frozenset({"replayed", "known", "planned"})


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("replay")(_replay)


def _replay(
    names: Annotated[
        str, typer.Argument(metavar="NAMES", help="what the log statements log, with commas: grad_norm,'weight_*'; '*' for all")
    ],
    revisions: Annotated[list[str] | None, typer.Argument(metavar="REV...", help="runs, by id, or by a commit of theirs")] = None,
    is_everything: Annotated[bool, typer.Option("--all", help="all runs whose present program logs one of the names")] = False,
    processes: Annotated[int, typer.Option("-j", metavar="N", min=0, help="so many processes at once; none said: one for each core")] = 0,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and what it would cost")] = False,
    where: Annotated[
        str, typer.Option("--where", metavar="EXPR", help="only runs and iterations for which this holds: 'epoch > 5 and lr < 0.1'")
    ] = "",
    sample: Annotated[str, typer.Option("--sample", metavar="N|P%", help="so many iterations of a run, or such a share, evenly spread")] = "",
    executor: Annotated[str, typer.Option("--executor", metavar="local|dask", help="where the processes are started")] = "local",
    is_trusted: Annotated[bool, typer.Option("--trust", help="execute runs that were made elsewhere, too")] = False,
    is_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Executes past runs again with the log statements of the present files; `dvc-state query` shows the values beside the recorded ones."""
    context = current()
    asked = [each.strip() for each in names.split(",") if each.strip()]
    wanted = [] if "*" in asked else asked
    outcomes: list[Replayed] = []
    for each in replay(
        context.repository,
        wanted,
        list(revisions or ()),
        read=read_program,
        is_everything=is_everything,
        processes=processes,
        is_dry=is_dry,
        is_trusted=is_trusted,
        where=where,
        sample=sample,
        executor=executor,
    ):
        outcomes.append(each)
        if not is_json:
            _tell(context, each)
    if is_json:
        context.json("replay", {"items": outcomes})
    if any(each.state not in _DONE for each in outcomes):
        raise typer.Exit(1)


def _tell(context: Context, each: Replayed) -> None:
    """Writes a line about one run, and its reasons."""
    planned = f", {each.held} values out of commits" if each.held else ""
    held = f" ({each.held} held by commits)" if each.held else ""
    words = {
        "replayed": f"{each.records} values in {each.seconds:.1f} s{held}",
        "deviates": f"{each.records} values in {each.seconds:.1f} s, not certain",
        "known": "has them already",
        "planned": f"{each.seconds:.1f} s, when it was recorded, in {each.processes} process{'es' * (each.processes > 1)}{planned}",
        "refused": f"{each.records} values in {each.seconds:.1f} s, not all of it" if each.records else "not replayed",
    }
    places = f"  [{', '.join(each.places)}]" if each.places else ""
    context.out(f"{each.run}  {each.script}  {words[each.state]}{places}")
    for reason in each.reasons:
        context.say(f"  {reason}")
    sys.stdout.flush()

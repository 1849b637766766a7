"""Commands about programs: run, resume, runs."""

from __future__ import annotations

from typing import Annotated

import typer

from dartvc.cli.context import current
from dartvc.cli.running import StartOptions, start
from dartvc.cli.text import age
from dartvc.model import short
from dartvc.porcelain.programs import list_runs

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
MaxOverhead = Annotated[float, typer.Option("--max-overhead", metavar="PERCENT", help="share of the run time that commits may take")]
Every = Annotated[float, typer.Option("--every", metavar="SECONDS", help="commit so often, whatever it costs")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("run", context_settings={"allow_interspersed_args": False})(run)
    app.command("resume")(resume)
    app.command("runs")(runs)


def run(
    script: Annotated[str, typer.Argument(help="the program")],
    arguments: Annotated[list[str] | None, typer.Argument(help="its arguments")] = None,
    max_overhead: MaxOverhead = 1.0,
    every: Every = 0.0,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="what dartvc.arg(NAME) returns")] = None,
    reuse: Annotated[bool, typer.Option("--reuse", help="work that was done before, in this run or another, is not done again")] = False,
    partial_reuse: Annotated[bool, typer.Option("--partial-reuse", help="also assemble results from parts: their last bits may differ")] = False,
) -> None:
    """Runs an unmodified program and commits its state as it goes; `dvc-state resume` continues it after whatever ended it."""
    options = StartOptions("run", [script, *(arguments or ())], max_overhead, every, list(sets or ()))
    options.reuse = "partial" if partial_reuse else "full" if reuse else ""
    raise typer.Exit(start(options))


def resume(
    revision: Annotated[str, typer.Argument(metavar="REV", help="a commit of the run; without it: where the last run was ended")] = "",
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="go on with another value of a variable")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="load a commit that was made elsewhere")] = False,
    code: Annotated[str, typer.Option("--code", metavar="recorded|current", help="which code to go on with when the script was edited")] = "",
    max_overhead: MaxOverhead = 1.0,
    every: Every = 0.0,
) -> None:
    """Continues a program from the middle, where its last commit stands, to its end."""
    options = StartOptions("resume", [revision] if revision else [], max_overhead, every, list(sets or ()), trust, code)
    raise typer.Exit(start(options))


def runs(is_json: Json = False) -> None:
    """Lists the runs of programs, newest first, and how each stands: running, done, failed, crashed."""
    context = current()
    listed = list_runs(context.repository)
    if is_json:
        context.json("runs", {"items": listed})
        return
    for each in listed:
        where = f"at {each.position}" if each.position and each.state not in ("done", "failed") else ""
        context.out(f"{each.run_id}  {each.state:8} {short(each.tip)}  {' '.join(each.command)}  ({age(each.time)}, {each.commits} commits) {where}".rstrip())
    if not listed:
        context.say("no program was run here: dvc-state run SCRIPT")

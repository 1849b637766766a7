"""Commands about programs: run, resume, runs, and what they logged: query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartvc.cli.context import current
from dartvc.cli.querying import QueryOptions, answer_query
from dartvc.cli.render import printable
from dartvc.cli.running import StartOptions, check_code, check_device, start
from dartvc.cli.text import age, counted
from dartvc.errors import PartialError, UsageError
from dartvc.model import Omission, short
from dartvc.porcelain.programs import abort as settle_run
from dartvc.porcelain.programs import list_runs
from dartvc.porcelain.verification import Proof, verify
from dartvc.program.acts import describe_acts

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
MaxOverhead = Annotated[
    float | None, typer.Option("--max-overhead", metavar="PERCENT", help="share of the run time that commits may take; default: dartvc.maxOverhead, 1")
]
Grace = Annotated[float, typer.Option("--grace", metavar="SECONDS", help="how long SIGTERM waits for the next statement, to commit there")]
MapDevice = Annotated[str, typer.Option("--map-device", metavar="DEVICE", help="where tensors of a graphics processor go: cpu, cuda:1, mps")]
Every = Annotated[float | None, typer.Option("--every", metavar="SECONDS", help="commit so often, whatever it costs; default: dartvc.every, 0: never")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("run", context_settings={"allow_interspersed_args": False})(run)
    app.command("resume")(resume)
    app.command("runs")(runs)
    app.command("abort")(abort)
    app.command("query")(query)


def run(
    script: Annotated[str, typer.Argument(help="the program: a script or a notebook; with -m, its first argument")] = "",
    arguments: Annotated[list[str] | None, typer.Argument(help="its arguments")] = None,
    module: Annotated[str, typer.Option("-m", metavar="MODULE", help="run a module, as python -m does")] = "",
    max_overhead: MaxOverhead = None,
    every: Every = None,
    grace: Grace = 5.0,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="what dartvc.arg(NAME) returns")] = None,
    verify_resume: Annotated[bool, typer.Option("--verify-resume", help="kill and resume copies of it, and compare how they end")] = False,
    kills: Annotated[int, typer.Option("--kills", metavar="N", help="with --verify-resume: how many copies to kill")] = 5,
    is_atomic: Annotated[bool, typer.Option("--atomic", help="its files and its branch change as a whole, or, when it fails, not at all")] = False,
    reuse: Annotated[bool, typer.Option("--reuse", help="work that was done before, in this run or another, is not done again")] = False,
    partial_reuse: Annotated[bool, typer.Option("--partial-reuse", help="also assemble results from parts: their last bits may differ")] = False,
) -> None:
    """Runs an unmodified program and commits its state as it goes; `dvc-state resume` continues it after whatever ended it."""
    words = [word for word in (script, *(arguments or ())) if word]
    if not words and not module:
        raise UsageError("there is no program to run", kind="no-script", hint="dvc-state run SCRIPT [ARGUMENTS]")
    if verify_resume:
        raise typer.Exit(_verify(["-m", module, *words] if module else words, kills))
    options = StartOptions(
        "run",
        [module, *words] if module else words,
        max_overhead,
        every,
        sets or (),
        module=module,
        reuse="partial" if partial_reuse else "full" if reuse else "",
        is_atomic=is_atomic,
        grace=grace,
    )
    raise typer.Exit(start(options))


def _verify(words: list[str], kills: int) -> int:
    """Shows how killed and resumed copies of a program end; 0 when all end as they should, 1 when one does not or none could be killed."""
    context = current()
    wrong = ended = 0
    seconds = 0.0
    for each in verify(words, Path.cwd(), kills):
        if isinstance(each, Proof):
            seconds = each.plain.seconds
            context.say(f"undisturbed: {each.plain.seconds:.1f} s, exit code {each.plain.code}; two of these runs were compared")
            left = [*(f"file {path}" for path in each.by_chance), *(f"value of {name}" for name in each.names_by_chance)]
            if left:
                context.say(f"  not compared, for it differs between undisturbed runs: {', '.join(left)}")
        elif each.killed_s is None:
            ended += 1
        else:
            wrong += bool(each.differences)
            where = f"resumed at {each.place}" if each.place else "begun again from the start"
            context.out(f"killed at {each.killed_s:6.1f} s  {where}  {max(each.lost_s, 0):.1f} s done twice  {'NOT EXACT' if each.differences else 'exact'}")
            for difference in each.differences:
                context.out(f"    {difference}")
    if ended == kills:
        context.say(f"nothing was verified: with {seconds:.1f} s the program is too short, every copy ended before it could be killed")
        context.say("  run it on a longer input, or with more --kills")
    elif ended:
        context.say(f"{ended} of {kills} copies ended before they could be killed")
    return 1 if wrong or ended == kills else 0


def resume(
    revision: Annotated[str, typer.Argument(metavar="REV", help="a commit of the run; without it: where the last run was ended")] = "",
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="go on with another value of a variable")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="load a commit that was made elsewhere")] = False,
    code: Annotated[str, typer.Option("--code", metavar="recorded|current", help="which code to go on with when the script was edited")] = "",
    force: Annotated[bool, typer.Option("--force", help="go on although packages of the program are missing here")] = False,
    map_device: MapDevice = "",
    max_overhead: MaxOverhead = None,
    every: Every = None,
    grace: Grace = 5.0,
    reuse: Annotated[bool, typer.Option("--reuse", help="what was done before is not done again; a run that began so goes on so")] = False,
    partial_reuse: Annotated[bool, typer.Option("--partial-reuse", help="also assemble results from parts: their last bits may differ")] = False,
) -> None:
    """Continues a program from the middle, where its last commit stands, to its end."""
    options = StartOptions(
        "resume",
        [revision] if revision else [],
        max_overhead,
        every,
        sets or (),
        trust,
        check_code(code),
        force,
        reuse="partial" if partial_reuse else "full" if reuse else "",
        map_device=check_device(map_device),
        grace=grace,
    )
    raise typer.Exit(start(options))


def runs(is_json: Json = False) -> None:
    """Lists the runs of programs, newest first, and how each stands: running, done, failed, interrupted, preempted, crashed, rolled back."""
    context = current()
    listed = list_runs(context.repository)
    if is_json:
        context.json("runs", {"items": listed})
        return
    for each in listed:
        where = f"from {each.origin}" if each.origin else f"at {each.position}" if each.position and each.state in ("running", "preempted", "crashed") else ""
        shown = printable(" ".join(each.command))
        context.out(f"{each.run_id}  {each.state:11} {short(each.tip)}  {shown}  ({age(each.time)}, {counted(each.commits, 'commit')}) {printable(where)}".rstrip())
        if each.error:
            context.out(f"          {printable(each.error)}: dvc-state shell {short(each.tip)}")
        if each.effects:
            context.out(f"          has {printable(describe_acts(each.effects))}")
    if not listed:
        context.say("no program was run here: dvc-state run SCRIPT")


def abort(
    run: Annotated[str, typer.Argument(metavar="RUN", help="as `runs` shows it; without it: the last one that was killed")] = "",
    leave_files: Annotated[bool, typer.Option("--leave-files", help="give the run up and leave its files as they are")] = False,
    is_json: Json = False,
) -> None:
    """Rolls an atomic run back that was killed: its files are as they were before it; one that had reached its end stands."""
    from dartvc.shims.endings import describe_settled

    context = current()
    settled = settle_run(context.repository, run, is_left=leave_files)
    if is_json:
        context.json("abort", {"run": settled.run.run_id, "state": settled.run.state, "tip": settled.tip, "changed": settled.files.changed,
                               "lost": settled.files.lost, "refused": settled.files.refused, "unseen": settled.unseen})  # fmt: skip
    else:
        for line in describe_settled(settled):
            context.out(line)
    rest = [Omission(line.partition(": ")[0], "", line.partition(": ")[2]) for line in (*settled.files.lost, *settled.files.refused)]
    if rest:
        raise PartialError(f"{len(rest)} files are not as they were before the run", rest, hint="dvc-state abort tries again" if settled.files.refused else "")


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="a SELECT over args, commits, files, logs, loops, runs, tags, variables")] = "",
    df: Annotated[str, typer.Option("--df", metavar="NAMES", help="names as columns, with commas: loss,acc")] = "",
    where: Annotated[str, typer.Option("--where", metavar="EXPR", help="only rows for which it holds: 'epoch > 5 and lr < 0.1'")] = "",
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, csv, json, parquet or arrow")] = "table",
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="latest, best:max:NAME, best:min:NAME, a name or an id")] = "",
    latest: Annotated[bool, typer.Option("--latest", help="the run that began last")] = False,
    best: Annotated[str, typer.Option("--best", metavar="RULE", help="max:acc, min:loss: the run that logged the best value; max:acc:3: the three best")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="so many rows at most")] = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="write there")] = "",
    engine: Annotated[str, typer.Option("--engine", metavar="ENGINE", help="of SQL: sqlite, or duckdb for large logs (dartvc[duckdb])")] = "sqlite",
    is_json: Json = False,
) -> None:
    """Shows what was logged: a row for each run and iteration, the loops' variables and the names as columns; or answers SQL."""
    answer_query(current(), QueryOptions(sql, df, where, "json" if is_json else form, run, limit, output, latest, best, engine))

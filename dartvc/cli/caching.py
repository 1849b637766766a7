"""Commands about reuse: cache stats, cache explain, cache pin, cache clear, reuse."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dartvc.cli.context import current
from dartvc.cli.text import counted, size
from dartvc.errors import UsageError
from dartvc.porcelain import caching

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    cache = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="results that runs with --reuse keep")
    for function in (stats, explain, pin, clear):
        cache.command(function.__name__)(function)
    app.add_typer(cache, name="cache")
    app.command("reuse")(reuse)


def reuse(
    what: Annotated[str, typer.Argument(metavar="on|off|status", help="on: calls that were seen are answered; off: every call runs")] = "status",
    is_partial: Annotated[bool, typer.Option("--partial", help="with on: also results assembled from parts, whose last bits may differ")] = False,
) -> None:
    """In a kernel (%dvc_state reuse on): answers calls of cells that were computed before, in this kernel, another one or a run."""
    raise UsageError("reuse is switched on in a kernel", kind="reuse", hint="in a cell: %dvc_state reuse on; of a script: dvc-state run --reuse SCRIPT")


def stats(is_json: Json = False) -> None:
    """Tells what reuse did in the last run, and what is stored."""
    context = current()
    found = caching.read_stats(context.repository)
    if is_json:
        context.json("cache-stats", asdict(found))
        return
    context.out(
        f"{found.calls} calls watched, {found.reused} reused, {found.partial} in part; {found.saved_s:.2f} s saved, {found.overhead_s:.2f} s spent on it"
    )
    memory = f"; {found.memory_results} in the kernel's memory, {size(found.memory_bytes)}" if found.memory_results else ""
    context.out(f"{found.results} results stored, {size(found.bytes)}{memory}" + (f"; pinned: {', '.join(found.pinned)}" if found.pinned else ""))
    if found.evicted:
        context.out(f"{found.evicted} left memory for want of room, {found.spilled} of them to the repository")
    for each in sorted(found.sites, key=lambda site: -site["saved_s"]):
        note = f"  {each['reason']}" if each["reason"] else ""
        context.out(
            f"{each['reused'] + each['partial']:>7} of {each['calls']:<7} {each['saved_s']:>9.2f} s  {each['name']} ({each['file']}:{each['line']}){note}"
        )


def explain(
    call: Annotated[str, typer.Argument(metavar="CALL", help="a function, a method, an operation or FILE:LINE")],
    is_json: Json = False,
) -> None:
    """Says of the calls of a function or operation in the last run: how many were hits or misses, why, and which dependency differs from what was stored."""
    context = current()
    found = caching.explain_call(context.repository, call)
    if is_json:
        context.json("cache-explain", {"items": found})
        return
    for each in found:
        context.out(f"{each.name} ({each.where}): {each.calls} calls, {each.executions} run, {each.reused + each.partial} reused")
        if each.verdict:
            context.out(f"  {each.verdict}")
        for outcome in each.outcomes:
            context.out(f"  {_outcome_text(outcome)}")


def _outcome_text(outcome: caching.Outcome) -> str:
    if outcome.kind == "miss":
        noun = "miss" if outcome.calls == 1 else "misses"
        return f"{outcome.calls} {noun}: had to run" + (f"; first difference: {outcome.differs}" if outcome.differs else "")
    return f"{counted(outcome.calls, 'hit')}: answered" if outcome.kind == "hit" else f"{outcome.calls} assembled from parts"


def pin(
    calls: Annotated[list[str] | None, typer.Argument(metavar="[CALL]...", help="functions, methods or operations; none: lists the pinned")] = None,
    is_off: Annotated[bool, typer.Option("--off", help="lets them go again")] = False,
    is_json: Json = False,
) -> None:
    """Keeps the results of calls: no want of room throws them out, and `cache clear` leaves them."""
    context = current()
    pins = caching.pin_calls(context.repository, calls or (), is_off=is_off)
    if is_json:
        context.json("cache-pin", {"items": pins})
        return
    for name in pins:
        context.out(name)


def clear(is_all: Annotated[bool, typer.Option("--all", help="those of pinned calls, too")] = False) -> None:
    """Forgets every stored result that is not pinned; `dvc-state gc` gives the space back."""
    context = current()
    count = caching.clear_cache(context.repository, with_pinned=is_all)
    context.say(f"{count} results forgotten; dvc-state gc gives the space back")

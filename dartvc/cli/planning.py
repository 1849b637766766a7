"""`--plan`: what of a state is carried and what is computed, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dartvc.cli.context import Context
from dartvc.cli.render import format_duration, render_table
from dartvc.cli.text import counted, size
from dartvc.errors import UsageError
from dartvc.model import Oid, short

if TYPE_CHECKING:
    from dartvc.porcelain.carrying import TransferPlan

__all__ = ["PlanBandwidth", "bundle_lightly", "show_checkout_plan", "show_clone_plan", "show_push_plan"]

PlanBandwidth = Annotated[str, typer.Option("--bandwidth", metavar="RATE", help="for --plan: what the way takes, as 20MB/s or 100Mbit/s")]
_ROWS = 40


def bundle_lightly(
    context: Context, file: Path, revisions: Sequence[str], mode: str, bandwidth: str, *, is_tried: bool, is_json: bool
) -> None:
    """Writes a bundle of light commits, or only shows what would be in it."""
    from dartvc.porcelain import exchange as verbs
    from dartvc.porcelain.carrying import bandwidth_of, lighten, plan_transfer

    if mode not in ("auto", "show"):
        raise UsageError(f"there is no plan {mode!r}", kind="bad-plan", hint="--plan=auto, or --plan=show")
    repository = context.repository
    names = list(revisions) or ([context.workspace.branch] if context.workspace.branch else [])
    if not names:
        raise UsageError("HEAD is detached: name what to bundle", kind="detached", hint="dvc-state bundle create FILE BRANCH --plan=auto")
    rate = bandwidth_of(bandwidth, file.parent)
    plans: list[TransferPlan] = []
    if mode == "show":
        for name in names:
            since, _, tip = name.rpartition("..")
            base = repository.resolve(since) if since else None
            plans.append(plan_transfer(repository, repository.resolve(tip), rate, base=base))
        _show(context, plans, is_json=is_json, verb="bundle-plan")
        return

    def light(oid: Oid, excluded: Sequence[Oid]) -> Oid:
        base = excluded[0] if len(excluded) == 1 else None
        made, plan = lighten(repository, oid, rate, base=base, is_tried=is_tried)
        plans.append(plan)
        return made

    made = verbs.bundle_create(repository, file, names, head=context.workspace.branch, lighten=light)
    if is_json:
        context.json("bundle-create", {"bundle": made, "plans": plans})
        return
    for plan in plans:
        for line in _render(plan):
            context.say(line)
    context.out(f"{file.name}: {len(made.refs)} refs, {made.objects} objects, {size(made.size_bytes)}")


def show_push_plan(context: Context, remote: str, revision: str, bandwidth: str, *, is_json: bool) -> None:
    """Shows what a push of a state would carry, were it allowed to compute the rest there."""
    from dartvc.porcelain.carrying import bandwidth_of, plan_transfer
    from dartvc.remotes import Remotes

    repository = context.repository
    remotes = Remotes(repository)
    target = remotes.find(remote) if remote else remotes.default(context.workspace.branch)
    address = remotes.address(target, is_push=True)
    branch = context.workspace.branch
    known = repository.database.refs.read(target.tracking(branch)) if target.name and branch else None
    oid = repository.resolve(revision, head=context.workspace.head)
    plan = plan_transfer(repository, oid, bandwidth_of(bandwidth, address.path), base=known if known != oid else None)
    _show(context, [plan], is_json=is_json, verb="push-plan")


def show_clone_plan(context: Context, url: str, revision: str, bandwidth: str, *, is_json: bool) -> None:
    """Shows what a light bundle of a repository on this machine would carry."""
    from dartvc.history import Repository
    from dartvc.porcelain.carrying import bandwidth_of, plan_transfer
    from dartvc.remotes import parse_address

    folder = Path(context.directory).resolve()
    address = parse_address(url, folder)
    if address.path is None or address.is_bundle:
        raise UsageError(
            "only a repository on this machine can be planned before it is here", kind="bad-plan", hint="dvc-state push --plan, where it is"
        )
    theirs = Repository.open(address.path, walk_up=False)
    _show(context, [plan_transfer(theirs, theirs.resolve(revision), bandwidth_of(bandwidth, folder))], is_json=is_json, verb="clone-plan")


def show_checkout_plan(context: Context, revision: str, names: Sequence[str], *, is_json: bool) -> None:
    """Shows what a checkout would load, compute and leave alone."""
    from dartvc.sessions.rebuilding import plan_of, read_plan
    from dartvc.sessions.restoring import plan_restore

    repository, head = context.repository, context.workspace.head
    oid = repository.resolve(revision, head=head)
    live = repository.names(head) if head is not None and context.workspace.is_live else {}
    plan = plan_restore(live, repository.names(oid), list(names) or None)
    rows: list[dict[str, object]] = []
    for payload_oid, group in plan.payloads.items():
        rows.append({"names": list(group), "way": "load", "bytes": repository.payload(payload_oid).size_bytes, "why": ""})
    plans = set()
    for name, entry in plan.recipes.items():
        recipe = repository.recipe(entry)
        plans.add(plan_of(recipe))
        rows.append({"names": [name], "way": "compute", "bytes": None, "why": recipe.get("reason")})
    rows += [{"names": [name], "way": "remove", "bytes": None, "why": ""} for name in plan.removed]
    rows += [{"names": [name], "way": "keep", "bytes": None, "why": ""} for name in plan.kept]
    seconds = sum(step.seconds for each in plans if each is not None for step in read_plan(repository, each))
    if is_json:
        context.json("checkout-plan", {"commit": oid, "items": rows, "compute_s": seconds})
        return
    cells = [
        (str(row["way"]), ", ".join(map(str, row["names"])), size(row["bytes"]) if isinstance(row["bytes"], int) else "", row["why"])  # type: ignore[call-overload]
        for row in rows
    ]
    for line in render_table(("", "names", "bytes", ""), cells):
        context.out(line)
    loaded = sum(row["bytes"] for row in rows if isinstance(row["bytes"], int))
    context.out(f"{short(oid)}: {size(loaded)} to load, {seconds:.2g} s to compute, {counted(len(plan.kept), 'name')} not touched")


def _show(context: Context, plans: Sequence[TransferPlan], *, is_json: bool, verb: str) -> None:
    if is_json:
        context.json(verb, {"items": plans})
        return
    for plan in plans:
        for line in _render(plan):
            context.out(line)


def _render(plan: TransferPlan) -> Iterator[str]:
    yield f"{short(plan.commit)} at {plan.bandwidth.bytes_per_s / 1e6:.3g} MB/s ({plan.bandwidth.source})"
    rows = []
    for value in plan.values[:_ROWS]:
        computing = format_duration(1e3 * value.compute_s) if value.compute_s is not None else "-"
        rows.append((value.way, ", ".join(value.names)[:60], size(value.size_bytes), format_duration(1e3 * value.carry_s), computing, value.reason))
    yield from render_table(("", "names", "bytes", "to carry", "to compute", ""), rows)
    if len(plan.values) > _ROWS:
        yield f"and {len(plan.values) - _ROWS} smaller ones"
    for cell in plan.cells:
        label = f"In [{cell.execution}]" if cell.execution is not None else short(cell.commit)
        yield f"run again: {label} {cell.code.strip().splitlines()[0][:60]} ({format_duration(1e3 * cell.seconds)})"
    yield (
        f"{format_duration(1e3 * plan.total_s)} in all, {size(plan.carried_bytes)} of {size(plan.all_bytes)} carried; "
        f"all carried: {format_duration(1e3 * plan.all_carried_s)}, all computed that can be: {format_duration(1e3 * plan.all_computed_s)}"
    )
    if not plan.is_tried:
        yield "the cells were read, not run: what does not come out the same would be carried"

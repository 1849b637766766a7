"""Commands that exchange with other repositories: clone, remote, fetch, push, pull, bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dartvc.cli.context import Context, current
from dartvc.cli.live import find_session, send
from dartvc.cli.planning import PlanBandwidth, bundle_lightly, show_clone_plan, show_push_plan
from dartvc.cli.render.units import printable
from dartvc.cli.text import counted, render_moved, size
from dartvc.errors import PartialError, RefusedError, UsageError
from dartvc.model import short

if TYPE_CHECKING:
    from dartvc.remotes import Exchange, RefUpdate

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Trust = Annotated[bool, typer.Option("--trust", help="you know their author: what arrives may be restored on this machine")]
_FETCH_HINT = "dvc-state fetch --force replaces what is here"
_SIGNS = {"new": "*", "fast-forward": " ", "forced": "+", "deleted": "-", "up to date": "=", "kept": "=", "rejected": "!"}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    remote = typer.Typer(rich_markup_mode=None, invoke_without_command=True, help="names for other repositories")
    remote.callback()(remote_list)
    bundle = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="states in one file, to carry where no network goes")
    verbs_of: list[tuple[typer.Typer, str, Callable[..., None]]] = [
        (app, "clone", clone), (app, "fetch", fetch), (app, "push", push), (app, "pull", pull),
        (remote, "add", remote_add), (remote, "remove", remote_remove), (remote, "rename", remote_rename),
        (remote, "set-url", remote_set_url), (remote, "get-url", remote_get_url),
        (bundle, "create", bundle_create), (bundle, "verify", bundle_verify), (bundle, "list", bundle_list),
    ]  # fmt: skip
    for group, name, function in verbs_of:
        group.command(name)(function)
    app.add_typer(remote, name="remote")
    app.add_typer(bundle, name="bundle")


def clone(
    url: Annotated[str, typer.Argument(metavar="ADDRESS", help="a path, HOST:PATH, ssh://, https:// or a bundle file")],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="the new project's folder; it may hold files already")] = "",
    branch: Annotated[str | None, typer.Option("-b", "--branch", metavar="NAME", help="go to this branch")] = None,
    origin: Annotated[str, typer.Option("-o", "--origin", metavar="NAME", help="what the remote is called")] = "origin",
    trust: Trust = False,
    is_planned: Annotated[bool, typer.Option("--plan", help="clone nothing: tell what of its state is cheaper to carry and what to compute")] = False,
    bandwidth: PlanBandwidth = "",
    is_json: Json = False,
) -> None:
    """Makes a new repository with all branches, tags and runs of another one."""
    from dartvc.porcelain import exchange as verbs

    context = current()
    if is_planned:
        show_clone_plan(context, url, branch or "HEAD", bandwidth, is_json=is_json)
        return
    made = verbs.clone(url, directory, base=Path(context.directory).resolve(), origin=origin, branch=branch, trust=trust)
    if is_json:
        context.json("clone", {"path": str(made.root), "branch": made.branch, "head": made.head, "exchange": made.exchange})
        return
    context.say(f"cloned into {made.root}{_travelled(made.exchange)}")
    if made.head is None:
        context.say("the other repository has no commit yet" if not made.exchange.updates else f"it has no branch {made.branch!r}")
    else:
        context.out(f"{made.branch} at {short(made.head)}")


def remote_list(
    ctx: typer.Context, verbose: Annotated[bool, typer.Option("-v", help="with their addresses")] = False, is_json: Json = False
) -> None:
    """Lists the remotes."""
    from dartvc.remotes import Remotes

    if ctx.invoked_subcommand is not None:
        return
    context = current()
    listed = Remotes(context.repository).known()
    if is_json:
        context.json("remote", {"items": listed})
        return
    for each in listed:
        if verbose:
            context.out(f"{each.name}\t{each.url} (fetch)")
            context.out(f"{each.name}\t{each.push_url or each.url} (push)")
        else:
            context.out(each.name)


def remote_add(
    name: str,
    url: Annotated[str, typer.Argument(metavar="ADDRESS", help="a path, HOST:PATH, ssh://, https:// or a bundle file")],
) -> None:
    """Gives another repository a name."""
    from dartvc.remotes import Remotes

    Remotes(current().repository).add(name, url)


def remote_remove(name: str) -> None:
    """Forgets a remote and where its branches were."""
    from dartvc.remotes import Remotes

    context = current()
    for ref in Remotes(context.repository).remove(name):
        context.out(f"forgot {ref.removeprefix('refs/remotes/')}")


def remote_rename(old: str, new: str) -> None:
    """Gives a remote another name."""
    from dartvc.remotes import Remotes

    Remotes(current().repository).rename(old, new)


def remote_set_url(name: str, url: Annotated[str, typer.Argument(metavar="ADDRESS", help="where it is now")]) -> None:
    """Gives a remote another address."""
    from dartvc.remotes import Remotes

    Remotes(current().repository).set_url(name, url)


def remote_get_url(name: str) -> None:
    """Prints a remote's address."""
    from dartvc.remotes import Remotes

    context = current()
    context.out(Remotes(context.repository).get(name).url)


def fetch(
    remote: Annotated[str, typer.Argument(help="by default the one that the branch follows, or origin")] = "",
    branches: Annotated[list[str] | None, typer.Argument(help="only these branches")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="from every remote")] = False,
    prune: Annotated[bool, typer.Option("-p", "--prune", help="forget branches that the remote no longer has")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="replace tags and runs that are elsewhere here")] = False,
    trust: Trust = False,
    is_json: Json = False,
) -> None:
    """Brings what a remote has; its branches appear as REMOTE/BRANCH, nothing of yours is changed."""
    from dartvc.porcelain import exchange as verbs

    context = current()
    if is_all:
        if remote or branches:
            raise UsageError("--all fetches from every remote", kind="bad-fetch", hint="dvc-state fetch --all")
        done = verbs.fetch_all(context.repository, prune=prune, force=force, trust=trust)
    else:
        done = [
            verbs.fetch(context.repository, remote, branches or (), head=context.workspace.branch, prune=prune, force=force, trust=trust)
        ]
    if is_json:
        context.json("fetch", {"items": done})
    for each in done:
        if not is_json:
            _print(context, each, "from")
        _refuse_rejected(each, _FETCH_HINT)


def push(
    remote: Annotated[str, typer.Argument(help="by default the one that the branch follows, or origin; an address works, too")] = "",
    refs: Annotated[list[str] | None, typer.Argument(help="NAME, NAME:OTHER-NAME-THERE, +NAME (force), :NAME (delete)")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="all branches, tags and runs")] = False,
    tags: Annotated[bool, typer.Option("--tags", help="all tags")] = False,
    delete: Annotated[bool, typer.Option("-d", "--delete", help="delete what is named there")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="move branches there even where commits are lost")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="delete branches there that are not here")] = False,
    follow: Annotated[bool, typer.Option("-u", "--set-upstream", help="make the branch follow the one that it is pushed to")] = False,
    is_planned: Annotated[bool, typer.Option("--plan", help="push nothing: tell what of the state is cheaper to carry and what to compute")] = False,
    bandwidth: PlanBandwidth = "",
    is_json: Json = False,
) -> None:
    """Gives a remote the branch that is checked out, or what is named, with its tags and runs."""
    from dartvc.porcelain import exchange as verbs

    context = current()
    if is_planned:
        show_push_plan(context, remote, (refs or ["HEAD"])[0].lstrip("+").partition(":")[0], bandwidth, is_json=is_json)
        return
    done = verbs.push(
        context.repository, remote, refs or (), head=context.workspace.branch, everything=is_all, tags=tags, delete=delete, force=force,
        prune=prune, follow=follow,
    )  # fmt: skip
    if is_json:
        context.json("push", {"items": [done]})
    else:
        for message in done.messages:
            context.say(f"remote: {printable(message)}")
        _print(context, done, "to")
    is_branch = any(each.target.startswith("refs/heads/") for each in done.rejected)
    ways_out = "dvc-state pull first; dvc-state push --force loses what is only there" if is_branch else "dvc-state push --force replaces what is there"
    _refuse_rejected(done, "dvc-state branch -r; dvc-state remote" if delete else ways_out)


def pull(
    remote: Annotated[str, typer.Argument(help="by default the one that the branch follows, or origin")] = "",
    branch: Annotated[str, typer.Argument(help="its branch; by default the one of the same name")] = "",
    no_fetch: Annotated[bool, typer.Option("--no-fetch", help="go to what was fetched before")] = False,
    trust: Trust = False,
    is_json: Json = False,
) -> None:
    """Fetches, and brings the branch (and the living namespace) forward to the remote's; refuses when both went on."""
    from dartvc.porcelain import exchange as verbs

    context = current()
    living = find_session(context.repository.path) if not context.is_inside else None
    if living is not None:  # the network is waited for here, and not in the user's program
        if not no_fetch:
            fetched = verbs.fetch(context.repository, remote, head=living.branch, trust=trust)
            if not is_json:
                _print(context, fetched, "from")
        flags = [flag for flag, is_set in (("--trust", trust), ("--json", is_json)) if is_set]
        code, out, err = send(living, ["pull", "--no-fetch", *flags, *filter(None, [remote, branch])], context.color)
        context.stdout.write(out)
        context.stderr.write(err)
        if not no_fetch and not code:
            _refuse_rejected(fetched, _FETCH_HINT)
        raise typer.Exit(code)
    done = verbs.pull(context.repository, context.workspace, remote, branch, is_fetching=not no_fetch, trust=trust)
    if is_json:
        context.json("pull", {"exchange": done.exchange, "upstream": done.upstream, "moved": done.moved, "divergence": done.divergence})
    else:
        if done.exchange is not None:
            _print(context, done.exchange, "from")
        if done.moved is None:
            ahead = f", {counted(done.divergence.ahead, 'commit')} ahead" if done.divergence.ahead else ""
            context.out(f"up to date with {done.upstream}{ahead}")
        else:
            context.out(f"{counted(done.divergence.behind, 'commit')} forward to {done.upstream}")
            for line in render_moved(context, done.moved):
                context.out(line)
    lost = [each for each in done.moved.report.omissions if not each.remedy.startswith("restored")] if done.moved is not None else []
    if lost:
        raise PartialError(f"{len(lost)} of the state did not come back as it was", lost, hint="dvc-state show names what is stored")
    if done.exchange is not None:
        _refuse_rejected(done.exchange, _FETCH_HINT)


def bundle_create(
    file: Annotated[str, typer.Argument(help="the file to write")],
    revisions: Annotated[list[str] | None, typer.Argument(metavar="[NAME|A..NAME]...", help="branches, tags, runs; none: all")] = None,
    plan: Annotated[str, typer.Option("--plan", metavar="auto|show", help="carry only what is cheaper to carry than to compute; show: only tell")] = "",
    bandwidth: PlanBandwidth = "",
    is_tried: Annotated[bool, typer.Option("--try/--no-try", help="with --plan=auto: compute it here first, and leave out only what comes out the same")] = True,
    is_json: Json = False,
) -> None:
    """Writes branches, tags and runs with all that they need into one file; `clone` and `fetch` read it, and so does git."""
    from dartvc.porcelain import exchange as verbs

    context = current()
    if plan:
        bundle_lightly(context, Path(context.directory) / file, revisions or (), plan, bandwidth, is_tried=is_tried, is_json=is_json)
        return
    made = verbs.bundle_create(context.repository, Path(context.directory) / file, revisions or (), head=context.workspace.branch)
    if is_json:
        context.json("bundle-create", {"bundle": made})
    else:
        context.out(f"{file}: {len(made.refs)} refs, {made.objects} objects, {size(made.size_bytes)}")


def bundle_verify(file: str, is_json: Json = False) -> None:
    """Checks that a bundle is whole and that nothing is missing here that it continues."""
    from dartvc.porcelain import exchange as verbs

    context = current()
    read = verbs.bundle_verify(context.repository, Path(context.directory) / file)
    if is_json:
        context.json("bundle-verify", {"bundle": read})
    else:
        context.out(f"{file} is whole: {len(read.refs)} refs, {size(read.size_bytes)}")


def bundle_list(file: str, is_json: Json = False) -> None:
    """Lists what is in a bundle."""
    from dartvc.remotes.bundles import read_bundle

    context = current()
    read = read_bundle(Path(context.directory) / file)
    if is_json:
        context.json("bundle-list", {"bundle": read})
        return
    for name, oid in read.refs:
        context.out(f"{oid} {name}")


def _print(context: Context, done: Exchange, way: str) -> None:
    """Prints what an exchange did, a line for each ref that moved or was rejected."""
    rows = [update for update in done.updates if update.kind != "up to date"]
    if not rows:
        context.say(f"{way} {done.url}: everything is up to date")
        return
    context.say(f"{way} {done.url}{_travelled(done)}")
    for line in map(_line, rows):
        context.out(line)


def _line(update: RefUpdate) -> str:
    sides = [_plain(name) for name in (update.source, update.target) if name]
    names = sides[0] if len(set(sides)) == 1 else " -> ".join(sides)
    if update.kind == "new":
        what = f"[new {_kind(update.source)}]"
    elif update.kind == "deleted":
        what = "[deleted]"
    elif update.kind in ("rejected", "kept"):
        what = f"[{update.kind}]"
    else:
        dots = "..." if update.kind == "forced" else ".."
        what = short(update.old or "") + dots + short(update.new or "")
    reason = f" ({update.reason})" if update.reason else " (forced)" if update.kind == "forced" else ""
    return f" {_SIGNS[update.kind]} {what:<20} {names}{reason}"


def _plain(name: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/", "refs/remotes/", "refs/"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _kind(name: str) -> str:
    return "tag" if name.startswith("refs/tags/") else "run" if name.startswith("refs/runs/") else "log" if name.startswith("refs/logs/") else "branch"


def _travelled(done: Exchange) -> str:
    if done.objects == 0 or done.size_bytes < 0:
        return ""
    counted = f"{done.objects} objects, " if done.objects > 0 else ""
    return f" ({counted}{size(done.size_bytes)})"


def _refuse_rejected(done: Exchange, hint: str) -> None:
    if done.rejected:
        names = ", ".join(f"{_plain(each.target)} ({each.reason})" for each in done.rejected)
        raise RefusedError(f"not moved, to protect what is there: {names}", kind="rejected", hint=hint)

"""Commands that move state: checkout, restore, switch, branch, tag, reset, revert, cherry-pick, stash, undo, redo, commit."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from dartvc.cli.context import current
from dartvc.cli.planning import show_checkout_plan
from dartvc.cli.running import check_device
from dartvc.cli.text import age, render_moved
from dartvc.errors import NotFoundError, PartialError, UsageError
from dartvc.model import CommitKind, short
from dartvc.porcelain import moves, stashing
from dartvc.porcelain.places import previous_place, sharer_of

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Trust = Annotated[bool, typer.Option("--trust", help="restore a commit that was made on another machine")]
MapDevice = Annotated[str, typer.Option("--map-device", metavar="DEVICE", help="where tensors of a graphics processor go: cpu, cuda:1, mps")]
Names = Annotated[list[str] | None, typer.Argument(help="only these names")]


def _show(moved: moves.Moved, is_json: bool) -> None:
    context = current()
    if is_json:
        context.json(
            moved.verb.replace(" ", "-"), {"head": moved.head, "branch": moved.branch, "report": moved.report, "saved": moved.saved}
        )
    else:
        for line in render_moved(context, moved):
            context.out(line)
    lost = [omission for omission in moved.report.omissions if not omission.remedy.startswith("restored")]
    if lost:
        raise PartialError(f"{len(lost)} of the state did not come back as it was", lost, hint="dvc-state show names what is stored")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for function, name in (
        (checkout, "checkout"), (restore, "restore"), (switch, "switch"), (branch, "branch"), (tag, "tag"), (reset, "reset"), (revert, "revert"),
        (cherry_pick, "cherry-pick"), (undo, "undo"), (redo, "redo"), (commit, "commit"),
    ):  # fmt: skip
        app.command(name)(function)
    stash_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True, help="set the present state aside")
    stash_app.callback()(stash)
    stash_app.command("pop")(stash_pop)
    stash_app.command("list")(stash_list)
    stash_app.command("drop")(stash_drop)
    app.add_typer(stash_app, name="stash")
    op = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="the operation log")
    op.command("log")(op_log)
    op.command("restore")(op_restore)
    app.add_typer(op, name="op")


def checkout(
    revision: Annotated[str, typer.Argument(metavar="REV", help="where to; -: where HEAD was before; left out with -b or before --: HEAD")] = "",
    names: Names = None,
    new_branch: Annotated[str | None, typer.Option("-b", metavar="NAME", help="make a branch there and go to it")] = None,
    trust: Trust = False,
    is_planned: Annotated[bool, typer.Option("--plan", help="go nowhere: tell what would be loaded and computed")] = False,
    map_device: MapDevice = "",
    is_json: Json = False,
) -> None:
    """Goes to a revision; with names only brings these back."""
    context = current()
    if not revision and not names and new_branch is None:
        raise UsageError("checkout needs a revision, or names", kind="bad-arguments", hint="dvc-state checkout REV, or dvc-state checkout -- NAMES")
    revision = _place(revision)
    if is_planned:
        show_checkout_plan(context, revision, names or (), is_json=is_json)
        return
    device = check_device(map_device)
    moved = moves.checkout(
        context.repository, context.workspace, revision, names=names, new_branch=new_branch, trust=trust, map_device=device
    )
    _show(moved, is_json)
    if not names:
        _tell_sharer(moved.branch)


def restore(
    names: Annotated[list[str], typer.Argument(help="the names to bring back")],
    source: Annotated[str, typer.Option("--from", metavar="REV", help="from which revision")] = "HEAD",
    trust: Trust = False,
    is_json: Json = False,
) -> None:
    """Brings names back from a revision; HEAD does not move."""
    context = current()
    _show(moves.restore(context.repository, context.workspace, names, source, trust=trust), is_json)


def switch(
    name: str,
    create: Annotated[bool, typer.Option("-c", "--create", help="make the branch")] = False,
    revision: Annotated[str, typer.Argument(metavar="REV", help="where the new branch begins")] = "HEAD",
    trust: Trust = False,
    is_json: Json = False,
) -> None:
    """Goes to a branch; `-` is the one before."""
    context = current()
    if name == "-" and not create:
        name = _place(name)
    if not create and context.repository.database.refs.read(f"refs/heads/{name}") is None:
        context.repository.resolve(name, head=context.workspace.head)
        raise UsageError(
            f"{name!r} is not a branch", kind="not-a-branch", hint=f"dvc-state checkout {name}, or dvc-state switch -c NAME {name}"
        )
    target = revision if create else name
    _show(moves.checkout(context.repository, context.workspace, target, new_branch=name if create else None, trust=trust), is_json)
    _tell_sharer(name)


def _place(revision: str) -> str:
    """Returns what a revision of a checkout stands for: nothing for HEAD, ``-`` for where HEAD was before."""
    context = current()
    return previous_place(context.repository, context.workspace) if revision == "-" else revision or "HEAD"


def _tell_sharer(branch: str | None) -> None:
    """Says when a branch is another living session's, whose commits stay apart."""
    context = current()
    other = sharer_of(context.repository, context.workspace, branch)
    if other is not None:
        where = f"session {other.session_id}, process {other.pid}"
        context.say(f"{branch} is another session's ({where}): who commits first goes on with it, commits of the other go to a branch {branch}-...")


def branch(
    name: Annotated[str | None, typer.Argument(help="the branch to make; none: list them")] = None,
    revision: Annotated[str, typer.Argument(metavar="REV", help="where it begins; with -m: the new name")] = "HEAD",
    delete: Annotated[bool, typer.Option("-d", "-D", "--delete", help="delete it; undo brings it back")] = False,
    is_renamed: Annotated[bool, typer.Option("-m", "--move", help="rename it, or the one that is checked out")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="as in git; commits are always shown")] = False,
    is_all: Annotated[bool, typer.Option("-a", help="list those of remotes, too")] = False,
    of_remotes: Annotated[bool, typer.Option("-r", help="list those of remotes only")] = False,
    is_json: Json = False,
) -> None:
    """Lists, makes, renames or deletes branches."""
    context = current()
    checked_out = context.workspace.branch
    if name is None:
        refs = context.repository.database.refs
        rows = [] if of_remotes else [(ref.removeprefix("refs/heads/"), oid) for ref, oid in refs.iter_refs("refs/heads/")]
        if is_all or of_remotes:
            rows += [(ref.removeprefix("refs/remotes/" if of_remotes else "refs/"), oid) for ref, oid in refs.iter_refs("refs/remotes/")]
        if is_json:
            context.json("branch", {"items": [{"name": each, "oid": oid, "current": each == checked_out} for each, oid in rows]})
            return
        for each, oid in rows:
            subject = context.repository.commit(oid).subject
            context.out(
                f"{'*' if each == checked_out else ' '} {context.paint(each, '32') if each == checked_out else each} {short(oid)} {subject[:60]}"
            )
    elif is_renamed:
        old, new = (checked_out or "HEAD", name) if revision == "HEAD" else (name, revision)
        oid = moves.rename_branch(context.repository, old, new)
        context.out(f"{new} at {short(oid)}, which was {old}; undo: dvc-state undo")
    elif delete:
        oid = moves.delete_ref(context.repository, "heads", name, checked_out)
        context.out(f"deleted {name} (was {short(oid)}); undo: dvc-state undo")
    else:
        oid = moves.branch(context.repository, name, revision, context.workspace.head)
        context.out(f"{name} at {short(oid)}")


def tag(
    name: Annotated[str | None, typer.Argument(help="the tag to make; none: list them")] = None,
    revision: Annotated[str, typer.Argument(metavar="REV", help="what to tag")] = "HEAD",
    delete: Annotated[bool, typer.Option("-d", help="delete it")] = False,
    is_json: Json = False,
) -> None:
    """Lists, makes or deletes tags; a tagged commit is never thinned."""
    context = current()
    if name is None:
        rows = [(ref.removeprefix("refs/tags/"), oid) for ref, oid in context.repository.database.refs.iter_refs("refs/tags/")]
        if is_json:
            context.json("tag", {"items": [{"name": each, "oid": oid} for each, oid in rows]})
            return
        for each, oid in rows:
            context.out(f"{each} {short(oid)}")
    elif delete:
        oid = moves.delete_ref(context.repository, "tags", name)
        context.out(f"deleted {name} (was {short(oid)}); undo: dvc-state undo")
    else:
        oid = moves.tag(context.repository, name, revision, context.workspace.head)
        context.out(f"{name} at {short(oid)}")


def reset(
    revision: Annotated[str, typer.Argument(metavar="REV", help="where to")] = "HEAD",
    is_hard: Annotated[bool, typer.Option("--hard", help="as in git; there is no other way here")] = False,
    trust: Trust = False,
    is_json: Json = False,
) -> None:
    """Moves the branch, and the namespace, to a revision."""
    context = current()
    _show(moves.reset(context.repository, context.workspace, revision, trust=trust), is_json)


def revert(revision: Annotated[str, typer.Argument(metavar="REV", help="whose writing is taken back")], trust: Trust = False, is_json: Json = False) -> None:
    """Gives the names that a commit wrote the values they had before it."""
    context = current()
    _show(moves.revert(context.repository, context.workspace, revision, trust=trust), is_json)


def cherry_pick(
    revision: Annotated[str, typer.Argument(metavar="REV", help="which commit's names")], names: Names = None, trust: Trust = False, is_json: Json = False
) -> None:
    """Brings the names that a commit wrote into the present namespace."""
    context = current()
    _show(moves.cherry_pick(context.repository, context.workspace, revision, names, trust=trust), is_json)


def stash(ctx: typer.Context) -> None:
    """Sets the present state aside and goes back to the last named commit."""
    if ctx.invoked_subcommand is None:
        context = current()
        _show(stashing.stash(context.repository, context.workspace), context.is_json)


def stash_pop() -> None:
    """Brings back what was set aside last, on top of what there is now."""
    context = current()
    _show(stashing.stash_pop(context.repository, context.workspace), context.is_json)


def stash_list(is_json: Json = False) -> None:
    """Lists the states that are set aside, newest first."""
    context = current()
    stashes = stashing.stash_list(context.repository)
    if is_json:
        items = [{"oid": each.commit.oid, "base": each.base.oid, "time": each.commit.time.isoformat()} for each in stashes]
        context.json("stash-list", {"items": items})
        return
    for each in stashes:
        context.out(f"{short(each.commit.oid)}  {age(each.commit.time)}, after {short(each.base.oid)} {each.base.subject}")


def stash_drop() -> None:
    """Forgets what was set aside last; undo brings it back."""
    dropped = stashing.stash_drop(current().repository)
    current().out(f"dropped {short(dropped.commit.oid)}")


def undo(is_json: Json = False) -> None:
    """Takes back the last operation; twice takes back two."""
    context = current()
    moved = moves.undo(context.repository, context.workspace)
    if not is_json:
        context.out(moved.description)
    _show(moved, is_json)


def redo(is_json: Json = False) -> None:
    """Does again what the last undo took back."""
    context = current()
    moved = moves.redo(context.repository, context.workspace)
    if not is_json:
        context.out(moved.description)
    _show(moved, is_json)


def commit(message: Annotated[str, typer.Option("-m", "--message", help="what for")] = "", is_json: Json = False) -> None:
    """Commits the living namespace under a message; such commits are never thinned."""
    context = current()
    if not context.workspace.is_live:
        raise NotFoundError(
            "no session is alive whose state could be committed",
            kind="no-session",
            hint="%load_ext dartvc in a notebook, or dartvc.attach(globals())",
        )
    oid = context.workspace.checkpoint(message, CommitKind.MANUAL, force=True)
    if is_json:
        context.json("commit", {"oid": oid})
    else:
        context.out(f"[{context.workspace.branch or 'detached'} {short(oid or '')}] {message}")


def op_log(count: Annotated[int, typer.Option("-n", help="how many")] = 20, is_json: Json = False) -> None:
    """Lists what moved refs, HEAD and the namespace, newest first."""
    context = current()
    rows = list(islice(context.repository.operations.iter_newest(), count if count >= 0 else None))
    if is_json:
        items = [
            {
                "id": row.id,
                "time": row.time,
                "session": row.session,
                "operation": row.operation,
                "description": row.description,
                "head": row.head_after.oid,
            }
            for row in rows
        ]
        context.json("op-log", {"items": items})
        return
    for row in rows:
        context.out(f"{row.id:<12} {age(row.time):<12} {row.operation:<12} {row.description}")


def op_restore(operation: str, is_json: Json = False) -> None:
    """Brings refs, HEAD and namespace to where they were after an operation."""
    context = current()
    refs = context.repository.database.refs
    before = dict(refs.iter_refs())
    moved = moves.restore_operation(context.repository, context.workspace, operation)
    after = dict(refs.iter_refs())
    if not is_json:
        for word, names in (("removed", before.keys() - after.keys()), ("brought back", after.keys() - before.keys())):
            if named := [_named(name) for name in sorted(names) if name.startswith(("refs/heads/", "refs/tags/"))]:
                context.out(f"{word}: {', '.join(named)}")
    _show(moved, is_json)


def _named(ref: str) -> str:
    kind, _, name = ref.removeprefix("refs/").partition("/")
    return f"{'branch' if kind == 'heads' else 'tag'} {name}"

"""Commands that only look: init, status, log, show, diff, ls, blame, bisect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartvc.cli.context import Context, current
from dartvc.cli.loglines import LogOptions, commit_item, print_log
from dartvc.cli.render import printable, render_diff, render_headline, render_summary
from dartvc.cli.text import age, counted, render_commit, size
from dartvc.errors import NotFoundError, UsageError
from dartvc.model import Commit, Oid, short
from dartvc.porcelain.compare import compare
from dartvc.porcelain.expressions import can_tell, holds, names_of, require_names

if TYPE_CHECKING:
    from dartvc.remotes import Divergence
    from dartvc.sessions.registry import LiveSession

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for function in (init, status, log, show, diff, ls, blame):
        app.command(function.__name__)(function)
    bisect_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="find the first commit for which something holds")
    bisect_app.command("run")(bisect_run)
    app.add_typer(bisect_app, name="bisect")


def init(directory: Annotated[str, typer.Argument(help="the project's folder")] = ".", is_json: Json = False) -> None:
    """Makes the repository of a folder; one that exists is left as it is."""
    from dartvc.history import Repository

    context = current()
    made = Repository.init(directory if directory != "." else context.directory)
    if is_json:
        context.json("init", {"path": str(made.path)})
    else:
        context.out(f"repository in {made.path}")
        context.say("in a notebook: %load_ext dartvc")


def status(is_json: Json = False) -> None:
    """Tells where HEAD is, which sessions live, and what the last commit could not store."""
    from dartvc.program.acts import describe_acts
    from dartvc.sessions.atomic import open_runs
    from dartvc.sessions.recorded import read_effects
    from dartvc.sessions.registry import living_sessions

    context = current()
    repository, workspace = context.repository, context.workspace
    head = workspace.head
    apart = _divergence(context)
    sessions = living_sessions(repository.path)
    meant = _meant_session(context, sessions)
    killed = open_runs(repository)
    omitted = []
    names = {}
    if head is not None:
        names = repository.names(head)
        omitted = [(name, repository.recipe(entry)) for name, entry in names.items() if entry.payload_oid is None]
    effects = read_effects(repository, head) if head is not None else []
    if is_json:
        living = [{"id": each.session_id, "pid": each.pid, "branch": each.branch, "meant": each.session_id == meant} for each in sessions]
        not_stored = [{"name": name, **recipe} for name, recipe in omitted]
        context.json(
            "status",
            {
                "head": head,
                "branch": workspace.branch,
                "upstream": apart,
                "names": len(names),
                "sessions": living,
                "omitted": not_stored,
                "unsettled": [each.run_id for each in killed],
                "effects": effects,
            },
        )
        return
    context.out(f"on branch {workspace.branch}" if workspace.branch else "HEAD is detached: the next commit begins a branch")
    if apart is not None:
        context.out(_describe_divergence(apart))
    if head is None:
        context.out("no commit yet")
    else:
        commit = repository.commit(head)
        context.out(f"{short(head)} {commit.subject[:60]} ({age(commit.time)}), {counted(len(names), 'name')}")
        entry = repository.process(head).get("position") if commit.run else None
        so_far = repository.summary(entry).get("so_far") if entry is not None else None
        if isinstance(so_far, Mapping):
            context.out(_describe_run(context, commit, so_far))
        if effects:
            context.out(f"the run has {printable(describe_acts(effects))}: that cannot be undone")
    for line in _session_lines(sessions, meant):
        context.out(line)
    for run in killed:
        context.out(f"run {run.run_id} ({' '.join(run.command)}) was killed, its files stand half done: dvc-state resume, or dvc-state abort")
    for name, recipe in omitted:
        how = "computed at checkout" if recipe.get("plan") else "its recipe is kept" if recipe.get("steps") else "not stored"
        context.out(f"{recipe.get('path', name)}: {how}: {recipe.get('reason')}")


def _describe_run(context: Context, commit: Commit, so_far: Mapping[str, Any]) -> str:
    """Returns how the run at HEAD stands, what its commits have cost, and what to type when it was cut off."""
    from dartvc.porcelain.programs import state_of_run
    from dartvc.sessions.tally import describe_tally

    repository = context.repository
    is_tip = repository.database.refs.read(f"refs/runs/{commit.run}") == commit.oid
    state = state_of_run(repository, commit.oid) if is_tip else "it went on from here"
    line = f"run {commit.run}: {state}: {describe_tally(so_far, is_over=state != 'running')}"
    if state not in ("crashed", "interrupted", "preempted"):
        return line
    return f"{line}; dvc-state resume HEAD {'goes on' if so_far['commits'] else 'begins it again'}"


def _session_lines(sessions: Sequence[LiveSession], meant: str) -> Iterator[str]:
    for each in sessions:
        mark = " (commands go to this one; --session ID chooses another)" if each.session_id == meant and len(sessions) > 1 else ""
        yield f"session {each.session_id}: process {each.pid}, branch {each.branch or 'detached'}{mark}"
    if not sessions:
        yield "no session is alive"


def _meant_session(context: Context, sessions: Sequence[LiveSession]) -> str:
    """Returns the id of the session that a command such as this one acts on; empty when none lives."""
    from dartvc.cli.live import find_session

    if context.meant_session or context.is_inside:
        return context.meant_session or context.workspace.session_id
    youngest = find_session(context.repository.path) if sessions else None
    return youngest.session_id if youngest is not None else ""


def _divergence(context: Context) -> Divergence | None:
    """Returns how the branch stands to the one that it follows; nothing of remotes is loaded when there are none."""
    if not context.repository.config.subsections("remote"):
        return None
    from dartvc.porcelain.exchange import divergence

    return divergence(context.repository, context.workspace.branch, context.workspace.head)


def _describe_divergence(apart: Divergence) -> str:
    """Returns how the branch stands to the one that it follows, with what to type."""
    if apart.ahead and apart.behind:
        return f"apart from {apart.upstream}: {counted(apart.ahead, 'commit')} only here, {apart.behind} only there"
    if apart.ahead:
        return f"ahead of {apart.upstream} by {apart.ahead}: dvc-state push"
    return f"behind {apart.upstream} by {apart.behind}: dvc-state pull" if apart.behind else f"up to date with {apart.upstream}"


def log(
    revision: Annotated[str, typer.Argument(metavar="REV", help="where to begin, or A..B")] = "HEAD",
    graph: Annotated[bool, typer.Option("--graph", help="draw the lines of history")] = False,
    oneline: Annotated[bool, typer.Option("--oneline", help="a line a commit")] = False,
    count: Annotated[int | None, typer.Option("-n", help="at most so many")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="from every branch and tag")] = False,
    name: Annotated[str | None, typer.Option("--var", metavar="NAME", help="only commits that wrote it")] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="EXPR", help="only commits whose scalars satisfy it: 'loss < 0.1'")
    ] = None,
    patch: Annotated[bool, typer.Option("-p", help="with what changed")] = False,
    grep: Annotated[str | None, typer.Option("--grep", metavar="PATTERN", help="only commits whose message has it: a regular expression")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="AGE", help="only commits younger than 30m, 12h, 7d ...")] = None,
    is_json: Json = False,
) -> None:
    """Lists commits, newest first."""
    print_log(current(), LogOptions(revision, graph, oneline, count, is_all, name, where, patch, is_json, grep, since))


def show(target: Annotated[str, typer.Argument(help="REV, REV:NAME, or a name at HEAD")] = "HEAD", is_json: Json = False) -> None:
    """Shows a commit, or what is known of one name in it; nothing is unpickled."""
    from dartvc.cli.postmortem import examination_item, render_examination
    from dartvc.porcelain.postmortem import examine

    context = current()
    repository = context.repository
    oid, name, path = _place(context, target)
    if name:
        entry = repository.names(oid).get(name)
        if entry is None:
            raise NotFoundError(f"{name!r} is not in {short(oid)}", kind="unknown-name", hint=f"dvc-state ls {short(oid)}")
        summary = repository.summary(entry)
        recipe = repository.recipe(entry) if entry.recipe_oid else {}
        if path:
            from dartvc.porcelain.inside import look_inside

            summary = dict(look_inside(summary, path, target))
        if is_json:
            context.json("show", {"name": name + path, "summary": summary, "recipe": recipe})
            return
        for line in render_summary(name + path, summary, color=context.color):
            context.out(line)
        if recipe:
            context.out(f"not stored: {recipe.get('reason')}")
        return
    commit = repository.commit(oid)
    code = repository.code(oid)
    found = examine(repository, commit)
    if is_json:
        context.json("show", {"commit": commit_item(commit), "code": code, "environment": repository.environment(oid), **examination_item(found)})
        return
    for line in (*render_commit(context, commit, context.workspace.head), *render_examination(context, found)):
        context.out(line)
    if code and not found.frames and code.strip() != commit.message.strip():  # a cell of one line is its own message
        for line in code.splitlines():
            context.out(f"    >>> {line}")
        context.out("")
    if commit.parents:
        for line in render_diff(compare(repository, commit.parents[0], oid).names, color=context.color):
            context.out(line)


def _place(context: Context, target: str) -> tuple[Oid, str | None, str]:
    """Returns (commit, name or None, path inside its value); a word that is no revision is a name at HEAD, as it is a path in git."""
    from dartvc.history.revisions import split_path

    repository, head = context.repository, context.workspace.head
    revision, name, path = split_path(target)
    try:
        return repository.resolve(revision, head=head), name, path
    except NotFoundError:
        _, name, path = split_path(f"HEAD:{target}")
        if head is None or ":" in target or name not in repository.names(head):
            raise
        return head, name, path


def diff(
    before: Annotated[str, typer.Argument(help="by default the parent of HEAD")] = "",
    after: Annotated[str, typer.Argument(help="by default HEAD")] = "",
    names: Annotated[list[str] | None, typer.Argument(help="only these names; also in front, where no revision is given")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit 1 when something differs")] = False,
    is_json: Json = False,
) -> None:
    """Shows what differs between two revisions; equal names are not mentioned."""
    context = current()
    repository = context.repository
    head = context.workspace.head
    names = names or []
    if _is_name(context, after):
        after, names = "", [after, *names]
    if _is_name(context, before):
        before, after, names = "", "", [*filter(None, [before, after]), *names]
    elif ".." in before and not before.startswith(":/"):
        if after:
            raise UsageError(f"{before} says both ends already", kind="bad-arguments", hint=f"dvc-state diff {before} -- NAMES")
        before, after = _ends(context, before)
    if not before and head is not None and not repository.commit(head).parents:
        raise UsageError("there is only one commit", kind="one-commit", hint="dvc-state show")
    first = repository.resolve(before or "HEAD~1", head=head)
    second = repository.resolve(after or "HEAD", head=head)
    found = compare(repository, first, second, names or None)
    if not found.names:
        require_names(repository, [first, second], names)
    if is_json:
        context.json("diff", {"before": found.before, "after": found.after, "items": found.names})
    else:
        for line in render_diff(found.names, color=context.color):
            context.out(line)
    if exit_code and found.names:
        raise typer.Exit(1)


def _is_name(context: Context, word: str) -> bool:
    """Whether a word that could be a revision is none, but a name at HEAD or before it."""
    repository, head = context.repository, context.workspace.head
    if not word or head is None or not any(word in repository.names(oid) for oid in (head, *repository.commit(head).parents)):
        return False
    try:
        repository.resolve(word, head=head)
    except NotFoundError:
        return True
    return False


def _ends(context: Context, text: str) -> tuple[str, str]:
    """Returns what ``A..B`` compares; ``A...B``: B with the last commit that both have."""
    left, right = (each or "HEAD" for each in re.split(r"\.\.\.?", text, maxsplit=1))
    if "..." not in text:
        return left, right
    from dartvc.history.revisions import merge_bases

    repository, head = context.repository, context.workspace.head
    bases = merge_bases(repository, repository.resolve(left, head=head), repository.resolve(right, head=head))
    if not bases:
        raise UsageError(f"{left} and {right} have no commit in common", kind="no-common-commit", hint=f"dvc-state diff {left} {right}")
    return bases[0], right


def ls(revision: Annotated[str, typer.Argument(metavar="REV", help="of which commit")] = "HEAD", is_json: Json = False) -> None:
    """Lists the names of a commit."""
    context = current()
    repository = context.repository
    oid = repository.resolve(revision, head=context.workspace.head)
    rows = [(name, repository.summary(entry), entry) for name, entry in sorted(repository.names(oid).items())]
    if is_json:
        context.json(
            "ls", {"items": [{"name": name, "summary": summary, "stored": entry.payload_oid is not None} for name, summary, entry in rows]}
        )
        return
    for name, summary, entry in rows:
        context.out(render_headline(name, summary, color=context.color) + ("" if entry.payload_oid else "  (not stored)"))


def blame(name: Annotated[str | None, typer.Argument(help="one name; none: all")] = None, is_json: Json = False) -> None:
    """Tells which commit, and which cell, last wrote each name."""
    context = current()
    repository = context.repository
    oid = repository.resolve("HEAD", head=context.workspace.head)
    wanted = set(repository.names(oid)) if name is None else {name}
    if name is not None and name not in repository.names(oid):
        raise NotFoundError(f"{name!r} is not in HEAD", kind="unknown-name", hint="dvc-state ls")
    found: dict[str, Commit] = {}
    for commit in repository.iter_log([oid]):
        for each in (*commit.added, *commit.modified):
            if each in wanted and each not in found:
                found[each] = commit
        if len(found) == len(wanted):
            break
    if is_json:
        context.json(
            "blame", {"items": [{"name": each, "oid": found[each].oid, "code": repository.code(found[each].oid)} for each in sorted(found)]}
        )
        return
    width = max(map(len, found), default=0)
    for each in sorted(found):
        commit = found[each]
        cell = f"In [{commit.execution}]" if commit.execution is not None else commit.kind
        context.out(
            f"{each:<{width}}  {short(commit.oid)}  {cell:<8}  {commit.subject[:60]}  ({age(commit.time)}, {size(commit.size_bytes)})"
        )


def bisect_run(
    expression: Annotated[str, typer.Option("--expr", metavar="EXPR", help="over the scalars of a commit: 'loss < 0.1'")],
    is_json: Json = False,
) -> None:
    """Finds the first commit for which an expression holds, by halves along the first parents."""
    context = current()
    repository = context.repository
    line: list[Commit] = []
    oid = repository.resolve("HEAD", head=context.workspace.head)
    while True:
        commit = repository.commit(oid)
        line.append(commit)
        if not commit.parents:
            break
        oid = commit.parents[0]
    line.reverse()
    tip = line[-1].oid
    if not can_tell(repository, tip, expression):
        line = [each for each in line if can_tell(repository, each.oid, expression)]
    tested = 0
    low, high = 0, len(line)
    while low < high:
        middle = (low + high) // 2
        tested += 1
        if holds(repository, line[middle].oid, expression):
            high = middle
        else:
            low = middle + 1
    if low == len(line):
        require_names(repository, [tip], names_of(expression))
        if is_json:
            context.json("bisect", {"oid": None, "tested": tested})
        else:
            context.say(f"no commit has {expression} ({tested} tested)")
        raise typer.Exit(1)
    first = line[low]
    if is_json:
        context.json("bisect", {"oid": first.oid, "tested": tested})
    else:
        context.out(f"{first.oid} is the first commit with {expression} ({tested} tested)")
        for text in render_commit(context, first):
            context.out(text)

"""`log`, apart from the other verbs: it must answer at once on a long history, so it waits neither for Typer nor for what it does not use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from dartvc.cli.context import Context
from dartvc.cli.render.log import iter_blocks, render_log
from dartvc.errors import UsageError
from dartvc.host.collector import CollectorPaused
from dartvc.model import Commit, Oid
from dartvc.model.records import NamedTuple

__all__ = ["LogOptions", "commit_item", "parse_plainly", "print_log"]


class LogOptions(NamedTuple):
    """What `log` was asked for."""

    revision: str = "HEAD"
    graph: bool = False
    oneline: bool = False
    limit: int | None = None
    is_all: bool = False
    name: str | None = None
    where: str | None = None
    patch: bool = False
    is_json: bool = False
    grep: str | None = None
    since: str | None = None


_BATCH_LINES = 4096
_AHEAD = 256
_FLAGS = {"--graph": "graph", "--oneline": "oneline", "--all": "is_all", "-p": "patch", "--json": "is_json"}
_VALUES = {"--var": "name", "--where": "where", "--grep": "grep", "--since": "since"}


def parse_plainly(words: Sequence[str]) -> LogOptions | None:
    """Parses the words after ``log``. Fast path: None, for Typer to say, wherever they are not plainly right."""
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            found[_FLAGS[word]] = True
        elif word == "-n":
            value = next(rest, "")
            if not value.isdigit():
                return None
            found["limit"] = int(value)
        elif word[:1] == "-" and word[1:].isdigit():
            found["limit"] = int(word[1:])
        elif word in _VALUES:
            found[_VALUES[word]] = next(rest, "")
        elif word.startswith("-") or "revision" in found:
            return None
        else:
            found["revision"] = word
    return LogOptions(**found)


def print_log(context: Context, options: LogOptions) -> None:
    """Prints commits, newest first."""
    repository = context.repository
    head = context.workspace.head
    start, _, end = options.revision.partition("..")
    hide = [repository.resolve(start or "HEAD", head=head)] if ".." in options.revision else []
    if options.is_all:
        tips = [oid for _, oid in repository.database.refs.iter_refs()] + ([head] if head is not None else [])
    else:
        tips = [repository.resolve((end or "HEAD") if hide else start, head=head)]
    found: Iterable[Commit] = repository.iter_log(tips, name=options.name, hide=hide)
    if options.grep is not None or options.since is not None:
        found = _matching(found, options.grep or "", options.since)
    if options.where is not None:
        from dartvc.porcelain.expressions import holds

        condition = options.where
        found = (commit for commit in found if holds(repository, commit.oid, condition))
    if options.name is not None or options.where is not None:
        found = _or_unknown(context, tips, found, options)
    commits = islice(found, options.limit) if options.limit is not None and options.limit >= 0 else found  # as in git: a negative one is no limit
    if options.is_json:
        context.json("log", {"items": [commit_item(commit) for commit in commits]})
        return
    now_s = datetime.now(UTC).timestamp()
    if options.patch:
        _print_patches(context, commits, options, now_s, head or "")
        return
    blocks = iter_blocks(_ahead(commits), now_s=now_s, oneline=options.oneline, graph=options.graph, color=context.color, head=head or "")
    with CollectorPaused():
        for batch in _batches(blocks):
            context.out("\n".join(batch))


def _matching(commits: Iterable[Commit], pattern: str, since: str | None) -> Iterator[Commit]:
    """Returns the commits whose message a regular expression is found in, younger than ``since``.

    Raises:
        UsageError: one of them cannot be read.
    """
    import re

    from dartvc.history.config import parse_duration_s

    oldest_s = datetime.now(UTC).timestamp() - parse_duration_s(since) if since is not None else 0.0
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}", kind="bad-pattern", hint="dvc-state log --grep 'epoch [0-9]+'") from error
    return (commit for commit in commits if expression.search(commit.message) and commit.time.timestamp() >= oldest_s)


def _or_unknown(context: Context, tips: Sequence[Oid], found: Iterable[Commit], options: LogOptions) -> Iterator[Commit]:
    """Yields the commits that were found; when there is none, the names that were asked for have to exist.

    Raises:
        NotFoundError: one of them does not.
    """
    commits = iter(found)
    first = next(commits, None)
    if first is None:
        from dartvc.porcelain.expressions import names_of, require_names

        asked = [*([options.name] if options.name is not None else []), *(names_of(options.where) if options.where is not None else [])]
        require_names(context.repository, tips, asked)
        return
    yield first
    yield from commits


def _ahead(commits: Iterable[Commit]) -> Iterator[Commit]:
    """Reads ahead, ever more: to read some hundred commits and then to print them takes two thirds of the time of one by one, as caches go."""
    source, count = iter(commits), 1
    while batch := list(islice(source, count)):
        yield from batch
        count = min(4 * count, _AHEAD)


def _batches(blocks: Iterable[list[str]]) -> Iterator[list[str]]:
    """Joins lines for fewer writes: the first commits come at once, those of a long log by the thousand lines."""
    batch: list[str] = []
    limit = 1
    for block in blocks:
        batch += block
        if len(batch) >= limit:
            yield batch
            batch, limit = [], min(2 * limit, _BATCH_LINES)
    if batch:
        yield batch


def _print_patches(context: Context, commits: Iterable[Commit], options: LogOptions, now_s: float, head: str) -> None:
    from dartvc.cli.render.diffs import render_diff
    from dartvc.porcelain.compare import compare

    for commit in commits:
        for line in render_log([commit], now_s=now_s, oneline=options.oneline, color=context.color, head=head):
            context.out(line)
        if commit.parents:
            for line in render_diff(compare(context.repository, commit.parents[0], commit.oid).names, color=context.color):
                context.out(f"    {line}")


def commit_item(commit: Commit) -> dict[str, object]:
    """Returns a commit as `log --json` shows it; the keys are fixed."""
    position = commit.position
    return {
        "oid": commit.oid,
        "parents": list(commit.parents),
        "refs": [ref.removeprefix("refs/heads/").removeprefix("refs/") for ref in commit.refs],
        "message": commit.message,
        "time": commit.time.astimezone(UTC).isoformat(),
        "kind": commit.kind,
        "run": commit.run,
        "added": list(commit.added),
        "modified": list(commit.modified),
        "removed": list(commit.removed),
        "position": {"file": position.file, "line": position.line, "function": position.function} if position else None,
        "bytes": commit.size_bytes,
        "stall_ms": commit.stall_ms,
        "error": commit.error,
        "approximate": commit.approximate,
        "execution": commit.execution,
    }

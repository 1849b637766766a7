"""Git's names for commits (gitrevisions(7)): HEAD, branches, tags, short ids, ``^``, ``~N``, ``@{N}``, ``:/text``, ranges.

`split_path` takes ``REV:NAME[PATH]`` apart for ``show``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from dartvc.errors import NotFoundError, UsageError
from dartvc.model import Commit, Oid

if TYPE_CHECKING:
    from dartvc.history.repository import Repository

__all__ = ["merge_bases", "range_tips", "resolve_revision", "split_path"]

_SUFFIX = re.compile(r"\^\{(?P<peel>[a-z]*)\}|\^\{/(?P<text>[^}]*)\}|\^(?P<parent>\d*)|~(?P<generation>\d*)|@\{(?P<position>\d+)\}")
_BASE = re.compile(r"(?P<base>(?:@(?!\{)|[^~^@:]|@(?=[^{]))*)")
_ID = re.compile(r"[0-9a-fA-F]{4,40}\Z")
_SUGGESTIONS = 3
_LISTED = 10


def resolve_revision(repository: Repository, revision: str, *, head: Oid | None = None) -> Oid:
    """Returns the commit that a revision names.

    Args:
        repository: where to look.
        revision: what the user wrote.
        head: what HEAD and ``@`` mean; None: the repository's HEAD.

    Raises:
        NotFoundError: nothing has this name; the hint suggests what has.
        UsageError: the revision is malformed, or a short id is ambiguous.
    """
    if revision.startswith(":/"):
        return _find_message(repository.iter_log([oid for _, oid in _all_tips(repository, head)]), revision[2:], revision)
    base, suffixes = _split(revision)
    oid = _resolve_positioned(repository, base, suffixes, revision, head)
    for suffix in suffixes:
        oid = _step(repository, oid, suffix, revision)
    return oid


def split_path(revision: str) -> tuple[str, str | None, str]:
    """Takes ``REV:NAME[PATH]`` apart.

    Returns:
        (revision, name or None, path inside the value as written: ``.attr``, ``[0]``, ``["key"]``). An empty revision means HEAD.
    """
    if revision.startswith(":/"):
        return revision, None, ""
    rev, colon, rest = revision.partition(":")
    if not colon or not rest:
        return rev or "HEAD", None, ""
    found = re.match(r"[^.\[]+", rest)
    name = found.group() if found else rest
    return rev or "HEAD", name, rest[len(name) :]


def range_tips(repository: Repository, revisions: Sequence[str], *, head: Oid | None = None) -> tuple[list[Oid], list[Oid]]:
    """Reads what ``log`` is given: ``A``, ``A..B`` (in B and not in A), ``A...B`` (in one of both), ``^A`` (not in A).

    Returns:
        (tips, hidden), as `store.ObjectDatabase.iter_commits` takes them.
    """
    tips: list[Oid] = []
    hidden: list[Oid] = []
    for revision in revisions:
        if "..." in revision:
            left, right = (repository.resolve(part or "HEAD", head=head) for part in revision.split("...", 1))
            tips += [left, right]
            hidden += merge_bases(repository, left, right)
        elif ".." in revision and not revision.startswith(":/"):
            left, right = (repository.resolve(part or "HEAD", head=head) for part in revision.split("..", 1))
            hidden.append(left)
            tips.append(right)
        elif revision.startswith("^"):
            hidden.append(repository.resolve(revision[1:], head=head))
        else:
            tips.append(repository.resolve(revision, head=head))
    return tips, hidden


def merge_bases(repository: Repository, left: Oid, right: Oid) -> list[Oid]:
    """Returns the newest common ancestor of two commits, as a list of one or none."""
    ancestors = set(repository.database.iter_commits([left]))
    return next(([oid] for oid in repository.database.iter_commits([right]) if oid in ancestors), [])


def _split(revision: str) -> tuple[str, list[re.Match[str]]]:
    found = _BASE.match(revision)
    base = found.group() if found else ""
    at = len(base)
    suffixes = []
    while at < len(revision):
        suffix = _SUFFIX.match(revision, at)
        if suffix is None:
            raise UsageError(
                f"{revision!r} is not a revision: nothing can follow {revision[:at]!r} like that",
                kind="bad-revision",
                hint="HEAD~2, main^, @{1}",
            )
        suffixes.append(suffix)
        at = suffix.end()
    return base, suffixes


def _resolve_positioned(repository: Repository, base: str, suffixes: list[re.Match[str]], revision: str, head: Oid | None) -> Oid:
    """Resolves the base, with the ``@{N}`` that directly follows it (taken off ``suffixes``)."""
    if not suffixes or suffixes[0].group("position") is None:
        if not base:
            raise UsageError(f"{revision!r} is not a revision", kind="bad-revision", hint="HEAD~2, main^, @{1}")
        return _resolve_base(repository, base, head)
    position = int(suffixes.pop(0).group("position"))
    ref = None
    if base not in ("", "@", "HEAD"):
        ref = _full_name(repository, base)
        if ref is None:
            raise _unknown(repository, base)
    places = repository.operations.iter_positions(ref)
    oid = next(islice(places, position, None), None)
    if oid is None:
        raise NotFoundError(f"{base or 'HEAD'} has not been at {position + 1} places yet", kind="unknown-revision", hint="dvc-state op log")
    return repository.current_id(oid)


def _resolve_base(repository: Repository, base: str, head: Oid | None) -> Oid:
    if base in ("HEAD", "@"):
        oid = head if head is not None else repository.database.refs.head().oid
        if oid is None:
            raise NotFoundError("HEAD has no commit yet", kind="no-commits", hint="dvc-state run SCRIPT, or %load_ext dartvc in a notebook")
        return oid
    ref = _full_name(repository, base)
    if ref is not None:
        oid = repository.database.refs.read(ref)
        assert oid is not None
        return oid
    if _ID.match(base):
        found = repository.find_commits(base.lower())
        if len(found) > 1:
            listed = ", ".join(f"{oid[:10]} {repository.commit(oid).subject[:40]!r}" for oid in found[:_LISTED])
            raise UsageError(f"the short id {base!r} is ambiguous: {listed}", kind="ambiguous-id", hint="write more digits")
        if found:
            return found[0]
    raise _unknown(repository, base)


def _full_name(repository: Repository, base: str) -> str | None:
    """Finds a ref in git's order."""
    for pattern in ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}", "refs/remotes/{}/HEAD"):
        name = pattern.format(base)
        if name.startswith("refs/") and ".." not in name and repository.database.refs.read(name) is not None:
            return name
    return None


def _step(repository: Repository, oid: Oid, suffix: re.Match[str], revision: str) -> Oid:
    if suffix.group("text") is not None:
        return _find_message(repository.iter_log([oid]), suffix.group("text"), revision)
    if suffix.group("peel") is not None:
        return oid
    if suffix.group("position") is not None:
        raise UsageError(f"{revision!r}: @{{N}} follows a branch or HEAD only", kind="bad-revision", hint="main@{1}~2")
    if suffix.group("generation") is not None:
        for _ in range(int(suffix.group("generation") or 1)):
            oid = _parent(repository, oid, 1, revision)
        return oid
    number = int(suffix.group("parent") or 1)
    return oid if number == 0 else _parent(repository, oid, number, revision)


def _parent(repository: Repository, oid: Oid, number: int, revision: str) -> Oid:
    parents = repository.database.read_commit(oid).parents
    if number > len(parents):
        which = "no parent" if not parents else f"only {len(parents)} parent{'s' if len(parents) > 1 else ''}"
        raise NotFoundError(
            f"{revision!r} goes beyond the first commit: {oid[:8]} has {which}", kind="unknown-revision", hint="dvc-state log"
        )
    return parents[number - 1]


def _find_message(commits: Iterator[Commit], text: str, revision: str) -> Oid:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"{revision!r} is not a regular expression: {error}", kind="bad-revision", hint="dvc-state log") from error
    for commit in commits:
        if pattern.search(commit.message):
            return commit.oid
    raise NotFoundError(f"no commit's message matches {text!r}", kind="unknown-revision", hint="dvc-state log")


def _all_tips(repository: Repository, head: Oid | None) -> list[tuple[str, Oid]]:
    tips = list(repository.database.refs.iter_refs())
    place = head if head is not None else repository.database.refs.head().oid
    return [*tips, *([("HEAD", place)] if place is not None else [])]


def _unknown(repository: Repository, base: str) -> NotFoundError:
    names = [name.split("/", 2)[-1] for name, _ in repository.database.refs.iter_refs()]
    import difflib  # only for a revision that nothing has

    close = difflib.get_close_matches(base, [*names, "HEAD"], n=_SUGGESTIONS)
    hint = f"did you mean {' or '.join(close)}?" if close else "dvc-state log --oneline, dvc-state branch"
    reason = "no commit's id begins with it and no branch or tag has this name" if _ID.match(base) else "no branch or tag has this name"
    return NotFoundError(f"unknown revision {base!r}: {reason}", kind="unknown-revision", hint=hint)

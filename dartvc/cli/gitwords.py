"""What users of git type: some of it in this program's words, and for verbs that are not here the one that does it."""

from __future__ import annotations

from collections.abc import Sequence

from dartvc.cli.words import fill_revisions
from dartvc.errors import UsageError

__all__ = ["translate"]

_NO_MERGE = "values do not merge line by line", "dvc-state cherry-pick REV -- NAMES takes names over; dvc-state reset REV goes there"
_TOGETHER = "the branch and the variables move together", "dvc-state reset REV; dvc-state branch NAME REV marks a commit and moves nothing"
_ELSEWHERE = {
    ("add",): ("there is nothing to add: cells and runs are committed as they go", "dvc-state commit -m MESSAGE commits the living session under a message"),
    ("merge",): _NO_MERGE,
    ("rebase",): _NO_MERGE,
    ("reflog",): ("where refs and HEAD have been is in the operation log", "dvc-state op log"),
    ("reset", "--mixed"): _TOGETHER,
    ("reset", "--soft"): _TOGETHER,
    ("stash", "apply"): ("what was set aside is brought back and taken off at once", "dvc-state stash pop"),
}


def translate(words: Sequence[str]) -> list[str]:
    """Returns a command line without its spellings of git.

    Raises:
        UsageError: there is no such thing here; the hint names what there is.
    """
    found = _ELSEWHERE.get(tuple(words[:1])) or _ELSEWHERE.get(tuple(words[:2]))
    if found is not None:
        raise UsageError(found[0], kind="git-only", hint=found[1])
    if list(words[:2]) == ["stash", "push"]:
        return ["stash", *words[2:]]
    if words[:1] == ["log"]:
        return _translate_log(words)
    return fill_revisions(words)


def _translate_log(words: Sequence[str]) -> list[str]:
    """``-3`` is ``-n 3``, and what follows ``--`` is a name."""
    cut = words.index("--") if "--" in words else len(words)
    names = words[cut + 1 :]
    if len(names) > 1:
        raise UsageError("log follows one name at a time", kind="bad-arguments", hint=f"dvc-state log --var {names[0]}")
    found: list[str] = []
    for word in words[:cut]:
        found += ["-n", word[1:]] if word[:1] == "-" and word[1:].isdigit() and found[-1] != "-n" else [word]
    return [*found, *(each for name in names for each in ("--var", name))]

"""What stands before the verb of a command line, read without Typer."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dartvc.errors import UsageError
from dartvc.model.records import NamedTuple

__all__ = ["CommonWords", "enter_folder", "fill_revisions", "split_common", "verb_of"]

_FLAGS = ("--no-pager", "-q", "--quiet")
_VALUE_OPTIONS = ("-C", "--session")
_REVISIONS = {"checkout": 1, "diff": 2}
_WITH_VALUES = ("-b", "--map-device")
_GROUPS = frozenset({"bundle", "cache", "op"})


class CommonWords(NamedTuple):
    """The options that stand before the verb, and the words from the verb on."""

    directory: str
    session: str
    is_quiet: bool
    words: list[str]


def split_common(argv: Sequence[str]) -> CommonWords:
    """Takes the options that stand before the verb."""
    found = dict.fromkeys(_VALUE_OPTIONS, "")
    words, is_quiet = list(argv), False
    while words:
        if words[0] in _FLAGS:
            is_quiet = is_quiet or words[0] != "--no-pager"
            del words[:1]
        elif words[0] in _VALUE_OPTIONS and len(words) > 1:
            found[words[0]] = words[1]
            del words[:2]
        else:
            break
    return CommonWords(found["-C"], found["--session"], is_quiet, words)


def enter_folder(argv: Sequence[str]) -> list[str]:
    """Goes where ``-C`` says when a program is to run: it has to find itself there. Other verbs only look there.

    Args:
        argv: the words after ``dvc-state``.

    Returns:
        the words without the folder. ``sys.orig_argv`` has them so, too: Python may be begun again with it.

    Raises:
        UsageError: there is no such folder.
    """
    common = split_common(argv)
    if not common.directory or verb_of(common.words) not in ("run", "resume"):
        return list(argv)
    words = [*(("--session", common.session) if common.session else ()), *common.words]
    started = sys.orig_argv[: len(sys.orig_argv) - len(argv)]
    if started[-2:-1] not in (["-m"], ["-c"]):
        started[-1] = os.path.abspath(started[-1])
    try:
        os.chdir(common.directory)
    except OSError as error:
        raise UsageError(f"cannot go to {common.directory}: {error.strerror}", kind="no-folder", hint="dvc-state -C DIR runs as if started there") from error
    sys.orig_argv[:] = [*started, *words]
    return words


def verb_of(words: Sequence[str]) -> str:
    """Returns the verb, with its second word where the first one only names a group (``op log``)."""
    if not words:
        return ""
    return " ".join(words[:2]) if words[0] in _GROUPS else words[0]


def fill_revisions(words: Sequence[str]) -> list[str]:
    """Puts empty words for the revisions that were left out before ``--``, so that what follows is names, as in ``git checkout -- FILE``."""
    if not words or words[0] not in _REVISIONS or "--" not in words:
        return list(words)
    cut = words.index("--")
    given, skip = 0, False
    for word in words[1:cut]:
        given += not skip and (word == "-" or not word.startswith("-"))
        skip = not skip and word in _WITH_VALUES
    return [*words[:cut], *[""] * max(0, _REVISIONS[words[0]] - given), *words[cut:]]

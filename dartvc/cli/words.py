"""What stands before the verb of a command line, read without Typer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["CommonWords", "split_common", "verb_of"]

_FLAGS = ("--no-pager", "-q", "--quiet")
_VALUE_OPTIONS = ("-C", "--session")
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


def verb_of(words: Sequence[str]) -> str:
    """Returns the verb, with its second word where the first one only names a group (``op log``)."""
    if not words:
        return ""
    return " ".join(words[:2]) if words[0] in _GROUPS else words[0]

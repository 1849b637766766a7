"""What stands before the verb of a command line, read without Typer."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["split_common", "verb_of"]

_VALUE_OPTIONS = ("-C", "--session")
_GROUPS = frozenset({"bundle", "cache", "op"})


def split_common(argv: Sequence[str]) -> tuple[str, str, list[str]]:
    """Takes the options that stand before the verb; returns (directory, session, the words from the verb on)."""
    found = dict.fromkeys(_VALUE_OPTIONS, "")
    words = list(argv)
    while words:
        if words[0] == "--no-pager":
            del words[:1]
        elif words[0] in _VALUE_OPTIONS and len(words) > 1:
            found[words[0]] = words[1]
            del words[:2]
        else:
            break
    return found["-C"], found["--session"], words


def verb_of(words: Sequence[str]) -> str:
    """Returns the verb, with its second word where the first one only names a group (``op log``)."""
    if not words:
        return ""
    return " ".join(words[:2]) if words[0] in _GROUPS else words[0]

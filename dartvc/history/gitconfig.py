"""Reading git's configuration (git-config, "Syntax") without following its includes: a stranger's repository names no file of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dartvc.errors import CorruptError

__all__ = ["parse_config"]

_SECTION = re.compile(r'\[\s*(?P<name>[A-Za-z0-9.-]+)(?:\s+"(?P<sub>(?:[^"\\\n]|\\.)*)")?\s*\]')
_KEY = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]*)[ \t]*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


def parse_config(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Yields (key, value) in the order of the file: section and variable in lower case, a subsection between them as it is written.

    Raises:
        CorruptError: it is not what git would read; ``where`` names the file.
    """
    prefix = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t\r\n":
            at += 1
        elif char in "#;":
            at = _line_end(text, at)
        elif char == "[":
            section = _SECTION.match(text, at)
            if section is None:
                raise _malformed(text, at, where)
            sub = section["sub"]
            prefix = section["name"].lower() + ("" if sub is None else "." + re.sub(r"\\(.)", r"\1", sub)) + "."
            at = section.end()
        else:
            key = _KEY.match(text, at)
            if key is None or not prefix:
                raise _malformed(text, at, where)
            at = key.end()
            if at < len(text) and text[at] == "=":
                value, at = _value(text, at + 1, where)
            else:
                value = "true"
            yield prefix + key["name"].lower(), value


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _value(text: str, at: int, where: str) -> tuple[str, int]:
    """Reads a value: quotes and escapes are resolved, blanks around it and a comment behind it are dropped."""
    value: list[str] = []
    kept = 0
    is_quoted = False
    while at < len(text) and text[at] != "\n":
        char = text[at]
        if char == "\\":
            following = text[at + 1 : at + 2]
            if following == "\n" or text[at + 1 : at + 3] == "\r\n":
                at += 2 if following == "\n" else 3
                continue
            if following not in _ESCAPES or not following:
                raise _malformed(text, at, where)
            value.append(_ESCAPES[following])
            at += 2
            kept = len(value)
            continue
        at += 1
        if char == '"':
            is_quoted = not is_quoted
            kept = max(kept, len(value))
        elif not is_quoted and char in "#;":
            at = _line_end(text, at)
        elif is_quoted or char not in " \t\r":
            value.append(char)
            kept = len(value)
        elif value:
            value.append(char)
    if is_quoted:
        raise _malformed(text, at - 1, where)
    return "".join(value[:kept]), at


def _malformed(text: str, at: int, where: str) -> CorruptError:
    line = text.count("\n", 0, at) + 1
    return CorruptError(f"{where} cannot be read: line {line} is not git's", kind="config", hint="mend the file with an editor")

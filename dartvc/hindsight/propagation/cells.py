"""A notebook as one module: its code cells one after the other, magics hidden from the parser, insertions given back to their cells."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable

from dartvc.errors import UsageError
from dartvc.hindsight.propagation.sourcetext import Insertion, SourceText, apply_insertions

__all__ = ["Notebook", "mask_magics"]

_MAGIC = re.compile(r"[ \t]*(?:[%!?]|.*\?[ \t]*$)")
_CAPTURE = re.compile(r"(?P<target>[ \t]*[\w., \t]+=[ \t]*)[%!]")
_PYTHON_CELLS = re.compile(r"%%(?:time|timeit|capture|prun|debug)\b")


class Notebook:
    """The code of a notebook; ``source`` is what all its code cells say together.

    Args:
        text: the file's content.
        filename: for messages.

    Raises:
        UsageError: this is no notebook.
    """

    def __init__(self, text: str, filename: str = "<notebook>") -> None:
        try:
            self._content = json.loads(text)
            self._cells = [cell for cell in self._content["cells"] if cell["cell_type"] == "code"]
            texts = ["".join(cell["source"]) for cell in self._cells]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{filename} is not a notebook: {error!r}", kind="not-notebook", hint=f"jupyter nbconvert {filename}"
            ) from None
        self._texts = texts
        self._indent = len(match[1]) if (match := re.match(r"\{\n( +)", text)) else 1
        self._end = "\n" if text.endswith("\n") else ""
        self.source = SourceText("\n".join(texts), filename, "\n".join(map(mask_magics, texts)))

    def with_insertions(self, insertions: Iterable[Insertion]) -> str:
        """Returns the notebook's file with text added to its cells; outputs stay as they are."""
        rest = sorted(insertions)
        start = 0
        for cell, text in zip(self._cells, self._texts, strict=True):
            end = start + len(text)
            own = [Insertion(each.offset - start, each.rank, each.text) for each in rest if start <= each.offset <= end]
            if own:
                made = apply_insertions(text, own)
                cell["source"] = made if isinstance(cell["source"], str) else made.splitlines(keepends=True)
            start = end + 1
        return json.dumps(self._content, indent=self._indent, ensure_ascii=False) + self._end


def mask_magics(text: str) -> str:
    """Hides what IPython understands and Python does not, character for character; a cell that still does not parse is hidden wholly."""
    if _parses(text):
        return text
    lines = text.split("\n")
    if lines[0].startswith("%%") and not _PYTHON_CELLS.match(lines[0]):
        return _hidden(text)
    masked = "\n".join(map(_mask_line, lines))
    return masked if _parses(masked) else _hidden(text)


def _mask_line(line: str) -> str:
    capture = _CAPTURE.match(line)
    if capture:
        kept = capture["target"]
    elif _MAGIC.match(line):
        kept = line[: len(line) - len(line.lstrip(" \t"))]
    else:
        return line
    return f"{kept}0".ljust(len(line), "#")


def _hidden(text: str) -> str:
    return "\n".join("#" * len(line) for line in text.split("\n"))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True

"""A source text that is only ever added to: offsets of syntax nodes, the logical line around a statement, insertions."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from dartvc.errors import UsageError

__all__ = ["Insertion", "SourceText", "apply_insertions", "decode_source"]

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True, slots=True, order=True)
class Insertion:
    """Text to add at a character offset; ``rank`` orders what is added at the same offset."""

    offset: int
    rank: int
    text: str


def apply_insertions(text: str, insertions: Iterable[Insertion]) -> str:
    """Returns the text with the insertions in it; everything else stays as it is, to the character."""
    pieces = []
    done = 0
    for each in sorted(insertions):
        pieces += [text[done : each.offset], each.text]
        done = each.offset
    return "".join([*pieces, text[done:]])


def decode_source(data: bytes, filename: str) -> tuple[str, str]:
    """Decodes a Python file as Python would; returns its text, line ends untouched, and the encoding that gives the same bytes back.

    Raises:
        UsageError: the bytes are not text in the encoding that the file declares.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise UsageError(f"{filename} cannot be read as Python source: {error}", kind="not-python") from None


class SourceText:
    """A parsed source: its text, its lines, its tree.

    Args:
        text: the source, any line ends.
        filename: for messages.
        masked: the text with what is not Python (magics) hidden from the parser, character for character; None: all of it is Python.

    Raises:
        UsageError: this interpreter cannot parse it.
    """

    def __init__(self, text: str, filename: str = "<source>", masked: str | None = None) -> None:
        self.text = text
        self.filename = filename
        self.lines: list[str] = _LINE.findall(text if masked is None else masked)
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))
        try:
            self.tree = ast.parse("".join(self.lines), filename)
        except (SyntaxError, ValueError, RecursionError) as error:
            line_number = getattr(error, "lineno", None)
            where = f" (line {line_number})" if line_number else ""
            raise UsageError(
                f"{filename} is not Python that this interpreter reads: {getattr(error, 'msg', None) or error}{where}",
                kind="not-python",
                hint=f"python -m py_compile {filename}",
            ) from None

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def newline(self) -> str:
        """The line end that most lines have."""
        ends = [line[len(line.rstrip("\r\n")) :] for line in self.lines]
        return max(("\n", "\r\n", "\r"), key=ends.count)

    def line(self, number: int) -> str:
        """Returns a line by its number from 1, without its line end."""
        return self.lines[number - 1].rstrip("\r\n") if number <= len(self.lines) else ""

    def offset(self, line: int, column_bytes: int) -> int:
        """Returns the character offset of a position as syntax trees give it: line from 1, column in UTF-8 bytes."""
        if line > len(self.lines):
            return len(self.text)
        content = self.lines[line - 1]
        columns = column_bytes if content.isascii() else len(content.encode()[:column_bytes].decode(errors="ignore"))
        return self._starts[line - 1] + columns

    def line_of(self, offset: int) -> int:
        """Returns the number of the line, from 1, that an offset lies in."""
        return min(bisect_right(self._starts, offset), max(len(self.lines), 1))

    def start(self, node: ast.stmt | ast.expr | ast.excepthandler | ast.keyword | ast.arg) -> int:
        """Returns where a node begins, its decorators included."""
        decorators: list[ast.expr] = getattr(node, "decorator_list", [])
        if decorators:
            line = min(each.lineno for each in decorators)
            content = self.line(line)
            return self._starts[line - 1] + len(content) - len(content.lstrip())
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.stmt | ast.expr | ast.keyword | ast.arg) -> int:
        """Returns where a node ends."""
        return self.offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)

    def indentation(self, offset: int) -> str:
        """Returns the white space at the start of the line that holds an offset."""
        content = self.line(self.line_of(offset))
        return content[: len(content) - len(content.lstrip(" \t\f"))]

    def begins_line(self, offset: int) -> bool:
        """Tells whether only white space stands before an offset, and the line is not the continuation of another."""
        line = self.line_of(offset)
        continues = line > 1 and self.line(line - 1).endswith("\\")
        return not continues and not self.text[self._starts[line - 1] : offset].strip(" \t\f\ufeff")

    def line_end(self, offset: int) -> int | None:
        """Returns where the line ends, if after an offset it holds only white space and a comment; else None."""
        line = self.line_of(offset)
        stop = self._starts[line - 1] + len(self.line(line))
        rest = self.text[offset:stop].strip()
        return stop if not rest or rest.startswith("#") else None

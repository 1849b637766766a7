"""The text of a travelling statement as it reads in OLD, and the insertions that put it there."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Mapping

from dartvc.hindsight.propagation.naming import Whole
from dartvc.hindsight.propagation.placing import Gap
from dartvc.hindsight.propagation.sourcetext import Insertion, SourceText
from dartvc.hindsight.propagation.statements import Statement

__all__ = ["insert_at", "leading_blank_lines", "respell", "statement_lines"]

_LAST = 1 << 30


def respell(source: SourceText, spellings: Mapping[ast.AST, str], start: int, end: int) -> str:
    """Returns a part of a source with some of its names spelled otherwise."""
    text = source.text[start:end]
    edits = []
    for each, spelling in spellings.items():
        span = _span(source, each, spelling)
        if span is None or not start <= span[0] <= span[1] <= end:
            continue
        if source.text.startswith('"', span[0]) and '"' not in spelling:
            spelling = f'"{spelling[1:-1]}"'
        edits.append((span[0] - start, span[1] - start, spelling))
    for first, last, spelling in sorted(edits, reverse=True):
        text = text[:first] + spelling + text[last:]
    return text


def statement_lines(source: SourceText, node: ast.stmt, spellings: Mapping[ast.AST, str]) -> list[str]:
    """Returns the lines of a statement, without the indentation of its first one; lines inside of strings are left as they are.

    A statement whose names cannot be replaced in the text (those inside of f-strings have no exact positions in Python 3.11) is written anew.
    """
    start, end = source.start(node), source.end(node)
    line_end = source.line_end(end)
    comment = source.text[end:line_end] if line_end is not None and source.begins_line(start) else ""
    text = respell(source, spellings, start, end)
    spelled: ast.AST = _Speller(spellings).visit(_copy(node))
    wanted = ast.dump(spelled)
    if not _reads_as(text, source.indentation(start), wanted):
        return ast.unparse(spelled).split("\n")
    lines = re.split(r"\r\n|\r|\n", text)
    inside = _lines_inside_strings(lines)
    base = source.indentation(start)
    lines = [line if number in inside or not number else line.removeprefix(base) for number, line in enumerate(lines)]
    lines[-1] += comment.rstrip()
    return [("\0" + line) if number in inside else line for number, line in enumerate(lines)]


def insert_at(old: SourceText, gap: Gap, lines: list[str], rank: int, blank_lines: int = 0) -> list[Insertion]:
    """Returns the insertions that put a statement into a gap; a suite on the line of its header is opened for it."""
    statements = gap.block.statements
    after = statements[gap.index - 1] if gap.index else None
    before = statements[gap.index] if gap.index < len(statements) else None
    if after is not None:
        end = old.end(after.node)
        line_end = old.line_end(end)
        if line_end is not None:
            indentation, opening = _suite_indentation(old, gap, rank)
            gap_lines = [""] * blank_lines
            return [*opening, Insertion(line_end, rank, old.newline + _join(old, [*gap_lines, *lines], indentation))]
    assert before is not None or after is not None
    if before is None:
        assert after is not None
        return [Insertion(old.end(after.node), rank, "; " + "; ".join(lines))]
    start = old.start(before.node)
    indentation, opening = _suite_indentation(old, gap, rank)
    if opening:
        added = Insertion(start, rank, old.newline + _join(old, lines, indentation))
        return list(dict.fromkeys([added, *opening, Insertion(start, _LAST, old.newline + indentation)]))
    if old.begins_line(start):
        line_start = start - len(indentation)
        return [Insertion(line_start, rank, _join(old, lines, indentation) + old.newline + old.newline * blank_lines)]
    return [Insertion(start, rank, old.newline + _join(old, lines, indentation)), Insertion(start, _LAST, old.newline + indentation)]


def _join(old: SourceText, lines: list[str], indentation: str) -> str:
    return old.newline.join(line[1:] if line.startswith("\0") else indentation + line if line else "" for line in lines)


def _suite_indentation(old: SourceText, gap: Gap, rank: int) -> tuple[str, list[Insertion]]:
    """Returns the indentation of a block; of one that stands on the line of its header, what opens it comes with it."""
    first = gap.block.statements[0].node
    start = old.start(first)
    indentation = old.indentation(start)
    if old.begins_line(start) or gap.block.owner is None:
        return indentation, []
    step = "\t" if indentation.startswith("\t") else _step(old)
    inner = indentation + step
    return inner, [Insertion(start, _LAST, old.newline + inner)]


def _step(old: SourceText) -> str:
    """Returns what one level of indentation is in a source."""
    for line in old.lines:
        content = line.rstrip("\r\n")
        if content[:1] in " \t" and content.strip():
            return content[: len(content) - len(content.lstrip())][:8]
    return "    "


def _span(source: SourceText, node: ast.AST, spelling: str) -> tuple[int, int] | None:
    """Returns where the name of a node stands; None when the text there is something else."""
    if isinstance(node, ast.keyword) and node.arg:
        start = source.start(node)
        return (start, start + len(node.arg)) if source.text.startswith(node.arg, start) else None
    if isinstance(node, ast.expr) and isinstance(spelling, Whole):
        return source.start(node), source.end(node)
    if isinstance(node, ast.Attribute):
        end = source.end(node)
        return (end - len(node.attr), end) if source.text.endswith(node.attr, 0, end) else None
    if isinstance(node, ast.Name):
        start = source.start(node)
        return (start, start + len(node.id)) if source.text.startswith(node.id, start) else None
    if isinstance(node, ast.Constant):
        return source.start(node), source.end(node)
    return None


class _Speller(ast.NodeTransformer):
    """Writes new spellings into a copy of a tree; nodes of the copy are known by where the original ones stand in the walk."""

    def __init__(self, spellings: Mapping[ast.AST, str]) -> None:
        self._spellings = spellings

    def visit(self, node: ast.AST) -> ast.AST:
        """Spells one node."""
        spelling = self._spellings.get(getattr(node, "original", node))
        self.generic_visit(node)
        if spelling is None:
            return node
        if isinstance(node, ast.Name) or (isinstance(node, ast.expr) and isinstance(spelling, Whole)):
            replaced = ast.parse(spelling, mode="eval").body
            for each in ast.walk(replaced):
                if isinstance(each, ast.Name):
                    each.ctx = getattr(node, "ctx", ast.Load())
            return replaced
        if isinstance(node, ast.Attribute):
            node.attr = spelling
        elif isinstance(node, ast.keyword):
            node.arg = spelling
        elif isinstance(node, ast.Constant):
            node.value = ast.literal_eval(spelling)
        return node


def _copy(node: ast.AST) -> ast.AST:
    """Copies a tree; each copied node remembers its original."""
    fields = {
        name: [_copy(each) if isinstance(each, ast.AST) else each for each in value]
        if isinstance(value, list)
        else (_copy(value) if isinstance(value, ast.AST) else value)
        for name, value in ast.iter_fields(node)
    }
    made = type(node)(**fields)
    for name in node._attributes:
        if hasattr(node, name):
            setattr(made, name, getattr(node, name))
    made.original = node  # type: ignore[attr-defined]
    return made


def _reads_as(text: str, indentation: str, wanted: str) -> bool:
    """Tells whether a text is a statement of a known tree."""
    try:
        if indentation:
            body = ast.parse(f"if 1:\n{indentation}{text}\n").body[0]
            assert isinstance(body, ast.If)
            return ast.dump(body.body[0]) == wanted
        return ast.dump(ast.parse(text).body[0]) == wanted
    except (SyntaxError, ValueError):
        return False


def _lines_inside_strings(lines: list[str]) -> set[int]:
    """Returns the numbers, from 0, of the lines that begin inside a string."""
    inside: set[int] = set()
    starts: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
            kind = tokenize.tok_name[token.type]
            if kind == "STRING":
                inside.update(range(token.start[0], token.end[0]))
            elif kind == "FSTRING_START":
                starts.append(token.start[0])
            elif kind == "FSTRING_END":
                inside.update(range(starts.pop(), token.end[0]))
    except (tokenize.TokenError, IndentationError):
        pass
    return inside


def leading_blank_lines(source: SourceText, statement: Statement) -> int:
    """Returns how many blank lines stand before a definition: they travel with it."""
    if statement.family not in ("function", "ClassDef"):
        return 0
    number = source.line_of(source.start(statement.node)) - 1
    count = 0
    while number - count >= 1 and not source.line(number - count).strip() and count < 2:
        count += 1
    return count

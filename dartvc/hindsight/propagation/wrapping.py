"""A log call around an expression that OLD has without it: ``x = log("x", f())`` for ``x = f()``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dartvc.hindsight.propagation.alignment import Alignment
from dartvc.hindsight.propagation.naming import Import, Unnamed
from dartvc.hindsight.propagation.placing import Placer, Uncertain
from dartvc.hindsight.propagation.rendering import respell
from dartvc.hindsight.propagation.sourcetext import Insertion
from dartvc.hindsight.propagation.units import Wrap

__all__ = ["wrap_insertions"]


def wrap_insertions(alignment: Alignment, placer: Placer, wrap: Wrap) -> tuple[list[Insertion], tuple[Import, ...]]:
    """Returns what puts a log call around the expression of OLD that it logs.

    Raises:
        Uncertain: OLD's statement differs, so that the expression is not certain.
    """
    mine = wrap.statement
    theirs = alignment.to_old[mine]
    value = alignment.new.logs.logged_value(wrap.call)
    if value is None or mine.shape != theirs.shape:
        raise Uncertain(f"the statement at line {theirs.line} of OLD has another form", (theirs.line,))
    image = _image(alignment, wrap, value)
    if image is None:
        raise Uncertain(f"what it logs is not in line {theirs.line} of OLD", (theirs.line,))
    new, old = alignment.new.source, alignment.old.source
    try:
        naming = placer.name(wrap.call, alignment.old.scopes.of[image])
    except Unnamed as error:
        raise Uncertain(str(error), (theirs.line,)) from None
    start, end = new.start(wrap.call), new.end(wrap.call)
    prefix = respell(new, naming.spellings, start, new.start(value))
    suffix = respell(new, naming.spellings, new.end(value), end)
    rank = wrap.call.col_offset
    return [Insertion(old.start(image), rank, prefix), Insertion(old.end(image), -rank, suffix)], naming.imports


def _image(alignment: Alignment, wrap: Wrap, value: ast.expr) -> ast.expr | None:
    """Returns the expression of OLD's statement that stands where the logged one does."""
    pairs = _parallel(alignment, wrap.statement.node, alignment.to_old[wrap.statement].node)
    return next((theirs for mine, theirs in pairs if mine is value and isinstance(theirs, ast.expr)), None)


def _parallel(alignment: Alignment, mine: ast.AST, theirs: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yields the nodes of two statements of one form that stand for each other; log calls stand for their values."""
    value = alignment.new.logs.logged_value(mine)
    while value is not None:
        mine, value = value, alignment.new.logs.logged_value(value)
    value = alignment.old.logs.logged_value(theirs)
    while value is not None:
        theirs, value = value, alignment.old.logs.logged_value(value)
    yield mine, theirs
    if type(mine) is not type(theirs):
        return
    for (name, one), (_, other) in zip(ast.iter_fields(mine), ast.iter_fields(theirs), strict=True):
        if isinstance(one, ast.AST) and isinstance(other, ast.AST):
            yield from _parallel(alignment, one, other)
        elif isinstance(one, list) and isinstance(other, list) and name not in ("body", "orelse", "finalbody", "handlers", "cases"):
            for first, second in zip(one, other, strict=False):
                if isinstance(first, ast.AST) and isinstance(second, ast.AST):
                    yield from _parallel(alignment, first, second)

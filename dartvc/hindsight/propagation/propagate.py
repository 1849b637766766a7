"""Log statement propagation: the log statements of a new version of a source, at their places in old versions of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from dartvc.hindsight.propagation.alignment import align
from dartvc.hindsight.propagation.naming import Import, Unnamed
from dartvc.hindsight.propagation.placing import Gap, Place, Placer, Uncertain
from dartvc.hindsight.propagation.rendering import insert_at, leading_blank_lines, statement_lines
from dartvc.hindsight.propagation.sourcetext import Insertion, apply_insertions
from dartvc.hindsight.propagation.statements import Statement
from dartvc.hindsight.propagation.units import Travelling, Wrap, find_travelling
from dartvc.hindsight.propagation.versions import Version, too_deep
from dartvc.hindsight.propagation.wrapping import wrap_insertions

__all__ = ["Placement", "Propagation", "Refusal", "propagate"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A log statement that has a place: its line in NEW, and the line of OLD after which it stands."""

    new_line: int
    old_line: int
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A log statement whose place in OLD would be a guess, and why; ``old_lines`` are those between which it would be one."""

    new_line: int
    text: str
    reason: str
    old_lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Propagation:
    """OLD with the log statements of NEW.

    ``text`` is OLD's text with ``insertions`` in it and nothing else changed; ``kept`` are log statements that stand in OLD under the same name with another
    expression, and stay as they are; ``pairs`` are the lines of matched statements (old, new), the mapping
    between the versions.
    """

    text: str
    placements: tuple[Placement, ...]
    refusals: tuple[Refusal, ...]
    kept: tuple[Placement, ...] = ()
    insertions: tuple[Insertion, ...] = field(repr=False, default=())
    pairs: tuple[tuple[int, int], ...] = field(repr=False, default=())


def propagate(new: Version, olds: Iterable[Version], answers: Mapping[int, int] | None = None) -> list[Propagation]:
    """Puts the log statements of one version into others; NEW is analysed once.

    Args:
        new: the version with the log statements.
        olds: the versions that lack some of them.
        answers: places that the user chose: for a line of NEW, the line of OLD after which its statement belongs.
    """
    done = []
    for old in olds:
        try:
            done.append(_Propagator(new, old, answers or {}).run())
        except RecursionError:
            raise too_deep(old.source) from None
    return done


class _Propagator:
    """One pair of versions."""

    def __init__(self, new: Version, old: Version, answers: Mapping[int, int]) -> None:
        self._new = new
        self._old = old
        self._answers = answers
        self._alignment = align(new, old)
        self._travelling: Travelling = find_travelling(self._alignment)
        self._placer = Placer(self._alignment, self._travelling, new, old)
        self._places: dict[Statement, Place | Uncertain] = {}
        self._imports: dict[Import, Place | None] = {}

    def run(self) -> Propagation:
        """Places what can be placed with certainty."""
        chosen: dict[Statement, Place] = {}
        imports: dict[Import, None] = {}
        placements: list[Placement] = []
        refusals: list[Refusal] = []
        wraps: list[Insertion] = []
        for log in self._travelling.logs:
            try:
                needed = self._closure(log)
                self._check_order(needed)
            except Uncertain as error:
                refusals.append(self._refusal(log, error))
                continue
            chosen.update(needed)
            imports.update(dict.fromkeys(each for place in needed.values() for each in place.naming.imports))
            placements.append(Placement(log.line, needed[log].gap.line, self._first_line(log.node)))
        for wrap in self._travelling.wraps:
            try:
                insertions, needed_imports = wrap_insertions(self._alignment, self._placer, wrap)
            except Uncertain as error:
                refusals.append(self._refusal(wrap, error))
                continue
            wraps += insertions
            imports.update(dict.fromkeys(needed_imports))
            old_line = self._alignment.to_old[wrap.statement].line
            placements.append(Placement(wrap.call.lineno, old_line, self._first_line(wrap.call)))
        insertions = [*self._render(chosen), *self._render_imports(list(imports)), *wraps]
        text = apply_insertions(self._old.source.text, _merged(insertions))
        pairs = tuple(sorted({(theirs.line, mine.line) for mine, theirs in self._alignment.to_old.items()}))
        return Propagation(text, tuple(placements), tuple(refusals), self._kept(), tuple(_merged(insertions)), pairs)

    def _place(self, unit: Statement) -> Place:
        found = self._places.get(unit)
        if found is None:
            answer = next((line for number, line in self._answers.items() if unit.line <= number <= (unit.node.end_lineno or 0)), None)
            try:
                found = self._placer.place(unit) if answer is None else self._placer.place_at(unit, answer)
            except Uncertain as error:
                found = error
            self._places[unit] = found
        if isinstance(found, Uncertain):
            raise found
        return found

    def _closure(self, log: Statement) -> dict[Statement, Place]:
        """Returns the places of a log statement and of everything that it needs and OLD lacks.

        Raises:
            Uncertain: one of them has none.
        """
        needed = {log: self._place(log)}
        queue = [log]
        while queue:
            unit = queue.pop()
            for name in needed[unit].naming.needs:
                for support in self._travelling.support.get(name, ()):
                    if support in needed or unit.encloses(support):
                        continue
                    try:
                        needed[support] = self._place(support)
                    except Uncertain as error:
                        raise Uncertain(f"{name[1]}, which it needs (line {support.line}): {error.reason}", error.lines) from None
                    queue.append(support)
        return needed

    def _check_order(self, needed: Mapping[Statement, Place]) -> None:
        """What travels together must stay in its order where it runs in one scope."""
        units = sorted(needed, key=lambda each: each.first)
        for one, other in pairwise(units):
            gaps = needed[one].gap, needed[other].gap
            if gaps[0].block.scope is gaps[1].block.scope and gaps[0].at > gaps[1].at and one.scope is other.scope:
                raise Uncertain(f"what it needs (line {one.line}) would come after it in OLD")

    def _kept(self) -> tuple[Placement, ...]:
        headers = self._alignment.likeness.headers
        pairs = [(mine, theirs) for mine, theirs in self._alignment.to_old.items() if mine.is_log and headers(mine, theirs) < 1.0]
        return tuple(Placement(mine.line, theirs.line, self._first_line(mine.node)) for mine, theirs in pairs)

    def _render(self, chosen: Mapping[Statement, Place]) -> list[Insertion]:
        insertions: list[Insertion] = []
        for unit, place in chosen.items():
            lines = statement_lines(self._new.source, unit.node, place.naming.spellings)
            blank_lines = leading_blank_lines(self._new.source, unit)
            insertions += insert_at(self._old.source, place.gap, lines, unit.first, blank_lines)
        return insertions

    def _render_imports(self, imports: list[Import]) -> list[Insertion]:
        """Adds the imported names: to the import of OLD that is the same statement, else as a statement of their own."""
        by_statement: dict[Statement, list[Import]] = {}
        for each in imports:
            by_statement.setdefault(each.statement, []).append(each)
        insertions: list[Insertion] = []
        for statement, names in by_statement.items():
            aliases = [each.name + (f" as {each.asname}" if each.asname else "") for each in (name.alias for name in names)]
            image = self._alignment.to_old.get(statement)
            if image is not None and isinstance(image.node, ast.Import | ast.ImportFrom) and _is_same_module(statement.node, image.node):
                last = image.node.names[-1]
                end = self._old.source.offset(last.end_lineno or last.lineno, last.end_col_offset or 0)
                insertions.append(Insertion(end, statement.first, "".join(f", {alias}" for alias in aliases)))
                continue
            if isinstance(statement.node, ast.ImportFrom):
                origin = "." * statement.node.level + (statement.node.module or "")
                lines = [f"from {origin} import {', '.join(aliases)}"]
            else:
                lines = [f"import {', '.join(aliases)}"]
            insertions += insert_at(self._old.source, self._import_gap(statement), lines, statement.first)
        return insertions

    def _import_gap(self, statement: Statement) -> Gap:
        """Returns where an import goes: its place, or after the last import at the top of OLD."""
        try:
            return self._placer.place(statement).gap
        except (Uncertain, Unnamed):
            root = self._old.root
            index = self._old.first_index(root)
            while index < len(root.statements) and root.statements[index].family == "import":
                index += 1
            return Gap(root, index)

    def _refusal(self, what: Statement | Wrap, error: Uncertain) -> Refusal:
        node = what.node if isinstance(what, Statement) else what.call
        return Refusal(node.lineno, self._first_line(node), error.reason, error.lines)

    def _first_line(self, node: ast.stmt | ast.expr) -> str:
        source = self._new.source
        return source.text[source.start(node) : source.end(node)].splitlines()[0]


def _is_same_module(one: ast.stmt, other: ast.stmt) -> bool:
    if isinstance(one, ast.ImportFrom) and isinstance(other, ast.ImportFrom):
        return (one.module, one.level) == (other.module, other.level)
    return isinstance(one, ast.Import) and isinstance(other, ast.Import)


def _merged(insertions: Iterable[Insertion]) -> list[Insertion]:
    """Returns the insertions in order, those that open the same suite once."""
    return sorted(dict.fromkeys(insertions))

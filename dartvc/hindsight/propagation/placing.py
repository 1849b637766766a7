"""The place in OLD that is a statement's place in NEW, or why there is no certain one.

Places are proposed by what surrounds the statement: after the image of the nearest matched statement before it, before the image of the nearest
one after it, and where these lift into the image of its own block. Each is held against the facts: every name must have a counterpart with a
value there; what changes the logged variables must stand on the same side as in NEW; the same loops and branches must lie around it; the same
definitions must reach it. A place is certain when no other one is better in any of these.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from dartvc.hindsight.propagation.alignment import Alignment
from dartvc.hindsight.propagation.flow import UNBOUND
from dartvc.hindsight.propagation.naming import Namer, Naming, Unnamed
from dartvc.hindsight.propagation.rivals import find_rival
from dartvc.hindsight.propagation.scopes import Scope
from dartvc.hindsight.propagation.statements import Block, Statement
from dartvc.hindsight.propagation.units import Travelling
from dartvc.hindsight.propagation.versions import Version

__all__ = ["Gap", "Place", "Placer", "Uncertain"]

_FAR = 2
_BRANCHES = frozenset({"If", "Match", "Try", "TryStar"})


class Uncertain(Exception):
    """There is no certain place; ``lines`` are those of OLD between which it would be a guess."""

    def __init__(self, reason: str, lines: tuple[int, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Gap:
    """The place before the statement at ``index`` of a block, or its end; ``at`` numbers it among OLD's statements."""

    block: Block
    index: int

    @property
    def at(self) -> int:
        """The number of the first statement behind the gap."""
        if self.index < len(self.block.statements):
            return self.block.statements[self.index].first
        return self.block.statements[-1].last + 1 if self.block.statements else 0

    @property
    def line(self) -> int:
        """The line of OLD after which the gap lies."""
        if self.index:
            return self.block.statements[self.index - 1].node.end_lineno or 0
        return self.block.statements[0].line - 1 if self.block.statements else 0

    def blocks(self) -> Iterator[Block]:
        """Yields the blocks around the gap in its own function, innermost first."""
        yield from _blocks_within(self.block)


@dataclass(frozen=True, slots=True)
class Place:
    """A certain place, and how the statement reads there."""

    gap: Gap
    naming: Naming


@dataclass(frozen=True, slots=True)
class _Judged:
    """A possible place: ``facts`` decide, ``taste`` chooses between places of equal facts."""

    gap: Gap
    naming: Naming
    facts: tuple[float, ...]
    taste: tuple[float, ...]


class Placer:
    """Finds places for the statements of one pair of versions."""

    def __init__(self, alignment: Alignment, travelling: Travelling, new: Version, old: Version) -> None:
        self._alignment = alignment
        self._travelling = travelling
        self._new = new
        self._old = old
        self._namer = Namer(alignment, travelling)

    def place(self, unit: Statement) -> Place:
        """Returns the place of a statement that travels.

        Raises:
            Uncertain: there is none, or more than one.
        """
        before, after = self._neighbours(unit)
        own_block, is_own = self._own_block(unit)
        is_alone = before is None and after is None
        if own_block is None and is_alone:
            raise Uncertain(self._why_lost(unit))
        proposed = self._propose(unit, before, after, own_block if is_own or not is_alone else None)
        if not proposed:
            raise Uncertain("nothing around it exists in OLD")
        judged, reasons = self._judge(unit, proposed, before, after)
        if not judged and own_block is not None:
            blocks = {gap.block for gap in proposed}
            every = [Gap(block, index) for block in blocks for index in range(self._old.first_index(block), len(block.statements) + 1)]
            found, others = self._judge(unit, every, before, after)
            judged = [each for each in found if each.facts[-1] < _FAR]
            reasons += others
        if not judged:
            raise Uncertain(reasons[0] if reasons else "the statements that it must follow and precede stand in another order in OLD")
        if unit.family in ("import", "function", "ClassDef"):
            return Place(judged[0].gap, judged[0].naming)
        best = tuple(min(each.facts[number] for each in judged) for number in range(len(judged[0].facts)))
        certain = [each for each in judged if each.facts == best]
        if not certain:
            lines = tuple(sorted({each.gap.line for each in judged}))
            raise Uncertain(f"it could go after line {' or '.join(map(str, lines))} of OLD", lines)
        if len({each.gap.block.scope for each in certain}) > 1:
            lines = tuple(sorted({each.gap.line for each in certain}))
            raise Uncertain(f"it could go into either function, after line {' or '.join(map(str, lines))} of OLD", lines)
        chosen = min(certain, key=lambda each: each.taste)
        self._check_rivals(unit, chosen, before)
        self._check_changed(unit, chosen, before, after)
        self._check_function(unit, chosen.gap, before, after)
        return Place(chosen.gap, chosen.naming)

    def name(self, node: ast.AST, scope: Scope) -> Naming:
        """Names a node of NEW as it is called in a scope of OLD.

        Raises:
            Unnamed: something in it has no certain counterpart.
        """
        return self._namer.name(node, scope)

    def place_at(self, unit: Statement, line: int) -> Place:
        """Returns the place after the statement of OLD that a line belongs to, as the user chose it.

        Raises:
            Uncertain: there is no statement, or its names have no counterpart there.
        """
        holders = [each for each in self._old.statements if each.node.lineno <= line <= (each.node.end_lineno or 0)]
        if not holders:
            raise Uncertain(f"there is no statement at line {line} of OLD")
        holder = holders[-1]
        gap = Gap(holder.block, holder.index + 1)
        try:
            return Place(gap, self._namer.name(unit.node, gap.block.scope))
        except Unnamed as error:
            raise Uncertain(str(error), (line,)) from None

    def _neighbours(self, unit: Statement) -> tuple[Statement | None, Statement | None]:
        """Returns the images of the nearest statements before and after that have one."""
        before = next((image for each in self._siblings(unit, -1) if (image := self._image(each, -1)) is not None), None)
        after = next((image for each in self._siblings(unit, 1) if (image := self._image(each, 1)) is not None), None)
        return before, after

    def _siblings(self, unit: Statement, step: int) -> Iterator[Statement]:
        """Yields the statements on one side, nearest first, out of wrappers that OLD lacks and that change nothing."""
        at: Statement | None = unit
        while at is not None:
            siblings = at.block.statements
            yield from siblings[at.index + 1 :] if step > 0 else siblings[: at.index][::-1]
            owner = at.block.owner
            at = owner if owner is not None and owner not in self._alignment.to_old and _is_transparent(at.block) else None

    def _image(self, statement: Statement, step: int) -> Statement | None:
        if statement in self._travelling.members:
            return None
        image = self._alignment.to_old.get(statement)
        if image is not None and statement.is_log and not self._is_beside(statement, image):
            return None
        if image is not None or not statement.blocks or statement.family in ("function", "ClassDef"):
            return image
        images = [self._alignment.to_old[each] for each in self._new.inside(statement) if each in self._alignment.to_old]
        return None if not images else images[-1] if step < 0 else images[0]

    def _is_beside(self, log: Statement, image: Statement) -> bool:
        """Tells whether a log that OLD has too stands among the same statements there."""
        images = (self._alignment.to_old.get(each) for each in log.block.statements if not each.is_log)
        is_same_block = self._alignment.block_to_old(log.block) is image.block
        return is_same_block or any(each is not None and each.block is image.block for each in images)

    def _own_block(self, unit: Statement) -> tuple[Block | None, bool]:
        """Returns the image of the unit's block, looked for outside of wrappers; the flag: it is the block itself."""
        block = unit.block
        is_own = True
        while True:
            image = self._alignment.block_to_old(block)
            if image is not None:
                return image, is_own
            owner = block.owner
            if owner is None or owner in self._alignment.to_old or not _is_transparent(block):
                return None, False
            block = owner.block
            is_own = False

    def _propose(self, unit: Statement, before: Statement | None, after: Statement | None, own: Block | None) -> list[Gap]:
        gaps = []
        if before is not None:
            gaps.append(Gap(before.block, before.index + 1))
            gaps += [Gap(each.block, each.index + 1) for each in before.ancestors() if each.block is own]
        if after is not None:
            gaps.append(Gap(after.block, after.index))
            gaps += [Gap(each.block, each.index) for each in after.ancestors() if each.block is own]
        if own is not None:
            others = [each for each in unit.block.statements if each not in self._travelling.members]
            if before is None and all(each.first > unit.first for each in others):
                gaps.append(Gap(own, 0))
            if before is None and after is None and all(each.first < unit.first for each in others):
                gaps.append(Gap(own, len(own.statements)))
        if unit.family == "import" and own is not None and not gaps:
            gaps.append(Gap(own, 0))
        kept = [
            Gap(gap.block, max(gap.index, self._old.first_index(gap.block)))
            for gap in gaps
            if gap.block.statements and not self._is_elif(gap.block)
        ]
        return list(dict.fromkeys(kept))

    def _is_elif(self, block: Block) -> bool:
        first = block.statements[0].node
        source = self._old.source
        return block.label == "orelse" and isinstance(first, ast.If) and source.text.startswith("elif", source.start(first))

    def _judge(
        self, unit: Statement, gaps: list[Gap], before: Statement | None, after: Statement | None
    ) -> tuple[list[_Judged], list[str]]:
        """Returns the possible ones of some gaps, and why the others are not."""
        judged: list[_Judged] = []
        reasons: list[str] = []
        for number, gap in enumerate(gaps):
            scope = gap.block.scope
            environment = self._old.flow(scope).at(gap.block, gap.index)
            if environment is None:
                continue
            try:
                naming = self._namer.name(unit.node, scope)
                self._check_form(unit, gap)
            except Unnamed as error:
                reasons.append(str(error))
                continue
            missing = [
                theirs
                for theirs in naming.variables.values()
                if scope.home(theirs) is scope and not environment.get(theirs, frozenset()) - {UNBOUND}
            ]
            if missing:
                reasons.append(f"{missing[0]} has no value yet at line {gap.line} of OLD")
                continue
            if self._is_out_of_order(unit, gap, naming):
                continue
            wrong, unsure = self._reaching(unit, gap, naming)
            facts = (self._lost_blocks(unit, gap), self._extra_loops(unit, gap), _misplaced(gap, before, after))
            taste = (_away(gap, before, after), unsure, self._extra_branches(unit, gap), number)
            if wrong and unit.family not in ("import", "function", "ClassDef"):
                reasons.append(f"other values may be in {', '.join(naming.variables.values())} at line {gap.line} of OLD")
                continue
            judged.append(_Judged(gap, naming, facts, taste))
        return judged, reasons

    def _check_form(self, unit: Statement, gap: Gap) -> None:
        """What only some functions may hold must not travel into others."""
        scope = gap.block.scope
        waits = any(isinstance(each, ast.Await | ast.AsyncFor | ast.AsyncWith) for each in ast.walk(unit.node))
        is_sync = unit.family not in ("function", "ClassDef") and isinstance(scope.node, ast.FunctionDef)
        if waits and is_sync:
            raise Unnamed("it awaits, and the function in OLD is not async")

    def _is_out_of_order(self, unit: Statement, gap: Gap, naming: Naming) -> bool:
        """Tells whether a matched statement that changes what is logged stands on the other side than in NEW."""
        around = {block.owner for block in gap.blocks()}
        at = gap.at
        owner = self._moved_owner(unit, gap)
        for mine, theirs in self._alignment.to_old.items():
            if owner is not None and not owner.encloses(mine):
                continue
            if mine.scope is not unit.scope or theirs.scope is not gap.block.scope or theirs in around or mine.encloses(unit):
                continue
            changes = self._new.changes[mine]
            is_relevant = any(name in changes for name in naming.variables) if changes is not None else bool(naming.variables)
            if is_relevant and (mine.first < unit.first) != (theirs.first < at):
                return True
        return False

    def _moved_owner(self, unit: Statement, gap: Gap) -> Statement | None:
        """Returns what holds the unit, when the gap is in its image: what lies outside of both may have moved with it."""
        owner = unit.block.owner
        is_image = owner is not None and owner.blocks and self._alignment.block_to_old(unit.block) is gap.block
        return owner if is_image and owner is not None and owner.family not in ("function", "ClassDef") else None

    def _reaching(self, unit: Statement, gap: Gap, naming: Naming) -> tuple[int, int]:
        """Counts the variables whose definitions here and there contradict each other, and those with definitions that only OLD has.

        A definition that only one version has may stand in for those that do not reach through it.
        """
        wrong = unsure = 0
        scope = gap.block.scope
        mine = self._new.flow(unit.scope).before.get(unit) or {}
        theirs = self._old.flow(scope).at(gap.block, gap.index) or {}
        to_old, to_new = self._alignment.to_old, self._alignment.to_new
        owner = self._moved_owner(unit, gap)
        for (home, name), spelled in naming.variables.items():
            if home is not unit.scope or scope.home(spelled) is not scope:
                continue
            here, there = mine.get(name, frozenset()), theirs.get(spelled, frozenset())
            if owner is not None:
                here = frozenset(each for each in here if isinstance(each, Statement) and owner.encloses(each))
                there = frozenset(each for each in there if isinstance(each, Statement) and to_old[owner].encloses(each))
            images = {to_old.get(each) for each in here if isinstance(each, Statement)}
            sources = {to_new.get(each) for each in there if isinstance(each, Statement)}
            unsure += None in sources
            has_parameter, had_parameter = (any(isinstance(each, Scope) for each in each_side) for each_side in (there, here))
            if None not in sources and not (has_parameter and not had_parameter):
                wrong += any(each is not None and each.scope is scope and each not in there for each in images)
            if None not in images and not (had_parameter and not has_parameter):
                wrong += any(each is not None and each.scope is unit.scope and each not in here for each in sources)
            if owner is None or None not in images:
                wrong += UNBOUND in there and UNBOUND not in here and not (had_parameter and not has_parameter)
        return wrong, unsure

    def _lost_blocks(self, unit: Statement, gap: Gap) -> int:
        """Counts the loops and branches around the unit whose images are not around the gap."""
        around = set(gap.blocks())
        lost = 0
        for block in _blocks_within(unit.block):
            if block.owner is not None and (block.owner.family == "loop" or block.owner.family in _BRANCHES):
                image = self._alignment.block_to_old(block)
                lost += image is not None and image.scope is gap.block.scope and image not in around
        return lost

    def _extra_loops(self, unit: Statement, gap: Gap) -> int:
        return self._extra(unit, gap, frozenset({"loop"}))

    def _extra_branches(self, unit: Statement, gap: Gap) -> int:
        return self._extra(unit, gap, _BRANCHES)

    def _extra(self, unit: Statement, gap: Gap, families: frozenset[str]) -> int:
        images = {self._alignment.block_to_old(block) for block in _blocks_within(unit.block)}
        return sum(block.owner is not None and block.owner.family in families and block not in images for block in gap.blocks())

    def _check_rivals(self, unit: Statement, chosen: _Judged, before: Statement | None) -> None:
        """Refuses where something else in OLD could as well be what surrounds the statement."""
        gap = chosen.gap
        owner = gap.block.owner
        around = set() if owner is None else {owner, *owner.ancestors()}
        anchors = [each for each in unit.ancestors() if each in self._alignment.to_old and self._alignment.to_old[each] in around]
        if before is not None and gap == Gap(before.block, before.index + 1) and before in self._alignment.to_new:
            anchor = self._alignment.to_new[before]
            changes = [self._new.changes[each] for each in (anchor, *self._new.inside(anchor))]
            if any(each is None or any(name in each for name in chosen.naming.variables) for each in changes):
                anchors.append(anchor)
        for anchor in anchors:
            rival = find_rival(self._alignment, anchor)
            if rival is not None:
                image = self._alignment.to_old[anchor]
                what = "statement" if not anchor.blocks else anchor.family
                which = f"the {what} at line {anchor.line} of NEW may be the one at line {image.line} or at line {rival.line} of OLD"
                if rival in self._alignment.new.statements:
                    which = f"the {what} at line {image.line} of OLD may be the one at line {anchor.line} or at line {rival.line} of NEW"
                raise Uncertain(which, (image.line, rival.line))

    def _check_changed(self, unit: Statement, chosen: _Judged, before: Statement | None, after: Statement | None) -> None:
        """Refuses where both versions change what is logged around the place, each in a way that the other lacks."""
        names, gap = chosen.naming.variables, chosen.gap
        to_old, to_new = self._alignment.to_old, self._alignment.to_new
        block_owner = unit.block.owner
        first = to_new[before].first if before in to_new else block_owner.first + 1 if block_owner is not None else 0
        made = [
            each
            for each in self._new.statements[first : unit.first]
            if each.scope is unit.scope
            and each not in self._travelling.members
            and any(name in (self._new.changes[each] or ()) for name in names)
            and (each not in to_old or self._alignment.likeness.headers(each, to_old[each]) < 1.0)
        ]
        if not made:
            return
        owner = gap.block.owner
        start = before.last + 1 if before is not None else owner.first + 1 if owner is not None else 0
        stop = after.first if after is not None else owner.last + 1 if owner is not None else len(self._old.statements)
        theirs = {(gap.block.scope.home(spelled), spelled) for spelled in names.values()}
        for each in self._old.statements[start:stop]:
            source = to_new.get(each)
            is_shared = source is not None and any(name in (self._new.changes[source] or ()) for name in names)
            if each.scope is gap.block.scope and not is_shared and theirs & (self._old.changes[each] or frozenset()):
                raise Uncertain(
                    f"line {made[-1].line} of NEW may be line {each.line} of OLD",
                    (gap.line, each.node.end_lineno or 0),
                )

    def _check_function(self, unit: Statement, gap: Gap, before: Statement | None, after: Statement | None) -> None:
        """Refuses a move between functions that both versions have, or of which each has one; unless what moved is one of a kind."""
        mine, theirs = (each.node for each in (unit.scope, gap.block.scope))
        home = self._new.of_node.get(mine) if isinstance(mine, ast.stmt) else None
        other = self._old.of_node.get(theirs) if isinstance(theirs, ast.stmt) else None
        if home is None or other is None:
            return
        image, source = self._alignment.to_old.get(home), self._alignment.to_new.get(other)
        is_one_of_a_kind = any(each in self._alignment.unique for each in (before, after))
        if image is other or is_one_of_a_kind:
            return
        if image is not None and source is not None:
            raise Uncertain(f"it would go into {getattr(theirs, 'name', 'another function')}, which NEW has too", (gap.line,))
        if image is None and source is None:
            raise Uncertain(self._why_lost(unit), (gap.line,))

    def _why_lost(self, unit: Statement) -> str:
        for each in unit.ancestors():
            if each not in self._alignment.to_old and each.family in ("function", "ClassDef"):
                kind = "function" if each.family == "function" else "class"
                return f"the {kind} {getattr(each.node, 'name', '')} does not exist in OLD"
        return "the code around it does not exist in OLD"


def _is_transparent(block: Block) -> bool:
    """Tells whether what a wrapper holds runs as often without it."""
    assert block.owner is not None
    return block.owner.family == "with" or (block.owner.family in ("Try", "TryStar") and block.label == "body")


def _blocks_within(block: Block) -> Iterator[Block]:
    at: Block | None = block
    while at is not None:
        yield at
        if at.owner is None or at.owner.family in ("function", "ClassDef"):
            return
        at = at.owner.block


def _misplaced(gap: Gap, before: Statement | None, after: Statement | None) -> int:
    at = gap.at
    around = {block.owner for block in gap.blocks()}
    is_after = before is None or before in around or before.first < at
    is_before = after is None or (after not in around and after.first >= at)
    return (not is_after) + (not is_before)


def _away(gap: Gap, before: Statement | None, after: Statement | None) -> int:
    return (before is not None and before.block is not gap.block) + (after is not None and after.block is not gap.block)

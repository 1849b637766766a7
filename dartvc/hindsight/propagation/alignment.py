"""Which statement of NEW is which statement of OLD.

Tree differencing in the spirit of GumTree (Falleri et al., ASE 2014) over statements instead of syntax nodes: equal subtrees first, then blocks
of matched owners by weighted common subsequence, then owners by what is matched inside them, then what moved elsewhere. A first pass
compares syntax and learns renamed names; a second one, with the names known, compares strictly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from dartvc.hindsight.propagation.likeness import Keys, Likeness, Renaming, has_same_name
from dartvc.hindsight.propagation.renames import Votes
from dartvc.hindsight.propagation.statements import Block, Program, Statement

__all__ = ["Alignment", "align"]

_SURE_SIZE = 12
_TELLING_SIZE = 8
_MAX_TABLE = 60_000
_MAX_STRAY_PAIRS = 40_000
_BODY_SHARE = 0.3
_RENAMED_BODY_SHARE = 0.75


class Alignment:
    """The matched statements of two versions, and what their names tell about each other."""

    def __init__(self, new: Program, old: Program, likeness: Likeness) -> None:
        self.new = new
        self.old = old
        self.likeness = likeness
        self.to_old: dict[Statement, Statement] = {}
        self.to_new: dict[Statement, Statement] = {}
        self.votes = Votes(new, old)
        self.unique: set[Statement] = set()

    def match(self, new: Statement, old: Statement) -> None:
        """Records that two statements are the same one."""
        self.to_old[new] = old
        self.to_new[old] = new

    def block_to_old(self, block: Block) -> Block | None:
        """Returns the block of OLD that a block of NEW is; None when its owner has no counterpart."""
        if block.owner is None:
            return self.old.root
        owner = self.to_old.get(block.owner)
        return None if owner is None else next((each for each in owner.blocks if each.label == block.label), None)


def align(new: Program, old: Program) -> Alignment:
    """Aligns two versions of a module."""
    old_keys = Keys(old)
    renaming = Renaming()
    for is_strict in (False, True):
        pass_keys = Keys(new, renaming)
        found = _Pass(new, old, pass_keys, old_keys, is_strict).run()
        found.votes.count(found.to_old, pass_keys, old_keys)
        renaming = found.votes.renaming()
    return found


class _Pass:
    """One pass of the alignment."""

    def __init__(self, new: Program, old: Program, new_keys: Keys, old_keys: Keys, is_strict: bool) -> None:
        self.new_keys = new_keys
        self.old_keys = old_keys
        self._least_stray = 0.6 if is_strict else 0.5
        self.found = Alignment(new, old, Likeness(new_keys, old_keys, is_strict))
        self._promised = self.found.unique

    def run(self) -> Alignment:
        """Runs the phases until nothing more is found."""
        self._match_equal_subtrees()
        self._align_blocks(self.found.new.root, self.found.old.root)
        for _ in range(3):
            before = len(self.found.to_old)
            self._match_owners()
            self._match_stray_compounds()
            self._match_moved()
            if len(self.found.to_old) == before:
                break
        return self.found

    def _match_equal_subtrees(self) -> None:
        """Matches subtrees that occur once in each version and are large enough to be no accident."""
        by_key: dict[int, tuple[list[Statement], list[Statement]]] = defaultdict(lambda: ([], []))
        for side, (program, keys) in enumerate(((self.found.new, self.new_keys), (self.found.old, self.old_keys))):
            for statement in program.statements:
                if not statement.is_log and (statement.size > 1 or len(statement.all_atoms) >= _TELLING_SIZE):
                    by_key[keys.whole[statement]][side].append(statement)
        pairs = [(mine[0], theirs[0]) for mine, theirs in by_key.values() if len(mine) == 1 and len(theirs) == 1]
        self._promised.update(each for pair in pairs for each in pair)
        pairs = [(one, other) for one, other in pairs if one.size > 1 or len(one.all_atoms) >= _SURE_SIZE]
        for mine, theirs in sorted(pairs, key=lambda pair: -pair[0].size):
            if mine not in self.found.to_old and theirs not in self.found.to_new and mine.family == theirs.family:
                self._match(mine, theirs)

    def _match(self, new: Statement, old: Statement) -> None:
        """Matches two statements and aligns their blocks."""
        self.found.match(new, old)
        theirs = {block.label: block for block in old.blocks}
        for block in new.blocks:
            if block.label in theirs:
                self._align_blocks(block, theirs[block.label])

    def _align_blocks(self, new: Block, old: Block) -> None:
        """Aligns the statements of two blocks by the common subsequence that is most alike in sum."""
        found = self.found
        mine = [each for each in new.statements if each not in found.to_old or found.to_old[each].block is old]
        theirs = [each for each in old.statements if each not in found.to_new or found.to_new[each].block is new]
        position = {each: number for number, each in enumerate(theirs)}
        known = [(number, position[found.to_old[each]]) for number, each in enumerate(mine) if each in found.to_old]
        pairs = _increasing(known)
        from_new, from_old = 0, 0
        for number, other in [*pairs, (len(mine), len(theirs))]:
            self._align_runs(
                [each for each in mine[from_new:number] if each not in found.to_old],
                [each for each in theirs[from_old:other] if each not in found.to_new],
            )
            from_new, from_old = number + 1, other + 1

    def _align_runs(self, mine: list[Statement], theirs: list[Statement]) -> None:
        """Aligns two runs of statements; equal ends are taken as they are."""
        pairs: list[tuple[Statement, Statement]] = []
        while mine and theirs and self._are_equal(mine[0], theirs[0]):
            pairs.append((mine.pop(0), theirs.pop(0)))
        tail: list[tuple[Statement, Statement]] = []
        while mine and theirs and self._are_equal(mine[-1], theirs[-1]):
            tail.append((mine.pop(), theirs.pop()))
        if len(mine) * len(theirs) > _MAX_TABLE:
            half = len(mine) // 2
            cut = half * len(theirs) // len(mine)
            self._align_runs(mine[:half], theirs[:cut])
            self._align_runs(mine[half:], theirs[cut:])
        else:
            pairs += self._best_subsequence(mine, theirs)
        for one, other in [*pairs, *tail]:
            self._match(one, other)

    def _are_equal(self, new: Statement, old: Statement) -> bool:
        return new.is_log == old.is_log and new.family == old.family and self.new_keys.whole[new] == self.old_keys.whole[old]

    def _best_subsequence(self, mine: list[Statement], theirs: list[Statement]) -> list[tuple[Statement, Statement]]:
        if not mine or not theirs:
            return []
        between = self._between
        rows, columns = len(mine), len(theirs)
        score = [[0.0] * (columns + 1) for _ in range(rows + 1)]
        for row in range(rows - 1, -1, -1):
            one = mine[row]
            weight = 1.0 + min(len(one.all_atoms) + 4 * one.size, 60) / 60
            here, below = score[row], score[row + 1]
            for column in range(columns - 1, -1, -1):
                alike = between(one, theirs[column])
                best = max(below[column], here[column + 1])
                here[column] = max(best, below[column + 1] + alike * weight) if alike else best
        pairs = []
        row = column = 0
        while row < rows and column < columns:
            if score[row][column] == score[row + 1][column]:
                row += 1
            elif score[row][column] == score[row][column + 1]:
                column += 1
            else:
                pairs.append((mine[row], theirs[column]))
                row, column = row + 1, column + 1
        return pairs

    def _between(self, new: Statement, old: Statement) -> float:
        """Returns how alike two statements are; what has its one equal elsewhere is not given to something else."""
        if (new in self._promised or old in self._promised) and self.new_keys.whole[new] != self.old_keys.whole[old]:
            return 0.0
        return self.found.likeness.between(new, old)

    def _match_owners(self) -> None:
        """Matches compound statements by how much of their inside is matched with each other."""
        found = self.found
        for mine in reversed(found.new.statements):
            if not mine.blocks or mine in found.to_old:
                continue
            shared: dict[Statement, int] = defaultdict(int)
            for child in found.new.inside(mine):
                if child in found.to_old:
                    for ancestor in found.to_old[child].ancestors():
                        if ancestor not in found.to_new and ancestor.family == mine.family:
                            shared[ancestor] += 1
            shares = {each: 2 * count / (mine.size + each.size - 2) for each, count in shared.items()}
            best = max(shares, key=lambda each: shares[each], default=None)
            is_renamed = best is not None and mine.family in ("function", "ClassDef") and not has_same_name(mine, best)
            if best is not None and shares[best] >= (_RENAMED_BODY_SHARE if is_renamed else _BODY_SHARE):
                self._match(mine, best)

    def _match_stray_compounds(self) -> None:
        """Matches compound statements that stand somewhere else now, the most alike first."""
        found = self.found
        mine = [each for each in found.new.statements if each.blocks and each not in found.to_old]
        theirs = [each for each in found.old.statements if each.blocks and each not in found.to_new]
        if not mine or not theirs or len(mine) * len(theirs) > _MAX_STRAY_PAIRS:
            return
        alike = [(found.likeness.between(one, other), one, other) for one in mine for other in theirs]
        for likeness, one, other in sorted(alike, key=lambda each: -each[0]):
            if likeness < self._least_stray:
                break
            if one not in found.to_old and other not in found.to_new:
                self._match(one, other)

    def _match_moved(self) -> None:
        """Matches what moved into another block: rare equal statements first, then what lies around them there."""
        found = self.found
        equal: dict[int, tuple[list[Statement], list[Statement]]] = defaultdict(lambda: ([], []))
        for statement in found.new.statements:
            if statement not in found.to_old and not statement.blocks:
                equal[self.new_keys.whole[statement]][0].append(statement)
        for statement in found.old.statements:
            if statement not in found.to_new and not statement.blocks:
                equal[self.old_keys.whole[statement]][1].append(statement)
        meetings: dict[tuple[Block, Block], int] = defaultdict(int)
        for mine, theirs in equal.values():
            for block, other in {(one.block, each.block) for one in mine for each in theirs if one.family == each.family}:
                meetings[block, other] += 1
        for one, image in list(found.to_old.items()):
            meetings[one.block, image.block] += 1
        met: set[Block] = set()
        for (block, other), count in sorted(meetings.items(), key=lambda each: -each[1]):
            is_new_meeting = found.block_to_old(block) is not other
            if count >= 2 and is_new_meeting and (block not in met or other not in met):
                self._align_blocks(block, other)
                met |= {block, other}
        for mine, theirs in equal.values():
            mine = [each for each in mine if each not in found.to_old]
            theirs = [each for each in theirs if each not in found.to_new]
            if len(mine) == 1 and len(theirs) == 1 and self._is_supported(mine[0], theirs[0]):
                self._match(mine[0], theirs[0])

    def _is_supported(self, new: Statement, old: Statement) -> bool:
        """Tells whether something beyond their text speaks for two equal statements being one."""
        if new.is_log or new.family != old.family:
            return new.is_log and old.is_log and new.scope.kind == old.scope.kind
        if len(new.all_atoms) >= _SURE_SIZE:
            return True
        owner = next((each for each in new.ancestors() if each in self.found.to_old), None)
        other = next((each for each in old.ancestors() if each in self.found.to_new), None)
        return other is None if owner is None else self.found.to_old[owner] is other


def _increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns a longest run of pairs that increase in both numbers; the pairs come sorted by the first."""
    tails: list[int] = []
    chosen: list[int] = []
    before: list[int | None] = []
    for number, (_, other) in enumerate(pairs):
        place = bisect_left(tails, other)
        before.append(chosen[place - 1] if place else None)
        tails[place : place + 1] = [other]
        chosen[place : place + 1] = [number]
    run: list[tuple[int, int]] = []
    at = chosen[-1] if chosen else None
    while at is not None:
        run.append(pairs[at])
        at = before[at]
    return run[::-1]

"""Whether a matched statement has a rival: another one of its version that could as well be the counterpart."""

from __future__ import annotations

from dartvc.hindsight.propagation.alignment import Alignment
from dartvc.hindsight.propagation.statements import Statement

__all__ = ["find_rival"]

_NEARLY = 0.05


def find_rival(alignment: Alignment, anchor: Statement) -> Statement | None:
    """Returns a statement without counterpart, of either version, that fits as well as the matched one; None: there is none."""
    image = alignment.to_old[anchor]
    between = alignment.likeness.between
    alike = between(anchor, image) - _NEARLY
    taken = (anchor, image)
    context = _context(alignment, anchor, image, taken)
    least = max(alike, 0.5)

    def fits(new: Statement, old: Statement) -> bool:
        return new.family == old.family and between(new, old) >= least and _context(alignment, new, old, taken) >= context

    for each in alignment.old.statements:
        if each not in alignment.to_new and fits(anchor, each):
            return each
    for each in alignment.new.statements:
        if each not in alignment.to_old and fits(each, image):
            return each
    return _renamed_rival(alignment, anchor, image)


def _renamed_rival(alignment: Alignment, anchor: Statement, image: Statement) -> Statement | None:
    """Returns a definition of OLD that fits a renamed one as well as its counterpart does, and whose own counterpart has another name too."""
    name = getattr(anchor.node, "name", None)
    if anchor.family not in ("function", "ClassDef") or name == getattr(image.node, "name", None):
        return None
    alike = alignment.likeness.headless(anchor, image)
    for each in alignment.old.statements:
        if each.family != anchor.family or each is image:
            continue
        counterpart = alignment.to_new.get(each)
        is_free = counterpart is None or getattr(counterpart.node, "name", None) != getattr(each.node, "name", None)
        if is_free and alignment.likeness.headless(anchor, each) >= alike:
            return each
    return None


def _context(alignment: Alignment, new: Statement, old: Statement, taken: tuple[Statement, Statement]) -> int:
    """Counts what around two statements is matched with each other, the pair in question left out: owner, statement before, statement after."""
    owner, other = new.block.owner, old.block.owner
    is_owner = other is None if owner is None else other is not None and alignment.to_old.get(owner) is other
    return is_owner + _meet(alignment, new, old, taken, -1) + _meet(alignment, new, old, taken, 1)


def _meet(alignment: Alignment, new: Statement, old: Statement, taken: tuple[Statement, Statement], step: int) -> bool:
    """Tells whether the next statements with a counterpart on one side are each other's, or there are none on either side."""
    mine = next((each for each in _side(new, step) if each in alignment.to_old and each not in taken), None)
    theirs = next((each for each in _side(old, step) if each in alignment.to_new and each not in taken), None)
    if mine is None or theirs is None:
        return mine is None and theirs is None
    return alignment.to_old[mine] is theirs


def _side(statement: Statement, step: int) -> list[Statement]:
    siblings = statement.block.statements
    return siblings[statement.index + 1 :] if step > 0 else siblings[: statement.index][::-1]

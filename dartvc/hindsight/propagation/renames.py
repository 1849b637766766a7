"""What the names of NEW are called in OLD: matched statements of one syntax vote, name by name and scope by scope."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping

from dartvc.hindsight.propagation.likeness import Keys, Renaming, home_of
from dartvc.hindsight.propagation.scopes import Scope
from dartvc.hindsight.propagation.statements import Atom, Program, Statement

__all__ = ["Name", "Votes"]

Name = tuple[Scope | None, str]
"""A variable: the scope that it belongs to (None: builtin or unknown) and what it is called."""

_CLEAR = 2.0


class Votes:
    """The votes of one alignment about variables, attributes, keywords and string keys."""

    def __init__(self, new: Program, old: Program) -> None:
        self._new = new
        self._old = old
        self.names: dict[Name, dict[Name, float]] = defaultdict(lambda: defaultdict(float))
        self.bindings: dict[Name, set[Name]] = defaultdict(set)
        self.words: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def count(self, to_old: Mapping[Statement, Statement], new_keys: Keys, old_keys: Keys) -> None:
        """Counts the votes of all matched statements."""
        for mine, theirs in to_old.items():
            one, other = mine.all_atoms, theirs.all_atoms
            if mine.shape == theirs.shape:
                values = zip(new_keys.values(mine), old_keys.values(theirs), strict=True)
                same = sum(a == b for a, b in values)
                self._count_atoms(one, other, (same + 1) / (len(one) + 1))
            else:
                self._count_common(one, other)
                self._count_headers(mine, theirs)

    def renaming(self) -> Renaming:
        """Returns the renamed names: those with most votes first, each name of OLD given away once."""
        ranked = sorted(
            ((weight, mine, theirs) for mine, counter in self.names.items() for theirs, weight in counter.items()),
            key=lambda each: -each[0],
        )
        names: dict[Name, str] = {}
        decided: set[Name] = set()
        taken: set[Name] = set()
        for _, mine, theirs in ranked:
            if mine not in decided and theirs not in taken:
                decided.add(mine)
                taken.add(theirs)
                if mine[1] != theirs[1] and mine[0] is not None:
                    names[mine] = theirs[1]
        attributes = {}
        for (tag, value), counter in self.words.items():
            best = max(counter, key=lambda each: counter[each])
            if tag == "a" and best != value:
                attributes[value] = best
        return Renaming(names, attributes)

    def word(self, tag: str, value: str) -> str | None:
        """Returns what an attribute (``a``), keyword (``k``) or string constant (``c``) is in OLD; None: nothing is known.

        Raises:
            LookupError: the votes disagree.
        """
        counter = self.words.get((tag, value))
        if not counter:
            return None
        best, *others = sorted(counter, key=lambda each: (-counter[each], each != value))
        if best != value and others and counter[best] < _CLEAR * counter[others[0]]:
            raise LookupError(value)
        return best

    def _count_atoms(self, one: list[Atom], other: list[Atom], weight: float) -> None:
        for (tag, value, node), (_, their_value, their_node) in zip(one, other, strict=True):
            if tag in "nb":
                self._vote(value, node, their_value, their_node, weight)
            elif tag in "ak" or (tag == "c" and value[0] in "'\"" and their_value[0] in "'\""):
                self.words[tag, value][their_value] += weight

    def _count_common(self, one: list[Atom], other: list[Atom]) -> None:
        """Statements that differ in syntax still agree on the names that both have."""
        theirs = {(tag, value): node for tag, value, node in other if tag in "nba"}
        for tag, value, node in {(tag, value): (tag, value, node) for tag, value, node in one if tag in "nba"}.values():
            if (tag, value) not in theirs:
                continue
            if tag == "a":
                self.words[tag, value][value] += 0.5
            else:
                self._vote(value, node, value, theirs[tag, value], 0.5)

    def _count_headers(self, mine: Statement, theirs: Statement) -> None:
        """Matched definitions agree on their names and parameters, matched assignments and loops on what they bind."""
        one, other = mine.node, theirs.node
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(other, ast.FunctionDef | ast.AsyncFunctionDef):
            self._vote(one.name, one, other.name, other, 1.0)
            self._count_parameters(one.args, other.args)
        elif isinstance(one, ast.ClassDef) and isinstance(other, ast.ClassDef):
            self._vote(one.name, one, other.name, other, 1.0)
        elif isinstance(one, ast.With | ast.AsyncWith) and isinstance(other, ast.With | ast.AsyncWith):
            for item, their_item in zip(one.items, other.items, strict=False):
                self._count_targets(item.optional_vars, their_item.optional_vars)
        elif mine.family == "loop":
            self._count_loop(mine, theirs)
        elif mine.family == "assign":
            self._count_targets(_target(one), _target(other))

    def _count_parameters(self, one: ast.arguments, other: ast.arguments) -> None:
        mine = [*one.posonlyargs, *one.args, *one.kwonlyargs]
        theirs = [*other.posonlyargs, *other.args, *other.kwonlyargs]
        common = {each.arg for each in mine} & {each.arg for each in theirs}
        left = [each for each in mine if each.arg not in common]
        right = [each for each in theirs if each.arg not in common]
        pairs = [(each, next(other for other in theirs if other.arg == each.arg)) for each in mine if each.arg in common]
        if len(left) == len(right):
            pairs += zip(left, right, strict=True)
        for parameter, counterpart in pairs:
            self._vote(parameter.arg, parameter, counterpart.arg, counterpart, 0.5)

    def _count_loop(self, mine: Statement, theirs: Statement) -> None:
        one, other = mine.node, theirs.node
        if isinstance(one, ast.For | ast.AsyncFor) and isinstance(other, ast.For | ast.AsyncFor):
            self._count_targets(one.target, other.target)
            return
        if isinstance(one, ast.While) and isinstance(other, ast.While):
            return
        loop, program, counterpart = (mine, self._new, theirs) if isinstance(one, ast.For | ast.AsyncFor) else (theirs, self._old, mine)
        assert isinstance(loop.node, ast.For | ast.AsyncFor)
        there = {each.id: each for each in ast.walk(counterpart.node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        for each in ast.walk(loop.node.target):
            if isinstance(each, ast.Name) and each.id in there:
                pair = (each, there[each.id]) if program is self._new else (there[each.id], each)
                self._vote(each.id, pair[0], each.id, pair[1], 0.5)

    def _count_targets(self, one: ast.expr | None, other: ast.expr | None) -> None:
        if isinstance(one, ast.Name) and isinstance(other, ast.Name):
            self._vote(one.id, one, other.id, other, 0.5)
        elif isinstance(one, ast.Tuple) and isinstance(other, ast.Tuple) and len(one.elts) == len(other.elts):
            for mine, theirs in zip(one.elts, other.elts, strict=True):
                self._count_targets(mine, theirs)

    def _vote(self, mine: str, node: ast.AST | None, theirs: str, their_node: ast.AST | None, weight: float) -> None:
        if node is None or their_node is None:
            return
        name, other = (home_of(self._new, node, mine), mine), (home_of(self._old, their_node, theirs), theirs)
        self.names[name][other] += weight
        if not isinstance(node, ast.Name) or isinstance(node.ctx, ast.Store):
            self.bindings[name].add(other)


def _target(node: ast.stmt) -> ast.expr | None:
    match node:
        case ast.Assign(targets=[target]):
            return target
        case ast.AugAssign() | ast.AnnAssign():
            return node.target
    return None

"""How alike two statements of two versions are: keys that are equal when the code is, and a measure between 0 and 1 otherwise."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dartvc.hindsight.propagation.scopes import Scope
from dartvc.hindsight.propagation.statements import Atom, Program, Statement

__all__ = ["Keys", "Likeness", "Renaming", "has_same_name", "home_of"]

_NESTING = frozenset({"If", "loop", "with", "Try"})

_RENAMED = 0.5
_RENAMED_STRICTLY = 0.75

Tally = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Renaming:
    """What the names of NEW are called in OLD, as far as the alignment so far tells."""

    names: dict[tuple[Scope | None, str], str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


class Keys:
    """The comparison keys of one version, its names replaced by those of the other version where a renaming is known."""

    def __init__(self, program: Program, renaming: Renaming | None = None) -> None:
        self.program = program
        self._renaming = renaming or Renaming()
        self.own: dict[Statement, int] = {}
        self.whole: dict[Statement, int] = {}
        self.inside: dict[Statement, Tally] = {}
        self.children: dict[Statement, Tally] = {}
        self._tallies: dict[Statement, frozenset[int]] = {}
        self._targets: dict[Statement, tuple[tuple[str, str], ...]] = {}
        self._values: dict[Statement, list[tuple[str, str]]] = {}
        for statement in reversed(program.statements):
            self._add(statement)

    def values(self, statement: Statement) -> list[tuple[str, str]]:
        """Returns the atoms of a statement's header in the words of the other version."""
        found = self._values.get(statement)
        if found is None:
            found = self._values[statement] = self.renamed(statement.all_atoms)
        return found

    def tally(self, statement: Statement) -> frozenset[int]:
        """Returns the atoms of a statement's header as a set: of each atom, hashed, its first occurrence, its second and so on."""
        found = self._tallies.get(statement)
        if found is None:
            seen: Tally = Counter()
            numbered = []
            for atom in self.values(statement):
                seen[atom] += 1
                numbered.append(hash((atom, seen[atom])))
            found = self._tallies[statement] = frozenset(numbered)
        return found

    def targets(self, statement: Statement) -> tuple[tuple[str, str], ...]:
        """Returns the atoms of what an assignment assigns to."""
        found = self._targets.get(statement)
        if found is None:
            node = statement.node
            targets = (
                node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []
            )
            found = tuple(each for target in targets for each in self.renamed(self.program.expression_atoms(target)))
            self._targets[statement] = found
        return found

    def logged_name(self, statement: Statement) -> tuple[str, ...]:
        """Returns the constants that a log statement names its values by, and the names where there are none."""
        calls = self.program.logs.find_calls(statement.node)
        return tuple(ast.unparse(call.args[0]) if call.args else "" for call in calls)

    def renamed(self, atoms: Iterable[Atom]) -> list[tuple[str, str]]:
        """Returns atoms in the words of the other version."""
        names, attributes = self._renaming.names, self._renaming.attributes
        if not names and not attributes:
            return [(tag, value) for tag, value, _ in atoms]
        found = []
        for tag, value, node in atoms:
            if tag in "nb" and node is not None:
                value = names.get((home_of(self.program, node, value), value), value)
            elif tag == "a":
                value = attributes.get(value, value)
            found.append((tag, value))
        return found

    def _add(self, statement: Statement) -> None:
        own = self.own[statement] = hash(tuple(self.values(statement)))
        parts: list[object] = [own]
        inside: Tally = Counter()
        children: Tally = Counter()
        for block in statement.blocks:
            parts.append(block.label)
            for child in block.statements:
                if child.is_log:
                    continue
                parts.append(self.whole[child])
                children[("own", str(self.own[child]))] += 1
                children[("shape", str(child.shape))] += 1
                inside.update(self.inside[child])
        self.whole[statement] = hash(tuple(parts)) if statement.blocks else own
        self.children[statement] = children
        self.inside[statement] = inside + children


def home_of(program: Program, node: ast.AST, name: str) -> Scope | None:
    """Returns the scope that a naming node's name belongs to."""
    scope = program.scopes.of.get(node)
    return scope.home(name) if scope is not None else None


class Likeness:
    """Measures pairs of statements; ``is_strict`` asks for more than a common syntax, since names are known by then."""

    def __init__(self, new: Keys, old: Keys, is_strict: bool) -> None:
        self._new = new
        self._old = old
        self._is_strict = is_strict
        self._known: dict[tuple[Statement, Statement], float] = {}
        self._known_compounds: dict[tuple[Statement, Statement], float] = {}

    def between(self, new: Statement, old: Statement) -> float:
        """Returns how alike two statements are; 0 when they cannot stand for each other."""
        if new.family != old.family:
            return 0.0
        found = self._known.get((new, old))
        if found is None:
            found = self._known[new, old] = self._measure(new, old)
        return found

    def headers(self, new: Statement, old: Statement) -> float:
        """Returns how alike the headers of two statements are."""
        if self._new.own[new] == self._old.own[old]:
            return 1.0
        mine, theirs = self._new.tally(new), self._old.tally(old)
        return 2 * len(mine & theirs) / (len(mine) + len(theirs))

    def headless(self, new: Statement, old: Statement) -> float:
        """Returns how alike the insides of two compounds are."""
        mine, theirs = self._new.inside[new], self._old.inside[old]
        return 0.5 * _dice(mine, theirs) + 0.5 * _dice(self._new.children[new], self._old.children[old])

    def _measure(self, new: Statement, old: Statement) -> float:
        if self._new.whole[new] == self._old.whole[old] and new.is_log == old.is_log:
            return 1.0
        if new.is_log:
            if self._new.logged_name(new) != self._old.logged_name(old):
                return 0.0
            return 0.5 + 0.5 * self.headers(new, old)
        if new.blocks and old.blocks:
            alike = self._compounds(new, old)
            return 0.0 if alike and self._is_nested_better(new, old, alike) else alike
        alike = self.headers(new, old)
        if new.family == "assign":
            has_same_target = self._new.targets(new) == self._old.targets(old)
            if self._is_strict and not has_same_target and alike < 0.75:
                return 0.0
            alike = max(0.5, 0.7 * alike + 0.3) if has_same_target else 0.7 * alike
        elif self._is_strict and alike < 0.75 and _called(self._new, new) != _called(self._old, old):
            return 0.0
        if not self._is_strict and new.shape == old.shape:
            alike = max(alike, 0.55)
        return alike if alike >= 0.5 else 0.0

    def _compounds(self, new: Statement, old: Statement) -> float:
        found = self._known_compounds.get((new, old))
        if found is None:
            found = self._known_compounds[new, old] = self._measure_compounds(new, old)
        return found

    def _measure_compounds(self, new: Statement, old: Statement) -> float:
        header = self.headers(new, old)
        mine, theirs = self._new.inside[new], self._old.inside[old]
        if not mine or not theirs:
            return 0.9 if header == 1.0 else 0.0
        body = self.headless(new, old)
        match new.family:
            case "function" | "ClassDef" if has_same_name(new, old):
                alike = 0.5 + 0.5 * (0.3 * header + 0.7 * body)
            case "function" | "ClassDef":
                return body if body >= (_RENAMED_STRICTLY if self._is_strict else _RENAMED) else 0.0
            case "If" | "Match":
                alike = 0.5 * header + 0.5 * body
            case "loop" | "with":
                alike = 0.3 * header + 0.7 * body
            case _:
                alike = body
        if header == 1.0:
            alike = max(alike, 0.5)
        return alike if alike >= 0.4 else 0.0

    def _is_nested_better(self, new: Statement, old: Statement, alike: float) -> bool:
        """Tells whether a statement inside one of two is more like the other: a loop was put around it."""
        if new.family not in _NESTING or alike > 0.9:
            return False
        inner = (each for each in self._new.program.inside(new) if each.family == new.family)
        if any(self._compounds(each, old) > alike for each in inner):
            return True
        inner = (each for each in self._old.program.inside(old) if each.family == old.family)
        return any(self._compounds(new, each) > alike for each in inner)


def has_same_name(new: Statement, old: Statement) -> bool:
    """Tells whether two definitions are spelled alike."""
    return getattr(new.node, "name", None) == getattr(old.node, "name", None)


def _called(keys: Keys, statement: Statement) -> tuple[str, str] | None:
    """Returns what an expression statement calls: the name of the function or method, as the other version has it."""
    call = statement.node.value if isinstance(statement.node, ast.Expr) else None
    while isinstance(call, ast.Await):
        call = call.value
    if not isinstance(call, ast.Call):
        return None
    return keys.renamed(keys.program.expression_atoms(call.func))[-1]


def _dice(one: Tally, other: Tally) -> float:
    if len(one) > len(other):
        one, other = other, one
    shared = 0
    total = one.total() + other.total()
    for item, count in one.items():
        theirs = other.get(item)
        if theirs:
            shared += min(count, theirs)
    return 2 * shared / total if total else 1.0

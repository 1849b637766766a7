"""How the values of a commit came to be: the cells before it, what each started from and made, and which of them can be run again.

Read from commits alone: nothing is unpickled and nothing runs. A cell starts from the names that its code loads, and from those that the
functions and classes among them mention; it can be run again when nothing in that code asks for the world outside.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dartvc.history import NameEntry, Repository
from dartvc.lineage.carrying import Maker, Value
from dartvc.lineage.forbidden import forbidden_names
from dartvc.model import Commit, CommitKind, Oid
from dartvc.state.candidates import DYNAMIC_NAMES, is_hidden

__all__ = ["Ancestry", "Cell", "Version", "read_ancestry"]

_CELLS_LIMIT = 20_000
_LEAST_RUN_S = 1e-3
_DEFINITIONS = frozenset({"function", "class", "module", "method", "builtin", "partial"})
_STREAMS = ("random", "numpy.random", "torch.random")
_BUILTINS = {
    "open": "opens a file",
    "input": "reads the terminal",
    "eval": "runs code that cannot be read",
    "exec": "runs code that cannot be read",
    "id": "uses id()",
    "breakpoint": "stops for a debugger",
}
_READERS = frozenset({"read_csv", "read_json", "read_excel", "read_pickle", "read_text", "read_bytes", "loadtxt", "genfromtxt", "fromfile"})


@dataclass(frozen=True, slots=True)
class Version:
    """What a co-variable was: its names, its stored form, and the cell that made it (None: it cannot be made again, for ``reason``)."""

    names: tuple[str, ...]
    payload_oid: Oid
    size_bytes: int
    maker: int | None
    is_wanted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that can be run again: the commit it made, the one it started from, the versions it needs, the random streams it drew from."""

    commit: Commit
    base: Oid | None
    code: str
    seconds: float
    inputs: tuple[int, ...]
    streams: tuple[tuple[str, Oid], ...] = ()


@dataclass
class Ancestry:
    """The values of a commit and everything that could make them: `values` and `makers` are the problem to be solved."""

    versions: list[Version] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    there: frozenset[Oid] = frozenset()
    """Payloads that the other side has: they cost nothing to carry."""

    def values(self, bandwidth: float) -> list[Value]:
        """Returns what each version costs, at so many bytes a second."""
        return [
            Value(0 if each.payload_oid in self.there else round(each.size_bytes / bandwidth * 1e9), each.maker, each.is_wanted)
            for each in self.versions
        ]

    def makers(self) -> list[Maker]:
        """Returns what each cell costs."""
        return [Maker(round(each.seconds * 1e9), each.inputs) for each in self.cells]


def read_ancestry(
    repository: Repository, oid: Oid, *, there: frozenset[Oid] = frozenset(), refused: Mapping[Oid, str] | None = None
) -> Ancestry:
    """Reads how the values of a commit came to be.

    Args:
        repository: where.
        oid: the commit.
        there: payloads that the other side has already.
        refused: cells (by the commit they made) that are known not to come out the same, with the reason.
    """
    reader = _Reader(repository, _units(repository, oid), refused or {})
    reader.ancestry.there = there
    for entry in _by_payload(repository.names(oid)).values():
        reader.add(entry, reader.count, is_wanted=True)
    while reader.waiting:
        reader.read_cell(reader.waiting.pop())
    return reader.finished()


def _by_payload(entries: Mapping[str, NameEntry]) -> dict[Oid, list[NameEntry]]:
    groups: dict[Oid, list[NameEntry]] = {}
    for entry in entries.values():
        if entry.payload_oid is not None:
            groups.setdefault(entry.payload_oid, []).append(entry)
    return groups


@dataclass(slots=True)
class _Unit:
    """One cell of the history, whole: commits from inside it count as parts of it."""

    commit: Commit
    base: Oid | None
    written: set[str]


def _units(repository: Repository, oid: Oid) -> list[_Unit]:
    """Returns the units up to a commit, oldest first."""
    units: list[_Unit] = []
    present: Oid | None = oid
    while present is not None and len(units) < _CELLS_LIMIT:
        commit = repository.commit(present)
        parent = commit.parents[0] if commit.parents else None
        written = {*commit.added, *commit.modified}
        if units and commit.position is not None and not commit.run:
            units[-1].written |= written
            units[-1].base = parent
        else:
            units.append(_Unit(commit, parent, written))
        present = parent
    units.reverse()
    return units


class _Reader:
    def __init__(self, repository: Repository, units: list[_Unit], refused: Mapping[Oid, str]) -> None:
        self.repository = repository
        self.units = units
        self.count = len(units)
        self.ancestry = Ancestry()
        self.waiting: list[int] = []
        self._refused = refused
        self._written: dict[str, list[int]] = {}
        for number, unit in enumerate(units):
            for name in unit.written:
                self._written.setdefault(name, []).append(number)
        self._known: dict[tuple[Oid, int], int] = {}
        self._verdicts: dict[int, str] = {}
        self._needs: dict[int, tuple[int, ...]] = {}

    def add(self, entries: list[NameEntry], before: int, *, is_wanted: bool) -> int:
        """Returns the number of the version that a co-variable has in front of a unit."""
        payload_oid = entries[0].payload_oid
        assert payload_oid is not None
        writers = [number for entry in entries if (number := self._writer(entry.name, before)) is not None]
        maker = max(writers, default=-1)
        known = self._known.get((payload_oid, maker))
        if known is None:
            known = self._known[payload_oid, maker] = len(self.ancestry.versions)
            reason = self._why_not(entries, maker)
            names = tuple(entry.name for entry in entries)
            size = self.repository.payload(payload_oid).size_bytes
            self.ancestry.versions.append(Version(names, payload_oid, size, None if reason else maker, is_wanted, reason))
            if not reason and maker not in self._needs and maker not in self.waiting:
                self.waiting.append(maker)
        return known

    def _writer(self, name: str, before: int) -> int | None:
        """Returns the unit that wrote a name last before another one."""
        numbers = self._written.get(name, [])
        place = bisect_left(numbers, before)
        return numbers[place - 1] if place else None

    def _why_not(self, entries: list[NameEntry], maker: int) -> str:
        """Returns why a version cannot be made again; empty when it can."""
        if maker < 0:
            return "the cell that made it is not in the history"
        kinds = [self._type_of(entry) for entry in entries]
        facts = _facts_of(self.repository.code(self.units[maker].commit.oid))
        if all(kind in _DEFINITIONS for kind in kinds) or (facts is not None and any(entry.name in facts.defined for entry in entries)):
            return "a definition"
        if any("." in entry.name for entry in entries):
            return "belongs to a program"
        verdict = self._verdicts.get(maker)
        if verdict is None:
            verdict = self._verdicts[maker] = self._judge(maker)
        return verdict

    def _type_of(self, entry: NameEntry) -> str:
        return str(self.repository.summary(entry).get("type", ""))

    def _judge(self, number: int) -> str:
        """Returns why a unit cannot be run again."""
        unit = self.units[number]
        commit = unit.commit
        if commit.oid in self._refused:
            return self._refused[commit.oid]
        if commit.run:
            return "made by a run, whose commits are no units of code"
        if commit.kind is not CommitKind.CELL:
            return "its cell ended with an error" if commit.error else "made by no cell"
        code = self.repository.code(commit.oid)
        names = self.repository.names(unit.base) if unit.base is not None else {}
        return self._judge_code(code, names, number)

    def _judge_code(self, code: str, names: Mapping[str, NameEntry], number: int) -> str:
        facts = _facts_of(code)
        if facts is None:
            return "its cell is no plain Python"
        closure = self._closure(facts, names, number)
        for each in closure:
            why = _forbidden(each, names)
            if why:
                return f"its cell {why}"
        for name in {name for each in closure for name in each.loaded} & names.keys():
            if self._type_of(names[name]) == "module":
                why = forbidden_names((), (), [str(self.repository.summary(names[name]).get("name", name))])
                if why:
                    return f"its cell {why}"
            if names[name].payload_oid is None:
                return f"its cell needs {name}, which could not be stored"
        return ""

    def _closure(self, facts: _Facts, names: Mapping[str, NameEntry], number: int) -> list[_Facts]:
        """Returns what a cell's code mentions, and the code of the definitions that it can reach."""
        found = [facts]
        seen: set[str] = set()
        waiting = set(facts.loaded)
        while waiting:
            name = waiting.pop()
            entry = names.get(name)
            if name in seen or entry is None:
                continue
            seen.add(name)
            kind = self._type_of(entry)
            waiting |= {part for part in (kind.rpartition(".")[2],) if part in names}
            writer = self._writer(name, number)
            if kind in ("function", "class", "method", "partial") and writer is not None:
                inner = _facts_of(self.repository.code(self.units[writer].commit.oid), name)
                if inner is not None:
                    found.append(inner)
                    waiting |= inner.loaded
        found[0] = replace(facts, loaded=facts.loaded | seen)
        return found

    def read_cell(self, number: int) -> None:
        """Adds what a unit starts from."""
        unit = self.units[number]
        names = self.repository.names(unit.base) if unit.base is not None else {}
        facts = _facts_of(self.repository.code(unit.commit.oid))
        assert facts is not None
        loaded = {name for each in self._closure(facts, names, number) for name in each.loaded}
        wanted = {names[name].payload_oid for name in loaded if name in names}
        groups = _by_payload(names)
        self._needs[number] = ()
        self._needs[number] = tuple(self.add(groups[oid], number, is_wanted=False) for oid in sorted(filter(None, wanted)))

    def finished(self) -> Ancestry:
        """Returns the ancestry, its cells numbered in the order in which they ran."""
        order = sorted(self._needs)
        place = {number: index for index, number in enumerate(order)}
        ancestry = self.ancestry
        ancestry.versions = [
            Version(
                each.names,
                each.payload_oid,
                each.size_bytes,
                place[each.maker] if each.maker is not None else None,
                each.is_wanted,
                each.reason,
            )
            for each in ancestry.versions
        ]
        for number in order:
            unit = self.units[number]
            seconds = max(unit.commit.duration_ms / 1e3, _LEAST_RUN_S)
            code = self.repository.code(unit.commit.oid)
            ancestry.cells.append(Cell(unit.commit, unit.base, code, seconds, self._needs[number], self._streams(unit)))
        return ancestry

    def _streams(self, unit: _Unit) -> tuple[tuple[str, Oid], ...]:
        """Returns the random streams that a cell drew from, as they were before it."""
        if unit.base is None:
            return ()
        before, after = self.repository.process(unit.base), self.repository.process(unit.commit.oid)
        return tuple(
            (name, oid)
            for name in _STREAMS
            if name in before and (oid := before[name].payload_oid) is not None and name in after and after[name].payload_oid != oid
        )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What code mentions: names that it loads, attributes, imports, functions and classes that it defines."""

    loaded: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[str]
    defined: frozenset[str]


def _facts_of(code: str, definition: str = "") -> _Facts | None:
    """Reads a cell's code, or one definition in it; None when it is no plain Python."""
    try:
        compile(code, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        tree: ast.AST = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    if definition and isinstance(tree, ast.Module):
        own = [node for node in tree.body if getattr(node, "name", None) == definition]
        tree = ast.Module(list(own), []) if own else tree
    loaded: set[str] = set()
    defined: set[str] = set()
    attributes: set[str] = set()
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            loaded |= {node.id} if not isinstance(node.ctx, ast.Store) else set()
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            loaded.add(node.target.id)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports.add(node.module or "")
            attributes |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Global):
            loaded |= set(node.names)
        elif (
            isinstance(node, ast.Call)
            and not node.args
            and not node.keywords
            and _last_name(node.func) in ("default_rng", "RandomState", "Random")
        ):
            attributes.add("SystemRandom")  # seeded from the kernel's entropy
    return _Facts(frozenset(loaded), frozenset(attributes), frozenset(imports), frozenset(defined))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _forbidden(facts: _Facts, names: Mapping[str, NameEntry]) -> str:
    """Returns why code cannot be run again."""
    own = facts.loaded - names.keys()
    for name in sorted(own & _BUILTINS.keys()):
        return f"{_BUILTINS[name]} ({name})"
    for name in sorted(own):
        if name in DYNAMIC_NAMES or (is_hidden(name) and name not in ("__name__", "__doc__")):
            return f"uses {name}"
    for name in sorted(facts.attributes & _READERS):
        return f"reads a file (.{name})"
    return forbidden_names(sorted(own), facts.attributes, facts.imports)

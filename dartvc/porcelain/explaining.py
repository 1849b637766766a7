"""Where the value of a name comes from: its lineage as an explanation, as a graph at three levels, and beside that of another commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dartvc.hindsight.index import Index
from dartvc.hindsight.provenance import Edge, FileVersion, Graph, Node, run_label, writer_of
from dartvc.history import Repository
from dartvc.history.blame import blame
from dartvc.lineage.traces.commits import Trace, trace_commit, unbound
from dartvc.lineage.traces.differences import find_differences
from dartvc.lineage.traces.items import CALL, EITHER, FILE, LITERAL, LOOP, NAME, STATE, LineageItem, Step, iter_items
from dartvc.lineage.traces.libraries import OUTSIDE_KINDS, is_seeding
from dartvc.model import Commit, Oid
from dartvc.sessions.files import OWN, READ, RunFile, files_of

__all__ = ["Divergence", "Level", "NameOrigin", "Source", "Statement", "compare_names", "explain_name", "trace_name"]

_SEED_LITERALS = ("random_state=", "seed=", "rng=")
_LEAVES = frozenset({FILE, "stream", "setting", *OUTSIDE_KINDS})
_HIDDEN = frozenset({"import", "def", "class"})


class Level(StrEnum):
    """How finely a lineage is drawn."""

    STATEMENT = "statement"
    """Statements where the name lives; calls and loops are one step."""
    CALL = "call"
    """Statements in the functions that were called and in loops, too."""
    OPERATION = "operation"
    """Single operations, calls of libraries' functions among them."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that a value comes from: ``note`` says of a loop how often it turned, and which ways."""

    file: str
    line: int
    function: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that a value comes from and that no statement made.

    Attributes:
        kind: ``file``, ``seed``, ``setting``, ``stream`` (of random numbers, not seeded), or what of the world outside was asked: ``clock``, ``environment`` ...
        text: the path, the seed, the setting.
        digest: of a file, xxh3_128 of what was read, empty where that was not hashed; ``run`` and ``by``: the run that had written it, empty when none is known.
        file, line: where it comes in.
    """

    kind: str
    text: str
    digest: str = ""
    run: str = ""
    by: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class NameOrigin:
    """How a name came to its value.

    Attributes:
        name: as the commit has it.
        commit: the one that last wrote it.
        digest: of its lineage: values with equal lineage are equal, as far as nothing outside the program was asked; empty: no statement is seen to make it.
        statements: behind it, the nearest first.
        sources: files, seeds, settings, and what cannot be repeated.
        is_cut: a history of cells is looked at only so far.
    """

    name: str
    commit: Commit
    digest: str
    statements: tuple[Statement, ...]
    sources: tuple[Source, ...]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Divergence:
    """A place where two lineages part; ``what`` as in `dartvc.lineage.traces.differences.Difference`."""

    what: str
    one: Statement | None
    other: Statement | None
    before: str
    after: str


def explain_name(repository: Repository, index: Index, name: str, oid: Oid) -> NameOrigin:
    """Tells how a name of a commit came to its value."""
    commit = blame(repository, oid, [name]).get(name) or repository.commit(oid)
    trace = trace_commit(repository, oid, name)
    root = trace.item(name)
    if root is None:
        return NameOrigin(name, commit, "", (), ())
    statements: dict[tuple[str, int], Statement] = {}
    for item in iter_items(root):
        if item.step is not None and item.opcode not in _HIDDEN and item.opcode not in _LEAVES:
            place = item.step.place
            known = statements.get((place.file, place.line))
            if known is None or (item.note and not known.note):
                statements[place.file, place.line] = _statement(item.step, item.note)
    return NameOrigin(name, commit, root.digest, tuple(statements.values()), tuple(_sources(repository, index, trace, root)), trace.is_cut)


def _statement(step: Step, note: str = "") -> Statement:
    place = step.place
    return Statement(place.file, place.line, place.function, step.text, note)


def _sources(repository: Repository, index: Index, trace: Trace, root: LineageItem) -> Iterator[Source]:
    """Yields what a value comes from and no statement made, each once."""
    seen: dict[tuple[str, str], Source] = {}
    read = [each for each in files_of(repository, repository.process(trace.commit.oid)) if each.access in (READ, OWN)]
    for item in iter_items(root):
        users = [(each, item) for each in item.inputs if each.opcode in _LEAVES]
        for leaf, user in users:
            text = leaf.literals[0] if leaf.literals else leaf.opcode
            if (leaf.opcode, text) not in seen:
                place = (leaf.step or user.step).place if (leaf.step or user.step) is not None else None  # type: ignore[union-attr]
                run, by = _writer(index, trace, read, text) if leaf.opcode == FILE else ("", "")
                digest = _digest_of(leaf) if leaf.opcode == FILE else ""
                seen[leaf.opcode, text] = Source(leaf.opcode, text, digest, run, by, *(place[:2] if place else ()))
        for text in _seeds(item):
            if item.step is not None:
                place = item.step.place
                seen.setdefault(("seed", f"{text} {place}"), Source("seed", text, file=place.file, line=place.line))
    yield from sorted(seen.values(), key=lambda each: (each.kind not in (FILE, "seed", "setting"), each.kind != FILE, each.kind))


def _digest_of(leaf: LineageItem) -> str:
    """Returns the digest of a file that was read; empty where its size and time stand for it."""
    return "" if " " in leaf.literals[1] else leaf.literals[1]


def _seeds(item: LineageItem) -> Iterator[str]:
    if is_seeding(item.opcode):
        given = [*item.literals, *(text for each in item.inputs if each.opcode == LITERAL for text in each.literals)]
        yield f"{item.opcode}({', '.join(given)})"
    else:
        yield from (each for each in item.literals if each.startswith(_SEED_LITERALS))


def _writer(index: Index, trace: Trace, read: Sequence[RunFile], path: str) -> tuple[str, str]:
    """Returns the run that had written a file which another one read, and its command."""
    for each in read:
        if each.path == path or path.endswith(f"/{each.path}"):
            run = trace.run.run_id if trace.run is not None else ""
            version = FileVersion(run, each.path, each.access, each.size, each.modified_ns, each.digest, None, 0.0)
            made = writer_of(index, version)
            return (made.run, run_label(index, made.run)[0]) if made is not None else ("", "")
    return "", ""


# -- graphs -------------------------------------------------------------------------------------------------------------------


def trace_name(repository: Repository, name: str, oid: Oid, *, depth: int, level: Level) -> Graph:
    """Returns the lineage of a name as a graph.

    Raises:
        NotFoundError: no statement is seen to make it.
    """
    root = _item_of(repository, name, oid)
    return _View(level).graph(name, root, depth)


def _item_of(repository: Repository, name: str, oid: Oid) -> LineageItem:
    if name not in repository.names(oid) and "()." not in name:
        raise unbound(name, oid)
    return trace_commit(repository, oid, name).known_item(name)


class _View:
    """A lineage at one level: items are merged into nodes, those that say nothing there are passed through."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._numbers: dict[object, str] = {}

    def graph(self, name: str, root: LineageItem, depth: int) -> Graph:
        """Draws what is behind an item."""
        graph = Graph(Node(f"name:{name}", "name", name, digest=root.digest))
        waiting = [(each, graph.root, 0) for each in self._shown(root)]
        seen: set[tuple[int, str]] = set()
        for item, behind, level in waiting:
            node = self._node(item)
            if level >= depth:
                graph.is_cut = True
                continue
            if node.key != behind:
                graph.add(node, Edge(node.key, behind))
            if graph.is_cut:
                break
            if (item.number, node.key) not in seen:
                seen.add((item.number, node.key))
                waiting += [(each, node.key, level + (node.key != behind)) for each in self._behind(item)]
        return graph

    def _behind(self, item: LineageItem) -> list[LineageItem]:
        is_open = item.inner is not None and self._level is not Level.STATEMENT
        return [found for each in ((item.inner,) if is_open else item.inputs) if each is not None for found in self._shown(each)]

    def _shown(self, item: LineageItem) -> Iterable[LineageItem]:
        """Returns an item, or what stands for it when it is none to be shown."""
        found: list[LineageItem] = []
        waiting, seen = [item], {item.number}
        while waiting:
            each = waiting.pop()
            if each.opcode in _HIDDEN:
                continue
            is_plain = each.opcode in (STATE, EITHER, NAME) or (each.step is None and each.opcode not in _LEAVES)
            if is_plain:
                fresh = [it for it in each.inputs if it.number not in seen]
                seen.update(it.number for it in fresh)
                waiting.extend(reversed(fresh))
            else:
                found.append(each)
        return found

    def _node(self, item: LineageItem) -> Node:
        if item.opcode in _LEAVES:
            kind = "file" if item.opcode == FILE else "source"
            label = item.literals[0] if item.literals else item.opcode
            detail = _digest_of(item) if item.opcode == FILE else item.opcode if label != item.opcode else ""
            return Node(f"{item.opcode}:{label}", kind, label, detail, digest=item.digest)
        step = item.step
        assert step is not None
        if self._level is Level.OPERATION and item.opcode not in (CALL, LOOP):
            key = self._key(item.number)
            literals = ", ".join(item.literals)
            return Node(
                key,
                "operation",
                f"{item.opcode}" + (f" {literals}" if literals else ""),
                str(step.place),
                item.opcode,
                item.literals,
                item.digest,
            )
        key = self._key((step.nodes, step.calls))
        return Node(key, "statement", f"{step.place}  {step.text}", item.note, digest=item.digest)

    def _key(self, what: object) -> str:
        return self._numbers.setdefault(what, f"{len(self._numbers) + 1}")


# -- two commits --------------------------------------------------------------------------------------------------------------


def compare_names(repository: Repository, name: str, one: Oid, other: Oid) -> list[Divergence]:
    """Returns where the lineages of a name at two commits part, the first ones first; empty when they are equal.

    Raises:
        NotFoundError: no statement is seen to make it, in one of them.
    """
    found = find_differences(_item_of(repository, name, one), _item_of(repository, name, other))
    return [
        Divergence(each.what, _place_of(each.one), _place_of(each.other), _shown_text(each.one), _shown_text(each.other)) for each in found
    ]


def _place_of(item: LineageItem | None) -> Statement | None:
    return _statement(item.step, item.note) if item is not None and item.step is not None else None


def _shown_text(item: LineageItem | None) -> str:
    if item is None:
        return ""
    literals = ", ".join(each for each in item.literals if len(each) < 200)
    return item.note or (
        f"{item.opcode} {literals}".strip() if item.opcode not in ("def", "class") else f"{item.opcode} {item.literals[0]}"
    )

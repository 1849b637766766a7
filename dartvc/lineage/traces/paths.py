"""The decisions of a run, read back: the outcomes of a statement, and the turns of a loop with the distinct paths through its body."""

from __future__ import annotations

import ast
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xxhash import xxh3_128_hexdigest

from dartvc.history import Repository
from dartvc.lineage.decisions import PATHS
from dartvc.model import Oid
from dartvc.program.decisions import Deciding, DecidingScope, as_text, encoded, find_scopes, is_plain_loop, outcomes_of
from dartvc.sessions.recorded import read_value
from dartvc.sessions.relocation import relative_path

__all__ = ["Paths", "Turns", "Way"]

_WAYS_SHOWN = 64
_WAYS_WALKED = 4096
_SWALLOWING = frozenset(("suppress", "raises", "assertRaises", "assertRaisesRegex"))
"""What ends an exception at the end of ``with``."""
_Position = tuple[str, int, int, int | None, int | None]
_Loop = ast.For | ast.AsyncFor | ast.While


@dataclass(frozen=True, slots=True)
class Way:
    """A path through the body of a loop.

    Attributes:
        count: how many turns took it.
        lines: the first lines of the statements of the body that they came to.
    """

    count: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Turns:
    """How a loop went, as far as it ran in this run.

    Attributes:
        executions: how many times it was entered; an exception that nothing in the scope handles may hide one.
        turns: its iterations in all.
        paths: the distinct ones, most frequent first; 64 at most.
        further: how many turns took other paths.
    """

    executions: int
    turns: int
    paths: tuple[Way, ...]
    further: int = 0


@dataclass(slots=True)
class _Stream:
    """A scope and what it decided; ``text`` has one character for each decision."""

    scope: DecidingScope
    text: str
    is_dropped: bool
    codes: frozenset[str]
    ways: dict[_Position, Turns | None]

    def code(self, number: int) -> str:
        """Returns the character of a number."""
        given = encoded(number, self.scope.place.width)
        return as_text(bytes([given]) if isinstance(given, int) else given, self.scope.place.width)


class Paths:
    """The decisions of one run.

    Args:
        facts: the summary of the entry; empty: nothing was recorded.
        streams: its value.
        folder: where the project is: paths start from there.
        find_text: returns the source of a file of the run, by its recorded path.
    """

    def __init__(self, facts: Mapping[str, Any], streams: Sequence[bytes], folder: str, find_text: Callable[[str], str]) -> None:
        self._facts = facts
        self._values = streams
        self._folder = folder.rstrip("/")
        self._find_text = find_text
        self._streams: dict[str, dict[_Position, tuple[_Stream, int]]] = {}

    @classmethod
    def read(cls, repository: Repository, oid: Oid, folder: str) -> Paths:
        """Returns what a commit records, an empty one when that is nothing or the commit is not trusted."""
        entries = repository.process(oid)
        if PATHS not in entries or not repository.is_trusted(oid):
            return cls({}, (), folder, lambda path: "")
        facts: dict[str, Any] = dict(repository.summary(entries[PATHS]))
        if facts.get("run") != repository.commit(oid).run:
            return cls({}, (), folder, lambda path: "")  # an earlier run's

        def find_text(path: str) -> str:
            name = f"source:{path}"
            return str(read_value(repository, name, entries[name])) if name in entries else ""

        return cls(facts, read_value(repository, PATHS, entries[PATHS]), folder, find_text)

    def __bool__(self) -> bool:
        """Whether anything was recorded."""
        return bool(self._facts)

    def outcomes(self, file: str, node: ast.stmt) -> frozenset[int] | None:
        """Returns the outcomes that a statement ever had in the run; see `dartvc.program.decisions`.

        Args:
            file: from the project's folder, or absolute.
            node: of the file's source as it was, parsed.

        Returns:
            None when they are not known for certain: not recorded, dropped, answered from an earlier run, or decided in other processes, too.
        """
        found = self._find(file, node)
        if found is None or not isinstance(node, Deciding):
            return None
        stream, first = found
        is_partly_elsewhere = self._facts.get("has_answers") or self._facts.get("has_children")
        if stream.scope.place.is_local and is_partly_elsewhere:
            return None
        return frozenset(each for each in range(outcomes_of(node)) if stream.code(first + each) in stream.codes)

    def turns(self, file: str, node: ast.For | ast.While | ast.AsyncFor) -> Turns | None:
        """Returns how a loop went where it ran in this run; None when that was not recorded, or calls of the function got mixed up (threads, generators, recursion)."""
        found = self._find(file, node)
        if found is None:
            return None
        stream, first = found
        position = _position(node)
        if position not in stream.ways:
            own = next(each for each, number in stream.scope.statements if number == first)
            assert isinstance(own, _Loop)
            stream.ways[position] = _turns_of(stream, own, first)
        return stream.ways[position]

    def _find(self, file: str, node: ast.stmt) -> tuple[_Stream, int] | None:
        """Returns the stream in which a statement decides and the number of its outcome 0; None when that is not there, or does not tell."""
        path = relative_path(file, self._folder)
        if path not in self._streams:
            self._streams[path] = self._read_file(path)
        found = self._streams[path].get(_position(node))
        if found is None or found[0].is_dropped or self._facts["is_split"] or self._facts["is_resumed"]:
            return None
        return None if not found[0].scope.place.is_local and self._is_answered(path, node) else found

    def _is_answered(self, path: str, node: ast.stmt) -> bool:
        """Whether a statement of the script's own level is in a loop that was answered from an earlier run."""
        lines = {line for name, line in self._facts["answered_loops"] if name == path}
        if not lines:
            return False
        loops = (each for each in ast.walk(ast.parse(self._find_text(path))) if isinstance(each, _Loop) and each.lineno in lines)
        return any(each.lineno <= node.lineno <= (each.end_lineno or each.lineno) for each in loops)

    def _read_file(self, path: str) -> dict[_Position, tuple[_Stream, int]]:
        numbers = [number for number, (name, _) in enumerate(self._facts.get("files", ())) if name == path]
        text = self._find_text(path) if len(numbers) == 1 else ""
        if not text or xxh3_128_hexdigest(text.encode("utf-8", "replace")) != self._facts["files"][numbers[0]][1]:
            return {}  # another text than what ran, or several have
        rows = {row[1]: (row, value) for row, value in zip(self._facts["streams"], self._values, strict=True) if row[0] == numbers[0]}
        found: dict[_Position, tuple[_Stream, int]] = {}
        for scope in find_scopes(ast.parse(text), text):
            if scope.place.width:
                row, value = rows.get(scope.place.number, (None, b""))
                decided = as_text(zlib.decompress(value), scope.place.width) if value else ""
                stream = _Stream(scope, decided, row is not None and bool(row[6]), frozenset(decided), {})
                found.update((_position(each), (stream, first)) for each, first in scope.statements)
        return found


def _position(node: ast.stmt) -> _Position:
    return type(node).__name__, node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _turns_of(stream: _Stream, loop: _Loop, first: int) -> Turns | None:
    done, turn = stream.code(first), stream.code(first + 1)
    numbers = {id(each): number for each, number in stream.scope.statements}
    inside = [each for statement in loop.body for each in ast.walk(statement) if id(each) in numbers]
    outcomes = {
        stream.code(numbers[id(each)] + number): (id(each), number)
        for each in inside
        if isinstance(each, Deciding)
        for number in range(outcomes_of(each))
    }
    body = "".join(outcomes)
    before, *turns = stream.text.split(turn)
    counts = Counter(turns[:-1])
    segments = [(segment, count, False) for segment, count in counts.items()] + [(segment, 1, True) for segment in turns[-1:]]
    is_interruptible = any(
        isinstance(each, ast.Yield | ast.YieldFrom | ast.Await | ast.AsyncFor | ast.AsyncWith) for each in ast.walk(stream.scope.node)
    )
    ways: Counter[frozenset[str]] = Counter()
    walked: dict[frozenset[str], _Turn] = {}
    left = 0
    for segment, count, is_last in segments:
        tail = segment.lstrip(body) if body else segment
        way = frozenset(segment[: len(segment) - len(tail)])
        turned = walked.get(way, _GOING_ON)
        if turned is _GOING_ON and len(walked) < _WAYS_WALKED:
            turned = walked[way] = _walk_turn(loop.body, {outcomes[code] for code in way})
        is_doubtful = turned.is_mixed or (turned.is_cut_off and is_interruptible) or (turned.is_left and tail.startswith(done))
        if is_doubtful or not outcomes.keys().isdisjoint(tail):
            return None
        ways[way] += count
        if not tail.startswith(done) and (tail or is_last or turned.is_left):
            left += count
    if not outcomes.keys().isdisjoint(before):
        return None
    shown = ways.most_common(_WAYS_SHOWN)
    paths = tuple(Way(count, _walk_turn(loop.body, {outcomes[code] for code in way}).lines) for way, count in shown)
    return Turns(stream.text.count(done) + left, len(turns), paths, len(turns) - sum(each.count for each in paths))


@dataclass(frozen=True, slots=True)
class _Turn:
    """What became of a turn.

    Attributes:
        lines: the first lines of the statements that it came to.
        is_left: it left the loop, as far as that can be seen.
        is_cut_off: it did not get to an outcome of the statement that it had come to.
        is_mixed: the outcomes cannot be those of one turn.
    """

    lines: tuple[int, ...]
    is_left: bool
    is_cut_off: bool
    is_mixed: bool


_GOING_ON = _Turn((), is_left=False, is_cut_off=False, is_mixed=False)


def _walk_turn(body: list[ast.stmt], outcomes: set[tuple[int, int]]) -> _Turn:
    """Follows one turn through the body of its loop.

    Args:
        outcomes: of the statements in the body, by their ids; those of loops in it may have several.
    """
    walk = _Walk(outcomes)
    goes_on = walk.block(body)
    is_mixed = walk.is_mixed or walk.used != outcomes
    return _Turn(tuple(sorted(walk.lines)), not goes_on and not walk.is_continued, walk.is_cut_off, is_mixed)


class _Walk:
    def __init__(self, outcomes: set[tuple[int, int]]) -> None:
        self._outcomes = outcomes
        self.used: set[tuple[int, int]] = set()
        self.lines: set[int] = set()
        self.is_mixed = False
        self.is_continued = False
        self.is_cut_off = False
        self._is_raised = False
        self._raises = 0
        self._breaks: list[bool] = []  # of each loop around: whether it was left by one

    def block(self, statements: list[ast.stmt]) -> bool:
        """Follows statements in order; returns whether the turn goes on behind them."""
        for number, each in enumerate(statements):
            self.lines.add(each.lineno)
            if not self._statement(each) and not (isinstance(each, ast.With | ast.AsyncWith) and self._has_any(statements[number + 1 :])):
                return False
        return True

    def _any(self, parts: Iterable[list[ast.stmt]]) -> bool:
        """Follows alternatives that were all taken; returns whether the turn goes on behind one."""
        return max([self.block(each) for each in parts], default=False)

    def _has_any(self, statements: Iterable[ast.AST]) -> bool:
        """Whether one of the statements had an outcome: then what was raised before them was handled."""
        decided = {number for number, _ in self._outcomes}
        return any(id(each) in decided for statement in statements for each in ast.walk(statement))

    def _taken(self, node: Deciding) -> set[int]:
        taken = {number for number in range(outcomes_of(node)) if (id(node), number) in self._outcomes}
        self.used.update((id(node), number) for number in taken)
        may_be_several = self._breaks or isinstance(node, ast.For | ast.AsyncFor | ast.While | ast.TryStar)
        self.is_mixed |= len(taken) > 1 and not may_be_several
        if not taken and not isinstance(node, ast.Try | ast.TryStar):
            self.is_cut_off = self._is_raised = True
        return taken

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Continue | ast.Break | ast.Return | ast.Raise):
            self._is_raised = isinstance(node, ast.Raise)
            self._raises += self._is_raised
            if not self._breaks:
                self.is_continued = isinstance(node, ast.Continue)
            elif isinstance(node, ast.Break):
                self._breaks[-1] = True
            return False
        if isinstance(node, ast.If):
            taken = self._taken(node)
            return self._any(part for number, part in ((1, node.body), (0, node.orelse)) if number in taken)
        if isinstance(node, ast.For | ast.AsyncFor | ast.While):
            return self._loop(node)
        if isinstance(node, ast.Try | ast.TryStar):
            return self._try(node)
        if isinstance(node, ast.Match):
            return self._any(node.cases[number].body if number < len(node.cases) else [] for number in sorted(self._taken(node)))
        return self._with(node) if isinstance(node, ast.With | ast.AsyncWith) else True

    def _with(self, node: ast.With | ast.AsyncWith) -> bool:
        before = self._raises
        if self.block(node.body):
            return True
        is_raised = self._raises > before if self._breaks else self._is_raised
        return is_raised and any(_last_name(item.context_expr) in _SWALLOWING for item in node.items)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> bool:
        if is_plain_loop(node):
            self.lines.update(each.lineno for each in ast.walk(node) if isinstance(each, ast.stmt))
            return True
        taken = self._taken(node)
        goes_on = False
        if 1 in taken:
            self._breaks.append(False)
            self.block(node.body)
            goes_on = self._breaks.pop()
        if 0 in taken:
            goes_on = self.block(node.orelse) or goes_on
        return goes_on

    def _try(self, node: ast.Try | ast.TryStar) -> bool:
        goes_on = self.block(node.body)
        if node.handlers:
            taken = self._taken(node)
            goes_on = self._any(node.orelse if number == 0 else node.handlers[number - 1].body for number in sorted(taken))
        return self.block(node.finalbody) and goes_on


def _last_name(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""

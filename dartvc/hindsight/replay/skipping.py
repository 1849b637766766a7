"""Replaying only what no commit holds: where the states at the head of a loop give the values, and what of the program remains to be executed.

The commits at the head of the loop that the log statements stand in are asked first. The program is then executed where iterations lie
between two of them that neither tells: from the one to the other. Each such piece ends in an iteration of which a commit knows the value, too;
the two must be the same to the bit, else nothing of this counts.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from dartvc.hindsight.loops import base_of
from dartvc.hindsight.records import LogRecord
from dartvc.hindsight.replay.execution import Ending, Execution
from dartvc.hindsight.replay.jobs import Answer, Head
from dartvc.hindsight.replay.jumps import Jump, find_jump, is_entered_once, is_plain_path
from dartvc.hindsight.replay.places import Boundary, BoundaryFrame, BoundaryLoop
from dartvc.hindsight.replay.results import are_equal, place_of, records_in
from dartvc.history import Repository
from dartvc.model import Commit, Oid
from dartvc.program.places import NotResumable
from dartvc.sessions.recorded import read_position
from dartvc.sessions.relocation import Relocation
from dartvc.sessions.runs import Run
from dartvc.sessions.traces import frame_prefixes

__all__ = ["Skip", "Wanted", "find_skip"]

_WORTH_SKIPPING_S = 1.0
_STARTING_S, _WORTH_SHARE = 1.5, 0.8
"""What it takes until a piece is executed (imports, the state), and which part of the run may still be."""
_T = TypeVar("_T")


class Wanted(Protocol):
    """Which iterations are asked for.

    Attributes:
        outside: what is known of the run outside of all loops.
    """

    outside: Mapping[str, object]

    @property
    def is_sample(self) -> bool:
        """Whether it is some of them that are."""
        ...

    def may_want(self, row: Mapping[str, object]) -> bool:
        """Whether an iteration of which this is known may be wanted."""
        ...

    def sampled(self, items: Sequence[_T]) -> list[_T]:
        """Returns some of the iterations."""
        ...


@dataclass(frozen=True)
class Piece:
    """Iterations to execute: from the head before (-1: the program's beginning) to the one behind (the number of heads: its end)."""

    begin: int
    end: int


@dataclass(frozen=True)
class Skip:
    """A way to replay that executes less than the whole program.

    Attributes:
        commits: at the head of the loop, in their order.
        names: what is asked for.
        jump: where that is logged.
    """

    commits: tuple[Commit, ...]
    names: tuple[str, ...]
    jump: Jump

    def execute(
        self, repository: Repository, execution: Execution, processes: int, began_s: float, ended_s: float, wanted: Wanted
    ) -> Ending | None:
        """Replays; None when it gave no certain answer, or would not save anything.

        Args:
            repository: where.
            execution: of the patched program.
            processes: how many may work at once.
            began_s: when the run began.
            ended_s: when it ended.
            wanted: which iterations are.
        """
        expected = self._expected(repository)
        if expected is not None and not wanted.is_sample and (not expected or self._pieces(expected, began_s, ended_s, wanted) is None):
            return None
        told = execution.evaluated([each.oid for each in self.commits], self.names)
        if told is None:
            return None
        heads, answer = told
        records = list(records_in(answer.lines))
        held: list[tuple[Head, list[LogRecord], float]] = []
        at = 0
        for head, commit in zip(heads.heads, self.commits, strict=True):
            if not head.problem:
                held.append((head, records[at : at + head.records], commit.time.timestamp()))
            at += head.records
        if wanted.is_sample and held:
            some = wanted.sampled([each for each in held if self.is_wanted(each[0].numbers, wanted)])
            joined = [record for _, own, _ in some for record in own]
            return Ending(None, 0, "", tuple(joined), answer.attachments, 1, joined)
        pieces = self._pieces(held, began_s, ended_s, wanted) if held else None
        if pieces is None:
            return None
        places = [(Oid(held[each.begin][0].commit) if each.begin >= 0 else None, _before(held, each.end)) for each in pieces]
        done = execution.pieces(places, processes) if places else []
        if done is None:
            return None
        return _joined(held, pieces, done, answer)

    def _pieces(
        self, held: Sequence[tuple[Head, list[LogRecord], float]], began_s: float, ended_s: float, wanted: Wanted
    ) -> list[Piece] | None:
        """Returns what remains to be executed; None when that is most of the run."""
        heads = [head for head, _, _ in held]
        count = len(held)
        pieces = []
        if any(heads[0].numbers):
            pieces.append(Piece(-1, 0))
        pieces += [Piece(index, index + 1) for index in range(count - 1) if not _follows(heads[index], heads[index + 1])]
        if any(each != 0 for each in heads[-1].left):
            pieces.append(Piece(count - 1, count))
        pieces = [each for each in pieces if self._may_want(each, heads, wanted)]
        times = [each for _, _, each in held]
        merged: list[Piece] = []
        for piece in pieces:
            last = merged[-1] if merged else None
            if last is not None and times[piece.begin] - times[last.end] < _WORTH_SKIPPING_S:
                merged[-1] = Piece(last.begin, piece.end)
            else:
                merged.append(piece)
        whole = ended_s - began_s
        executed = sum(
            (times[each.end] if each.end < count else ended_s) - (times[each.begin] if each.begin >= 0 else began_s) for each in merged
        )
        return merged if executed + _STARTING_S * len(merged) <= _WORTH_SHARE * whole or whole < _WORTH_SKIPPING_S else None

    def planned(self, repository: Repository, began_s: float, ended_s: float, wanted: Wanted) -> tuple[int, float] | None:
        """Returns how many commits hold a value, and how long what would be executed took when it was recorded; None: as `execute`.

        Nothing is loaded: the numbers of iterations come from the summaries of the loop's variable.
        """
        held = self._expected(repository)
        if not held:
            return None
        if wanted.is_sample:
            return len(wanted.sampled([each for each in held if self.is_wanted(each[0].numbers, wanted)])), 0.0
        pieces = self._pieces(held, began_s, ended_s, wanted)
        if pieces is None:
            return None
        times = [began_s, *(each for _, _, each in held), ended_s]
        return len(held), sum(times[each.end + 1] - times[each.begin + 1] for each in pieces)

    def _expected(self, repository: Repository) -> list[tuple[Head, list[LogRecord], float]] | None:
        """Returns what the commits hold if each holds the values of its iteration, as summaries tell; None when they do not tell which that is."""
        base = base_of(self.jump.loop.iter)
        if base is None or not isinstance(self.jump.loop.target, ast.Name):
            return None
        held: list[tuple[Head, list[LogRecord], float]] = []
        for commit in self.commits:
            frames = read_position(repository, commit.oid)["frames"]
            prefix = frame_prefixes([str(each["function"]) for each in frames])[-1]
            entries = repository.names(commit.oid)
            name = self.jump.loop.target.id
            entry = entries.get(name if prefix == "__main__" else f"{prefix}.{name}")
            text = str(repository.summary(entry).get("repr", "")) if entry is not None else ""
            if text.lstrip("-").isdigit():
                number = (int(text) - base[0]) // base[1]
                place = BoundaryFrame("", "", (BoundaryLoop(0, 0, number),), 0, 0, 0, "loop")
                if held and held[-1][0].numbers > (number,):
                    return None  # it was entered anew by a loop around it, of which summaries do not tell
                held.append((Head(commit.oid, (place,), (0,)), [], commit.time.timestamp()))
        return held

    def is_wanted(self, numbers: Sequence[int], wanted: Wanted) -> bool:
        """Whether an iteration, by the numbers of its loops, may be wanted: what its variable is there is told by a ``range`` alone."""
        base = base_of(self.jump.loop.iter)
        target = self.jump.loop.target
        row = dict(wanted.outside)
        if base is not None and isinstance(target, ast.Name):
            row[target.id] = base[0] + base[1] * numbers[-1]
        return wanted.may_want(row)

    def _may_want(self, piece: Piece, heads: Sequence[Head], wanted: Wanted) -> bool:
        """Whether one of the iterations that a piece leads through may be wanted."""
        begin = heads[piece.begin].numbers if piece.begin >= 0 else None
        end = heads[piece.end].numbers if piece.end < len(heads) else None
        depth = len(heads[0].numbers)
        if end is None:
            left = heads[-1].left[-1] if depth == 1 else -1
            end = (*heads[-1].numbers[:-1], heads[-1].numbers[-1] + left + 1) if left >= 0 else None
        if end is None or (begin or (0,) * depth)[:-1] != end[:-1]:
            return True
        return any(self.is_wanted((*end[:-1], number), wanted) for number in range(begin[-1] + 1 if begin else 0, end[-1]))


def find_skip(repository: Repository, run: Run, execution: Execution, commits: Sequence[Commit], names: Sequence[str]) -> Skip | None:
    """Returns how the log statements of some names can be had from commits; None when they stand elsewhere than in the body of one loop.

    Args:
        repository: where.
        run: the run.
        execution: of the patched program.
        commits: of the run, in their order.
        names: what is asked for.
    """
    files = execution.files()
    try:
        for file in files.values():
            file.setup()
    except NotResumable:
        return None
    jump = find_jump(files, names)
    if jump is None:
        return None
    moved = Relocation(run.moved_from, str(repository.root))
    functions: set[str] = set()
    found = []
    for commit in commits:
        frames = [{**each, "file": moved.path(str(each["file"]))} for each in read_position(repository, commit.oid)["frames"]]
        if frames and frames[-1]["kind"] == "loop" and _is_at(jump, frames, execution):
            found.append(commit)
            functions.update(str(each["function"]) for each in frames)
    if not found or not is_entered_once(functions, (file.new_unit.text for file in files.values())):
        return None
    return Skip(tuple(found), tuple(names), jump)


def _is_at(jump: Jump, frames: Sequence[dict[str, object]], execution: Execution) -> bool:
    """Whether recorded frames stand at the head of the jump's loop, and nothing around them would notice that they are left."""
    files = execution.files()
    try:
        placed = [(str(each["file"]), files[str(each["file"])].place(each)) for each in frames]
        around = [files[path].around(frame) for path, frame in placed]
    except (NotResumable, KeyError):
        return False
    statement = around[-1][1]
    is_loop = placed[-1][0] == jump.path and (statement.lineno, statement.col_offset) == (jump.loop.lineno, jump.loop.col_offset)
    return is_loop and all(is_plain_path(steps) for steps, _ in around)


def _follows(one: Head, other: Head) -> bool:
    """Whether no iteration of the loop lies between two heads but the one that ends at the other."""
    before, after = one.numbers, other.numbers
    if len(before) != len(after):
        return False
    if before[:-1] == after[:-1]:
        return after[-1] - before[-1] in (0, 1)
    changed = next(index for index, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    is_over = all(each == 0 for each in one.left[changed + 1 :])
    return is_over and after[changed] - before[changed] == 1 and not any(after[changed + 1 :])


def _before(held: Sequence[tuple[Head, list[LogRecord], float]], index: int) -> Boundary:
    """Returns where a piece ends that leads to a head: before the iteration whose value that head knows."""
    if index >= len(held):
        return ()
    *outer, last = held[index][0].boundary
    *loops, innermost = last.loops
    return (*outer, replace(last, loops=(*loops, innermost._replace(number=innermost.number - 1))))


def _joined(
    held: Sequence[tuple[Head, list[LogRecord], float]],
    pieces: Sequence[Piece],
    done: Sequence[tuple[Answer, int, str]],
    evaluated: Answer,
) -> Ending | None:
    """Returns all records in the order of execution; None when a piece and a commit contradict each other."""
    known = {key: record for _, records, _ in held for key, record in _keyed(records)}
    depth = len(held[0][0].numbers)
    loop = next((each.context.chain()[depth - 1].loop for _, records, _ in held for each in records if each.context is not None), None)
    joined: list[LogRecord] = []
    covered: set[int] = set()
    parts: dict[int, list[LogRecord]] = {}
    for piece, (answer, _, _) in zip(pieces, done, strict=True):
        own = list(records_in(answer.lines))
        for key, record in _keyed(own):
            if key in known and not are_equal(known[key].value, record.value):
                return None
        if answer.is_stopped:
            own.pop()
        if piece.begin >= 0:  # what other loops were entered before is not known here
            own = [each for each in own if each.context is not None and any(one.loop == loop for one in each.context.chain())]
        parts[piece.begin] = own
        covered.update(range(piece.begin + 1, min(piece.end, len(held))))
    from_heads: list[LogRecord] = []
    for index in range(-1, len(held)):
        if index >= 0 and index not in covered:
            joined += held[index][1]
            from_heads += held[index][1]
        joined += parts.get(index, ())
    attachments = {name: content for each in (evaluated, *(answer for answer, _, _ in done)) for name, content in each.attachments.items()}
    is_to_end = bool(pieces) and pieces[-1].end == len(held)
    answer, code, said = done[-1] if is_to_end else (replace(evaluated, exit_code=0), 0, "")
    return Ending(answer if is_to_end else None, code, said, tuple(joined), attachments, 1 + len(done), from_heads)


def _keyed(records: Sequence[LogRecord]) -> list[tuple[object, LogRecord]]:
    """Returns records with what tells them apart: name, place, and turn in it."""
    turns: dict[object, int] = {}
    found: list[tuple[object, LogRecord]] = []
    for record in records:
        place = record.name, place_of(record.context)
        turns[place] = turn = turns.get(place, -1) + 1
        found.append(((place, turn), record))
    return found

"""The turns of a loop, read from its decisions, against the lines that a tracer saw in each."""

from __future__ import annotations

import ast
import builtins
import sys
import types
from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.lineage.decisions import PATHS, PathRecorder
from dartvc.lineage.traces.paths import Paths
from dartvc.program.decisions import note_streams, put_marks
from dartvc.program.tracebacks import CAUGHT

FILE = "/project/program.py"


class Writer:
    """Writes the body of a loop, one statement a line."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lines: list[str] = []

    def add(self, text: str, depth: int) -> None:
        self.lines.append("    " * depth + text)

    def block(self, depth: int, levels: int, *, may_jump: bool = True) -> None:
        for _ in range(self.random.randint(1, 3)):
            kind = (
                self.random.choice(["plain", "if", "else", "for", "while", "try", "finally", "match", "with", "jump"])
                if levels
                else "plain"
            )
            if kind == "jump" and may_jump:
                self.add(self.random.choice(["continue", "break", "return", "raise KeyError", "raise IndexError"]), depth)
                return
            self.statement(kind, depth, levels - 1, may_jump=may_jump)

    def statement(self, kind: str, depth: int, levels: int, *, may_jump: bool) -> None:
        heads = {
            "if": ["if d(2):"], "else": ["if d(3):", "else:"], "for": ["for _ in range(d(4)):"], "while": ["while d(3):"], "with": ["with suppress(LookupError):"],
            "try": ["try:", "except KeyError:", *["else:"] * self.random.randint(0, 1)], "finally": ["try:", "finally:"],
        }  # fmt: skip
        if kind == "match":
            self.add("match d(4):", depth)
            for number in range(2):
                self.add(f"case {number}:", depth + 1)
                self.block(depth + 2, levels, may_jump=may_jump)
        for head in heads.get(kind, []):
            self.add(head, depth)
            self.block(depth + 1, levels, may_jump=may_jump and head != "finally:")
            if head == "finally:":
                self.add("d(1)", depth + 1)  # an exception goes on from the last line, which a tracer sees once more
        if kind in ("plain", "jump"):
            self.add("d(1)", depth)


class Seen:
    """What a tracer saw of the loop whose body has some lines."""

    def __init__(self, first: int, last: int) -> None:
        self.turns: list[set[int]] = []
        self.entered = 0
        self._first, self._last = first, last

    def trace(self, frame: types.FrameType, event: str, argument: object) -> object:
        if frame.f_code.co_filename != FILE:
            return None
        if event == "line" and self._first < frame.f_lineno <= self._last:
            self.turns[-1].add(frame.f_lineno)
        return self.trace


def program(seed: int) -> tuple[str, int, int]:
    """Returns a program, the line of the loop that is looked at, and the last line of its body."""
    writer = Writer(Random(seed))
    head = [
        "from contextlib import suppress",
        "def f():",
        "    for _ in range(d(3)):",
        "        if d(2): break",
        "        S()",
        "        for i in range(d(5)):",
        "            T()",
    ]
    writer.block(3, 3)
    lines = [*head, *writer.lines]
    return (
        "\n".join([*lines, "        d(1)", "for _ in range(30):", "    try: f()", "    except (KeyError, IndexError): pass", ""]),
        6,
        len(lines),
    )


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 10**6))
def test_ways_and_turns_are_those_that_a_tracer_saw(seed: int) -> None:
    text, loop_line, last = program(seed)
    seen = Seen(loop_line + 1, last)
    counts = []
    recorder = PathRecorder(lambda path: False, lambda: None)
    try:
        for is_marked in (False, True):
            tree = ast.parse(text)
            if is_marked:
                note_streams(tree, FILE, text, recorder.next_stream)
                put_marks(tree)
            counts.append(run(compile(tree, FILE, "exec"), seed, None if is_marked else seen))
        assert counts[0] == counts[1]
        values, facts = recorder.entry("/project", "r", {"has_children": False, "has_answers": False}, ())[PATHS]
    finally:
        recorder.close()
        for stream in recorder.streams.values():
            delattr(builtins, stream.switch)
    assert isinstance(values, list)
    loop = next(each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.For) and each.lineno == loop_line)
    turns = Paths(facts, values, "/project", lambda path: text).turns(FILE, loop)
    assert turns is not None
    assert (turns.turns, turns.executions) == (len(seen.turns), seen.entered)
    if not turns.further:
        found: Counter[tuple[int, ...]] = Counter()
        for way in turns.paths:
            found[way.lines[1:]] += way.count  # the first is that of T()
        statements = {each.lineno for each in ast.walk(loop) if isinstance(each, ast.stmt)}
        assert found == Counter(tuple(sorted(lines & statements)) for lines in seen.turns)


def run(code: types.CodeType, seed: int, seen: Seen | None) -> int:
    """Runs a program, and returns how many numbers it drew."""
    random, drawn = Random(seed), 0

    def draw(limit: int) -> int:
        nonlocal drawn
        drawn += 1
        return random.randrange(limit)

    def begin_turn() -> None:
        if seen is not None:
            seen.turns.append(set())

    def enter() -> None:
        if seen is not None:
            seen.entered += 1

    before = sys.gettrace()
    if seen is not None:
        sys.settrace(seen.trace)  # type: ignore[arg-type]
    try:
        exec(code, {"d": draw, "T": begin_turn, "S": enter, CAUGHT: None})
    finally:
        sys.settrace(before)
    return drawn

"""Streams of decisions: what of them is dropped, what an entry holds, and what is read from it."""

from __future__ import annotations

import ast
import builtins
import contextlib
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dartvc.lineage.decisions import PATHS, PathRecorder
from dartvc.lineage.traces.paths import Paths, Turns, Way
from dartvc.program.decisions import note_streams, put_marks
from dartvc.program.tracebacks import CAUGHT

FILE = "/project/program.py"


class Recorded:
    """A program that was run with marks, and what was recorded of it."""

    def __init__(self, text: str, recorder: PathRecorder) -> None:
        self.text = textwrap.dedent(text).strip() + "\n"
        self.recorder = recorder
        tree = ast.parse(self.text)
        note_streams(tree, FILE, self.text, recorder.next_stream)
        put_marks(tree)
        self.code = compile(tree, FILE, "exec")
        self.nodes = {(type(each).__name__, each.lineno): each for each in ast.walk(ast.parse(self.text)) if isinstance(each, ast.stmt)}

    def run(self) -> Recorded:
        """Runs it; an exception of its own ends it."""
        with contextlib.suppress(ZeroDivisionError):
            exec(self.code, {"__name__": "program", CAUGHT: None})
        return self

    def paths(self, loops: tuple[tuple[str, int], ...] = (), **facts: object) -> Paths:
        """Returns what is read from the entry."""
        values, summary = self.recorder.entry("/project", "run", {"has_children": False, "has_answers": False, **facts}, loops)[PATHS]
        return Paths(summary, values, "/project", lambda path: self.text if path == "program.py" else "")  # type: ignore[arg-type]

    def outcomes(self, kind: str, line: int, **facts: Any) -> frozenset[int] | None:
        """Returns the outcomes of the statement of a kind on a line."""
        return self.paths(**facts).outcomes("program.py", self.nodes[kind, line])

    def turns(self, line: int, kind: str = "For", **facts: Any) -> Turns | None:
        """Returns the turns of the loop on a line."""
        node = self.nodes[kind, line]
        assert isinstance(node, ast.For | ast.While)
        return self.paths(**facts).turns(FILE, node)


@pytest.fixture
def recorded() -> Iterator[Callable[[str], Recorded]]:
    recorders: list[PathRecorder] = []

    def make(text: str) -> Recorded:
        recorders.append(PathRecorder(lambda path: False, lambda: None))
        return Recorded(text, recorders[-1])

    yield make
    for each in recorders:
        each.close()
        for stream in each.streams.values():
            if hasattr(builtins, stream.switch):
                delattr(builtins, stream.switch)


def test_outcomes_are_those_that_a_statement_had(recorded: Any) -> None:
    program = recorded("""
        for i in range(3):
            if i < 5:
                pass
            try:
                [][i]
            except KeyError:
                pass
            except IndexError:
                pass
            match i:
                case 0: pass
                case 1: pass
                case 7: pass
        while i > 5:
            abs(i)
        def never():
            if 1:
                pass
    """).run()
    found = {name: program.outcomes(*name) for name in (("For", 1), ("If", 2), ("Try", 4), ("Match", 10), ("While", 14), ("If", 17))}
    assert found == {
        ("For", 1): {0, 1}, ("If", 2): {1}, ("Try", 4): {2}, ("Match", 10): {0, 1, 3}, ("While", 14): {0}, ("If", 17): set(),
    }  # fmt: skip


def test_turns_are_counted_by_the_way_that_they_took(recorded: Any) -> None:
    program = recorded("""
        x = 0
        for i in range(100):
            if i % 10 == 0:
                x += 1
                continue
            if i % 2:
                x += 2
            else:
                x += 3
            x += 4
    """).run()
    assert program.turns(2) == Turns(1, 100, (Way(50, (3, 6, 7, 10)), Way(40, (3, 6, 9, 10)), Way(10, (3, 4, 5))))


def test_loops_that_are_left_early_are_counted_once_each_time(recorded: Any) -> None:
    program = recorded("""
        def f(n):
            for i in range(5):
                if i == n:
                    return i
            for i in range(5):
                break
            while True:
                if n:
                    break
                n += 1
        for n in range(7):
            f(n)
        for n in ():
            f(n)
    """).run()
    assert program.turns(2) == Turns(7, 1 + 2 + 3 + 4 + 5 + 5 + 5, (Way(20, (3,)), Way(5, (3, 4))))
    assert program.turns(5) == Turns(2, 2, (Way(2, (6,)),))
    assert program.turns(7, "While") == Turns(2, 2, (Way(2, (8, 9)),))
    assert program.turns(11) == Turns(1, 7, (Way(7, (12,)),))
    assert program.turns(13) == Turns(1, 0, ())


def test_statements_of_inner_loops_count_if_any_turn_took_them(recorded: Any) -> None:
    program = recorded("""
        x = 0
        for i in range(4):
            for j in range(i):
                if j == 2:
                    x += 1
                else:
                    x += 2
            x += 3
    """).run()
    assert program.turns(2) == Turns(1, 4, (Way(2, (3, 4, 7, 8)), Way(1, (3, 8)), Way(1, (3, 4, 5, 7, 8))))
    assert program.turns(3) == Turns(4, 6, (Way(5, (4, 7)), Way(1, (4, 5))))


def test_a_turn_that_raises_is_followed_into_its_handler(recorded: Any) -> None:
    program = recorded("""
        x = []
        for i in range(6):
            try:
                if i == 3:
                    raise KeyError
                x.append(1 / (i % 3))
            except ZeroDivisionError:
                x.append(0)
            except KeyError:
                break
            else:
                x.append(2)
            finally:
                x.append(3)
            x.append(4)
    """).run()
    assert program.turns(2) == Turns(1, 4, (Way(2, (3, 4, 6, 12, 14, 15)), Way(1, (3, 4, 6, 8, 14, 15)), Way(1, (3, 4, 5, 10, 14))))


def test_an_exception_that_ends_the_program_ends_a_turn(recorded: Any) -> None:
    program = recorded("""
        for i in range(3):
            if i < 2:
                pass
            elif 1 / 0:
                pass
    """).run()
    assert program.turns(1) == Turns(1, 3, (Way(2, (2, 3)), Way(1, (2, 4))))


def test_calls_that_got_mixed_up_have_no_turns(recorded: Any) -> None:
    program = recorded("""
        def numbers(n):
            for i in range(n):
                yield i
                if i % 2:
                    pass
        for a, b in zip(numbers(5), numbers(6)):
            pass
        def walk(n):
            for i in range(2):
                if n:
                    walk(n - 1)
                if i:
                    pass
        walk(3)
    """).run()
    assert program.turns(2) is None
    assert program.turns(9) is None
    assert program.outcomes("If", 4) == {0, 1}


def test_at_most_64_ways_are_told_apart(recorded: Any) -> None:
    cases = "".join(f"        case {n}: pass\n" for n in range(100))
    program = recorded(f"for i in range(200):\n    match i:\n{cases}").run()
    turns = program.turns(1)
    assert turns.paths[0].count == 100
    assert len(turns.paths) == 64
    assert turns.further == 200 - sum(each.count for each in turns.paths) == 37


def test_numbers_of_two_bytes_are_read(recorded: Any) -> None:
    program = recorded("x = 0\nfor i in range(200):\n" + "".join(f"    if i == {n}:\n        x += {n}\n" for n in range(150))).run()
    assert program.outcomes("If", 3) == {0, 1}
    turns = program.turns(2)
    assert turns.turns == 200
    assert turns.paths[0].count == 50
    assert turns.paths[0].lines == tuple(range(3, 303, 2))


def test_what_other_processes_or_earlier_runs_did_is_unknown_in_functions_only(recorded: Any) -> None:
    program = recorded("""
        def f():
            if 1:
                pass
        class C:
            if 1:
                pass
        if f():
            pass
    """).run()
    for fact in ("has_children", "has_answers"):
        assert program.outcomes("If", 2, **{fact: True}) is None
        assert program.outcomes("If", 5, **{fact: True}) == {1}
        assert program.outcomes("If", 7, **{fact: True}) == {0}


def test_what_a_loop_that_was_answered_would_have_decided_is_unknown(recorded: Any) -> None:
    program = recorded("""
        for i in range(3):
            if i:
                pass
        if i:
            pass
    """).run()
    answered = (FILE, 1)
    assert program.outcomes("If", 2, loops=(answered,)) is None
    assert program.turns(1, loops=(answered,)) is None
    assert program.outcomes("If", 4, loops=(answered,)) == {1}


def test_nothing_is_known_of_another_text_or_file(recorded: Any) -> None:
    program = recorded("if 1:\n    pass\n").run()
    paths = program.paths()
    assert paths.outcomes("other.py", program.nodes["If", 1]) is None
    assert paths.outcomes("program.py", ast.parse("\nif 1:\n    pass\n").body[0]) is None
    program.text += "# more\n"
    assert program.outcomes("If", 1) is None


def test_the_fastest_stream_is_dropped_when_decisions_cost_too_much(recorded: Any) -> None:
    program = recorded("""
        def f(n):
            for i in range(n): abs(i)
        def g(n):
            for i in range(n): abs(i)
        f(100); g(5)
    """).run()
    recorder = program.recorder
    begun = recorder._begun
    fast, slow = recorder.streams.values()
    fast.data.extend(bytes(3_000_000))
    assert recorder.look(begun + 0.05) > 3_000_000
    assert (fast.is_dropped, len(fast.data), getattr(builtins, fast.switch)) == (True, 0, None)
    assert not slow.is_dropped
    exec(program.code, {"__name__": "program", CAUGHT: None})
    assert len(fast.data) == 0
    assert program.turns(2) is program.outcomes("For", 2) is None
    assert program.turns(4) == Turns(2, 10, (Way(10, (4,)),))


def test_turns_through_loops_without_marks_are_read(recorded: Any) -> None:
    program = recorded("""
        total = 0
        for i in range(3):
            if i:
                for j in range(2):
                    total += j
                total -= 1
        for k in range(4):
            total += k
    """).run()
    assert program.turns(2) == Turns(1, 3, (Way(2, (3, 4, 5, 6)), Way(1, (3,))))
    assert program.turns(4) is program.outcomes("For", 4) is program.outcomes("For", 7) is None


def test_a_million_decisions_are_kept_and_a_slow_stream_is_given_more_time(recorded: Any) -> None:
    recorder = recorded("for i in range(3): abs(i)").recorder
    (stream,) = recorder.streams.values()
    for second in range(3):
        stream.data.extend(bytes(1_300_000))
        recorder.look(recorder._begun + 1 + 30 * second)
    assert not stream.is_dropped
    stream.data.extend(bytes(1_300_000))
    recorder.look(recorder._begun + 1000)
    assert stream.is_dropped  # for its size


def test_all_streams_together_have_a_limit(recorded: Any) -> None:
    program = recorded("".join(f"def f{n}():\n    if 1: pass\n" for n in range(6)))
    for stream in program.recorder.streams.values():
        stream.data.extend(bytes(4_000_000))
    program.recorder.look(program.recorder._begun + 10_000)
    assert sum(not each.is_dropped for each in program.recorder.streams.values()) == 4


def test_the_thread_is_known_as_ours_and_ends(recorded: Any) -> None:
    recorder = recorded("if 1: pass").recorder
    assert recorder._thread is None
    recorder._start()  # `install` would stay, for forks
    assert [each.name for each in threading.enumerate() if each is recorder._thread] == ["dartvc-paths"]
    recorder.close()
    assert recorder._thread is None


def test_nothing_is_recorded_of_a_program_that_cannot_decide(recorded: Any) -> None:
    program = recorded("print()")
    assert program.recorder.entry("/project", "run", {}, ()) == {}
    assert program.recorder._thread is None


def test_a_text_that_is_compiled_again_writes_to_the_same_stream(recorded: Any) -> None:
    program = recorded("for i in range(2): abs(i)").run()
    again = Recorded(program.text, program.recorder).run()
    assert again.turns(1) == Turns(2, 4, (Way(4, (1,)),))

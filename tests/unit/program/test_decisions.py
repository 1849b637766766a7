"""Programs with marks: they do what they did, and their streams say which way they went."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import textwrap
import traceback
import types
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dartvc.program.decisions import ScopePlace, find_scopes
from dartvc.program.instrument import ANNOUNCE, HAND, Compiler, switch_name
from dartvc.program.sources import Sources, iter_codes
from dartvc.program.tracebacks import CAUGHT
from dartvc.program.watched import BLOCK, LOOP

FILE = "program.py"
NUMBERS = count(1_000_000)

PROGRAMS = {
    "if, elif and else": """
        def kind(n):
            '''What it is.'''
            if n < 0: return "negative"
            elif n == 0:
                return "zero"
            else:
                if n > 9: return "large"
            return "small"
        print([kind(n) for n in (-1, 0, 5, 50)], kind.__doc__)
    """,
    "for, while, break, continue and else": """
        found = []
        for i in range(5):
            if i == 1: continue
            for j in range(3):
                if j == i: break
            else:
                found.append(("whole", i))
            while i > 2:
                i -= 1
                if i == 2: break
            else: found.append(i)
        else:
            found.append("end")
        for each in (): pass
        else: found.append("none")
        while found:
            if found.pop() == "none": break
        else:
            print("never")
        print(found)
    """,
    "try with else, finally and return": """
        log = []
        def f(n):
            try:
                if n == 0: return "returned"
                1 / (n - 1)
                [][n - 2]
            except ZeroDivisionError as error:
                log.append(str(error))
                return "zero"
            except IndexError: log.append("index")
            else:
                log.append("else")
            finally:
                log.append("finally")
            for _ in range(2):
                try: continue
                finally:
                    log.append("turn")
            return "through"
        print([f(n) for n in range(3)], log)
        def g():
            try:
                return 1
            finally:
                print("left")
        print(g())
    """,
    "match": """
        def f(v):
            match v:
                case 0 | 1: return "few"
                case [x, *rest] if rest: return x, rest
                case {"a": x}: return x
            match v:
                case str(): return "text"
                case _ if v is None: return "none"
            match v:
                case (3 as x) | x: return ("any", x)
        print([f(v) for v in (0, [1, 2], {"a": 4}, "s", None, 3, 7.5, [1])])
    """,
    "generators": """
        def numbers(n):
            for i in range(n):
                if i % 2:
                    got = yield i
                    while got:
                        got = yield -got
            try:
                yield from (x for x in "ab" if x)
            except GeneratorExit:
                print("closed")
                raise
        it = numbers(4)
        print(next(it), it.send(3), it.send(None), list(it))
        it = numbers(0); next(it); it.close()
    """,
    "async": """
        import asyncio
        class Steps:
            def __init__(self, n): self.n = n
            def __aiter__(self): return self
            async def __anext__(self):
                if not self.n: raise StopAsyncIteration
                self.n -= 1
                await asyncio.sleep(0)
                return self.n
        async def main():
            total = 0
            async for n in Steps(4):
                if n == 2: continue
                total += n
            else: total += 100
            async for n in Steps(2): break
            return total
        print(asyncio.run(main()))
    """,
    "class bodies, global and nonlocal": """
        flag = 1
        class A:
            "A class."
            if flag: x = 1
            else: x = 2
            for __i in range(2): y = __i
            def m(self):
                n = 0
                def inner():
                    nonlocal n
                    global flag
                    for k in range(3):
                        if k: n += k; flag += 1
                    class B:
                        z = 0
                        while z < 5: z += n
                    return B.z
                return inner(), n
        print(A().m(), flag, A.x, A.y, A.__doc__, sorted(k for k in vars(A) if "dvc" in k), sorted(k for k in globals() if "dvc_p" in k))
    """,
    "a docstring and the future": """
        "What it says."
        from __future__ import annotations
        for i in range(2):
            def f(x: Unknown) -> Unknown: return x
        print(__doc__, f.__annotations__)
    """,
    "groups of exceptions": """
        try:
            raise ExceptionGroup("g", [ValueError(1), TypeError(2)])
        except* ValueError as g: print(g.exceptions)
        except* TypeError: print("type")
        else: print("never")
    """,
    "what with swallows": """
        import contextlib
        def f(n):
            with contextlib.suppress(ValueError):
                if n: raise ValueError(n)
                print("whole")
            if n > 1: print("behind")
        for n in range(3): f(n)
    """,
    "loops that are blocks": """
        def work(values, scale, shift):
            total = 0
            for each in values:
                if each % 2: total += each * scale
                else:
                    while total > 10: total = total // 2
            return total + shift
        kept, i = [], 0
        for i in range(4):
            if i != 2:
                kept.append(work(list(range(6)), i, 1))
        print(kept, i)
    """,
    "a loop that raises": """
        def f(values):
            for each in values:
                try:
                    if each == 2:
                        raise KeyError(each)
                except IndexError: pass
        try: f(range(5))
        except KeyError as error:
            entry = error.__traceback__.tb_next
            print(repr(error), entry.tb_lineno)
        f.__code__.co_firstlineno and print(f.__code__.co_firstlineno)
    """,
}


class Marked:
    """A program that was compiled with marks, and its streams by the names of their scopes."""

    def __init__(self, text: str, *, is_off: bool = False, answers: bool = False) -> None:
        self.text = textwrap.dedent(text).strip() + "\n"
        self.streams: dict[str, bytearray] = {}
        self.places: dict[str, ScopePlace] = {}
        self.switches: list[str] = []
        self._is_off = is_off
        self._answers = answers
        self.compiler = Compiler(Sources(), self._next_switch, self._next_block, next_stream=self._next_stream)
        setattr(builtins, ANNOUNCE, lambda function: function)
        setattr(builtins, HAND, lambda function, *args, **kwargs: function(*args, **kwargs))
        setattr(builtins, CAUGHT, None)
        self.code = self.compiler.compile(FILE, self.text, is_script=True)

    def _next_switch(self, *_: object) -> int:
        number = next(NUMBERS)
        setattr(builtins, switch_name(number), None)
        self.switches.append(switch_name(number))
        return number

    def _next_block(self, name: str, filename: str, line: int, in_loop: bool) -> int:
        number = self._next_switch()
        if self._answers:
            setattr(builtins, switch_name(number), self._block if name or in_loop else self._loop)
        return number

    def _block(self, function: types.FunctionType, *given: object) -> Any:
        return function(*given)

    def _loop(self, function: types.FunctionType, names: tuple[str, ...], *given: object) -> None:
        namespace = function.__globals__
        del namespace[LOOP]
        namespace.update((name, value) for name, value in zip(names, function(*given), strict=True) if value != "\0unbound")

    def _next_stream(self, filename: str, text: str, place: ScopePlace) -> str:
        data = self.streams[place.qualname] = bytearray()
        self.places[place.qualname] = place
        name = f"__dvc_p{next(NUMBERS)}__"
        setattr(builtins, name, None if self._is_off else data.append if place.width == 1 else data.extend)
        self.switches.append(name)
        return name

    def run(self) -> str:
        """Runs it and returns what it prints."""
        return printed(self.code)

    def close(self) -> None:
        """Takes its builtins away."""
        for name in (*self.switches, ANNOUNCE, HAND, CAUGHT):
            if hasattr(builtins, name):
                delattr(builtins, name)


def printed(code: types.CodeType) -> str:
    """Returns what a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {"__name__": "program"})
    return out.getvalue()


@pytest.fixture
def marked() -> Iterator[Any]:
    made: list[Marked] = []

    def make(text: str, **kwargs: bool) -> Marked:
        made.append(Marked(text, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("answers", [False, True], ids=["blocks off", "blocks on"])
@pytest.mark.parametrize("is_off", [False, True], ids=["recorded", "dropped"])
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_marked_program_does_what_it_did(text: str, is_off: bool, answers: bool, marked: Any) -> None:
    program = marked(text, is_off=is_off, answers=answers)
    assert program.run() == printed(compile(program.text, FILE, "exec"))
    assert any(program.streams.values()) is not is_off


def test_each_pair_of_statement_and_outcome_has_its_own_number(marked: Any) -> None:
    program = marked("""
        for i in range(2):
            if i: pass
        try: [][i]
        except KeyError: pass
        except IndexError: pass
        match i:
            case 5: pass
        while i: i = abs(i) - 1
    """)
    program.run()
    assert list(program.streams["<module>"]) == [1, 2, 1, 3, 0, 6, 8, 10, 9]


def test_nested_functions_and_classes_have_streams_of_their_own(marked: Any) -> None:
    program = marked("""
        def f():
            def g():
                if 1: return 2
            for _ in range(2): g()
        class C:
            while 0: abs(1)
            def m(self):
                if 0: pass
        f(); C().m()
    """)
    program.run()
    assert {name: list(each) for name, each in program.streams.items()} == {
        "f": [1, 1, 0], "f.<locals>.g": [1, 1], "C": [0], "C.m": [0],
    }  # fmt: skip
    assert [each.is_local for each in program.places.values()] == [True, True, False, True]


def test_blocks_write_what_their_statements_wrote(marked: Any) -> None:
    text = PROGRAMS["loops that are blocks"]
    plain, cut = marked(text), marked(text, answers=True)
    assert plain.run() == cut.run()
    assert plain.streams == cut.streams
    assert len(plain.streams["work"]) > 20


def test_plain_code_bears_no_marks(marked: Any) -> None:
    program = marked(PROGRAMS["loops that are blocks"])
    codes = list(iter_codes(program.code))
    assert any(name.startswith("__dvc_p") for code in codes for name in code.co_names)
    blocks = [code for code in codes if BLOCK in code.co_qualname or LOOP in code.co_qualname]
    assert blocks
    assert not any(name.startswith("__dvc_p") for code in codes for name in program.compiler.plain(code).co_names)


def test_plain_code_is_the_same_with_marks_and_without(marked: Any) -> None:
    program = marked(PROGRAMS["loops that are blocks"], answers=True)
    bare = Compiler(Sources(), program._next_switch, program._next_block)
    unmarked = bare.compile(FILE, program.text, is_script=True)
    plain = {(code.co_qualname, code.co_firstlineno): bare.plain(code) for code in iter_codes(unmarked)}
    assert {(code.co_qualname, code.co_firstlineno): program.compiler.plain(code) for code in iter_codes(program.code)} == plain


def test_a_scope_with_many_outcomes_takes_two_bytes_each(marked: Any) -> None:
    text = "x = 0\nfor i in range(130):\n" + "".join(f"    if i == {n}: x += {n}\n" for n in range(130)) + "print(x)\n"
    program = marked(text)
    assert program.run() == f"{sum(range(130))}\n"
    assert program.places["<module>"].width == 2
    assert len(program.streams["<module>"]) == 2 * (130 + 130 * 130 + 1)


def test_a_statement_may_have_more_than_64_outcomes(marked: Any) -> None:
    cases = "".join(f"        case {n}: return {n}\n" for n in range(80))
    program = marked(f"def f(v):\n    match v:\n{cases}print(f(79), f(80), f(3))\n")
    assert program.run() == "79 None 3\n"
    assert list(program.streams["f"]) == [79, 80, 3]


def test_functions_that_something_compiles_are_left_alone() -> None:
    text = "def f():\n    if 1: pass\n@njit\ndef g():\n    if 1: pass\nh = numba.jit(f)\n@lru_cache(3)\ndef k():\n    if 1: pass\n"
    assert [(scope.place.qualname, scope.place.width) for scope in find_scopes(ast.parse(text), text)] == [("f", 0), ("g", 0), ("k", 1)]


def test_tracebacks_name_the_lines_of_the_source(marked: Any) -> None:
    text = """
        def f(values):
            for each in values:
                if each:
                    pass
                else:
                    each / 0
        f([1, 0])
    """
    program = marked(text)
    found = []
    for code in (program.code, compile(program.text, FILE, "exec")):
        with pytest.raises(ZeroDivisionError) as caught:
            exec(code, {})
        found.append([entry.lineno for entry in traceback.extract_tb(caught.value.__traceback__) if entry.filename == FILE])
    assert found[0] == found[1]


def test_a_program_with_every_statement_can_be_marked(marked: Any) -> None:
    text = Path(__file__).with_name("every_statement.txt").read_text(encoding="utf-8")
    program = marked(text)
    assert program.run() == printed(compile(program.text, FILE, "exec"))
    assert len(program.streams) > 3


def test_loops_that_decide_and_call_nothing_bear_no_marks(marked: Any) -> None:
    program = marked("""
        total = 0
        for i in range(3):
            for j in (1, 2):
                total += i * j
        while total > 4: total -= 1
        for i in range(3):
            if i: total += 1
        for i in range(2): total = abs(total)
        print(total)
    """)
    assert program.run() == "6\n"
    assert list(program.streams["<module>"]) == [7, 8, 7, 9, 7, 9, 6, 11, 11, 10]

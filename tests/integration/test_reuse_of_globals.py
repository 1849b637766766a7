"""Calls that bind globals, attributes of classes, modules and functions, and variables around them, under ``run --reuse``."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.integration.reused_scripts import HEAVY, plain_and_reused, sites

ANSWERED = {
    "a counter": """
        total = 0
        def work(k):
            global total
            total += k
            return burn(1_000_000)
        for turn in range(3):
            total = 5
            for k in (1, 2):
                print(turn, work(k), total)
    """,
    "a global that did not exist": """
        def work(k):
            global made
            burn(1_000_000)
            made = [k]
        for turn in range(4):
            work(3)
            made.append(turn)
            print(made)
            if turn == 1:
                del made
    """,
    "a list and a dict that are filled": """
        log, seen = [], {}
        def work(k):
            burn(1_000_000)
            log.append(k)
            seen[k] = seen.get(k, 0) + 1
        alias = log
        for turn in range(4):
            log.clear(); seen.clear()
            work(1); work(2)
            print(alias, log is alias, seen)
    """,
    "a global that becomes an argument": """
        last = None
        def work(rows):
            global last
            burn(1_000_000)
            last = rows
        for turn in range(3):
            mine = [turn % 2, 1]
            work(mine)
            print(last is mine, last)
    """,
    "attributes of a class": """
        class Model:
            made = 0
        def work(k):
            burn(1_000_000)
            Model.made += k
            Model.last = k
        for turn in range(3):
            Model.made = 0
            work(2)
            print(Model.made, Model.last)
            Model.last = -1
    """,
    "a variable of the function around it": """
        def make():
            n = 0
            def work(k):
                nonlocal n
                burn(1_000_000)
                n = n * 2 + k
                return n
            def reset():
                nonlocal n
                n = 0
            return work, reset, lambda: n
        work, reset, shown = make()
        for turn in range(4):
            work(1); work(2)
            print(shown())
            reset()
    """,
    "attributes of the function itself": """
        def work(k):
            burn(1_000_000)
            work.calls = k
        for turn in range(3):
            work(turn % 2)
            print(work.calls)
            work.calls = None
    """,
    "an attribute of a module of the program": """
        import settings
        def work(k):
            burn(1_000_000)
            settings.level = k
            settings.fresh = k + 1
        for turn in range(4):
            work(turn % 2)
            print(settings.level, settings.fresh)
            settings.level = 9
    """,
    "a global array": """
        import numpy as np
        table = np.zeros(5)
        def work(k):
            burn(1_000_000)
            table[k] += 1.0
        for turn in range(4):
            work(2)
            print(table.tolist())
            table[:] = 0
    """,
    "a global that is taken away": """
        def work():
            global gone
            burn(1_000_000)
            del gone
        for turn in range(4):
            gone = 1
            work()
            print("gone" in globals())
    """,
}
TRAPS = {
    "the same value bound again": """
        flag = 1
        def work(k):
            global flag
            burn(1_000_000)
            flag = k
        work(1)
        flag = 2
        work(1)
        print(flag)
        import settings
        def other(k):
            burn(1_000_000)
            settings.level = k
        other(0); settings.level = 3; other(0)
        print(settings.level)
    """,
    "bound on some ways only": """
        best = 0
        def work(k):
            global best
            burn(1_000_000)
            if k > best:
                best = k
        for k in (3, 1, 3, 5, 1, 3):
            work(k)
            print(best)
            if k == 5:
                best = 2
    """,
    "an attribute of a library": """
        import json
        def work(k):
            burn(1_000_000)
            json.mark = k
        for k in (1, 2, 1):
            work(k)
            print(json.mark)
    """,
    "an attribute by a name that is computed": """
        import settings
        class Model: pass
        def work(k):
            burn(1_000_000)
            setattr(settings, "l" + "evel", k)
            setattr(Model, f"a{k}", k)
        for k in (1, 2, 1):
            work(k)
            print(settings.level, sorted(name for name in vars(Model) if name[0] == "a"))
    """,
    "a function that is exchanged": """
        def inner(): return 1
        def work(k):
            global inner
            burn(1_000_000)
            inner = (lambda: 10) if k else (lambda: 20)
            return k
        for k in (1, 0, 1):
            work(k)
            print(inner())
    """,
    "through another name of the class and the module": """
        import settings
        class Model:
            made = 0
            @classmethod
            def work(cls, k):
                burn(1_000_000)
                cls.made += k
                where = settings
                where.level = k
        for k in (1, 2, 1):
            Model.work(k)
            print(Model.made, settings.level)
            Model.made = 0
    """,
    "a set and a deque": """
        from collections import deque
        names, queue = set(), deque()
        def work(k):
            burn(1_000_000)
            names.add(k)
            queue.append(k)
        for k in (1, 2, 1):
            work(k)
            print(sorted(names), list(queue))
    """,
    "calls in calls": """
        total, inner_calls = 0, 0
        def inner(k):
            global inner_calls
            inner_calls += 1
            return burn(500_000) % 7 + k
        def work(k):
            global total
            total += inner(k)
            return total
        for k in (1, 2, 1, 2):
            print(work(k), total, inner_calls)
            total = 0
    """,
    "an object behind a global": """
        class Box:
            def __init__(self): self.items = []
        box = Box()
        def work(k):
            burn(1_000_000)
            box.items.append(k)
            box.last = k
        for k in (1, 2, 1):
            work(k)
            print(box.items, box.last)
            box.items = []
    """,
    "an exception in the middle": """
        total = 0
        def work(k):
            global total
            total += k
            burn(1_000_000)
            if k == 2: raise ValueError(k)
        for k in (1, 2, 1, 2):
            try: work(k)
            except ValueError as error: print(error)
            print(total)
    """,
    "defaults of a function": """
        def inner(x=1): return x
        def work(k):
            burn(1_000_000)
            inner.__defaults__ = (k,)
        for k in (1, 2, 1):
            work(k)
            print(inner())
    """,
}


def written(folder: Path, text: str) -> str:
    """Writes the module that some of the programs have; returns a program."""
    (folder / "settings.py").write_text("level = 0\n")
    return HEAVY + textwrap.dedent(text)


@pytest.mark.parametrize("name", ANSWERED)
def test_what_a_call_bound_is_bound_again(name: str, tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, written(tmp_path, ANSWERED[name]))
    assert reused == [plain, plain]
    found = [facts["reused"] for site, facts in sites(tmp_path).items() if site.rpartition(".")[2] in ("work", "a loop")]
    assert sum(found) > 0


@pytest.mark.parametrize("name", TRAPS)
def test_output_is_plain_pythons_whatever_a_call_binds(name: str, tmp_path: Path) -> None:
    plain, reused = plain_and_reused(tmp_path, written(tmp_path, TRAPS[name]))
    assert reused == [plain, plain]


def test_text_that_went_into_another_stream_goes_there_again(tmp_path: Path) -> None:
    text = HEAVY + textwrap.dedent("""
        import contextlib, io, sys
        def work(k):
            print("made", k, burn(1_000_000))
            print("also", file=sys.stderr)
        for turn in range(3):
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                work(1)
            print(repr(out.getvalue()), repr(err.getvalue()), vars(out))
    """)
    plain, reused = plain_and_reused(tmp_path, text)
    assert reused == [plain, plain]
    assert sites(tmp_path)["work"]["reused"] > 0 or sites(tmp_path)["a loop"]["reused"] > 0

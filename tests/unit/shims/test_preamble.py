"""Python's collector while a script's imports run."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dartvc.program.sources import SourceUnit
from dartvc.shims.preamble import Preamble


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Makes a module ``a_library`` that calls something while it is imported."""
    (tmp_path / "a_library.py").write_text("import sys\nhalfway = sys.a_librarys_hook()\ndef use(what): return what\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda hook: monkeypatch.setattr(sys, "a_librarys_hook", hook, raising=False)
    sys.modules.pop("a_library", None)


def run(text: str, **names: Any) -> Preamble:
    unit = SourceUnit("script.py", text)
    preamble = Preamble(unit, lambda path: False)
    preamble.begin()
    exec(unit.code, {"look": preamble.look, **names})
    return preamble


def frozen_by(library: Callable[[Callable[[], None]], None], text: str, *, is_own: bool = False) -> tuple[int, tuple[int, ...]]:
    """Runs a script that imports the library; returns how many objects were frozen half way, and how often was collected then."""
    seen: list[tuple[int, tuple[int, ...]]] = []
    unit = SourceUnit("script.py", text)
    preamble = Preamble(unit, lambda path: is_own)

    def hook() -> None:
        before = gc.get_freeze_count()
        preamble.look()
        seen.append((gc.get_freeze_count() - before, gc.get_threshold()))

    library(hook)
    preamble.begin()
    exec(unit.code, {})
    return seen[0]


@pytest.mark.parametrize(
    "before",
    [
        "",
        '"""What it does."""\nfrom __future__ import annotations\nimport os, json as j\n',
        "import os\nos.environ['A_SETTING'] = '1'\nos.environ.setdefault('A_SETTING', '2')\nSEED = 3\n",
        "try:\n    import no_such_module_at_all\nexcept ImportError:\n    no_such_module_at_all = None\n",
    ],
)
def test_what_libraries_make_is_frozen_while_a_script_has_only_imported(before: str, library: Any) -> None:
    usual = gc.get_threshold()[0]
    frozen, (first, *_) = frozen_by(library, before + "import a_library\n")
    assert frozen > 0 and first > usual


@pytest.mark.parametrize("before", ["things = []\n", "f = open(__file__ if 0 else '/dev/null')\n", "def f(): pass\n", "for i in range(2): pass\n", "print([1])\n"])
def test_nothing_is_frozen_once_a_script_has_made_something(before: str, library: Any) -> None:
    usual = gc.get_threshold()[0]
    frozen, (first, *_) = frozen_by(library, before + "import a_library\n")
    assert frozen == 0
    assert first > usual  # but it is importing still


def test_nothing_is_frozen_beside_modules_of_the_users_own(library: Any) -> None:
    assert frozen_by(library, "import a_library\n", is_own=True)[0] == 0


def test_collections_are_as_frequent_as_before_when_the_imports_are_over() -> None:
    before = gc.get_threshold()
    seen: list[tuple[int, int, int]] = []
    run("import json\nthings = [json]\nlook()\nsee()", see=lambda: seen.append(gc.get_threshold()))
    assert seen == [before]


def test_what_the_program_says_of_collections_stands() -> None:
    run("import gc\ngc.set_threshold(123, 4, 5)\nlook()").end()
    assert gc.get_threshold() == (123, 4, 5)


def test_a_script_that_stands_between_two_lines_is_still_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = SourceUnit("script.py", "import os\nx = []\n")
    preamble = Preamble(unit, lambda path: False)
    frame = SimpleNamespace(f_code=unit.code, f_lineno=None, f_back=None)
    monkeypatch.setattr(sys, "_current_frames", lambda: {threading.main_thread().ident: frame})
    preamble.begin()
    rare = gc.get_threshold()
    preamble.look()
    assert gc.get_threshold() == rare
    frame.f_lineno = 2
    preamble.look()
    assert gc.get_threshold() != rare

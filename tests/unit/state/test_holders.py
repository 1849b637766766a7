"""What is changed through something that holds it elsewhere is found, and what holds nothing costs no look at everything."""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartvc.history import Repository
from dartvc.host.places import is_library_file
from dartvc.sessions import Session
from dartvc.state.candidates import touched_names
from dartvc.state.holders import leads_to_holder, waiting_tasks

REGISTRY = "kept = []\nKeeper = type('Keeper', (), {'step': lambda self: step()})\ndef register(x): kept.append(x)\ndef step(): kept[0].append(1)\n"
PLAIN = (
    "from __future__ import annotations\nimport enum, functools, logging, re\nfrom dataclasses import dataclass, field\nlog = logging.getLogger(__name__)\n"
    "SETTINGS = {'a': 1, 'b': [1, 2, ('x', None)]}\nWORD = re.compile('a')\nclass Color(enum.Enum):\n    RED = 1\n"
    "@dataclass\nclass Row:\n    x: int = 0\n    y: list = field(default_factory=list)\n    @property\n    def z(self): return self.x\n"
    "    @functools.cached_property\n    def w(self): return 1\n@functools.lru_cache\ndef work(x): return x\n"
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's modules; the only ones that are loaded."""
    for name in list(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and not is_library_file(file):  # the suite's own
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("registry", "plain"):
        sys.modules.pop(name, None)


class Cells:
    """A session that runs cells."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.init(folder, key_path=folder / "key")
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.session = Session(self.repository, self.names)

    def run(self, code: str) -> None:
        """Runs a cell."""
        self.session.begin_unit()
        exec(compile(code, "<cell>", "exec"), self.names)
        self.session.end_unit(code, source=code, execution=1, error="", duration_s=0.0)

    def run_for(self, code: str, name: str) -> object:
        """Runs a cell; returns what its commit holds under a name."""
        self.run(code)
        self.session.flush()
        head = self.session.head
        assert head is not None
        return self.session.load(head)[name]


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Cells]:
    """A session of its own."""
    (tmp_path / "project").mkdir()
    made = Cells(tmp_path / "project")
    yield made
    made.session.close()


@pytest.mark.parametrize("how", ["registry.step()", "step()", "keeper.step()"])
def test_what_a_module_of_the_user_holds_is_looked_at_when_code_names_the_module_or_what_comes_from_it(
    modules: Path, cells: Cells, how: str
) -> None:
    (modules / "registry.py").write_text(REGISTRY)
    cells.run("import registry\nfrom registry import step, Keeper\nrows = []\nregistry.register(rows)\nkeeper = Keeper()")
    cells.run("other = 1")
    assert cells.run_for(how, "rows") == [1]


def test_what_is_a_modules_own_and_a_name_here_is_looked_at(modules: Path, cells: Cells) -> None:
    (modules / "registry.py").write_text("seen = [1, 2]\ndef step(): seen.append(3)\n")
    cells.run("import registry\nfrom registry import seen")
    assert cells.run_for("registry.step()", "seen") == [1, 2, 3]


def test_modules_of_functions_classes_and_settings_hold_nothing(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_handlerList", [])  # pytest logs into buffers
    (modules / "plain.py").write_text(PLAIN)
    plain = importlib.import_module("plain")
    namespace: dict[str, object] = {"plain": plain, "row": plain.Row(), "work": plain.work, "x": [1]}
    assert touched_names({"plain", "row", "work"}, namespace, {}) == {"plain", "row", "work"}
    vars(plain)["model"] = io.BytesIO()
    assert touched_names({"plain"}, namespace, {}) is None


def test_a_buffer_that_is_logged_into_is_looked_at(cells: Cells) -> None:
    cells.run("import io, logging\nbuffer = io.StringIO()\nhandler = logging.StreamHandler(buffer)\nlog = logging.getLogger('of a test')\nlog.addHandler(handler)")
    try:
        found = cells.run_for("logging.getLogger('of a test').warning('hello')", "buffer")
    finally:
        logging.getLogger("of a test").handlers.clear()
    assert isinstance(found, io.StringIO) and found.getvalue() == "hello\n"


def test_the_figure_that_pyplot_draws_into_is_looked_at(cells: Cells) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    cells.run("import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()")
    try:
        assert len(cells.run_for("plt.plot([1, 2, 3])", "axes").lines) == 1  # type: ignore[attr-defined]
    finally:
        cells.run("plt.close('all')")
    assert touched_names({"plt", "plot"}, cells.names, {}) == {"plt", "plot"}


def test_what_a_waiting_task_holds_is_looked_at(cells: Cells) -> None:
    async def main() -> None:
        cells.run("import asyncio\nrows = []\nasync def feed(out):\n    for number in range(3):\n        out.append(number)\n        await asyncio.sleep(0)")
        cells.run("task = asyncio.create_task(feed(rows))")
        assert waiting_tasks(cells.names)
        await asyncio.sleep(0)
        assert cells.run_for("other = 1", "rows") == [0]
        while not cells.names["task"].done():  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        assert cells.run_for("other = 2", "rows") == [0, 1, 2]
        assert not waiting_tasks(cells.names)

    asyncio.run(main())


def test_a_handler_of_a_library_holds_nothing_of_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = type("TraceHandler", (logging.Handler,), {"__module__": "json.encoder"})()
    monkeypatch.setattr(logging, "_handlerList", [weakref.ref(theirs)])
    assert not leads_to_holder(logging.getLogger("of a test"), {})
    ours = type("TraceHandler", (logging.Handler,), {"__module__": "__main__"})()
    monkeypatch.setattr(logging, "_handlerList", [weakref.ref(theirs), weakref.ref(ours)])
    assert leads_to_holder(logging.getLogger("of a test"), {})

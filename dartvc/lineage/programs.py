"""The outermost level of reuse: a run is answered whole when nothing that it depends on has changed.

What such a run depends on is recorded like that of a call (`dartvc.lineage.observing`), under a key made of the script's text, its arguments and the environment: the
modules beside the script, the installed packages and the files that were read must be what they were, the files that were written must still be there, and the code
may mention nothing that gives another value each time. The end state is not stored anew: the commit at the end of the run that was executed has it.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
import sys
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from dartvc.errors import DartvcError
from dartvc.history import Repository
from dartvc.host.children import children_used, has_children
from dartvc.host.packages import distributions
from dartvc.lineage.codekeys import Refused
from dartvc.lineage.forbidden import forbidden_definition, forbidden_in_runs, forbidden_names
from dartvc.lineage.ground import facts_of_process
from dartvc.lineage.holdings import freeze
from dartvc.lineage.observing import Observation
from dartvc.lineage.seeding import Seeding
from dartvc.lineage.shelf import Shelf, Stored
from dartvc.lineage.sites import Site
from dartvc.lineage.witness import digest_of_file, digest_of_read
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.sessions.runs import Run
from dartvc.state.hooks import has_exits

if TYPE_CHECKING:
    from dartvc.lineage.reusing import Reuse

__all__ = ["Answer", "Program", "recall"]

_VERSION = 1
_WORTH_S = 0.02
_CLOCK_TICK_NS = 20_000_000
_HASHING_BYTES = 64 << 20
_HASHING_BYTES_PER_S = 3e7  # what is hashed at the end takes some 2 % of the run
_OF_THE_TERMINAL = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "PS1", "STY", "WINDOW", "WINDOWID", "XDG_SESSION_ID", "DBUS_SESSION_BUS_ADDRESS"})
_OF_TERMINALS = ("SSH_", "TMUX", "VTE_", "TERM_SESSION", "ITERM_", "KITTY_", "VSCODE_")
_OF_CALLS = frozenset(
    {
        "reads the command line",
        "reads the environment",
        "draws or shows something",
        "looks at its globals as a whole",
        "keeps results of its own",
        "computes in parallel",
        "changes settings of a library",
        "looks at the exception that is handled",
        "decides where modules are found",
    }
)
"""Reasons not to answer a call that do not speak against answering a run: these are part of its key, seen in what it does, or go with the process."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6}")
_READING_ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb", "expandvars", "expanduser", "home"})
_PAPERLIKE = frozenset({"agg", "pdf", "svg", "ps", "cairo", "template", "pgf"})
_DATED = (".pdf", ".svg", ".svgz", ".ps", ".eps", ".pgf")


class Answer(NamedTuple):
    """A run whose like is asked for.

    Attributes:
        oid: the commit at its end.
        run_id: which run it was.
        output: what it printed: stream and text.
        cost_s: how long it took.
        assembled: how many of its results were assembled from parts.
    """

    oid: Oid
    run_id: str
    output: Sequence[tuple[str, str]]
    cost_s: float
    assembled: int

    def site(self, run: Run) -> Site:
        """Returns what `dvc-state cache stats` tells of it."""
        site = _site_of(run)
        site.reused, site.saved_s, site.last = 1, self.cost_s, "hit"
        return site


def recall(repository: Repository, run: Run, text: str) -> Answer | None:
    """Returns an earlier run that this one would repeat; None when there is none, or something has changed since."""
    shelf = Shelf(repository, 0)
    stored = shelf.find(_key(run, text))
    if stored is None:
        return None
    facts = stored.facts
    try:
        if not _is_unchanged(facts):
            return None
        oid = repository.current_id(Oid(facts["commit"]))
        if not repository.is_sealed(oid):
            return None
        repository.names(oid)
    except (DartvcError, KeyError, TypeError, ValueError, OSError):
        return None
    return Answer(oid, facts["run"], [(stream, text) for stream, text in facts["output"]], facts["cost_s"], facts["assembled"])


def _site_of(run: Run) -> Site:
    """Returns the place of a whole run, which is one call."""
    site = Site(os.path.basename(run.script), run.script, 1)
    site.calls = 1
    return site


def _key(run: Run, text: str) -> bytes:
    facts = ("program", _VERSION, facts_of_process(), run.reuse, run.script, run.module, run.argv, sorted(run.arguments.items()))
    python = (sys.prefix, sys.path[1:], tuple(sys.flags))
    return xxh3_128_digest(repr((*facts, python, _environment(), _terminal(), text)).encode("utf-8", "surrogatepass"))


def _environment(*, is_of_terminal: bool = False) -> list[tuple[str, str]]:
    """Returns the environment without what differs from one terminal to the next, or that alone."""

    def differs(name: str) -> bool:
        return name in _OF_THE_TERMINAL or name.startswith(_OF_TERMINALS)

    return sorted((name, value) for name, value in os.environ.items() if differs(name) == is_of_terminal)


def _environment_of_terminal() -> str:
    return xxh3_128_hexdigest(repr(_environment(is_of_terminal=True)).encode("utf-8", "surrogatepass"))


def _terminal() -> object:
    """Returns what a program can see of where its output goes."""
    shown = [stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)]
    if not any(shown):
        return None
    import shutil

    return shown, shutil.get_terminal_size()


def _is_unchanged(facts: Mapping[str, Any]) -> bool:
    """Whether all that a run depended on is as it was: modules, packages and files."""
    return (
        facts["terminal"] in ("", _environment_of_terminal())
        and all(map(os.path.isdir, facts["folders"]))
        and all(_owns(folder, set(facts["names"])) == found for folder, found in facts["own"].items())
        and all(_packages_in(folder) == digest for folder, digest in facts["packages"].items())
        and all(digest_of_file(path) == digest for kind in ("modules", "files", "written") for path, digest in facts[kind].items())
    )


def _packages_in(folder: str) -> str:
    """Returns what stands for the packages that are installed in a folder, with their versions."""
    return xxh3_128_hexdigest("\n".join(sorted(distributions(folder))).encode("utf-8", "surrogatepass"))


def _owns(folder: str, names: set[str]) -> list[str]:
    """Returns what a folder of the program's has that could be imported by one of some names, found before or not."""
    try:
        return sorted(name for name in os.listdir(folder) if name.partition(".")[0] in names)
    except OSError:
        return []


class Program:
    """The program of a run with reuse, as one call.

    Args:
        reuse: that of the run.
        run: what is run.
        text: the script.
    """

    def __init__(self, reuse: Reuse, run: Run, text: str) -> None:
        self._reuse = reuse
        self._run = run
        self._key = _key(run, text)
        self._text = text
        self._facts: dict[str, Any] | None = None
        self._began_s, self._began_ns = time.perf_counter(), time.time_ns()
        self._terminal = _environment_of_terminal()
        self._reads_environment = False
        self._children_before = (0, 0.0)
        self._seen = Observation()
        self._missed = _Missed()
        self.seeding = Seeding(reuse.witness.streams, reuse.is_library)
        self.site = _site_of(run)

    def begin(self) -> None:
        """Begins to take note of what the program does."""
        self.seeding.install()
        sys.meta_path.append(self._missed)
        self._reuse.witness.note_seed = self.seeding.note_python
        self._children_before = children_used()
        self._began_s = time.perf_counter()
        self._reuse.witness.observation = self._seen

    def end(self, why_not: str) -> None:
        """Looks, when the program is over, whether its like can be answered.

        Args:
            why_not: what speaks against that, as far as its end tells; empty: nothing.
        """
        self._reuse.witness.observation = self._reuse.witness.note_seed = None
        self.site.executions, self.site.last = 1, "miss"
        self.site.cost_s = time.perf_counter() - self._began_s
        if why_not:
            self._seen.refuse(why_not)
        begin = time.perf_counter()
        try:
            self._facts = self._described()
        except Exception as reason:  # whatever the program has done to its modules and classes, it has run
            self.site.reason = str(reason) if isinstance(reason, Refused | OSError) else f"it cannot be described: {reason!r}"
        self.site.overhead_s = time.perf_counter() - begin

    def remember(self, oid: Oid, shelf: Shelf) -> None:
        """Stores what the run depended on; ``oid`` is the commit at its end."""
        if self._facts is None:
            return
        facts = {**self._facts, "commit": oid, "components": self.site.components}
        shelf.add(Stored(self._key.hex(), facts, freeze(None, {})))

    def _described(self) -> dict[str, Any]:
        """Returns the facts of the run.

        Raises:
            Refused: its like cannot be answered.
        """
        seen, witness = self._seen, self._reuse.witness
        with witness.looking_away():
            own = list(self._own_modules())
            objection = seen.refusal or self._objection(own)
            if objection or self.site.cost_s < _WORTH_S:
                raise Refused(objection or "it took next to no time")
            paths = {os.path.abspath(file) for name, module in own if name != "__main__" and isinstance(file := _file_of(module), str)}
            modules = {path: self._digest_of_module(path) for path in sorted(paths)}
            self._check_size([*seen.files, *seen.written])
            files = {path: "" if stamp == seen.ABSENT else digest_of_read(path, stamp) for path, stamp in seen.files.items()}
            written = {path: digest_of_file(path) for path in sorted(seen.written)}
        gone = next((path for path, digest in written.items() if not digest), None)
        if gone is not None:
            raise Refused(f"it writes {os.path.basename(gone)}, which is gone at its end")
        output = seen.output()
        if any(_ADDRESS.search(text) for _, text in output):
            raise Refused("it prints where objects lie in memory")
        names = {part for name in (*sys.modules, *self._missed.names) if isinstance(name, str) for part in name.split(".")} | {"__init__"}
        folders = sorted({folder for each in _search_path(own) if os.path.isdir(folder := os.path.abspath(each))})
        packages = {folder: _packages_in(folder) for folder in folders}
        self.site.components = list(self._components(modules, files, packages))
        self.site.note_miss()
        return {
            "name": self.site.name, "cost_s": self.site.cost_s, "run": self._run.run_id, "output": output, "assembled": self._reuse.approximate,
            "terminal": self._terminal if self._reads_environment else "", "modules": modules, "files": files, "written": written,
            "folders": sorted(seen.folders), "packages": packages,
            "names": sorted(names), "own": {folder: _owns(folder, names) for folder in folders if not self._reuse.is_library(os.path.join(folder, "x"))},
        }  # fmt: skip

    def _components(self, modules: Mapping[str, str], files: Mapping[str, str], packages: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        yield "the script", xxh3_128_hexdigest(self._text.encode("utf-8", "surrogatepass"))[:12]
        yield "its arguments or the environment", self._key.hex()[:12]
        for kind, found in (("module", modules), ("file", files), ("packages in", packages)):
            for name, digest in found.items():
                yield f"{kind} {os.path.basename(name)}", digest[:12]

    def _objection(self, own: Sequence[tuple[str, types.ModuleType]]) -> str:
        """Returns what speaks against answering a run like this, whose own modules are given; empty when nothing does."""
        if self._reuse.witness.has_other_threads():
            return "it leaves threads behind"
        if self._reuse.team.has_others or children_used() != self._children_before or has_children():
            return "it starts processes"
        if has_exits():
            return "it registers functions for its end"
        if not self.seeding.is_known():
            return "it draws random numbers that it has not seeded"
        if _draws_on_screen():
            return "it draws on a screen"
        dated = next((path for path in self._seen.written if path.endswith(_DATED)), None)
        if dated is not None:
            return f"it writes {os.path.basename(dated)}, in which the time stands"
        for name, module in own:
            reason = self._objection_to(vars(module), str(_file_of(module)))
            if reason:
                return f"{name} {reason}" if name != "__main__" else f"it {reason}"
        return ""

    def _objection_to(self, namespace: Mapping[str, Any], path: str) -> str:
        code, tree = self._parsed(path)
        if code is None:
            return ""  # compiled: known by its digest
        facts = self._reuse.plans.facts(code)
        self._reads_environment |= not _READING_ENVIRONMENT.isdisjoint((*facts.names, *facts.attributes))
        values = (namespace.get(name, getattr(builtins, name, None)) for name in facts.names)
        return (
            forbidden_in_runs(tree, (*facts.attributes, *facts.imports))
            or forbidden_names(facts.names, facts.attributes, facts.imports, _OF_CALLS)
            or next((reason for value in values if (reason := forbidden_definition(value, _OF_CALLS))), "")
        )

    def _parsed(self, path: str) -> tuple[types.CodeType | None, ast.AST]:
        """Returns the code and the tree of a source; no code when it is none."""
        unit = self._reuse.sources.find(path)
        if unit is not None:
            return unit.code, unit.tree
        if not path.endswith(".py"):
            return None, ast.Module([], [])
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
        return compile(tree, path, "exec", dont_inherit=True), tree

    def _own_modules(self) -> Iterator[tuple[str, types.ModuleType]]:
        """Yields the script, and the modules that it has imported of which no installed package brought the file, or which have none."""
        for name, module in list(sys.modules.items()):
            file = _file_of(module)
            is_namespace = file is None and isinstance(module, types.ModuleType) and hasattr(vars(module).get("__path__"), "_path")
            if name == "__main__" or is_namespace or (isinstance(file, str) and not self._reuse.is_library(file) and name.partition(".")[0] != "dartvc"):
                yield name, module

    def _digest_of_module(self, path: str) -> str:
        """Returns the digest of a source as it was when it was imported.

        Raises:
            Refused: it may have been another one.
        """
        if os.stat(path).st_mtime_ns > self._began_ns - _CLOCK_TICK_NS:
            raise Refused(f"{os.path.basename(path)} was changed while it ran")
        return digest_of_file(path)

    def _check_size(self, paths: Sequence[str]) -> None:
        size = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
        if size > max(_HASHING_BYTES, _HASHING_BYTES_PER_S * self.site.cost_s):
            raise Refused("it reads or writes so much that looking at it again would take long")


def _search_path(own: Iterable[tuple[str, types.ModuleType]]) -> Iterator[str]:
    """Yields the folders in which modules were looked for: those of ``sys.path``, and those of the program's packages."""
    yield from (each for each in sys.path if isinstance(each, str))
    for _, module in own:
        yield from (each for each in vars(module).get("__path__", ()) if isinstance(each, str))


def _file_of(module: object) -> object:
    return getattr(module, "__dict__", {}).get("__file__")


def _draws_on_screen() -> bool:
    """Whether matplotlib's figures are shown anywhere but in files."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return False
    backend = getattr(pyplot, "_backend_mod", pyplot)  # None before the first figure
    canvas = getattr(backend, "FigureCanvas", None)
    return backend is not None and getattr(canvas, "__module__", "").rpartition("backend_")[2] not in _PAPERLIKE


class _Missed:
    """The last finder: what nobody has found may be there when the program runs again."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> None:
        """Takes note of a module that is not there."""
        self.names.add(fullname)

"""One run with reuse: compiles the user's code so that its functions and operations are announced, and keeps account of what that saved."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dartvc.history import Repository
from dartvc.history.config import parse_size
from dartvc.host.places import library_folders
from dartvc.lineage.account import write_account
from dartvc.lineage.blocks import Block, Loop
from dartvc.lineage.calls import Calls
from dartvc.lineage.changes import may_write
from dartvc.lineage.codekeys import Plans
from dartvc.lineage.contents import Contents
from dartvc.lineage.decisions import PathRecorder
from dartvc.lineage.deferring import Deferral
from dartvc.lineage.eviction import policy_named
from dartvc.lineage.memory import Memory, available_bytes
from dartvc.lineage.operations import Operation
from dartvc.lineage.programs import Program
from dartvc.lineage.recollections import Recollections
from dartvc.lineage.recycling import Recycler, teach_allocator
from dartvc.lineage.rewrites import METHODS, Rewrites
from dartvc.lineage.shelf import Shelf
from dartvc.lineage.sites import Hook, Site, Switched
from dartvc.lineage.stacking import Stacking
from dartvc.lineage.witness import Witness
from dartvc.lineage.workers import Team, gather_abandoned
from dartvc.model import Oid
from dartvc.program.instrument import ANNOUNCE, HAND, Compiler, UserModules, switch_name
from dartvc.program.sources import Sources, UserFiles
from dartvc.program.tracebacks import CAUGHT
from dartvc.program.trampolines import make_trampoline
from dartvc.sessions.runs import Run

__all__ = ["Reuse"]

_LOCAL = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Reuse:
    """Reuse of work in one process.

    Args:
        repository: where results are kept across runs.
        sources: the source files of the process.
        namespace: the program's globals.
        folder: files under it are the user's own.
        script: the run's.
        member_of: where the processes of a run hand over their results, in one that another has started.
        stands_in: the working directory of a past run that this process executes again, elsewhere; nothing is stored then.
        is_partial: whether results may be assembled from parts, with other last bits.
        is_cell: of a shell: whether a file name is a cell's; functions of cells are watched in this process only, and it may be paused.
    """

    def __init__(
        self, repository: Repository, sources: Sources, namespace: dict[str, Any], folder: str, script: str, *,
        is_partial: bool = False, member_of: Path | None = None, stands_in: str = "", is_cell: Callable[[str], bool] | None = None,
    ) -> None:  # fmt: skip
        self.repository = repository
        self.sources = sources
        self.is_partial = is_partial
        self._namespace = namespace
        self._files = UserFiles(folder)
        self.folder = os.path.join(os.path.abspath(folder), "")
        paths = {*library_folders(), str(repository.path)}
        libraries = tuple(os.path.join(os.path.abspath(path), "") for path in paths if path and os.path.abspath(path) + "/" != self.folder)
        self._libraries = tuple(path for path in libraries if not self.folder.startswith(path)) or libraries
        self._is_cell = is_cell
        self.shown_file: Callable[[str], str] = os.path.basename
        self._paused = ""
        self.paths = PathRecorder(self.is_user, lambda: self.calls.look_around()) if member_of is None and not stands_in and is_cell is None else None
        next_stream = self.paths.next_stream if self.paths is not None else None
        self.compiler = Compiler(sources, self._next_operation, self._next_block, METHODS if is_partial else frozenset(), next_stream)
        self.plans = Plans(self.is_user, self.compiler.plain, self.compiler.hung)
        self.witness = Witness(self._libraries)
        config = repository.config
        policy = policy_named(config.get("dartvc.cachePolicy"))
        self.shelf = Shelf(repository, parse_size(config.get("dartvc.cacheSize")), policy)
        self.memory = Memory(parse_size(config.get("dartvc.cacheMemory"), available_bytes()), policy, self.shelf.pins)
        self.contents = Contents()
        self.contents.whole_of = Recollections(self.plans, self.contents).whole
        self.calls = Calls(
            self.plans, self.witness, self.memory, self.shelf, namespace, self.contents, stands_in=stands_in, is_partial=is_partial
        )
        self.recycler = Recycler(self.memory.budget_bytes // 2)
        self.rewrites = Rewrites(self.memory, self.calls.keys.digest_alone, self.contents, self.recycler.copy) if is_partial else None
        self.calls.rewrites = self.rewrites
        self.recycler.forgetters = [self.contents.forget, self.calls.heights.forget, *([self.rewrites.forget] if self.rewrites else [])]
        self.calls.holder.let_go = self.recycler.let_go
        self.deferral = Deferral(self.compiler.lendable, lambda: not self.witness.has_other_threads())
        self.sites: dict[types.CodeType, Site] = {}
        self.operations: list[Site] = []
        self._assembled_by_others = 0
        self._others: Sequence[Site] = ()
        self.calls.wake_others = self._wake
        self.witness.note_listener = lambda: self.pause("the program hears what the interpreter does, by an audit hook")
        self.program: Program | None = None
        self.team = Team(self, script, member_of)
        if member_of is not None or stands_in:
            self.shelf.begin_reading_only()

    def is_user(self, path: str) -> bool:
        """Whether a file is the user's own code."""
        if self._is_cell is not None and self._is_cell(path):
            return True
        return self._files.is_own(path) and not self.is_library(path)

    def install(self) -> None:
        """Begins to watch this process; stays until it ends."""
        teach_allocator()
        self.witness.install(is_shell=self._is_cell is not None)
        setattr(builtins, ANNOUNCE, self.announce)
        setattr(builtins, HAND, self.deferral.hand)
        setattr(builtins, CAUGHT, None)
        if self.paths is not None:
            self.paths.install()
        patches = self.team.install() if self._is_cell is None else {}
        patches["logging"] = self.witness.notices.adopt_logging
        if self.program is not None:
            patches["numpy.random"] = self.program.seeding.adopt_numpy
        UserModules(self.is_user, self.compiler, patches).install()
        if not self.shelf.is_reading_only:
            gather_abandoned(self.repository, self.shelf)

    def is_library(self, path: str) -> bool:
        """Whether a file belongs to Python or to an installed package."""
        return path.startswith(self._libraries)

    def observe(self, run: Run, text: str) -> None:
        """Begins to take note of what the whole program depends on and does, for runs that come."""
        self.program = Program(self, run, text)
        self.program.begin()

    def begin_in_the_middle(self) -> None:
        """Begins to watch a program that is continued: which way it took before is not known."""
        if self.paths is not None:
            self.paths.is_resumed = True
        self.install()

    def compile(self, filename: str, text: str) -> types.CodeType:
        """Returns the instrumented code of the script."""
        return self.compiler.compile(filename, text, is_script=True)

    def all_sites(self) -> list[Site]:
        """Returns every place that is watched, or was."""
        return [*self.sites.values(), *self.calls.library_sites, *self.operations]

    def announce(self, function: Any, *, is_guest: bool = False) -> Any:
        """Is called where a function is defined; returns the same function, which asks before it runs from now on."""
        if type(function) is not types.FunctionType or function.__code__.co_flags & _LOCAL or self._paused:
            return function
        code = function.__code__
        site = self.sites.get(code)
        if site is None:
            site = self.sites[code] = Site(code.co_qualname, code.co_filename, code.co_firstlineno, changes=may_write(code))
            try:
                site.template = make_trampoline(code)
            except (ValueError, SyntaxError) as error:
                site.turn_off(str(error))
        if not site.is_off and site.template is not None:
            hook = Hook(function, site, self.calls.invoke, is_guest=is_guest)
            if not site.is_off:
                self.plans.originals[function] = code
                hook.take()
        return function

    def adopt(self, function: types.FunctionType, *, is_guest: bool = False) -> bool:
        """Watches a function that came from elsewhere with the code that the user wrote; returns whether that is the present code."""
        code = function.__code__
        try:
            if self.is_user(code.co_filename) and not self.compiler.knows(code.co_filename):
                self._read(code.co_filename)
            watched = self.compiler.watched(code)
        except (OSError, SyntaxError, ValueError):
            return False
        if watched is None:
            return False
        function.__code__ = watched
        if self.compiler.is_announced(code):
            self.announce(function, is_guest=is_guest)
        return True

    def _read(self, filename: str) -> None:
        if self._is_cell is not None and self._is_cell(filename):
            text = "".join(linecache.getlines(filename))
            self.compiler.transform(filename, text, ast.parse(text))
        else:
            self.compiler.compile(filename, Path(filename).read_text(encoding="utf-8"))

    def pause(self, reason: str = "reuse is off") -> None:
        """Gives all functions and operations their plain code back; see `go_on`."""
        self._paused = reason
        for site in self.all_sites():
            if not site.is_off:
                site.rest(reason)

    def go_on(self) -> None:
        """Watches again what `pause` let rest."""
        self._paused = ""
        for site in self.all_sites():
            if site.is_resting:
                site.begin_again()
        self.adopt_all(self._namespace)

    def adopt_all(self, namespace: dict[str, Any]) -> None:
        """Watches the functions of a restored namespace, and those of its classes."""
        for value in list(namespace.values()):
            for each in vars(value).values() if isinstance(value, type) else (value,):
                if type(each) is types.FunctionType and each not in self.plans.originals:
                    self.adopt(each)

    def _wake(self, elapsed_s: float) -> None:
        """Tries resting sites again."""
        if self._paused:
            return
        for site in (*self.sites.values(), *self.operations):
            site.wake(elapsed_s)

    def _next_operation(self, name: str, filename: str, line: int, reads: frozenset[str] | None) -> int:
        number = len(self.operations)
        site = Site(name, filename, line)
        stacking = Stacking(self.recycler, self.rewrites, self.deferral, reads)
        return self._add_switched(number, Operation(site, switch_name(number), self.calls, stacking, self.rewrites))

    def _next_block(self, name: str, filename: str, line: int, in_loop: bool) -> int:
        number = len(self.operations)
        switch = switch_name(number)
        is_part = in_loop or bool(name)
        site = (
            Site(f"a part of {name or 'a loop'}", filename, line, is_part=True)
            if is_part
            else Site("a loop", filename, line, is_loop=True, changes=True)
        )
        return self._add_switched(number, Block(site, switch, self.calls, in_loop=in_loop) if is_part else Loop(site, switch, self.calls))

    def _add_switched(self, number: int, what: Switched) -> int:
        """Puts what answers behind its switch, and returns the switch's number."""
        self.operations.append(what.site)
        setattr(builtins, switch_name(number), what)
        if self._paused:
            what.site.rest(self._paused)
        return number

    def _give_back(self) -> None:
        """Gives every function the code that the user wrote: what is committed now has nothing of this run in it."""
        for function, code in self.plans.originals.items():
            function.__code__ = self.compiler.plain(code)
        classes = [each for each in self._namespace.values() if isinstance(each, type)]
        for value in (*self._namespace.values(), *(each for cls in classes for each in vars(cls).values())):
            if type(value) is types.FunctionType and value not in self.plans.originals:
                code = self.compiler.plain(value.__code__)
                if code.co_freevars == value.__code__.co_freevars:
                    value.__code__ = code

    @property
    def approximate(self) -> int:
        """How many results were assembled from parts: with none, all values are what plain Python would have computed."""
        return self.calls.assembled + self._assembled_by_others

    def recorded_paths(self, run: Run) -> dict[str, tuple[object, dict[str, object]]]:
        """Returns what the last commit of a run records of the way that it took through its code, as an entry of its process."""
        if self.paths is None:
            return {}
        recalled = [each for each in self.all_sites() if each.is_recalled]
        facts = {"has_children": self.team.has_others, "has_answers": bool(recalled)}
        return self.paths.entry(run.project, run.run_id, facts, [(each.file, each.line) for each in recalled if each.is_loop])

    def close(self) -> None:
        """Ends it and writes what waits."""
        self.leave()
        self.finish()

    def leave(self) -> None:
        """Lets the program's code be what the user wrote; what waits begins to be written, and `finish` waits for it."""
        if self.paths is not None:
            self.paths.close()
        self._give_back()
        self.calls.close()
        others = self.team.close()
        self._assembled_by_others = sum(each.assembled for each in others)
        self._others = others
        self.shelf.hurry()
        self.contents.close()
        self.witness.close()

    def finish(self, oid: Oid | None = None) -> None:
        """Writes the account of this run; in a forked child nothing.

        Args:
            oid: the commit at the end of the run, if there is one: the run is remembered.
        """
        if self.program is not None and oid is not None:
            self.program.remember(oid, self.shelf)
        self.shelf.close()
        if not self.team.is_member:
            self.write_account(self._others)

    def write_account(self, others: Sequence[Site] = (), session_id: str = "") -> None:
        """Writes what `dvc-state cache stats` tells.

        Args:
            others: what other processes of the run have counted.
            session_id: of the session that goes on, and with it what is in memory; empty: it ends.
        """
        whole = [self.program.site] if self.program is not None else []
        sites = [*whole, *self.sites.values(), *self.calls.library_sites, *(each for each in self.operations if each.calls), *others]
        facts = {
            "saved_s": round(max(self.calls.saved_s, 0.0) + sum(each.saved_s for each in self.operations if each.partial), 6),
            "overhead_s": round(self.calls.overhead_s, 6),
            "session": session_id,
            "results_in_memory": len(self.memory),
            "bytes_in_memory": self.memory.size_bytes,
            "evicted": self.memory.evicted,
            "spilled": self.calls.storing.spilled,
            "problem": self.shelf.problem,
        }
        try:
            write_account(self.repository.path, sites, facts, self.shown_file)
        except OSError as error:
            print(f"dartvc: the account of reuse was not written: {error}", file=sys.stderr)

"""Log statements executed in the states that commits at the head of a loop hold, in this process, one commit after the other.

The frames of a commit are put before the statement, as they stood there in the same iteration: nothing else of the program is executed.
A statement that changes what it reads, that draws random numbers or opens files of the project gives no value here.
"""

from __future__ import annotations

import ast
import builtins
import gc
import linecache
import operator
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dartvc.hindsight.contexts import LoopReader
from dartvc.hindsight.recording import Capture, capture_records
from dartvc.hindsight.replay.jobs import UNFIT, Head, Heads, Job
from dartvc.hindsight.replay.jumps import Definitions, Jump, Snapshot, find_jump, identifiers, may_order_by_hash, why_not
from dartvc.hindsight.replay.places import PatchedFile, boundary_of
from dartvc.hindsight.replay.scratch import guard_folder
from dartvc.model import Oid
from dartvc.program.capture import CapturedFrame, Reader
from dartvc.program.generators import frame_at
from dartvc.program.places import NotResumable
from dartvc.program.resuming import Resumption
from dartvc.program.sources import MODULE_SCOPE, Sources
from dartvc.sessions.recorded import LoadedRun, load_run, read_modules
from dartvc.sessions.relocation import follow_process
from dartvc.sessions.traces import frame_prefixes
from dartvc.shims.replaying import PatchedGenerators, Replayer
from dartvc.state.chunking import digest_buffers
from dartvc.state.loading import Unloadable
from dartvc.state.process import ENTRIES
from dartvc.state.saving import Refusal, Saving, save

__all__ = ["Evaluator"]

_REACHED = "_dartvc_reached_"
_SMALL_BYTES = 1 << 16
_STREAMS = ("random", "numpy.random", "torch.random")
_HASHED_BY_VALUE = frozenset({int, float, complex, bool, type(None)})
_COUNTED: tuple[type, ...] = (type(iter(range(0))), type(iter(range(1 << 70))), type(iter([])), type(iter(())), type(iter("")))


class _Reached(BaseException):
    """The log statement is over."""


class _Unfit(Exception):
    """The state holds an order that another seed of str hashes would change."""


class _NoValue(Exception):
    """This commit does not hold the value; the text says why."""


class Evaluator(Replayer):
    """Executes log statements in commits."""

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__(job, folder)
        self._files = self.patched_files()
        jump = find_jump(self._files, job.names)
        assert jump is not None  # else nobody would ask
        self._jump: Jump = jump
        self._definitions = Definitions(each.new_unit.tree for each in self._files.values())
        self._wanted = identifiers(self._definitions.reached(jump.units))
        self._known: dict[Oid, dict[str, object]] = {}
        self._fingerprints: dict[object, object] = {}
        self._units = [self._unit(each, number) for number, each in enumerate(jump.units)]
        self._applied: object = None
        self._opened: list[str] = []
        self._is_salted_otherwise = os.environ.get("PYTHONHASHSEED") != job.hash_seed
        os.environ["PYTHONHASHSEED"] = job.hash_seed

    def execute(self) -> int:
        """Answers for all commits; returns 0, or that this process is not fit for the job."""
        if self._is_salted_otherwise and may_order_by_hash(self._definitions.reached(self._jump.units)):
            return UNFIT
        os.makedirs(self.run.cwd, exist_ok=True)
        os.chdir(self.run.cwd)
        setattr(builtins, _REACHED, _Reached)
        gc.freeze()  # what there is now is none of the program's
        capture_records(self.capture)
        guard_folder(self.job.repository, self.job.project, self.refused.append)
        sys.addaudithook(self._watch)
        heads = []
        for commit in self.job.heads:
            count = len(self.capture.pending)
            head = Head(commit)
            try:
                head = self._evaluate(Oid(commit))
                head = replace(head, records=len(self.capture.pending) - count)
            except (_NoValue, NotResumable, Unloadable, ImportError, ValueError, KeyError, AssertionError, OSError) as reason:
                del self.capture.pending[count:]
                head = replace(head, problem=f"{type(reason).__name__}: {reason}")
            except _Unfit:
                return UNFIT
            heads.append(head)
        Heads(tuple(heads)).write(self.folder)
        self.answer(0, "")
        return 0

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and not arguments[0].endswith((".py", ".pyc")):
            path = os.path.realpath(arguments[0])
            if path.startswith((self.job.repository + os.sep, self.job.project + os.sep)) and f"{os.sep}.dvc-state{os.sep}" not in path:
                self._opened.append(path)

    def _unit(self, unit: ast.stmt, number: int) -> tuple[ast.stmt, PatchedFile, Reader]:
        """Returns a statement with the file that ends behind it, and what compiles that."""
        stopped = self._files[self._jump.path].stopped_after(unit, f"raise {_REACHED}{' ' * number}")
        sources = Sources()
        for path, file in self._files.items():
            sources.put(stopped.new_unit if path == self._jump.path else file.new_unit)
        return unit, stopped, Reader(sources)

    def _evaluate(self, oid: Oid) -> Head:
        """Executes the statements in one commit.

        Raises:
            _NoValue: it does not hold the values, or not certainly.
            NotResumable: the patched program has no such place.
            Unloadable: a value cannot be made here.
        """
        self.oid = oid
        loaded = self._load(oid)
        described = [each.described() for each in loaded.frames]
        placed = [
            frame_at(self._files[each.filename].place(place), each.values, each.cells, each.stack)
            for each, place in zip(loaded.frames, described, strict=True)
        ]
        boundary = boundary_of(placed, self._files, self.namespace_of)
        innermost = placed[-1]
        prefix = "" if innermost.qualname == MODULE_SCOPE else frame_prefixes([each.qualname for each in placed])[-1]
        payloads = {name: entry.payload_oid for name, entry in self.repository.names(oid).items()}
        snapshot = Snapshot(payloads, loaded.values, prefix, innermost.module)
        for unit, stopped, reader in self._units:
            problem, reads = why_not(self._jump, unit, self._definitions, snapshot, self.namespace_of(innermost.module))
            if problem:
                raise _NoValue(problem)
            frames = [
                frame_at(self._file(each.filename, stopped).place(place), each.values, each.cells, each.stack)
                for each, place in zip(loaded.frames, described, strict=True)
            ]
            frames[-1] = stopped.standing_before(frames[-1], unit)
            self._watched_run(frames, stopped, reader, snapshot, reads)
        left = tuple(_left(item) for frame in placed for item in frame.stack)
        shown = tuple(replace(each, file=os.path.relpath(each.file, self.job.project)) for each in boundary)
        return Head(oid, shown, left)

    def _file(self, path: str, stopped: PatchedFile) -> PatchedFile:
        return stopped if path == self._jump.path else self._files[path]

    def _load(self, oid: Oid) -> LoadedRun:
        """Loads a commit into this process; what is loaded already and has not changed stays."""
        for name in read_modules(self.repository, oid):
            __import__(name)
        if self._is_salted_otherwise and _is_any_ordered_by_hash(gc.get_objects()):
            raise _Unfit
        gc.freeze()
        codec = PatchedGenerators(Reader(self.sources), self._files)
        names = self.main.__dict__
        for name in [each for each in names if not each.startswith("__")]:
            del names[name]
        loaded = load_run(self.repository, oid, self.run, names, codec, lambda *_: None, known=self._known, is_needed=self._is_needed)
        self.sources.supply({path: file.new_unit.text for path, file in self._files.items()})
        loaded.give_globals(names)
        self.rebind(self._files)
        if self._is_salted_otherwise and _is_any_ordered_by_hash(gc.get_objects()):  # without those that are frozen
            raise _Unfit
        modules = {each.filename: each.module for each in loaded.frames}
        for path in dict.fromkeys((self.run.script, self._jump.path)):
            setup = compile(ast.Module(list(self._files[path].setup()), []), path, "exec")
            exec(setup, names if path == self.run.script else self.namespace_of(modules[path]))
        process = {name: entry.payload_oid for name, entry in self.repository.process(oid).items() if name in ENTRIES}
        settings = {name: payload for name, payload in process.items() if name not in _STREAMS}
        if settings != self._applied:
            if self._applied is not None:
                self._applied = settings
                raise _NoValue("settings of the process were changed in the iteration")
            self.apply()
            follow_process(self.repository, oid, self.run.relocation)
            self._applied = settings
        return loaded

    def _is_needed(self, names: Sequence[str], size_bytes: int) -> bool:
        words = {part for name in names for part in name.replace("()", "").split(".")}
        return size_bytes < _SMALL_BYTES or any("._." in name for name in names) or not words.isdisjoint(self._wanted)

    def _watched_run(
        self, frames: Sequence[CapturedFrame], stopped: PatchedFile, reader: Reader, snapshot: Snapshot, reads: frozenset[str]
    ) -> None:
        """Executes one statement; what it reads, the random streams and the project's files are the same afterwards."""
        groups: dict[object, dict[str, object]] = {}
        for name in reads:
            if name in snapshot.values and not snapshot.is_fixed(name):
                groups.setdefault(snapshot.group(name), {})[name] = snapshot.values[name]
        before = {key: self._fingerprints.get(key) or self._fingerprint(values) for key, values in groups.items()}
        streams = [ENTRIES[name].capture() for name in _STREAMS]
        self._opened.clear()
        text = stopped.new_unit.text
        linecache.cache[self._jump.path] = (len(text), None, text.splitlines(keepends=True), self._jump.path)
        capture: Capture = self.capture
        capture.reader = LoopReader()
        capture.context_of = capture.reader.context_of
        resumption = Resumption(frames, reader, lambda module, recorded: recorded, self.namespace_of)
        try:
            resumption.run()
        except _Reached:
            pass
        except BaseException as raised:
            raise _NoValue(f"the statement raised {type(raised).__name__}: {raised}") from None
        else:
            raise _NoValue("the statement was not reached")
        after = {key: self._fingerprint(values) for key, values in groups.items()}
        if after != before:
            raise _NoValue("the statement changes what it reads")
        self._fingerprints = {**self._fingerprints, **after}
        if [ENTRIES[name].capture() for name in _STREAMS] != streams:
            raise _NoValue("the statement draws random numbers")
        if self._opened:
            raise _NoValue(f"the statement opens {os.path.basename(self._opened[0])}")

    def _fingerprint(self, values: Mapping[str, object]) -> object:
        try:
            saved = save(dict(sorted(values.items())), Saving(self.main.__dict__, "__main__"))
        except Refusal as reason:
            raise _NoValue(f"what the statement reads cannot be compared: {reason}") from None
        return saved.stream, digest_buffers(saved.buffers)


def _is_any_ordered_by_hash(values: Iterable[object]) -> bool:
    """Whether one of all values in use is a set whose order follows from hashes that differ from process to process; constants of code are none."""
    functions: list[types.FunctionType] = []
    found: list[object] = []
    for each in values:
        kind = type(each)
        if kind is types.FunctionType:
            functions.append(each)  # type: ignore[arg-type]
        elif (kind is set or kind is frozenset) and not all(type(item) in _HASHED_BY_VALUE for item in each):  # type: ignore[attr-defined]
            found.append(each)
    constants = {id(constant) for each in functions for constant in _constants(each.__code__)} if found else set()
    return any(id(each) not in constants for each in found)


def _constants(code: types.CodeType) -> Iterator[object]:
    for each in code.co_consts:
        if type(each) is types.CodeType:
            yield from _constants(each)
        else:
            yield each


def _left(iterator: object) -> int:
    """Returns how many items an iterator still has; -1 when it does not tell."""
    if isinstance(iterator, enumerate):
        iterator = iterator.__reduce__()[1][0]
    return operator.length_hint(iterator, -1) if type(iterator) in _COUNTED else -1

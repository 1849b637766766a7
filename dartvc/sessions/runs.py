"""A run: one execution of a script, committed as it goes, continued after whatever ended it.

`RunRecorder` is called at safe points with the captured stack; it commits the globals of the script, those of the user's own modules and
the locals of every frame as one snapshot, with the position, the files written and the source. `dartvc.sessions.recorded` reads that back.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dartvc.host.children import has_children
from dartvc.model import CommitKind, Omission, Payload, Position, StagedName
from dartvc.model.records import NamedTuple
from dartvc.program.capture import CapturedFrame
from dartvc.program.effects import Effects, FileState
from dartvc.program.sources import UserFiles, module_text
from dartvc.sessions.files import ENTRY, FileLedger
from dartvc.sessions.outages import Outage
from dartvc.sessions.relocation import Relocation, relative_path
from dartvc.sessions.room import Room
from dartvc.sessions.session import Session
from dartvc.sessions.tally import Tally
from dartvc.sessions.traces import TRACEBACK, Trace, frame_prefixes
from dartvc.sessions.writer import Ticket
from dartvc.state.candidates import user_threads
from dartvc.state.chunking import match_stream
from dartvc.state.hooks import capture_hooks
from dartvc.state.saving import Saving, save

__all__ = [
    "EFFECTS",
    "Run",
    "RunRecorder",
    "frame_names",
    "run_entry",
    "run_facts",
    "run_here",
    "shown_frame",
]


EFFECTS = "effects"
_MUCH_BYTES = 32 * 1024 * 1024
_FEW_OBJECTS = 20_000
_NOTHING: Mapping[str, object] = {}


class Run(NamedTuple):
    """What a run is: recorded in each of its commits."""

    run_id: str
    script: str
    argv: tuple[str, ...]
    cwd: str
    module: str = ""
    hash_seed: str = ""
    arguments: Mapping[str, str] = MappingProxyType({})
    exit_code: int | None = None
    resumed_from: str = ""
    project: str = ""
    reuse: str = ""
    """``full`` or ``partial``: work already done is not done again."""
    is_atomic: bool = False
    """Its files and its branch change as a whole, or not at all."""
    moved_from: str = ""
    """Where the project was when the commit at hand was made; not recorded."""

    @property
    def folder(self) -> str:
        """Where the user's own modules lie: beside the script, or where the outermost package of a module does."""
        folder = os.path.dirname(self.script)
        for _ in range(self.module.count(".")):
            folder = os.path.dirname(folder)
        return folder

    @property
    def relocation(self) -> Relocation:
        """What leads from recorded paths to present ones."""
        return Relocation(self.moved_from, self.project)

    def described(self) -> dict[str, object]:
        """Returns it as JSON."""
        return {
            "type": "run",
            "id": self.run_id,
            "script": self.script,
            "argv": list(self.argv),
            "cwd": self.cwd,
            "module": self.module,
            "hash_seed": self.hash_seed,
            "arguments": dict(self.arguments),
            "exit_code": self.exit_code,
            "resumed_from": self.resumed_from,
            "project": self.project,
            "reuse": self.reuse,
            "atomic": self.is_atomic,
        }


def run_facts(facts: Mapping[str, Any]) -> Run:
    """Reads a run from its JSON."""
    return Run(
        run_id=str(facts["id"]),
        script=str(facts["script"]),
        argv=tuple(facts["argv"]),
        cwd=str(facts["cwd"]),
        module=str(facts.get("module", "")),
        hash_seed=str(facts.get("hash_seed", "")),
        reuse=str(facts.get("reuse", "")),
        is_atomic=bool(facts.get("atomic", False)),
        arguments=dict(facts.get("arguments", {})),
        exit_code=facts.get("exit_code"),
        resumed_from=str(facts.get("resumed_from", "")),
        project=str(facts.get("project", "")),
    )


def run_here(facts: Mapping[str, Any], root: str) -> Run:
    """Reads a run from its JSON, with its paths where the project is now."""
    run = run_facts(facts)
    moved = Relocation(run.project, root)
    argv = tuple(map(moved.path, run.argv))
    return run._replace(script=moved.path(run.script), cwd=moved.path(run.cwd), argv=argv, project=root, moved_from=run.project)


def frame_names(frames: Sequence[CapturedFrame]) -> dict[str, object]:
    """Returns what frames hold under names of the snapshot: ``main().model``, and hidden ones for cells and stack values."""
    names: dict[str, object] = {}
    for frame, prefix in zip(frames, _prefixes(frames), strict=True):
        for name, value in frame.values.items():
            names[f"{prefix}.{name}"] = value
        for name, cell in frame.cells.items():
            names[f"{prefix}._.cell.{name}"] = cell
            try:
                names[f"{prefix}.{name}"] = cell.cell_contents
            except ValueError:
                continue
        for index, value in enumerate(frame.stack):
            names[f"{prefix}._.{index}"] = value
        if frame.coroutine is not None:
            names[f"{prefix}._.coroutine"] = frame.coroutine
    return names


def _prefixes(frames: Sequence[CapturedFrame]) -> list[str]:
    return frame_prefixes([frame.qualname for frame in frames])


def shown_frame(frames: Sequence[CapturedFrame]) -> CapturedFrame:
    """Returns the frame that says where a program stands: the innermost, or the one that runs the event loop when every task waits."""
    own = [frame for frame in frames if not frame.module.startswith("asyncio.")]
    return own[-1] if own and frames[-1].module == "asyncio.base_events" else frames[-1]


def is_own_data(name: str, value: object, module: types.ModuleType) -> bool:
    """Whether a global of a user's module is data, not something that importing the module makes again."""
    if name.startswith("__") or isinstance(value, types.ModuleType):
        return False
    return not (isinstance(value, type | types.FunctionType) and getattr(value, "__module__", None) is not None)


class RunRecorder:
    """Commits one run.

    Args:
        session: whose namespace is the script's globals.
        run: what is being run.
        sources: the text of the script and of the user's modules, by path.
        effects: the files that the program writes.
    """

    def __init__(self, session: Session, run: Run, sources: dict[str, str], effects: Effects) -> None:
        self.session = session
        self.run = run._replace(is_atomic=effects.is_atomic)
        self.sources = sources
        self.effects = effects
        self.ledger = FileLedger(effects, run.project) if run.run_id else None
        self.further: dict[str, tuple[object, dict[str, object]]] = {}
        """Entries of the process's state that others have for the next commit: value and summary by name."""
        self._recorded: dict[str, object] = {}
        self._modules: dict[str, str] = {}
        self._looked_at: set[str] = set()
        self._user_modules: list[str] = []
        self._started_over = 0
        self.tally = Tally()
        self._last: Ticket | None = None
        self.last_stall_s = 0.0
        self._last_whole: tuple[Ticket | None, str, float] = (None, "", 0.0)
        self._committed_blocks: set[int] = set()
        self._blocks: set[int] = set()
        self._allocated = sys.getallocatedblocks()
        self.files = UserFiles(run.folder, run.project)
        self.room = Room(session.repository)
        self._outage = Outage(session)

    def user_modules(self) -> list[types.ModuleType]:
        """Returns the imported modules that are the user's own."""
        for name in sys.modules.keys() - self._looked_at:
            self._looked_at.add(name)
            path = getattr(sys.modules.get(name), "__dict__", _NOTHING).get("__file__")
            if isinstance(path, str) and self.files.is_own(path):
                self._user_modules.append(name)
        modules = [sys.modules[name] for name in self._user_modules if name in sys.modules]
        return [each for each in modules if vars(each) is not self.session.namespace and sys.modules.get(each.__name__) is each]

    def commit(
        self,
        frames: Sequence[CapturedFrame],
        message: str,
        kind: CommitKind,
        *,
        error: str = "",
        exit_code: int | None = None,
        trace: Trace | None = None,
    ) -> Ticket | None:
        """Commits the program's state; with frames, the commit can be resumed from, with a trace looked into, and with an exit code it is the last one."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue
        names = {**frame_names(trace.frames if trace is not None else frames), **self._module_names()}
        if frames:
            names.update(self._hooks())
        if exit_code is not None:
            self.run = self.run._replace(exit_code=exit_code)
        innermost = shown_frame(frames) if frames else None
        position = Position(self.shown_file(innermost.filename), innermost.line, innermost.qualname) if innermost else None
        places = [{**frame.described(), "shown": os.path.basename(self.shown_file(frame.filename))} for frame in frames]

        def process() -> list[StagedName]:
            if self.session.times_started_over != self._started_over:
                self._started_over = self.session.times_started_over
                self._recorded.clear()
                self.effects.forget()
            files = self._files()
            if exit_code is not None:
                self.effects.sync()
            so_far = self.tally.described(obstacle=_obstacle(self.session.working.omissions()) if frames else None)
            place: dict[str, object] = {"type": "position", "frames": places, "sequence": self.effects.sequence, "so_far": so_far}
            raised = [_entry(TRACEBACK, None, trace.described())] if trace is not None else []
            used = {ENTRY: (None, self.ledger.described(files, is_last=exit_code is not None))} if self.ledger is not None else {}
            return [*self._changed_entries({**used, **self.further}), *self._entries(place), *raised, *(_file_entry(state, self.run.project) for state in files)]

        ticket = self._last = self.session.commit_run(
            names,
            message,
            kind,
            code=self._code(),
            process=process,
            run=self.run.run_id,
            position=position,
            error=error,
            lends=exit_code is not None and _stands_still(),
        )
        self._committed_blocks = self._blocks
        self._allocated = sys.getallocatedblocks()
        report = self.session.last_report
        self.last_stall_s = report.stall_ms / 1e3
        obstacle = _obstacle(report.omissions) if frames else None
        self.tally.add(self.last_stall_s, ticket.size_bytes if ticket else 0, obstacle=obstacle)
        if obstacle == "":
            self._last_whole = ticket, message, time.monotonic()
        return ticket

    def report_failures(self) -> None:
        """Says once when commits begin to fail: the program goes on all the same."""
        error = self._outage.begun()
        if error is not None and self.run.run_id:  # a shell tells of its cells
            print(f"dartvc: nothing is being recorded: {error}", file=sys.stderr)

    def _module_names(self) -> dict[str, object]:
        names: dict[str, object] = {}
        for module in self.user_modules():
            self._add_source(module)
            names.update((f"{module.__name__}.{key}", value) for key, value in vars(module).items() if is_own_data(key, value, module))
        return names

    def unseen(self, frames: Sequence[CapturedFrame]) -> tuple[int, int]:
        """Returns how much of what the program holds it has got since it was committed, which the next commit has to walk, copy and write:
        the size of large memory, in bytes, and about how many objects."""
        from dartvc.state.extents import estimate_objects, large_blocks

        values = [*frame_names(frames).values(), *self.session.namespace.values(), *self._module_names().values()]
        blocks = large_blocks(values)
        self._blocks = set(blocks)
        more = sys.getallocatedblocks() - self._allocated
        objects = min(estimate_objects(values), more) if more > _FEW_OBJECTS else 0
        return sum(size for address, size in blocks.items() if address not in self._committed_blocks), objects

    @property
    def is_writing_much(self) -> bool:
        """Whether the last commit is large and still on its way: its copies are held, and those of another one would come on top."""
        return self._last is not None and self._last.size_bytes > _MUCH_BYTES and not self._last.durable.is_set()

    def standing(self) -> tuple[int, str]:
        """Returns how many commits can be resumed from, and a phrase about the newest one, and why none came since."""
        why = f" ({self.tally.why_not})" if self.tally.why_not else ""
        ticket, place, moment = self._last_whole
        if ticket is None:
            return 0, f"there is no commit to go on from, only the beginning{why}"
        name = f"{ticket.oid[:8]}, " if ticket.oid is not None else ""
        return self.tally.commits, f"the last commit is {name}{place}, {time.monotonic() - moment:.0f} s ago{why}"

    def shown_file(self, filename: str) -> str:
        """Returns what people call a file of the program."""
        return filename

    def _code(self) -> str:
        return self.sources.get(self.run.script, "")

    def _hooks(self) -> dict[str, object]:
        return capture_hooks(self._is_own_module)

    def _files(self) -> list[FileState]:
        return self.effects.stage()

    def _is_own_module(self, name: str) -> bool:
        module = sys.modules.get(name)
        return module is None or name == "__main__" or name in self._user_modules

    def unstorable(self, frames: Sequence[CapturedFrame]) -> dict[tuple[str, int], dict[str, type]]:
        """Returns, by (function, line) of those frames of which the last commit could not store something, what that is and its type."""
        omitted = [omission.name for omission in self.session.last_report.omissions]
        found: dict[tuple[str, int], dict[str, type]] = {}
        for frame, prefix in zip(frames, _prefixes(frames), strict=True):
            parts = [name.removeprefix(f"{prefix}.") for name in omitted if name.startswith(f"{prefix}.")]
            if parts and not frame.module.startswith("asyncio."):  # what an event loop holds changes with every pass
                found[frame.qualname, frame.line] = {part: type(frame.find(part)) for part in parts}
        return found

    def _add_source(self, module: types.ModuleType) -> None:
        path = str(module.__file__)
        self._modules[path] = module.__name__
        if path not in self.sources:
            self.sources[path] = text = module_text(module)
            self.session.process.note_code(text)

    def _entries(self, place: dict[str, object]) -> list[StagedName]:
        """Returns the run's entries of the process's state that changed: the run, the position, the sources."""
        wanted: dict[str, tuple[object, dict[str, object]]] = {"run": (None, self.run.described()), "position": (None, place)}
        wanted["order"] = (None, {"type": "order", "names": self.session.working.names()})
        if acts := self.effects.acts.total():
            wanted[EFFECTS] = (None, {"type": EFFECTS, "items": [act._asdict() for act in acts]})
        return self._changed_entries({**wanted, **self._source_entries()})

    def _source_entries(self) -> dict[str, tuple[object, dict[str, object]]]:
        wanted: dict[str, tuple[object, dict[str, object]]] = {}
        for path, text in self.sources.items():
            summary: dict[str, object] = {"type": "source", "module": self._modules.get(path, "__main__"), "lines": text.count("\n")}
            wanted[f"source:{relative_path(path, self.run.project)}"] = (text, summary)
        return wanted

    def _changed_entries(self, wanted: Mapping[str, tuple[object, dict[str, object]]]) -> list[StagedName]:
        """Returns the entries that are not what they were in the commit before."""
        staged = []
        for name, (value, summary) in wanted.items():
            if self._recorded.get(name) != (value, summary):
                self._recorded[name] = (value, summary)
                staged.append(_entry(name, value, summary))
        return staged


def _stands_still() -> bool:
    """Whether nothing but this thread changes the memory of the program: no thread of its own, and no child that may share some."""
    if user_threads(frozenset({threading.get_ident(), threading.main_thread().ident or 0})):
        return False
    return hasattr(os, "waitid") and not has_children()


def _obstacle(omissions: Sequence[Omission]) -> str:
    """Returns why a commit cannot be resumed from, empty when it can: what it could not store, each reason once."""
    first_paths = {each.reason: each.path for each in reversed(omissions)}
    return "; ".join(f"{path}: {reason}" for reason, path in reversed(first_paths.items()))


def _entry(name: str, value: object, summary: Mapping[str, object]) -> StagedName:
    saved = save({name: value}, Saving({}, "__main__"))
    refs, _ = match_stream(saved.stream, ())
    return StagedName(name, summary, Payload((name,), refs))


def run_entry(run: Run) -> StagedName:
    """Returns the entry of the process's state that says what a run is."""
    return _entry("run", None, run.described())


def _file_entry(state: FileState, project: str) -> StagedName:
    summary = {"type": "file", "size": state.size, "content": state.content is not None}
    return _entry(f"file:{relative_path(state.path, project)}", (state.size, state.content), summary)

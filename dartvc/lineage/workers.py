"""The processes of one run share what they compute: forked ones, and those that joblib, multiprocessing and concurrent.futures start afresh.

A forked child has everything already and only begins its watch anew. A fresh interpreter gets, with the data that it is prepared by, a few lines
that attach it (`attach`): it imports the user's modules through the same compiler, and functions that come by value are watched
as they arrive. What a worker finds out goes through a `Handover`; at the end its results go to the repository and its account is added to the run's.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
import types
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartvc.history import Repository
from dartvc.host.entropy import new_id
from dartvc.lineage.account import row_of
from dartvc.lineage.claims import Claims
from dartvc.lineage.handover import Handover
from dartvc.lineage.pipelines import watch_pipelines
from dartvc.lineage.shelf import Shelf
from dartvc.lineage.sites import Site
from dartvc.program.sources import Sources
from dartvc.store.durable import is_abandoned

if TYPE_CHECKING:
    from dartvc.lineage.reusing import Reuse

__all__ = ["Team", "attach", "gather_abandoned"]

_FOLDER = "sharing"
_OWNER = "owner"
_PREPARING = ("multiprocessing.spawn", "joblib.externals.loky.backend.spawn", "loky.backend.spawn")
_PICKLING = "cloudpickle.cloudpickle"
_ADOPTED_LIMIT = 64
_ATTACHING = """
try:
    import sys
    sys.path.insert(0, {folder!r})
    try:
        from dartvc.lineage.workers import attach
    finally:
        sys.path.remove({folder!r})
    attach({given!r})
except Exception:
    pass
"""


class Team:
    """What one process of a run shares with the others.

    Args:
        reuse: this process's.
        script: the run's.
        folder: where results are handed over; None: of a run that begins here.

    Attributes:
        has_others: whether the program began to start processes that run its code.
    """

    def __init__(self, reuse: Reuse, script: str, folder: Path | None = None) -> None:
        self._reuse = reuse
        self._script = script
        self.is_member = folder is not None
        self.handover = Handover(folder or reuse.repository.path / _FOLDER / new_id(), reuse.repository.seals)
        self.has_others = False
        self._owner = -1
        self._adopted: deque[types.FunctionType] = deque()

    def install(self) -> dict[str, Callable[[types.ModuleType], None]]:
        """Begins to look out for processes that are started; returns what is to be changed in modules when they are imported."""
        os.register_at_fork(before=self.begin, after_in_child=self.enter_child)
        patches: dict[str, Callable[[types.ModuleType], None]] = dict.fromkeys(_PREPARING, self._prepare)
        if self.is_member:
            self.begin()
            self._report_as_worker()
            patches["sklearn.pipeline"] = lambda module: _ignore(watch_pipelines(self._reuse.calls))
            patches[_PICKLING] = self._receive
        return patches

    def begin(self) -> None:
        """From now on there may be others."""
        self.has_others = True
        calls = self._reuse.calls
        if calls.storing.handover is not None:
            return
        try:
            self.handover.folder.mkdir(parents=True, exist_ok=True)
            if not self.is_member:
                self._owner = os.open(self.handover.folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._owner, fcntl.LOCK_EX)
        except OSError:
            return
        calls.storing.handover = self.handover
        calls.flights.claims = Claims(self.handover.claims)

    def enter_child(self) -> None:
        """Makes a forked child a worker."""
        self.is_member = True
        reuse = self._reuse
        for each in (reuse.witness, reuse.memory, reuse.contents, reuse.recycler, reuse.calls):
            each.begin_anew()
        reuse.shelf.begin_reading_only()
        for site in reuse.all_sites():
            site.begin_anew()
        self.handover.begin_anew()
        self._report_as_worker()

    def _report_as_worker(self) -> None:
        calls = self._reuse.calls

        def report(site: Site) -> None:
            with self._reuse.witness.looking_away():
                self.handover.report({**row_of(site), "process": os.getpid(), "process_saved_s": calls.saved_s, "process_cpu_s": time.process_time()})

        calls.report = report

    # -- fresh interpreters ---------------------------------------------------------------------------------------------------

    def _prepare(self, module: types.ModuleType) -> None:
        """Lets a module of ``spawn`` hand over, with everything else, how a new process attaches itself."""
        plain: Any = getattr(module, "get_preparation_data", None)
        if plain is None:
            return

        def get_preparation_data(*args: Any, **kwargs: Any) -> dict[str, Any]:
            data: dict[str, Any] = plain(*args, **kwargs)
            self.begin()
            if self._reuse.calls.storing.handover is not None:
                data["dartvc"] = _Attachment(self._text())
            return data

        vars(module)["get_preparation_data"] = get_preparation_data

    def _text(self) -> str:
        reuse = self._reuse
        given = json.dumps(
            {
                "repository": str(reuse.repository.root), "script": self._script, "folder": reuse.folder, "is_partial": reuse.is_partial,
                "handover": str(self.handover.folder), "budget_bytes": reuse.memory.budget_bytes // max(os.cpu_count() or 1, 2),
            }
        )  # fmt: skip
        return _ATTACHING.format(folder=str(Path(__file__).resolve().parent.parent.parent), given=given)

    def run_main(self) -> None:
        """Compiles the script with its switches when `multiprocessing` runs it again, under another name, in this process."""
        import runpy

        plain: Any = getattr(runpy, "_get_code_from_file", None)
        if plain is None:
            return

        def get_code(*args: Any) -> Any:
            found, path = plain(*args), os.path.abspath(os.fsdecode(args[-1]))
            if path != self._script:
                return found
            code = self._reuse.compile(path, Path(path).read_text(encoding="utf-8"))
            return (code, *found[1:]) if isinstance(found, tuple) else code

        vars(runpy)["_get_code_from_file"] = get_code

    def _receive(self, module: types.ModuleType) -> None:
        """Watches functions that arrive by value."""
        plain: Any = getattr(module, "_function_setstate", None)
        if plain is None:
            return

        def set_state(function: Any, state: Any) -> None:
            plain(function, state)
            if type(function) is types.FunctionType:
                self._adopt(function)

        vars(module)["_function_setstate"] = set_state

    def _adopt(self, function: types.FunctionType) -> None:
        if self._reuse.adopt(function, is_guest=True):
            self._adopted.append(function)
            if len(self._adopted) > _ADOPTED_LIMIT:
                self._reuse.plans.forget(self._adopted.popleft())

    # -- the end --------------------------------------------------------------------------------------------------------------

    def close(self) -> list[Site]:
        """Takes what the workers left: their results to the repository, their accounts to this one; returns sites that only they had."""
        if self.is_member or self._reuse.calls.storing.handover is None:
            return []
        known = {(each.name, os.path.basename(each.file), each.line): each for each in self._reuse.all_sites()}
        others: list[Site] = []
        saved_s: dict[int, float] = {}
        cpu_s: dict[int, float] = {}
        for row in self.handover.iter_rows():
            place = row["name"], row["file"], row["line"]
            if place not in known:
                known[place] = Site(*place)
                others.append(known[place])
            known[place].add(row)
            saved_s[row["process"]] = max(saved_s.get(row["process"], 0.0), row["process_saved_s"])
            cpu_s[row["process"]] = max(cpu_s.get(row["process"], 0.0), row["process_cpu_s"])
        self._reuse.calls.saved_s += sum(saved_s.values())
        self._reuse.calls.storing.take_over(self.handover, sum(cpu_s.values()))
        self.handover.remove()
        return others


class _Attachment:
    """Is unpickled, before anything of the program, by running a few lines; without dartvc there they do nothing."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self._text, {})


def attach(given: str) -> None:
    """Makes this fresh process a worker of a run."""
    from dartvc.lineage.reusing import Reuse

    facts = json.loads(given)
    repository = Repository.open(Path(facts["repository"]), walk_up=False)
    namespace = vars(sys.modules["__main__"])
    reuse = Reuse(repository, Sources(), namespace, facts["folder"], facts["script"], is_partial=facts["is_partial"], member_of=Path(facts["handover"]))
    reuse.memory.limit(facts["budget_bytes"])
    reuse.install()
    reuse.team.run_main()


def gather_abandoned(repository: Repository, shelf: Shelf) -> None:
    """Takes over what the workers of runs that were killed had computed."""
    for folder in (repository.path / _FOLDER).glob("*"):
        if is_abandoned(folder / _OWNER):
            handover = Handover(folder, repository.seals)
            for stored in handover.iter_results():
                if not shelf.has(bytes.fromhex(stored.key)):
                    shelf.add(stored)
            handover.remove()


def _ignore(_: object) -> None:
    pass

"""A session: one namespace, one HEAD, one background writer."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from dartvc.errors import DartvcError, LockedError, NotFoundError, RefConflictError, UntrustedError
from dartvc.history import RefMove, Repository
from dartvc.history.environment import describe_environment
from dartvc.host.entropy import local_now, new_id
from dartvc.host.threads import Helper
from dartvc.model import CommitKind, CommitReport, LogSource, Oid, Position, RestoreReport, StagedCommit, StagedName
from dartvc.sessions.registry import Registration
from dartvc.sessions.units import Unit, operation_of, with_freshness
from dartvc.sessions.writer import BackgroundWriter, Ticket, run_refs
from dartvc.state.candidates import names_in_source, user_threads
from dartvc.state.holders import waiting_tasks
from dartvc.state.loading import Loading, load
from dartvc.state.process import ProcessState, apply_process, is_process_entry
from dartvc.state.working import StoredVersion, WorkingNamespace, describe
from dartvc.store import Head

__all__ = ["Session", "open_sessions"]

_OPEN: list[Session] = []


def open_sessions() -> Sequence[Session]:
    """Returns the sessions of this process, oldest first."""
    return tuple(_OPEN)


class Session:
    """A living namespace attached to a repository; implements `dartvc.model.Workspace`.

    Args:
        repository: where commits go.
        namespace: the living namespace.
        is_shared: whether commands of other processes may act on it (it gets a control socket).
    """

    def __init__(self, repository: Repository, namespace: dict[str, object], *, is_shared: bool = True) -> None:
        self.repository = repository
        self.namespace = namespace
        self.session_id = new_id()
        self.busy = threading.RLock()
        self._helper = Helper("dartvc-hash")
        self.working = WorkingNamespace(namespace, describe, self._helper)
        self.process = ProcessState(namespace)
        self._infrastructure = frozenset(thread.ident for thread in threading.enumerate() if thread.ident is not None)
        head = repository.database.refs.head()
        self._branch = head.ref.removeprefix("refs/heads/") if head.ref else None
        self._writer = BackgroundWriter(repository, self._publish, head.oid, lambda: self._branch)
        self._environment: Mapping[str, object] = {}
        self._environment_key: object = None
        self._is_fresh = True
        self._failures_seen: int | None = 0
        self._is_unit_open = False
        self._has_tasks = False
        self._is_inside_cell = False
        self._doubtful: set[Oid] = set()
        self.is_dirty = True
        self.last_report = CommitReport()
        self.times_started_over = 0
        self.left_branch = ""
        self.arguments: Mapping[str, str] = {}
        self.run_id = ""
        self.approximate = 0
        self.log_source: LogSource | None = None
        self.registration = Registration(repository.path, self.session_id) if is_shared else None
        self._pid = os.getpid()
        if is_shared:
            self._choose_branch()
            _OPEN.append(self)
            atexit.register(self.close)

    # -- Workspace ----------------------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Always: this is the living namespace."""
        return True

    @property
    def head(self) -> Oid | None:
        """The id of the last commit; it may not be durable yet (see `flush`)."""
        return self._writer.head()

    @property
    def branch(self) -> str | None:
        """The branch that commits go to, None when HEAD is detached."""
        return self._branch

    def flush(self) -> None:
        """Waits until every commit is durable.

        Raises:
            StorageError: the disk refused.
        """
        self._writer.flush()

    def checkpoint(self, message: str, kind: CommitKind = CommitKind.MANUAL, *, force: bool = False) -> Oid | None:
        """Commits what changed since HEAD, durably; None when nothing did (unless ``force``)."""
        with self.busy:
            if not force and self._is_fresh and not self.working.names():
                return None
            ticket = self._commit(Unit("", None if self.is_dirty else frozenset()), message, kind, force=force)
            self.flush()
        return ticket.oid if ticket is not None else None

    @property
    def failures(self) -> tuple[int, Exception | None]:
        """How often commits could not be written, and why the last time."""
        return self._writer.failures, self._writer.last_error

    def commit_async(self, message: str, kind: CommitKind) -> Ticket | None:
        """Commits in the background what changed since HEAD; the copy is taken when this returns."""
        with self.busy:
            return self._commit(Unit("", None), message, kind, force=True)

    def restore(
        self, oid: Oid, names: Sequence[str] | None = None, *, removed: Sequence[str] = (), trust: bool = False, map_device: str = ""
    ) -> RestoreReport:
        """Brings the namespace, or some names of it, to the state at a commit without moving HEAD; on an error nothing has changed.

        Raises:
            UntrustedError: the commit was made elsewhere.
            NotFoundError: one of ``names`` is not in it.
        """
        from dartvc.sessions.restoring import Restore, plan_restore, split_frames

        with self.busy:
            self.flush()
            repository = self.repository
            target = repository.names(oid)
            self._check(oid, target, names, trust)
            target, of_frames = split_frames(repository.commit(oid), target) if names is None else (target, ())
            head = self.head
            live = repository.names(head) if head is not None and not self._is_fresh else {}
            live = {name: entry for name, entry in live.items() if self.working.stored(name) is not None and name in self.namespace}
            plan = plan_restore({**dict.fromkeys(self.working.names(), _ABSENT), **live}, target, names, removed)
            restore = Restore(repository, self.working, plan, is_whole=names is None, map_device=map_device)
            restore.prepare()
            process = self._process_values(oid) if names is None else None
            report = restore.apply(process)
            if process is not None:
                self.working.replace_absent(of_frames)
                self.process.adopt(process)
                self._is_fresh = False
            return report

    def set_head(self, oid: Oid | None, branch: str | None, *, operation: str, description: str) -> None:
        """Moves HEAD to a branch's tip (moving the branch to ``oid``), or detached to ``oid``."""
        with self.busy:
            self.flush()
            before = Head(f"refs/heads/{self._branch}" if self._branch is not None else None, self.head)
            moves = []
            ref = None
            if branch is not None:
                ref = f"refs/heads/{branch}"
                present = self.repository.database.refs.read(ref)
                if present != oid:
                    moves.append(RefMove(ref, present, oid))
            self.repository.move_refs(
                moves,
                operation=operation,
                description=description,
                session=self.session_id,
                head=Head(ref, oid),
                head_before=None if self._owns_head() else before,
            )
            self.follow_head(oid, branch)

    def follow_head(self, oid: Oid | None, branch: str | None) -> None:
        """Takes note that HEAD was moved (by an undo); the next commit follows ``oid``."""
        with self.busy:
            self._branch = branch
            self._writer.rebase(oid)
            self.register()

    # -- units of execution -------------------------------------------------------------------------------------------------

    def begin_unit(self) -> None:
        """Marks that the program runs; commands from elsewhere wait until `end_unit`."""
        self.busy.acquire()
        self.is_dirty = self.is_dirty or self._is_unit_open  # the unit before was never committed: an interrupt came between
        self._is_unit_open = True

    def end_unit(
        self, code: str, *, source: str | None, execution: int | None, error: str, duration_s: float, quiet: bool = False
    ) -> Ticket | None:
        """Commits what one unit of code did, in the background.

        Args:
            code: what the user typed.
            source: what Python ran (magics transformed); None when unknown.
            execution: IPython's execution count.
            error: the exception that ended it, as one line.
            duration_s: how long it ran.
            quiet: no commit when nothing changed.
        """
        try:
            mentioned = names_in_source(source) if source is not None and not self.is_dirty else None
            had_tasks, self._has_tasks = self._has_tasks, waiting_tasks(self.namespace)
            if had_tasks or self._has_tasks or (mentioned is not None and user_threads(self._infrastructure)):
                mentioned = None
            unit = Unit(code, mentioned, execution, error, duration_s * 1e3, is_idle=source == "")
            kind = CommitKind.EXCEPTION if error else CommitKind.CELL
            ticket = self._commit(unit, "", kind, force=not quiet)
            self._is_unit_open = False
            return ticket
        finally:
            self.busy.release()

    def _commit(
        self,
        unit: Unit,
        message: str,
        kind: CommitKind,
        *,
        force: bool,
        process: Callable[[], Sequence[StagedName]] = tuple,
        run: str = "",
        position: Position | None = None,
    ) -> Ticket | None:
        if os.getpid() != self._pid:
            return None  # a forked child never commits to its parent's branch
        started = time.perf_counter()
        self._writer.wait_for_room()
        failures = self._writer.failures
        if failures != self._failures_seen:
            self._start_over()
            unit = unit._replace(mentioned=None)
        self._failures_seen = None  # until what is staged below is handed over: an interrupt may come between
        delta = self.working.stage(unit.mentioned)
        delta = delta.without_touched_omissions() if unit.is_idle else delta
        entries = (*self.process.stage(unit.code, with_new=force), *process())
        is_first = self._is_fresh
        if not (delta or entries or force):
            self._failures_seen = failures
            self.working.replace_absent(delta.removed)
            return None
        self._is_fresh = self.is_dirty = False
        now, offset = local_now()
        logs = self.log_source.cut() if self.log_source is not None else None
        staged = StagedCommit(
            message=message,
            kind=kind,
            time_s=now,
            utc_offset_min=offset,
            code=unit.code,
            changed=with_freshness(delta),
            added=delta.added,
            removed=delta.removed,
            process=entries,
            environment=self._described_environment(),
            execution=unit.execution,
            duration_ms=unit.duration_ms,
            stall_ms=(time.perf_counter() - started) * 1e3,
            error=unit.error,
            approximate=self.approximate,
            run=run,
            position=position,
            keep_names=not is_first,
            logs=logs,
        )
        size = sum(payload.new_bytes for payload in {id(n.payload): n.payload for n in (*delta.changed, *entries) if n.payload}.values())
        size += logs.size_bytes if logs is not None else 0
        self.last_report = CommitReport(delta.omissions, size, staged.stall_ms)
        ticket = self._writer.submit(staged, size, failures)
        self._failures_seen = failures
        if logs is not None and self.log_source is not None:
            self.log_source.handed_over(ticket)
        return ticket

    def _start_over(self) -> None:
        """Forgets what is stored, after a commit that failed or was interrupted: the next one stores all that the repository may lack."""
        self.working.forget(self.working.known())
        self.process.forget()
        self.times_started_over += 1
        self._is_fresh = True

    def commit_run(
        self,
        further: Mapping[str, object],
        message: str,
        kind: CommitKind,
        *,
        code: str,
        process: Callable[[], Sequence[StagedName]],
        run: str,
        position: Position | None,
        error: str = "",
        lends: bool = False,
    ) -> Ticket | None:
        """Commits a running program in the background: its globals and ``further`` names, everything looked at.

        Args:
            further: locals of its frames, globals of its modules.
            process: returns entries of the process's state beside the session's own; called when open files are flushed.
            lends: whether nothing changes before the commit is durable, so that nothing need be copied.
        """
        with self.busy, self.working.with_names(further), self.working.lending(lends):
            return self._commit(Unit(code, None, None, error), message, kind, force=True, process=process, run=run, position=position)

    def commit_staged(self, staged: StagedCommit) -> Ticket:
        """Commits in the background what was staged without looking at the namespace."""
        with self.busy:
            return self._writer.submit(staged, 0, self._writer.failures)

    def adopt_run(self, oid: Oid, versions: Sequence[StoredVersion], values: Mapping[str, object], cell_base: Oid | None = None) -> None:
        """Takes note that the program was loaded from a commit: what it holds is stored already.

        Args:
            oid: the commit; process state that it recorded is put back.
            versions: the co-variables that were loaded.
            values: all loaded values by name.
            cell_base: of a cell that goes on, the commit before it began.
        """
        if cell_base is not None:
            self._is_inside_cell, self._writer.recipe_base = True, cell_base
        with self.busy, self.working.with_names(values):
            for version in versions:
                self.working.adopt(version)
            process = self._process_values(oid)
            apply_process(process)
            self.process.adopt(process)
            self._is_fresh = False

    def _described_environment(self) -> Mapping[str, object]:
        self._environment = describe_environment(self.repository.root, self._environment)
        return self._environment

    # -- beginning and end --------------------------------------------------------------------------------------------------

    def restore_after_crash(self) -> RestoreReport | None:
        """Brings back HEAD's state when the last session did not end by itself, or when HEAD was moved while none was alive."""
        head = self.head
        if head is None or self.working.names() or self.registration is None or not self.registration.should_restore():
            return None
        report = self.restore(head)
        self.is_dirty = False
        return report

    def close(self) -> None:
        """Flushes, tells that this session ended by itself, and stops its threads."""
        if os.getpid() != self._pid or (self.registration is not None and self not in _OPEN):
            return
        _OPEN.remove(self) if self in _OPEN else None
        with suppress(DartvcError):
            self.flush()
        self._writer.close()
        self._helper.close()
        if self.registration is not None:
            self.registration.end()
        atexit.unregister(self.close)

    def serve(self, answer: Callable[[list[str], bool], tuple[int, str, str]]) -> None:
        """Lets commands of other processes act on this session; ``answer`` runs one command line."""
        if self.registration is not None:
            self.register()
            self.registration.serve(lambda argv, color: self._answer(answer, argv, color))

    def _answer(self, answer: Callable[[list[str], bool], tuple[int, str, str]], argv: list[str], color: bool) -> tuple[int, str, str]:
        if not self.busy.acquire(timeout=30):
            raise LockedError("the session is running a cell", kind="session-busy", hint="try again when it has ended")
        try:
            return answer(argv, color)
        finally:
            self.busy.release()

    # -- inside -------------------------------------------------------------------------------------------------------------

    def _choose_branch(self) -> None:
        """Takes a branch of its own when another living session commits to the present one."""
        assert self.registration is not None
        taken = {other.branch for other in self.registration.others()}
        if self._branch is not None and self._branch in taken:
            base, number = self._branch, 2
            refs = self.repository.database.refs
            while f"{base}-{number}" in taken or refs.read(f"refs/heads/{base}-{number}") is not None:
                number += 1
            self._branch = f"{base}-{number}"
        self.register()

    def register(self) -> None:
        """Tells other processes where this session stands."""
        if self.registration is not None:
            self.registration.write(self._branch, self.head if self._branch is None else None, self.run_id)

    def _owns_head(self) -> bool:
        """Whether this session's HEAD is the repository's: it is unless an older living session has it."""
        return self.registration is None or self.registration.is_oldest()

    def _publish(self, before: Oid | None, after: Oid, staged: Sequence[StagedCommit]) -> None:
        """Moves the branch past new commits (on the writer's thread); takes a new branch when somebody else moved ours."""
        if self._branch is None:
            self._branch = f"detached-{(before or after)[:8]}"
            self.register()
            before = None
        for _ in range(100):
            ref = f"refs/heads/{self._branch}"
            refs = self.repository.database.refs
            try:
                present = refs.read(ref)
                if present is not None and present != before and present not in self._doubtful:
                    raise RefConflictError(f"{ref} was moved", kind="ref-moved")
                with self.repository.database.lock(), self._taken_back(ref, present, after):
                    refs.move(ref, after, expected=present)
                    for tip in run_refs(staged):
                        refs.note(tip, after) if tip.startswith("refs/runs/") else refs.move(tip, after, expected=refs.read(tip))
                    if self._owns_head() and refs.head().ref != ref:
                        refs.set_head(ref)
                    self._log_commits(ref, present, after, staged)
                return
            except RefConflictError:
                self.left_branch = self.left_branch or self._branch
                self._branch = f"{self._branch.rstrip('0123456789').rstrip('-')}-{new_id(2)}"
                self.register()

    @contextmanager
    def _taken_back(self, ref: str, before: Oid | None, after: Oid) -> Iterator[None]:
        """Takes a move of the branch back when it fails halfway; if the disk refuses that too, the next commit replaces it."""
        try:
            yield
        except RefConflictError:
            raise
        except BaseException:
            self._doubtful.add(after)
            with suppress(DartvcError, OSError):
                self.repository.database.refs.move(ref, before, expected=after)
            raise

    def _log_commits(self, ref: str, before: Oid | None, after: Oid, staged: Sequence[StagedCommit]) -> None:
        """Records one operation for each commit, so that each can be undone by itself."""
        oids = [after]
        while len(oids) < len(staged):
            oids.append(self.repository.database.read_commit(oids[-1]).parents[0])
        head = Head(ref, before)
        if before is None and (parents := self.repository.database.read_commit(oids[-1]).parents):
            head = Head(None, parents[0])  # the branch begins here: HEAD was detached, or on the branch of another session
        for commit, oid in zip(staged, reversed(oids), strict=True):
            text = (commit.message or commit.code or commit.kind).strip().split("\n", 1)[0][:60]
            was_inside, self._is_inside_cell = self._is_inside_cell, commit.is_inside_cell
            self.repository.operations.append(
                [RefMove(ref, before, oid)],
                operation=operation_of(commit, was_inside=was_inside),
                description=text,
                session=self.session_id,
                head_before=head,
                head_after=Head(ref, oid),
            )
            before, head = oid, Head(ref, oid)

    def _check(self, oid: Oid, target: Mapping[str, object], names: Iterable[str] | None, trust: bool) -> None:
        if not trust and not self.repository.is_trusted(oid):
            raise UntrustedError(
                f"commit {oid[:8]} was made on another machine; restoring it would run its code",
                kind="untrusted",
                hint="repeat with --trust if you know its author",
            )
        for name in names or ():
            if name not in target:
                raise NotFoundError(f"{name!r} is not in {oid[:8]}", kind="unknown-name", hint=f"dvc-state show {oid[:8]}")

    def _process_values(self, oid: Oid) -> dict[str, Any]:
        """Loads the entries of the process's state; one that cannot be loaded stays as it is."""
        values: dict[str, Any] = {}
        target = self.repository.process(oid)
        head = self.head
        live = self.repository.process(head) if head is not None else {}
        for name, entry in target.items():
            if (
                not is_process_entry(name)
                or entry.payload_oid is None
                or (name in live and live[name].payload_oid == entry.payload_oid and not self.process.is_stale(name))
            ):
                continue
            payload = self.repository.payload(entry.payload_oid)
            values.update(load(payload.read_stream(), Loading(self.namespace, payload)))
        return values

    def load(self, oid: Oid, names: Sequence[str] | None = None, *, trust: bool = False, map_device: str = "") -> dict[str, object]:
        """Loads a commit's names into a new dict, to which its functions are bound."""
        from dartvc.sessions.restoring import load_names

        target = self.repository.names(oid)
        self._check(oid, target, names, trust)
        state: dict[str, object] = {}
        state.update(load_names(self.repository, target if names is None else {name: target[name] for name in names}, state, map_device))
        return state


_ABSENT: Any = type("_Absent", (), {"payload_oid": "", "recipe_oid": ""})()

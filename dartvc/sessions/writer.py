"""Commits in the background: in order, several to one barrier, with bounded memory.

The program's thread hands over a `StagedCommit` (plain bytes) and goes on. The writer's thread turns what has queued up into git
objects, writes them as one pack, moves the branch and only then acknowledges. An error is kept and raised to whoever waits next; the
program itself is never interrupted.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError, LockedError, NotFoundError, StorageError
from dartvc.host.threads import started
from dartvc.model import Oid, StagedCommit, StagedName
from dartvc.sessions.interrupts import InterruptsHeldBack

if TYPE_CHECKING:
    from dartvc.history import CommitWriter, Repository

__all__ = ["BackgroundWriter", "Ticket", "run_refs"]

PENDING_BYTES_LIMIT = 160 * 1024 * 1024
_RECIPE_STEPS_LIMIT = 50
_LOCK_TIMEOUT_S = 60.0
_TRIES = 5
_IDLE_S = 2.0
_BURST_S = 0.2
_GATHER_S = 0.2
_GATHER_BYTES = 1024 * 1024


class Ticket:
    """One commit on its way: ``written`` when its id is known, ``durable`` when it is acknowledged.

    Attributes:
        staged: the commit with all its bytes, until it is written or has failed.
    """

    def __init__(self, staged: StagedCommit, size_bytes: int, failures: int, hurry: Callable[[], None]) -> None:
        self.staged: StagedCommit | None = staged
        self.size_bytes = size_bytes
        self.failures = failures
        self.hurry = hurry
        self.oid: Oid | None = None
        self.error: Exception | None = None
        self.written = threading.Event()
        self.durable = threading.Event()

    def wait_written(self) -> None:
        """Waits until the commit's id is known, or it has failed."""
        self._wait(self.written)

    def wait_durable(self) -> None:
        """Waits until the commit is acknowledged, or has failed."""
        self._wait(self.durable)

    def _wait(self, event: threading.Event) -> None:
        if not event.is_set():
            self.hurry()
            event.wait()


class BackgroundWriter:
    """Writes commits of one session to one branch, in the order in which they were submitted.

    Args:
        repository: where to.
        publish: moves the session's HEAD from one commit to another, durably; called on the writer's thread.
        parent: the commit that the first one follows.
        branch: returns the branch that commits go to.
    """

    def __init__(
        self,
        repository: Repository,
        publish: Callable[[Oid | None, Oid, Sequence[StagedCommit]], None],
        parent: Oid | None,
        branch: Callable[[], str | None],
    ) -> None:
        self._repository = repository
        self._branch = branch
        self._publish = publish
        self._published = parent
        self._parent = parent
        self.recipe_base = parent
        """The commit that a piece of code started from: not one in the middle of it."""
        self._restored = parent
        """The commit that the namespace was last brought to."""
        self._commit_writer: CommitWriter | None = None
        self._queue: list[Ticket] = []
        self._pending_bytes = 0
        self._changed = threading.Condition()
        self._last: Ticket | None = None
        self._error: Exception | None = None
        self.last_error: Exception | None = None
        """Why writing failed the last time; None when it never did."""
        self._failures = 0
        self._pid = os.getpid()
        self._recipes: dict[str, list[dict[str, object]]] = {}
        self._thread: threading.Thread | None = None
        self._wrote_s = 0.0
        self._is_awaited = False
        self._closing = False

    @property
    def failures(self) -> int:
        """How often writing failed: a commit that was staged before the last time counts on what is not stored."""
        return self._failures

    def wait_for_room(self) -> None:
        """Blocks while more than `PENDING_BYTES_LIMIT` wait to be written; before a commit is staged, for its copies come on top of that."""
        if self._pending_bytes > PENDING_BYTES_LIMIT:
            with self._changed:
                while self._pending_bytes > PENDING_BYTES_LIMIT:
                    self._changed.wait()

    def submit(self, staged: StagedCommit, size_bytes: int, failures: int) -> Ticket:
        """Queues a commit; see `wait_for_room`.

        Args:
            staged: the commit.
            size_bytes: how much memory it holds.
            failures: what `failures` was before it was staged; the commit fails if that is not what it is when its turn comes.
        """
        ticket = Ticket(staged, size_bytes, failures, self._hurry)
        with InterruptsHeldBack(), self._changed:
            is_first, is_here = not self._queue, False
            self._queue.append(ticket)
            self._pending_bytes += size_bytes
            self._last = ticket
            if self._thread is None or not self._thread.is_alive():
                atexit.register(self._finish)
                self._thread = started(self._run, name="dartvc-writer")
                is_here = self._thread is None
            if is_first or self._pending_bytes > _GATHER_BYTES:
                self._changed.notify_all()
        if is_here:
            self._hurry()
            self._run()
        return ticket

    def head(self) -> Oid | None:
        """Returns the id of the last submitted commit, waiting until it is known (not until it is durable: a thinning at that moment changes it)."""
        last = self._last
        if last is None or os.getpid() != self._pid:
            return self._present(self._parent)
        last.wait_written()
        return self._present(last.oid if last.oid is not None else self._parent)

    def flush(self) -> None:
        """Waits until everything submitted is durable.

        Raises:
            StorageError: the disk refused; what was not written stays uncommitted.
        """
        if os.getpid() != self._pid:
            return  # a forked child has no writer: what was on its way is its parent's
        last = self._last
        if last is not None:
            last.wait_durable()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _hurry(self) -> None:
        with self._changed:
            self._is_awaited = bool(self._queue)  # what is not queued any more is being written
            self._changed.notify_all()

    def rebase(self, parent: Oid | None) -> None:
        """Makes the next commit follow another one (after a checkout); everything must be flushed before."""
        self.flush()
        self._parent = self._published = self.recipe_base = self._restored = parent
        self._last = None
        self._recipes.clear()
        self._commit_writer = None

    def close(self) -> None:
        """Flushes and ends the thread."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _finish(self) -> None:
        """Lets what is on its way arrive before the process ends; an error was kept for whoever waits, and nobody will."""
        with suppress(DartvcError, OSError, MemoryError):
            self.flush()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._queue and not self._closing and self._thread is not None:
                    self._changed.wait(_IDLE_S)
                if not self._queue:  # the next commit starts another one: a repository that is no longer used keeps no thread
                    self._thread = None
                    atexit.unregister(self._finish)
                    return
                self._gather()
                tickets, self._queue, self._is_awaited = self._queue, [], False
            self._write(tickets)
            self._wrote_s = time.monotonic()
            with self._changed:
                self._pending_bytes -= sum(ticket.size_bytes for ticket in tickets)
                self._changed.notify_all()
            self._repository.database.tidy()

    def _gather(self) -> None:
        """Lets commits in quick succession share a barrier, unless somebody waits for them; the first ones after a pause are written at once."""
        until_s = time.monotonic()
        if until_s - self._wrote_s < _BURST_S:
            until_s += _GATHER_S
        while not (self._is_awaited or self._closing or self._pending_bytes > _GATHER_BYTES):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            self._changed.wait(left_s)

    def _write(self, tickets: list[Ticket]) -> None:
        try:
            if any(ticket.failures != self._failures for ticket in tickets):
                raise StorageError("the commit before this one was not stored", kind="write-failed", hint="commit again")
            for _ in range(_TRIES):
                if self._store(tickets):
                    return
            raise LockedError("the repository is being cleaned up", kind="locked", hint="try again")
        except (DartvcError, OSError, MemoryError) as error:
            self._fail(tickets, error if isinstance(error, DartvcError) else StorageError(str(error), kind="write-failed"))
        except Exception as error:
            self._fail(tickets, error)
        finally:
            for ticket in tickets:
                ticket.staged = None  # a session keeps its last ticket
                ticket.written.set()
                ticket.durable.set()

    def _store(self, tickets: list[Ticket]) -> bool:
        """Writes commits and moves the branch past them; false when retention wrote their parent anew meanwhile, so that nothing was done."""
        recipes = dict(self._recipes)
        self._parent = self._published = self._present(self._published)
        self.recipe_base = self._present(self.recipe_base)
        if self._commit_writer is None:
            self._commit_writer = self._repository.writer()
        waiting = [(ticket, ticket.staged) for ticket in tickets if ticket.staged is not None]
        for ticket, commit in waiting:
            staged = self._with_recipes(commit)
            ticket.oid = self._parent = self._commit_writer.write(staged, (self._parent,) if self._parent else ())
            if not staged.is_inside_cell:
                self.recipe_base = self._parent
            ticket.written.set()
        with self._repository.database.lock(_LOCK_TIMEOUT_S):
            if self._present(self._published) != self._published:
                self._commit_writer.abandon()
                self._recipes = recipes
                return False
            self._commit_writer.publish()
            self._publish(self._published, self._parent or Oid(""), [commit for _, commit in waiting])
        self._published = self._parent
        return True

    def _present(self, oid: Oid | None) -> Oid | None:
        """Returns the id that a commit of this session has today: retention may have written it anew."""
        if oid is None:
            return None
        try:
            present = self._repository.current_id(oid)
        except NotFoundError:
            return oid
        branch = self._branch()
        if present != oid and branch is not None and self._repository.database.refs.read(f"refs/heads/{branch}") == oid:
            return oid  # it was killed before it moved the branch
        return present

    def _fail(self, tickets: list[Ticket], error: Exception) -> None:
        self._error = self.last_error = error
        self._failures += 1
        self._parent = self.recipe_base = self._restored = self._published
        self._commit_writer = None
        self._recipes.clear()
        for ticket in tickets:
            ticket.error = error
            ticket.oid = None

    def _with_recipes(self, staged: StagedCommit) -> StagedCommit:
        """Gives each omitted name its recipe: the code that made it and touched it since, each piece with the commit that it started from."""
        if not staged.is_inside_cell:
            self._recipes.update((name.name, []) for name in staged.changed if name.omission is None)
        if not any(name.omission is not None for name in staged.changed):
            return staged
        return staged._replace(changed=tuple(self._with_recipe(name, staged) for name in staged.changed))

    def _steps_of(self, name: str) -> Sequence[dict[str, object]]:
        """Returns the recipe that a name has: from this writer's commits, else from the one that the namespace was restored to."""
        if name not in self._recipes and self._restored is not None:
            entry = self._repository.names(self._present(self._restored) or self._restored).get(name)
            stored = self._repository.recipe(entry).get("steps") if entry is not None and entry.payload_oid is None else None
            self._recipes[name] = [dict(step) for step in stored] if isinstance(stored, list) else []
        return self._recipes.get(name, [])

    def _with_recipe(self, name: StagedName, staged: StagedCommit) -> StagedName:
        if name.omission is None:
            return name
        facts = name.recipe or {}
        made = facts.get("steps")  # brought back from another commit, by what that one knows of it
        steps = list(made) if isinstance(made, list) else [] if facts.get("fresh", True) else list(self._steps_of(name.name))
        if staged.code:
            steps.append({"base": self.recipe_base, "code": staged.code})
        if len(steps) > _RECIPE_STEPS_LIMIT or not (staged.code or isinstance(made, list)):
            steps = []
        if not staged.is_inside_cell:
            self._recipes[name.name] = steps
        omission = name.omission if steps else name.omission._replace(recomputable=False)
        recipe = {"reason": omission.reason, "path": omission.path, "remedy": omission.remedy, "steps": steps}
        return name._replace(omission=omission, recipe=recipe)


def run_refs(staged: Sequence[StagedCommit]) -> list[str]:
    """Returns the refs, beside the branch, that name the last of these commits: its run's, or that of a session's log records."""
    if staged[-1].run:
        return [f"refs/runs/{staged[-1].run}"]
    logs = next((commit.logs for commit in reversed(staged) if commit.logs is not None), None)
    return [f"refs/logs/{logs.run}"] if logs is not None else []

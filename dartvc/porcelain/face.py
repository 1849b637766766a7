"""The Python interface: `init`, `open`, `session`, `transaction` and the `Repository` that they return."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, cast

from dartvc.errors import NotFoundError, RefusedError
from dartvc.history import Repository as History
from dartvc.model import Commit, CommitKind, CommitReport, Oid, RestoreReport
from dartvc.porcelain.compare import Difference, compare
from dartvc.porcelain.moves import branch as make_branch
from dartvc.porcelain.moves import checkout, tag
from dartvc.porcelain.workspaces import HeadWorkspace
from dartvc.sessions import Session, open_sessions
from dartvc.sessions.transaction import transaction as _transaction
from dartvc.sessions.writer import Ticket

__all__ = ["PendingCommit", "Repository", "init", "open", "session", "transaction"]

_NAMESPACES_KEPT = 4


class PendingCommit:
    """A commit that was just made: its id, what it could not store, and the wait for its durability."""

    def __init__(self, ticket: Ticket, report: CommitReport, session: Session) -> None:
        self._ticket = ticket
        self._session = session
        self.report = report

    @property
    def oid(self) -> Oid:
        """The id, 40 hexadecimal digits."""
        self._ticket.wait_written()
        if self._ticket.oid is None:
            self.wait()
        return cast(Oid, self._ticket.oid)

    def wait(self) -> Oid:
        """Waits until the commit would survive a power cut.

        Raises:
            StorageError: the disk refused; there is no such commit.
        """
        self._ticket.wait_durable()
        if self._ticket.error is not None:
            raise self._ticket.error
        return cast(Oid, self._ticket.oid)

    def __repr__(self) -> str:
        return f"<commit {self._ticket.oid or 'in progress'}>"


class Repository:
    """A repository of states, for programs.

    Attributes:
        history: the engine underneath.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._sessions: dict[int, Session] = {}
        self._mirrors: dict[int, tuple[MutableMapping[str, object], dict[str, object]]] = {}

    @property
    def path(self) -> Path:
        """The bare git repository."""
        return self.history.path

    def _session_of(self, namespace: MutableMapping[str, object]) -> Session:
        for living in open_sessions():
            if living.namespace is namespace and living.repository.path == self.history.path:
                return living
        found = self._sessions.get(id(namespace))
        if found is None:
            while len(self._sessions) >= _NAMESPACES_KEPT:  # a dict made for one commit must not live, with all that it holds, for ever
                oldest = next(iter(self._sessions))
                self._sessions.pop(oldest).close()
                self._mirrors.pop(oldest, None)
            found = Session(self.history, self._plain(namespace), is_shared=False)
        else:
            del self._sessions[id(namespace)]
        self._sessions[id(namespace)] = found
        return found

    def _plain(self, namespace: MutableMapping[str, object]) -> dict[str, object]:
        """Returns the dict that functions can be bound to: the namespace itself, or a mirror of a mapping that is no dict."""
        if type(namespace) is dict:
            return namespace
        mirror = self._mirrors.setdefault(id(namespace), (namespace, {}))[1]
        mirror.clear()
        mirror.update(namespace)
        return mirror

    def commit(self, namespace: MutableMapping[str, object], message: str = "", wait: bool = True) -> PendingCommit:
        """Commits a namespace.

        Args:
            namespace: any mutable mapping of names to objects, for example ``globals()``.
            message: for `log`; by default the kind of the commit.
            wait: return when the commit is durable; False: when a consistent copy is taken.

        Returns:
            The commit; ``.report.omissions`` names what could not be stored.

        Raises:
            StorageError: the disk refused; there is no such commit.
            RefusedError: this process is a forked child of the one that made the first commit.
        """
        session = self._session_of(namespace)
        self._plain(namespace)
        ticket = session.commit_async(message, CommitKind.MANUAL)
        if ticket is None:
            raise RefusedError("this process was forked from the one that records", kind="forked", hint="dartvc.open() in the child")
        pending = PendingCommit(ticket, session.last_report, session)
        if wait:
            pending.wait()
        return pending

    def checkout(
        self,
        revision: str,
        namespace: MutableMapping[str, object] | None = None,
        *,
        names: Sequence[str] | None = None,
        trust: bool = False,
        map_device: str = "",
    ) -> RestoreReport:
        """Brings a namespace to the state of a revision, in place: only what differs is written, all of it or nothing.

        Changes that no commit has yet are committed first, so that nothing is lost.

        Args:
            revision: as in git: ``HEAD~2``, a branch, a tag, a short id.
            namespace: the namespace; None moves HEAD only.
            names: only these names, and HEAD stays.
            trust: restore a commit that was made on another machine.
            map_device: where tensors go that were on a graphics processor, for example ``cpu``.

        Raises:
            NotFoundError: no such revision or name.
            UntrustedError: the commit was made elsewhere.
        """
        if namespace is None:
            return checkout(self.history, HeadWorkspace(self.history), revision, names=names, trust=trust, map_device=map_device).report
        session = self._session_of(namespace)
        plain = self._plain(namespace)
        report = checkout(self.history, session, revision, names=names, trust=trust, map_device=map_device).report
        if plain is not namespace:
            for name in [name for name in namespace if name not in plain]:
                del namespace[name]
            for name in (*report.written, *report.recomputed):
                namespace[name] = plain[name]
        return report

    def load(
        self, revision: str = "HEAD", names: Sequence[str] | None = None, *, trust: bool = False, map_device: str = ""
    ) -> dict[str, object]:
        """Loads a revision's names into a new dict; tensors that were on a graphics processor go to ``map_device`` (``cpu``), if given.

        Raises:
            NotFoundError: no such revision or name.
            UntrustedError: the commit was made elsewhere and ``trust`` is False.
        """
        oid = self.history.resolve(revision)
        return Session(self.history, {}, is_shared=False).load(oid, names, trust=trust, map_device=map_device)

    def log(self, revision: str = "HEAD", name: str | None = None) -> Iterator[Commit]:
        """Yields commits, newest first; with ``name`` only those that wrote it."""
        return self.history.iter_log([self.history.resolve(revision)], name=name)

    def diff(self, before: str = "HEAD~1", after: str = "HEAD", names: Sequence[str] | None = None) -> Difference:
        """Compares two revisions by their summaries; nothing is unpickled."""
        return compare(self.history, self.history.resolve(before), self.history.resolve(after), names)

    def dataframe(self, *names: str, where: str | None = None, runs: str | Sequence[str] | None = None, best: str = "") -> Any:
        """Returns what was logged as a `pandas.DataFrame`: a row for each run and iteration, loop variables and names as columns.

        Args:
            names: logged names, arguments, or variables of the program.
            where: a condition over these, loop variables and ``run``: ``epoch > 5 and lr < 0.1``.
            runs: ids of runs, or ``latest``, ``best:max:acc``, ``best:min:loss``; None: all.
            best: ``max:acc`` or ``min:loss``: only the run that logged the best value; ``max:acc:3``: the three best.

        Raises:
            NotFoundError: a name or a run is not known.
            UsageError: the condition is malformed, or pandas is not installed.
        """
        from dartvc.hindsight.tables import to_pandas
        from dartvc.porcelain.query import query_names

        table = query_names(self.history, names, where, runs=f"best:{best}" if best else runs)
        return to_pandas(table.columns, table.rows)

    def query(self, sql: str, *, engine: str = "sqlite") -> Any:
        """Answers a SELECT over the relations (docs/relations.md) as a `pandas.DataFrame`; ``engine`` is ``sqlite`` or ``duckdb``.

        Raises:
            UsageError: it is no SELECT, or pandas is not installed.
        """
        from dartvc.hindsight.tables import to_pandas
        from dartvc.porcelain.query import query_sql

        table = query_sql(self.history, sql, engine=engine)
        return to_pandas(table.columns, table.rows)

    def branch(self, name: str, revision: str = "HEAD") -> Oid:
        """Makes a branch at a revision."""
        return make_branch(self.history, name, revision)

    def tag(self, name: str, revision: str = "HEAD") -> Oid:
        """Makes a tag at a revision; a tagged commit is never thinned."""
        return tag(self.history, name, revision)

    def resolve(self, revision: str) -> Oid:
        """Returns the commit that a revision names."""
        return self.history.resolve(revision)


def init(path: str | Path = ".") -> Repository:
    """Makes the repository of a folder (``.dvc-state/``), or opens it when it is there."""
    return Repository(History.init(path))


def open(path: str | Path = ".") -> Repository:
    """Opens the repository of a folder, or of the nearest one above it.

    Raises:
        NotFoundError: there is none.
    """
    return Repository(History.open(path))


def arg(name: str, default: Any = None) -> Any:
    """Returns a parameter of the program: what ``dvc-state run --set name=value`` gives, else ``default``.

    A given text is read as a Python literal (``0.01``, ``True``, ``[1, 2]``), else it stays a str; outside a run the default counts.
    What it was is recorded with the run.
    """
    from dartvc.hindsight.recording import log_argument, replayed_arguments  # most programs that open a repository have no arguments

    sources = (*(living.arguments for living in open_sessions()), replayed_arguments())
    given = next((arguments[name] for arguments in sources if name in arguments), None)
    value = default if given is None else _read_argument(given, default)
    try:
        log_argument(name, value, default, given is not None)
    except Exception as error:  # nothing of ours reaches the user's program
        sys.stderr.write(f"dartvc: the argument {name} was not recorded: {error}\n")
    return value


def _read_argument(text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def session() -> Session:
    """Returns the session of this process.

    Raises:
        NotFoundError: none is attached.
    """
    sessions = open_sessions()
    if not sessions:
        raise NotFoundError(
            "no session is attached in this process", kind="no-session", hint="%load_ext dartvc, or dartvc.attach(globals())"
        )
    return sessions[-1]


transaction = _transaction

"""The repository of one project: commits read and written, refs moved with a record of every move."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dartvc.errors import CorruptError, MissingObjectError, NotFoundError, RefConflictError, UntrustedError
from dartvc.history.replaced import Replaced
from dartvc.history.trailers import commit_of_raw, seal_payload, split_seal
from dartvc.host.machine import user_name
from dartvc.host.places import git_folders
from dartvc.model import Commit, CommitKind, Oid
from dartvc.store.database import ObjectDatabase
from dartvc.store.durable import storage_errors
from dartvc.store.refs import Head

if TYPE_CHECKING:
    from dartvc.history.config import Config
    from dartvc.history.namespace import NameEntry
    from dartvc.history.operations import Operation, OperationLog, RefMove, UndoPlan
    from dartvc.history.payloads import StoredPayload
    from dartvc.history.trust import TrustList
    from dartvc.history.writing import CommitWriter
    from dartvc.store import RawCommit, Seals

__all__ = ["FOLDER", "Repository", "find_root"]

FOLDER = ".dvc-state"
_ENTRY_CACHE = 20_000
_PROGRAMS = {"core.pager": "core.pagerSeal"}
"""Settings that name programs, and where their seals are."""


class Repository:
    """What one project has recorded: ``root/.dvc-state``. Its parts are made when they are first used: `log` needs few of them.

    Args:
        root: the project's folder.
        key_path: this machine's key for seals; None: the user's own.
        trust_path: the user's list of trusted commits; None: the user's own.
    """

    def __init__(self, root: Path, *, key_path: Path | None = None, trust_path: Path | None = None) -> None:
        self.root = root
        self.path = root / FOLDER
        self.database = ObjectDatabase.open(self.path)
        self._key_path, self._trust_path = key_path, trust_path
        self._replaced = Replaced(self.path / "replaced")
        self._entries: dict[Oid, NameEntry] = {}

    @cached_property
    def operations(self) -> OperationLog:
        """Every move of a ref, of HEAD and of living states."""
        from dartvc.history.operations import OperationLog

        return OperationLog(self.path / "operations.jsonl")

    @cached_property
    def config(self) -> Config:
        """The settings."""
        from dartvc.history.config import Config

        return Config(self.path / "config")

    @cached_property
    def seals(self) -> Seals:
        """What tells this machine's commits from others'."""
        from dartvc.history.trust import default_key_path
        from dartvc.store.trust import Seals

        return Seals(self._key_path or default_key_path())

    @cached_property
    def _trust(self) -> TrustList:
        from dartvc.history.trust import TrustList, default_trust_path

        return TrustList(self._trust_path or default_trust_path())

    @classmethod
    def init(cls, path: Path | str = ".", *, key_path: Path | None = None, trust_path: Path | None = None) -> Self:
        """Makes the repository of a project's folder, durably; one that exists is opened.

        Raises:
            StorageError: the folder cannot be written.
        """
        root = Path(path).resolve()
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        ObjectDatabase.create(root / FOLDER)
        with contextlib.suppress(OSError):
            _exclude_from_git(root)
        return cls(root, key_path=key_path, trust_path=trust_path)

    @classmethod
    def open(cls, path: Path | str = ".", walk_up: bool = True, *, key_path: Path | None = None, trust_path: Path | None = None) -> Self:
        """Opens the repository of a folder, or of the nearest folder above that has one.

        Raises:
            NotFoundError: there is none.
        """
        root = find_root(path, walk_up)
        if root is None:
            raise NotFoundError(f"there is no repository in {Path(path).resolve()} or above", kind="no-repository", hint="dvc-state init")
        return cls(root, key_path=key_path, trust_path=trust_path)

    def resolve(self, revision: str, *, head: Oid | None = None) -> Oid:
        """Returns the commit that a revision names (git's grammar).

        Args:
            revision: HEAD, HEAD~2, main^, @{1}, a branch, a tag, a short id, ``:/text``.
            head: what HEAD means; None: the repository's.

        Raises:
            NotFoundError: nothing has this name; the hint suggests what has.
            UsageError: it is malformed or ambiguous.
        """
        from dartvc.history.revisions import resolve_revision

        return resolve_revision(self, revision, head=head)

    def commit(self, oid: Oid, *, with_refs: bool = True) -> Commit:
        """Returns a commit, from its commit object alone, with the refs that point at it unless nobody wants them: each is a file to read."""
        commit = self._decode(oid)
        if not with_refs:
            return commit
        refs = self.refs_by_commit().get(commit.oid)
        return commit._replace(refs=refs) if refs else commit

    def _decode(self, oid: Oid) -> Commit:
        return commit_of_raw(self._raw(oid))

    def refs_by_commit(self) -> dict[Oid, tuple[str, ...]]:
        """Returns the full names of branches and tags by the commit that they point at."""
        found: dict[Oid, tuple[str, ...]] = {}
        for prefix in ("refs/heads/", "refs/tags/", "refs/remotes/"):
            for name, oid in self.database.refs.iter_refs(prefix):
                found[oid] = (*found.get(oid, ()), name)
        return found

    def iter_log(self, tips: Iterable[Oid], *, name: str | None = None, hide: Iterable[Oid] = ()) -> Iterator[Commit]:
        """Yields commits newest first, children before parents; only those that touched ``name`` if it is given."""
        refs = self.refs_by_commit()
        for raw in self.database.iter_raw_commits(tips, hide):
            oid = raw.oid
            commit = commit_of_raw(raw)
            if name is None or name in commit.added or name in commit.modified or name in commit.removed:
                yield commit._replace(refs=refs[oid]) if oid in refs else commit

    def find_commits(self, prefix: str) -> list[Oid]:
        """Returns the commits whose id begins with ``prefix``; ids from before a thinning count as what replaced them."""
        found = [oid if self._replaced.is_dropped(oid) else self._replaced.current(oid) for oid in self.database.find_commits(prefix)]
        return list(dict.fromkeys([*found, *self._replaced.find(prefix)]))

    def current_id(self, oid: Oid) -> Oid:
        """Returns the id under which a commit exists today: another one if retention wrote its descendants anew."""
        return self._replaced.current(oid)

    def names(self, oid: Oid) -> dict[str, NameEntry]:
        """Returns the names of a commit."""
        return self._space(oid, "names")

    def process(self, oid: Oid) -> dict[str, NameEntry]:
        """Returns the entries of the process's state of a commit."""
        return self._space(oid, "process")

    def summary(self, entry: NameEntry) -> dict[str, object]:
        """Returns what describes a value to people."""
        from dartvc.history.payloads import without_payload

        return without_payload(self._json(entry.summary_oid))

    def recipe(self, entry: NameEntry) -> dict[str, object]:
        """Returns how an omitted name can be made again; empty when it is stored."""
        return self._json(entry.recipe_oid) if entry.recipe_oid is not None else {}

    def payload(self, payload_oid: Oid) -> StoredPayload:
        """Returns the stored form of a co-variable; its bytes are read on demand."""
        from dartvc.history.payloads import read_payload

        return read_payload(self.database, payload_oid)

    def code(self, oid: Oid) -> str:
        """Returns the source that ran; empty when none did."""
        raw = self._raw(oid)
        entry = self.database.read_tree(raw.tree).get("code")
        if entry is not None:
            return self.database.read_blob(entry.oid).decode("utf-8", "surrogatepass")
        commit = commit_of_raw(raw)
        return commit.message if commit.kind is CommitKind.CELL else ""

    def environment(self, oid: Oid) -> dict[str, object]:
        """Returns Python, platform, packages and the user's git at a commit."""
        entry = self.database.read_tree(self._raw(oid).tree).get("environment")
        return self._json(entry.oid) if entry is not None else {}

    def logs_tree(self, oid: Oid) -> Oid | None:
        """Returns the tree of a commit's log records (see `dartvc.history.logs`); None when it has none."""
        entry = self.database.read_tree(self._raw(oid).tree).get("logs")
        return entry.oid if entry is not None else None

    def is_trusted(self, oid: Oid) -> bool:
        """Whether a commit may be unpickled: sealed with this machine's key, or trusted by the user."""
        return self.is_sealed(oid) or oid in self._trust

    def is_sealed(self, oid: Oid) -> bool:
        """Whether this machine's key made the seal of a commit."""
        raw = self._raw(oid)
        message, seal = split_seal(raw.message)
        return self.seals.is_ours(seal_payload(raw.tree, raw.parents, raw.time_s, raw.utc_offset_min, message), seal)

    def trust(self, oid: Oid) -> None:
        """Adds a commit to the user's list of trusted commits (kept outside the repository)."""
        self._trust.add(oid)

    def trust_all(self, oids: Iterable[Oid]) -> None:
        """Adds those commits to the user's list that this machine's key did not seal."""
        self._trust.add(*(oid for oid in oids if not self.is_sealed(oid)))

    def damaged_replacements(self) -> int:
        """Returns how many old ids cannot be read any more."""
        return self._replaced.damaged_lines()

    def replace_ids(self, replaced: Mapping[Oid, Oid]) -> None:
        """Records new ids of commits (40 zeros: dropped), so that the old ones still resolve; durable."""
        self._replaced.add(replaced)

    def configure(self, key: str, value: str | None) -> None:
        """Sets a setting, or takes it away (None), durably; one that names a program is sealed, so that a stranger's repository cannot have it run here.

        Raises:
            UsageError: the key is not one git could hold.
            StorageError: the disk refused.
        """
        values: dict[str, str | None] = {key: value}
        if key.lower() in _PROGRAMS:
            values[_PROGRAMS[key.lower()]] = self.seals.seal(_program_payload(key, value)) if value is not None else None
        self.config.update(values)

    def program(self, key: str) -> str:
        """Returns a setting that names a program to run; empty when it is not set.

        Raises:
            UntrustedError: it was not set on this machine by `configure`.
        """
        value = self.config.get(key, "")
        if value and not self.seals.is_ours(_program_payload(key, value), self.config.get(_PROGRAMS[key.lower()], "")):
            raise UntrustedError(
                f"the setting {key} was not made on this machine, so {value!r} is not run",
                kind="untrusted-setting",
                hint=f"dvc-state config {key} COMMAND",
            )
        return value

    def writer(self) -> CommitWriter:
        """Begins writing commits."""
        from dartvc.history.writing import CommitWriter

        return CommitWriter(self.database, self.seals, self.author())

    def move_refs(
        self,
        moves: Sequence[RefMove],
        *,
        operation: str,
        description: str,
        session: str = "",
        head: Head | None = None,
        head_before: Head | None = None,
        plan: UndoPlan | None = None,
    ) -> Operation:
        """Moves refs, all or none, durably, with one entry in the operation log.

        Args:
            moves: from where to where; a name that is not ``refs/...`` is a branch.
            operation: the verb.
            description: for ``op log``.
            session: the session that does it.
            head: where HEAD goes; None: it stays (and follows its branch).
            head_before: where the session's own HEAD was. Given: the repository's HEAD is not touched, the session keeps its own.
            plan: the undo or redo that this carries out.

        Raises:
            RefConflictError: a ref is not where it should be; nothing was moved.
        """
        from dartvc.history.operations import RefMove

        moves = [RefMove(move.name if move.name.startswith("refs/") else f"refs/heads/{move.name}", move.old, move.new) for move in moves]
        refs = self.database.refs
        with self.database.lock():
            for move in moves:
                if refs.read(move.name) != move.old:
                    raise RefConflictError(f"{move.name} was moved by somebody else", kind="ref-moved", hint="try again")
            before = head_before if head_before is not None else refs.head()
            done: list[RefMove] = []
            try:
                for move in moves:
                    refs.move(move.name, move.new, expected=move.old)
                    done.append(move)
                if head is not None and head_before is None and (head.ref, head.ref or head.oid) != (before.ref, before.ref or before.oid):
                    refs.set_head(head.ref or head.oid or "")
                after = self._after(head if head is not None else before)
                return self.operations.append(
                    moves,
                    operation=operation,
                    description=description,
                    session=session,
                    head_before=before,
                    head_after=after,
                    pointer=plan.pointer if plan is not None else None,
                    redo=plan.redo if plan is not None else (),
                )
            except BaseException:
                for move in reversed(done):
                    refs.move(move.name, move.old, expected=move.new)
                if head is not None and head_before is None and refs.head() != before:
                    refs.set_head(before.ref or before.oid or "")
                raise

    def carry_out(self, plan: UndoPlan, *, session: str = "", head_before: Head | None = None) -> Operation:
        """Does what `OperationLog.plan_undo`, `plan_redo` or `plan_restore` planned: refs and HEAD, not the namespace.

        Raises:
            RefConflictError: a ref was moved since by somebody else.
        """
        return self.move_refs(
            plan.moves,
            operation=plan.operation,
            description=plan.description,
            session=session,
            head=plan.head,
            head_before=head_before,
            plan=plan,
        )

    def _after(self, head: Head) -> Head:
        return Head(head.ref, self.database.refs.read(head.ref)) if head.ref is not None else head

    def author(self) -> str:
        """Returns ``Name <address>`` for new commits: the setting ``dartvc.author``, else the user and the machine."""
        configured = self.config.get("dartvc.author")
        if configured and "<" in configured:
            return configured
        clean = "".join(char for char in user_name() if char.isprintable() and char not in "<>") or "unknown"
        return f"{configured or clean} <{clean}@{os.uname().nodename or 'localhost'}>"

    def _raw(self, oid: Oid) -> RawCommit:
        try:
            return self.database.read_commit(oid)
        except MissingObjectError:
            present = self._replaced.current(oid)
            if present == oid:
                raise
            return self.database.read_commit(present)

    def _space(self, oid: Oid, part: str) -> dict[str, NameEntry]:
        from dartvc.history.namespace import iter_names, read_name_entry

        root = self.database.read_tree(self._raw(oid).tree)
        if part not in root:
            return {}
        found = {}
        cache = self._entries
        for name, stored in iter_names(self.database, root[part].oid):
            entry = cache.get(stored.oid)
            if entry is None or entry.name != name:
                entry = read_name_entry(self.database, name, stored)
                if len(cache) >= _ENTRY_CACHE:
                    cache.clear()
                cache[stored.oid] = entry
            found[name] = entry
        return found

    def _json(self, oid: Oid) -> dict[str, object]:
        import json

        try:
            value = json.loads(self.database.read_blob(oid))
        except ValueError as error:
            raise CorruptError(f"object {oid} is not JSON: {error}", kind="summary", hint="dvc-state fsck") from error
        return value if isinstance(value, dict) else {"value": value}


def find_root(path: Path | str = ".", walk_up: bool = True) -> Path | None:
    """Returns the folder, this one or (``walk_up``) the nearest above it, that has a repository; None when none has."""
    start = Path(path).resolve()
    if start.name == FOLDER:
        start = start.parent
    return next((folder for folder in ((start, *start.parents) if walk_up else (start,)) if (folder / FOLDER / "HEAD").exists()), None)


def _program_payload(key: str, value: str) -> bytes:
    return f"setting {key.lower()}\n{value}".encode("utf-8", "surrogateescape")


def _exclude_from_git(root: Path) -> None:
    """Adds our folder to ``.git/info/exclude`` of the user's git, if there is one; touches nothing else of it."""
    found = git_folders(root)
    if found is None:
        return
    exclude = found[1] / "info" / "exclude"
    text = exclude.read_text() if exclude.exists() else ""
    if f"{FOLDER}/" not in text.split():
        exclude.parent.mkdir(exist_ok=True)
        with open(exclude, "a") as file:
            file.write(("" if not text or text.endswith("\n") else "\n") + f"{FOLDER}/\n")

"""Checking a repository: every object, every commit's tree and payloads, seals, refs, the operation log. Unpickles nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xxhash import xxh3_128_digest

from dartvc.errors import DartvcError, LockedError, MissingObjectError, StorageError
from dartvc.history.logs import iter_segments
from dartvc.history.namespace import NameEntry, iter_names, read_name_entry
from dartvc.history.operations import decode_operation
from dartvc.history.payloads import StoredPayload, read_payload
from dartvc.history.quoting import entry_name
from dartvc.host.progress import track
from dartvc.model import Oid, short

if TYPE_CHECKING:
    from dartvc.history.repository import Repository
    from dartvc.store import ObjectDatabase

__all__ = ["Problem", "check_repository"]

_OID = re.compile(r"[0-9a-f]{40}\Z")
_NO_UNDO = "what is missing cannot be undone any more"
_PUT_BACK = "dvc-state fsck --repair"
_REWRITE = "run the code again and commit: equal data heals the object; or fetch it from a clone"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what kind of thing, where, what about it, and what to do."""

    kind: str
    where: str
    detail: str
    remedy: str


def check_repository(repository: Repository) -> Iterator[Problem]:
    """Yields everything that is wrong; reads all of the repository, so it takes as long as the disk does."""
    with contextlib.suppress(LockedError, StorageError), repository.database.lock(0):
        pass  # whoever takes the lock takes away what a writer that died was about to write
    yield from _check_config(repository)
    named = set()
    for found in repository.database.verify():
        named.add(found.where)
        kind = "object" if found.oid else "ref" if found.where.startswith(("refs/", "HEAD")) else "pack"
        remedy = _PUT_BACK if kind == "ref" else _REWRITE
        yield Problem(kind, found.where, found.what, "it was put right" if found.is_mended else remedy)
    tips: dict[Oid, str] = {}
    yield from (problem for problem in _check_refs(repository, tips) if problem.where not in named)
    yield from _check_operations(repository, tips)
    damaged = repository.damaged_replacements()
    if damaged:
        yield Problem("replaced", "replaced", f"{damaged} of its lines cannot be read", "ids from before a thinning may not resolve any more")
    yield from _check_commits(repository, tips)


def _check_config(repository: Repository) -> Iterator[Problem]:
    try:
        repository.config.list()
    except DartvcError as error:
        yield Problem("config", "config", error.message, error.hint)


def _check_refs(repository: Repository, tips: dict[Oid, str]) -> Iterator[Problem]:
    """Checks every ref's file and HEAD; collects the commits to check, with what names them."""
    database = repository.database
    for path in sorted((repository.path / "refs").rglob("*")):
        if path.is_dir() or path.name.startswith("tmp_"):
            continue
        name = str(path.relative_to(repository.path))
        if path.name.endswith(".lock"):
            yield Problem("lock", name, "a writer that died left it behind", f"rm {path} if no git is running")
            continue
        text = path.read_bytes().decode("utf-8", "replace").strip()
        if not _OID.match(text) and not text.startswith("ref: "):
            yield Problem("ref", name, "it holds no commit id", _PUT_BACK)
    for name, oid in database.refs.iter_refs():
        try:
            database.read_commit(oid)
        except DartvcError as error:
            yield Problem("ref", name, f"its commit {oid} cannot be read: {error.message}", _PUT_BACK)
        else:
            tips.setdefault(oid, name)
    try:
        head = database.refs.head()
    except (DartvcError, OSError, ValueError) as error:
        yield Problem("head", "HEAD", str(error), _PUT_BACK)
        return
    try:
        if head.oid is not None:
            database.read_commit(head.oid)
            tips.setdefault(head.oid, "HEAD")
        elif tips:
            yield Problem("head", "HEAD", f"it names {head.ref}, which has no commit, though others have", "dvc-state switch BRANCH, or dvc-state fsck --repair")
    except DartvcError as error:
        if head.ref is None:
            yield Problem("head", "HEAD", f"its commit {head.oid} cannot be read: {error.message}", _PUT_BACK)


def _check_operations(repository: Repository, tips: dict[Oid, str]) -> Iterator[Problem]:
    expected: int | None = None
    for line in repository.operations.iter_lines():
        entry = decode_operation(line)
        if entry is None:
            yield Problem(
                "operation-log",
                f"before operation {expected + 1 if expected is not None else 'last'}",
                "a line cannot be read",
                _NO_UNDO,
            )
            expected = expected - 1 if expected is not None else None
            continue
        if expected is not None and entry.number != expected:
            yield Problem(
                "operation-log",
                f"operation {entry.number}",
                f"operation {expected} was expected here",
                _NO_UNDO,
            )
        expected = entry.number - 1
        for oid in (*(move.new for move in entry.moves), entry.head_after.oid):
            if oid is not None and oid not in tips and repository.database.contains(oid):
                tips[oid] = f"operation {entry.number}"


def _check_commits(repository: Repository, tips: dict[Oid, str]) -> Iterator[Problem]:
    """Checks every commit below the tips; what commits share is checked once."""
    database = repository.database
    todo = list(tips.items())
    fetched = _fetched(repository)
    seen: set[Oid] = set()
    checked: set[Oid] = set()
    for oid, named in track("checking commits", _emptied(todo)):
        if oid in seen:
            continue
        seen.add(oid)
        where = f"commit {short(oid)}"
        try:
            if not database.contains(oid):  # a thinning may tell by which other it was replaced; git could not read its children
                raise MissingObjectError(f"object {oid} is not in the repository", kind="missing-object")
            commit = repository.commit(oid)
            todo.extend((parent, where) for parent in commit.parents)
            if commit.seal and oid not in fetched and not repository.is_trusted(oid):
                yield Problem(
                    "seal",
                    where,
                    "it was made on another machine, or changed since",
                    f"dvc-state show {short(oid)}; restore it with --trust if you know its author",
                )
            root = database.read_tree(commit.tree)
        except DartvcError as error:
            yield Problem("commit", f"commit {oid} ({named})", error.message, _REWRITE)
            continue
        for part in ("names", "process"):
            if part in root and root[part].oid not in checked:
                checked.add(root[part].oid)
                yield from _check_space(repository, f"{where}:{part}", root[part].oid, checked)
        if "logs" in root and root["logs"].oid not in checked:
            checked.add(root["logs"].oid)
            yield from _check_logs(database, f"{where}:logs", root["logs"].oid, checked)
        for part in ("code", "environment"):
            if part in root and not database.contains(root[part].oid):
                yield Problem("object", f"{where}:{part}", f"object {root[part].oid} is gone", _REWRITE)


def _emptied(todo: list[tuple[Oid, str]]) -> Iterator[tuple[Oid, str]]:
    """Yields what is to be done, and what is added meanwhile."""
    while todo:
        yield todo.pop()


def _fetched(repository: Repository) -> set[Oid]:
    """Returns the commits that a remote has: that they are not sealed here is no news."""
    found: set[Oid] = set()
    with contextlib.suppress(DartvcError):
        found.update(repository.database.iter_commits(oid for _, oid in repository.database.refs.iter_refs("refs/remotes/")))
    return found


def _check_logs(database: ObjectDatabase, where: str, tree_oid: Oid, checked: set[Oid]) -> Iterator[Problem]:
    try:
        for number, segment in enumerate(iter_segments(database, tree_oid)):
            if segment.oid not in checked:
                checked.add(segment.oid)
                if not database.contains(segment.oid):
                    yield Problem("object", f"{where}, segment {number}", f"object {segment.oid} is gone", _REWRITE)
    except (DartvcError, ValueError, IndexError) as error:
        yield Problem("tree", where, str(error), _REWRITE)


def _check_space(repository: Repository, where: str, tree_oid: Oid, checked: set[Oid]) -> Iterator[Problem]:
    try:
        names = list(iter_names(repository.database, tree_oid))
    except (DartvcError, ValueError, IndexError) as error:
        yield Problem("tree", where, str(error), _REWRITE)
        return
    for name, found in names:
        if found.oid in checked:
            continue
        checked.add(found.oid)
        place = f"{where}/{entry_name(name)}"
        try:
            entry = read_name_entry(repository.database, name, found)
            _read_parts(repository, entry)
            if entry.payload_oid is None or (entry.payload_oid in checked and not entry.is_inline):
                continue
            checked.add(entry.payload_oid)
            _check_payload(repository, read_payload(repository.database, entry.payload_oid, where=place), checked)
        except (DartvcError, ValueError, IndexError) as error:
            yield Problem("payload", place, str(error), _REWRITE)


def _read_parts(repository: Repository, entry: NameEntry) -> None:
    repository.summary(entry)
    if entry.payload_oid is None:
        repository.recipe(entry)


def _check_payload(repository: Repository, payload: StoredPayload, checked: set[Oid]) -> None:
    """Checks that every chunk is there, is what its name says, and that buffers are cut evenly.

    Raises:
        CorruptError: it is not.
        ValueError: the chunks of a buffer differ in size.
    """
    for chunks in (payload.stream_chunks, *payload.buffers):
        for chunk in chunks:
            if chunk.oid in checked:
                continue
            checked.add(chunk.oid)
            if xxh3_128_digest(repository.database.read_blob(chunk.oid)) != chunk.digest:
                raise ValueError(f"chunk {chunk.oid} is not what its name says")
    for index, chunks in enumerate(payload.buffers):
        if len({payload.chunk_size(chunk) for chunk in chunks[:-1]}) > 1:
            raise ValueError(f"the chunks of buffer {index} differ in size")

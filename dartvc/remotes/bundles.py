"""Bundles: branches, tags and runs with all that they need, in one file (gitformat-bundle, version 2). git reads them, and we read git's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import CorruptError, NotFoundError, RemoteError, UsageError
from dartvc.history import Repository
from dartvc.host.entropy import new_id
from dartvc.model import Oid
from dartvc.remotes.exchange import TRAVELLING
from dartvc.remotes.negotiation import iter_missing, missing_commits
from dartvc.remotes.workshop import Workshop, last_words
from dartvc.store.copying import ObjectCopy, RecentReader
from dartvc.store.durable import storage_errors, sync_folder, write_all
from dartvc.store.packwriter import PackWriter

__all__ = ["Bundle", "create_bundle", "read_bundle", "verify_bundle"]

_SIGNATURE = b"# v2 git bundle\n"
_LINE_BYTES = 64 * 1024
_OID = re.compile(rb"-?([0-9a-f]{40})(?: (.*))?\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds: refs, and the commits that a reader must have already.

    ``objects`` is -1 when the file was only looked at.
    """

    path: Path
    refs: tuple[tuple[str, Oid], ...]
    prerequisites: tuple[Oid, ...]
    objects: int
    size_bytes: int
    header_bytes: int = 0


def create_bundle(
    repository: Repository,
    path: Path,
    revisions: Sequence[str],
    *,
    head: str | None = None,
    lighten: Callable[[Oid, Sequence[Oid]], Oid] | None = None,
) -> Bundle:
    """Writes a bundle, durably; the file is there as a whole or not at all.

    Args:
        repository: ours.
        path: the file; one that exists is replaced.
        revisions: names of branches, tags and runs; ``A..NAME`` and ``^A`` leave out what A has; none: all of them.
        head: the branch that a clone of the bundle goes to.
        lighten: gives the commit that goes in place of the one that a ref names; it knows what the reader has.

    Raises:
        NotFoundError: there is no such ref or commit.
        UsageError: it would be empty.
        StorageError: the disk refused.
    """
    refs, excluded = _choose(repository, revisions)
    if not refs:
        raise UsageError("there is nothing to bundle", kind="empty-bundle", hint="dvc-state bundle create FILE BRANCH")
    database = repository.database
    if lighten is not None:
        refs = {name: lighten(oid, excluded) for name, oid in refs.items()}
    commits = missing_commits(database, refs.values(), database, excluded)
    if not commits:
        raise UsageError("everything named is left out", kind="empty-bundle", hint="dvc-state log A..B shows what would be in it")
    rows = dict(refs)
    ref = f"refs/heads/{head}"
    if head is not None and ref in refs:
        rows["HEAD"] = refs[ref]
    lines = [
        *(f"-{oid} {database.read_commit(oid).message.splitlines()[0]}" for oid in excluded),
        *(f"{oid} {name}" for name, oid in rows.items()),
    ]
    header = _SIGNATURE + "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape") + b"\n"
    site = path.parent / f".{path.name}.{os.getpid()}-{new_id()}"
    with storage_errors(path):
        site.mkdir()
        try:
            count, size = _write(site, path, header, repository, commits)
        finally:
            shutil.rmtree(site, ignore_errors=True)
    return Bundle(path, tuple(refs.items()), tuple(excluded), count, size)


def _write(site: Path, path: Path, header: bytes, repository: Repository, commits: Sequence[Oid]) -> tuple[int, int]:
    writer = PackWriter(site, roll_bytes=None)
    try:
        reader = RecentReader(repository.database)
        copy = ObjectCopy(reader, writer)
        for oid in iter_missing(reader, commits, lambda oid: False):
            copy.add(oid)
        (index,) = writer.publish()
    except BaseException:
        writer.abandon()
        raise
    draft = site / "bundle"
    with open(index.with_suffix(".pack"), "rb") as pack:
        target = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_all(target, header)
            while piece := pack.read(8 * 1024 * 1024):
                write_all(target, piece)
            os.fsync(target)
            size = os.fstat(target).st_size
        finally:
            os.close(target)
    os.rename(draft, path)
    sync_folder(path.parent)
    return len(writer), size


def _choose(repository: Repository, revisions: Sequence[str]) -> tuple[dict[str, Oid], list[Oid]]:
    refs: dict[str, Oid] = {}
    excluded: list[Oid] = []
    for text in revisions:
        if text.startswith("^"):
            excluded.append(repository.resolve(text[1:]))
            continue
        since, dots, name = text.rpartition("..")
        if dots:
            excluded.append(repository.resolve(since))
        for prefix in ("", *TRAVELLING):
            full = prefix + name
            oid = repository.database.refs.read(full) if full.startswith(TRAVELLING) else None
            if oid is not None:
                refs[full] = oid
                break
        else:
            raise NotFoundError(f"there is no branch, tag or run {name!r}", kind="unknown-ref", hint="dvc-state branch; dvc-state tag")
    if not refs:
        refs = {name: oid for prefix in TRAVELLING for name, oid in repository.database.refs.iter_refs(prefix)}
    return refs, list(dict.fromkeys(excluded))


def read_bundle(path: Path) -> Bundle:
    """Reads what a bundle says of itself; its objects are not looked at.

    Raises:
        NotFoundError: there is no such file.
        CorruptError: it is no bundle.
    """
    try:
        with open(path, "rb") as file:
            if file.readline(_LINE_BYTES) != _SIGNATURE:
                raise CorruptError(f"{path} is not a bundle", kind="not-a-bundle", hint="dvc-state bundle create FILE")
            refs: list[tuple[str, Oid]] = []
            prerequisites: list[Oid] = []
            while (line := file.readline(_LINE_BYTES)) != b"\n":
                found = _OID.fullmatch(line)
                if found is None:
                    raise CorruptError(f"{path} is cut or damaged", kind="bundle", hint="have it made and sent again")
                oid = Oid(found[1].decode())
                if line.startswith(b"-"):
                    prerequisites.append(oid)
                else:
                    refs.append(((found[2] or b"").decode("utf-8", "surrogateescape"), oid))
            return Bundle(path, tuple(refs), tuple(prerequisites), -1, os.fstat(file.fileno()).st_size, file.tell())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(f"there is no file {path}", kind="no-file", hint="dvc-state bundle create FILE") from error


def verify_bundle(repository: Repository, path: Path) -> Bundle:
    """Checks that a bundle is whole: git hashes each object, and follows all that the refs need.

    Raises:
        RemoteError: it is cut or damaged, or needs commits that are not here.
    """
    bundle = read_bundle(path)
    lacking = [oid for oid in bundle.prerequisites if not repository.database.contains(oid)]
    if lacking:
        message = f"{path} continues commits that are not here: {', '.join(oid[:8] for oid in lacking)}"
        raise RemoteError(message, kind="bundle-prerequisites", hint="fetch from where it was made, or ask for a bundle without `A..`")
    with Workshop(repository.database, ()) as workshop, open(path, "rb", buffering=0) as file:
        file.seek(bundle.header_bytes)
        indexed = workshop.git("index-pack", "--stdin", "--fix-thin", source=file)
        tips = "".join(f"{oid}\n" for _, oid in bundle.refs)
        walked = workshop.git("rev-list", "--objects", "--quiet", "--stdin", given=tips) if indexed.returncode == 0 else indexed
    if walked.returncode != 0:
        raise RemoteError(f"{path} is cut or damaged: {last_words(walked)}", kind="bundle", hint="have it made and sent again")
    return bundle

"""fsck: is every stored byte what was written, and does every commit have all that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dartvc.errors import DartvcError
from dartvc.history import Repository
from dartvc.model import Oid
from dartvc.state.loading import Loading, Unloadable, load

__all__ = ["Finding", "check"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: where, what, and the way out."""

    where: str
    detail: str
    remedy: str = ""


def check(repository: Repository, *, loadable: bool = False) -> Iterator[Finding]:
    """Yields what is wrong with a repository.

    Args:
        repository: which.
        loadable: also load every value of HEAD here.
    """
    for where, detail in repository.database.verify():
        yield Finding(where, detail, "restore another commit; committing the value again heals it")
    tips: dict[str, Oid] = {}
    for folder in ("heads", "tags"):
        for path in sorted((repository.path / "refs" / folder).rglob("*")):
            if path.is_file() and not path.name.startswith("tmp_"):
                name = str(path.relative_to(repository.path))
                try:
                    oid = repository.database.refs.read(name)
                except DartvcError as error:
                    yield Finding(name, error.message, error.hint)
                    continue
                if oid is not None:
                    tips[name] = oid
    try:
        repository.database.refs.head()
    except (DartvcError, OSError) as error:
        yield Finding("HEAD", str(error), "dvc-state switch main")
    for name, oid in tips.items():
        yield from _check_history(repository, name, oid)
    head = repository.database.refs.head().oid if not loadable else None
    if loadable and (head := repository.database.refs.head().oid) is not None:
        yield from _check_loadable(repository, head)


def _check_history(repository: Repository, ref: str, tip: Oid) -> Iterator[Finding]:
    seen_trees: set[Oid] = set()
    try:
        for commit in repository.iter_log([tip]):
            for name, entry in {**repository.names(commit.oid), **{f"process:{k}": v for k, v in repository.process(commit.oid).items()}}.items():
                if entry.tree_oid in seen_trees:
                    continue
                seen_trees.add(entry.tree_oid)
                yield from _check_name(repository, commit.oid, name, entry.payload_oid)
    except DartvcError as error:
        yield Finding(ref, error.message, error.hint)


def _check_name(repository: Repository, oid: Oid, name: str, payload_oid: Oid | None) -> Iterator[Finding]:
    if payload_oid is None:
        return
    try:
        payload = repository.payload(payload_oid)
        for chunks in (payload.stream_chunks, *payload.buffers):
            for chunk in chunks:
                if not repository.database.contains(chunk.oid):
                    yield Finding(f"{oid[:8]}:{name}", f"chunk {chunk.oid} is gone")
    except (DartvcError, KeyError, ValueError) as error:
        yield Finding(f"{oid[:8]}:{name}", str(error))


def _check_loadable(repository: Repository, head: Oid) -> Iterator[Finding]:
    if not repository.is_trusted(head):
        yield Finding(head[:8], "made on another machine, so nothing of it was loaded", "dvc-state trust HEAD")
        return
    namespace: dict[str, object] = {"__name__": "__main__"}
    done: set[Oid] = set()
    for name, entry in repository.names(head).items():
        if entry.payload_oid is None or entry.payload_oid in done:
            continue
        done.add(entry.payload_oid)
        payload = repository.payload(entry.payload_oid)
        try:
            load(payload.read_stream(), Loading(namespace, payload))
        except (Unloadable, DartvcError) as error:
            yield Finding(f"{head[:8]}:{name}", f"cannot be loaded here: {error}")

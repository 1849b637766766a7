"""fsck: is every stored byte what was written, does every commit have all that it needs, does every value load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dartvc.errors import DartvcError, LockedError, NotFoundError, StorageError
from dartvc.history import Repository
from dartvc.history.fsck import Problem, check_repository
from dartvc.history.repair import PutBack, put_back
from dartvc.model import Oid
from dartvc.state.loading import Loading, Unloadable, load

__all__ = ["Problem", "PutBack", "check", "put_back"]


def check(repository: Repository, *, loadable: bool = False) -> Iterator[Problem]:
    """Yields what is wrong with a repository; puts packs with damage aside, so that equal data is stored anew by the next commit.

    Args:
        repository: which.
        loadable: also load every value of HEAD here.
    """
    is_damaged = False
    for problem in check_repository(repository):
        is_damaged = is_damaged or problem.kind in ("object", "pack")
        yield problem
    if is_damaged:
        with contextlib.suppress(LockedError, StorageError):  # nothing is lost by it: the next check tries again
            repository.database.mend()
    if loadable:
        try:
            head = repository.resolve("HEAD")
        except NotFoundError:
            return
        yield from _check_loadable(repository, head)


def _check_loadable(repository: Repository, head: Oid) -> Iterator[Problem]:
    if not repository.is_trusted(head):
        yield Problem("untrusted", head[:8], "made on another machine, so nothing of it was loaded", "dvc-state trust HEAD")
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
            yield Problem("unloadable", f"{head[:8]}:{name}", f"cannot be loaded here: {error}", "")

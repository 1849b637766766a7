"""The files that a run read and wrote, as an entry of its commits: paths, versions, digests, and the lines that wrote them.

A version is told again by its digest (also in a copy, or in a clone), and by path, size and time where no digest was made: content is hashed only as
far as it costs the program next to nothing. Small files are hashed at commits, for ten milliseconds at most, others when the run ends, for a hundredth of its
time or a quarter of a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dartvc.history import Repository
from dartvc.history.digests import digest_of, digest_of_file
from dartvc.history.namespace import NameEntry
from dartvc.model.records import NamedTuple
from dartvc.program.effects import Effects, FileState
from dartvc.program.fileuse import FileUse, Place, Version
from dartvc.sessions.relocation import relative_path

__all__ = ["ENTRY", "FOUND", "OWN", "READ", "WRITTEN", "FileLedger", "RunFile", "files_of"]

ENTRY = "files"
READ, WRITTEN, FOUND, OWN = "read", "write", "found", "own"
"""How a run used a file; ``found``: it changed while the run went on, and Python did not open it; ``own``: it was read after the run had written it, the last such
version."""
_SMALL_BYTES = 1 << 20
_COMMIT_S = 0.01
_END_SHARE = 0.01
_END_S = 0.25
_FOUND_LIMIT = 20_000
_VERSIONS_KEPT = 20
_ALWAYS_RECORDED = 64


class RunFile(NamedTuple):
    """One version of a file as a run used it.

    Attributes:
        path: from the project's folder.
        access: see `READ`.
        size: in bytes; -1: it was removed.
        modified_ns: when it was changed, in nanoseconds since the epoch; 0: not known.
        digest: xxh3_128 of its content in hexadecimal; empty: not known.
        place: file, line and function that opened it for writing.
    """

    path: str
    access: str
    size: int
    modified_ns: int = 0
    digest: str = ""
    place: Place | None = None


class FileLedger:
    """What one run has used so far.

    Args:
        effects: sees the files being opened.
        project: the folder that paths start from; files elsewhere are left out.
    """

    def __init__(self, effects: Effects, project: str) -> None:
        self._project = project
        self.use = effects.use = FileUse(project)
        self._known: dict[tuple[str, str, Version], RunFile] = {}
        self._tried: set[tuple[str, str, Version]] = set()
        self._recorded: dict[str, object] = {}
        self._recorded_count = 0
        self._began_s = time.time()
        self._clock = time.monotonic()

    def adopt(self, repository: Repository, entries: Mapping[str, NameEntry]) -> None:
        """Takes over what the run had used before it was interrupted."""
        for each in files_of(repository, entries):
            path = os.path.join(self._project, each.path)
            if each.access == OWN:
                self.use.reread[path] = each.size, each.modified_ns
                continue
            self._known[each.access, path, (each.size, each.modified_ns)] = each
            if each.access == READ:
                self.use.read[path, (each.size, each.modified_ns)] = None
            else:
                self.use.written.add(path)

    def described(self, states: Sequence[FileState], *, is_last: bool) -> dict[str, object]:
        """Returns the entry; the one before while only few files have come to many.

        Args:
            states: the files that changed since the last call.
            is_last: the run ends: what has no digest yet gets one as far as the budget goes, and the project is looked through for what Python did not open.
        """
        self.use.is_paused = True
        try:
            self._take(states)
            if is_last:
                self._find()
            self._digest(is_last=is_last)
        finally:
            self.use.is_paused = False
        count = len(self._known)
        if is_last or not self._recorded or count <= _ALWAYS_RECORDED or count > self._recorded_count * 1.25:
            self._recorded_count = count
            self._recorded = self._entry()
        return self._recorded

    def _take(self, states: Sequence[FileState]) -> None:
        for path, version in list(self.use.read):
            if (READ, path, version) not in self._known:
                self._known[READ, path, version] = RunFile(relative_path(path, self._project), READ, *version)
        for state in states:
            if self.use.is_data(state.path):
                digest = digest_of(state.content) if state.content is not None else ""
                place = self.use.places.get(state.path)
                shown = (relative_path(place[0], self._project), *place[1:]) if place is not None else None
                path = relative_path(state.path, self._project)
                made = RunFile(path, WRITTEN, state.size, _modified_ns(state), digest, shown)
                self._known[WRITTEN, state.path, (made.size, made.modified_ns)] = made
        self._forget_old()

    def _forget_old(self) -> None:
        """Keeps of each file that was written the last versions only."""
        versions: dict[str, list[tuple[str, str, Version]]] = {}
        for key in self._known:
            if key[0] == WRITTEN:
                versions.setdefault(key[1], []).append(key)
        for keys in versions.values():
            for key in keys[:-_VERSIONS_KEPT]:
                del self._known[key]

    def _digest(self, *, is_last: bool) -> None:
        """Hashes what has no digest yet, within the budget; a file that has changed since goes without."""
        budget_s = max(_END_S, _END_SHARE * (time.monotonic() - self._clock)) if is_last else _COMMIT_S
        deadline = time.monotonic() + budget_s
        for key, each in self._known.items():
            if each.digest or each.size < 0 or key in self._tried or (not is_last and each.size > _SMALL_BYTES):
                continue
            if time.monotonic() > deadline:
                return
            self._tried.add(key)
            self._known[key] = each._replace(digest=digest_of_file(key[1], key[2], deadline))

    def _find(self) -> None:
        """Looks through the project for files that changed while the run went on."""
        since_ns = int(self._began_s * 1e9)
        deadline = time.monotonic() + _END_S
        for number, item in enumerate(_walk(self._project, self.use)):
            if number > _FOUND_LIMIT or time.monotonic() > deadline:
                return
            try:
                found = item.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_mtime_ns >= since_ns and item.path not in self.use.written:
                version = found.st_size, found.st_mtime_ns
                self._known[FOUND, item.path, version] = RunFile(relative_path(item.path, self._project), FOUND, *version)

    def _entry(self) -> dict[str, object]:
        used = [*self._known.values(), *(self._own(path, version) for path, version in self.use.reread.items())]
        rows = [[each.path, each.access, each.size, each.modified_ns, each.digest, each.place] for each in used]
        return {"type": "files", "files": rows, "further": self.use.further}

    def _own(self, path: str, version: Version) -> RunFile:
        written = self._known.get((WRITTEN, path, version))
        return RunFile(relative_path(path, self._project), OWN, *version, written.digest if written is not None else "")


def _modified_ns(state: FileState) -> int:
    """Returns when a file that was just staged was changed; 0 when it is another one by now."""
    try:
        found = os.stat(state.path)
    except OSError:
        return 0
    return found.st_mtime_ns if found.st_size == state.size else 0


def _walk(folder: str, use: FileUse) -> Iterator[os.DirEntry[str]]:
    """Yields the data files below a folder; links are not followed."""
    waiting = [folder]
    while waiting:
        try:
            items = sorted(os.scandir(waiting.pop()), key=lambda item: item.name)
        except OSError:
            continue
        for item in items:
            if item.is_dir(follow_symlinks=False):
                if use.is_data(os.path.join(item.path, "x")) and not item.name.startswith("."):
                    waiting.append(item.path)
            elif item.is_file(follow_symlinks=False) and use.is_data(item.path):
                yield item


def files_of(repository: Repository, entries: Mapping[str, NameEntry]) -> list[RunFile]:
    """Returns the files that a run had used at a commit, from the entries of its process; what is malformed is left out."""
    facts: Any = repository.summary(entries[ENTRY]) if ENTRY in entries else {}
    found = []
    for row in facts.get("files", ()):
        try:
            path, access, size, modified_ns, digest, place = row
            found.append(RunFile(str(path), str(access), int(size), int(modified_ns), str(digest), tuple(place) if place else None))
        except (TypeError, ValueError):
            continue
    known = {each.path for each in found if each.access not in (READ, OWN)}
    for name, entry in entries.items():
        path = name.partition(":")[2]
        if name.startswith("file:") and path not in known:
            size = repository.summary(entry).get("size")
            found.append(RunFile(path, WRITTEN, size if isinstance(size, int) else 0))
    return found

"""A run recorded in one folder and continued in another: paths of the project follow it, its source files come out of the commit."""

from __future__ import annotations

import io
import os
import sys
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dartvc.history import Repository
from dartvc.host.places import is_library_file
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.state.loading import Loading, load
from dartvc.store.durable import storage_errors

__all__ = ["Relocation", "follow_imports", "follow_process", "path_of_entry", "relative_path", "write_missing_sources"]


class Relocation(NamedTuple):
    """From the folder that a project had to the one that it has; both absolute, or empty: nothing moves."""

    old: str = ""
    new: str = ""

    def path(self, path: str) -> str:
        """Returns where a path of the project is now; any other path stays as it is."""
        if not self.old or self.old == self.new:
            return path
        if path == self.old:
            return self.new
        return os.path.join(self.new, path[len(self.old) + 1 :]) if path.startswith(self.old + os.sep) else path


def relative_path(path: str, project: str) -> str:
    """Returns a path as an entry of a commit names it: from the project's folder, or absolute when it lies elsewhere."""
    return path[len(project) + 1 :] if path.startswith(project + os.sep) else path


def path_of_entry(name: str, project: str) -> str:
    """Returns the path that an entry such as ``source:train.py`` stands for, in the project's present folder."""
    return os.path.join(project, name.partition(":")[2])


def follow_process(repository: Repository, oid: Oid, relocation: Relocation) -> None:
    """Takes the working directory and the import path of a process, as a commit left them, to where the project is now."""
    entry = repository.process(oid).get("cwd")
    recorded = str(repository.summary(entry).get("path") or "") if entry is not None else ""
    present = relocation.path(recorded)
    if present != recorded:
        with storage_errors(Path(present)):
            os.makedirs(present, exist_ok=True)
            os.chdir(present)
    sys.path[:] = dict.fromkeys(map(relocation.path, sys.path))


def follow_imports(repository: Repository, oid: Oid, relocation: Relocation) -> None:
    """Lets modules be imported from where a program had found them, as its import path at a commit says."""
    entry = repository.process(oid).get("sys.path")
    if entry is None or entry.payload_oid is None:
        return
    payload = repository.payload(entry.payload_oid)
    value: Any = load(payload.read_stream(), Loading({}, payload))["sys.path"]
    known = {os.path.abspath(path) for path in sys.path}
    paths = (relocation.path(path) for path in value[1])
    sys.path.extend(path for path in paths if os.path.abspath(path) not in known and os.path.isdir(path) and not is_library_file(path))


def write_missing_sources(sources: Mapping[str, str], project: str) -> list[str]:
    """Writes the recorded files of a project that are not there, as a clone lacks them; returns their paths. None is overwritten.

    Raises:
        StorageError: the disk refused.
    """
    written = []
    for path, text in sources.items():
        real = os.path.realpath(path)
        if not real.startswith(os.path.realpath(project) + os.sep) or os.path.lexists(path) or _is_in_file(path):
            continue
        with storage_errors(Path(path)):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            encoding, _ = tokenize.detect_encoding(io.BytesIO(text.encode("utf-8", "surrogatepass")).readline)
            with open(path, "x", encoding=encoding, newline="") as file:
                file.write(text)
        written.append(path)
    return written


def _is_in_file(path: str) -> bool:
    """Whether a path leads into a file, such as an archive."""
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return not os.path.isdir(folder)

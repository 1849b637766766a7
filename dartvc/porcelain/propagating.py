"""Propagates log statements from a new version of a program into old ones: texts, files, notebooks, folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import UsageError
from dartvc.hindsight.propagation.cells import Notebook
from dartvc.hindsight.propagation.propagate import Placement, Propagation, Refusal, propagate
from dartvc.hindsight.propagation.sourcetext import SourceText, decode_source
from dartvc.hindsight.propagation.versions import Version

__all__ = [
    "PatchedFile",
    "Placement",
    "Propagation",
    "Refusal",
    "propagate_files",
    "propagate_folders",
    "propagate_source",
    "propagate_sources",
]

_SUFFIXES = (".py", ".ipynb")


@dataclass(frozen=True, slots=True)
class PatchedFile:
    """An old file with the log statements of a new one: ``data`` is its bytes, ``path`` where the old one was read."""

    path: str
    data: bytes
    propagation: Propagation


def propagate_source(
    old: str, new: str, *, old_name: str = "OLD", new_name: str = "NEW", answers: Mapping[int, int] | None = None
) -> Propagation:
    """Returns an old version of a source with the log statements of a new one; nothing else of it changes.

    Args:
        old: the text of the old version.
        new: the text of the new version.
        old_name: what messages call the old one.
        new_name: what messages call the new one.
        answers: places that the user chose: for a line of NEW, the line of OLD after which its statement belongs.

    Raises:
        UsageError: one of them is not Python.
    """
    return propagate(Version(SourceText(new, new_name)), [Version(SourceText(old, old_name))], answers)[0]


def propagate_sources(olds: Sequence[str], new: str) -> list[Propagation]:
    """Returns several old versions with the log statements of a new one, which is analysed once.

    Raises:
        UsageError: one of them is not Python.
    """
    return propagate(Version(SourceText(new, "NEW")), [Version(SourceText(old, f"OLD {number}")) for number, old in enumerate(olds, 1)])


def propagate_files(olds: Sequence[str], new: str, answers: Mapping[int, int] | None = None) -> list[PatchedFile]:
    """Returns old files, scripts or notebooks, with the log statements of a new one, which is analysed once.

    Raises:
        UsageError: a file cannot be read, or is not Python.
    """
    version = _File(new).version
    files = [_File(path) for path in olds]
    patched = propagate(version, [file.version for file in files], answers)
    return [PatchedFile(file.path, file.patched(each), each) for file, each in zip(files, patched, strict=True)]


def propagate_folders(old: str, new: str) -> list[PatchedFile]:
    """Returns the files of an old folder with the log statements of the files of the same paths in a new folder.

    A file of NEW that has log statements and whose path OLD lacks goes into the file of OLD that takes all of them, if one alone does.

    Raises:
        UsageError: a file cannot be read, or is not Python; a new file with log statements has no counterpart.
    """
    theirs = {path: _File(os.path.join(old, path)) for path in _iter_sources(old)}
    patched = []
    for path in _iter_sources(new):
        file = _File(os.path.join(new, path))
        if not file.version.logs.calls:
            continue
        if path in theirs:
            done = propagate(file.version, [theirs[path].version])[0]
            patched.append(PatchedFile(path, theirs[path].patched(done), done))
            continue
        others = {name: each for name, each in theirs.items() if not os.path.exists(os.path.join(new, name))}
        found = [
            (name, each) for name, each in zip(others, propagate(file.version, [each.version for each in others.values()]), strict=True)
        ]
        whole = [(name, each) for name, each in found if not each.refusals and each.placements]
        if len(whole) != 1:
            raise UsageError(
                f"{path} has no counterpart in {old}" if not whole else f"{path} may be {' or '.join(name for name, _ in whole)} in {old}",
                kind="no-counterpart",
                hint=f"dvc-state propagate {os.path.join(old, 'OLD.py')} {os.path.join(new, path)}",
            )
        name, done = whole[0]
        patched.append(PatchedFile(name, others[name].patched(done), done))
    return patched


class _File:
    """A script or a notebook on disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._data = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", kind="no-file", hint="dvc-state propagate OLD.py NEW.py") from None
        self._notebook: Notebook | None = None
        if path.endswith(".ipynb"):
            self._encoding = "utf-8"
            self._notebook = Notebook(self._data.decode("utf-8", "replace"), path)
            source = self._notebook.source
        else:
            text, self._encoding = decode_source(self._data, path)
            source = SourceText(text, path)
        self.version = Version(source)

    def patched(self, propagation: Propagation) -> bytes:
        """Returns the file's bytes with the insertions of a propagation."""
        if not propagation.insertions:
            return self._data
        if self._notebook is not None:
            return self._notebook.with_insertions(propagation.insertions).encode()
        try:
            return propagation.text.encode(self._encoding)
        except UnicodeEncodeError as error:
            character = propagation.text[error.start]
            raise UsageError(
                f"{self.path} is written in {self._encoding}, which has no {character!r}",
                kind="encoding",
                hint=f"save {self.path} as UTF-8",
            ) from None


def _iter_sources(folder: str) -> Iterator[str]:
    """Yields the scripts and notebooks below a folder, hidden folders left out, as paths inside of it."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        yield from (os.path.relpath(os.path.join(here, name), folder) for name in sorted(names) if name.endswith(_SUFFIXES))

"""Files over items: what a call reads comes from a file, or from what the program itself had written there before.

Which calls write is told by their names, as all that is assumed of libraries is. A file that the program wrote is an object like any other: an open one has it in it, and
what writes changes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from dartvc.lineage.traces.expressions import Arguments, Expressions, Surroundings
from dartvc.lineage.traces.heap import Result, Thing
from dartvc.lineage.traces.items import EITHER, FILE, LineageItem

__all__ = ["Files"]

_READING_NAMES = ("read", "load", "open", "fromfile", "genfromtxt", "imread", "connect")
_WRITING_NAMES = ("to_", "tofile", "write", "save", "dump", "imsave", "imwrite", "sink_")
_WRITING_ANYWHERE = ("to_csv", "to_json", "to_parquet", "to_pickle", "to_excel", "to_feather", "write_", "save", "imsave", "imwrite", "sink_")
_OPENING = frozenset({"open", "File", "ZipFile", "TarFile"})
_MOVING = frozenset({"replace", "rename", "renames", "move", "copy", "copy2", "copyfile"})
_SUFFIXES = ("", ".npy", ".npz")
"""What libraries append to a path that lacks it."""


class Files(Expressions):
    """Evaluates what calls do with files."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._leaves: dict[str, LineageItem] = {}
        self._made: dict[str, Thing] = {}
        for path in dict.fromkeys(surroundings.made.values()):
            self._made[path] = len(self.heap.natures)
            self.heap.natures.append(None)

    def files_read(self, name: str, arguments: Arguments, subject: Thing | None = None) -> list[LineageItem]:
        """Returns the items of the files that a call reads: those that its constants name, or that it may have been given.

        Args:
            name: the function's, or a method's.
            arguments: what it is given.
            subject: a method's object.
        """
        files, last = {**self.surroundings.files, **self.surroundings.made}, name.rpartition(".")[2]
        named = self._named(arguments, subject)
        mode = self._mode(last, arguments, subject)
        if (mode is None and last.startswith(_WRITING_NAMES)) or (mode or "r")[0] in "wx":
            return []
        found = [path for value in (named[:1] if last in _MOVING else named) if (path := os.path.normpath(value)) in files]
        is_open = bool(arguments.positional) and self._is_named(arguments.positional[0])
        if not found and files and not named and arguments.positional and last.startswith(_READING_NAMES) and not is_open:
            found = [path for path in files if not os.path.isabs(path)]
        return [item for path in dict.fromkeys(found) if (item := self._content(path)) is not None]

    def note_written(self, name: str, arguments: Arguments, item: LineageItem, result: Thing, subject: Thing | None = None) -> None:
        """Notes what a call writes: into the files that its constants name, that may be meant, or that it is given open.

        Args:
            name: the function's, or a method's.
            arguments: what it is given.
            item: what it does.
            result: what it gives.
            subject: a method's object.
        """
        if not self._made:
            return
        heap, known = self.heap, set(self._made.values())
        opened = [each for thing in arguments.all() if known.intersection(found := heap.reach(thing)) for each in found if each in known]
        heap.items.update(dict.fromkeys(opened, item))
        if opened:
            heap.hold(result, opened)
            return
        last = name.rpartition(".")[2]
        mode = self._mode(last, arguments, subject)
        if not (last.startswith(_WRITING_NAMES) if mode is None else set(mode) & set("wax+")) and last not in _MOVING:
            return
        named = self._named(arguments, subject)
        written = list(self._things(named[1:2] if last in _MOVING else named))
        is_path_unknown = self._is_path_unknown(arguments, subject, is_open=mode is not None) and (mode is not None or subject is not None or not named)
        if not written and is_path_unknown and (mode is not None or last.startswith(_WRITING_ANYWHERE)):
            written = list(known)
            item = self.maker.make(EITHER, (*(heap.items[each] for each in written if each in heap.items), item), (), self.step)
        heap.items.update(dict.fromkeys(written, item))
        if mode is not None:
            heap.hold(result, written)

    def _named(self, arguments: Arguments, subject: Thing | None) -> list[str]:
        """Returns the texts among what a call is given; a method's object may be a path."""
        things = (*([subject] if subject is not None else []), *arguments.all())
        return [value for each in things if isinstance(value := self.heap.constant(each), str)]

    def _mode(self, last: str, arguments: Arguments, subject: Thing | None) -> str | None:
        """Returns how a call opens a file; None where it opens none."""
        if last not in _OPENING:
            return None
        at = 0 if subject is not None else 1
        given = arguments.keywords.get("mode", arguments.positional[at] if len(arguments.positional) > at else None)
        return str((self.heap.constant(given) if given is not None else None) or "r")

    def _is_path_unknown(self, arguments: Arguments, subject: Thing | None, *, is_open: bool) -> bool:
        """Whether a call that writes is given a path that is not known."""
        path = subject if is_open and subject is not None else next(iter(arguments.all()), None)
        return path is not None and not isinstance(self.heap.constant(path), str)

    def _is_named(self, thing: Thing) -> bool:
        """Whether an object is a file that was opened by a path that is known."""
        nature = self.heap.nature(thing)
        is_opened = isinstance(nature, Result) and nature.name.rpartition(".")[2] in _OPENING
        return is_opened and isinstance(nature, Result) and any(isinstance(self.heap.constant(each), str) for each in nature.arguments[:1])

    def _things(self, named: list[str]) -> Iterator[Thing]:
        for value in named:
            for suffix in _SUFFIXES:
                path = self.surroundings.made.get(os.path.normpath(value + suffix))
                if path is not None:
                    yield self._made[path]

    def _content(self, path: str) -> LineageItem | None:
        """Returns what a file holds; None where it is only written."""
        thing = self._made.get(self.surroundings.made.get(path, ""))
        if thing is not None and thing in self.heap.items:
            return self.heap.use(thing)
        if path not in self.surroundings.files:
            return None
        if path not in self._leaves:
            self._leaves[path] = self.maker.make(FILE, (), (path, self.surroundings.files[path]), None)
        return self._leaves[path]

"""The recorded program of a run with the log statements of the program's present files.

The present program is the script at the run's path and the modules of its folder that it imports. A file of it that logs what is asked for
is held against the recorded file of the same path, else against the one recorded file that takes all of its statements.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from dartvc.errors import UsageError
from dartvc.hindsight.propagation.logcalls import LogCalls
from dartvc.hindsight.propagation.propagate import Propagation, propagate
from dartvc.hindsight.propagation.sourcetext import Insertion, SourceText
from dartvc.hindsight.propagation.versions import Version

__all__ = ["PatchedProgram", "PresentFiles", "is_wanted", "libraries_of", "name_logged", "names_logged_in"]

_SUFFIXES = (".py", ".ipynb")


def is_wanted(name: str, patterns: Iterable[str]) -> bool:
    """Whether a logged name is asked for; patterns may hold ``*`` and ``?``, and none at all ask for every name."""
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(name, each) for each in patterns)


def names_logged_in(texts: Iterable[str]) -> frozenset[str | None]:
    """Returns the names that sources log; None among them when one of them is not written out."""
    found: set[str | None] = set()
    for text in texts:
        if "log" in text:
            tree = ast.parse(text)
            found.update(name_logged(call) for call in LogCalls(tree, list(ast.walk(tree))).calls)
    return frozenset(found)


def libraries_of(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Returns what sources import, wherever they do: modules, and what is taken from them, which may be modules, too; not relative to themselves."""
    found: dict[tuple[str, str], None] = {}
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found.update(dict.fromkeys((each.name, "") for each in node.names))
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.update(dict.fromkeys((node.module, each.name if each.name != "*" else "") for each in node.names))
    return list(found)


@dataclass
class PatchedProgram:
    """A recorded program with the log statements that it lacked.

    Attributes:
        sources: the text of every file, by path.
        edits: of each file that was added to, the insertions of each pass, in the order in which they were made.
        lines: the log statements that have a place, as ``train.py:31`` of the old file.
        refusals: why a statement has no place, by the names that it logs (empty: they are not known).
        problem: why the program cannot be replayed at all; empty when it can.
    """

    sources: dict[str, str]
    edits: dict[str, list[tuple[Insertion, ...]]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    refusals: list[tuple[frozenset[str], str]] = field(default_factory=list)
    problem: str = ""

    @property
    def digest(self) -> str:
        """Tells this program from any other."""
        return hashlib.sha256(json.dumps(sorted(self.sources.items())).encode("utf-8", "surrogatepass")).hexdigest()


class PresentFiles:
    """The present files of programs; each is read and analysed once, however many runs are held against it.

    Args:
        read: returns the text of a script or notebook as it would run; raises OSError or UsageError.
        root: the project's folder, in which renamed files are looked for.
    """

    def __init__(self, read: Callable[[str], str], root: str) -> None:
        self._read = read
        self._root = root
        self._texts: dict[str, str | None] = {}
        self._versions: dict[tuple[str, frozenset[str]], Version] = {}
        self._names: dict[str, frozenset[str | None]] = {}
        self._propagations: dict[tuple[str, frozenset[str], str, str], Propagation] = {}

    def names_logged(self, script: str, folder: str) -> frozenset[str | None]:
        """Returns the names that the present program of a script logs; None stands for names that only running it tells."""
        return frozenset().union(*(self._names_of(path) for path in self._program(script, folder)))

    def patch(self, sources: Mapping[str, str], script: str, folder: str, names: Sequence[str]) -> PatchedProgram:
        """Puts the present log statements of some names into a recorded program.

        Args:
            sources: the recorded files, by path.
            script: which of them was run.
            folder: where its modules lie.
            names: patterns; none: all names.
        """
        patched = PatchedProgram(dict(sources))
        files = [path for path in self._program(script, folder) if self._logs_any(path, names)]
        if not files and self.text(script) is None:
            files = self._renamed(sources, script, names, patched)
        for path in files:
            if patched.problem:
                break
            try:
                self._put(patched, path, names)
            except UsageError as error:
                patched.problem = error.message
        return patched

    def text(self, path: str) -> str | None:
        """Returns a present file's text; None when it is not there.

        Raises:
            UsageError: it is no notebook, or uses what is not installed.
        """
        if path not in self._texts:
            try:
                self._texts[path] = self._read(path)
            except (OSError, SyntaxError, UnicodeDecodeError):
                self._texts[path] = None
        return self._texts[path]

    # -- which files ------------------------------------------------------------------------------------------------------------

    def _program(self, script: str, folder: str) -> list[str]:
        """Returns the present script and the modules of its folder that it imports, directly or not."""
        found = [script] if self.text(script) is not None else []
        for path in found:
            for module in _imports(self.text(path) or "", path, folder):
                for candidate in (module + ".py", os.path.join(module, "__init__.py")):
                    if candidate not in found and os.path.isfile(candidate) and self.text(candidate) is not None:
                        found.append(candidate)
        return found

    def _renamed(self, sources: Mapping[str, str], script: str, names: Sequence[str], patched: PatchedProgram) -> list[str]:
        """Returns the present file that a script which is gone has become: the one whose log statements all have a place in it."""
        candidates = [path for path in self._all_files() if path not in sources and self._logs_any(path, names)]
        fitting = [path for path in candidates if _is_whole(self._propagated(path, sources[script], script, names))]
        name = os.path.basename(script)
        if len(fitting) != 1:
            shown = " or ".join(os.path.relpath(each, self._root) for each in fitting)
            patched.problem = f"{name} may have become {shown}" if fitting else f"{name} is not here any more"
            return []
        self._put_into(patched, fitting[0], script, names)
        return []

    def _all_files(self) -> Iterator[str]:
        for here, folders, names in os.walk(self._root):
            folders[:] = sorted(each for each in folders if not each.startswith((".", "__")) and not _is_environment(here, each))
            yield from (os.path.join(here, name) for name in sorted(names) if name.endswith(_SUFFIXES))

    # -- statements -------------------------------------------------------------------------------------------------------------

    def _names_of(self, path: str) -> frozenset[str | None]:
        """Returns the names that a file logs; None among them for those that are not written out."""
        if path not in self._names:
            try:
                self._names[path] = names_logged_in([self.text(path) or ""])
            except (UsageError, SyntaxError, ValueError, RecursionError):
                self._names[path] = frozenset()
        return self._names[path]

    def _logs_any(self, path: str, names: Sequence[str]) -> bool:
        return any(each is None or is_wanted(each, names) for each in self._names_of(path))

    def _version(self, path: str, unwanted: frozenset[str]) -> Version:
        """Returns a present file without the log statements of some names."""
        version = self._versions.get((path, unwanted))
        if version is None:
            source = SourceText(self.text(path) or "", path)
            if unwanted:
                source = SourceText(_without(source, self._version(path, frozenset()), unwanted), path)
            version = self._versions[path, unwanted] = Version(source)
        return version

    def _propagated(self, path: str, old: str, old_path: str, names: Sequence[str]) -> Propagation:
        unwanted = frozenset(each for each in self._names_of(path) if each is not None and not is_wanted(each, names))
        key = path, unwanted, old, old_path
        if key not in self._propagations:
            self._propagations[key] = propagate(self._version(path, unwanted), [Version(SourceText(old, old_path))])[0]
        return self._propagations[key]

    def _put(self, patched: PatchedProgram, path: str, names: Sequence[str]) -> None:
        if path in patched.sources:
            self._put_into(patched, path, path, names)
            return
        others = [each for each in patched.sources if self.text(each) is None] or list(patched.sources)
        fitting = [each for each in others if _is_whole(self._propagated(path, patched.sources[each], each, names))]
        if len(fitting) == 1:
            self._put_into(patched, path, fitting[0], names)
        else:
            where = " or ".join(os.path.basename(each) for each in fitting)
            known = frozenset(each for each in self._names_of(path) if each is not None and is_wanted(each, names))
            reason = f"its statements may belong into {where}" if fitting else "no file of the run takes its statements"
            patched.refusals.append((known, f"{os.path.relpath(path, self._root)}: {reason}"))

    def _put_into(self, patched: PatchedProgram, path: str, old_path: str, names: Sequence[str]) -> None:
        done = self._propagated(path, patched.sources[old_path], old_path, names)
        shown = os.path.relpath(path, self._root)
        patched.lines += [f"{os.path.basename(old_path)}:{each.old_line}" for each in done.placements]
        if done.insertions:
            patched.sources[old_path] = done.text
            patched.edits.setdefault(old_path, []).append(done.insertions)
        calls = self._version(path, frozenset()).logs.calls
        for refusal in done.refusals:
            there = {name_logged(call) for call in calls if call.lineno <= refusal.new_line <= (call.end_lineno or call.lineno)}
            known = frozenset(each for each in there if each is not None) if None not in there else frozenset()
            patched.refusals.append((known, f"{shown}:{refusal.new_line}: {refusal.text.strip()}: {refusal.reason}"))


def _is_whole(done: Propagation) -> bool:
    return bool(done.placements) and not done.refusals


def _is_environment(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


def name_logged(call: ast.Call) -> str | None:
    """Returns the name that a log call logs; None when it is not written out."""
    given = call.args[0] if call.args else next((each.value for each in call.keywords if each.arg == "name"), None)
    if isinstance(given, ast.Constant) and isinstance(given.value, str) and _is_plain_log(call):
        return given.value
    return None


def _is_plain_log(call: ast.Call) -> bool:
    """Whether a call is that of the function that logs, not of a user's function around it."""
    return isinstance(call.func, ast.Attribute) or len(call.args) + len(call.keywords) == 2


def _without(source: SourceText, version: Version, unwanted: frozenset[str]) -> str:
    """Returns a text in which statements that only log unwanted names are gone; every other character keeps its place."""
    text = list(source.text)

    def clear(block: list[ast.stmt]) -> None:
        is_emptied = all(_logs_only(each, version, unwanted) for each in block)
        for each in block:
            inner = _blocks(each)
            start, end = source.start(each), source.end(each)
            if not _logs_only(each, version, unwanted) or source.text.startswith("elif", start):
                for part in inner:
                    clear(part)
                continue
            text[start:end] = [char if char in "\r\n" else " " for char in text[start:end]]
            if is_emptied or not source.begins_line(start) or source.line_end(end) is None:
                text[start : start + 4] = "pass"

    clear(source.tree.body)
    return "".join(text)


def _blocks(node: ast.AST) -> list[list[ast.stmt]]:
    parts = [node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())]
    blocks = (getattr(part, each, None) for part in parts for each in ("body", "orelse", "finalbody"))
    return [block for block in blocks if isinstance(block, list) and block]


def _logs_only(statement: ast.stmt, version: Version, unwanted: frozenset[str]) -> bool:
    """Whether a statement does nothing but log unwanted names; so does a branch or a loop that holds nothing else."""
    if isinstance(statement, ast.If | ast.For | ast.With):
        return all(_logs_only(each, version, unwanted) for block in _blocks(statement) for each in block)
    calls = version.logs.find_calls(statement) if version.logs.is_log_statement(statement) else []
    return bool(calls) and all(name_logged(call) in unwanted for call in calls)


def _imports(text: str, path: str, folder: str) -> Iterator[str]:
    """Yields the files, without their suffix, that a source may import from a folder."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _prefixes(folder, alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = folder
            if node.level:
                start = os.path.dirname(path)
                for _ in range(node.level - 1):
                    start = os.path.dirname(start)
            for alias in node.names:
                yield from _prefixes(start, f"{node.module}.{alias.name}" if node.module else alias.name)


def _prefixes(folder: str, dotted: str) -> Iterator[str]:
    parts = dotted.split(".")
    for count in range(1, len(parts) + 1):
        yield os.path.join(folder, *parts[:count])

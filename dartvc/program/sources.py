"""The source behind a code object: its file's text, the syntax tree, and the node that a code object was compiled from."""

from __future__ import annotations

import ast
import hashlib
import json
import linecache
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dartvc.host.places import PACKAGE_FOLDERS, is_library_file

__all__ = ["MODULE_SCOPE", "Scope", "SourceUnit", "Sources", "UserFiles", "digest_of_code", "module_text"]

MODULE_SCOPE = "<module>"
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def digest_of_code(code: types.CodeType) -> str:
    """Returns a digest of what a code object does, the same in every process of one Python version."""
    state = hashlib.sha1(code.co_code)
    state.update(repr((code.co_qualname, code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            state.update(digest_of_code(constant).encode())
        elif not isinstance(constant, frozenset):
            state.update(repr(constant).encode())
    return state.hexdigest()


class SourceUnit:
    """One source file: its text, its tree, and the code that it compiles to; a notebook's may await outside of functions.

    Args:
        flags: of the compiler: the ``__future__`` features that a shell carries from cell to cell.
    """

    def __init__(self, filename: str, text: str, flags: int = 0) -> None:
        self.filename = filename
        self.text = text
        self.flags = flags = flags | (ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if filename.endswith(".ipynb") else 0)
        self.tree: ast.Module = compile(text, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        self.code: types.CodeType = compile(self.tree, filename, "exec", flags, dont_inherit=True)
        self._codes = {(code.co_qualname, code.co_firstlineno): code for whole in self.compiled() for code in iter_codes(whole)}
        self._scopes = {(name, _first_line(node)): node for name, node in _iter_scopes(self.tree, "")}

    def compiled(self) -> Iterable[types.CodeType]:
        """Returns the code objects whose functions may be running."""
        return (self.code,)

    @property
    def codes(self) -> dict[tuple[str, int], types.CodeType]:
        """The code of every function, by its qualified name and first line."""
        return self._codes

    def scope_of(self, code: types.CodeType) -> Scope | None:
        """Returns the node that a running code object was compiled from; None when the source is not the code's own."""
        if code.co_name == MODULE_SCOPE and code.co_qualname == MODULE_SCOPE:
            return self.tree if code == self.code else None
        own = self._codes.get((code.co_qualname, code.co_firstlineno))
        if own is None or (own is not code and digest_of_code(own) != digest_of_code(code)):
            return None
        return self._scopes.get((code.co_qualname, code.co_firstlineno))

    def find(self, qualname: str, first_line: int) -> tuple[Scope | None, types.CodeType | None]:
        """Returns the node and the code of a function by its qualified name and first line."""
        if qualname == MODULE_SCOPE:
            return self.tree, self.code
        return self._scopes.get((qualname, first_line)), self._codes.get((qualname, first_line))

    def find_again(self, old: SourceUnit, qualname: str, first_line: int) -> tuple[Scope | None, types.CodeType | None]:
        """Returns the node and the code that a function of an older text has here: of several with one name, the one in the same order."""
        lines, now = (sorted(line for name, line in unit._codes if name == qualname) for unit in (old, self))
        if qualname == MODULE_SCOPE:
            return self.tree, self.code
        place = lines.index(first_line) if first_line in lines else len(now)
        return self.find(qualname, now[place]) if place < len(now) else (None, None)


class Sources:
    """The source files of one process, read once each."""

    def __init__(self) -> None:
        self._units: dict[str, SourceUnit | None] = {}
        self._recorded: dict[str, SourceUnit] = {}

    def add(self, filename: str, text: str) -> SourceUnit:
        """Registers the text that a file has (or had when it was recorded)."""
        return self.put(SourceUnit(filename, text))

    def put(self, unit: SourceUnit) -> SourceUnit:
        """Registers a unit under its file name."""
        self._units[unit.filename] = unit
        return unit

    def supply(self, texts: Mapping[str, str]) -> None:
        """Registers the recorded texts of those files that have no readable source here."""
        for filename, text in texts.items():
            if self.find(filename) is None:
                self.add(filename, text)

    def was_read(self, filename: str) -> bool:
        """Whether `find` needs to read nothing."""
        return filename in self._units

    def note_recorded(self, texts: Mapping[str, str]) -> None:
        """Takes note of the texts that ran; those that files have now may be others."""
        for filename, text in texts.items():
            unit = self.find(filename)
            if unit is not None and unit.text != text:
                self._recorded[filename] = SourceUnit(filename, text)

    def edited(self) -> list[tuple[SourceUnit, SourceUnit]]:
        """Returns the units that were edited, each as it ran and as it is now."""
        return [(old, self._units[filename]) for filename, old in self._recorded.items()]  # type: ignore[misc]

    def recorded(self, filename: str) -> SourceUnit | None:
        """Returns the unit as it ran, where it was edited since."""
        return self._recorded.get(filename)

    def find(self, filename: str) -> SourceUnit | None:
        """Returns the unit of a file; None when it has no readable source."""
        if filename not in self._units:
            try:
                text = "".join(linecache.getlines(filename)) if not filename.startswith("<frozen") else ""
                text = text or _text_in_archive(filename)
                self._units[filename] = SourceUnit(filename, text) if text else None
            except (SyntaxError, ValueError, RecursionError):
                self._units[filename] = None
        return self._units[filename]


class UserFiles:
    """Which files are the user's own: the one rule for stopping, recording and reuse.

    A file is the user's when it lies below one of the given folders, or below the folder of a package that is installed to be worked on
    (``pip install -e``), and is no library's. Of a file behind a symbolic link either name may say so; inside of an installed package
    only links to folders are followed.
    """

    def __init__(self, *folders: str) -> None:
        self._folders = tuple({os.path.join(path, "") for folder in folders if folder for path in _names_of(folder)})
        self._known: dict[str, bool] = {}
        self._packaged: dict[str, bool] = {}
        self._real: dict[str, str] = {}

    def is_own(self, filename: str) -> bool:
        """Returns whether a file is the user's."""
        known = self._known.get(filename)
        if known is None:
            known = self._known[filename] = self._find(filename)
        return known

    def _find(self, filename: str) -> bool:
        if filename.startswith("<"):
            return False
        if self._is_packaged(filename.rpartition(os.sep)[0]):
            return False
        names = [name for name in _names_of(filename) if not is_library_file(name)]
        return any(name.startswith(self._folders) for name in names) or any(name.startswith(self._editable) for name in names)

    def _is_packaged(self, folder: str) -> bool:
        """Fast path: whether a folder is inside of an installed package or of Python's own: libraries have hundreds of files in few folders."""
        known = self._packaged.get(folder)
        if known is None:
            is_plain = os.path.abspath(folder) == folder and os.path.basename(folder) not in PACKAGE_FOLDERS
            names = (os.path.join(name, "") for name in (folder, self._real_folder(folder)))
            known = self._packaged[folder] = is_plain and all(map(is_library_file, names))
        return known

    def _real_folder(self, folder: str) -> str:
        """Fast path: what `os.path.realpath` returns, each folder above looked at once."""
        real = self._real.get(folder)
        if real is None:
            above, name = os.path.split(folder)
            real = os.path.realpath(folder) if not name or os.path.islink(folder) else os.path.join(self._real_folder(above), name)
            self._real[folder] = real
        return real

    @cached_property
    def _editable(self) -> tuple[str, ...]:
        """The folders of packages that are installed to be worked on (PEP 610); looked for when a file is none of the project's."""
        found: list[str] = []
        for folder in dict.fromkeys(path for path in sys.path if os.path.basename(path) in PACKAGE_FOLDERS):
            for record in Path(folder).glob("*.dist-info/direct_url.json"):
                try:
                    facts = json.loads(record.read_text(encoding="utf-8"))
                    is_editable = facts.get("dir_info", {}).get("editable", False)
                    address = urlsplit(facts["url"])
                except (OSError, ValueError, KeyError, AttributeError):
                    continue
                if is_editable and address.scheme == "file":
                    found.extend(os.path.join(name, "") for name in _names_of(unquote(address.path)))
        return tuple(found)


def _names_of(path: str) -> tuple[str, ...]:
    """Returns a path as it is given and without symbolic links."""
    given = os.path.abspath(path)
    real = os.path.realpath(given)
    return (given,) if real == given else (given, real)


def module_text(module: types.ModuleType) -> str:
    """Returns the source of an imported module, from a zip archive, too; empty when it has none."""
    try:
        text: Any = vars(module)["__loader__"].get_source(module.__name__)
    except (ImportError, OSError, ValueError, KeyError, AttributeError):
        return ""
    return text if isinstance(text, str) else ""


def _text_in_archive(filename: str) -> str:
    """Returns the source of a module that was imported from a file that cannot be opened under its name."""
    if os.path.exists(filename) or filename.startswith("<"):
        return ""
    module = next((each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == filename), None)
    return module_text(module) if module is not None else ""


def iter_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yields a code object and all code nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from iter_codes(constant)


def _first_line(node: Scope) -> int:
    decorators = getattr(node, "decorator_list", ())
    return min((each.lineno for each in decorators), default=getattr(node, "lineno", 1))


def _iter_scopes(node: ast.AST, prefix: str) -> Iterator[tuple[str, Scope]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = prefix + child.name
            yield name, child
            yield from _iter_scopes(child, name + ".<locals>.")
        elif isinstance(child, ast.ClassDef):
            name = prefix + child.name
            yield name, child
            yield from _iter_scopes(child, name + ".")
        elif isinstance(child, ast.Lambda):
            yield from _iter_scopes(child, prefix + "<lambda>.<locals>.")
        else:
            yield from _iter_scopes(child, prefix)

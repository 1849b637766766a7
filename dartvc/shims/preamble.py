"""The imports that a script begins with, and Python's collector of cycles while they run.

What a library's modules hold (functions, classes: containers, all of them) stays until the process ends. The collector does not know that: it looks
whenever 700 more containers were made than freed, and three times at exit, which takes 0.3 s where PyTorch or scikit-learn is imported. So collections
are rare while modules are imported, and what is there then is frozen (`gc.freeze`): before the program has done anything of its own, all of it is
Python's and the libraries'.
"""

from __future__ import annotations

import ast
import gc
import sys
import threading
import types
from collections.abc import Callable, Iterable

from dartvc.program.sources import SourceUnit

__all__ = ["Preamble"]

_FACTOR = 100
_IMPORTLIB = "<frozen importlib._bootstrap>"


class Preamble:
    """Watches a script's first statements.

    Args:
        unit: the script.
        is_own: whether a file is the user's own.
    """

    def __init__(self, unit: SourceUnit, is_own: Callable[[str], bool]) -> None:
        self._code = unit.code
        self._is_own = is_own
        self._packages: set[str] = set()
        self._last_line = _end_of_preamble(unit.tree.body, self._packages)
        self._before = gc.get_threshold()
        self._rare = (_FACTOR * self._before[0], *self._before[1:])
        self._is_over = False

    def begin(self, code: types.CodeType | None = None) -> None:
        """Makes collections rare.

        Args:
            code: what the script was compiled to, where that is not its plain code.
        """
        self._code = code or self._code
        gc.set_threshold(*self._rare)

    def look(self) -> None:
        """Freezes what there is while the first statements run, and ends it when the main thread imports no more; to be called a few times a second."""
        if self._is_over:
            return
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        is_importing = False
        while frame is not None and frame.f_code is not self._code:
            is_importing = is_importing or frame.f_code.co_filename == _IMPORTLIB
            frame = frame.f_back
        if frame is not None and (frame.f_lineno or 0) <= self._last_line and not self._has_own_modules():
            gc.freeze()
        elif not is_importing:
            self.end()

    def end(self) -> None:
        """Makes collections as frequent as they were, unless the program has said how frequent they are to be."""
        if not self._is_over and gc.get_threshold() == self._rare:
            gc.set_threshold(*self._before)
        self._is_over = True

    def _has_own_modules(self) -> bool:
        """Whether code of the user's own may have run: a module of theirs is among those that were imported."""
        modules = [sys.modules[name] for name in self._packages if name in sys.modules]
        return any(self._is_own(path) for module in modules for path in _places_of(module))


def _places_of(module: types.ModuleType) -> list[str]:
    path = getattr(module, "__file__", None)
    return [path] if isinstance(path, str) else [str(each) for each in getattr(module, "__path__", ())]


def _end_of_preamble(body: Iterable[ast.stmt], packages: set[str]) -> int:
    """Returns the line on which the statements end that only import and set up; adds the packages that they import."""
    end = 0
    for statement in body:
        if not _is_setting_up(statement, packages):
            break
        end = statement.end_lineno or end
    return end


def _is_setting_up(statement: ast.stmt, packages: set[str]) -> bool:
    """Whether a statement imports, or makes nothing but constants: ``os.environ["X"] = "1"``, ``matplotlib.use("Agg")``."""
    if isinstance(statement, ast.Import):
        packages.update(each.name.partition(".")[0] for each in statement.names)
        return True
    if isinstance(statement, ast.ImportFrom):
        packages.add((statement.module or "").partition(".")[0])
        return not statement.level
    if isinstance(statement, ast.Try):
        handled = (each for handler in statement.handlers for each in handler.body)
        parts = (*statement.body, *handled, *statement.orelse, *statement.finalbody)
        return all(_is_setting_up(each, packages) for each in parts)
    if isinstance(statement, ast.Assign):
        return _is_plain(statement.value)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        arguments = (*call.args, *(keyword.value for keyword in call.keywords))
        return isinstance(call.func, ast.Attribute) and _is_plain(call.func) and all(map(_is_plain, arguments))
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and _is_plain(statement.value))


def _is_plain(value: ast.expr) -> bool:
    """Whether an expression is a constant, or something that an imported module has."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Constant | ast.Name)

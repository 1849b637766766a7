"""Going on with a text that was edited since it ran: frames are found again in it, functions get their new bodies, new definitions are made.

What ran already does not run again: of a module's own statements before the one in progress, only imports, functions and classes count.
"""

from __future__ import annotations

import ast
import gc
import types
from collections.abc import Iterable, Iterator
from typing import Any

from dartvc.program.capture import CapturedFrame
from dartvc.program.places import NotResumable, range_of_node
from dartvc.program.sources import MODULE_SCOPE, SourceUnit, digest_of_code

__all__ = ["Edited", "define_new", "move_frame", "renew_functions"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_METHODS = (types.FunctionType, staticmethod, classmethod, property)


class Edited(NotResumable):
    """What is in progress is another text now."""


def move_frame(frame: CapturedFrame, old: SourceUnit, new: SourceUnit) -> None:
    """Makes a frame stand in the new text where it stood in the old one.

    The statement of the function's own body that is in progress has to be the same; what comes after it is the new text's.

    Raises:
        Edited: it is another one, or the function is gone.
    """
    name = "the script" if frame.qualname == MODULE_SCOPE else frame.qualname
    before, _ = old.find(frame.qualname, frame.first_line)
    after, code = new.find_again(old, frame.qualname, frame.first_line)
    if before is None or after is None or code is None:
        raise Edited(f"{name} is in progress, and gone from {new.filename}")
    if frame.path:
        (field, index), *inner = frame.path
        wanted = ast.dump(before.body[index])
        rank = sum(ast.dump(each) == wanted for each in before.body[:index])
        places = [place for place, each in enumerate(after.body) if ast.dump(each) == wanted]
        if len(places) <= rank:
            raise Edited(f"line {before.body[index].lineno} of {new.filename}, in {name}, is in progress and was edited")
        _move_lines(frame, before.body[index], after.body[places[rank]])
        frame.path = ((field, places[rank]), *inner)
    frame.first_line, frame.digest = code.co_firstlineno, digest_of_code(code)


def _move_lines(frame: CapturedFrame, before: ast.AST, after: ast.AST) -> None:
    pairs = [(one, two) for one, two in zip(ast.walk(before), ast.walk(after), strict=True) if hasattr(one, "lineno")]
    ranges = {range_of_node(one): range_of_node(two) for one, two in pairs}
    if frame.call is not None:
        frame.call = ranges.get(frame.call, frame.call)
    lines: dict[int, int] = {}
    for one, two in pairs:
        lines.setdefault(one.lineno, two.lineno)  # type: ignore[attr-defined]
    frame.line = lines.get(frame.line, frame.line)


def renew_functions(edits: Iterable[tuple[SourceUnit, SourceUnit]]) -> None:
    """Gives the living functions of old texts the bodies that they have in the new ones; a closure over other variables keeps its own."""
    units = {old.filename: (old, new) for old, new in edits}
    for function in gc.get_objects():
        if type(function) is types.FunctionType and function.__code__.co_filename in units:
            code, (old, new) = function.__code__, units[function.__code__.co_filename]
            _, fresh = new.find_again(old, code.co_qualname, code.co_firstlineno)
            if fresh is not None and fresh.co_freevars == code.co_freevars:
                function.__code__ = fresh


def define_new(old: SourceUnit, new: SourceUnit, done: int, namespace: dict[str, Any]) -> list[int]:
    """Executes the imports and definitions that are new among the first ``done`` statements of a module; returns the lines of what else is new there."""
    known = {ast.dump(each) for each in old.tree.body}
    defined = {each.name for each in old.tree.body if isinstance(each, _Function | ast.ClassDef)}
    rest = []
    for each in new.tree.body[:done]:
        if ast.dump(each) in known:
            continue
        if isinstance(each, ast.ClassDef) and each.name in defined:
            _add_methods(each, new, namespace)
        elif isinstance(each, ast.Import | ast.ImportFrom) or (isinstance(each, _Function | ast.ClassDef) and each.name not in defined):
            exec(_compiled([each], new), namespace)
        elif not isinstance(each, _Function):
            rest.append(each.lineno)
    return rest


def _add_methods(definition: ast.ClassDef, new: SourceUnit, namespace: dict[str, Any]) -> None:
    """Gives a living class the methods that its new text has and it lacks."""
    living = namespace.get(definition.name)
    lacking = [each for each in definition.body if isinstance(each, _Function) and each.name not in vars(living)] if isinstance(living, type) else []
    if not lacking:
        return
    made: dict[str, Any] = {}
    exec(_compiled([definition], new), namespace, made)
    for each in lacking:
        method = vars(made[definition.name])[each.name]
        if isinstance(method, _METHODS):
            for function in _functions_of(method):
                for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                    if name == "__class__":
                        cell.cell_contents = living
            setattr(living, each.name, method)


def _functions_of(method: Any) -> Iterator[types.FunctionType]:
    parts = (method.fget, method.fset, method.fdel) if isinstance(method, property) else (getattr(method, "__func__", method),)
    return (each for each in parts if isinstance(each, types.FunctionType))


def _compiled(statements: Iterable[ast.stmt], unit: SourceUnit) -> types.CodeType:
    code: types.CodeType = compile(ast.Module(list(statements), []), unit.filename, "exec", unit.flags, dont_inherit=True)
    return code

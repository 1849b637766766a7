"""Whether what a caller evaluates is the frame that runs: its callable is that function, or hands its result through."""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

from dartvc.program.frames import callee_of, function_of, stack_of
from dartvc.program.watched import is_callers_line, is_switch, is_trampoline

__all__ = ["is_transparent", "leads_to"]


def is_transparent(call: ast.Call, frame: types.FrameType, callee: types.FrameType, depth: int) -> bool:
    """Whether the value of a call is what the callee's frame returns: the callable is that function, or hands its result through.

    Args:
        call: the expression.
        frame: where it is evaluated.
        callee: the frame below.
        depth: how many values lie on the value stack beneath the callable.
    """
    callee = _entrance(frame, callee)
    function = function_of(callee)
    if function is None:
        return False
    called = callee_of(frame, depth)
    if called == id(function):
        return True
    if _is_initializer(function, callee):
        return False  # since Python 3.12 nothing holds the class any more
    held = stack_of(frame, depth + 2)[depth:]
    found = next((each for each in held if id(each) == called), None)
    return _is_written(call.func, frame, callee, function) if is_switch(found) else leads_to(found, function)


def _is_initializer(function: types.FunctionType, callee: types.FrameType) -> bool:
    """Whether a frame is that of a class's ``__init__``: the class may have been called."""
    code = callee.f_code
    if code.co_name == "__init__" or not code.co_argcount:
        return bool(code.co_argcount)
    owner = callee.f_locals.get(code.co_varnames[0])
    return _plain(inspect.getattr_static(type(owner), "__init__", None)) is function


def _is_written(target: ast.expr, frame: types.FrameType, callee: types.FrameType, function: types.FunctionType) -> bool:
    """Whether the expression of a callable gives a function, evaluated once more: where something else was called in its place (`is_switch`)."""
    if isinstance(target, ast.Attribute) and callee.f_code.co_argcount:
        owner = callee.f_locals.get(callee.f_code.co_varnames[0])
        kinds = [*(owner.__mro__ if isinstance(owner, type) else ()), *type(owner).__mro__]
        if any(_plain(vars(kind).get(target.attr)) is function for kind in kinds):
            return True
    try:
        found = _evaluate(target, frame)
    except LookupError:
        return False
    return leads_to(found, function)


def _plain(attribute: Any) -> Any:
    return getattr(attribute, "__func__", attribute)


def leads_to(found: Any, function: types.FunctionType | None) -> bool:
    """Whether a call of an object is a call of a function."""
    kind = type(found)
    if kind is types.FunctionType:
        return found is function
    if kind is types.MethodType:
        return leads_to(found.__func__, function)
    if kind.__module__ == "functools" and kind.__name__ == "partial":
        return leads_to(found.func, function)
    if isinstance(found, type):
        return False
    called = inspect.getattr_static(kind, "__call__", None)
    return type(called) is types.FunctionType and called is function


def _evaluate(node: ast.expr, frame: types.FrameType) -> Any:
    """Evaluates a name, an attribute or an item of a plain container without running anybody's code (but ``__getattr__``)."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        for names in (frame.f_locals, frame.f_globals, frame.f_builtins):
            if node.id in names:
                return names[node.id]
        raise LookupError(node.id)
    if isinstance(node, ast.Attribute):
        owner = _evaluate(node.value, frame)
        name = node.attr
        if name.startswith("__") and not name.endswith("__"):
            raise LookupError(name)
        static = inspect.getattr_static(owner, name, None)
        if isinstance(static, property) or (static is None and not hasattr(type(owner), "__getattr__")):
            raise LookupError(name)
        try:
            return getattr(owner, name)
        except Exception:
            raise LookupError(name) from None
    if isinstance(node, ast.Subscript):
        container, key = _evaluate(node.value, frame), _evaluate(node.slice, frame)
        if type(container) in (dict, list, tuple) and type(key) in (str, int):
            return container[key]
    raise LookupError("not a plain expression")


def _entrance(frame: types.FrameType, callee: types.FrameType) -> types.FrameType:
    """Returns the frame that a call made: of a function that asks before it runs, the one that asks."""
    entrance, each = callee, callee.f_back
    while each is not None and each is not frame:
        if is_trampoline(each.f_code) and not is_callers_line(each.f_code):
            entrance = each
        each = each.f_back
    return entrance

"""Reading the stack of a stopped program: every frame from the module's to the one that stands at the start of a statement."""

from __future__ import annotations

import ast
import dis
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dartvc.program.flow import CodeFlow, range_of
from dartvc.program.frames import cells_of, function_of, stack_of
from dartvc.program.places import SELF, NotResumable, Path, path_of, path_to_call, pending_operands
from dartvc.program.sources import MODULE_SCOPE, Scope, Sources, digest_of_code
from dartvc.program.variants import FRAME

__all__ = ["CaptureError", "CapturedFrame", "Entered", "LoopHead", "Once", "Reader", "iterator_behind"]

_VERSION = sys.version_info[:2]


class CaptureError(Exception):
    """This stack cannot be captured; ``depth`` frames from the outermost can, once the next of them goes on."""

    def __init__(self, reason: str, frame: types.FrameType) -> None:
        super().__init__(reason)
        self.reason = reason
        self.frame = frame


@dataclass(slots=True)
class CapturedFrame:
    """One frame: where it stands and what it holds.

    Attributes:
        module: ``__name__`` of its globals.
        filename: the file of its code.
        qualname: the function's qualified name, ``<module>`` for a module's own code.
        first_line: the first line of its code.
        digest: of its code.
        path: the statement.
        kind: ``statement`` (about to begin), ``loop`` (about to ask the iterator of this ``for``), ``call`` (inside a call of the next frame),
            ``yield`` (a suspended generator), ``fresh`` (a generator that has not begun).
        line: the present line.
        call: where the call or the yield stands, as (line, column, end line, end column).
        values: local variables; for a module frame nothing (they are the module's).
        cells: closure cells by name.
        stack: what lies on the value stack.
    """

    module: str
    filename: str
    qualname: str
    first_line: int
    digest: str
    path: Path
    kind: str
    line: int
    call: tuple[int, int, int, int] | None = None
    values: dict[str, object] = field(default_factory=dict)
    cells: dict[str, types.CellType] = field(default_factory=dict)
    stack: list[object] = field(default_factory=list)

    def described(self) -> dict[str, object]:
        """Returns the place without the values, for JSON."""
        return {
            "module": self.module,
            "file": self.filename,
            "function": self.qualname,
            "first_line": self.first_line,
            "digest": self.digest,
            "path": [list(step) for step in self.path],
            "kind": self.kind,
            "line": self.line,
            "call": self.call,
        }


class Reader:
    """Captures frames; keeps what is known of each code object."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._flows: dict[types.CodeType, CodeFlow | str] = {}
        self._digests: dict[types.CodeType, str] = {}
        self._variants: dict[types.CodeType, tuple[Scope, int]] = {}

    def register(self, code: types.CodeType, scope: Scope, first_line: int, digest: str) -> None:
        """Tells what a code object that is not its scope's own was made from: one that begins in the middle, or a single statement of a cell."""
        if self._variants.get(code, (None,))[0] is not scope:
            self._flows.pop(code, None)  # code objects of equal text are equal, wherever they stand
        self._variants[code] = scope, first_line
        self._digests[code] = digest

    def flow_of(self, code: types.CodeType) -> CodeFlow:
        """Returns what is known of a code object.

        Raises:
            NotResumable: its source is unknown or is no longer what runs.
        """
        flow = self._flows.get(code)
        if flow is None:
            flow = self._flows[code] = self._make_flow(code)
        if isinstance(flow, str):
            raise NotResumable(flow)
        return flow

    def _make_flow(self, code: types.CodeType) -> CodeFlow | str:
        scope: Scope | None = None
        if code in self._variants:
            scope = self._variants[code][0]
        else:
            unit = self.sources.find(code.co_filename)
            if unit is None:
                return f"there is no source of {code.co_qualname}"
            scope = unit.scope_of(code)
        if scope is None:
            return f"{code.co_qualname} is not a function of its file, or the file has changed"
        if isinstance(scope, ast.AsyncFunctionDef):
            return f"{code.co_qualname} is a coroutine"
        if isinstance(scope, ast.ClassDef):
            return f"{code.co_qualname} is the body of a class"
        return CodeFlow(code, scope)

    def capture(self, frames: Iterable[types.FrameType]) -> list[CapturedFrame]:
        """Captures a stack, outermost frame first; the last one stands at a trace event of kind line.

        Raises:
            CaptureError: one of the frames cannot be captured where it stands.
        """
        stack = list(frames)
        captured = []
        for index, frame in enumerate(stack):
            try:
                if index + 1 < len(stack):
                    captured.append(self._capture_caller(frame, stack[index + 1]))
                else:
                    captured.append(self._capture_innermost(frame))
            except NotResumable as reason:
                raise CaptureError(f"{frame.f_code.co_qualname}, line {frame.f_lineno}: {reason}", frame) from None
        self._add_exceptions(captured)
        return captured

    def _add_exceptions(self, captured: list[CapturedFrame]) -> None:
        """Replaces what ``except`` blocks keep (the exception handled before) by the exception that each handles."""
        current: Any = sys.exc_info()[1]
        for frame in reversed(captured):
            for index in range(len(frame.stack) - 1, -1, -1):
                held = frame.stack[index]
                if isinstance(held, _Exception):
                    frame.stack[index] = current
                    if current is None:
                        raise CaptureError("an exception is being handled that cannot be told", sys._getframe())
                    current = held.before

    def _capture_innermost(self, frame: types.FrameType) -> CapturedFrame:
        flow = self.flow_of(frame.f_code)
        instruction = flow.instruction_at(frame.f_lasti)
        if instruction.opname == "FOR_ITER":
            statement = flow.owner(instruction)
            if not isinstance(statement, ast.For):
                raise NotResumable("a comprehension is running")
            place = path_of(flow.scope, statement, in_loop=True)
            kind = "loop"
        else:
            beginning = flow.begins(instruction)
            if beginning is None:
                raise NotResumable("an expression is half evaluated")
            place = path_of(flow.scope, beginning)
            kind = "statement"
        depth = flow.depths.get(instruction.offset, -1)
        return self._captured(frame, place.path, kind, place.items, depth, None, ())

    def _capture_caller(self, frame: types.FrameType, callee: types.FrameType) -> CapturedFrame:
        flow = self.flow_of(frame.f_code)
        if frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise NotResumable("a generator is running")
        instruction = flow.instruction_at(frame.f_lasti)
        if not instruction.opname.startswith("CALL"):
            raise NotResumable(f"the code below was not called by a plain call ({instruction.opname})")
        statement, place_of_call = flow.owner(instruction), range_of(instruction)
        if statement is None or place_of_call is None:
            raise NotResumable("the call has no place in the source")
        place = path_of(flow.scope, statement)
        above, call = path_to_call(statement, place_of_call)
        if callee.f_code not in self._variants and not _is_transparent(call, frame, callee):
            raise NotResumable(f"{callee.f_code.co_qualname} was called through other code")
        pending = pending_operands(above, call, _VERSION)
        depth = flow.depths.get(instruction.offset)
        own = _own_slots(instruction)
        return self._captured(frame, place.path, "call", place.items, (depth or 0) - own, place_of_call, pending)

    def _captured(
        self,
        frame: types.FrameType,
        path: Path,
        kind: str,
        items: tuple[str, ...],
        depth: int,
        call: tuple[int, int, int, int] | None,
        pending: Sequence[ast.expr | None],
    ) -> CapturedFrame:
        code = frame.f_code
        stack = _original_stack(stack_of(frame, depth))
        if len(stack) != len(items) + len(pending):
            raise NotResumable("an exit of a block or a half evaluated expression is pending")
        for index, item in enumerate(items):
            if item == "exception":
                stack[index] = _Exception(stack[index])
        for index, operand in enumerate(pending, len(items)):
            if operand is SELF:
                stack[index - 1 : index + 1] = [_callable_of(stack[index - 1], stack[index]), None]
        is_module = code.co_name == MODULE_SCOPE
        cells = {} if is_module else cells_of(frame)
        if not is_module and len(cells) < len({*code.co_cellvars, *code.co_freevars}):
            raise NotResumable("its closure cannot be read")
        values = {} if is_module else {name: value for name, value in frame.f_locals.items() if name not in cells and name[:2] != "_."}
        return CapturedFrame(
            module=str(frame.f_globals.get("__name__", "")),
            filename=code.co_filename,
            qualname=code.co_qualname,
            first_line=self._variants[code][1] if code in self._variants else code.co_firstlineno,
            digest=self._digest(code),
            path=path,
            kind=kind,
            line=frame.f_lineno,
            call=call,
            values=values,
            cells=cells,
            stack=stack,
        )

    def _digest(self, code: types.CodeType) -> str:
        digest = self._digests.get(code)
        if digest is None:
            digest = self._digests[code] = digest_of_code(code)
        return digest

    def capture_generator(self, generator: types.GeneratorType[Any, Any, Any]) -> CapturedFrame:
        """Captures a suspended generator.

        Raises:
            NotResumable: it cannot be captured where it stands.
        """
        frame = generator.gi_frame
        if frame is None or generator.gi_running:
            raise NotResumable("the generator is running or over")
        flow = self.flow_of(frame.f_code)
        state = inspect.getgeneratorstate(generator)
        if state == inspect.GEN_CREATED:
            fresh = self._captured(frame, (), "fresh", (), 0, None, ())
            given = frame.f_locals.get(FRAME)
            if frame.f_code in self._variants and given is not None:
                fresh.values, fresh.stack = dict(given.values), list(given.stack)
            return fresh
        instruction = flow.instruction_at(frame.f_lasti)
        if instruction.opname == "RESUME":
            instruction = flow.instruction_at(instruction.offset - 2)
        statement, place_of_yield = flow.owner(instruction), range_of(instruction)
        if statement is None or place_of_yield is None or instruction.opname not in ("YIELD_VALUE", "SEND"):
            raise NotResumable(f"the generator stands at {instruction.opname}")
        value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        if not isinstance(value, ast.Yield | ast.YieldFrom):
            raise NotResumable("the generator stands inside an expression")
        place = path_of(flow.scope, statement)
        is_delegating = isinstance(value, ast.YieldFrom)
        depth = flow.depths.get(instruction.offset, 0) - 1  # without the value that is being handed out
        captured = self._captured(frame, place.path, "yield", place.items, depth, place_of_yield, (value,) if is_delegating else ())
        if any(isinstance(each, _Exception) for each in captured.stack):
            raise NotResumable("the generator handles an exception")
        return captured


def _own_slots(instruction: dis.Instruction) -> int:
    """Returns how many stack slots a call's callable and arguments take, as far as the static depth still counts them."""
    argument = instruction.arg or 0
    if instruction.opname == "CALL_FUNCTION_EX":
        return 3 + (argument & 1)
    if _VERSION == (3, 11):
        return 2  # PRECALL has taken the arguments off the books
    return 2 + argument + (instruction.opname == "CALL_KW")


def _original_stack(stack: list[Any]) -> list[Any]:
    """Undoes what a variant put in place of loop iterators and exits."""
    original = []
    for item in stack:
        if type(item) is Once:
            if item.iterator is not None:
                original.append(item.iterator)
        elif type(item) is LoopHead:
            original.append(item.iterator)
        elif type(item) is types.MethodType and type(item.__self__) is Entered:
            original.append(item.__self__.exit)
        else:
            original.append(item)
    return original


def _callable_of(one: Any, other: Any) -> Any:
    """Returns what the two slots of a callable stand for: (null, callable) or (function, object); since 3.13 the other way round."""
    if _VERSION < (3, 13) and one is None:
        return other
    if _VERSION >= (3, 13) and other is None:
        return one
    return one.__get__(other, type(other))


class Once:
    """Iterates once; holds the iterator of the loop whose present pass it runs, None for a ``while`` loop."""

    __slots__ = ("_is_over", "iterator")

    def __init__(self, iterator: object) -> None:
        self.iterator = iterator
        self._is_over = False

    def __iter__(self) -> Once:
        return self

    def __next__(self) -> None:
        if self._is_over:
            raise StopIteration
        self._is_over = True


class LoopHead:
    """Stands for the iterator of a ``for`` loop: gives what that gives, and tells each time before it does, with the loop's frame."""

    __slots__ = ("_at_head", "iterator", "since_s")

    def __init__(self, iterator: Any, at_head: Callable[[LoopHead, types.FrameType], None], since_s: float) -> None:
        self.iterator = iterator
        self.since_s = since_s
        self._at_head = at_head

    def __iter__(self) -> LoopHead:
        return self

    def __next__(self) -> Any:
        self._at_head(self, sys._getframe(1))
        return next(self.iterator)


def iterator_behind(held: Any) -> Any:
    """Returns the iterator that a loop's slot on the stack stands for."""
    return held.iterator if type(held) is Once or type(held) is LoopHead else held


class Entered:
    """A context manager that has been entered elsewhere: entering does nothing, leaving is the original's."""

    __slots__ = ("exit",)

    def __init__(self, exit: Callable[..., Any]) -> None:
        self.exit = exit

    def __enter__(self) -> None:
        pass

    def __exit__(self, *details: object) -> Any:
        return self.exit(*details)


class _Exception:
    """Stands for the exception that an ``except`` block handles; ``before`` is what was handled around it."""

    def __init__(self, before: object) -> None:
        self.before = before


def _is_transparent(call: ast.Call, frame: types.FrameType, callee: types.FrameType) -> bool:
    """Whether the value of a call is what the callee's frame returns: the callable is that function, or hands its result through."""
    function = function_of(callee)
    if function is None:
        return False
    target = call.func
    if isinstance(target, ast.Attribute) and callee.f_code.co_argcount:
        owner = callee.f_locals.get(callee.f_code.co_varnames[0])
        kinds = [*(owner.__mro__ if isinstance(owner, type) else ()), *type(owner).__mro__]
        if any(_plain(vars(kind).get(target.attr)) is function for kind in kinds):
            return True
    try:
        found = _evaluate(target, frame)
    except LookupError:
        return False
    return _leads_to(found, function)


def _plain(attribute: Any) -> Any:
    return getattr(attribute, "__func__", attribute)


def _leads_to(found: Any, function: types.FunctionType) -> bool:
    kind = type(found)
    if kind is types.FunctionType:
        return found is function
    if kind is types.MethodType:
        return _leads_to(found.__func__, function)
    if kind.__module__ == "functools" and kind.__name__ == "partial":
        return _leads_to(found.func, function)
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

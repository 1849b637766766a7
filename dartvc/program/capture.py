"""Reading the stack of a stopped program: every frame from the module's to the one that stands at the start of a statement."""

from __future__ import annotations

import ast
import dis
import gc
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from typing import Any

from dartvc.program.calling import is_transparent, leads_to
from dartvc.program.coroutines import AWAITING, COROUTINES, awaited_by, awaiting_at, frame_of, leaves_normally, stepped_task
from dartvc.program.flow import CodeFlow, range_of
from dartvc.program.frames import cells_of, function_of, stack_of
from dartvc.program.places import SELF, NotResumable, Path, path_of, path_to_await, path_to_call, pending_operands
from dartvc.program.sources import MODULE_SCOPE, Scope, Sources, digest_of_code
from dartvc.program.standins import original_stack
from dartvc.program.variants import FRAME
from dartvc.program.watched import BLOCK, around_loop, is_block, is_loop_block, without_switches

__all__ = ["CaptureError", "CapturedFrame", "Reader"]

_VERSION = sys.version_info[:2]
_AWAITED = ast.Constant(value=None)


class CaptureError(Exception):
    """This stack cannot be captured; ``depth`` frames from the outermost can, once the next of them goes on."""

    def __init__(self, reason: str, frame: types.FrameType) -> None:
        super().__init__(reason)
        self.reason = reason
        self.frame = frame


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
            ``yield`` (a suspended generator), ``fresh`` (a generator or coroutine that has not begun), ``context`` and ``task`` (a callback
            of an event loop that calls the next frame, or takes a step of the task of the next frame), or one of `AWAITING`.
        line: the present line.
        call: where the call or the yield stands, as (line, column, end line, end column).
        values: local variables; for a module frame nothing (they are the module's).
        cells: closure cells by name.
        stack: what lies on the value stack.
        awaits: what the last value of the stack is, where it awaits (`awaited_by`).
        exits: of how many items of an ``async with`` that is being entered or left the exits are on the stack.
        coroutine: the coroutine or asynchronous generator whose frame it is.
    """

    def __init__(
        self,
        module: str,
        filename: str,
        qualname: str,
        first_line: int,
        digest: str,
        path: Path,
        kind: str,
        line: int,
        call: tuple[int, int, int, int] | None = None,
        values: dict[str, object] | None = None,
        cells: dict[str, types.CellType] | None = None,
        stack: list[object] | None = None,
        awaits: str = "",
        exits: int = 0,
    ) -> None:
        self.module = module
        self.filename = filename
        self.qualname = qualname
        self.first_line = first_line
        self.digest = digest
        self.path = path
        self.kind = kind
        self.line = line
        self.call = call
        self.values = {} if values is None else values
        self.cells = {} if cells is None else cells
        self.stack = [] if stack is None else stack
        self.awaits = awaits
        self.exits = exits
        self.coroutine: object = None

    def find(self, part: str) -> object:
        """Returns a variable by its name, or a value of the stack by ``_.`` and its index; None when there is none."""
        if part.startswith("_.") and part[2:].isdecimal():
            return self.stack[int(part[2:])] if int(part[2:]) < len(self.stack) else None
        return self.values.get(part)

    def described(self) -> dict[str, object]:
        """Returns the place without the values, for JSON."""
        described: dict[str, object] = {
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
        if self.awaits:
            described["awaits"] = self.awaits
        if self.exits:
            described["exits"] = self.exits
        return described


class Reader:
    """Captures frames; keeps what is known of each code object."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.written: Callable[[types.CodeType], types.CodeType] = lambda code: code
        """Gives for code that is watched what the user wrote: positions are places in that."""
        self._flows: dict[types.CodeType, CodeFlow | str] = {}
        self._digests: dict[types.CodeType, str] = {}
        self._variants: dict[types.CodeType, tuple[Scope, int]] = {}
        self.compiled: dict[tuple[object, ...], types.CodeType] = {}
        """What was compiled to begin in the middle, by place."""
        self.base_context: Context | None = None
        """The context of the program around the event loop that it runs, None when it runs none."""
        self.running: dict[int, CapturedFrame] = {}
        """The frames of running coroutines as last captured, by the coroutine's id; the commit of the capture needs them."""

    def register(self, code: types.CodeType, scope: Scope, first_line: int, digest: str) -> None:
        """Tells what a code object that is not its scope's own was made from: one that begins in the middle, or a single statement of a cell."""
        if self._variants.get(code, (None,))[0] is not scope:
            self._flows.pop(code, None)  # code objects of equal text are equal, wherever they stand
        self._variants[code] = scope, first_line
        self._digests[code] = digest

    def origin(self, code: types.CodeType) -> tuple[Scope, int]:
        """Returns what `register` was told of a code object: the scope and its first line."""
        return self._variants[code]

    def knows(self, code: types.CodeType) -> bool:
        """Whether the source of a code object was read already, or looked for in vain; a library's file may take a tenth of a second."""
        return code in self._flows or code in self._variants or self.sources.was_read(code.co_filename)

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
            scope = unit.scope_of(self.written(code))
        if scope is None:
            return f"{code.co_qualname} is not a function of its file, or the file has changed"
        if isinstance(scope, ast.ClassDef):
            return f"{code.co_qualname} is the body of a class"
        return CodeFlow(code, scope)

    def capture(self, frames: Iterable[types.FrameType]) -> list[CapturedFrame]:
        """Captures a stack, outermost frame first; the last one stands at a trace event of kind line.

        Raises:
            CaptureError: one of the frames cannot be captured where it stands.
        """
        stack = list(frames)
        captured: list[CapturedFrame] = []
        running: object = None
        self.release()
        for index, frame in enumerate(stack):
            try:
                if frame.f_code.co_flags & inspect.CO_GENERATOR or (frame.f_code.co_flags & COROUTINES and frame_of(running) is not frame):
                    raise NotResumable("a generator is running")
                if index + 1 < len(stack):
                    captured.append(self._capture_caller(frame, stack[index + 1]))
                else:
                    captured.append(self._capture_innermost(frame))
            except NotResumable as reason:
                raise CaptureError(f"{frame.f_code.co_qualname}, line {frame.f_lineno}: {reason}", frame) from None
            if frame_of(running) is frame:
                captured[-1].coroutine = running
                self.running[id(running)] = captured[-1]
            running = _coroutine_inside(captured[-1])
            if captured[-1].kind in ("task", "context") and self.base_context is None:
                self.base_context = _context_around(captured[-1].values["self"])
        self._add_exceptions(captured)
        return captured

    def release(self) -> None:
        """Forgets the last capture: it would keep the program's values alive."""
        self.running.clear()
        self.base_context = None

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
        if is_block(callee.f_code) and not is_loop_block(callee.f_code):
            raise NotResumable("a part of it is being computed as a whole")
        flow = self.flow_of(frame.f_code)
        instruction = flow.instruction_at(frame.f_lasti)
        awaiting = awaiting_at(flow, instruction)
        if awaiting is not None:
            return self._capture_awaiting(frame, flow, *awaiting)
        if not instruction.opname.startswith("CALL"):
            raise NotResumable(f"the code below was not called by a plain call ({instruction.opname})")
        statement, place_of_call = flow.owner(instruction), range_of(instruction)
        if statement is None or place_of_call is None:
            raise NotResumable("the call has no place in the source")
        place = path_of(flow.scope, statement)
        above, call = path_to_call(statement, place_of_call)
        kind = _kind_of_callback(frame, callee)
        depth = flow.depths.get(instruction.offset, 0) - _own_slots(instruction)
        if kind == "call" and callee.f_code not in self._variants and not is_transparent(call, frame, callee, depth):
            raise NotResumable(f"{callee.f_code.co_qualname} was called through other code")
        pending = pending_operands(above, call, _VERSION)
        return self._captured(frame, place.path, kind, place.items, depth, place_of_call, pending)

    def _capture_awaiting(self, frame: types.FrameType, flow: CodeFlow, kind: str, send: dis.Instruction) -> CapturedFrame:
        """Captures a frame that awaits, or delegates to, what lies on top of its stack."""
        statement, place_of_await = flow.owner(send), range_of(send)
        if statement is None or place_of_await is None:
            raise NotResumable("the await has no place in the source")
        place = path_of(flow.scope, statement, in_loop=kind == "anext")
        pending: list[ast.expr | None] = []
        if kind == "await":
            above, node = path_to_await(statement, place_of_await)
            pending = pending_operands(above, node, _VERSION)
        elif kind == "anext":
            if not isinstance(statement, ast.AsyncFor):
                raise NotResumable("an asynchronous comprehension is running")
        elif not isinstance(statement, ast.AsyncWith):
            raise NotResumable("it awaits in a statement that cannot be told apart")
        elif kind == "aexit" and not leaves_normally(flow, send, statement):
            raise NotResumable("an exit of a block is pending")
        depth = flow.depths.get(send.offset, 0) - 1  # without the value that is sent
        items, exits = place.items, 0
        if isinstance(statement, ast.AsyncWith) and kind in ("aenter", "aexit"):
            exits = len(self._values_of(frame, depth)) - len(items) - 1
            if not (kind == "aenter") <= exits < len(statement.items) + (kind == "aenter"):
                raise NotResumable("an exit of a block is pending")
            items = (*items, *["exit"] * exits)
        captured = self._captured(frame, place.path, kind, items, depth, place_of_await, [*pending, _AWAITED])
        captured.exits = exits
        captured.awaits, captured.stack[-1] = awaited_by(captured.stack[-1])
        return captured

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
        written = code if code in self._variants else self.written(code)
        stack = self._values_of(frame, depth)
        if len(stack) != len(items) + len(pending):
            raise NotResumable("an exit of a block or a half evaluated expression is pending")
        for index, item in enumerate(items):
            if item == "exception":
                stack[index] = _Exception(stack[index])
        for index, operand in enumerate(pending, len(items)):
            if operand is SELF:
                stack[index - 1 : index + 1] = [_callable_of(stack[index - 1], stack[index]), None]
        is_module = written.co_name == MODULE_SCOPE
        cells = {} if is_module else cells_of(frame)
        if not is_module and len(cells) < len({*code.co_cellvars, *code.co_freevars}):
            raise NotResumable("its closure cannot be read")
        hidden = {*cells, BLOCK}
        values = {} if is_module else {name: value for name, value in frame.f_locals.items() if name not in hidden and name[:2] != "_."}
        return CapturedFrame(
            module=str(frame.f_globals.get("__name__", "")),
            filename=code.co_filename,
            qualname=written.co_qualname,
            first_line=self._variants[code][1] if code in self._variants else written.co_firstlineno,
            digest=self._digest(code),
            path=path,
            kind=kind,
            line=frame.f_lineno,
            call=call,
            values=values,
            cells=cells,
            stack=stack,
        )

    def _values_of(self, frame: types.FrameType, depth: int) -> list[Any]:
        """Returns what lies on a frame's value stack, as it would if nobody watched and the frame had run from its beginning."""
        return without_switches(original_stack([*self._stack_around(frame), *stack_of(frame, depth)]))

    def _digest(self, code: types.CodeType) -> str:
        digest = self._digests.get(code)
        if digest is None:
            digest = self._digests[code] = digest_of_code(self.written(code))
        return digest

    def _stack_around(self, frame: types.FrameType) -> list[object]:
        """Returns what lies on the stack beneath a loop of the script's own level that runs as a function: the exits of the blocks around it."""
        if not is_loop_block(frame.f_code):
            return []
        script = around_loop(frame)
        flow = self.flow_of(script.f_code)
        instruction = flow.instruction_at(script.f_lasti)
        return stack_of(script, flow.depths.get(instruction.offset, 0) - _own_slots(instruction))

    def capture_suspended(self, suspended: Any) -> CapturedFrame:
        """Captures a suspended generator, coroutine or asynchronous generator; a running coroutine as it was captured with its stack.

        Raises:
            NotResumable: it cannot be captured where it stands.
        """
        if id(suspended) in self.running and self.running[id(suspended)].coroutine is suspended:
            return self.running[id(suspended)]
        frame = frame_of(suspended)
        if frame is None or getattr(suspended, "gi_running", False) or getattr(suspended, "cr_running", False):
            raise NotResumable("it is running")
        flow = self.flow_of(frame.f_code)
        if flow.is_fresh(frame.f_lasti):
            fresh = self._captured(frame, (), "fresh", (), 0, None, ())
            given = frame.f_locals.get(FRAME)
            if frame.f_code in self._variants and given is not None:
                fresh.values, fresh.stack = dict(given.values), list(given.stack)
            return fresh
        instruction = flow.instruction_at(frame.f_lasti)
        awaiting = awaiting_at(flow, instruction)
        is_awaiting = awaiting is not None and awaiting[0] in AWAITING
        captured = self._capture_awaiting(frame, flow, *awaiting) if is_awaiting else self._capture_yield(frame, flow, instruction)  # type: ignore[misc]
        if any(isinstance(each, _Exception) for each in captured.stack):
            raise NotResumable("it handles an exception")
        return captured

    def _capture_yield(self, frame: types.FrameType, flow: CodeFlow, instruction: dis.Instruction) -> CapturedFrame:
        if instruction.opname == "RESUME":
            instruction = flow.instruction_at(instruction.offset - 2)
        statement, place_of_yield = flow.owner(instruction), range_of(instruction)
        if statement is None or place_of_yield is None or instruction.opname not in ("YIELD_VALUE", "SEND"):
            raise NotResumable(f"it stands at {instruction.opname}")
        value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        if not isinstance(value, ast.Yield | ast.YieldFrom):
            raise NotResumable("it stands inside an expression")
        place = path_of(flow.scope, statement)
        is_delegating = isinstance(value, ast.YieldFrom)
        depth = flow.depths.get(instruction.offset, 0) - 1  # without the value that is being handed out
        is_primed = frame.f_code in self._variants and flow.instruction_at(instruction.offset - 2).opname == "LOAD_CONST"
        if is_delegating and is_primed:  # made again and not asked since: what it delegates to lies where it was given
            captured = self._captured(frame, place.path, "yield", place.items, depth, place_of_yield, ())
            captured.stack.append(frame.f_locals[FRAME].stack[-1])
            return captured
        return self._captured(frame, place.path, "yield", place.items, depth, place_of_yield, (value,) if is_delegating else ())


def _coroutine_inside(frame: CapturedFrame) -> object:
    """Returns the coroutine whose frame a captured one leads to."""
    if frame.kind == "task":
        return stepped_task(frame.values["self"]).get_coro()
    return frame.stack[-1] if frame.kind in AWAITING else None


def _context_around(handle: Any) -> Context:
    """Returns the context that the program is in, but for the callback of an event loop that it runs."""
    return next((each for each in gc.get_referents(handle._context) if type(each) is Context), Context())


def _kind_of_callback(frame: types.FrameType, callee: types.FrameType) -> str:
    """Returns how a frame calls another: ``task`` or ``context`` where it is a handle of an event loop, which calls through its context."""
    if frame.f_code.co_qualname != "Handle._run" or frame.f_globals.get("__name__") != "asyncio.events":
        return "call"
    handle = frame.f_locals["self"]
    task = stepped_task(handle)
    if task is not None:
        return "task"
    return "context" if leads_to(handle._callback, function_of(callee)) else "call"


def _own_slots(instruction: dis.Instruction) -> int:
    """Returns how many stack slots a call's callable and arguments take, as far as the static depth still counts them."""
    argument = instruction.arg or 0
    if instruction.opname == "CALL_FUNCTION_EX":
        return 3 + (argument & 1)
    if _VERSION == (3, 11):
        return 2  # PRECALL has taken the arguments off the books
    return 2 + argument + (instruction.opname == "CALL_KW")


def _callable_of(one: Any, other: Any) -> Any:
    """Returns what the two slots of a callable stand for: (null, callable) or (function, object); since 3.13 the other way round."""
    if _VERSION < (3, 13) and one is None:
        return other
    if _VERSION >= (3, 13) and other is None:
        return one
    return one.__get__(other, type(other))


class _Exception:
    """Stands for the exception that an ``except`` block handles; ``before`` is what was handled around it."""

    def __init__(self, before: object) -> None:
        self.before = before

"""Going on from captured frames: each becomes a function that begins in the middle, called by the one outside it."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from dartvc.program.capture import CapturedFrame, Reader
from dartvc.program.coroutines import enter_loop, frame_of, is_loop_place
from dartvc.program.places import NotResumable
from dartvc.program.sources import MODULE_SCOPE, Scope, SourceUnit, digest_of_code, iter_codes
from dartvc.program.standins import AsyncEntered, Entered, Iterating, Once, Paused
from dartvc.program.variants import ASYNC_ENTERED, CALL, ENTERED, FRAME, ITERATING, MAKER, ONCE, make_variant, own_imports

__all__ = ["FrameState", "Resumption", "begin", "install_standins", "make_function", "remaining_statements"]

_VERSION = sys.version_info[:2]


class FrameState:
    """What a variant starts from: the values of its locals and of its stack."""

    def __init__(self, values: dict[str, object], stack: list[object]) -> None:
        self.values, self.stack = values, stack


def compile_variant(frame: CapturedFrame, reader: Reader, filename: str) -> types.CodeType:
    """Compiles the variant of a frame's function that begins where the frame stood.

    Raises:
        NotResumable: the source is not there or is no longer what ran.
    """
    key = (filename, repr(frame.described()), tuple(frame.values), tuple(frame.cells))
    known = reader.compiled.get(key)
    if known is not None:  # many tasks may stand at one place
        return known
    unit, scope, code = _source_of(frame, reader, filename)
    tree, function = _variant(frame, unit, scope)
    made: types.CodeType
    if function is None:
        tree = _with_imports(tree, unit)
    compiled = compile(tree, filename, "exec", unit.flags, dont_inherit=True)
    if function is None:
        made = compiled
    else:
        maker = next(each for each in iter_codes(compiled) if each.co_name == MAKER)
        inner = next(each for each in maker.co_consts if isinstance(each, types.CodeType))
        made = _renamed(inner, inner.co_qualname, frame.qualname).replace(co_name=code.co_name)
    reader.register(made, scope, frame.first_line, frame.digest)
    reader.compiled[key] = made
    return made


def _with_imports(tree: ast.Module, unit: SourceUnit) -> ast.Module:
    """Lets the compiler see, but not run, what fell away and told it how to compile: imports (calls of what they bind) and that the unit awaits."""
    unseen_parts = [each for each in own_imports(unit.tree.body) if getattr(each, "module", None) != "__future__"]
    if unit.code.co_flags & inspect.CO_COROUTINE:
        unseen_parts.append(ast.Expr(ast.Await(ast.Constant(None))))
    if not unseen_parts or not tree.body:
        return tree
    futures = sum(isinstance(each, ast.ImportFrom) and each.module == "__future__" for each in tree.body)
    unseen = ast.fix_missing_locations(ast.copy_location(ast.If(ast.Constant(False), unseen_parts, []), tree.body[min(futures, len(tree.body) - 1)]))
    return ast.Module([*tree.body[:futures], unseen, *tree.body[futures:]], [])


def remaining_statements(frame: CapturedFrame, reader: Reader, filename: str) -> list[ast.stmt]:
    """Returns the statements of a module's own code from where its frame stood on, the first one rewritten to begin in the middle.

    Raises:
        NotResumable: the source is not there or is no longer what ran.
    """
    unit, scope, _ = _source_of(frame, reader, filename)
    tree, _ = _variant(frame, unit, scope)
    done = frame.path[0][1] + 1
    rest = len(unit.tree.body) - done
    begun, following = tree.body[: len(tree.body) - rest], tree.body[len(tree.body) - rest :]
    begun = [each for each in begun if not (isinstance(each, ast.ImportFrom) and each.module == "__future__")]  # among the unit's flags
    if len(begun) > 1:  # one statement still: its parts must not be taken for statements of their own
        begun = [ast.fix_missing_locations(ast.copy_location(ast.If(ast.Constant(True), begun, []), unit.tree.body[done - 1]))]
    return [*begun, *following]


def _variant(frame: CapturedFrame, unit: SourceUnit, scope: Scope) -> tuple[ast.Module, ast.FunctionDef | ast.AsyncFunctionDef | None]:
    return make_variant(unit.tree, scope, frame.path, frame.kind, frame.call, list(frame.values), list(frame.cells), _VERSION, frame.exits)


def _source_of(frame: CapturedFrame, reader: Reader, filename: str) -> tuple[SourceUnit, Scope, types.CodeType]:
    unit = reader.sources.find(filename)
    if unit is None:
        raise NotResumable(f"there is no source of {frame.qualname} at {filename}")
    old = reader.sources.recorded(filename)
    if old is not None:
        from dartvc.program.edits import move_frame

        move_frame(frame, old, unit)
    scope, code = unit.find(frame.qualname, frame.first_line)
    if scope is None or code is None or digest_of_code(code) != frame.digest:
        raise NotResumable(f"{frame.qualname} in {filename} is not the code that ran")
    return unit, scope, code


def _renamed(code: types.CodeType, old: str, new: str) -> types.CodeType:
    """Gives a code object and the functions inside it the qualified names that they have in the source."""
    constants = tuple(_renamed(each, old, new) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    return code.replace(co_consts=constants, co_qualname=new + code.co_qualname.removeprefix(old))


def make_function(frame: CapturedFrame, reader: Reader, filename: str, names: dict[str, Any], flags: int = 0) -> Callable[[], Any]:
    """Returns a callable that goes on where a frame stood (a module's, given its stack by `begin`); ``flags`` are added to its code's."""
    code = compile_variant(frame, reader, filename)
    if frame.qualname == MODULE_SCOPE:
        return lambda: eval(code, names)
    if flags:
        scope, first_line = reader.origin(code)
        code = code.replace(co_flags=code.co_flags | flags)
        reader.register(code, scope, first_line, frame.digest)
    first = code.co_varnames[0]
    closure = tuple(frame.cells.get(name, types.CellType()) for name in code.co_freevars)
    function = types.FunctionType(code, names, code.co_name, None, closure)
    function.__qualname__ = frame.qualname
    state = FrameState(dict(frame.values), list(frame.stack))
    if first in frame.cells:
        try:
            given = frame.cells[first].cell_contents
        except ValueError:
            given = None
    else:
        given = frame.values.get(first)

    def go_on() -> Any:
        __tracebackhide__ = True
        return function(given, state)

    return go_on


class Resumption:
    """The frames of a stopped program, ready to go on.

    Args:
        frames: outermost first; the first is a module's own code.
        reader: captures the frames again, later.
        file_of: the path of a module's source here, by (module, recorded file).
        namespace_of: the globals of a module.

    Raises:
        NotResumable: a frame's source is missing or has changed.
    """

    def __init__(
        self,
        frames: Sequence[CapturedFrame],
        reader: Reader,
        file_of: Callable[[str, str], str],
        namespace_of: Callable[[str], dict[str, Any]],
    ) -> None:
        outermost = frames[0]
        filename, names = file_of(outermost.module, outermost.filename), namespace_of(outermost.module)
        if outermost.qualname == MODULE_SCOPE:
            code = compile_variant(outermost, reader, filename)
            self._state: FrameState | None = FrameState({}, list(outermost.stack))
            self._begin: Callable[[], object] = lambda: exec(code, names)
        elif outermost.module == "asyncio.runners":  # a module that awaits outside of functions
            self._state = None
            self._begin = make_function(outermost, reader, filename, names)
        else:
            raise NotResumable("the outermost frame is not a module's")
        steps = [self._step(frame, caller, reader, file_of, namespace_of) for caller, frame in pairwise(frames)]
        self._steps = [step for step in reversed(steps) if step is not None]
        self._loops = [frame.values["self"] for frame in frames if is_loop_place(frame)]

    def _step(
        self,
        frame: CapturedFrame,
        caller: CapturedFrame,
        reader: Reader,
        file_of: Callable[[str, str], str],
        namespace_of: Callable[[str], dict[str, Any]],
    ) -> Callable[[], Any] | None:
        """Returns what goes on where the next frame stood; None for a coroutine that another one awaits."""
        if frame.coroutine is not None:
            begin(frame)
            if caller.kind != "task":
                return None
            handle: Any = caller.values["self"]
            return lambda: handle._context.run(handle._callback)
        go_on = make_function(frame, reader, file_of(frame.module, frame.filename), namespace_of(frame.module))
        if caller.kind == "context":
            handle = caller.values["self"]
            return lambda: handle._context.run(go_on)
        return go_on

    def run(self) -> None:
        """Runs the program to its end; raises what it raises."""
        self.install()
        for loop in self._loops:
            enter_loop(loop)
        self._begin()

    def install(self) -> None:
        """Makes the names that the variants need available, before any of them runs."""
        install_standins()
        vars(builtins).update({CALL: self._call, **({FRAME: self._state} if self._state is not None else {})})

    def _call(self) -> Any:
        __tracebackhide__ = True
        return self._steps.pop()()


def install_standins() -> None:
    """Makes the names that every variant needs available."""
    vars(builtins).update(
        {ENTERED: Entered, ONCE: Once, ASYNC_ENTERED: AsyncEntered, ITERATING: Iterating, "_.BaseException": BaseException}
    )


def begin(frame: CapturedFrame) -> None:
    """Gives a coroutine that was made for a frame (`GeneratorCodec.shell`) what the frame holds; it goes on when something is sent to it."""
    own = frame_of(frame.coroutine)
    if own is None:
        raise NotResumable(f"{frame.qualname} is over")
    if frame.qualname == MODULE_SCOPE:
        vars(builtins)[FRAME] = FrameState({}, [])
    state: FrameState = getattr(builtins, FRAME) if frame.qualname == MODULE_SCOPE else own.f_locals[FRAME]
    state.values.update(frame.values)
    state.stack[:] = frame.stack
    if frame.awaits == "future":
        state.stack[-1] = Paused(frame.stack[-1])
    elif frame.awaits == "asend":
        state.stack[-1] = frame.stack[-1].__anext__()  # type: ignore[attr-defined]
    first = next(iter(own.f_code.co_varnames), "")
    if first in frame.cells:  # its cell is made by the call, not taken over
        state.values[first] = frame.cells[first].cell_contents

"""How a run shows what ended it: as Python would, had it been started with the program."""

from __future__ import annotations

import ast
import re
import sys
import tokenize
import types
from contextlib import suppress

from dartvc.program.sources import MODULE_SCOPE
from dartvc.program.tracebacks import strip
from dartvc.shims.texts import SHOW, find_cell, is_notebook

__all__ = ["print_failure"]

_SHOWN = re.compile(rf"^( *){re.escape(SHOW)}\((.*)\n(?:( *)([~^]+)\n)?", re.MULTILINE)
"""The line of an expression that is shown, and the marks below it."""


def print_failure(error: BaseException, script: str, text: str) -> None:
    """Shows a traceback of the user's own frames, and leaves the exception where post-mortem tools look for it.

    Args:
        script: the program's file.
        text: what was run; of a notebook or an archive its file says something else.
    """
    strip(error)
    trace = error.__traceback__ = _from_script(error.__traceback__, script)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    if sys.excepthook is sys.__excepthook__ and not _is_in_file(script, text):  # it reads files by itself
        _print(error, script, text)
    else:
        sys.excepthook(type(error), error, trace)


def _from_script(trace: types.TracebackType | None, script: str) -> types.TracebackType | None:
    """Leaves out what stands around the script: the event loop of a notebook that awaits."""
    start = trace
    while trace is not None:
        if trace.tb_frame.f_code.co_name == MODULE_SCOPE and trace.tb_frame.f_code.co_filename == script:
            start = trace
        trace = trace.tb_next
    return start


def _is_in_file(script: str, text: str) -> bool:
    try:
        with tokenize.open(script) as file:
            return file.read() == text
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False


def _print(error: BaseException, script: str, text: str) -> None:
    import traceback

    if isinstance(error, SyntaxError) and error.filename == script and error.lineno:
        error.text = text.split("\n")[error.lineno - 1]  # the compiler looked it up in the file
    shown = "".join(traceback.format_exception(error))
    if is_notebook(script):
        shown = _SHOWN.sub(_as_written, shown)
        shown = re.sub(f'File "{re.escape(script)}", line ([0-9]+)', lambda found: _cell_and_line(text, int(found[1])), shown)
    sys.stderr.write(shown)


def _cell_and_line(text: str, line: int) -> str:
    number, first = find_cell(text, line)
    return f"Cell In[{number}], line {line - first + 1}"


def _as_written(found: re.Match[str]) -> str:
    indent, code, before, marks = found.groups()
    before_last, closing, after = code.rpartition(")")
    with suppress(SyntaxError):  # the expression goes on in the lines below
        ast.parse(before_last + after)
        code = before_last + after if closing else code
    if not marks:
        return f"{indent}{code}\n"
    column = len(before) - len(indent) - len(SHOW) - 1
    return f"{indent}{code}\n{indent}{' ' * column}{marks[max(0, -column) :][: len(code)]}\n"

"""The text of a program: a script as it stands, an archive's ``__main__.py``, a notebook as the script that its code cells make."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tokenize

from dartvc.errors import UsageError

__all__ = ["SHOW", "find_cell", "is_archive", "is_notebook", "needs_shell", "read_program"]

SHOW = "__import__('sys').displayhook"
_MAGIC = r"(?m)^\s*[%!?]|\?\s*$|=\s*[%!]"
_HEAD = r"# %% \[([0-9]+)\]"
_SHELL = r"\b(?:get_ipython|display)\("
_PLOTS = r"\bget_ipython\(\)\.run_line_magic\('(?:matplotlib|pylab)'"
_END_OF_CELL = "get_ipython().events.trigger('post_execute')"


def is_notebook(path: str) -> bool:
    """Whether a path is that of a notebook."""
    return path.endswith(".ipynb")


def needs_shell(path: str, text: str) -> bool:
    """Whether a program is a notebook whose code asks IPython for something."""
    return is_notebook(path) and re.search(_SHELL, text) is not None


def is_archive(path: str) -> bool:
    """Whether a path is that of a program in one file, which `zipapp` makes."""
    return path.endswith((".pyz", ".pyzw"))


def read_program(path: str) -> str:
    """Returns a program's source.

    The code cells of a notebook follow each other, a comment with its number before each; the value of a cell's last expression is shown
    as Python's prompt shows it. Magics are written out as the calls that IPython makes of them; where one of them sets up matplotlib, the
    figures of each cell are shown and closed at its end, as Jupyter does.

    Raises:
        OSError: the file cannot be read.
        UsageError: it is no notebook or no archive, or it has magics and IPython is not installed.
    """
    if is_archive(path):
        return _read_archive(path)
    if not is_notebook(path):
        with tokenize.open(path) as file:
            return file.read()
    try:
        with open(path, encoding="utf-8") as file:
            cells = json.load(file)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{os.path.basename(path)} is not a notebook: {error}", kind="bad-notebook", hint="nbformat 4 has cells") from error
    parts = [f"# %% [{number}]\n{_shown(_plain(source, path))}\n" for number, source in enumerate(sources, 1) if source.strip()]
    text = "\n".join(parts)
    if re.search(_PLOTS, text):
        return "\n".join(f"{part}{_END_OF_CELL}\n" for part in parts)
    return text


def find_cell(text: str, line: int) -> tuple[int, int]:
    """Returns the number of the cell that a line of a notebook's text stands in, and the line on which that cell begins."""
    lines = text.split("\n")
    for first in range(line, 0, -1):
        found = re.fullmatch(_HEAD, lines[first - 1])
        if found is not None:
            return int(found[1]), first + 1
    return 1, 1


def _read_archive(path: str) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("__main__.py").decode()
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        reason = f"{os.path.basename(path)} is not a program in an archive: {error}"
        raise UsageError(reason, kind="bad-archive", hint="python -m zipapp makes one, with a __main__.py") from error


def _plain(source: str, path: str) -> str:
    """Writes out a cell's magics."""
    if not re.search(_MAGIC, source):
        return source
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        name = os.path.basename(path)
        raise UsageError(f"{name} uses IPython's magics", kind="no-ipython", hint=f"{sys.executable} -m pip install 'dartvc[notebook]'") from None
    transformed: str = TransformerManager().transform_cell(source)
    return transformed


def _shown(source: str) -> str:
    """Lets the last expression of a cell be shown, unless a semicolon ends it; what cannot be parsed is left for the compiler to judge."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"):
        return source
    end_line, end_column = last.end_lineno or last.lineno, last.end_col_offset or 0
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: last.lineno - 1])) + last.col_offset
    end = sum(map(len, lines[: end_line - 1])) + end_column
    text = source.encode()
    opening, closing = (f"{SHOW}((", "))") if isinstance(last.value, ast.Tuple) else (f"{SHOW}(", ")")
    return (text[:start] + opening.encode() + text[start:end] + closing.encode() + text[end:]).decode()

"""Whether a draw from the kernel's entropy can have an effect on a result."""

from __future__ import annotations

import ast
import linecache
import types

__all__ = ["is_harmless"]

_ITSELF = frozenset({"os", "random", "uuid", "secrets"})
_NAMING = frozenset({"joblib", "multiprocessing", "concurrent", "tempfile", "asyncio"})
_SEEDING = frozenset({("sklearn", "check_random_state"), ("scipy", "check_random_state"), ("pandas", "random_state")})


def is_harmless(frame: types.FrameType | None, library_folders: tuple[str, ...]) -> bool:
    """Tells whether the draw that ``frame`` made is one that no result depends on.

    That is so for the names of temporary files, workers, callbacks and our own records, while a library is imported (scipy draws the examples in its docstrings), and for
    ``RandomState(seed)``, which draws entropy for its bit generator and then seeds it.

    Args:
        library_folders: code under these is a library's.
    """
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        top = module.split(".")[0]
        if top in _NAMING or top == "dartvc" or module.startswith(("importlib._bootstrap", "sklearn.callback")):
            return True
        if top not in _ITSELF:
            return (top, frame.f_code.co_name) in _SEEDING or _seeds(frame) or _is_imported(frame, library_folders)
        frame = frame.f_back
    return False


def _is_imported(frame: types.FrameType | None, library_folders: tuple[str, ...]) -> bool:
    """Whether a library is being imported, and nothing but its code runs."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("importlib._bootstrap"):
            return True
        if not frame.f_code.co_filename.startswith(library_folders):
            return False
        frame = frame.f_back
    return False


def _seeds(frame: types.FrameType) -> bool:
    """Tells whether a frame stands at ``RandomState(seed)`` with a seed that is not None."""
    positions = list(frame.f_code.co_positions())
    line, end_line, column, end_column = positions[frame.f_lasti // 2]
    if line is None or line != end_line or column is None:
        return False
    text = linecache.getline(frame.f_code.co_filename, line).encode()[column:end_column].decode("utf-8", "replace")
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("RandomState"):
        return False
    seeds = [*call.args[:1], *(each.value for each in call.keywords if each.arg == "seed")]
    for seed in seeds:
        if isinstance(seed, ast.Constant):
            return seed.value is not None
        if isinstance(seed, ast.Name):
            return {**frame.f_globals, **frame.f_locals}.get(seed.id) is not None
        return isinstance(seed, ast.BinOp)  # arithmetic never gives None
    return False

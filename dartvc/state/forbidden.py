"""Functions that no stored value may call when it is loaded, whoever made it. To be a value in it is another matter (`dartvc.state.admission`)."""

from __future__ import annotations

__all__ = ["is_forbidden"]

_MODULES = frozenset(
    {"os", "posix", "nt", "subprocess", "pty", "shutil", "socket", "runpy", "webbrowser", "ctypes", "code", "pdb", "signal"}
)
_NAMES = frozenset(
    {("builtins", name) for name in ("exec", "eval", "compile", "__import__", "open", "input", "breakpoint", "exit", "quit")}
    | {("sys", name) for name in ("exit", "settrace", "setprofile", "modules")}
    | {("io", "open"), ("_io", "open"), ("importlib", "import_module"), ("_thread", "interrupt_main"), ("dill._dill", "_import_module")}
)
_HARMLESS = frozenset(
    {("os", "environ"), ("os", "_Environ"), ("os", "PathLike"), ("os", "stat_result"), ("posix", "stat_result"), ("os", "terminal_size")}
)
_HARMLESS |= frozenset(
    {("os", "DirEntry"), ("os", "path"), ("os", "sep"), ("signal", "Signals"), ("signal", "Handlers"), ("signal", "Sigmasks")}
)
_HARMLESS |= frozenset({("subprocess", "CompletedProcess"), ("subprocess", "CalledProcessError"), ("subprocess", "TimeoutExpired")})
_HARMLESS |= frozenset(
    {("socket", "AddressFamily"), ("socket", "SocketKind"), ("ctypes", "Structure"), ("ctypes", "Array"), ("ctypes", "Union")}
)


def is_forbidden(module: str, name: str) -> bool:
    """Whether loading a stored value may not call ``module.name``: it would start processes, evaluate text or touch files at load."""
    if (module, name) in _NAMES:
        return True
    if (module, name) in _HARMLESS or name.startswith("c_"):
        return False
    return module.split(".")[0] in _MODULES and not module.startswith("signal.")

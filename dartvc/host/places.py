"""Where things lie on this machine: what dartvc keeps for its user, and what belongs to Python and its installed packages."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

__all__ = ["PACKAGE_FOLDERS", "config_folder", "git_folders", "is_library_file", "library_folders"]

PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})


@functools.cache
def _libraries() -> tuple[str, ...]:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    python = {os.path.join(prefix, sys.platlibdir, version) for prefix in (sys.base_exec_prefix, sys.exec_prefix)}  # as sysconfig has them
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return tuple(os.path.join(path, "") for path in (*python, os.path.dirname(os.__file__), own))


def is_library_file(filename: str) -> bool:
    """Whether a file is Python's, an installed package's or ours; a cell of a shell, whose name is no path, is none of them."""
    if filename.startswith("<frozen"):
        return True
    return filename.startswith(_libraries()) or not PACKAGE_FOLDERS.isdisjoint(filename.split(os.sep))


def library_folders() -> set[str]:
    """Returns what Python and the packages installed for it lie in: its prefixes, the standard library, the folders of packages."""
    import site

    return {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__), *site.getsitepackages()}


def config_folder() -> Path:
    """Returns the user's folder for dartvc: ``$XDG_CONFIG_HOME/dartvc``, by default ``~/.config/dartvc``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "dartvc"


def git_folders(root: Path) -> tuple[Path, Path] | None:
    """Returns where the user's git that ``root`` lies in keeps its HEAD, and what its worktrees share (gitrepository-layout); None without one.

    Both are the same folder but for a worktree. The nearest ``.git`` counts, as it does for git.
    """
    for folder in (root, *root.parents):
        git = folder / ".git"
        if git.is_file():  # a worktree or a submodule
            git = (folder / git.read_text().partition("gitdir:")[2].strip()).resolve()
        if git.is_dir():
            common = git / "commondir"
            return git, (git / common.read_text().strip()).resolve() if common.is_file() else git
    return None

"""What a program ran on: Python, packages, the user's git. Recorded with commits, compared at restore."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dartvc.host.machine import describe_machine, describe_python
from dartvc.host.places import git_folders, is_library_file

__all__ = ["compare_environments", "describe_environment", "describe_host", "is_dirty"]

_HOST = ("python", "implementation", "platform", "machine", "cpu", "cpus", "gpus")


def describe_environment(root: Path, before: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the present environment; ``before`` itself when nothing changed since.

    Packages are those that the program has imported and that say their version, its own in the project's folder apart; the user's git is only read, and looked
    through for changes only when its HEAD moved, for that takes as long as the user's project is large.
    """
    count = len(sys.modules)
    head = _git_head(root)
    if before and before.get("modules") == count and before.get("git") == head:
        return before
    packages = {}
    for name, module in list(sys.modules.items()):
        if "." in name or name.startswith("_") or name in sys.stdlib_module_names:
            continue
        version = getattr(module, "__dict__", {}).get("__version__")
        if isinstance(version, str) and not _is_of_project(module, root):
            packages[name] = version
    return {
        **({key: before[key] for key in _HOST} if all(key in before for key in _HOST) else describe_host()),
        "packages": dict(sorted(packages.items())),
        "git": head,
        "git_dirty": before.get("git_dirty") if before and before.get("git") == head else is_dirty(root) if head is not None else None,
        "modules": count,
    }


def _is_of_project(module: object, root: Path) -> bool:
    """Whether a module lies in the project itself, where nothing is installed."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return isinstance(file, str) and not is_library_file(file) and Path(os.path.abspath(file)).is_relative_to(root)


def describe_host() -> dict[str, object]:
    """Returns what a program runs on, its packages apart: Python, platform, processors."""
    return {**describe_python(), **describe_machine()}


def is_dirty(root: Path) -> bool | None:
    """Whether tracked files of the user's git differ from its HEAD; None without a git. Only reads."""
    import pygit2

    found = pygit2.discover_repository(str(root))
    if found is None:
        return None
    try:
        return bool(pygit2.Repository(found).status(untracked_files="no"))
    except (pygit2.GitError, KeyError, ValueError, OSError):
        return None


def _git_head(root: Path) -> str | None:
    try:
        found = git_folders(root)
        text = (found[0] / "HEAD").read_text().strip() if found is not None else ""
    except (OSError, UnicodeDecodeError):
        return None
    if found is None or not text.startswith("ref: "):
        return text or None
    for folder in dict.fromkeys(found):
        with contextlib.suppress(OSError):
            return (folder / text[5:]).read_text().strip()
    return _packed_ref(found[1], text[5:])


def _packed_ref(git: Path, name: str) -> str | None:
    try:
        lines = (git / "packed-refs").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(" ", 1)[0] for line in lines if line.endswith(f" {name}")), None)


def compare_environments(before: Mapping[str, object], after: Mapping[str, object]) -> list[tuple[str, object, object]]:
    """Returns what differs, as (what, before, after): Python, platform, processors, and packages that both have in different versions."""
    found: list[tuple[str, object, object]] = [
        (key, before.get(key), after.get(key))
        for key in _HOST
        if key in before and before.get(key) != after.get(key)
    ]
    old, new = before.get("packages"), after.get("packages")
    if isinstance(old, dict) and isinstance(new, dict):
        found.extend((name, old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name])
    return found

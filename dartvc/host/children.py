"""Child processes: the environment of those that we start, and whether the program has started any."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping

__all__ = ["child_environment", "children_used", "has_children"]


def child_environment(without: Iterable[str], added: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment without some variables and with others."""
    dropped = frozenset(without)
    return {**{name: value for name, value in os.environ.items() if name not in dropped}, **added}


def children_used() -> tuple[int, float]:
    """Returns (page faults, seconds of CPU) of the children that have ended and were waited for: no child leaves them as they were."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_minflt + used.ru_majflt, used.ru_utime + used.ru_stime


def has_children() -> bool:
    """Whether this process has children that nobody has waited for, running or ended; False, too, where the system cannot say (macOS)."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

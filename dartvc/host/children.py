"""The environment of programs that we start."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

__all__ = ["child_environment"]


def child_environment(without: Iterable[str], added: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment without some variables and with others."""
    dropped = frozenset(without)
    return {**{name: value for name, value in os.environ.items() if name not in dropped}, **added}

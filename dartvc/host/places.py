"""Where on this machine dartvc keeps what belongs to its user and not to a repository."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["config_folder"]


def config_folder() -> Path:
    """Returns the user's folder for dartvc: ``$XDG_CONFIG_HOME/dartvc``, by default ``~/.config/dartvc``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "dartvc"

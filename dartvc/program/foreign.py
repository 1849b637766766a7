"""Libraries that write files past Python's audit hooks, told apart by name; a guest is looked at only once it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["watch_foreign_writers"]

_MARK = "_dartvc_is_watched"


def watch_foreign_writers(note: Callable[[str], None]) -> None:
    """Lets ``note`` hear of the paths that ``torch.save`` opens from C++, before it does; costs a look-up until torch is loaded."""
    serialization: Any = sys.modules.get("torch.serialization")
    writer = getattr(serialization, "_open_zipfile_writer_file", None)
    if writer is None or getattr(writer, _MARK, False):
        return
    plain = writer.__init__

    def __init__(self: Any, name: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(name, str):
            note(name)
        plain(self, name, *arguments, **options)

    writer.__init__ = __init__
    setattr(writer, _MARK, True)

"""Libraries that write files past Python's audit hooks are made to raise the event that an opening raises; a guest is looked at only once it is loaded."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["watch_foreign_writers"]

_MARK = "_dartvc_is_watched"


def watch_foreign_writers() -> None:
    """Lets audit hooks hear of the paths that ``torch.save`` opens from C++, before it does; costs a look-up until torch is loaded."""
    serialization: Any = sys.modules.get("torch.serialization")
    writer = getattr(serialization, "_open_zipfile_writer_file", None)
    if writer is None or getattr(writer, _MARK, False):
        return
    plain = writer.__init__

    def __init__(self: Any, name: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(name, str):
            sys.audit("open", name, "wb", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        plain(self, name, *arguments, **options)

    writer.__init__ = __init__
    setattr(writer, _MARK, True)

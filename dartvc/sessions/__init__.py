"""A living program attached to a repository: what it commits, when, and how it is brought to another state.

`Session` joins a `dartvc.state.WorkingNamespace` (what changed) with a `BackgroundWriter` (durable, in order, off the program's
thread). It knows nothing of IPython or of command lines: shims call `begin_unit`/`end_unit`, commands call the `Workspace` methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartvc.exports import lazily

if TYPE_CHECKING:
    from dartvc.sessions.session import Session, open_sessions
    from dartvc.sessions.writer import BackgroundWriter

__all__ = ["BackgroundWriter", "Session", "open_sessions"]

__getattr__ = lazily(__name__, {"session": ("Session", "open_sessions"), "writer": ("BackgroundWriter",)})

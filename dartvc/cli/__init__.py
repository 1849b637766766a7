"""The command line: parse, one porcelain call, render. One function a verb; output goes to the streams that `entry.run` is given."""

from __future__ import annotations

__all__: list[str] = []

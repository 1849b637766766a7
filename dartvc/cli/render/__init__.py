"""Text for people: commits, differences, values and tables as lines.

Pure functions from frozen values to text; nothing is printed, asked of a terminal or read from the environment here: the caller says whether
to colour. Without colour the output's own marks are plain ASCII. Texts that came from a repository are stripped of control
characters, so that a foreign commit cannot drive the terminal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dartvc.cli.render.diffs import render_diff, render_name_diff
    from dartvc.cli.render.log import render_log
    from dartvc.cli.render.paint import Paint
    from dartvc.cli.render.summaries import render_headline, render_summary
    from dartvc.cli.render.tables import render_table
    from dartvc.cli.render.units import format_age, format_duration, format_size, printable

__all__ = [
    "Paint",
    "format_age",
    "format_duration",
    "format_size",
    "printable",
    "render_diff",
    "render_headline",
    "render_log",
    "render_name_diff",
    "render_summary",
    "render_table",
]

_MODULES = {
    "diffs": ("render_diff", "render_name_diff"),
    "log": ("render_log",),
    "paint": ("Paint",),
    "summaries": ("render_headline", "render_summary"),
    "tables": ("render_table",),
    "units": ("format_age", "format_duration", "format_size", "printable"),
}


def __getattr__(name: str) -> object:
    """Loads a renderer when it is first used: `log` must not wait for the others."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"dartvc.cli.render.{module}"), name)
    raise AttributeError(f"module 'dartvc.cli.render' has no attribute {name!r}")

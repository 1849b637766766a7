"""Text for people: commits, differences, values and tables as lines.

Pure functions from frozen values to text; nothing is printed, asked of a terminal or read from the environment here: the caller says whether
to colour. Without colour the output's own marks are plain ASCII. Texts that came from a repository are stripped of control
characters, so that a foreign commit cannot drive the terminal.
"""

from __future__ import annotations

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

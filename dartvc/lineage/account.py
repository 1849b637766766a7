"""The account that a run with reuse leaves behind: what was watched, what was reused, what spoke against it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dartvc.host.entropy import new_id
from dartvc.lineage.sites import Site
from dartvc.store.durable import replace_file

__all__ = ["ACCOUNT", "row_of", "write_account"]

ACCOUNT = "reuse.json"


def write_account(folder: Path, sites: Sequence[Site], facts: dict[str, Any], shown_file: Callable[[str], str] = os.path.basename) -> None:
    """Writes the account of a run.

    Args:
        folder: the repository's.
        sites: all that was watched.
        facts: what is told besides.
        shown_file: what people call a file.

    Raises:
        OSError: the disk refused.
    """
    totals = {name: sum(getattr(each, name) for each in sites) for name in ("calls", "reused", "partial")}
    account = {**totals, **facts, "sites": [row_of(each, shown_file) for each in sites]}
    path = folder / ACCOUNT
    replace_file(path, json.dumps(account, indent=1).encode(), temporary=path.with_name(f"tmp_{ACCOUNT}.{new_id()}"))


def row_of(site: Site, shown_file: Callable[[str], str] = os.path.basename) -> dict[str, Any]:
    """Returns one site's line of the account."""
    figures = {
        name: getattr(site, name)
        for name in ("name", "line", "calls", "executions", "reused", "partial", "assembled", "reason", "is_off", "last")
    }
    times = {name: round(getattr(site, name), 6) for name in ("cost_s", "overhead_s", "saved_s")}
    return {**figures, **times, "file": shown_file(site.file), "missed": [*site.missed.items()]}

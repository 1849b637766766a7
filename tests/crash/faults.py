"""Faults from outside: a program run under strace, killed or refused at a chosen call that changes the disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["NO_STRACE", "Fault", "is_traceable", "list_faults", "run_program"]

CHANGING_CALLS = (
    "write", "pwrite64", "fsync", "fdatasync", "syncfs", "openat", "mkdir", "rename", "link", "symlink", "unlink", "rmdir", "ftruncate",
)  # fmt: skip
"""Calls that change the disk or promise something about it; a program under test acknowledges with writev, which is none of them."""

NO_STRACE = "strace is not installed, or may not trace here"
_PROJECT = Path(__file__).resolve().parents[2]
_PACKAGES = ":".join([str(_PROJECT), *(path for path in sys.path if path.endswith("site-packages"))])


class Fault(NamedTuple):
    """The place of a fault: the how-manieth call of a name, counted in each thread by itself."""

    call: str
    number: int


def is_traceable() -> bool:
    """Whether strace works here."""
    return shutil.which("strace") is not None and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


def run_program(
    script: Path, arguments: list[str], *, home: Path, inject: str = "", trace: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a Python program under strace.

    Args:
        script: the program.
        arguments: its arguments.
        home: where its user's folders are.
        inject: what strace does to it, as ``CALL:error=EIO:when=3``.
        trace: where its calls are written.
    """
    options = (
        ["-e", f"trace={inject.split(':', 1)[0]}", "-e", f"inject={inject}"] if inject else ["-e", f"trace={','.join(CHANGING_CALLS)}"]
    )
    command = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(trace or "/dev/null"), *options]
    environment: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "PYTHONPATH": _PACKAGES, "HOME": str(home), "PYTHONHASHSEED": "0"}
    command += [sys.executable, "-S", "-B", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def list_faults(trace: Path, below: Path) -> list[Fault]:
    """Returns the places in a trace where something below a folder is changed, in their order."""
    counts: dict[tuple[str, str], int] = {}
    found: dict[Fault, None] = {}
    for line in trace.read_text().splitlines():
        thread, _, text = line.partition(" ")
        call, is_call, _ = text.strip().partition("(")
        if not is_call or call not in CHANGING_CALLS:
            continue
        number = counts[thread, call] = counts.get((thread, call), 0) + 1
        if str(below) in text and (call != "openat" or "O_CREAT" in text):
            found[Fault(call, number)] = None
    return list(found)

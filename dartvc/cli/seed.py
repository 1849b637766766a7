"""The seed of str hashes: the order of sets is part of what a resume must repeat, and Python takes the seed only when it starts.

So ``run`` and ``resume`` start Python twice. The first process should do nothing else: it imports next to nothing, and a resume guesses that it
goes on with the run that was under way last. Whoever has read the commit looks again (`begin_again`), so that a wrong guess costs time only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["begin_again", "begin_again_early", "is_seed", "note_last"]

_REPOSITORY = ".dvc-state"
_LAST = "hash-seed"
_LARGEST = 4294967295


def begin_again(recorded: str) -> None:
    """Starts this process again with a seed, unless it has it; empty: with the one that Python was told, or a new one."""
    present = os.environ.get("PYTHONHASHSEED", "random")
    wanted = recorded or (present if present != "random" else str(int.from_bytes(os.urandom(4), "little")))
    if present != wanted:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": wanted})


def begin_again_early(argv: Sequence[str]) -> None:
    """Fast path: starts this process again before anything is imported, where the seed can be told or guessed from the command line.

    Args:
        argv: the words after ``dvc-state``, ``run`` or ``resume`` first.
    """
    if os.environ.get("PYTHONHASHSEED", "random") != "random" or any(word in ("--reuse", "--partial-reuse") for word in argv):
        return
    if argv[0] == "run":
        begin_again("")
    elif seed := _last_seed():
        begin_again(seed)


def is_seed(text: str) -> bool:
    """Whether Python takes a text for a seed."""
    return len(text) <= 10 and text.isascii() and text.isdigit() and int(text) <= _LARGEST


def note_last(repository_path: str | os.PathLike[str], seed: str) -> None:
    """Notes the seed of the run that begins or goes on, for `begin_again_early`."""
    if seed:
        with suppress(OSError), open(os.path.join(repository_path, _LAST), "w") as file:
            file.write(seed)


def _last_seed() -> str:
    """Returns the seed of the run that was under way last in the repository that is nearest; empty when none was noted."""
    folder = os.getcwd()
    while not os.path.exists(os.path.join(folder, _REPOSITORY, "HEAD")):
        if folder == os.path.dirname(folder):
            return ""
        folder = os.path.dirname(folder)
    try:
        with open(os.path.join(folder, _REPOSITORY, _LAST)) as file:
            seed = file.read(64)
    except (OSError, ValueError):
        return ""
    return seed if is_seed(seed) else ""

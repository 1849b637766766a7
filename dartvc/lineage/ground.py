"""What every result of a process depends on, whatever is computed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from dartvc.host.machine import cpu_model, describe_python
from dartvc.lineage.settings import Settings

__all__ = ["Ground", "facts_of_process"]

_VERSION = 6
_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "PYTHONHASHSEED",
)


def facts_of_process(folder: str = "") -> str:
    """Returns what every result of this process depends on: interpreter, machine, threads of linear algebra, working directory, hash seed.

    Args:
        folder: the working directory of the run that this process stands in for; empty: its own.
    """
    threads = [os.environ.get(name) for name in _THREAD_SETTINGS]
    return repr((_VERSION, sys.version, describe_python()["machine"], cpu_model(), os.cpu_count(), threads, folder or os.getcwd()))


class Ground:
    """What the results of this process depend on at the moment: its facts, where it stands, and the settings of its libraries.

    Args:
        stands_in: the working directory of the run that this process stands in for; empty: its own.
        mode: a word that tells results apart.
        has_moved: tells whether the working directory was ever changed.
        filters: returns what stands for the filters of warnings.
    """

    def __init__(self, stands_in: str, mode: str, has_moved: Callable[[], bool], filters: Callable[[], str]) -> None:
        self._facts = f"{facts_of_process(stands_in)}{mode} "
        self._folder = os.getcwd()
        self._has_moved = has_moved
        self._filters = filters
        self._settings = Settings()

    def add_to(self, walker: Any) -> None:
        """Adds what every result depends on to a fingerprint.

        Raises:
            Refused: a setting cannot be compared.
        """
        facts, settings = self.present()
        walker.note(facts)
        walker.note(self._filters())
        if settings:
            walker.add(settings)

    def present(self) -> tuple[str, dict[str, Any]]:
        """Returns the facts as a text, and the settings that differ from the defaults."""
        settings = self._settings.in_force()
        place = os.path.relpath(os.getcwd(), self._folder) if self._has_moved() else os.curdir
        return self._facts + _zone() + ("" if place == os.curdir else f" {place}"), settings


def _zone() -> str:
    return os.environ.get("TZ", "")

"""What every result of a process depends on, whatever is computed."""

from __future__ import annotations

import os
import sys

from dartvc.host.machine import cpu_model, describe_python

__all__ = ["facts_of_process"]

_VERSION = 4
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

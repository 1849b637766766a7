"""Facts about the machine: processors and graphics processors, as the kernel and its drivers tell. No library is loaded for them."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

__all__ = ["cpu_model", "describe_machine", "describe_python", "user_name"]

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def describe_machine() -> dict[str, object]:
    """Returns ``cpu`` (its model), ``cpus`` (how many), ``gpus`` (the model of each)."""
    return {"cpu": cpu_model(), "cpus": os.cpu_count() or 1, "gpus": _gpu_models()}


def describe_python() -> dict[str, object]:
    """Returns ``python`` (its version), ``implementation``, ``platform`` and ``machine``, the words being those of the module `platform`.

    That one compiles a dozen patterns when it is imported, and asks no more of CPython on a POSIX system than this.
    """
    if sys.implementation.name == "cpython" and os.name == "posix":
        version, implementation, machine = sys.version.split()[0], "CPython", os.uname().machine
    else:
        import platform

        version, implementation, machine = platform.python_version(), platform.python_implementation(), platform.machine()
    return {"python": version, "implementation": implementation, "platform": sys.platform, "machine": machine}


def user_name() -> str:
    """Returns the user's name, as `getpass.getuser` finds it; empty when there is none."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if name := os.environ.get(variable):
            return name
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (OSError, KeyError):
        return ""


@functools.cache
def cpu_model() -> str:
    """Returns what the processor calls itself; the kind of machine where that is not known."""
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def _gpu_models() -> list[str]:
    models = []
    try:
        for card in sorted(_NVIDIA.iterdir()):
            for line in (card / "information").read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "Model":
                    models.append(value.strip())
    except OSError:
        pass
    return models

"""Facts about the machine: processors and graphics processors, as the kernel and its drivers tell. No library is loaded for them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["describe_machine"]

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def describe_machine() -> dict[str, object]:
    """Returns ``cpu`` (its model), ``cpus`` (how many), ``gpus`` (the model of each)."""
    return {"cpu": _cpu_model(), "cpus": os.cpu_count() or 1, "gpus": _gpu_models()}


def _cpu_model() -> str:
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
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

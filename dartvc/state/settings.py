"""Settings of libraries that a program changes with one call and that its numbers and output depend on ever after.

Threads and precision of torch decide in which order sums are made, a print option decides what a script's output looks like. Nothing is
imported to ask: a library that is not loaded has no settings.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["SETTINGS", "Setting"]

Setting = tuple[Any, Any]
"""Two functions: one that reads the settings (None: the library is not loaded), one that puts what was read back."""


def _torch() -> Any:
    torch = sys.modules.get("torch")
    return torch if torch is not None and hasattr(torch, "get_num_threads") and hasattr(torch, "set_printoptions") else None


_DEVICES = ("cpu", "cuda")


def _read_torch() -> dict[str, Any] | None:
    torch = _torch()
    if torch is None:
        return None
    nesting = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return {
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()),
        "grad": torch.is_grad_enabled(),
        "deterministic": _deterministic(torch),
        "precision": torch.get_float32_matmul_precision(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "autocast": (
            nesting,
            torch.is_autocast_cache_enabled(),
            *((device, torch.is_autocast_enabled(device), str(torch.get_autocast_dtype(device))) for device in _DEVICES),
        ),
        "cudnn": tuple((name, getattr(torch.backends.cudnn, name)) for name in ("enabled", "benchmark", "deterministic")),
        "print": dict(vars(torch._tensor_str.PRINT_OPTS)),
        "hooks": torch.utils.hooks.RemovableHandle.next_id,
    }


def _deterministic(torch: Any) -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _write_torch(value: Mapping[str, Any] | None) -> None:
    if value is None:
        return
    torch = importlib.import_module("torch")
    if torch.get_num_threads() != value["threads"]:
        torch.set_num_threads(value["threads"])
    torch.set_default_dtype(getattr(torch, value["dtype"].removeprefix("torch.")))
    torch.set_grad_enabled(value["grad"])
    if value["deterministic"] != _deterministic(torch):
        torch.use_deterministic_algorithms(value["deterministic"][0], warn_only=value["deterministic"][1])  # loads torch's compiler: a second
    torch.set_float32_matmul_precision(value["precision"])
    torch.set_anomaly_enabled(*value["anomaly"])
    nesting, is_cached, *devices = value["autocast"]
    while torch.autocast_increment_nesting() < nesting:
        pass
    while torch.autocast_decrement_nesting() > nesting:
        pass
    torch.set_autocast_cache_enabled(is_cached)
    for device, is_enabled, dtype in devices:
        torch.set_autocast_enabled(device, is_enabled)
        torch.set_autocast_dtype(device, getattr(torch, dtype.removeprefix("torch.")))
    for name, setting in value["cudnn"]:
        setattr(torch.backends.cudnn, name, setting)
    vars(torch._tensor_str.PRINT_OPTS).update(value["print"])
    numbers = torch.utils.hooks.RemovableHandle
    numbers.next_id = max(numbers.next_id, value.get("hooks", 0))  # a hook that has the number of another takes its place


def _read_numpy() -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "geterr") or not hasattr(numpy, "get_printoptions"):
        return None
    return numpy.geterr(), {key: value for key, value in numpy.get_printoptions().items() if key not in ("formatter", "override_repr")}


def _write_numpy(value: Any) -> None:
    if value is not None:
        numpy = importlib.import_module("numpy")
        numpy.seterr(**value[0])
        numpy.set_printoptions(**value[1])


def _options_of(branch: Mapping[str, Any], prefix: str) -> Any:
    for key, value in branch.items():
        if isinstance(value, dict):
            yield from _options_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_PLAIN = (bool, int, float, str, type(None))


def _read_pandas() -> dict[str, Any] | None:
    config = sys.modules.get("pandas._config.config")
    tree = getattr(config, "_global_config", None)
    if tree is None:
        return None
    return {key: value for key, value in _options_of(tree, "") if isinstance(value, _PLAIN)}


def _write_pandas(value: Mapping[str, Any] | None) -> None:
    if value is not None:
        pandas = importlib.import_module("pandas")
        present = _read_pandas() or {}
        for key, setting in value.items():
            if key in present and present[key] != setting:
                pandas.set_option(key, setting)


_BACKEND = frozenset({"backend", "backend_fallback", "toolbar", "interactive"})


def _read_matplotlib() -> dict[str, Any] | None:
    matplotlib = sys.modules.get("matplotlib")
    parameters = getattr(matplotlib, "rcParams", None)
    if parameters is None:
        return None
    return {key: value for key, value in dict.items(parameters) if key not in _BACKEND}


def _write_matplotlib(value: Mapping[str, Any] | None) -> None:
    if value is not None:
        matplotlib = importlib.import_module("matplotlib")
        present = _read_matplotlib() or {}
        matplotlib.rcParams.update({key: setting for key, setting in value.items() if key in present and present[key] != setting})


def _read_decimal() -> Any:
    decimal = sys.modules.get("decimal")
    if decimal is None or not hasattr(decimal, "getcontext"):
        return None
    return decimal.getcontext().__reduce__()[1]


def _write_decimal(value: Any) -> None:
    if value is not None:
        decimal = importlib.import_module("decimal")
        decimal.setcontext(decimal.Context(*value))


def _read_sklearn() -> dict[str, Any] | None:
    sklearn = sys.modules.get("sklearn")
    return dict(sklearn.get_config()) if sklearn is not None and hasattr(sklearn, "get_config") else None


def _write_sklearn(value: dict[str, Any] | None) -> None:
    if value is not None:
        importlib.import_module("sklearn").set_config(**value)


SETTINGS: dict[str, Setting] = {
    "torch.settings": (_read_torch, _write_torch),
    "numpy.settings": (_read_numpy, _write_numpy),
    "pandas.options": (_read_pandas, _write_pandas),
    "matplotlib.rcParams": (_read_matplotlib, _write_matplotlib),
    "decimal.context": (_read_decimal, _write_decimal),
    "sklearn.config": (_read_sklearn, _write_sklearn),
}

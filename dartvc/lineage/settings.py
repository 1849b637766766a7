"""Settings in force that results depend on and that no argument shows: how numpy treats division by zero, options of pandas, the precision of decimals.

Only what differs from a library's defaults counts: that a library is imported meanwhile changes nothing.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

__all__ = ["Settings"]

_RECURSION_LIMIT = 1000
_NUMPY = {
    "divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn", "edgeitems": 3, "threshold": 1000, "floatmode": "maxprec",
    "precision": 8, "suppress": False, "linewidth": 75, "nanstr": "nan", "infstr": "inf", "sign": "-", "formatter": None, "legacy": False,
    "override_repr": None,
}  # fmt: skip
_TORCH = (
    "is_grad_enabled", "is_inference_mode_enabled", "get_default_dtype", "get_num_threads", "get_float32_matmul_precision",
    "are_deterministic_algorithms_enabled",
)  # fmt: skip
_TORCH_DEFAULTS = {
    "is_grad_enabled": True, "is_inference_mode_enabled": False, "get_default_dtype": "torch.float32", "get_float32_matmul_precision": "highest",
    "are_deterministic_algorithms_enabled": False, "precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None,
}  # fmt: skip
_FLAGS = 6  # of a decimal context's parts: what has happened, which is no setting


class Settings:
    """The settings of this process."""

    def __init__(self) -> None:
        self._known: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    def in_force(self) -> dict[str, Any]:
        """Returns what differs from the defaults now; the same dict as long as nothing is set.

        Fast path: what is read is compared with what was read before; only another one is looked through.
        """
        read = sys.getrecursionlimit(), _numpy(), _pandas(), _decimal(), _sklearn(), _torch()
        known, differing = self._known
        if read != known:
            differing = _differing(*read)
            self._known = tuple(copy.deepcopy(each) if isinstance(each, dict) else each for each in read), differing
        return differing


def _differing(limit: int, numpy: Any, pandas: Any, decimal: Any, sklearn: Any, torch: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if limit != _RECURSION_LIMIT:
        found["recursion limit"] = limit
    if numpy is not None:
        values = {**sys.modules["numpy"].geterr(), **numpy[1]}
        found.update({f"numpy {key}": value for key, value in values.items() if _NUMPY.get(key) != value})
    if pandas is not None:
        registered = sys.modules["pandas._config.config"]._registered_options
        for key, option in registered.items():
            value = _value_at(pandas, key)
            if value != option.defval:
                found[f"pandas {key}"] = value
    if decimal is not None and decimal != _parts(sys.modules["decimal"].Context()):
        found["decimal"] = repr(decimal)
    if sklearn is not None:
        defaults = getattr(sys.modules.get("sklearn._config"), "_global_config", {})
        found.update({f"sklearn {key}": value for key, value in sklearn.items() if defaults.get(key) != value})
    if torch is not None:
        values = {**dict(zip(_TORCH, map(_plain, torch[0]), strict=True)), **torch[1]}
        found.update({f"torch {key}": value for key, value in values.items() if _TORCH_DEFAULTS.get(key) != value})
    return found


def _value_at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = tree[name]
    return tree


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | str) else str(value)


def _numpy() -> Any:
    """Returns how numpy treats errors, as the object that is exchanged when that is set where there is one, and how it prints."""
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "geterr") or not hasattr(numpy, "get_printoptions"):
        return None
    held = getattr(sys.modules.get("numpy._core._ufunc_config"), "_extobj_contextvar", None)
    return held.get() if held is not None else numpy.geterr(), numpy.get_printoptions()


def _pandas() -> Any:
    return getattr(sys.modules.get("pandas._config.config"), "_global_config", None)


def _decimal() -> Any:
    decimal: Any = sys.modules.get("decimal")
    return _parts(decimal.getcontext()) if hasattr(decimal, "getcontext") else None


def _parts(context: Any) -> Any:
    parts = context.__reduce__()[1]
    return parts[:_FLAGS] + parts[_FLAGS + 1 :]


def _sklearn() -> Any:
    sklearn: Any = sys.modules.get("sklearn")
    return sklearn.get_config() if hasattr(sklearn, "get_config") else None


def _torch() -> Any:
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_num_threads") or not hasattr(torch, "_tensor_str"):
        return None
    return [getattr(torch, name)() for name in _TORCH], dict(vars(torch._tensor_str.PRINT_OPTS))
